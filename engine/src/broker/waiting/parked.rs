//! A message outside of the ring.

use crate::broker::account::term::FailureKind;
use crate::broker::dead_letters::{Attempt, DeadLetter, History, Key as LetterKey, NewLetter, Past};
use crate::broker::policy::key::Key;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::clock::{Clock, Timestamp};
use crate::message::{Envelope, Message, MessageId, MessagePayload, Occasion, Origin, OwnedMessage};
use crate::topic::Topic;
use std::time::Duration;

/// A message that was copied out of its slot to wait. It outlives its slot and its route.
pub(crate) struct Parked<P> {
    envelope: Box<Envelope<P>>,
    topic: Topic,
    /// Nothing before its first attempt has failed.
    pub(crate) retried: Option<Box<Retried>>,
    /// Which dead letter it is, where it is being replayed.
    pub(crate) replayed: Option<LetterKey>,
    /// What tells it from others, where its subscription asks for that.
    pub(crate) key: Option<Key>,
    /// Which message of its subscription it is, where newer ones take the places of older ones.
    pub(crate) order: u64,
    /// Whether nobody has asked yet what its subscription wants asked of a message that arrives.
    pub(crate) is_unasked: bool,
}

/// What is known of a message that has failed.
#[derive(Clone, Debug)]
pub(crate) struct Retried {
    /// When the first attempt failed.
    pub(crate) first_at: Timestamp,
    /// For how long it has waited last.
    pub(crate) delay: Duration,
    /// Its attempts, where dead letters are kept.
    history: History,
}

impl<P: MessagePayload> Parked<P> {
    /// Copies a message. Runs the payload's `Default` and `Clone`.
    pub(crate) fn copy(message: &Message<'_, P>, key: Option<Key>) -> Self {
        let (envelope, topic) = (message.envelope().copy(), message.topic().clone());
        Self { envelope, topic, retried: None, replayed: None, key, order: 0, is_unasked: false }
    }

    /// Copies one that its handler keeps. Runs the payload's `Default` and `Clone`.
    pub(crate) fn duplicate(&self) -> Self {
        let Self { envelope, topic, retried, replayed, key, order, is_unasked } = self;
        let (envelope, topic) = (envelope.copy(), topic.clone());
        Self {
            envelope,
            topic,
            retried: retried.clone(),
            replayed: replayed.clone(),
            key: *key,
            order: *order,
            is_unasked: *is_unasked,
        }
    }

    /// Copies a dead letter, to be replayed. Runs the payload's `Default` and `Clone`.
    pub(crate) fn again(letter: &DeadLetter<P>) -> Self {
        let envelope = Envelope::again(&letter.message, letter.published_ticks);
        let topic = letter.message.topic.clone();
        Self {
            envelope,
            topic,
            retried: None,
            replayed: Some(letter.key()),
            key: None,
            order: 0,
            is_unasked: false,
        }
    }
}

impl<P: 'static> Parked<P> {
    /// Makes it a message of its user's.
    #[inline(never)]
    pub(crate) fn into_owned(self, origin: Origin, clock: &Clock) -> OwnedMessage<P> {
        let owned = self.message(origin, &Occasion::apart(clock)).owned(());
        owned.with_payload(self.envelope.into_payload())
    }

    /// Returns what is known of it beside what its users see of it, and forgets its attempts.
    pub(crate) fn take_past(&mut self) -> Past {
        let history = self.retried.take().map_or_else(History::default, |retried| retried.history);
        Past { published_ticks: self.envelope.published_at, history }
    }

    /// Makes it a dead letter of a subscription's.
    #[inline(never)]
    pub(crate) fn into_letter(
        mut self,
        state: &SubscriptionState,
        kind: FailureKind,
        origin: Origin,
        clock: &Clock,
    ) -> NewLetter<P> {
        let Past { published_ticks, history } = self.take_past();
        let elsewhere = self.envelope.size() - size_of::<Envelope<P>>();
        let bytes = size_of::<OwnedMessage<P>>() + elsewhere;
        NewLetter {
            message: self.into_owned(origin, clock),
            bytes,
            subscription: (&*state.name).into(),
            published_ticks,
            kind,
            history,
        }
    }

    /// Notes an attempt that has failed, where dead letters are kept.
    pub(crate) fn note(&mut self, attempt: Attempt, first_at: Timestamp) {
        self.retried(first_at).history.push(attempt);
    }

    fn retried(&mut self, first_at: Timestamp) -> &mut Retried {
        let first = || Box::new(Retried { first_at, delay: Duration::ZERO, history: History::default() });
        self.retried.get_or_insert_with(first)
    }

    pub(crate) fn message<'a>(&'a self, origin: Origin, occasion: &'a Occasion) -> Message<'a, P> {
        Message::new(&self.envelope, &self.topic, origin, occasion)
    }

    /// Makes it a message that has failed once more and is to be tried again after that time.
    pub(crate) fn put_back(&mut self, first_at: Timestamp, delay: Duration) {
        self.envelope.attempt = self.envelope.attempt.saturating_add(1);
        self.retried(first_at).delay = delay;
    }

    pub(crate) fn id(&self, origin: Origin) -> MessageId {
        self.envelope.id(origin)
    }

    /// Returns which attempt at delivering it is next, or is being made.
    pub(crate) fn attempt(&self) -> u16 {
        self.envelope.attempt
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
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
