//! A scenario's text: where in it something stands, and how it is refused with the line.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The longest file, in bytes. A scenario is written by hand.
const LONGEST: u64 = 4 << 20;

/// The text of a file.
pub(super) struct Source {
    file: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// Reads a file, which must be UTF-8.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let refused = |source| Error::io(format!("read {}", path.display()), source);
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(refused)?;
        if bytes.len() as u64 > LONGEST {
            return Err(Error::file(path, format!("longer than {LONGEST} bytes")));
        }
        Self::from_bytes(path, bytes)
    }

    /// The text that bytes are, which must be UTF-8.
    pub(super) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::of(path, text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = &error.as_bytes()[..valid];
                let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
                Err(Error::line(path, line, Some(format!("byte {}", valid - start)), "not UTF-8"))
            }
        }
    }

    /// A text that comes from no file, and whose name stands in refusals.
    pub(super) fn of(file: impl Into<PathBuf>, text: String) -> Self {
        Self { file: file.into(), text }
    }

    /// The line in which something begins, from 1.
    pub(super) fn line(&self, place: &Range<usize>) -> u64 {
        let before = self.text.as_bytes().get(..place.start).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// A refusal of what stands at a place.
    pub(super) fn refuse(&self, place: Range<usize>, reason: impl Into<String>) -> Error {
        Error::line(&self.file, self.line(&place), None, plain(&reason.into()))
    }

    /// A refusal of the file as a whole.
    pub(super) fn refuse_all(&self, reason: impl Into<String>) -> Error {
        Error::file(&self.file, plain(&reason.into()))
    }
}

/// A reason as one line of text: it may quote a scenario's names, and those may hold anything.
fn plain(reason: &str) -> String {
    let mut plain = String::with_capacity(reason.len());
    for character in reason.chars() {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_whatever_it_quotes() {
        let source = Source::of("test.toml", "seed = 1\n".to_owned());
        let refusal = source.refuse(0..4, "no subscription 'a\nb\u{1b}[2J\u{e9}'").to_string();
        assert_eq!(refusal, "test.toml, line 1: no subscription 'a\\nb\\u{1b}[2J\u{e9}'");
    }
}
