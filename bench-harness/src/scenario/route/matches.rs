//! The matches, found while they are written: there may be far more of them than memory holds.

use std::io::{self, Write};

use ringmain::routing::Trie;
use ringmain::topic::Pattern;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};

use super::names;
use super::sorted::{Merge, Sorted};
use crate::error::Error;
use crate::interrupt;
use crate::progress::Progress;

/// Topics between two looks at the clock. The interrupt is looked at with each: among hostile
/// patterns one topic takes milliseconds.
const STRIDE: u64 = 256;

/// Patterns and topics that are known to be valid, and so all their matches. Each time these are
/// read they are found anew.
#[derive(Debug)]
pub(crate) struct Matches {
    /// Sorted, each once.
    patterns: Vec<Pattern>,
    /// Each pattern's place among them.
    trie: Trie<u32>,
    topics: Sorted,
    /// How many topics there are, or a few more: those that stand there twice.
    topic_count: u64,
}

/// A topic and a pattern that matches it.
#[derive(Serialize)]
struct Match<'a> {
    topic: &'a str,
    pattern: &'a str,
}

impl Matches {
    /// Of patterns that are sorted, each once, and 2^32 at most.
    pub(super) fn new(patterns: Vec<Pattern>, topics: Sorted, topic_count: u64) -> Result<Self, Error> {
        let mut trie = Trie::new();
        for (number, pattern) in (0..).zip(&patterns) {
            interrupt::check()?;
            trie.insert(pattern, number);
        }
        Ok(Self { patterns, trie, topics, topic_count })
    }

    /// Writes a line for every match, sorted bytewise: the topic, a tab, the pattern.
    pub(crate) fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut cursor = self.cursor().map_err(io::Error::other)?;
        while let Some((topic, numbers)) = cursor.next().map_err(io::Error::other)? {
            for &number in numbers {
                for part in [topic, "\t", self.pattern(number), "\n"] {
                    out.write_all(part.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn pattern(&self, number: u32) -> &str {
        self.patterns[number as usize].as_str()
    }

    fn cursor(&self) -> Result<Cursor<'_>, Error> {
        Ok(Cursor {
            trie: &self.trie,
            topics: self.topics.merge().map_err(names::refused)?,
            found: Vec::new(),
            progress: Progress::of_unknown_length("routing"),
            done: 0,
            topic_count: self.topic_count,
        })
    }
}

impl Serialize for Matches {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut cursor = self.cursor().map_err(S::Error::custom)?;
        while let Some((topic, numbers)) = cursor.next().map_err(S::Error::custom)? {
            for &number in numbers {
                list.serialize_element(&Match { topic, pattern: self.pattern(number) })?;
            }
        }
        list.end()
    }
}

/// Goes through the topics.
struct Cursor<'a> {
    trie: &'a Trie<u32>,
    topics: Merge<'a>,
    found: Vec<u32>,
    progress: Progress,
    done: u64,
    topic_count: u64,
}

impl Cursor<'_> {
    /// The next topic, and the patterns that match it. The numbers of patterns have the patterns'
    /// order; and a tab is below every byte that a topic may hold, so the order of pairs is the
    /// order of the lines.
    fn next(&mut self) -> Result<Option<(&str, &[u32])>, Error> {
        interrupt::check()?;
        if self.done.is_multiple_of(STRIDE) {
            self.progress.set(self.done as f64 / self.topic_count.max(1) as f64);
        }
        self.done += 1;
        let Some(topic) = self.topics.next().map_err(names::refused)? else { return Ok(None) };
        self.trie.matches(topic, &mut self.found);
        Ok(Some((topic, &self.found)))
    }
}
