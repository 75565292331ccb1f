//! Where a message that is being delivered comes from, and what deliveries leave with their consumer.
//!
//! Everything foreign is called under the consumer's lease, as a handler is: it may panic, and it may never return.

use super::outcome::{CallMark, Outcome};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::dead_letters::{DeadLetter, Put, SharedStore};
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::subscribe::token::Issuer;
use crate::broker::waiting::held::{Held, Said};
use crate::broker::waiting::parked::Parked;
use crate::broker::waiting::side::ConsumerSide;
use crate::message::{Envelope, Origin};
use crate::ring::{Called, Lease, Poller, Sequence};
use crate::sync::panics::guard;
use std::sync::Arc;

/// What is being delivered, as the consumer's lease is told of it.
pub(super) trait Source {
    /// Whether the message was copied out of its slot.
    const IS_COPY: bool;

    /// Calls foreign code under the lease, for the delivery that is marked so.
    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R>;
}

/// An event, in its slot.
pub(super) struct Event<'l> {
    pub(super) lease: &'l Lease,
    pub(super) sequence: Sequence,
}

impl Source for Event<'_> {
    const IS_COPY: bool = false;

    #[inline(always)]
    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.lease.call(self.sequence, mark, f)
    }
}

impl<S: Source> Source for &mut S {
    const IS_COPY: bool = S::IS_COPY;

    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        (**self).call(mark, f)
    }
}

/// A message that has waited.
pub(super) struct Waited<'p, P> {
    pub(super) poller: &'p mut Poller<Envelope<P>>,
    pub(super) number: u64,
}

impl<P> Source for Waited<'_, P> {
    const IS_COPY: bool = true;

    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.poller.call_parked(self.number, mark, f)
    }
}

/// What deliveries leave with their consumer.
pub(super) struct Left<P> {
    /// The names of the subscriptions to which the message at hand is not delivered, since the consumer has been
    /// stopped.
    pub(super) refused: Vec<Box<str>>,
    pub(super) undropped: Vec<Undropped<P>>,
    pub(super) waiting: ConsumerSide<P>,
    /// Where what has failed goes, if it is kept.
    pub(super) dead_letters: Option<Arc<SharedStore<P>>>,
    pub(super) origin: Origin,
    /// The consumer's own.
    pub(super) tally: Arc<ConsumerTally>,
    /// What tokens are made of.
    pub(super) issuer: Issuer<P>,
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

/// Drops messages that have waited and have been settled. Returns whether the consumer still has its position.
pub(super) fn discard<P>(
    source: &mut impl Source,
    state: &SubscriptionState,
    mut settled: Vec<Parked<P>>,
    left: &mut Left<P>,
) -> bool {
    if settled.is_empty() {
        return true;
    }
    let replayed =
        |parked: &Parked<P>| left.dead_letters.as_ref()?.settle_replayed(parked.replayed.as_ref()?);
    let mut letters: Vec<_> = settled.iter().filter_map(replayed).collect();
    let called = source.call(CallMark::settled(state.id), || {
        settled.drain(..).for_each(|parked| _ = guard(|| drop(parked)));
        letters.drain(..).for_each(|letter| _ = guard(|| drop(letter)));
    });
    left.undropped.extend(settled.into_iter().map(Undropped::Parked));
    left.undropped.extend(letters.into_iter().map(Undropped::Letter));
    !matches!(called, Called::TakenOver)
}
