//! Reading input files: whole, bounded, and not beyond an interrupt.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::Error;
use crate::interrupt;

/// The largest file that is read.
const LARGEST: u64 = 1 << 30;
/// Bytes between two looks at the interrupt.
const CHUNK: u64 = 1 << 20;

/// The byte order mark that some editors put in front of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a file into memory, without the byte order mark it may start with.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let refused = |source| Error::io(format!("read {}", path.display()), source);
    let mut file = File::open(path).map_err(refused)?;
    let mut bytes = Vec::new();
    while Read::by_ref(&mut file).take(CHUNK).read_to_end(&mut bytes).map_err(refused)? > 0 {
        interrupt::check()?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::file(path, format!("larger than {LARGEST} bytes, the most that is read")));
        }
    }
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    Ok(bytes)
}

/// The lines of a text file, LF or CRLF, with their numbers from 1. A final line end starts no further line. Bytes in
/// errors are counted from 0, as the grammar of topics counts them.
pub(crate) fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(u64, &'a str)>, Error> {
    let mut lines = Vec::new();
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Ok(lines);
    }
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|error| {
            Error::line(path, number, Some(format!("byte {}", error.valid_up_to())), "not UTF-8")
        })?;
        lines.push((number, line));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8]) -> Result<Vec<(u64, &str)>, String> {
        lines(Path::new("file"), bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn both_line_ends_are_taken_and_the_last_is_optional() {
        let expected = Ok(vec![(1, "a"), (2, "b")]);
        for bytes in ["a\nb", "a\nb\n", "a\r\nb\r\n", "a\r\nb"] {
            assert_eq!(split(bytes.as_bytes()), expected, "{bytes:?}");
        }
        assert_eq!(split(b""), Ok(vec![]));
    }

    #[test]
    fn an_empty_line_is_a_line() {
        assert_eq!(split(b"\n"), Ok(vec![(1, "")]));
        assert_eq!(split(b"a\n\nb\n\n"), Ok(vec![(1, "a"), (2, ""), (3, "b"), (4, "")]));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_found_in_their_line() {
        let error = split(b"ok\nab\xFFc\n").expect_err("not UTF-8");
        assert_eq!(error, "file, line 2, byte 2: not UTF-8");
    }
}
