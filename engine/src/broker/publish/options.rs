//! What a publish can be told, and what it answers.

use crate::clock::Timestamp;
use crate::message::{CorrelationId, Extras, HeaderError, MessageId};

/// A message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its identity.
    pub id: MessageId,
    /// How many rings took it: one for each dispatcher with a matching subscription, 0 if nobody wants it.
    pub accepted: u16,
    /// How many rings refused it, being full.
    pub refused: u16,
}

/// What a message carries beside topic and payload. Can be used for any number of messages.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    pub(super) extras: Extras,
}

impl PublishOptions {
    /// Nothing beside topic and payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header, or replaces the one of that key.
    ///
    /// # Errors
    /// A limit of [`Headers`](crate::message::Headers) is exceeded.
    pub fn header(mut self, key: &str, value: impl AsRef<[u8]>) -> Result<Self, HeaderError> {
        self.extras.headers.insert(key, value)?;
        Ok(self)
    }

    /// Ties the message to others. Else it inherits that of the message in whose handler it is published.
    #[must_use]
    pub fn correlation(mut self, id: CorrelationId) -> Self {
        self.extras.correlation = Some(id);
        self
    }

    /// From that moment of the broker's clock on the message is not delivered any more, and counted as expired.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.extras.expires_at = Some(at);
        self
    }
}
