//! Words of headers: what tells most keys and values apart by one comparison, and short ones altogether.
//!
//! The word of a key of up to 8 bytes is the key, printable ASCII, filled up with zeros. A longer one has a word that
//! no shorter one has, since its highest bit is set, and that other long keys may have too. The word of a value is its
//! first 8 bytes, filled up with zeros: with its length it is the value, if that is no longer.

/// The word of a long key has this bit.
const LONG: u64 = 1 << 63;
/// The bits that no byte of ASCII has.
const NOT_ASCII: u64 = 0x8080_8080_8080_8080;

/// The word of a key; 0, which is no header's, of what cannot be one.
pub(super) fn word_of_key(key: &str) -> u64 {
    let key = key.as_bytes();
    let word = word_of_value(key);
    match key.last_chunk() {
        Some(last) if key.len() > size_of::<u64>() => {
            (word ^ u64::from_le_bytes(*last).rotate_left(29)) | LONG
        }
        _ if word & NOT_ASCII == 0 => word,
        _ => 0,
    }
}

/// Whether a word alone says which key it is.
#[inline(always)]
pub(super) fn is_whole_key(word: u64) -> bool {
    word & LONG == 0
}

/// The word of a value.
pub(super) fn word_of_value(value: &[u8]) -> u64 {
    match value.first_chunk() {
        Some(first) => u64::from_le_bytes(*first),
        None => value.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A key that is asked for again and again.
#[derive(Clone)]
pub(crate) struct HeaderName {
    pub(super) text: Box<str>,
    pub(super) word: u64,
}

impl HeaderName {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.into(), word: word_of_key(text) }
    }
}

impl std::fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.text.fmt(f)
    }
}

/// A key with a value, which are asked for again and again.
pub(crate) struct HeaderPair {
    pub(super) name: HeaderName,
    pub(super) value: Box<[u8]>,
    pub(super) value_word: u64,
    /// Whether the words and the value's length say all of it.
    pub(super) is_whole: bool,
}

impl HeaderPair {
    pub(crate) fn new(name: HeaderName, value: Vec<u8>) -> Self {
        let is_whole = is_whole_key(name.word) && value.len() <= size_of::<u64>();
        Self { is_whole, value_word: word_of_value(&value), value: value.into(), name }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::message::Headers;
    use std::collections::HashSet;

    #[test]
    fn short_keys_have_words_of_their_own_and_long_ones_none_of_theirs() {
        let short = ["a", "b", "aa", "ab", "region", "regions", "regionss"];
        let long = ["regionsss", "traceparent", "tracestate"];
        let words: HashSet<_> = short.iter().chain(&long).map(|key| word_of_key(key)).collect();
        assert_eq!(words.len(), short.len() + long.len());
        assert!(short.iter().all(|key| word_of_key(key) != 0 && is_whole_key(word_of_key(key))));
        assert!(long.iter().all(|key| !is_whole_key(word_of_key(key))));
    }

    #[test]
    fn headers_are_found_by_words_as_they_are_by_looking_at_all_of_them() {
        // Of long keys and values with the same beginning and end, too, and of values with zeros.
        let keys = ["k", "region", "beginingXlonglong", "beginingYlonglong", "é", ""];
        let values: [&[u8]; 7] = [b"", b"eu", b"eu\0", b"\0", b"12345678", b"12345678a", b"12345678b"];
        for (first, second) in keys.iter().flat_map(|first| keys.map(|second| (*first, second))) {
            for (one, other) in values.iter().flat_map(|one| values.map(|other| (*one, other))) {
                let mut headers = Headers::new();
                // What cannot be a key is only asked for.
                let _ = (headers.insert(first, one), headers.insert(second, other));
                for key in keys {
                    let held = headers.iter().find(|(held, _)| *held == key).map(|(_, value)| value);
                    let name = HeaderName::new(key);
                    assert_eq!(
                        (headers.get(key), headers.find(&name)),
                        (held, held),
                        "{key:?} in {headers:?}"
                    );
                    for value in values {
                        let pair = HeaderPair::new(name.clone(), value.to_vec());
                        assert_eq!(
                            headers.has(&pair),
                            held == Some(value),
                            "{key:?}, {value:?} in {headers:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_a_key_has_the_word_of_none() {
        for key in ["", "é", "regioné", "\u{80}", "aaaaaaü"] {
            assert_eq!(word_of_key(key), 0, "{key:?}");
        }
    }
}
