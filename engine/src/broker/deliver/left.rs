//! What deliveries leave with their consumer.

use super::common::Common;
use super::mailbox::{Latch, Mailbox};
use super::outcome::Outcome;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::dead_letters::{DeadLetter, Put, SharedStore};
use crate::broker::policy::guarded::Force;
use crate::broker::policy::key::Key;
use crate::broker::subscribe::contract::Expired;
use crate::broker::subscribe::token::Issuer;
use crate::broker::waiting::backlog::Backlog;
use crate::broker::waiting::held::{Held, Said};
use crate::broker::waiting::parked::Parked;
use crate::broker::waiting::room::WaitingRoom;
use crate::broker::waiting::side::ConsumerSide;
use crate::message::{MessageId, MessagePayload, Origin};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What deliveries leave with their consumer.
pub(super) struct Left<P> {
    /// The names of the subscriptions to which the message at hand is not delivered, since the consumer has been
    /// stopped.
    pub(super) refused: Vec<Box<str>>,
    pub(super) undropped: Vec<Undropped<P>>,
    /// The subscriptions whose handlers are in calls that do not return, on threads that were replaced.
    pub(super) away: BTreeMap<u64, Away<P>>,
    pub(super) waiting: ConsumerSide<P>,
    /// How many messages have been copied in this turn to be delivered at once.
    pub(super) copies: u64,
    /// Where what has failed goes, if it is kept.
    pub(super) dead_letters: Option<Arc<SharedStore<P>>>,
    pub(super) origin: Origin,
    /// The consumer's own.
    pub(super) tally: Arc<ConsumerTally>,
    /// What tokens are made of.
    pub(super) issuer: Issuer<P>,
}

impl<P: MessagePayload> Left<P> {
    /// Nothing yet.
    pub(super) fn nothing(
        common: &Common<P>,
        mailbox: &Arc<Mailbox<P>>,
        room: Arc<WaitingRoom<P>>,
        tally: Arc<ConsumerTally>,
    ) -> Self {
        Self {
            refused: Vec::new(),
            undropped: Vec::new(),
            away: BTreeMap::new(),
            waiting: ConsumerSide::new(room, common.registry.clone()),
            copies: 0,
            dead_letters: common.dead_letters.clone(),
            origin: common.origin,
            tally,
            issuer: Issuer {
                home: mailbox.clone(),
                origin: common.origin,
                clock: common.clock.clone(),
                process: common.process,
            },
        }
    }
}

impl<P> Left<P> {
    /// Leaves a dead letter in the store, to be replayed again, whose message has waited in vain.
    pub(super) fn release_letter(&self, parked: &Parked<P>) {
        if let (Some(store), Some(key)) = (&self.dead_letters, &parked.replayed) {
            store.release(key);
        }
    }

    /// Leaves dead letters in the store that were to be replayed.
    pub(super) fn cancel_replays(&self, numbers: impl IntoIterator<Item = u64>) {
        if let Some(store) = &self.dead_letters {
            store.cancel(numbers);
        }
    }
}

/// A subscription whose handler is in a call that does not return, on a thread that was replaced.
pub(super) struct Away<P> {
    pub(super) terms: Terms<P>,
    /// Messages that had been asked for their keys, and are at their end without having been handled.
    pub(super) released: Vec<(Key, MessageId)>,
    /// What its breaker is to do.
    pub(super) force: Option<Force>,
    /// Who has paused the subscription, and waits for the end of that call.
    pub(super) paused: Vec<Arc<Latch>>,
    /// The subscription has ended, and somebody waits for the drop of its handler.
    pub(super) dropped: Option<Arc<Latch>>,
}

/// What becomes of messages that wait, as long as their handler, which has that, is in a call.
#[derive(Clone)]
pub(crate) struct Terms<P> {
    pub(crate) backlog: Backlog,
    pub(crate) expired: Option<Expired<P>>,
}

/// What was to be dropped at the moment of the stop.
pub(super) enum Undropped<P> {
    /// What a handler failed with.
    Outcome(#[expect(dead_code, reason = "it is to be dropped")] Outcome),
    /// A message that has waited.
    Parked(#[expect(dead_code, reason = "it is to be dropped")] Parked<P>),
    /// What the store of dead letters has let go of.
    Letters(#[expect(dead_code, reason = "it is to be dropped")] Put<P>),
    /// A message that its handler has kept.
    Held(#[expect(dead_code, reason = "it is to be dropped")] Arc<Held<P>>),
    /// What a token has said.
    Said(#[expect(dead_code, reason = "it is to be dropped")] Said),
    /// A dead letter whose replay is over.
    Letter(#[expect(dead_code, reason = "it is to be dropped")] Arc<DeadLetter<P>>),
}
