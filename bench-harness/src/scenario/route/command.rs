//! The command: its files, and what it finds in them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::lint::{self, Finding};
use super::matches::Matches;
use super::names::{read_patterns, sort_topics};
use crate::error::Error;
use crate::json;
use crate::report::{Answer, Report, write_json};

/// Files with one topic and one pattern a line.
#[derive(Clone, Debug, Args, serde::Serialize)]
pub(crate) struct RouteFiles {
    /// Patterns, one a line
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "json::name")]
    pub(crate) patterns: PathBuf,
    /// Topics, one a line; not needed with --lint
    #[arg(long, value_name = "FILE", required_unless_present = "lint")]
    #[serde(serialize_with = "json::optional_name", skip_serializing_if = "Option::is_none")]
    pub(crate) topics: Option<PathBuf>,
    /// Print instead what is odd about the patterns, one finding a line, in their order: the
    /// pattern's line from 1, the pattern, the kind, the other pattern, its line, and the simplest
    /// pattern for the same topics if that is another, separated by tabs. Kinds: 'duplicate' (an
    /// earlier line is the same), 'equivalent' (an earlier pattern matches the same topics),
    /// 'shadowed' (another pattern matches all its topics, and more), 'foreign' (a word of it is a
    /// wildcard elsewhere, and none here; what to write instead comes last), 'unmatched' (with
    /// --topics: none of these matches). The exit code is 0 whatever is found
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) lint: bool,
}

/// What was found.
#[derive(Serialize)]
pub(crate) struct RouteAnswer {
    #[serde(flatten)]
    report: Report,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Matches(Matches),
    Findings(Vec<Finding>),
}

impl Answer for RouteAnswer {
    fn report(&self) -> &Report {
        &self.report
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.found {
            Found::Matches(matches) => matches.write_text(out),
            Found::Findings(findings) => lint::write_text(findings, out),
        }
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_json(self, out)
    }
}

/// Matches all topics of one file against all patterns of another, or looks at the patterns alone.
pub(crate) fn route(files: &RouteFiles) -> Result<RouteAnswer, Error> {
    let mut report = Report::new("route");
    report.set_config(files);
    let found = match &files.topics {
        Some(topics) if !files.lint => Found::Matches(matches(&files.patterns, topics)?),
        topics => Found::Findings(lint::lint(&files.patterns, topics.as_deref())?),
    };
    Ok(RouteAnswer { report, found })
}

fn matches(patterns: &Path, topics: &Path) -> Result<Matches, Error> {
    let mut patterns = read_patterns(patterns)?;
    patterns.sort_unstable();
    patterns.dedup();
    let (topics, count) = sort_topics(topics)?;
    Matches::new(patterns, topics, count)
}
