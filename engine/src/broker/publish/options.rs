//! What a publish can be told, and what it answers.

use super::error::BatchRefusal;
use crate::clock::Timestamp;
use crate::message::{CorrelationId, Extras, HeaderError, Headers, MessageId, Priority};
use std::time::Duration;

/// A message was published: every dispatcher took it that its topic leads to, but for those that are
/// [best effort](crate::broker::Dispatcher::best_effort) and refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a dispatcher that is best effort may have refused the message: look at `refused`, or say `let _ =`"]
#[non_exhaustive]
pub struct Published {
    /// Its identity.
    pub id: MessageId,
    /// How many rings took it: one for each dispatcher with a matching subscription, 0 if nobody wants it or all that
    /// do are best effort and refused it.
    pub accepted: u16,
    /// How many rings of best-effort dispatchers refused it: for want of room, or because a consumer has died.
    pub refused: u16,
}

/// A batch was published: every dispatcher took all of it, but for those that are
/// [best effort](crate::broker::Dispatcher::best_effort) and refused some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a dispatcher that is best effort may have refused messages: look at `refused`, or say `let _ =`"]
#[non_exhaustive]
pub struct PublishedBatch {
    /// How many messages: as many as the batch has.
    pub published: usize,
    /// What best-effort dispatchers refused; empty if nothing.
    pub refused: Vec<BatchRefusal>,
}

/// How long a publish waits for room in a ring that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// As each ring's [`Overflow`](crate::ring::Overflow) policy says. A batch waits for each ring no longer in all
    /// than the policy allows one message.
    #[default]
    Policy,
    /// Not at all.
    Never,
    /// So long at most in all, however many rings and messages there are, and whatever the policies.
    AtMost(Duration),
}

/// What a publish is told beside topic and payload. Can be used for any number of messages.
///
/// ```
/// use ringmain::broker::{Broker, PublishOptions, Wait};
/// use std::time::Duration;
///
/// let broker: Broker = Broker::builder().build()?;
/// let options = PublishOptions::new()
///     .header("source", "feed-7")?
///     .expires_after(Duration::from_secs(2))
///     .wait(Wait::AtMost(Duration::from_millis(5)));
/// let published = broker.publisher("quotes.eu")?.publish_with(b"9.75", &options)?;
/// assert_eq!(published.refused, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// An expiry after so long is not in here yet.
    pub(super) extras: Extras,
    pub(super) expires_after: Option<Duration>,
    pub(super) priority: Priority,
    pub(super) wait: Wait,
}

impl PublishOptions {
    /// Nothing beside topic and payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a message was told that is published once more, as a child of itself.
    pub(crate) fn again(
        headers: &Headers,
        correlation: Option<CorrelationId>,
        parent: MessageId,
        expires_at: Option<Timestamp>,
        priority: Priority,
    ) -> Self {
        let extras = Extras {
            headers: headers.clone(),
            expires_at,
            correlation,
            parent: Some(parent),
            #[cfg(feature = "durable-dead-letters")]
            earlier: None,
        };
        Self { extras, expires_after: None, priority, wait: Wait::default() }
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

    /// From that moment of the [broker's clock](crate::broker::Broker::clock) on the message is not delivered any more,
    /// and counted as expired. Replaces [`expires_after`](Self::expires_after).
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.extras.expires_at = Some(at);
        self.expires_after = None;
        self
    }

    /// Once so much time has passed since the publish was called the message is not delivered any more, and counted as
    /// expired. A batch counts from its own call. Replaces [`expires_at`](Self::expires_at).
    #[must_use]
    pub fn expires_after(mut self, life: Duration) -> Self {
        self.extras.expires_at = None;
        self.expires_after = Some(life);
        self
    }

    /// Says how urgent the message is, for filters and handlers that look at it: [`Priority::Normal`] if nothing is
    /// said. It changes nothing about the order in which messages are delivered.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets how long the publish waits for room.
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }
}
