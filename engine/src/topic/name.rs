//! Topics: what a message is about.

use super::error::TopicError;
use super::grammar::validate;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a message is about, such as `orders.eu.created`.
///
/// A clone shares the text and costs one reference count. Ordering, equality and hash are those of
/// the text, so that a map keyed by `Topic` can be searched with a `&str`.
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
    pub(super) text: Arc<str>,
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

    /// Returns the text as it was given.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the words from left to right; never empty.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.text.split('.')
    }

    /// Counts the words, 1 to [`MAX_WORDS`](super::MAX_WORDS).
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
