//! Who a message is: which broker, which of its publishers, and the how-manieth of that one's messages.
//!
//! The broker draws its origin at random once, numbers its publishers, and each publisher counts for itself. So an
//! id is unique across processes without any counter that publishers share, and whoever remembers the last id of
//! a publisher sees from the next one how many are missing.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    num::NonZeroU64,
    str::FromStr,
    time::SystemTime,
};

/// A broker's random 64-bit number, never zero: it keeps the ids of one broker apart from those of any other, in this
/// process or another.
///
/// Among a million brokers, two share an origin with a probability of 3 in 100 million. It is no secret: do not take
/// it for a key or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(NonZeroU64);

impl Origin {
    /// Draws one at random, from the keys that the standard library seeds its hash maps with. A forked child inherits
    /// those keys and a restored virtual machine wakes up with the old ones, so the process and the time go in as
    /// well. May make a system call.
    pub fn random() -> Self {
        let number = RandomState::new().hash_one((std::process::id(), SystemTime::now()));
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }

    /// The origin of this number, for ids from elsewhere and for simulations that must repeat; `None` for zero.
    pub const fn from_u64(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// Its sixteen hexadecimal digits, as they stand in a [`MessageId`].
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The number of a publisher within its broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherId(u32);

impl PublisherId {
    /// The publisher of this number.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Its eight hexadecimal digits, as they stand in a [`MessageId`].
impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Which message this is: unique across processes, and in sequence within its publisher.
///
/// As text, and as JSON under the feature `serde`, it is `oooooooooooooooo-pppppppp-ssssssssssssssss`: origin,
/// publisher and sequence in lower-case hexadecimal of fixed width, 42 bytes. Each id has exactly that one text, and
/// texts sort as ids do: by origin, then publisher, then sequence. The order of different publishers means nothing.
///
/// ```
/// use ringmain::message::{MessageId, Origin, PublisherId};
///
/// let origin = Origin::from_u64(0xfeed).expect("not zero");
/// let id = MessageId::new(origin, PublisherId::new(3), 10);
/// assert_eq!(id.to_string(), "000000000000feed-00000003-000000000000000a");
/// assert_eq!("000000000000feed-00000003-000000000000000a".parse(), Ok(id));
///
/// let next_seen = MessageId::new(origin, PublisherId::new(3), 13);
/// assert_eq!(next_seen.missing_since(id), Some(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    origin: Origin,
    publisher: PublisherId,
    sequence: u64,
}

impl MessageId {
    /// How many bytes the text of an id has.
    pub const TEXT_LEN: usize = 42;

    /// Where the dashes stand in the text.
    const DASHES: [usize; 2] = [16, 25];

    /// The id of a publisher's message of this count.
    #[inline]
    pub const fn new(origin: Origin, publisher: PublisherId, sequence: u64) -> Self {
        Self { origin, publisher, sequence }
    }

    /// The broker.
    #[inline]
    pub const fn origin(self) -> Origin {
        self.origin
    }

    /// The publisher within that broker.
    #[inline]
    pub const fn publisher(self) -> PublisherId {
        self.publisher
    }

    /// The publisher's own count of its messages.
    #[inline]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }

    /// How many messages the same publisher published between `earlier` and this one: zero when this is the next.
    /// `None` when they have different publishers, or when `earlier` is not earlier.
    pub fn missing_since(self, earlier: Self) -> Option<u64> {
        if (self.origin, self.publisher) != (earlier.origin, earlier.publisher) {
            return None;
        }
        self.sequence.checked_sub(earlier.sequence)?.checked_sub(1)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:016x}", self.origin, self.publisher, self.sequence)
    }
}

/// The text form, named: what logs show is what [`str::parse`] reads.
impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = ParseMessageIdError;

    /// Reads exactly what Display writes; in particular no upper-case digits, so that equal ids have equal texts.
    /// Does not allocate.
    fn from_str(text: &str) -> Result<Self, ParseMessageIdError> {
        let bytes = text.as_bytes();
        if bytes.len() != Self::TEXT_LEN {
            return Err(ParseMessageIdError::Length { len: bytes.len() });
        }
        let [first, second] = Self::DASHES;
        for position in Self::DASHES {
            if bytes[position] != b'-' {
                return Err(ParseMessageIdError::Dash { position });
            }
        }
        let origin = hexadecimal(bytes, 0, first)?;
        let publisher = hexadecimal(bytes, first + 1, second)? as u32; // eight digits
        let sequence = hexadecimal(bytes, second + 1, Self::TEXT_LEN)?;
        let origin = Origin::from_u64(origin).ok_or(ParseMessageIdError::ZeroOrigin)?;
        Ok(Self::new(origin, PublisherId(publisher), sequence))
    }
}

/// The number that the digits from `start` to `end`, at most sixteen, stand for.
fn hexadecimal(text: &[u8], start: usize, end: usize) -> Result<u64, ParseMessageIdError> {
    (start..end).try_fold(0, |number, position| {
        let digit = match text[position] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(ParseMessageIdError::Digit { position }),
        };
        Ok(number << 4 | u64::from(digit))
    })
}

/// A text is not a [`MessageId`]. Positions are in bytes, from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseMessageIdError {
    /// It is too long or too short.
    #[error(
        "a message id has 42 bytes, `<16 digits>-<8 digits>-<16 digits>` in hexadecimal, and this has {len}"
    )]
    Length {
        /// How many bytes it has.
        len: usize,
    },
    /// A dash is missing.
    #[error("a message id has a dash at byte {position}, and this has none there")]
    Dash {
        /// Where it should stand.
        position: usize,
    },
    /// Something else stands where a digit should.
    #[error(
        "a message id has a digit `0` to `9` or `a` to `f` (lower case) at byte {position}, and this has none there"
    )]
    Digit {
        /// Where it should stand.
        position: usize,
    },
    /// The origin is zero, which no broker has.
    #[error(
        "the first sixteen digits of a message id, its origin, are not all zero: this id comes from no broker"
    )]
    ZeroOrigin,
}

#[cfg(feature = "serde")]
mod form {
    //! The text form for serde, in every format.

    use super::MessageId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use std::fmt;

    impl Serialize for MessageId {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for MessageId {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_str(Text)
        }
    }

    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = MessageId;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a message id as text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<MessageId, E> {
            text.parse().map_err(E::custom)
        }
    }
}
