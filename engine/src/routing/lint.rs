//! A linter for lists of patterns. It finds patterns that are there twice, that say the same in
//! other words, that another pattern makes needless, and that no topic matches.
//!
//! A pattern that covers another matches each topic of that other. So the linter makes up one topic
//! of a pattern, has the [`Trie`] find what matches that, and compares the pattern with those. The
//! topic has a word for each `*` and each `#`, one that stands in no pattern if there is such a
//! word of one byte: then only wildcards match it.

use super::Trie;
use crate::topic::{Pattern, Segment, Topic};
use ahash::RandomState;
use std::collections::HashMap;
use std::fmt;

/// An oddity of a pattern in a list. It names another pattern by its number, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Oddity {
    /// The same text stands earlier.
    Duplicate {
        /// The first pattern with that text.
        of: usize,
    },
    /// An earlier pattern of another text matches exactly the same topics.
    Equivalent {
        /// The first such pattern.
        to: usize,
    },
    /// Another pattern matches all its topics, and more.
    Shadowed {
        /// The first such pattern.
        by: usize,
    },
}

/// A word of a pattern that is a wildcard in another system and stands for itself here.
///
/// Displayed, it says what to write instead.
///
/// ```
/// use ringmain::routing::{ForeignKind, ForeignWildcard};
/// use ringmain::topic::Pattern;
///
/// let pattern = Pattern::new("orders.>")?;
/// let foreign = ForeignWildcard::find(&pattern).expect("NATS would take it for a wildcard");
/// assert_eq!((foreign.word(), foreign.kind()), (">", ForeignKind::Rest));
/// assert_eq!(foreign.to_string(), r##"">" stands for itself here; write "#" for any number of words"##);
/// assert_eq!(ForeignWildcard::find(&Pattern::new("orders.#")?), None);
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForeignWildcard<'a> {
    word: &'a str,
    kind: ForeignKind,
}

/// The meaning that a word has in other systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForeignKind {
    /// `>`: the rest of a subject, in NATS and others.
    Rest,
    /// `+`: one level of a topic, in MQTT.
    Level,
    /// `+` between slashes, which separate the levels of a topic in MQTT: `orders/+/created`.
    Levels,
    /// `{id}`, `{a,b}`: a parameter of a path, or a choice.
    Braces,
    /// `$SYS`, `$share`, `$queue`, `$JS`: topics of the server itself, in MQTT and NATS.
    Server,
}

impl<'a> ForeignWildcard<'a> {
    /// Finds the first such word of a pattern.
    ///
    /// `**`, another system's for any number of words, is no word of a pattern: that pattern is
    /// refused.
    pub fn find(pattern: &'a Pattern) -> Option<Self> {
        pattern.words().enumerate().find_map(|(number, word)| {
            let kind = ForeignKind::of(word, number == 0)?;
            Some(Self { word, kind })
        })
    }

    /// Returns the word.
    pub fn word(&self) -> &'a str {
        self.word
    }

    /// Returns what the word means elsewhere.
    pub fn kind(&self) -> ForeignKind {
        self.kind
    }
}

impl ForeignKind {
    fn of(word: &str, is_first: bool) -> Option<Self> {
        let mut levels = word.split('/');
        match word {
            ">" => Some(Self::Rest),
            "+" => Some(Self::Level),
            _ if is_first && matches!(levels.next(), Some("$SYS" | "$share" | "$queue" | "$JS")) => {
                Some(Self::Server)
            }
            _ if word.split('/').any(|level| level == "+") => Some(Self::Levels),
            _ if word.find('{').is_some_and(|at| word[at..].contains('}')) => Some(Self::Braces),
            _ => None,
        }
    }
}

impl fmt::Display for ForeignWildcard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instead = match self.kind {
            ForeignKind::Rest => r##"write "#" for any number of words"##,
            ForeignKind::Level => r#"write "*" for one word"#,
            ForeignKind::Levels => r#"separate words by '.', and write "*" for one of them"#,
            ForeignKind::Braces => r#"write "*" for one word, or subscribe to several patterns"#,
            ForeignKind::Server => "nothing is published to such topics unless you do",
        };
        write!(f, "{:?} stands for itself here; {instead}", self.word)
    }
}

/// A linter that looks through a list of patterns for likely mistakes.
///
/// | operation | cost for N patterns |
/// |---|---|
/// | [`new`](Self::new) | N insertions into a [`Trie`] and a map; some 500 bytes a pattern beside the pattern, and more where patterns are long and share little |
/// | [`oddity`](Self::oddity) | matching one topic, and a [comparison](Pattern::covers) with each pattern that matches it until one covers |
/// | [`observe`](Self::observe) | matching one topic |
///
/// Looking through the whole list is thus quadratic only where most patterns match the same topics,
/// as `#.a`, `#.*.a`, … do.
///
/// ```
/// use ringmain::routing::{Linter, Oddity};
/// use ringmain::topic::{Pattern, Topic};
///
/// let patterns = ["a.*", "a.#", "a.#.#", "b"].map(|text| Pattern::new(text).expect(text));
/// let mut linter = Linter::new(&patterns);
/// assert_eq!(linter.oddity(0), Some(Oddity::Shadowed { by: 1 }));
/// assert_eq!(linter.oddity(1), None);
/// assert_eq!(linter.oddity(2), Some(Oddity::Equivalent { to: 1 }));
///
/// linter.observe(&Topic::new("a")?);
/// assert!(linter.is_matched(1));
/// assert!(!linter.is_matched(3));
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
#[derive(Debug)]
pub struct Linter<'a> {
    patterns: &'a [Pattern],
    /// For each pattern, the first of the same text.
    firsts: Vec<usize>,
    /// For each pattern, the first of the same normal form.
    leaders: Vec<usize>,
    /// The leaders.
    trie: Trie<usize>,
    /// For each leader, whether an observed topic matches it.
    is_matched: Vec<bool>,
    fresh: String,
    found: Vec<usize>,
}

impl<'a> Linter<'a> {
    /// Reads the patterns.
    pub fn new(patterns: &'a [Pattern]) -> Self {
        let mut firsts = Vec::with_capacity(patterns.len());
        let mut leaders = Vec::with_capacity(patterns.len());
        let mut trie = Trie::new();
        let mut by_text: HashMap<&str, usize, RandomState> = HashMap::default();
        let mut by_form: HashMap<Pattern, usize, RandomState> = HashMap::default();
        for (number, pattern) in patterns.iter().enumerate() {
            firsts.push(*by_text.entry(pattern.as_str()).or_insert(number));
            let leader = *by_form.entry(pattern.normalized()).or_insert(number);
            leaders.push(leader);
            if leader == number {
                trie.insert(pattern, number);
            }
        }
        let is_matched = vec![false; patterns.len()];
        Self { patterns, firsts, leaders, trie, is_matched, fresh: fresh_word(patterns), found: Vec::new() }
    }

    /// Returns what is odd about the pattern with this number; [whether topics match
    /// it](Self::is_matched) apart.
    ///
    /// Of two patterns that match the same topics, only the later one is odd, so all odd ones can
    /// be left out at once. A pattern that is a duplicate or equivalent is not compared with
    /// further ones.
    ///
    /// # Panics
    ///
    /// If there is no such pattern.
    pub fn oddity(&mut self, number: usize) -> Option<Oddity> {
        if self.firsts[number] != number {
            return Some(Oddity::Duplicate { of: self.firsts[number] });
        }
        if self.leaders[number] != number {
            return Some(Oddity::Equivalent { to: self.leaders[number] });
        }
        let pattern = &self.patterns[number];
        self.trie.matches(&topic_of(pattern, &self.fresh), &mut self.found);
        // Two leaders do not match the same topics, so what covers this one matches more.
        let mut others = self.found.iter().copied().filter(|&other| other != number);
        others.find(|&other| self.patterns[other].covers(pattern)).map(|by| Oddity::Shadowed { by })
    }

    /// Returns the first word of the pattern with this number that is a wildcard elsewhere.
    ///
    /// # Panics
    ///
    /// If there is no such pattern.
    pub fn foreign_wildcard(&self, number: usize) -> Option<ForeignWildcard<'a>> {
        ForeignWildcard::find(&self.patterns[number])
    }

    /// Takes note of which patterns match a known topic.
    pub fn observe(&mut self, topic: &Topic) {
        self.trie.matches(topic.as_str(), &mut self.found);
        for &number in &self.found {
            self.is_matched[number] = true;
        }
    }

    /// Returns whether the pattern with this number matches an [observed](Self::observe) topic.
    ///
    /// # Panics
    ///
    /// If there is no such pattern.
    pub fn is_matched(&self, number: usize) -> bool {
        self.is_matched[self.leaders[number]]
    }
}

/// Returns a word of one byte that stands in none of the patterns, or else any.
fn fresh_word(patterns: &[Pattern]) -> String {
    let mut is_taken = [false; 128];
    for word in patterns.iter().flat_map(Pattern::words) {
        if let [byte @ ..128] = word.as_bytes() {
            is_taken[usize::from(*byte)] = true;
        }
    }
    let mut words = ('!'..='~').filter(|character| !matches!(character, '.' | '*' | '#'));
    words.find(|&character| !is_taken[character as usize]).unwrap_or('~').to_string()
}

/// Returns a topic of the pattern.
fn topic_of(pattern: &Pattern, fresh: &str) -> String {
    let words = pattern.segments().map(|segment| match segment {
        Segment::Word(word) => word,
        Segment::Star | Segment::Hash => fresh,
    });
    words.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_made_up_of_a_pattern_is_matched_by_it_and_few_others() {
        let patterns = ["a.*.#", "!.a", "\"", "b.b"].map(|text| Pattern::new(text).unwrap());
        let fresh = fresh_word(&patterns);
        assert_eq!(fresh, "$");
        assert_eq!(topic_of(&patterns[0], &fresh), "a.$.$");
        let all: Vec<Pattern> =
            (b'!'..=b'~').filter_map(|byte| Pattern::new(&char::from(byte).to_string()).ok()).collect();
        assert!(Topic::new(&fresh_word(&all)).is_ok(), "whatever the word, it is one");
    }
}
