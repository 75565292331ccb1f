//! Patterns, and matching one pattern against one topic.
//!
//! A pattern is a small nondeterministic automaton: its states are the places between its segments, and a word of the
//! topic takes it from one set of live states to the next (K. Thompson, "Regular expression search algorithm", 1968).
//! With at most 32 segments the set is the bits of one `u64`, so there is no recursion, no backtracking and no
//! allocation, however many `#` a pattern has.

use super::error::{Subject, TopicError};
use super::grammar::check;
use super::{MAX_WORDS, Topic};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which topics are wanted, such as `orders.*.created` or `orders.#`.
///
/// `*` stands for exactly one word, `#` for zero or more. A clone shares the text and costs one reference count.
/// Ordering, equality and hash are those of the text: `#.*` and `*.#` match the same topics and are not equal.
///
/// ```
/// use ringmain::topic::{Pattern, Topic};
///
/// let pattern: Pattern = "orders.#.created".parse()?;
/// assert!(pattern.matches(&Topic::new("orders.created")?));
/// assert!(pattern.matches(&Topic::new("orders.eu.de.created")?));
/// assert!(!pattern.matches(&Topic::new("orders.eu.deleted")?));
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: Arc<str>,
}

/// One word of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment<'a> {
    /// Exactly this word.
    Word(&'a str),
    /// `*`: exactly one word, whichever.
    Star,
    /// `#`: zero or more words, whichever.
    Hash,
}

impl Pattern {
    /// Checks `text` and keeps a copy of it: one allocation.
    ///
    /// # Errors
    ///
    /// [`TopicError`] names the first word that breaks the grammar, and where it stands.
    ///
    /// ```
    /// use ringmain::topic::Pattern;
    ///
    /// let error = Pattern::new("orders.eu#").unwrap_err();
    /// assert_eq!((error.word(), error.word_index(), error.byte_position()), ("eu#", 2, 9));
    /// ```
    pub fn new(text: &str) -> Result<Self, TopicError> {
        check(text, Subject::Pattern)?;
        Ok(Self { text: text.into() })
    }

    /// The text as it was given.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The words from left to right, wildcards among them; never empty.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.text.split('.')
    }

    /// How many words there are, 1 to [`MAX_WORDS`]. Counts them.
    pub fn word_count(&self) -> usize {
        self.words().count()
    }

    /// The words from left to right, told apart by what they stand for.
    ///
    /// ```
    /// use ringmain::topic::{Pattern, Segment};
    ///
    /// let pattern = Pattern::new("orders.*.#")?;
    /// assert!(pattern.segments().eq([Segment::Word("orders"), Segment::Star, Segment::Hash]));
    /// # Ok::<(), ringmain::topic::TopicError>(())
    /// ```
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Segment<'_>> + Clone {
        self.words().map(|word| match word {
            "*" => Segment::Star,
            "#" => Segment::Hash,
            word => Segment::Word(word),
        })
    }

    /// Whether it has no wildcard, and so matches the one topic that is written like it.
    pub fn is_literal(&self) -> bool {
        !self.text.contains(['*', '#'])
    }

    /// Whether the topic is one of those wanted.
    ///
    /// Compares at most each word of the topic with each segment once: 32 by 32 in the worst case, and about as many
    /// as the topic has words in the usual one. Allocates nothing.
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut segments = [Segment::Star; MAX_WORDS];
        let mut hashes = 0_u64;
        let mut end = 0;
        for segment in self.segments() {
            hashes |= u64::from(segment == Segment::Hash) << end;
            segments[end] = segment;
            end += 1;
        }
        // Bit `n` of `live`: the words read so far can be what the first `n` segments stand for.
        let mut live = with_hashes_skipped(1, hashes);
        for word in topic.words() {
            // A `#` takes the word and may take the next one too.
            let mut next = live & hashes;
            let mut rest = live & !hashes & !(1 << end);
            while rest != 0 {
                let at = rest.trailing_zeros();
                rest &= rest - 1;
                let takes_word = match segments[at as usize] {
                    Segment::Word(wanted) => wanted == word,
                    Segment::Star | Segment::Hash => true,
                };
                next |= u64::from(takes_word) << (at + 1);
            }
            if next == 0 {
                return false;
            }
            live = with_hashes_skipped(next, hashes);
        }
        live & (1 << end) != 0
    }
}

/// Adds the states that follow because a `#` may stand for no word at all.
fn with_hashes_skipped(mut live: u64, hashes: u64) -> u64 {
    loop {
        let more = live | (live & hashes) << 1;
        if more == live {
            return live;
        }
        live = more;
    }
}

/// The pattern that matches this topic alone. Shares the topic's text.
impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Self { text: topic.text }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Pattern {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Pattern {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl AsRef<str> for Pattern {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Pattern {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}
