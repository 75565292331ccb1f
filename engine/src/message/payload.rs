//! The bytes of a message, and how they come into a slot.
//!
//! A [`Payload`] lives in a slot of a ring and is filled over and over. Up to [`Payload::INLINE`] bytes lie in the
//! slot itself; more lie in one heap buffer that stays with the slot, so that a steady stream of messages allocates
//! nothing. Two rules bound the memory:
//!
//! * no buffer is ever larger than [`Payload::MAX_LEN`];
//! * a buffer larger than [`Payload::MAX_RETAINED`] is kept only while its content needs it: the next content that
//!   fits in [`Payload::MAX_RETAINED`] gives it up. One large message in a slot's past costs nothing for ever.
//!
//! Both hold for every value of the type, however it was made.

use super::wipe::wipe;
use smallvec::SmallVec;
use std::{fmt, io, ops::Deref};

/// The bytes of a message: inline when at most 64, else in a buffer that is used again, at most 64 KiB.
///
/// The whole is 72 bytes, so that with a stamp and an id it fits in two cache lines. It reads as a `[u8]`.
/// Debug output tells the length and nothing else.
///
/// ```
/// use ringmain::message::Payload;
///
/// let mut payload = Payload::try_from("a first order")?;
/// payload.set(b"a second one")?; // the same storage
/// assert_eq!(payload.as_str(), Some("a second one"));
/// assert_eq!(format!("{payload:?}"), "Payload(12 bytes)");
/// # Ok::<(), ringmain::message::PayloadTooLarge>(())
/// ```
#[derive(Default)]
pub struct Payload {
    bytes: SmallVec<[u8; Payload::INLINE]>,
}

// The envelope's two cache lines count on it.
const _: () = assert!(size_of::<Payload>() == 72);

impl Payload {
    /// The most bytes that lie inside the value itself, without a heap buffer.
    pub const INLINE: usize = 64;

    /// The most bytes a payload holds.
    pub const MAX_LEN: usize = 65_536;

    /// The largest heap buffer kept for content that does not need it.
    pub const MAX_RETAINED: usize = 4_096;

    /// A payload with a copy of `content`.
    ///
    /// Allocates once when `content` is longer than [`Payload::INLINE`].
    ///
    /// # Errors
    ///
    /// [`PayloadTooLarge`] past [`Payload::MAX_LEN`] bytes.
    pub fn new(content: &[u8]) -> Result<Self, PayloadTooLarge> {
        check_len(content.len())?;
        let mut payload = Self::default();
        payload.replace(content);
        Ok(payload)
    }

    /// Replaces the content with a copy of `content`, in the storage already there.
    ///
    /// A straight copy when both are inline. Otherwise it allocates only when `content` fits neither inline nor in the
    /// buffer retained, and frees only when the buffer grows or when one above [`Payload::MAX_RETAINED`] is given up.
    /// Buffers grow by powers of two, so that lengths that vary settle soon.
    ///
    /// # Errors
    ///
    /// [`PayloadTooLarge`] past [`Payload::MAX_LEN`] bytes; the old content stays.
    #[inline]
    pub fn set(&mut self, content: &[u8]) -> Result<(), PayloadTooLarge> {
        if content.len() <= Self::INLINE && !self.bytes.spilled() {
            self.replace_inline(content);
            return Ok(());
        }
        check_len(content.len())?;
        self.replace(content);
        Ok(())
    }

    /// Empties the payload. A buffer of up to [`Payload::MAX_RETAINED`] bytes is kept, a larger one freed.
    #[inline]
    pub fn clear(&mut self) {
        self.give_up_buffer_beyond_need_of(0);
        self.bytes.clear();
    }

    /// Empties the payload as [`clear`](Self::clear) does, and overwrites the content with zeros.
    ///
    /// What content has left elsewhere is out of reach: in buffers that it has outgrown while it was written, and in
    /// copies. Give such content with its whole length at once.
    ///
    /// ```
    /// use ringmain::message::Payload;
    ///
    /// let mut payload = Payload::new(b"a password")?;
    /// payload.wipe();
    /// assert!(payload.is_empty());
    /// # Ok::<(), ringmain::message::PayloadTooLarge>(())
    /// ```
    pub fn wipe(&mut self) {
        let mut content = std::mem::take(&mut self.bytes);
        wipe(&mut content);
        content.clear();
        // Beside a buffer, what lay inline before may still lie there.
        self.bytes = SmallVec::from([0; Self::INLINE]);
        wipe(&mut self.bytes);
        self.bytes.clear();
        if content.spilled() && content.capacity() <= Self::MAX_RETAINED {
            self.bytes = content;
        }
    }

    /// Appends a copy of `more`. Allocates when the sum fits neither inline nor in the buffer retained.
    ///
    /// # Errors
    ///
    /// [`PayloadTooLarge`] when the sum would pass [`Payload::MAX_LEN`] bytes; nothing has been appended then.
    pub fn extend_from_slice(&mut self, more: &[u8]) -> Result<(), PayloadTooLarge> {
        check_len(self.len().saturating_add(more.len()))?;
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// The content.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The content as text, if it is UTF-8. Looks at every byte.
    pub fn as_str(&self) -> Option<&str> {
        str::from_utf8(&self.bytes).ok()
    }

    /// How many bytes the content has.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the content has no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes of heap the payload holds now: zero while inline, else the size of its buffer. It is what the
    /// payload counts against a budget of bytes, beside its own 72.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        if self.bytes.spilled() { self.bytes.capacity() } else { 0 }
    }

    /// [`Payload::set`] of content that fits inline, into a payload that is. One copy: a new `SmallVec` in place of
    /// the old would be built on the stack and copied from there.
    #[inline(always)]
    fn replace_inline(&mut self, content: &[u8]) {
        // Most often a slot is written again with as many bytes as before: then there is nothing but the copy, which
        // for a length known at compile time is a handful of vector moves.
        if self.bytes.len() == content.len() {
            self.bytes.copy_from_slice(content);
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(content);
        }
    }

    /// [`Payload::set`] of content whose length was checked.
    fn replace(&mut self, content: &[u8]) {
        self.give_up_buffer_beyond_need_of(content.len());
        self.bytes.clear();
        self.bytes.extend_from_slice(content);
    }

    /// Frees a buffer too large to be kept for content of `len` bytes, and the content with it.
    fn give_up_buffer_beyond_need_of(&mut self, len: usize) {
        if len <= Self::MAX_RETAINED && self.heap_bytes() > Self::MAX_RETAINED {
            self.bytes = SmallVec::new();
        }
    }
}

pub(super) fn check_len(len: usize) -> Result<(), PayloadTooLarge> {
    if len <= Payload::MAX_LEN { Ok(()) } else { Err(PayloadTooLarge { len, limit: Payload::MAX_LEN }) }
}

impl Clone for Payload {
    /// A copy. Allocates once when the content is longer than [`Payload::INLINE`].
    fn clone(&self) -> Self {
        Self { bytes: SmallVec::from_slice(&self.bytes) }
    }

    /// Copies the content into the storage already there: what [`Payload::set`] costs.
    #[inline]
    fn clone_from(&mut self, source: &Self) {
        // The source is a payload, hence within the limit.
        if source.len() <= Self::INLINE && !self.bytes.spilled() {
            self.replace_inline(source);
        } else {
            self.replace(source);
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Payload {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// Appends. What does not fit whole is refused whole, by an error of kind [`io::ErrorKind::StorageFull`] that carries
/// the [`PayloadTooLarge`]; what earlier calls wrote stays. Never blocks; [`io::Write::flush`] has nothing to do.
///
/// ```
/// use ringmain::message::Payload;
/// use std::io::Write;
///
/// let mut payload = Payload::default();
/// write!(payload, "{} at {}", 100, 9.75)?;
/// assert_eq!(payload.as_slice(), b"100 at 9.75");
/// # Ok::<(), std::io::Error>(())
/// ```
impl io::Write for Payload {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(more).map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))?;
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TryFrom<&[u8]> for Payload {
    type Error = PayloadTooLarge;

    /// [`Payload::new`].
    fn try_from(content: &[u8]) -> Result<Self, PayloadTooLarge> {
        Self::new(content)
    }
}

impl TryFrom<&str> for Payload {
    type Error = PayloadTooLarge;

    /// [`Payload::new`] of the text's bytes.
    fn try_from(content: &str) -> Result<Self, PayloadTooLarge> {
        Self::new(content.as_bytes())
    }
}

impl TryFrom<Vec<u8>> for Payload {
    type Error = PayloadTooLarge;

    /// Takes the vector's buffer over when a payload may have such a one; else copies: content that fits inline,
    /// and content in a buffer larger than this type's limits allow.
    fn try_from(content: Vec<u8>) -> Result<Self, PayloadTooLarge> {
        check_len(content.len())?;
        let largest = if content.len() <= Self::MAX_RETAINED { Self::MAX_RETAINED } else { Self::MAX_LEN };
        if content.len() <= Self::INLINE || content.capacity() > largest {
            return Self::new(&content);
        }
        Ok(Self { bytes: SmallVec::from_vec(content) })
    }
}

/// A payload would have more bytes than one may have. Carries lengths, never content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the payload has {len} bytes and the limit is {limit}: split it, or publish a reference to where it is stored"
)]
pub struct PayloadTooLarge {
    /// How many bytes it would have.
    pub len: usize,
    /// How many it may have.
    pub limit: usize,
}

/// The payload type of a broker: whatever is `Clone`, `Default`, `Send` and `Sync` and borrows
/// nothing. It is a name for these bounds, and cannot be implemented by hand.
///
/// `Default` fills the ring's slots before anything is published, and `Clone` makes the copies
/// where a message goes into several rings. Either may run on any thread.
///
/// What is made by `Default` passes the stack of the thread that builds the broker once, and in a build without
/// optimisation some three times. So a type of up to 768 KiB does for a stack of 2 MiB, 512 KiB without optimisation.
/// Put what is larger into a `Box` or a `Vec`, and publish what is large by writing it in place
/// (`publish_in_place`).
///
/// ```
/// use ringmain::broker::Broker;
/// use ringmain::message::MessagePayload;
///
/// fn idle<P: MessagePayload>(broker: &Broker<P>) -> bool {
///     broker.subscriptions().is_empty()
/// }
///
/// #[derive(Clone, Default)]
/// struct Quote { price: f64 }
///
/// assert!(idle(&Broker::of::<Quote>().build()?));
/// # Ok::<(), ringmain::broker::BrokerBuildError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the payload of a broker",
    note = "a payload is `Clone`, `Default`, `Send`, `Sync` and `'static`"
)]
pub trait MessagePayload: Clone + Default + Send + Sync + 'static {}

impl<P: Clone + Default + Send + Sync + 'static> MessagePayload for P {}
