//! Errors in the text of a topic or a pattern: what is wrong, where, and what to do about it.

use super::limits::{MAX_BYTES, MAX_WORDS};
use std::fmt;

/// Bytes of an offending word that an error keeps. The text may be anything, of any length: an
/// error that repeated all of it would flood the log.
const EXCERPT_BYTES: usize = 40;

/// Why a text is not a topic, or not a pattern.
///
/// It names the first word that breaks the grammar, that word's number, the byte where the fault
/// lies, what is wrong and what to do. Its message is one line of printable characters and of
/// bounded length, whatever the text was.
///
/// ```
/// use ringmain::topic::{Topic, TopicErrorKind};
///
/// let error = Topic::new("orders.*.created").unwrap_err();
/// assert_eq!(error.kind(), TopicErrorKind::WildcardInTopic { character: '*' });
/// assert_eq!(error.word(), "*");
/// assert_eq!(
///     error.to_string(),
///     r#"topic word 2 "*" (byte 7): '*' is a wildcard and belongs in patterns only; publish to a topic without it"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TopicError {
    subject: Subject,
    kind: TopicErrorKind,
    word: Box<str>,
    word_is_cut: bool,
    word_index: usize,
    byte_position: usize,
}

/// What a text was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A [`Topic`](super::Topic), which has no wildcards.
    Topic,
    /// A [`Pattern`](super::Pattern).
    Pattern,
}

/// The rule that a text breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopicErrorKind {
    /// The whole text is empty.
    Empty,
    /// A word is empty: a dot at the start, at the end, or beside another.
    EmptyWord,
    /// The text has more than [`MAX_BYTES`] bytes. This is checked before all else, so a huge text
    /// is not read.
    TooLong {
        /// The length of the text.
        bytes: usize,
    },
    /// The text has more than [`MAX_WORDS`] words, and the first [`MAX_WORDS`] are in order.
    TooManyWords {
        /// How many words the text has.
        words: usize,
    },
    /// A word contains Unicode white space, which includes tabs and line breaks.
    WhiteSpace {
        /// The first such character.
        character: char,
    },
    /// A word contains a control character.
    ControlCharacter {
        /// The first such character.
        character: char,
    },
    /// A topic contains `*` or `#`.
    WildcardInTopic {
        /// Which of the two.
        character: char,
    },
    /// A word of a pattern contains `*` or `#` among other characters.
    WildcardInsideWord {
        /// Which of the two.
        character: char,
    },
}

impl TopicError {
    /// Creates the error of a text whose word number `index`, counted from 0, breaks the grammar.
    pub(super) fn new(
        subject: Subject,
        kind: TopicErrorKind,
        word: &str,
        index: usize,
        byte_position: usize,
    ) -> Self {
        let kept = &word[..floor_char_boundary(word, EXCERPT_BYTES)];
        let word_is_cut = kept.len() < word.len();
        Self { subject, kind, word: kept.into(), word_is_cut, word_index: index + 1, byte_position }
    }

    /// Returns whether a topic or a pattern was asked for.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Returns the rule that the text breaks.
    pub fn kind(&self) -> TopicErrorKind {
        self.kind
    }

    /// Returns the offending word, or its beginning if it is longer than 40 bytes. It may hold
    /// control characters; the error's own message escapes them.
    ///
    /// Of a text that is [too long](TopicErrorKind::TooLong) it is the word that crosses the limit,
    /// of one with [too many words](TopicErrorKind::TooManyWords) the first beyond the limit.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// Returns the number of the word, counted from 1.
    pub fn word_index(&self) -> usize {
        self.word_index
    }

    /// Returns where the fault lies in the text, in bytes counted from 0: the offending character,
    /// or where the word that is missing or beyond a limit should begin or end. Always a character
    /// boundary of the text.
    pub fn byte_position(&self) -> usize {
        self.byte_position
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.word_is_cut { "..." } else { "" };
        write!(
            f,
            "{} word {} {:?}{cut} (byte {}): {}",
            self.subject, self.word_index, self.word, self.byte_position, self.kind
        )?;
        if &*self.word == "**" && self.subject == Subject::Pattern {
            f.write_str("; for any number of words write '#'")?;
        }
        Ok(())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Topic => "topic",
            Self::Pattern => "pattern",
        })
    }
}

impl fmt::Display for TopicErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = |character: char| format!("U+{:04X}", u32::from(character));
        match *self {
            Self::Empty => write!(f, "the text is empty; give at least one word"),
            Self::EmptyWord => write!(f, "the word is empty; remove a '.', or put a word beside it"),
            Self::TooLong { bytes } => {
                write!(f, "the text has {bytes} bytes and the limit is {MAX_BYTES}; shorten it")
            }
            Self::TooManyWords { words } => {
                write!(f, "the text has {words} words and the limit is {MAX_WORDS}; join or drop some")
            }
            Self::WhiteSpace { character } => {
                let code = code(character);
                write!(f, "white space ({code}) cannot stand in a word; remove it, or write '_' or '-'")
            }
            Self::ControlCharacter { character } => {
                write!(f, "the control character {} cannot stand in a word; remove it", code(character))
            }
            Self::WildcardInTopic { character } => write!(
                f,
                "{character:?} is a wildcard and belongs in patterns only; publish to a topic without it"
            ),
            Self::WildcardInsideWord { character } => {
                write!(f, "{character:?} must be a word of its own; separate it with '.', or remove it")
            }
        }
    }
}

/// Returns the last character boundary of `text` that is not beyond `limit`.
pub(super) fn floor_char_boundary(text: &str, limit: usize) -> usize {
    if limit >= text.len() {
        return text.len();
    }
    (0..=limit).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
