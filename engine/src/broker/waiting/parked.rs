//! A message outside of the ring.

use crate::clock::{Clock, Timestamp};
use crate::message::{Envelope, Message, MessagePayload, Origin, OwnedMessage};
use crate::topic::Topic;
use std::time::Duration;

/// A message that was copied out of its slot to wait. It outlives its slot and its route.
pub(crate) struct Parked<P> {
    envelope: Box<Envelope<P>>,
    topic: Topic,
    /// Nothing before its first attempt has failed.
    pub(crate) retried: Option<Box<Retried>>,
}

/// What is known of a message that has failed.
#[derive(Clone, Debug)]
pub(crate) struct Retried {
    /// When the first attempt failed.
    pub(crate) first_at: Timestamp,
    /// For how long it has waited last.
    pub(crate) delay: Duration,
}

impl<P: MessagePayload> Parked<P> {
    /// Copies a message. Runs the payload's `Default` and `Clone`.
    pub(crate) fn copy(message: &Message<'_, P>) -> Self {
        Self { envelope: message.envelope().copy(), topic: message.topic().clone(), retried: None }
    }
}

impl<P: MessagePayload> Parked<P> {
    /// Makes it a message of its user's. Runs the payload's `Default`.
    #[inline(never)]
    pub(crate) fn into_owned(mut self, origin: Origin, clock: &Clock) -> OwnedMessage<P> {
        let payload = std::mem::take(&mut self.envelope.payload);
        self.message(origin, clock).owned(payload)
    }
}

impl<P: 'static> Parked<P> {
    pub(crate) fn message<'a>(&'a self, origin: Origin, clock: &'a Clock) -> Message<'a, P> {
        Message::new(&self.envelope, &self.topic, origin, clock)
    }

    /// Makes it a message that has failed once more and is to be tried again.
    pub(crate) fn put_back(&mut self, retried: Retried) {
        self.envelope.attempt = self.envelope.attempt.saturating_add(1);
        match &mut self.retried {
            Some(earlier) => **earlier = retried,
            None => self.retried = Some(Box::new(retried)),
        }
    }

    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.envelope.extras().and_then(|extras| extras.expires_at)
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// Returns how many bytes of memory it takes.
    pub(crate) fn size(&self) -> usize {
        Self::size_with(&self.envelope)
    }

    /// Returns how many bytes of memory a copy of that message would take.
    pub(crate) fn size_of(message: &Message<'_, P>) -> usize {
        Self::size_with(message.envelope())
    }

    fn size_with(envelope: &Envelope<P>) -> usize {
        size_of::<Self>() + envelope.size()
    }
}
