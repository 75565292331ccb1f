//! One delivery: what comes before the handler's call, and what comes of it.
//!
//! Everything foreign is called under the consumer's lease, as a handler is: it may panic, and it may
//! never return.

use super::outcome::{CallMark, Outcome};
use super::settle::{Failure, Next, settle, settle_uncalled};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::subscribe::handler::OwnedHandler;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::backlog::Backlog;
use crate::broker::waiting::parked::Parked;
use crate::broker::waiting::queue::GivenUp;
use crate::broker::waiting::side::ConsumerSide;
use crate::clock::Clock;
use crate::message::{Envelope, Message};
use crate::ring::{Called, Lease, Poller, Sequence};
use crate::sync::panics::{discard_panic, guard};
use std::sync::Arc;

/// What is being delivered, as the consumer's lease is told of it.
pub(super) trait Source {
    /// Calls foreign code under the lease, for the delivery that is marked so.
    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R>;
}

/// An event, in its slot.
pub(super) struct Event<'l> {
    pub(super) lease: &'l Lease,
    pub(super) sequence: Sequence,
}

impl Source for Event<'_> {
    #[inline(always)]
    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.lease.call(self.sequence, mark, f)
    }
}

impl<S: Source> Source for &mut S {
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
    fn call<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.poller.call_parked(self.number, mark, f)
    }
}

/// What deliveries leave with their consumer.
pub(super) struct Left<P> {
    pub(super) undropped: Vec<Undropped<P>>,
    pub(super) waiting: ConsumerSide<P>,
}

/// What was to be dropped at the moment of the stop.
pub(super) enum Undropped<P> {
    /// What a handler failed with.
    Outcome(#[expect(dead_code, reason = "it is to be dropped")] Outcome),
    /// A message that has waited.
    Parked(Parked<P>),
}

/// A message that is being delivered to one subscription after the other.
pub(super) struct Delivery<'d, 'm, P, S> {
    pub(super) message: &'d Message<'m, P>,
    pub(super) source: S,
    pub(super) tally: &'d ConsumerTally,
    pub(super) clock: &'d Clock,
}

/// What is to be done before a handler is called.
pub(super) enum Before<'h, P> {
    /// Nothing more: it is to be called.
    Call(&'h mut OwnedHandler<P>),
    /// The delivery has ended without a call, or the message waits for a later one.
    Ended,
    /// Somebody else has the consumer's position.
    TakenOver,
}

impl<P: Clone + 'static> Delivery<'_, '_, P, Event<'_>> {
    /// Sees to what comes before a call where a subscription or message is not plain: the end of the
    /// subscription, the end of the message's life, the filter, and whether the message has to wait, in this order.
    #[cold]
    #[inline(never)]
    pub(super) fn before_call<'h>(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &'h mut Option<OwnedHandler<P>>,
        has_expired: bool,
        left: &mut Left<P>,
        refused: &mut Vec<Box<str>>,
    ) -> Before<'h, P> {
        // An earlier delivery of this very message may have ended the subscription.
        let outcome = match (handler, Outcome::uncalled(state, has_expired)) {
            (None, _) => Outcome::Unsubscribed,
            (Some(handler), Outcome::Undelivered) => {
                let called = match handler.contract.as_mut().and_then(|contract| contract.filter.as_mut()) {
                    Some(filter) => self.source.call(state.id, || filter(self.message)),
                    None => Called::Returned(Ok(true)),
                };
                match called {
                    Called::TakenOver => return Before::TakenOver,
                    Called::Returned(Ok(true)) if state.is_queued() => {
                        match self.park(state, handler.backlog(), left) {
                            Parking::Waits => return Before::Ended,
                            Parking::TakenOver => return Before::TakenOver,
                            Parking::Ended(outcome) => outcome,
                        }
                    }
                    Called::Returned(Ok(true)) => return Before::Call(handler),
                    Called::Returned(Ok(false)) => Outcome::Filtered,
                    Called::Returned(Err(payload)) => Outcome::Panicked(payload),
                    Called::Refused => Outcome::Undelivered,
                }
            }
            (_, outcome) => outcome,
        };
        if matches!(outcome, Outcome::Undelivered) {
            refused.push(state.name.clone());
        }
        if self.end(state, outcome, left) { Before::Ended } else { Before::TakenOver }
    }

    /// Has the message wait, as far as there is room.
    fn park(&mut self, state: &Arc<SubscriptionState>, bounds: Backlog, left: &mut Left<P>) -> Parking {
        let size = Parked::size_of(self.message);
        let GivenUp { expired, dropped, has_room } =
            left.waiting.make_room(state, size, bounds, self.clock.now());
        let mut given_up = Vec::with_capacity(expired.len() + dropped.len());
        for (outcome, those) in [(Outcome::Expired, expired), (Outcome::Overflow, dropped)] {
            for parked in those {
                settle_uncalled(&state.tally, &outcome);
                given_up.push(parked);
            }
        }
        if !discard(&mut self.source, state, given_up, left) {
            return Parking::TakenOver;
        }
        if !has_room {
            return Parking::Ended(Outcome::Overflow);
        }
        match self.source.call(state.id, || Parked::copy(self.message)) {
            Called::Returned(Ok(parked)) => {
                left.waiting.push(state, parked);
                Parking::Waits
            }
            Called::Returned(Err(payload)) => Parking::Ended(Outcome::Uncopied(payload)),
            Called::Refused => Parking::Ended(Outcome::Undelivered),
            Called::TakenOver => Parking::TakenOver,
        }
    }
}

/// What has come of having a message wait.
enum Parking {
    Waits,
    /// It does not wait.
    Ended(Outcome),
    /// Somebody else has the consumer's position.
    TakenOver,
}

impl<P, S: Source> Delivery<'_, '_, P, S> {
    /// Settles, and tells of a failure. Returns whether the consumer still has its position.
    #[inline(always)]
    pub(super) fn end(&mut self, state: &SubscriptionState, outcome: Outcome, left: &mut Left<P>) -> bool {
        if let Next::Tell(failure) = settle(&state.tally, self.tally, &outcome) {
            match self.tell(state, &failure, outcome) {
                Told::All => {}
                Told::Refused(outcome) => left.undropped.push(Undropped::Outcome(outcome)),
                Told::TakenOver => return false,
            }
        }
        true
    }

    /// Logs a failed delivery, and drops what the handler failed with.
    #[cold]
    #[inline(never)]
    fn tell(&mut self, state: &SubscriptionState, failure: &Failure, outcome: Outcome) -> Told {
        let mut outcome = Some(outcome);
        let message = self.message;
        let called = self.source.call(CallMark::settled(state.id), || {
            // The first, the second, the fourth, the eighth: a handler that always fails does not fill
            // the log. The error's own text is not logged, since it may quote the payload.
            if failure.count.is_power_of_two() {
                guard(|| {
                    tracing::warn!(
                        target: "ringmain::settle",
                        subscription = &*state.name,
                        topic = %message.topic(),
                        message_id = %message.id(),
                        attempt = message.attempt(),
                        error_kind = failure.kind.as_str(),
                        failures = failure.count,
                        "a delivery failed"
                    );
                });
            }
            guard(|| match outcome.take() {
                Some(Outcome::Failed(error)) => drop(error),
                Some(Outcome::Panicked(payload) | Outcome::Uncopied(payload)) => discard_panic(payload),
                _ => {}
            });
        });
        match (called, outcome) {
            (Called::TakenOver, _) => Told::TakenOver,
            (_, Some(outcome)) => Told::Refused(outcome),
            (_, None) => Told::All,
        }
    }
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
    let drop_all = || settled.drain(..).for_each(|parked| _ = guard(|| drop(parked)));
    let called = source.call(CallMark::settled(state.id), drop_all);
    left.undropped.extend(settled.into_iter().map(Undropped::Parked));
    !matches!(called, Called::TakenOver)
}

/// What has come of telling of a failure.
enum Told {
    All,
    /// The consumer has been stopped: there was no call, and what is to be dropped is left.
    Refused(Outcome),
    /// It did not return in time, and somebody else has the consumer's position.
    TakenOver,
}

/// Whether a message that has extras is past its life.
#[cold]
pub(crate) fn has_expired<P>(message: &Message<'_, P>, clock: &Clock) -> bool {
    message.expires_at().is_some_and(|at| clock.now() >= at)
}
