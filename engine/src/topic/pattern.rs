//! Patterns: which topics are wanted. Its [`Automaton`] answers questions about a pattern.

use super::automaton::Automaton;
use super::error::{Subject, TopicError};
use super::grammar::check;
use super::name::Topic;
use super::segment::Segment;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which topics are wanted, such as `orders.*.created` or `orders.#`.
///
/// `*` stands for exactly one word, `#` for zero or more. A clone shares the text and costs one
/// reference count. Ordering, equality and hash are those of the text: `#.*` and `*.#` match the
/// same topics and are not equal.
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

    /// Returns the text as it was given.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the words from left to right, wildcards among them; never empty.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.text.split('.')
    }

    /// Returns how many words there are, 1 to [`MAX_WORDS`](super::MAX_WORDS). Counts them.
    pub fn word_count(&self) -> usize {
        self.words().count()
    }

    /// Returns the words from left to right, told apart by what they stand for.
    ///
    /// ```
    /// use ringmain::topic::{Pattern, Segment};
    ///
    /// let pattern = Pattern::new("orders.*.#")?;
    /// assert!(pattern.segments().eq([Segment::Word("orders"), Segment::Star, Segment::Hash]));
    /// # Ok::<(), ringmain::topic::TopicError>(())
    /// ```
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Segment<'_>> + Clone {
        self.words().map(Segment::of)
    }

    /// Returns how many of its words are wildcards, `*` or `#`, as it is written. Counts them.
    ///
    /// What they cost in a [`Trie`](crate::routing::Trie) stands there.
    ///
    /// ```
    /// use ringmain::topic::Pattern;
    ///
    /// assert_eq!(Pattern::new("orders.*.#")?.wildcard_count(), 2);
    /// # Ok::<(), ringmain::topic::TopicError>(())
    /// ```
    pub fn wildcard_count(&self) -> usize {
        self.segments().filter(|segment| !matches!(segment, Segment::Word(_))).count()
    }

    /// Returns whether it has no wildcard, and so matches the one topic that is written like it.
    pub fn is_literal(&self) -> bool {
        !self.text.contains(['*', '#'])
    }

    /// Returns whether the topic is one of those wanted.
    ///
    /// Compares at most each word of the topic with each segment once: 32 by 32 in the worst case,
    /// and about as many as the topic has words in the usual one. Allocates nothing.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.automaton().matches(topic.words())
    }

    /// Returns whether every topic that `other` matches is matched by this pattern too.
    ///
    /// The answer is about valid topics: 32 words and 255 bytes at most. `true` is always right.
    /// `false` is right except for patterns with so many `#`, so close to those limits, that too
    /// many topics still fit. Then `false` only says that `other` alone would match longer topics.
    ///
    /// Usually compares each segment with each once. Where `other` has `#` and is not covered, or
    /// only because of the limits, it looks at topics too and allocates: some microseconds, and
    /// some tens of milliseconds in the worst case.
    ///
    /// ```
    /// use ringmain::topic::Pattern;
    ///
    /// let wide = Pattern::new("orders.#")?;
    /// assert!(wide.covers(&Pattern::new("orders.*.created")?));
    /// assert!(!wide.covers(&Pattern::new("#.created")?));
    /// # Ok::<(), ringmain::topic::TopicError>(())
    /// ```
    pub fn covers(&self, other: &Pattern) -> bool {
        self.automaton().covers(&other.automaton())
    }

    /// Returns whether some topic is matched by both patterns. Exact for valid topics, of 32 words
    /// and 255 bytes at most.
    ///
    /// Looks for the shortest such topic: up to 32 times each segment against each, some ten
    /// microseconds for short patterns. Allocates nothing.
    ///
    /// ```
    /// use ringmain::topic::Pattern;
    ///
    /// let orders = Pattern::new("orders.#")?;
    /// assert!(orders.overlaps(&Pattern::new("#.created")?));
    /// assert!(!orders.overlaps(&Pattern::new("invoices.#")?));
    /// # Ok::<(), ringmain::topic::TopicError>(())
    /// ```
    pub fn overlaps(&self, other: &Pattern) -> bool {
        self.automaton().overlaps(&other.automaton())
    }

    fn automaton(&self) -> Automaton<'_> {
        Automaton::new(self.segments())
    }

    /// Returns the simplest pattern that matches the same topics: one `#` where several stand
    /// beside each other or among `*`, and behind those. Two patterns match the same topics only if
    /// their normal form is the same.
    ///
    /// Allocates. Never has more words or bytes than this pattern.
    ///
    /// ```
    /// use ringmain::topic::Pattern;
    ///
    /// assert_eq!(Pattern::new("orders.#.*.#")?.normalized(), Pattern::new("orders.*.#")?);
    /// assert_eq!(Pattern::new("#.*")?.normalized(), Pattern::new("#")?);
    /// # Ok::<(), ringmain::topic::TopicError>(())
    /// ```
    #[must_use]
    pub fn normalized(&self) -> Self {
        let text = self.automaton().text();
        if *text == *self.text { self.clone() } else { Self { text: text.into() } }
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
