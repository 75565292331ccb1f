//! `route`: which patterns match which topics, by the engine's own trie and without an engine; and what is odd about the
//! patterns.
//!
//! Patterns are held in memory, topics and matches are not: topics are [sorted] outside of it, and matches
//! are found while they are [written](mod@matches). All input has been read and checked by then, so that nothing is
//! written where a line is wrong.

mod lint;
mod matches;
mod sorted;

use std::io;
use std::path::Path;

use ringmain::topic::{Pattern, TopicError, validate};

pub(crate) use lint::{Finding, write_text as write_findings};
pub(crate) use matches::Matches;
use sorted::{Sorted, Sorter};

use crate::cli::RouteFiles;
use crate::error::Error;
use crate::input::Lines;
use crate::report::Report;

/// How much of the topics is sorted in memory at once, in bytes.
const CHUNK: usize = 16 << 20;

/// Matches all topics of one file against all patterns of another, or looks at the patterns alone.
pub(crate) fn route(files: &RouteFiles) -> Result<Report, Error> {
    let mut report = Report::new("route");
    report.set_config(files);
    match &files.topics {
        Some(topics) if !files.lint => report.matches = Some(matches(&files.patterns, topics)?),
        topics => report.findings = Some(lint::lint(&files.patterns, topics.as_deref())?),
    }
    Ok(report)
}

fn matches(patterns: &Path, topics: &Path) -> Result<Matches, Error> {
    let mut patterns = read_patterns(patterns)?;
    patterns.sort_unstable();
    patterns.dedup();
    let (topics, count) = sort_topics(topics)?;
    Matches::new(patterns, topics, count)
}

/// The patterns of a file, one a line.
fn read_patterns(path: &Path) -> Result<Vec<Pattern>, Error> {
    let mut lines = Lines::open(path)?;
    let mut patterns = Vec::new();
    while let Some((line, text)) = lines.next()? {
        patterns.push(Pattern::new(text).map_err(|error| no_name(path, line, &error))?);
    }
    Ok(patterns)
}

/// The topics of a file, one a line, sorted bytewise; and how many lines there were.
fn sort_topics(path: &Path) -> Result<(Sorted, u64), Error> {
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

fn no_name(path: &Path, line: u64, error: &TopicError) -> Error {
    Error::line(path, line, None, error.to_string())
}

/// A temporary file could not be used.
fn refused(source: io::Error) -> Error {
    Error::io(format!("use a temporary file in {}", std::env::temp_dir().display()), source)
}
