//! Rows of a CSV file as messages: a topic from a template, a JSON object from the cells.
//!
//! The file is UTF-8 with a header line; lines end with LF or CRLF; cells may be quoted (RFC 4180).
//! Blank lines are passed over. A carriage return without a line feed ends nothing: within quotes
//! it is data, and outside of them the file is refused, since it may be one whose lines all end
//! that way. All else that is not a table is refused too, with the line and the column: a replay
//! that silently left rows out would be worse than none.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Position, Reader, ReaderBuilder, Terminator};
use ringmain::topic::Topic;

use super::lines;
use crate::error::Error;
use crate::input::template::{BoundTemplate, Template};

/// The largest payload that a message carries.
const MAX_PAYLOAD: usize = 65_536;

/// A line put behind the file. It comes out as a row of its own, unless a quote is still open at
/// the end of the file, which the parser would close without a word, having swallowed all rows
/// since.
const SENTINEL: &[u8] = b"\n\0the end of the file\0";

/// One row as a message.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Where it stands in the file, from 1.
    pub(crate) line: u64,
    pub(crate) topic: Topic,
    /// A JSON object, one text a column, in the order of the header.
    pub(crate) json: Vec<u8>,
}

/// A CSV file whose header has been read, and the rows that follow.
#[derive(Debug)]
pub(crate) struct CsvInput {
    path: PathBuf,
    reader: Reader<std::io::Cursor<Vec<u8>>>,
    record: ByteRecord,
    columns: Vec<String>,
    /// The columns as JSON keys, with colon.
    keys: Vec<String>,
    template: BoundTemplate,
    lines: LineCounter,
    /// Where the first row starts, for the parser and for the count of lines.
    first_row: (Position, LineCounter),
    finished: bool,
}

/// Counts line feeds up to a byte of the file.
#[derive(Clone, Copy, Debug, Default)]
struct LineCounter {
    byte: usize,
    ends: u64,
}

/// Where a record stands in the file.
#[derive(Clone, Debug)]
struct Place {
    /// The line of its first byte, from 1.
    line: u64,
    bytes: Range<usize>,
}

impl CsvInput {
    /// Reads the file and its header, and looks the template's columns up.
    pub(crate) fn open(path: &Path, template: &Template) -> Result<Self, Error> {
        let mut bytes = lines::read(path)?;
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(Error::file(path, "the file is empty; a header line was expected"));
        }
        bytes.extend_from_slice(SENTINEL);
        // What ends with CRLF ends with LF: its CR is taken off the last cell, where it can be told
        // from data.
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(std::io::Cursor::new(bytes));
        let mut lines = LineCounter::default();
        let mut header = ByteRecord::new();
        let line = read_record(path, &mut reader, &mut header, &mut lines)?;
        let columns = columns(path, line, &header)?;
        let template = template.bind(&columns).map_err(|name| {
            let names = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>();
            let reason = format!("the template asks for it; the columns are {}", names.join(", "));
            Error::line(path, line, Some(format!("no column '{name}'")), reason)
        })?;
        let first_row = (reader.position().clone(), lines);
        let keys = columns.iter().map(|column| serde_json::Value::from(column.as_str()).to_string() + ":");
        Ok(Self {
            path: path.to_owned(),
            keys: keys.collect(),
            reader,
            record: header,
            columns,
            template,
            lines,
            first_row,
            finished: false,
        })
    }

    /// Goes back to the first row.
    pub(crate) fn rewind(&mut self) -> Result<(), Error> {
        let (position, lines) = self.first_row.clone();
        self.reader.seek(position).map_err(|error| Error::file(&self.path, error.to_string()))?;
        self.lines = lines;
        self.finished = false;
        Ok(())
    }

    fn read_row(&mut self) -> Result<Option<Row>, Error> {
        let line = read_record(&self.path, &mut self.reader, &mut self.record, &mut self.lines)?;
        if self.record.len() == 1 && &self.record[0] == sentinel() {
            return Ok(None);
        }
        let wrong = |place: Option<String>, reason: String| Error::line(&self.path, line, place, reason);
        let (found, expected) = (self.record.len(), self.columns.len());
        if found < expected {
            let missing = format!("column '{}'", self.columns[found]);
            return Err(wrong(Some(missing), format!("the row ends after {found} of {expected} cells")));
        }
        if found > expected {
            let extra = format!("cell {}", expected + 1);
            return Err(wrong(Some(extra), format!("the row has {found} cells, and the header {expected}")));
        }
        let cells = cells(&self.record).map_err(|(cell, byte)| {
            wrong(Some(format!("column '{}', byte {byte}", self.columns[cell])), "not UTF-8".to_owned())
        })?;
        let filled = self.template.fill(&cells);
        let topic = Topic::new(&filled.text).map_err(|error| {
            let column = filled.column_at(error.byte_position());
            let place =
                column.map_or("--topic".to_owned(), |column| format!("column '{}'", self.columns[column]));
            wrong(Some(place), error.to_string())
        })?;
        let json = json(&self.keys, &cells);
        if json.len() > MAX_PAYLOAD {
            let reason = format!("as JSON the row has {} bytes; a message holds {MAX_PAYLOAD}", json.len());
            return Err(wrong(None, reason));
        }
        Ok(Some(Row { line, topic, json }))
    }
}

impl Iterator for CsvInput {
    type Item = Result<Row, Error>;

    /// The next row. After an error there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let row = self.read_row().transpose();
        self.finished = !matches!(row, Some(Ok(_)));
        row
    }
}

impl LineCounter {
    /// The line of a byte, which is at or after the one that was asked for last.
    fn line_of(&mut self, bytes: &[u8], byte: usize) -> u64 {
        self.ends += bytes[self.byte..byte].iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.byte = byte;
        self.ends + 1
    }
}

fn sentinel() -> &'static [u8] {
    &SENTINEL[1..]
}

/// Reads one record that is not a blank line, and says on which line it starts. An open quote is an
/// error, and so is a carriage return that no line feed follows, unless it is quoted.
fn read_record(
    path: &Path,
    reader: &mut Reader<std::io::Cursor<Vec<u8>>>,
    record: &mut ByteRecord,
    lines: &mut LineCounter,
) -> Result<u64, Error> {
    let Place { line, bytes } = loop {
        let place = read_place(path, reader, record, lines)?;
        // The parser passes over lines without a byte, but not over those of a carriage return
        // alone.
        if reader.get_ref().get_ref()[place.bytes.clone()] != *b"\r\n" {
            break place;
        }
    };
    let all = reader.get_ref().get_ref();
    let text = &all[bytes.clone()];
    // The line feed of the sentinel is not the file's.
    let has_crlf = text.ends_with(b"\r\n") && bytes.end + sentinel().len() < all.len();
    if let Some((cell, line_feeds)) = bare_return(&text[..text.len() - 2 * usize::from(has_crlf)]) {
        let place = Some(format!("cell {cell}"));
        let reason = "a carriage return that no line feed follows; lines end with LF or CRLF, and a carriage \
                      return that is data has to be quoted";
        return Err(Error::line(path, line + line_feeds, place, reason));
    }
    if has_crlf {
        strip_return(record);
    }
    match record.iter().next_back() {
        Some(last) if last.ends_with(sentinel()) && (record.len() > 1 || last != sentinel()) => {
            let place = Some(format!("cell {}", record.len()));
            Err(Error::line(path, line, place, "the quote that opens here is never closed"))
        }
        _ => Ok(line),
    }
}

/// Reads one record as the parser has it, and says where it stands.
fn read_place(
    path: &Path,
    reader: &mut Reader<std::io::Cursor<Vec<u8>>>,
    record: &mut ByteRecord,
    lines: &mut LineCounter,
) -> Result<Place, Error> {
    let before = reader.position().byte() as usize;
    reader.read_byte_record(record).map_err(|error| Error::file(path, error.to_string()))?;
    let end = reader.position().byte() as usize;
    let all = reader.get_ref().get_ref();
    let empty_lines = all[before..end].iter().take_while(|&&byte| byte == b'\n').count();
    let start = before + empty_lines;
    Ok(Place { line: lines.line_of(all, start), bytes: start..end })
}

/// Takes the carriage return of a CRLF off the last cell.
fn strip_return(record: &mut ByteRecord) {
    let mut last = record.iter().next_back().unwrap_or_default().to_vec();
    last.pop();
    record.truncate(record.len().saturating_sub(1));
    record.push_field(&last);
}

/// Looks for a carriage return outside of quotes in a record without its end: the cell that it is
/// in, from 1, and how many line feeds are before it. Cells open and close as the parser has it.
fn bare_return(record: &[u8]) -> Option<(usize, u64)> {
    // Most files have none, or one at each end of a line.
    if !record.contains(&b'\r') {
        return None;
    }
    let (mut cell, mut line_feeds) = (1, 0);
    let (mut is_quoted, mut is_start) = (false, true);
    let mut bytes = record.iter().peekable();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' if is_start => is_quoted = true,
            b'"' if is_quoted && bytes.next_if_eq(&&b'"').is_none() => is_quoted = false,
            b'\r' if !is_quoted => return Some((cell, line_feeds)),
            b',' if !is_quoted => cell += 1,
            b'\n' => line_feeds += 1,
            _ => {}
        }
        is_start = byte == b',' && !is_quoted;
    }
    None
}

/// A column's name in a list of names: in quotes where it has blanks, commas, or nothing at all.
fn quoted(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    if !name.is_empty() && name.chars().all(is_plain) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("'{name}'"))
    }
}

/// The names of the columns; each once.
fn columns(path: &Path, line: u64, header: &ByteRecord) -> Result<Vec<String>, Error> {
    let names = cells(header).map_err(|(cell, byte)| {
        Error::line(path, line, Some(format!("cell {}, byte {byte}", cell + 1)), "not UTF-8")
    })?;
    let mut seen = HashSet::with_capacity(names.len());
    for (cell, name) in names.iter().enumerate() {
        if !seen.insert(name) {
            let place = Some(format!("cell {}", cell + 1));
            return Err(Error::line(path, line, place, format!("a second column of the name '{name}'")));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The cells as text; gives the first that is not UTF-8, and its first wrong byte, from 0.
fn cells(record: &ByteRecord) -> Result<Vec<&str>, (usize, usize)> {
    record
        .iter()
        .enumerate()
        .map(|(cell, bytes)| std::str::from_utf8(bytes).map_err(|error| (cell, error.valid_up_to())))
        .collect()
}

/// A row as a JSON object. Written by hand, because a map would sort the keys.
fn json(keys: &[String], cells: &[&str]) -> Vec<u8> {
    let mut json = Vec::with_capacity(64 * keys.len());
    for (key, cell) in keys.iter().zip(cells) {
        json.push(if json.is_empty() { b'{' } else { b',' });
        json.extend_from_slice(key.as_bytes());
        serde_json::to_writer(&mut json, cell).expect("text is JSON, and memory takes it");
    }
    json.push(b'}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `bytes` from a file of that name in its own directory, with the template.
    fn read(name: &str, bytes: &[u8], template: &str) -> Result<Vec<Row>, Error> {
        let path = std::env::temp_dir().join(format!("ringmain-bench-csv-{}-{name}.csv", std::process::id()));
        std::fs::write(&path, bytes).expect("a scratch file");
        let template = Template::parse(template).expect("a template");
        let rows = CsvInput::open(&path, &template).and_then(Iterator::collect);
        std::fs::remove_file(&path).expect("our file");
        rows
    }

    fn rows(name: &str, bytes: &[u8], template: &str) -> Vec<(u64, String, String)> {
        let rows = read(name, bytes, template).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = |row: Row| (row.line, row.topic.to_string(), String::from_utf8(row.json).expect("JSON"));
        rows.into_iter().map(text).collect()
    }

    fn refusal(name: &str, bytes: &[u8], template: &str) -> String {
        match read(name, bytes, template) {
            Ok(rows) => panic!("{name}: {} rows", rows.len()),
            Err(error) => {
                assert_eq!(error.exit(), crate::exit::Exit::Unusable, "{error}");
                let error = error.to_string();
                let (_, place) = error.split_once(".csv").expect("the file's name");
                place.trim_start_matches(", ").to_owned()
            }
        }
    }

    fn row(line: u64, topic: &str, json: &str) -> (u64, String, String) {
        (line, topic.to_owned(), json.to_owned())
    }

    #[test]
    fn a_row_becomes_a_topic_and_json_in_the_headers_order() {
        let found = rows("plain", b"z,a\n1,x\n2,\"y \"\"q\"\"\"\n", "t.{z}");
        assert_eq!(
            found,
            [row(2, "t.1", r#"{"z":"1","a":"x"}"#), row(3, "t.2", r#"{"z":"2","a":"y \"q\""}"#)]
        );
    }

    #[test]
    fn line_ends_marks_and_blank_lines_change_nothing_but_the_lines() {
        let expected = [row(2, "1", r#"{"a":"1"}"#), row(3, "2", r#"{"a":"2"}"#)];
        for bytes in ["a\n1\n2", "a\n1\n2\n", "a\r\n1\r\n2\r\n", "a\r\n1\r\n2", "\u{FEFF}a\n1\n2\n"] {
            assert_eq!(rows("ends", bytes.as_bytes(), "{a}"), expected, "{bytes:?}");
        }
        let found = rows("blank", b"a\r\n\r\n1\r\n\r\n\r\n2\r\n\r\n", "{a}");
        assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), [3, 6]);
    }

    #[test]
    fn a_quoted_cell_over_several_lines_moves_the_lines_after_it() {
        let found = rows("quoted", b"a,b\r\n1,\"x\r\ny\r\nz\"\r\n2,w\r\n", "{a}");
        assert_eq!(
            found,
            [row(2, "1", r#"{"a":"1","b":"x\r\ny\r\nz"}"#), row(5, "2", r#"{"a":"2","b":"w"}"#)]
        );
    }

    #[test]
    fn a_second_pass_gives_the_same_rows() {
        let path = std::env::temp_dir().join(format!("ringmain-bench-csv-{}-rewind.csv", std::process::id()));
        std::fs::write(&path, "a,b\r\n1,\"x\r\ny\"\r\n\r\n2,z\r\n").expect("a scratch file");
        let template = Template::parse("t.{a}").expect("a template");
        let mut input = CsvInput::open(&path, &template).expect("a table");
        let mut pass = || -> Vec<_> {
            let rows = input.by_ref().map(|row| row.expect("a row"));
            let rows = rows.map(|row| (row.line, row.topic.to_string(), row.json)).collect();
            input.rewind().expect("a file in memory");
            rows
        };
        let first = pass();
        assert_eq!(first.iter().map(|row| row.0).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(pass(), first);
        std::fs::remove_file(&path).expect("our file");
    }

    #[test]
    fn a_carriage_return_alone_ends_nothing() {
        let found = rows("return", b"a,b\r\n1,\"x\ry\"\r\n2,\"z\r\"\r\n3,\"w\r\"\n4,\"\r\n\"\r\n", "{a}");
        assert_eq!(
            found,
            [
                row(2, "1", r#"{"a":"1","b":"x\ry"}"#),
                row(3, "2", r#"{"a":"2","b":"z\r"}"#),
                row(4, "3", r#"{"a":"3","b":"w\r"}"#),
                row(5, "4", r#"{"a":"4","b":"\r\n"}"#),
            ]
        );
        let reason = "a carriage return that no line feed follows; lines end with LF or CRLF, and a carriage \
                      return that is data has to be quoted";
        let cases: [(&[u8], &str); 8] = [
            // A file whose lines all end that way would be a header without rows.
            (b"a,b\r1,2\r3,4\r", "line 1, cell 2"),
            (b"a,b\r\n1,x\ry\r\n", "line 2, cell 2"),
            (b"a,b\r\n\r\n1\r,2\r\n", "line 3, cell 1"),
            (b"a,b\n1,2\r\r\n", "line 2, cell 2"),
            (b"a,b\n1,2\r", "line 2, cell 2"),
            (b"a,b\n\r1,2\n", "line 2, cell 1"),
            (b"a,b\n\"1\n,\n\",x\ry\n", "line 4, cell 2"),
            (b"a,b\n1,\"2\"\"3\"\r4\n", "line 2, cell 2"),
        ];
        for (bytes, place) in cases {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(refusal("bare", bytes, "{a}"), format!("{place}: {reason}"), "{text:?}");
        }
    }

    #[test]
    fn a_line_of_a_carriage_return_is_blank_and_an_empty_quoted_cell_is_not() {
        let found = rows("blank-quoted", b"a\r\n\"\"\r\n\r\n\"\"\n\n\"1\"", "x{a}");
        assert_eq!(
            found,
            [row(2, "x", r#"{"a":""}"#), row(4, "x", r#"{"a":""}"#), row(6, "x1", r#"{"a":"1"}"#)]
        );
    }

    #[test]
    fn a_header_alone_is_a_table_without_rows() {
        assert!(rows("header", b"a,b\n", "{a}").is_empty());
    }

    #[test]
    fn an_empty_file_is_refused() {
        for bytes in [&b""[..], b"\n", b"\r\n\r\n", b"\xEF\xBB\xBF"] {
            let error = refusal("empty", bytes, "x");
            assert_eq!(error, ": the file is empty; a header line was expected");
        }
    }

    #[test]
    fn rows_of_the_wrong_length_are_refused_with_line_and_column() {
        let error = refusal("short", b"a,b,c\r\n1,2,3\r\n4,5\r\n", "{a}");
        assert_eq!(error, "line 3, column 'c': the row ends after 2 of 3 cells");
        let error = refusal("long", b"a,b\n1,2\n3,4,5\n", "{a}");
        assert_eq!(error, "line 3, cell 3: the row has 3 cells, and the header 2");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_place() {
        let error = refusal("bytes", b"a,b\n1,2\n3,x\xFFy\n", "{a}");
        assert_eq!(error, "line 3, column 'b', byte 1: not UTF-8");
        let error = refusal("header-bytes", b"a,\xC3\n1,2\n", "{a}");
        assert_eq!(error, "line 1, cell 2, byte 0: not UTF-8");
    }

    #[test]
    fn an_unknown_column_is_refused_beside_those_there_are() {
        let error = refusal("unknown", b"origin,dest\nJFK,LHR\n", "f.{orgin}");
        assert_eq!(
            error,
            "line 1, no column 'orgin': the template asks for it; the columns are origin, dest"
        );
        let error = refusal("blanks", "flight no,,über,\"a,b\",x-1\nJFK,,,,\n".as_bytes(), "f.{no}");
        assert!(error.ends_with("the columns are 'flight no', '', über, 'a,b', x-1"), "{error}");
    }

    #[test]
    fn a_second_column_of_one_name_is_refused() {
        assert_eq!(refusal("twice", b"a,b,a\n", "{a}"), "line 1, cell 3: a second column of the name 'a'");
    }

    #[test]
    fn a_cell_that_makes_no_topic_is_refused_with_its_column() {
        for (cell, reason) in [("", "empty"), ("x y", "white space"), ("*", "wildcard"), ("x.", "empty")] {
            let bytes = format!("a,b\n1,2\n3,{cell}\n");
            let error = refusal("topic", bytes.as_bytes(), "t.{a}.{b}.e");
            assert!(error.starts_with("line 3, column 'b': topic word "), "{cell}: {error}");
            assert!(error.contains(reason), "{cell}: {error}");
        }
        let error = refusal("template", b"a\n1\n", "t..{a}");
        assert!(error.starts_with("line 2, --topic: topic word 2"), "{error}");
    }

    #[test]
    fn a_quote_that_is_never_closed_is_refused_where_it_opens() {
        let error = refusal("open", b"a,b\r\n1,2\r\n3,\"4\r\n5,6\r\n", "{a}");
        assert_eq!(error, "line 3, cell 2: the quote that opens here is never closed");
        let error = refusal("open-header", b"a,\"b\n1,2\n", "{a}");
        assert_eq!(error, "line 1, cell 2: the quote that opens here is never closed");
        let error = refusal("open-single", b"a\n\"1\n2\n", "{a}");
        assert_eq!(error, "line 2, cell 1: the quote that opens here is never closed");
    }

    #[test]
    fn a_row_larger_than_a_message_is_refused() {
        let fits = MAX_PAYLOAD - r#"{"a":"1","b":""}"#.len();
        let table = |length: usize| format!("a,b\n1,{}\n", "x".repeat(length)).into_bytes();
        assert_eq!(rows("fits", &table(fits), "{a}").len(), 1);
        let error = refusal("large", &table(fits + 1), "{a}");
        assert_eq!(error, "line 2: as JSON the row has 65537 bytes; a message holds 65536");
    }

    #[test]
    fn a_missing_file_is_an_input_output_error() {
        let template = Template::parse("x").expect("a template");
        let error =
            CsvInput::open(Path::new("no-such-directory/no-such.csv"), &template).expect_err("no file");
        assert_eq!(error.exit(), crate::exit::Exit::InputOutput);
    }
}
