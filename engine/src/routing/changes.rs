//! The topics that the last changes of a routing table may concern.
//!
//! Most changes do not concern most topics, so a publisher need not match its topic against all
//! patterns after each change. Each update leaves a note of one word: a hash of what its patterns
//! have in common ahead of their first wildcard, and of what they have in common behind their last
//! one. A topic that begins or ends otherwise resolves as before. A topic that begins and ends like
//! that, or whose hashes are alike by chance, is matched anew.
//!
//! The notes stand beside the generation and are read in place: the first look after a swap fetches
//! two lines that another core has just written, both at once.

use crate::sync::atomic::AtomicU64;
use crate::sync::edge::CHANGE_LOG;
use crate::topic::{Pattern, Topic};

/// The number of updates that are remembered. All but the oldest can be relied on: that one may be
/// about to be overwritten. To read all takes some 100 ns; a match among a million patterns may
/// take ten times as long.
pub(super) const KEPT: u64 = if cfg!(ringmain_loom) { 2 } else { 32 };

/// The notes of the last updates, each in the place of an earlier one. A reader checks that none
/// was overwritten meanwhile.
pub(super) struct Changes {
    concerns: [AtomicU64; KEPT as usize],
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { concerns: std::array::from_fn(|_| AtomicU64::new(Concern::NOBODY.0)) }
    }

    /// Notes what the update of that generation may concern.
    pub(super) fn note(&self, generation: u64, concern: Concern) {
        self.place(generation).store(concern.0, CHANGE_LOG.release());
    }

    /// Returns whether the update of that generation, or a later one in its place, may concern a
    /// topic.
    pub(super) fn may_concern(&self, generation: u64, topic: &Topic) -> bool {
        Concern(self.place(generation).load(CHANGE_LOG.acquire())).may_be(topic)
    }

    fn place(&self, generation: u64) -> &AtomicU64 {
        &self.concerns[(generation % KEPT) as usize]
    }
}

/// The note of an update: how the topics that it may concern begin and end. Two lengths in bytes,
/// and three bytes each of two hashes.
#[derive(Clone, Copy)]
pub(super) struct Concern(u64);

impl Concern {
    /// The note of an update that changes nothing. Only a topic of 255 bytes with this very hash
    /// would seem concerned.
    const NOBODY: Self = Self(u64::MAX);

    fn new(start: &[u8], end: &[u8]) -> Self {
        let [a, b, c] = hash(start);
        let [x, y, z] = hash(end);
        // No part is longer than a pattern may be: 255 bytes.
        Self(u64::from_le_bytes([start.len() as u8, a, b, c, end.len() as u8, x, y, z]))
    }

    fn may_be(self, topic: &Topic) -> bool {
        let topic = topic.as_str().as_bytes();
        let [start, a, b, c, end, x, y, z] = self.0.to_le_bytes();
        let begins = topic.get(..usize::from(start)).is_some_and(|start| hash(start) == [a, b, c]);
        begins && topic.len().checked_sub(usize::from(end)).is_some_and(|at| hash(&topic[at..]) == [x, y, z])
    }
}

/// Returns three bytes of a hash. Texts made up to collide gain nothing: publishers match anew
/// once, as for a `#`.
fn hash(text: &[u8]) -> [u8; 3] {
    const STATE: ahash::RandomState = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let [a, b, c, ..] = STATE.hash_one(text).to_le_bytes();
    [a, b, c]
}

/// The common parts of the patterns that an update touches.
#[derive(Default)]
pub(super) struct Touched {
    common: Option<Common>,
}

struct Common {
    /// Any of them.
    pattern: Pattern,
    /// Length of the common part ahead of the first wildcard, in bytes.
    start: usize,
    /// Length of the common part behind the last one.
    end: usize,
}

impl Touched {
    pub(super) fn add(&mut self, pattern: &Pattern) {
        let (start, end) = (start_of_all(pattern).as_bytes(), end_of_all(pattern).as_bytes());
        match &mut self.common {
            None => {
                self.common = Some(Common { pattern: pattern.clone(), start: start.len(), end: end.len() });
            }
            Some(common) => {
                let (their_start, their_end) = common.parts();
                let starts = their_start.iter().zip(start);
                let ends = their_end.iter().rev().zip(end.iter().rev());
                (common.start, common.end) = (count_alike(starts), count_alike(ends));
            }
        }
    }

    pub(super) fn concern(&self) -> Concern {
        self.common.as_ref().map_or(Concern::NOBODY, |common| {
            let (start, end) = common.parts();
            Concern::new(start, end)
        })
    }
}

impl Common {
    fn parts(&self) -> (&[u8], &[u8]) {
        let text = self.pattern.as_str().as_bytes();
        (&text[..self.start], &text[text.len() - self.end..])
    }
}

fn count_alike<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> usize {
    pairs.take_while(|(a, b)| a == b).count()
}

/// Returns the beginning of all topics that a pattern matches: what stands ahead of its first
/// wildcard.
fn start_of_all(pattern: &Pattern) -> &str {
    let text = pattern.as_str();
    let (start, wildcard) = text.split_at(text.find(['*', '#']).unwrap_or(text.len()));
    // A `#` may stand for nothing, and the dot beside it with it.
    if wildcard.starts_with('#') { start.strip_suffix('.').unwrap_or(start) } else { start }
}

/// Returns the end of all topics that a pattern matches: what stands behind its last wildcard.
fn end_of_all(pattern: &Pattern) -> &str {
    let text = pattern.as_str();
    let (wildcard, end) = text.split_at(text.rfind(['*', '#']).map_or(0, |at| at + 1));
    if wildcard.ends_with('#') { end.strip_prefix('.').unwrap_or(end) } else { end }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    fn concern(patterns: &[&str]) -> Concern {
        let mut touched = Touched::default();
        patterns.iter().for_each(|text| touched.add(&Pattern::new(text).expect("a pattern")));
        touched.concern()
    }

    #[track_caller]
    fn assert_concerns(patterns: &[&str], yes: &[&str], no: &[&str]) {
        let concern = concern(patterns);
        let may_be = |text: &str| concern.may_be(&Topic::new(text).expect("a topic"));
        for topic in yes {
            assert!(may_be(topic), "{patterns:?}, {topic}");
        }
        for topic in no {
            assert!(!may_be(topic), "{patterns:?}, {topic}");
        }
    }

    #[test]
    fn a_change_concerns_what_begins_and_ends_as_its_patterns_do() {
        assert_concerns(&["a.b"], &["a.b"], &["a", "a.b.c", "a.b.a.c", "x.a.b", "ab"]);
        assert_concerns(&["a.*"], &["a.b", "a.b.c"], &["a", "ab", "b.a"]);
        assert_concerns(&["a.#"], &["a", "a.b", "ab"], &["b", "b.a"]);
        assert_concerns(&["*.b"], &["a.b", "x.a.b"], &["b", "ab", "a.b.c"]);
        assert_concerns(&["#.b"], &["b", "a.b", "ab"], &["a.b.c", "c"]);
        assert_concerns(&["md.*.quote", "md.#.quote"], &["md.x.quote"], &["md.x.trade", "x.md.quote"]);
        assert_concerns(&["#"], &["a", "a.b"], &[]);
    }

    #[test]
    fn patterns_of_one_change_are_told_by_what_they_have_in_common() {
        assert_concerns(
            &["site.1.up", "site.2.up"],
            &["site.1.up", "site.2.up", "site.3.up"],
            &["site.1.down"],
        );
        assert_concerns(&["a", "b"], &["a", "b", "c"], &[]);
        // Cut where it may, inside a character too.
        assert_concerns(&["\u{e9}", "\u{e8}"], &["\u{e9}", "\u{e8}"], &["e"]);
        assert_concerns(&["aa", "aaa"], &["aa", "aaa", "aaaa"], &["a", "ab", "ba"]);
    }

    #[test]
    fn a_change_of_nothing_concerns_nobody() {
        let longest = "a".repeat(255);
        assert_concerns(&[], &[], &["a", "a.b", &longest]);
    }
}
