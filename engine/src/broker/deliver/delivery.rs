//! One delivery: what comes before the handler's call, and what comes of it.
//!
//! Everything foreign is called under the consumer's lease, as a handler is: it may panic, and it may
//! never return.

use super::context;
use super::outcome::{CallMark, Outcome};
use super::settle::{Failure, Next, settle, settle_uncalled};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::account::term::FailureKind;
use crate::broker::policy::breaker::circuit::{Admission, Permit, Verdict};
use crate::broker::policy::retry::{Decision, FailedAttempt, GiveUp};
use crate::broker::subscribe::handled::{HandlerError, Wish, wish_of};
use crate::broker::subscribe::handler::{Contract, OwnedHandler};
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::broker::waiting::backlog::Backlog;
use crate::broker::waiting::parked::{Parked, Retried};
use crate::broker::waiting::queue::GivenUp;
use crate::broker::waiting::side::ConsumerSide;
use crate::clock::{Clock, Timestamp};
use crate::message::{Envelope, Message, MessagePayload};
use crate::ring::{Called, Lease, Poller, Sequence};
use crate::sync::panics::{discard_panic, guard};
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
}

/// What was to be dropped at the moment of the stop.
pub(super) enum Undropped<P> {
    /// What a handler failed with.
    Outcome(#[expect(dead_code, reason = "it is to be dropped")] Outcome),
    /// A message that has waited.
    Parked(#[expect(dead_code, reason = "it is to be dropped")] Parked<P>),
}

/// A message that is being delivered to one subscription after the other.
pub(super) struct Delivery<'d, 'm, P, S> {
    pub(super) message: &'d Message<'m, P>,
    pub(super) source: S,
    pub(super) tally: &'d ConsumerTally,
    pub(super) clock: &'d Clock,
    /// What is known of its earlier attempts.
    pub(super) retried: Option<&'d Retried>,
}

/// What is to be done before a handler is called.
pub(super) enum Before<'h, P> {
    /// Nothing more: it is to be called.
    Call(&'h mut OwnedHandler<P>),
    /// The delivery has ended, or the message waits.
    Ended,
    /// Somebody else has the consumer's position.
    TakenOver,
}

/// How a delivery has ended, as far as its consumer has anything to do with it.
pub(super) enum Ended<P> {
    /// It is over.
    Over,
    /// It has failed, and is to be tried again.
    Again(Box<Again<P>>),
    /// Somebody else has the consumer's position.
    TakenOver,
}

/// A delivery that is to be tried again.
pub(super) struct Again<P> {
    /// The message, unless it was one already.
    pub(super) copy: Option<Parked<P>>,
    pub(super) due: Timestamp,
    /// Whether the others of the subscription wait for it.
    pub(super) is_head: bool,
    pub(super) retried: Retried,
}

impl<P: MessagePayload> Delivery<'_, '_, P, Event<'_>> {
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
                            Parking::Waits => {
                                if state.waits_for(Reason::Breaker) {
                                    left.waiting.look_at(state);
                                }
                                return Before::Ended;
                            }
                            Parking::TakenOver => return Before::TakenOver,
                            Parking::Ended(outcome) => outcome,
                        }
                    }
                    Called::Returned(Ok(true)) => {
                        handler.count_first_attempt(self.clock);
                        let Some(guarded) = handler.breaker() else { return Before::Call(handler) };
                        match guarded.circuit.admit(|| self.clock.now()) {
                            Admission::Call(permit) => {
                                match self.call_guarded(state, handler, Some(permit), left) {
                                    Some(outcome) => {
                                        let contract = handler.contract.as_deref_mut();
                                        let is_ours = self.end_event(state, contract, outcome, left);
                                        return if is_ours { Before::Ended } else { Before::TakenOver };
                                    }
                                    None => return Before::TakenOver,
                                }
                            }
                            // Where it waits meanwhile, it is queued.
                            Admission::Wait => Outcome::Refused,
                        }
                    }
                    Called::Returned(Ok(false)) => Outcome::Filtered,
                    Called::Returned(Err(payload)) => Outcome::Panicked(payload),
                    Called::Refused => Outcome::Undelivered,
                }
            }
            (_, outcome) => outcome,
        };
        // What a filter or a copy has failed is not tried again.
        if self.end_event(state, None, outcome, left) { Before::Ended } else { Before::TakenOver }
    }

    /// Sees to what has come of a call that has not returned well. Returns whether the consumer still has its position.
    #[cold]
    #[inline(never)]
    pub(super) fn end_otherwise(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
        called: Called<Result<(), HandlerError>>,
        left: &mut Left<P>,
    ) -> bool {
        let outcome = Outcome::of_call(called);
        outcome.is_some_and(|outcome| self.end_event(state, handler.contract.as_deref_mut(), outcome, left))
    }

    /// Settles, and has the message wait for another attempt where it has failed. Returns whether the consumer still
    /// has its position.
    fn end_event(
        &mut self,
        state: &Arc<SubscriptionState>,
        contract: Option<&mut Contract<P>>,
        outcome: Outcome,
        left: &mut Left<P>,
    ) -> bool {
        match self.end(state, contract, outcome, left) {
            Ended::Over => true,
            Ended::Again(again) => {
                let Again { copy, due, is_head, retried } = *again;
                if let Some(mut parked) = copy {
                    parked.put_back(retried);
                    left.waiting.retry(state, parked, due, is_head);
                }
                true
            }
            Ended::TakenOver => false,
        }
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

impl<P: MessagePayload, S: Source> Delivery<'_, '_, P, S> {
    /// Calls the handler.
    #[inline(always)]
    pub(super) fn call(
        &mut self,
        state: &SubscriptionState,
        handler: &mut OwnedHandler<P>,
    ) -> Called<Result<(), HandlerError>> {
        let message = self.message;
        context::begin_handling(message.id(), message.correlation());
        let called = self.source.call(state.id, || (handler.call)(message));
        context::end_handling();
        called
    }

    /// Calls a handler that a breaker may guard, and tells the breaker how it went. Returns nothing where somebody else
    /// has the consumer's position afterwards.
    pub(super) fn call_guarded(
        &mut self,
        state: &SubscriptionState,
        handler: &mut OwnedHandler<P>,
        permit: Option<Permit>,
        left: &mut Left<P>,
    ) -> Option<Outcome> {
        let clock = self.clock;
        let is_timed = handler.breaker().is_some_and(|guarded| guarded.circuit.needs_clock());
        let begun = is_timed.then(|| clock.now());
        let outcome = Outcome::of_call(self.call(state, handler))?;
        if let (Some(guarded), Some(permit)) = (handler.breaker(), permit) {
            let circuit = &mut guarded.circuit;
            let verdict = match &outcome {
                Outcome::Delivered => {
                    begun.map_or(Verdict::Success, |begun| circuit.success_in(clock.now().since(begun)))
                }
                Outcome::Failed(_) | Outcome::Panicked(_) => Verdict::Failure,
                _ => Verdict::Ignored,
            };
            if circuit.record(permit, verdict, || clock.now()).is_some() {
                left.waiting.note_breaker(state, circuit);
            }
        }
        Some(outcome)
    }

    /// Settles, and sees to a failure.
    pub(super) fn end(
        &mut self,
        state: &SubscriptionState,
        contract: Option<&mut Contract<P>>,
        outcome: Outcome,
        left: &mut Left<P>,
    ) -> Ended<P> {
        match settle(&state.tally, self.tally, &outcome) {
            Next::Done => Ended::Over,
            Next::HandBack => {
                left.refused.push(state.name.clone());
                Ended::Over
            }
            Next::Failed(failure) => self.fail(state, contract, failure, outcome, left),
        }
    }

    /// Decides what becomes of a message whose delivery has failed, and tells of the failure.
    #[cold]
    #[inline(never)]
    fn fail(
        &mut self,
        state: &SubscriptionState,
        contract: Option<&mut Contract<P>>,
        failure: Failure,
        outcome: Outcome,
        left: &mut Left<P>,
    ) -> Ended<P> {
        let mut outcome = Some(outcome);
        let message = self.message;
        let retry = contract.and_then(|contract| contract.retry.as_mut());
        let Some(retry) = retry.filter(|_| failure.kind != FailureKind::Refused) else {
            // First of all: what is told may never return.
            settle_uncalled(&state.tally, &Outcome::GivenUp);
            let called = self
                .source
                .call(CallMark::settled(state.id), || tell(state, message, failure, None, &mut outcome));
            left.undropped.extend(outcome.map(Undropped::Outcome));
            return if matches!(called, Called::TakenOver) { Ended::TakenOver } else { Ended::Over };
        };
        let has_room = left.waiting.retrying(state.id) < retry.policy().most_waiting();
        let (now, retried) = (self.clock.now(), self.retried);
        let called = self.source.call(state.id, || {
            let error = match &outcome {
                Some(Outcome::Failed(error)) => Some(error),
                _ => None,
            };
            let first_at = retried.map_or(now, |retried| retried.first_at);
            let attempt = FailedAttempt {
                attempt: message.attempt(),
                kind: failure.kind,
                error,
                wish: error.map_or(Wish::ByPolicy, wish_of),
                first_at,
                last_delay: retried.map(|retried| retried.delay),
            };
            // Which errors are tried again is for foreign code to say. One that panics says no.
            let decision = guard(|| retry.decide(&attempt, now));
            let given_up = match decision {
                Some(Decision::GiveUp(reason)) => Some(reason),
                _ => None,
            };
            tell(state, message, failure, given_up, &mut outcome);
            let Some(Decision::Retry { due, delay }) = decision else { return Err(Outcome::GivenUp) };
            if !has_room {
                return Err(Outcome::Overflow);
            }
            let copy = if S::IS_COPY {
                None
            } else {
                Some(guard(|| Parked::copy(message)).ok_or(Outcome::GivenUp)?)
            };
            let retried = Retried { first_at, delay };
            Ok(Box::new(Again { copy, due, is_head: retry.policy().is_in_order(), retried }))
        });
        left.undropped.extend(outcome.map(Undropped::Outcome));
        let given_up = match called {
            Called::TakenOver => return Ended::TakenOver,
            Called::Returned(Ok(Ok(again))) => {
                state.tally.count_retry();
                return Ended::Again(again);
            }
            Called::Returned(Ok(Err(given_up))) => given_up,
            // Everything foreign is called where its panic is caught.
            Called::Returned(Err(_)) => Outcome::GivenUp,
            Called::Refused => {
                left.refused.push(state.name.clone());
                Outcome::Undelivered
            }
        };
        settle_uncalled(&state.tally, &given_up);
        Ended::Over
    }
}

/// Logs a failed delivery, and drops what the handler failed with.
fn tell<P>(
    state: &SubscriptionState,
    message: &Message<'_, P>,
    failure: Failure,
    given_up: Option<GiveUp>,
    outcome: &mut Option<Outcome>,
) {
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
                given_up = given_up.map(GiveUp::as_str),
                "a delivery failed"
            );
        });
    }
    guard(|| match outcome.take() {
        Some(Outcome::Failed(error)) => drop(error),
        Some(Outcome::Panicked(payload) | Outcome::Uncopied(payload)) => discard_panic(payload),
        _ => {}
    });
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

/// Whether a message that has extras is past its life.
#[cold]
pub(crate) fn has_expired<P>(message: &Message<'_, P>, clock: &Clock) -> bool {
    message.expires_at().is_some_and(|at| clock.now() >= at)
}
