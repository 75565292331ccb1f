//! What is odd about the patterns of a file, by the engine's linter.

use std::io::{self, Write};
use std::path::Path;

use ringmain::routing::{Linter, Oddity};
use ringmain::topic::{Pattern, Topic};
use serde::Serialize;

use super::names;
use crate::error::Error;
use crate::input::lines::Lines;
use crate::interrupt;

/// What is odd about the pattern of a line.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    line: u64,
    pattern: String,
    kind: &'static str,
    /// The pattern on whose account it is odd.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other_line: Option<u64>,
    /// The word of the pattern on whose account it is odd.
    #[serde(skip_serializing_if = "Option::is_none")]
    word: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The simplest pattern that matches the same topics, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    normalized: Option<String>,
}

/// Looks through the patterns of a file; those that match no topic are odd where there is a file of
/// topics.
pub(super) fn lint(patterns: &Path, topics: Option<&Path>) -> Result<Vec<Finding>, Error> {
    let patterns = names::read_patterns(patterns)?;
    let mut linter = Linter::new(&patterns);
    if let Some(path) = topics {
        let mut lines = Lines::open(path)?;
        while let Some((line, text)) = lines.next()? {
            linter.observe(&Topic::new(text).map_err(|error| names::no_name(path, line, &error))?);
        }
    }
    let mut findings = Vec::new();
    for number in 0..patterns.len() {
        interrupt::check()?;
        if let Some(foreign) = linter.foreign_wildcard(number) {
            let word = Some(foreign.word().to_owned());
            let hint = Some(foreign.to_string());
            findings.push(Finding { word, hint, ..Finding::new(&patterns, number, "foreign", None) });
        }
        let oddity = linter.oddity(number);
        if let Some(oddity) = oddity {
            let (kind, other) = match oddity {
                Oddity::Duplicate { of } => ("duplicate", of),
                Oddity::Equivalent { to } => ("equivalent", to),
                Oddity::Shadowed { by } => ("shadowed", by),
            };
            findings.push(Finding::new(&patterns, number, kind, Some(other)));
        }
        // What matches the same topics as an earlier pattern is told of that one.
        let is_own = matches!(oddity, None | Some(Oddity::Shadowed { .. }));
        if topics.is_some() && is_own && !linter.is_matched(number) {
            findings.push(Finding::new(&patterns, number, "unmatched", None));
        }
    }
    Ok(findings)
}

impl Finding {
    fn new(patterns: &[Pattern], number: usize, kind: &'static str, other: Option<usize>) -> Self {
        let pattern = &patterns[number];
        // Every line has a pattern.
        let line = |number: usize| number as u64 + 1;
        let normalized = pattern.normalized();
        Self {
            line: line(number),
            pattern: pattern.to_string(),
            kind,
            other: other.map(|other| patterns[other].to_string()),
            other_line: other.map(line),
            word: None,
            hint: None,
            normalized: (normalized != *pattern).then(|| normalized.to_string()),
        }
    }
}

/// Writes a line for every finding: the line, its pattern, what is odd, the other pattern and its
/// line, the simplest pattern for the same topics and, of a word that is a wildcard elsewhere, what
/// to write instead. Between them are tabs; what there is not is empty, at the end left out.
pub(crate) fn write_text(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for Finding { line, pattern, kind, other, other_line, hint, normalized, .. } in findings {
        let other = other.as_deref().unwrap_or_default();
        let other_line = other_line.map(|line| line.to_string()).unwrap_or_default();
        let normalized = normalized.as_deref().unwrap_or_default();
        write!(out, "{line}\t{pattern}\t{kind}\t{other}\t{other_line}\t{normalized}")?;
        match hint {
            Some(hint) => writeln!(out, "\t{hint}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
