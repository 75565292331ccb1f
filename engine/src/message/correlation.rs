//! Correlation: what ties the messages of one conversation together.

use super::wipe::wipe;
use std::fmt;
use std::str::FromStr;

/// A correlation id: 1 to 63 bytes of printable ASCII, held inline, so that handing it on from a message to those
/// published in its handler costs a copy and no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CorrelationId {
    len: u8,
    bytes: [u8; Self::MAX_LEN],
}

/// The text cannot be a correlation id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorrelationIdError {
    /// Empty, or too long.
    #[error("a correlation id has 1 to {} bytes, this one {len}", CorrelationId::MAX_LEN)]
    Length {
        /// The length of what was given, in bytes.
        len: usize,
    },
    /// Something other than printable ASCII.
    #[error("a correlation id is printable ASCII without spaces; byte {position} of this one is not")]
    Character {
        /// Where the offending byte stands, from 0.
        position: usize,
    },
}

impl CorrelationId {
    /// The most bytes it may have.
    pub const MAX_LEN: usize = 63;

    /// Makes one from text. Does not allocate.
    ///
    /// # Errors
    /// The length is out of range, or a byte is not printable ASCII.
    ///
    /// ```
    /// use ringmain::message::CorrelationId;
    ///
    /// assert_eq!(CorrelationId::new("order-4711")?.as_str(), "order-4711");
    /// assert!(CorrelationId::new("").is_err());
    /// # Ok::<(), ringmain::message::CorrelationIdError>(())
    /// ```
    pub fn new(text: &str) -> Result<Self, CorrelationIdError> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(CorrelationIdError::Length { len: text.len() });
        }
        if let Some(position) = text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(CorrelationIdError::Character { position });
        }
        let mut bytes = [0; Self::MAX_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len: text.len() as u8, bytes })
    }

    /// Fills the id with zeros, for an owner that is about to drop it.
    pub(super) fn wipe(&mut self) {
        self.len = 0;
        wipe(&mut self.bytes);
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Checked to be ASCII when it was made.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelationId({})", self.as_str())
    }
}

impl FromStr for CorrelationId {
    type Err = CorrelationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_exactly() {
        assert_eq!(CorrelationId::new(&"x".repeat(63)).expect("63 bytes fit").as_str().len(), 63);
        assert_eq!(CorrelationId::new(&"x".repeat(64)), Err(CorrelationIdError::Length { len: 64 }));
        assert_eq!(CorrelationId::new("a b"), Err(CorrelationIdError::Character { position: 1 }));
    }
}
