//! The grammar of topics and patterns, checked in one pass from left to right.

use super::error::{Subject, TopicError, TopicErrorKind, floor_char_boundary};
use super::limits::{MAX_BYTES, MAX_WORDS};

/// Checks that `text` is a topic, without keeping it.
///
/// Allocates nothing unless it fails, and reads at most [`MAX_BYTES`] bytes of it even then.
///
/// # Errors
///
/// [`TopicError`] names the first word that breaks the grammar, and where it stands.
///
/// ```
/// use ringmain::topic::validate;
///
/// assert!(validate("orders.eu.created").is_ok());
/// assert_eq!(validate("orders.e u").unwrap_err().byte_position(), 8);
/// ```
pub fn validate(text: &str) -> Result<(), TopicError> {
    check(text, Subject::Topic)
}

pub(super) fn check(text: &str, subject: Subject) -> Result<(), TopicError> {
    let error = |kind, word: &str, index, at| Err(TopicError::new(subject, kind, word, index, at));
    if text.len() > MAX_BYTES {
        let limit = floor_char_boundary(text, MAX_BYTES);
        let start = text[..limit].rfind('.').map_or(0, |dot| dot + 1);
        // Reads what an error can keep of the word, and a little more to see that there is more.
        let head = &text[start..floor_char_boundary(text, start + MAX_BYTES)];
        let word = head.split('.').next().unwrap_or(head);
        let index = text[..start].matches('.').count();
        return error(TopicErrorKind::TooLong { bytes: text.len() }, word, index, limit);
    }
    if text.is_empty() {
        return error(TopicErrorKind::Empty, text, 0, 0);
    }
    let mut start = 0;
    for (index, word) in text.split('.').enumerate() {
        if index == MAX_WORDS {
            let words = text.split('.').count();
            return error(TopicErrorKind::TooManyWords { words }, word, index, start);
        }
        if let Some((offset, kind)) = fault_of(word, subject) {
            return error(kind, word, index, start + offset);
        }
        start += word.len() + 1;
    }
    Ok(())
}

/// Returns the first fault of a word, and the byte of the word where it lies.
fn fault_of(word: &str, subject: Subject) -> Option<(usize, TopicErrorKind)> {
    if word.is_empty() {
        return Some((0, TopicErrorKind::EmptyWord));
    }
    if subject == Subject::Pattern && matches!(word, "*" | "#") {
        return None;
    }
    word.char_indices().find_map(|(offset, character)| {
        let kind = match character {
            '*' | '#' if subject == Subject::Topic => TopicErrorKind::WildcardInTopic { character },
            '*' | '#' => TopicErrorKind::WildcardInsideWord { character },
            // Before control characters: a tab is both, and better known as white space.
            _ if character.is_whitespace() => TopicErrorKind::WhiteSpace { character },
            _ if character.is_control() => TopicErrorKind::ControlCharacter { character },
            _ => return None,
        };
        Some((offset, kind))
    })
}
