//! How payloads become bytes, and bytes payloads again.

use super::super::attempt::error_text;
use crate::message::{MessagePayload, Payload};
use crate::sync::panics::guard;
use std::fmt;
use std::sync::Arc;

type Encode<P> = dyn Fn(&P) -> Result<Payload, Box<str>> + Send + Sync;
type Decode<P> = dyn Fn(&[u8]) -> Result<P, Box<str>> + Send + Sync;

/// How payloads of a type become bytes, and bytes payloads again.
///
/// Both are called on threads on which they hold nobody up. An error or a panic costs the one letter: what cannot be
/// encoded stays in memory alone, and is counted; what cannot be decoded stays in its file, and is named.
///
/// ```
/// use ringmain::broker::dead_letters::durable::Codec;
/// use std::num::ParseIntError;
///
/// let numbers = Codec::new(
///     |number: &u64| Ok::<_, ParseIntError>(number.to_string().into_bytes()),
///     |bytes| String::from_utf8_lossy(bytes).parse::<u64>(),
/// );
/// # let _ = numbers;
/// ```
pub struct Codec<P> {
    encode: Arc<Encode<P>>,
    decode: Arc<Decode<P>>,
}

impl<P: MessagePayload> Codec<P> {
    /// A codec of two functions. The bytes of a payload are at most
    /// [`Payload::MAX_LEN`].
    pub fn new<E: fmt::Display, D: fmt::Display>(
        encode: impl Fn(&P) -> Result<Vec<u8>, E> + Send + Sync + 'static,
        decode: impl Fn(&[u8]) -> Result<P, D> + Send + Sync + 'static,
    ) -> Self {
        let encode = move |payload: &P| {
            let bytes = encode(payload).map_err(|error| error_text(&error))?;
            Payload::try_from(bytes).map_err(|error| error.to_string().into_boxed_str())
        };
        let decode = move |bytes: &[u8]| decode(bytes).map_err(|error| error_text(&error));
        Self { encode: Arc::new(encode), decode: Arc::new(decode) }
    }

    /// Makes bytes of a payload. Runs foreign code, whose panic is an error.
    pub(super) fn encode(&self, payload: &P) -> Result<Payload, Box<str>> {
        guard(|| (self.encode)(payload)).unwrap_or_else(|| Err("the codec has panicked".into()))
    }

    /// Makes a payload of bytes. Runs foreign code, whose panic is an error.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<P, Box<str>> {
        guard(|| (self.decode)(bytes)).unwrap_or_else(|| Err("the codec has panicked".into()))
    }
}

impl Codec<Payload> {
    /// Bytes as they are.
    pub fn bytes() -> Self {
        let encode = |payload: &Payload| Ok(payload.clone());
        let decode = |bytes: &[u8]| Payload::new(bytes).map_err(|error| error.to_string().into_boxed_str());
        Self { encode: Arc::new(encode), decode: Arc::new(decode) }
    }
}

impl<P> Clone for Codec<P> {
    fn clone(&self) -> Self {
        Self { encode: self.encode.clone(), decode: self.decode.clone() }
    }
}

impl<P> fmt::Debug for Codec<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}
