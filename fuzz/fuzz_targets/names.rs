//! Texts that may be topics or patterns. Parsing never panics; whatever is taken obeys the grammar, as checked here
//! once more in another way, and reads as it was written; whatever is not is refused for a place that exists.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::topic::{MAX_BYTES, MAX_WORDS, Pattern, Topic, TopicError, validate};

fuzz_target!(|text: &str| {
    let is_plain = |character: char| !(character.is_whitespace() || character.is_control());
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| is_plain(c) && c != '*' && c != '#');
    let words: Vec<&str> = text.split('.').collect();
    let fits = text.len() <= MAX_BYTES && words.len() <= MAX_WORDS;

    let topic = Topic::new(text);
    assert_eq!(topic.is_ok(), fits && words.iter().all(|word| is_word(word)));
    assert_eq!(validate(text).err(), topic.as_ref().err().cloned());
    let pattern = Pattern::new(text);
    assert_eq!(pattern.is_ok(), fits && words.iter().all(|word| matches!(*word, "*" | "#") || is_word(word)));

    if let Ok(topic) = &topic {
        assert_eq!(topic.as_str(), text);
        assert!(topic.words().eq(words.iter().copied()));
        assert!(pattern.as_ref().is_ok_and(|pattern| pattern.is_literal() && pattern.matches(topic)));
    }
    if let Ok(pattern) = &pattern {
        assert_eq!(pattern.as_str(), text);
        assert!(pattern.words().eq(words.iter().copied()));
        let normalized = pattern.normalized();
        assert_eq!(Pattern::new(normalized.as_str()).as_ref(), Ok(&normalized));
        assert_eq!(normalized.normalized(), normalized);
        assert!(normalized.as_str().len() <= text.len() && normalized.word_count() <= words.len());
        assert!(pattern.covers(&normalized) && normalized.covers(pattern) && pattern.overlaps(pattern));
    }
    for error in [topic.err(), pattern.err()].into_iter().flatten() {
        is_about(&error, text);
    }
});

/// Whether an error is about this text, and its message a line of bounded length.
fn is_about(error: &TopicError, text: &str) {
    assert!(text.is_char_boundary(error.byte_position()));
    let word = text.split('.').nth(error.word_index() - 1);
    assert!(word.is_some_and(|word| word.starts_with(error.word())));
    let message = error.to_string();
    assert!(message.len() < 600 && !message.contains(char::is_control), "{message:?}");
}
