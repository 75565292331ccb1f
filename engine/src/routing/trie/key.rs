//! Keys: what leads from a node to its children.
//!
//! Matching does little else than find children, and among a million patterns that costs the memory
//! that it touches. So a word of up to 15 bytes stands in its parent, padded with zeros, which no
//! word contains. A longer word stands elsewhere; it is compared only where its hash agrees.

use crate::topic::Segment;
use ahash::{AHasher, RandomState};
use equivalent::Equivalent;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// The most bytes that stand in the key itself.
pub(super) const SHORT: usize = 15;

/// A segment of a pattern, or its end, as a node keeps it.
#[derive(Clone)]
pub(super) enum Key {
    End,
    Hash,
    Star,
    Short([u8; SHORT]),
    /// Behind a thin pointer, so that the short ones set the size.
    Long(u32, Arc<Box<str>>),
}

/// A key that is looked for. The order is that of a node's edges: what is no word comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyRef<'a> {
    /// Leads to the values of a node that has children as well. No segment takes it.
    End,
    Hash,
    Star,
    Short([u8; SHORT]),
    /// The hash of the text, and the text.
    Long(u32, &'a str),
}

/// The hasher of words. Its keys are drawn once a process, so that nobody outside can choose words
/// that collide.
#[derive(Clone, Copy, Default)]
pub(super) struct WordHasher;

static HASH_KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl<'a> KeyRef<'a> {
    /// How many keys there are that are no words.
    pub(super) const SPECIAL: usize = 3;

    #[inline]
    pub(super) fn word(text: &'a str) -> Self {
        if text.len() > SHORT {
            return Self::Long(HASH_KEYS.hash_one(text) as u32, text);
        }
        let mut bytes = [0; SHORT];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self::Short(bytes)
    }

    /// Returns the number of a key that is no word.
    #[inline]
    pub(super) fn special(self) -> Option<usize> {
        match self {
            Self::End => Some(0),
            Self::Hash => Some(1),
            Self::Star => Some(2),
            Self::Short(_) | Self::Long(..) => None,
        }
    }

    pub(super) fn to_key(self) -> Key {
        match self {
            Self::End => Key::End,
            Self::Hash => Key::Hash,
            Self::Star => Key::Star,
            Self::Short(bytes) => Key::Short(bytes),
            Self::Long(hash, text) => Key::Long(hash, Arc::new(text.into())),
        }
    }
}

impl<'a> From<Segment<'a>> for KeyRef<'a> {
    fn from(segment: Segment<'a>) -> Self {
        match segment {
            Segment::Word(text) => Self::word(text),
            Segment::Star => Self::Star,
            Segment::Hash => Self::Hash,
        }
    }
}

impl Key {
    #[inline]
    pub(super) fn as_ref(&self) -> KeyRef<'_> {
        match self {
            Self::End => KeyRef::End,
            Self::Hash => KeyRef::Hash,
            Self::Star => KeyRef::Star,
            Self::Short(bytes) => KeyRef::Short(*bytes),
            Self::Long(hash, text) => KeyRef::Long(*hash, text),
        }
    }

    /// Returns whether it is the key that is looked for. `as_ref` and `==` say the same, but by a
    /// copy, with which a match takes half as long again.
    #[inline]
    pub(super) fn is(&self, key: KeyRef<'_>) -> bool {
        match (self, key) {
            (Self::Short(bytes), KeyRef::Short(wanted)) => *bytes == wanted,
            (Self::Long(hash, text), KeyRef::Long(wanted, wanted_text)) => {
                *hash == wanted && ***text == *wanted_text
            }
            (Self::End, KeyRef::End) | (Self::Hash, KeyRef::Hash) | (Self::Star, KeyRef::Star) => true,
            _ => false,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.as_ref())
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        key.is(*self)
    }
}

impl Hash for KeyRef<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Short(bytes) => state.write(bytes),
            Self::Long(hash, _) => state.write_u32(*hash),
            Self::End | Self::Hash | Self::Star => {}
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl BuildHasher for WordHasher {
    type Hasher = AHasher;

    #[inline]
    fn build_hasher(&self) -> AHasher {
        HASH_KEYS.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_and_hash_alike_if_and_only_if_their_text_is_the_same() {
        let limit = "x".repeat(SHORT);
        let words =
            ["x", "xx", "é", "xé", &limit, &format!("{limit}x"), &format!("{limit}y"), &format!("{limit}xx")];
        for one in words {
            for other in words {
                let (key, wanted) = (KeyRef::word(one).to_key(), KeyRef::word(other));
                assert_eq!(key.is(wanted), one == other, "{one} {other}");
                assert_eq!(key.as_ref() == wanted, one == other, "{one} {other}");
            }
            let key = KeyRef::word(one);
            assert_eq!(WordHasher.hash_one(key), WordHasher.hash_one(key.to_key()), "{one}");
        }
    }

    #[test]
    fn long_words_whose_hashes_collide_are_told_apart() {
        let (one, other) = ("a word that is long", "another long word");
        let key = KeyRef::Long(7, one).to_key();
        assert!(key.is(KeyRef::Long(7, one)));
        assert!(!key.is(KeyRef::Long(7, other)));
    }
}
