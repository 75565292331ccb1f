//! `route`: which patterns match which topics, by the engine's own trie and without an engine.

use std::collections::BTreeSet;
use std::path::Path;

use ringmain::routing::Trie;
use ringmain::topic::{Pattern, Topic, TopicError};

use crate::cli::RouteFiles;
use crate::error::Error;
use crate::input;
use crate::interrupt;
use crate::progress::Progress;
use crate::report::{Match, Report};

/// Topics between two looks at the interrupt.
const STRIDE: usize = 256;

/// Matches all topics of one file against all patterns of another. The text has a line for every match, sorted
/// bytewise: the topic, a tab, the pattern.
pub(crate) fn route(files: &RouteFiles) -> Result<(Report, String), Error> {
    let patterns = read(&files.patterns, Pattern::new)?;
    let topics = read(&files.topics, Topic::new)?;
    let mut trie = Trie::new();
    for (number, pattern) in patterns.iter().enumerate() {
        if number % STRIDE == 0 {
            interrupt::check()?;
        }
        trie.insert(pattern, number);
    }
    let mut progress = Progress::of_unknown_length("routing");
    let mut matches = Vec::new();
    let mut text = String::new();
    let mut found = Vec::new();
    for (number, topic) in topics.iter().enumerate() {
        if number % STRIDE == 0 {
            interrupt::check()?;
            progress.set(number as f64 / topics.len() as f64);
        }
        let topic = topic.as_str();
        trie.matches(topic, &mut found);
        // Both files are sorted, so the patterns' numbers have the patterns' order; and a tab is below every byte that
        // a topic may hold, so the order of pairs is the order of the lines.
        for &number in &found {
            let pattern = patterns[number].as_str();
            text.extend([topic, "\t", pattern, "\n"]);
            matches.push(Match { topic: topic.to_owned(), pattern: pattern.to_owned() });
        }
    }
    interrupt::check()?;
    let mut report = Report::new("route");
    report.set_config(files);
    report.matches = Some(matches);
    Ok((report, text))
}

/// The names in a file, one a line, sorted bytewise and each once.
fn read<N: Ord>(path: &Path, parse: impl Fn(&str) -> Result<N, TopicError>) -> Result<Vec<N>, Error> {
    let bytes = input::read(path)?;
    let mut names = BTreeSet::new();
    for (count, (line, text)) in input::lines(path, &bytes)?.into_iter().enumerate() {
        if count % STRIDE == 0 {
            interrupt::check()?;
        }
        let name = parse(text).map_err(|error| Error::line(path, line, None, error.to_string()))?;
        names.insert(name);
    }
    Ok(names.into_iter().collect())
}
