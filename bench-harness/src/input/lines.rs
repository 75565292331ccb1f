//! Reading input files: whole or line by line, bounded, and not beyond an interrupt.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::Error;
use crate::interrupt;

/// The largest file that is read whole.
const MAX_FILE: u64 = 1 << 30;
/// Bytes between two looks at the interrupt.
const CHUNK: u64 = 1 << 20;
/// The longest line that is read, its end included, in bytes.
const MAX_LINE: u64 = 1 << 16;

/// The byte order mark that some editors put in front of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a file into memory, without the byte order mark it may start with.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let refused = |source| Error::io(format!("read {}", path.display()), source);
    let mut file = File::open(path).map_err(refused)?;
    let mut bytes = Vec::new();
    while Read::by_ref(&mut file).take(CHUNK).read_to_end(&mut bytes).map_err(refused)? > 0 {
        interrupt::check()?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(Error::file(path, format!("larger than {MAX_FILE} bytes, the most that is read")));
        }
    }
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    Ok(bytes)
}

/// The lines of a text file, LF or CRLF, one after the other. A final line end starts no further
/// line, and a byte order mark is no part of the first one.
#[derive(Debug)]
pub(crate) struct Lines<'p, R = BufReader<File>> {
    path: &'p Path,
    reader: R,
    line: Vec<u8>,
    number: u64,
}

impl<'p> Lines<'p> {
    /// Opens a file.
    pub(crate) fn open(path: &'p Path) -> Result<Self, Error> {
        File::open(path)
            .map(|file| Self::new(path, BufReader::with_capacity(1 << 16, file)))
            .map_err(|source| Error::io(format!("read {}", path.display()), source))
    }
}

impl<'p, R: BufRead> Lines<'p, R> {
    fn new(path: &'p Path, reader: R) -> Self {
        Self { path, reader, line: Vec::new(), number: 0 }
    }

    /// The next line, without its end, and its number from 1. Bytes in errors are counted from 0,
    /// as the grammar of topics counts them.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &str)>, Error> {
        interrupt::check()?;
        let path = self.path;
        self.line.clear();
        let mut limited = Read::by_ref(&mut self.reader).take(MAX_LINE + 1);
        let count = limited
            .read_until(b'\n', &mut self.line)
            .map_err(|source| Error::io(format!("read {}", path.display()), source))?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        let mut line = &self.line[..];
        if let Some(ended) = line.strip_suffix(b"\n") {
            line = ended.strip_suffix(b"\r").unwrap_or(ended);
        } else if count as u64 > MAX_LINE {
            return Err(Error::line(path, number, None, format!("longer than {MAX_LINE} bytes")));
        }
        if number == 1 {
            line = line.strip_prefix(MARK).unwrap_or(line);
        }
        let line = std::str::from_utf8(line).map_err(|error| {
            Error::line(path, number, Some(format!("byte {}", error.valid_up_to())), "not UTF-8")
        })?;
        Ok(Some((number, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
        let mut lines = Lines::new(Path::new("file"), bytes);
        let mut split = Vec::new();
        while let Some((number, line)) = lines.next().map_err(|error| error.to_string())? {
            split.push((number, line.to_owned()));
        }
        Ok(split)
    }

    fn numbered(lines: &[&str]) -> Result<Vec<(u64, String)>, String> {
        Ok((1..).zip(lines.iter().map(|&line| line.to_owned())).collect())
    }

    #[test]
    fn both_line_ends_are_taken_and_the_last_is_optional() {
        let expected = numbered(&["a", "b"]);
        for bytes in ["a\nb", "a\nb\n", "a\r\nb\r\n", "a\r\nb"] {
            assert_eq!(split(bytes.as_bytes()), expected, "{bytes:?}");
        }
        assert_eq!(
            split(b"a\rb\n\rc\r"),
            numbered(&["a\rb", "\rc\r"]),
            "a carriage return alone ends nothing"
        );
        assert_eq!(split(b""), numbered(&[]));
    }

    #[test]
    fn an_empty_line_is_a_line() {
        assert_eq!(split(b"\n"), numbered(&[""]));
        assert_eq!(split(b"a\n\nb\n\n"), numbered(&["a", "", "b", ""]));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_found_in_their_line() {
        let error = split(b"ok\nab\xFFc\n").expect_err("not UTF-8");
        assert_eq!(error, "file, line 2, byte 2: not UTF-8");
    }

    #[test]
    fn a_byte_order_mark_stands_in_front_of_the_first_line_alone() {
        assert_eq!(split("\u{FEFF}a\n\u{FEFF}b".as_bytes()), numbered(&["a", "\u{FEFF}b"]));
    }

    #[test]
    fn a_line_without_end_is_not_read_into_memory() {
        let longest = "a".repeat(MAX_LINE as usize);
        assert_eq!(split(longest.as_bytes()), numbered(&[&longest]));
        let error = split(format!("b\n{longest}a").as_bytes()).expect_err("too long");
        assert_eq!(error, format!("file, line 2: longer than {MAX_LINE} bytes"));
    }
}
