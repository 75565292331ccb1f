//! The headers of a message: what travels beside the payload for those who filter, trace and convert.
//!
//! All keys lie in one text and all values in one run of bytes, each entry knowing where its own lie: three buffers in
//! all, whatever the number of headers, and none until there is a header. With so few entries a search from the front
//! is quicker than any index; an entry has the [words](super::header_word) of its key and its value, so that most are
//! told apart by one comparison. The entries are always packed and in order, so equal headers have equal buffers.

use super::header_word::{HeaderName, HeaderPair, is_whole_key, word_of_key, word_of_value};
use super::wipe::wipe;
use std::{fmt, iter::FusedIterator};

/// The key of the W3C trace context: `00-<trace id>-<parent id>-<flags>`, see <https://www.w3.org/TR/trace-context/>.
pub const TRACEPARENT: &str = "traceparent";

/// A short ordered list of keys and values, within limits that hold at all times.
///
/// A key has 1 to [`Headers::MAX_KEY_LEN`] bytes, each a printable ASCII character other than a space (`!` to `~`);
/// keys are case-sensitive and each occurs once. A value is any bytes up to [`Headers::MAX_VALUE_LEN`], none
/// included. There are at most [`Headers::MAX_COUNT`], with [`Headers::MAX_TOTAL_BYTES`] of keys and values together.
///
/// Order is that of first insertion, and equality regards it. An empty list owns no heap; emptying one keeps its
/// buffers, and `clone_from` copies into those already there. Debug output shows keys and the lengths of values.
///
/// ```
/// use ringmain::message::{Headers, TRACEPARENT};
///
/// let mut headers = Headers::new();
/// headers.insert(TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")?;
/// headers.insert("digest", [0xff, 0x00])?;
/// assert_eq!(headers.get("digest"), Some(&[0xff, 0x00][..]));
/// assert_eq!(headers.get_str("digest"), None); // not UTF-8
/// assert_eq!(format!("{headers:?}"), r#"{"traceparent": 55 bytes, "digest": 2 bytes}"#);
/// # Ok::<(), ringmain::message::HeaderError>(())
/// ```
#[derive(Default, PartialEq, Eq)]
pub struct Headers {
    keys: String,
    values: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where an entry's key and value lie, and their words.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    key_word: u64,
    value_word: u64,
    key: Span,
    value: Span,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Span {
    start: u16,
    len: u16,
}

impl Span {
    fn new(start: usize, len: usize) -> Self {
        Self { start: start as u16, len: len as u16 }
    }

    #[inline(always)]
    fn range(self) -> std::ops::Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.len)
    }
}

// Every end fits its type.
const _: () = assert!(Headers::MAX_TOTAL_BYTES <= u16::MAX as usize);

impl Headers {
    /// The most headers of one message.
    pub const MAX_COUNT: usize = 64;

    /// The most bytes of a key.
    pub const MAX_KEY_LEN: usize = 64;

    /// The most bytes of a value.
    pub const MAX_VALUE_LEN: usize = 4_096;

    /// The most bytes of all keys and values together.
    pub const MAX_TOTAL_BYTES: usize = 16_384;

    /// No headers. Does not allocate.
    pub const fn new() -> Self {
        Self { keys: String::new(), values: Vec::new(), entries: Vec::new() }
    }

    /// Sets the header `key` to a copy of `value`: at its old place if it is there, else at the end.
    ///
    /// Allocates when a buffer is too small.
    ///
    /// # Errors
    ///
    /// A [`HeaderError`] for each limit, with what was asked and what is allowed; the headers are as before then.
    pub fn insert(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), HeaderError> {
        self.insert_bytes(key, value.as_ref())
    }

    fn insert_bytes(&mut self, key: &str, value: &[u8]) -> Result<(), HeaderError> {
        check_key(key)?;
        if value.len() > Self::MAX_VALUE_LEN {
            return Err(HeaderError::ValueTooLong {
                key: excerpt(key),
                len: value.len(),
                limit: Self::MAX_VALUE_LEN,
            });
        }
        let place = self.position(key);
        let (freed, added) = match place {
            Some(index) => (self.value(index).len(), value.len()),
            None => (0, key.len() + value.len()),
        };
        if place.is_none() && self.len() == Self::MAX_COUNT {
            return Err(HeaderError::TooMany {
                key: excerpt(key),
                count: self.len() + 1,
                limit: Self::MAX_COUNT,
            });
        }
        let total = self.total_bytes() - freed + added;
        if total > Self::MAX_TOTAL_BYTES {
            return Err(HeaderError::TotalTooLarge {
                key: excerpt(key),
                total,
                limit: Self::MAX_TOTAL_BYTES,
            });
        }
        match place {
            Some(index) => self.replace_value(index, value),
            None => {
                self.entries.push(Entry {
                    key_word: word_of_key(key),
                    value_word: word_of_value(value),
                    key: Span::new(self.keys.len(), key.len()),
                    value: Span::new(self.values.len(), value.len()),
                });
                self.keys.push_str(key);
                self.values.extend_from_slice(value);
            }
        }
        Ok(())
    }

    /// The value of the header `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let word = word_of_key(key);
        self.value_at(if is_whole_key(word) { self.of_short(word) } else { self.of_long(key, word) })
    }

    /// The value of the header of that name.
    #[inline(always)]
    pub(crate) fn find(&self, name: &HeaderName) -> Option<&[u8]> {
        let word = name.word;
        self.value_at(if is_whole_key(word) { self.of_short(word) } else { self.of_long(&name.text, word) })
    }

    /// Whether there is this header with this value.
    #[inline(always)]
    pub(crate) fn has(&self, pair: &HeaderPair) -> bool {
        if !pair.is_whole {
            return self.has_long(pair);
        }
        let (key, value, len) = (pair.name.word, pair.value_word, pair.value.len());
        self.of_short(key)
            .is_some_and(|entry| entry.value_word == value && usize::from(entry.value.len) == len)
    }

    /// A call of its own, so that [`has`](Self::has) needs none.
    #[inline(never)]
    fn has_long(&self, pair: &HeaderPair) -> bool {
        self.find(&pair.name).is_some_and(|value| *value == *pair.value)
    }

    /// The entry of a key that its word says.
    #[inline(always)]
    fn of_short(&self, word: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key_word == word)
    }

    /// The entry of a key that its word leaves open.
    #[inline(never)]
    fn of_long(&self, key: &str, word: u64) -> Option<&Entry> {
        let keys = self.keys.as_bytes();
        self.entries
            .iter()
            .find(|entry| entry.key_word == word && keys.get(entry.key.range()) == Some(key.as_bytes()))
    }

    #[inline(always)]
    fn value_at(&self, entry: Option<&Entry>) -> Option<&[u8]> {
        self.values.get(entry?.value.range())
    }

    /// The value of the header `key` as text; `None` as well when it is not UTF-8.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        str::from_utf8(self.get(key)?).ok()
    }

    /// Whether there is a header `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Takes the header `key` out, the others keeping their order; false if there was none. Frees nothing.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some(index) = self.position(key) else { return false };
        self.replace_value(index, &[]);
        let Entry { key, .. } = self.entries.remove(index);
        self.keys.drain(key.range());
        for later in &mut self.entries[index..] {
            later.key.start -= key.len;
        }
        true
    }

    /// Takes all headers out, keeping the buffers.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.entries.clear();
    }

    /// Takes all headers out as [`clear`](Self::clear) does, and fills the buffers with zeros.
    pub(super) fn wipe(&mut self) {
        let mut keys = std::mem::take(&mut self.keys).into_bytes();
        wipe(&mut keys);
        wipe(&mut self.values);
        wipe(&mut self.entries);
        // Zeros are text.
        self.keys = String::from_utf8(keys).unwrap_or_default();
        self.clear();
    }

    /// The headers in order, each as (key, value).
    pub fn iter(&self) -> Iter<'_> {
        Iter { headers: self, indices: 0..self.len() }
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes all keys and values have together: what counts against [`Headers::MAX_TOTAL_BYTES`].
    pub fn total_bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    fn position(&self, key: &str) -> Option<usize> {
        (0..self.len()).find(|&index| self.key(index) == key)
    }

    fn key(&self, index: usize) -> &str {
        &self.keys[self.entries[index].key.range()]
    }

    fn value(&self, index: usize) -> &[u8] {
        &self.values[self.entries[index].value.range()]
    }

    /// Puts `value` in the place of an entry's, whose new length was checked.
    fn replace_value(&mut self, index: usize, value: &[u8]) {
        let entry = &mut self.entries[index];
        let old = entry.value;
        entry.value_word = word_of_value(value);
        entry.value = Span::new(old.range().start, value.len());
        self.values.splice(old.range(), value.iter().copied());
        for later in &mut self.entries[index + 1..] {
            later.value.start = (usize::from(later.value.start - old.len) + value.len()) as u16;
        }
    }
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), values: self.values.clone(), entries: self.entries.clone() }
    }

    /// Copies into the buffers already there; allocates only when one is too small.
    fn clone_from(&mut self, source: &Self) {
        self.keys.clone_from(&source.keys);
        self.values.clone_from(&source.values);
        self.entries.clone_from(&source.entries);
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, Length(value.len())))).finish()
    }
}

struct Length(usize);

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The headers of a message in order: what [`Headers::iter`] returns.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    headers: &'a Headers,
    indices: std::ops::Range<usize>,
}

impl<'a> Iter<'a> {
    fn entry(&self, index: usize) -> (&'a str, &'a [u8]) {
        (self.headers.key(index), self.headers.value(index))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.indices.next().map(|index| self.entry(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indices.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.indices.next_back().map(|index| self.entry(index))
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

pub(super) fn check_key(key: &str) -> Result<(), HeaderError> {
    if key.is_empty() {
        return Err(HeaderError::EmptyKey);
    }
    if key.len() > Headers::MAX_KEY_LEN {
        return Err(HeaderError::KeyTooLong {
            key: excerpt(key),
            len: key.len(),
            limit: Headers::MAX_KEY_LEN,
        });
    }
    match key.bytes().position(|byte| !byte.is_ascii_graphic()) {
        Some(position) => Err(HeaderError::KeyNotPrintable { key: excerpt(key), position }),
        None => Ok(()),
    }
}

/// How many characters of a key an error shows.
const EXCERPT_CHARS: usize = 64;

/// As much of a key as an error shows; the rest is an ellipsis.
fn excerpt(key: &str) -> Box<str> {
    match key.char_indices().nth(EXCERPT_CHARS) {
        None => key.into(),
        Some((end, _)) => format!("{}…", &key[..end]).into(),
    }
}

/// A header is not allowed. `key` is the key as it was asked for, cut after 64 characters; no error carries a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The key is empty.
    #[error("a header key has 0 bytes, and needs 1 to 64: name the header")]
    EmptyKey,
    /// The key is too long.
    #[error("the header key {key:?} has {len} bytes and the limit is {limit}: shorten it")]
    KeyTooLong {
        /// The key.
        key: Box<str>,
        /// How many bytes it has.
        len: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The key has a character other than printable ASCII, or a space.
    #[error(
        "the header key {key:?} has at byte {position} what is no printable ASCII character: use only `!` to `~`"
    )]
    KeyNotPrintable {
        /// The key.
        key: Box<str>,
        /// Where the character begins, in bytes from zero.
        position: usize,
    },
    /// The value is too long.
    #[error("the value of header {key:?} has {len} bytes and the limit is {limit}: put it into the payload")]
    ValueTooLong {
        /// The key.
        key: Box<str>,
        /// How many bytes the value has.
        len: usize,
        /// How many it may have.
        limit: usize,
    },
    /// There would be too many headers.
    #[error(
        "with header {key:?} there would be {count} headers and the limit is {limit}: remove one or join some"
    )]
    TooMany {
        /// The key that was one too many.
        key: Box<str>,
        /// How many headers there would be.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// All keys and values together would be too large.
    #[error(
        "with header {key:?} all keys and values would have {total} bytes and the limit is {limit}: \
         remove a header or put a value into the payload"
    )]
    TotalTooLarge {
        /// The key that was too much.
        key: Box<str>,
        /// How many bytes there would be.
        total: usize,
        /// How many there may be.
        limit: usize,
    },
}
