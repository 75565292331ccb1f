//! Where a message that is being delivered comes from, as its consumer's lease is told of it.
//!
//! Everything foreign is called under the consumer's lease, as a handler is: it may panic, and it may never return.

use super::left::{Left, Undropped};
use super::lending::Lender;
use super::outcome::CallMark;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::parked::Parked;
use crate::message::{Envelope, MessagePayload};
use crate::ring::{Called, Lease, Poller, Sequence};
use crate::sync::panics::guard;

/// What is being delivered, as the consumer's lease is told of it.
pub(super) trait Source<P> {
    /// Whether the message was copied out of its slot.
    const IS_COPY: bool;

    /// Calls foreign code under the lease, for the delivery that is marked so.
    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R>;

    /// Calls a handler so. Where its consumer may be replaced meanwhile, what that has is with others.
    fn call_handler<R>(&mut self, mark: u64, _left: &mut Left<P>, f: impl FnOnce() -> R) -> Called<R> {
        self.call(mark, f)
    }
}

/// An event, in its slot.
pub(super) struct Event<'l> {
    pub(super) lease: &'l Lease,
    pub(super) sequence: Sequence,
}

impl<P> Source<P> for Event<'_> {
    const IS_COPY: bool = false;

    #[inline(always)]
    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.lease.call(self.sequence, mark, f)
    }
}

impl<P, S: Source<P>> Source<P> for &mut S {
    const IS_COPY: bool = S::IS_COPY;

    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        (**self).call(mark, f)
    }

    fn call_handler<R>(&mut self, mark: u64, left: &mut Left<P>, f: impl FnOnce() -> R) -> Called<R> {
        (**self).call_handler(mark, left, f)
    }
}

/// A message that has waited.
pub(super) struct Waited<'p, P> {
    pub(super) poller: &'p mut Poller<Envelope<P>>,
    pub(super) number: u64,
    /// Nothing where the consumer is not to be replaced.
    pub(super) lender: Option<Lender<'p, P>>,
}

impl<P: MessagePayload> Source<P> for Waited<'_, P> {
    const IS_COPY: bool = true;

    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.poller.call_parked(self.number, mark, f)
    }

    fn call_handler<R>(&mut self, mark: u64, left: &mut Left<P>, f: impl FnOnce() -> R) -> Called<R> {
        let Some(lender) = &mut self.lender else { return self.call(mark, f) };
        // Of its own: who replaces a consumer is to find it in no other call.
        self.number = left.waiting.next_call_number();
        lender.lend(left, self.number, CallMark::from_lease(mark).is_settled);
        let called = self.poller.call_parked(self.number, mark, f);
        // Else it is another consumer's, and what is here is hollow.
        if !self.poller.lease().is_replaced() {
            lender.take_back(left);
            self.number = left.waiting.next_call_number();
        }
        called
    }
}

/// Drops messages that have waited and have been settled. Returns whether the consumer still has its position.
pub(super) fn discard<P>(
    source: &mut impl Source<P>,
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
