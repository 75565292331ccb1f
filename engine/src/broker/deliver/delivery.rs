//! One delivery: what comes before the handler's call, and what comes of it.
//!
//! Everything foreign is called under the consumer's lease, as a handler is: it may panic, and it may
//! never return.

use super::context;
use super::outcome::{CallMark, Outcome};
use super::settle::{Failure, Next, settle, settle_uncalled};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::account::term::FailureKind;
use crate::broker::dead_letters::{Attempt, DeadLetter, Put, SharedStore, error_text};
use crate::broker::policy::breaker::WhileOpen;
use crate::broker::policy::breaker::circuit::{Admission, Permit, Verdict};
use crate::broker::policy::retry::{Decision, FailedAttempt, GiveUp, RetryState};
use crate::broker::subscribe::callbacks::panic_text;
use crate::broker::subscribe::handled::{HandlerError, Wish, is_of_the_message, wish_of};
use crate::broker::subscribe::handler::{Callee, Contract, OwnedHandler, Told};
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::broker::waiting::backlog::{Backlog, WhenFull};
use crate::broker::waiting::parked::{Parked, Retried};
use crate::broker::waiting::queue::GivenUp;
use crate::broker::waiting::side::ConsumerSide;
use crate::clock::{Clock, Timestamp};
use crate::message::{Envelope, Message, MessagePayload, Origin};
use crate::ring::{Called, Lease, Poller, Sequence};
use crate::sync::panics::{discard_panic, guard};
use std::sync::Arc;
use std::time::Duration;

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
    /// A dead letter whose replay is over.
    Letter(#[expect(dead_code, reason = "it is to be dropped")] Arc<DeadLetter<P>>),
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

/// How a delivery has ended, as far as its consumer has anything to do with it.
pub(super) enum Ended<P> {
    /// It is over.
    Over,
    /// It is over with the handler, or with this attempt, and the message is kept.
    Kept(Box<Kept<P>>),
    /// Somebody else has the consumer's position.
    TakenOver,
}

/// A message whose delivery has failed and that is kept.
pub(super) struct Kept<P> {
    /// The message, unless it was a copy already.
    pub(super) copy: Option<Parked<P>>,
    pub(super) how: How,
}

/// How a message is kept.
pub(super) struct How {
    /// The attempt that has failed, where dead letters are kept and there was one.
    attempt: Option<Attempt>,
    first_at: Timestamp,
    then: Then,
}

/// What becomes of a message that is kept.
enum Then {
    /// It is tried again, and perhaps the others of its subscription wait for it.
    Again { due: Timestamp, delay: Duration, is_head: bool },
    /// It is a dead letter.
    Dead(FailureKind),
}

impl<P: MessagePayload> Delivery<'_, '_, P, Event<'_>> {
    /// Delivers step by step: asks for the end of the subscription, the end of the message's life, the filter, whether
    /// the message has to wait, and the breaker, in this order. Returns whether the consumer still has its position.
    #[cold]
    #[inline(never)]
    pub(super) fn deliver_in_steps(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut Option<OwnedHandler<P>>,
        has_expired: bool,
        left: &mut Left<P>,
    ) -> bool {
        // An earlier delivery of this very message may have ended the subscription.
        let outcome = match (handler, Outcome::uncalled(state, has_expired)) {
            (None, _) => Outcome::Unsubscribed,
            (Some(handler), Outcome::Undelivered) => {
                let called = match handler.contract().and_then(|contract| contract.filter.as_mut()) {
                    Some(filter) => self.source.call(state.id, || filter(self.message)),
                    None => Called::Returned(Ok(true)),
                };
                match called {
                    Called::TakenOver => return false,
                    Called::Returned(Ok(true)) => match self.gate(state, handler, left) {
                        Gated::Go(permit) => {
                            handler.count_first_attempt();
                            let outcome = self.call_guarded(state, handler, permit, left);
                            let contract = handler.contract();
                            return outcome
                                .is_some_and(|outcome| self.end_event(state, contract, outcome, left));
                        }
                        Gated::Kept => return true,
                        Gated::Ended(outcome) => outcome,
                        Gated::TakenOver => return false,
                    },
                    Called::Returned(Ok(false)) => Outcome::Filtered,
                    Called::Returned(Err(payload)) => Outcome::Panicked(payload),
                    Called::Refused => Outcome::Undelivered,
                }
            }
            (_, outcome) => outcome,
        };
        // What a filter or a copy has failed is not tried again.
        self.end_event(state, None, outcome, left)
    }

    /// Finds out whether the handler may be called now, and has the message wait if not.
    fn gate(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
        left: &mut Left<P>,
    ) -> Gated {
        if state.is_queued() {
            let gated = self.park(state, handler.backlog(), left);
            if state.waits_for(Reason::Breaker) {
                // Its time may have come.
                left.waiting.look_at(state);
            }
            return gated;
        }
        let Some(guarded) = handler.breaker() else { return Gated::Go(None) };
        let admission = guarded.circuit.admit(|| self.clock.now());
        state.set_breaker(guarded.circuit.state(), guarded.circuit.changes());
        match admission {
            Admission::Call(permit) => Gated::Go(Some(permit)),
            // Where messages wait meanwhile, it is queued.
            Admission::Wait => {
                let is_dead = guarded.circuit.while_open() == WhileOpen::DeadLetter;
                Gated::Ended(Outcome::Refused { is_dead })
            }
        }
    }

    /// Sees to what has come of a call of a message that comes as it is, unless it has returned well. Returns whether
    /// the consumer still has its position.
    #[cold]
    #[inline(never)]
    pub(super) fn end_otherwise(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
        called: Called<Result<(), HandlerError>>,
        left: &mut Left<P>,
    ) -> bool {
        let Some(outcome) = Outcome::of_call(called) else { return false };
        let has_begun = handler.contract().is_none_or(|contract| contract.has_begun);
        let outcome = match outcome {
            Outcome::Failed(error) => match Told::of(&error) {
                None => Outcome::Failed(error),
                Some(Told::Filtered) => Outcome::Filtered,
                Some(Told::BreakerChanged) => {
                    if let Some(guarded) = handler.breaker() {
                        left.waiting.note_breaker(state, &guarded.circuit);
                    }
                    Outcome::Delivered
                }
            },
            // What a filter has failed on says nothing of the handler, and is not tried again.
            Outcome::Panicked(_) if !has_begun => return self.end_event(state, None, outcome, left),
            outcome => outcome,
        };
        if let Some(guarded) = handler.breaker()
            && matches!(outcome, Outcome::Failed(_) | Outcome::Panicked(_))
        {
            let permit = guarded.circuit.permit();
            self.record(state, handler, Some(permit), verdict_on(&outcome), left);
        }
        self.end_event(state, handler.contract(), outcome, left)
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
            Ended::Kept(kept) => {
                let Kept { copy, how } = *kept;
                copy.is_none_or(|parked| keep(&mut self.source, state, parked, how, self.clock, left))
            }
            Ended::TakenOver => false,
        }
    }

    /// Has the message wait, as far as there is room.
    fn park(&mut self, state: &Arc<SubscriptionState>, bounds: Backlog, left: &mut Left<P>) -> Gated {
        if self.source.lease.is_stopped() {
            // What waits shall not give way for one that is handed back.
            return Gated::Ended(Outcome::Undelivered);
        }
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
        let gated = self.copy_to_wait(state, has_room, bounds, left);
        if matches!(gated, Gated::TakenOver) {
            given_up.into_iter().for_each(|parked| _ = guard(|| drop(parked)));
            return gated;
        }
        // Last: while this hangs, the delivery at hand is settled, or its message waits.
        if let Gated::Ended(outcome) = gated {
            let is_ours = self.end_event(state, None, outcome, left);
            let is_ours = is_ours && discard(&mut self.source, state, given_up, left);
            return if is_ours { Gated::Kept } else { Gated::TakenOver };
        }
        if discard(&mut self.source, state, given_up, left) { gated } else { Gated::TakenOver }
    }

    /// Copies the message to wait, or to be a dead letter.
    fn copy_to_wait(
        &mut self,
        state: &Arc<SubscriptionState>,
        has_room: bool,
        bounds: Backlog,
        left: &mut Left<P>,
    ) -> Gated {
        if !has_room && bounds.when_full_in(left.dead_letters.is_some()) != WhenFull::DeadLetter {
            return Gated::Ended(Outcome::Overflow);
        }
        match self.source.call(state.id, || Parked::copy(self.message)) {
            Called::Returned(Ok(parked)) if !has_room => {
                let then = Then::Dead(FailureKind::Overflow);
                let how = How { attempt: None, first_at: self.clock.now(), then };
                let is_ours = keep(&mut self.source, state, parked, how, self.clock, left);
                if is_ours { Gated::Kept } else { Gated::TakenOver }
            }
            Called::Returned(Ok(parked)) => {
                left.waiting.push(state, parked);
                Gated::Kept
            }
            Called::Returned(Err(payload)) => Gated::Ended(Outcome::Uncopied(payload)),
            Called::Refused => Gated::Ended(Outcome::Undelivered),
            Called::TakenOver => Gated::TakenOver,
        }
    }
}

/// What becomes of a message before its handler is called.
enum Gated {
    /// The handler may be called, and its breaker, if there is one, wants to know how it went.
    Go(Option<Permit>),
    /// The message waits, or is a dead letter.
    Kept,
    /// The delivery has ended.
    Ended(Outcome),
    /// Somebody else has the consumer's position.
    TakenOver,
}

impl<P: MessagePayload, S: Source> Delivery<'_, '_, P, S> {
    /// Calls the handler, and asks first what its contract wants of a message that comes as it is.
    #[inline(always)]
    pub(super) fn call(
        &mut self,
        state: &SubscriptionState,
        handler: &mut dyn Callee<P>,
    ) -> Called<Result<(), HandlerError>> {
        let message = self.message;
        context::begin_handling(message.id(), message.correlation());
        let called = self.source.call(state.id, || handler.call(message));
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
        let called = handler.call_bare(|handler| self.call(state, handler));
        let outcome = Outcome::of_call(called)?;
        let verdict = match (verdict_on(&outcome), begun, handler.breaker()) {
            (Verdict::Success, Some(begun), Some(guarded)) => {
                guarded.circuit.success_in(clock.now().since(begun))
            }
            (verdict, ..) => verdict,
        };
        self.record(state, handler, permit, verdict, left);
        Some(outcome)
    }

    /// Tells a breaker, if there is one, how a call went.
    fn record(
        &self,
        state: &SubscriptionState,
        handler: &mut OwnedHandler<P>,
        permit: Option<Permit>,
        verdict: Verdict,
        left: &mut Left<P>,
    ) {
        if let (Some(guarded), Some(permit)) = (handler.breaker(), permit)
            && guarded.circuit.record(permit, verdict, || self.clock.now()).is_some()
        {
            left.waiting.note_breaker(state, &guarded.circuit);
        }
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
        let mut retry = contract.and_then(|contract| contract.retry.as_mut());
        let (may_retry, may_be_dead) = match &outcome {
            // A copy that has panicked once panics again.
            Some(Outcome::Uncopied(_) | Outcome::Refused { is_dead: false }) => (false, false),
            Some(Outcome::Refused { is_dead: true }) => (false, true),
            _ => (true, true),
        };
        retry = retry.filter(|_| may_retry);
        let store = left.dead_letters.clone().filter(|_| may_be_dead);
        if retry.is_none() && store.is_none() {
            // First of all: what is told may never return.
            settle_uncalled(&state.tally, &Outcome::GivenUp);
            let mark = CallMark::settled(state.id);
            let called = self.source.call(mark, || tell(state, message, failure, None, &mut outcome));
            left.undropped.extend(outcome.map(Undropped::Outcome));
            return if matches!(called, Called::TakenOver) { Ended::TakenOver } else { Ended::Over };
        }
        let waiting = &left.waiting;
        let has_room =
            retry.as_ref().is_none_or(|retry| waiting.retrying(state.id) < retry.policy().most_waiting());
        let (now, retried) = (self.clock.now(), self.retried);
        let first_at = retried.map_or(now, |retried| retried.first_at);
        let called = self.source.call(state.id, || {
            let decision =
                retry.and_then(|retry| decide(retry, message, failure, &outcome, retried, has_room, now));
            let given_up = match decision {
                Some((Decision::GiveUp(reason), _)) => Some(reason),
                _ => None,
            };
            let attempt = match (&store, failure.kind) {
                (None, _) | (_, FailureKind::Refused) => None,
                (Some(store), kind) => {
                    let text = store.keeps_error_texts().then(|| text_of(&outcome)).flatten();
                    Some(Attempt::new(message.attempt(), self.clock.wall(now), kind, text))
                }
            };
            tell(state, message, failure, given_up, &mut outcome);
            let then = match decision {
                Some((Decision::Retry { due, delay }, is_head)) => Then::Again { due, delay, is_head },
                _ if store.is_some() => Then::Dead(failure.kind),
                Some((Decision::GiveUp(GiveUp::NoRoom), _)) => return Err(Outcome::Overflow),
                _ => return Err(Outcome::GivenUp),
            };
            let copy = if S::IS_COPY {
                None
            } else {
                Some(guard(|| Parked::copy(message)).ok_or(Outcome::GivenUp)?)
            };
            Ok(Box::new(Kept { copy, how: How { attempt, first_at, then } }))
        });
        left.undropped.extend(outcome.map(Undropped::Outcome));
        let given_up = match called {
            Called::TakenOver => return Ended::TakenOver,
            Called::Returned(Ok(Ok(kept))) => return Ended::Kept(kept),
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

/// Returns what an outcome says of the handler, whatever time it took.
fn verdict_on(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Delivered => Verdict::Success,
        Outcome::Failed(error) if is_of_the_message(error) => Verdict::Ignored,
        Outcome::Failed(_) | Outcome::Panicked(_) => Verdict::Failure,
        _ => Verdict::Ignored,
    }
}

/// Decides whether a failed message is tried again, and whether as the head of all others. Which errors are tried again
/// is for foreign code to say: where that panics, nothing is decided.
fn decide<P>(
    retry: &mut RetryState,
    message: &Message<'_, P>,
    failure: Failure,
    outcome: &Option<Outcome>,
    retried: Option<&Retried>,
    has_room: bool,
    now: Timestamp,
) -> Option<(Decision, bool)> {
    let error = match outcome {
        Some(Outcome::Failed(error)) => Some(error),
        _ => None,
    };
    let attempt = FailedAttempt {
        attempt: message.attempt(),
        kind: failure.kind,
        error,
        wish: error.map_or(Wish::ByPolicy, wish_of),
        first_at: retried.map_or(now, |retried| retried.first_at),
        last_delay: retried.map(|retried| retried.delay),
        has_room,
    };
    let decision = guard(|| retry.decide(&attempt, now))?;
    Some((decision, retry.policy().is_in_order()))
}

/// Returns what an error says, or a panic that says something. Runs foreign code, whose panic is caught.
fn text_of(outcome: &Option<Outcome>) -> Option<Box<str>> {
    match outcome {
        Some(Outcome::Failed(error)) => Some(error_text(error)),
        Some(Outcome::Panicked(payload)) => panic_text(&**payload).map(error_text),
        _ => None,
    }
}

/// Has a message that has failed wait for its next attempt, or makes it a dead letter. Returns whether the consumer
/// still has its position.
pub(super) fn keep<P: MessagePayload>(
    source: &mut impl Source,
    state: &Arc<SubscriptionState>,
    mut parked: Parked<P>,
    how: How,
    clock: &Clock,
    left: &mut Left<P>,
) -> bool {
    let How { attempt, first_at, then } = how;
    if let Some(attempt) = attempt {
        parked.note(attempt, first_at);
    }
    match (then, left.dead_letters.clone()) {
        (Then::Again { due, delay, is_head }, _) => {
            parked.put_back(first_at, delay);
            state.tally.count_retry();
            left.waiting.retry(state, parked, due, is_head);
            true
        }
        (Then::Dead(kind), Some(store)) => {
            let mut put = Some(store.put(parked.into_letter(state, kind, left.origin, clock), clock));
            settle_uncalled(&state.tally, &Outcome::DeadLettered);
            left.waiting.settled();
            let called = source.call(CallMark::settled(state.id), || put.take().map(Put::discard));
            left.undropped.extend(put.map(Undropped::Letters));
            !matches!(called, Called::TakenOver)
        }
        (Then::Dead(_), None) => {
            debug_assert!(false, "nobody decides so without a store");
            discard(source, state, vec![parked], left)
        }
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

/// Whether a message that has extras is past its life.
#[cold]
pub(crate) fn has_expired<P>(message: &Message<'_, P>, clock: &Clock) -> bool {
    message.expires_at().is_some_and(|at| clock.now() >= at)
}
