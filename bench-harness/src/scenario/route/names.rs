//! Files with one name a line, and refusals that name the line.

use std::io;
use std::path::Path;

use ringmain::topic::{Pattern, TopicError, validate};

use super::sorted::{Sorted, Sorter};
use crate::error::Error;
use crate::input::lines::Lines;

/// How much of the topics is sorted in memory at once, in bytes.
const CHUNK: usize = 16 << 20;

/// The patterns of a file, one a line.
pub(super) fn read_patterns(path: &Path) -> Result<Vec<Pattern>, Error> {
    let mut lines = Lines::open(path)?;
    let mut patterns = Vec::new();
    while let Some((line, text)) = lines.next()? {
        patterns.push(Pattern::new(text).map_err(|error| no_name(path, line, &error))?);
    }
    Ok(patterns)
}

/// The topics of a file, one a line, sorted bytewise; and how many lines there were.
pub(super) fn sort_topics(path: &Path) -> Result<(Sorted, u64), Error> {
    let mut lines = Lines::open(path)?;
    let mut sorter = Sorter::new(CHUNK);
    let mut count = 0;
    while let Some((line, text)) = lines.next()? {
        validate(text).map_err(|error| no_name(path, line, &error))?;
        sorter.push(text).map_err(refused)?;
        count = line;
    }
    Ok((sorter.finish().map_err(refused)?, count))
}

/// A line that is no topic or pattern.
pub(super) fn no_name(path: &Path, line: u64, error: &TopicError) -> Error {
    Error::line(path, line, None, error.to_string())
}

/// A temporary file could not be used.
pub(super) fn refused(source: io::Error) -> Error {
    Error::io(format!("use a temporary file in {}", std::env::temp_dir().display()), source)
}
