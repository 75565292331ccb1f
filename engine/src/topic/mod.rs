//! Topics and patterns: their grammar, their limits, and matching one against one.
//!
//! A *topic* says what a message is about: 1 to [`MAX_WORDS`] words joined by `.`, at most [`MAX_BYTES`] bytes of
//! UTF-8, compared byte by byte. Case matters and nothing is normalised: two spellings of one accented letter are two
//! words. A word may hold any character but `.`, `*`, `#`, Unicode white space and control characters.
//!
//! A *pattern* says which topics are wanted. It is written like a topic, and two words are special in it: `*` stands
//! for exactly one word, `#` for zero or more. Both may stand anywhere and more than once, each as a word of its own.
//! This is the grammar of AMQP 0-9-1's topic exchange.
//!
//! | pattern | matches | does not match |
//! |---|---|---|
//! | `orders.*.created` | `orders.eu.created` | `orders.created`, `orders.eu.de.created` |
//! | `orders.#` | `orders`, `orders.eu`, `orders.eu.created` | `order`, `eu.orders` |
//! | `#.created` | `created`, `orders.eu.created` | `orders.created.late` |
//! | `#` | every topic | |
//!
//! Both types are checked once, when they are made, and cheap to clone. Matching many patterns at once is the
//! [routing trie](crate::routing::Trie)'s work.
//!
//! ```
//! use ringmain::topic::{Pattern, Topic};
//!
//! let pattern = Pattern::new("orders.*.created")?;
//! assert!(pattern.matches(&Topic::new("orders.eu.created")?));
//! assert!(!pattern.matches(&Topic::new("orders.created")?));
//! # Ok::<(), ringmain::topic::TopicError>(())
//! ```

#![forbid(unsafe_code)]

mod automaton;
mod error;
mod grammar;
mod pattern;

pub use error::{Subject, TopicError, TopicErrorKind};
pub use grammar::validate;
pub use pattern::{Pattern, Segment};

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The most words a topic or a pattern may have.
pub const MAX_WORDS: usize = 32;

/// The most bytes of UTF-8 a topic or a pattern may have, its dots included.
pub const MAX_BYTES: usize = 255;

/// What a message is about, such as `orders.eu.created`.
///
/// A clone shares the text and costs one reference count. Ordering, equality and hash are those of the text, so that
/// a map keyed by `Topic` can be searched with a `&str`.
///
/// ```
/// use ringmain::topic::Topic;
///
/// let topic: Topic = "orders.eu.created".parse()?;
/// assert_eq!(topic.word_count(), 3);
/// assert_eq!(topic.words().last(), Some("created"));
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    text: Arc<str>,
}

impl Topic {
    /// Checks `text` and keeps a copy of it: one allocation. [`validate`] checks without keeping.
    ///
    /// # Errors
    ///
    /// [`TopicError`] names the first word that breaks the grammar, and where it stands.
    ///
    /// ```
    /// use ringmain::topic::Topic;
    ///
    /// let error = Topic::new("orders..created").unwrap_err();
    /// assert_eq!((error.word_index(), error.byte_position()), (2, 7));
    /// ```
    pub fn new(text: &str) -> Result<Self, TopicError> {
        validate(text)?;
        Ok(Self { text: text.into() })
    }

    /// The text as it was given.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The words from left to right; never empty.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.text.split('.')
    }

    /// How many words there are, 1 to [`MAX_WORDS`]. Counts them.
    pub fn word_count(&self) -> usize {
        self.words().count()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Topic {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        Self::new(text)
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}
