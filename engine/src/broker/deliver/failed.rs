//! What becomes of a message whose delivery has failed: it is tried again, becomes a dead letter, or is given up.

use super::delivery::Delivery;
use super::left::{Left, Undropped};
use super::outcome::{CallMark, Outcome};
use super::settle::{Failure, Next, settle, settle_uncalled};
use super::source::{Event, Source, discard};
use crate::broker::account::term::FailureKind;
use crate::broker::dead_letters::{Attempt, Put, SharedStore, error_text};
use crate::broker::policy::retry::{Decision, FailedAttempt, GiveUp, RetryState};
use crate::broker::subscribe::callbacks::{Callbacks, panic_text};
use crate::broker::subscribe::contract::{Contract, Expired};
use crate::broker::subscribe::handled::{Wish, wish_of};
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::parked::{Parked, Retried};
use crate::clock::{Clock, Timestamp};
use crate::message::{Message, MessagePayload};
use crate::ring::Called;
use crate::sync::panics::{discard_panic, guard};
use std::sync::Arc;
use std::time::Duration;

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

impl<P> Kept<P> {
    /// Returns whether it waits for another attempt.
    fn is_to_wait(&self) -> bool {
        matches!(self.how.then, Then::Again { .. })
    }
}

/// How a message is kept.
pub(super) struct How {
    /// The attempt that has failed, where dead letters are kept and there was one.
    pub(super) attempt: Option<Attempt>,
    pub(super) first_at: Timestamp,
    pub(super) then: Then,
}

/// What becomes of a message that is kept.
pub(super) enum Then {
    /// It is tried again, and perhaps the others of its subscription wait for it.
    Again { due: Timestamp, delay: Duration, is_head: bool },
    /// It is a dead letter.
    Dead(FailureKind),
}

impl<P: MessagePayload, S: Source<P>> Delivery<'_, '_, P, S> {
    /// Settles, and sees to a failure.
    pub(super) fn end(
        &mut self,
        state: &SubscriptionState,
        mut contract: Option<&mut Contract<P>>,
        outcome: Outcome,
        left: &mut Left<P>,
    ) -> Ended<P> {
        let was_delivered = matches!(outcome, Outcome::Delivered);
        if matches!(outcome, Outcome::Late(_)) {
            state.count_late();
        }
        let expired = contract.as_ref().and_then(|contract| contract.expired.clone());
        let expired = expired.filter(|_| matches!(outcome, Outcome::Expired));
        let outcome = match &expired {
            Some(Expired { are_dead: true, .. }) => Outcome::ExpiredDead,
            _ => outcome,
        };
        let mut ended = match settle(&state.tally, self.tally, &outcome) {
            Next::Done => Ended::Over,
            Next::HandBack => {
                left.refused.push(state.name.clone());
                Ended::Over
            }
            Next::Failed(failure) => self.fail(state, contract.as_deref_mut(), failure, outcome, left),
        };
        if let Some(contract) = contract {
            let (key, id) = (contract.key, self.message.id());
            match &mut ended {
                Ended::Over if was_delivered => contract.confirm(),
                Ended::Kept(kept) if kept.is_to_wait() => {
                    contract.reserve(key, id);
                    if let Some(copy) = &mut kept.copy {
                        copy.key = key;
                    }
                }
                Ended::Over | Ended::Kept(_) => contract.release(key, id),
                Ended::TakenOver => {}
            }
        }
        if let Some(Expired { callback: Some(callback), are_dead: false }) = expired {
            let message = self.message;
            let called = self.source.call(CallMark::settled(state.id), || guard(|| callback(message)));
            if matches!(called, Called::TakenOver) {
                return Ended::TakenOver;
            }
        }
        ended
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
        // Who hears of the failures of a handler that keeps messages; others' hear of them in the call.
        let callbacks =
            contract.as_ref().and_then(|contract| Some(contract.keeper.as_ref()?.callbacks.clone()));
        let mut retry = contract.and_then(|contract| contract.retry.as_mut());
        let (may_retry, may_be_dead) = match &outcome {
            // A copy that has panicked once panics again.
            Some(Outcome::Uncopied(_) | Outcome::Refused { is_dead: false }) => (false, false),
            Some(Outcome::Refused { is_dead: true } | Outcome::ExpiredDead) => (false, true),
            _ => (true, true),
        };
        retry = retry.filter(|_| may_retry);
        let store = left.dead_letters.clone().filter(|_| may_be_dead);
        if retry.is_none() && store.is_none() {
            // First of all: what is told may never return.
            settle_uncalled(&state.tally, &Outcome::GivenUp);
            let mark = CallMark::settled(state.id);
            let called = self
                .source
                .call(mark, || tell(state, message, failure, None, callbacks.as_deref(), &mut outcome));
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
                // It has not come to an attempt.
                (None, _) | (_, FailureKind::Refused | FailureKind::Expired) => None,
                (Some(store), kind) => {
                    let text = store.keeps_error_texts().then(|| text_of(&outcome)).flatten();
                    Some(Attempt::new(message.attempt(), self.clock.wall(now), kind, text))
                }
            };
            tell(state, message, failure, given_up, callbacks.as_deref(), &mut outcome);
            let then = match decision {
                Some((Decision::Retry { due, delay }, is_head)) => Then::Again { due, delay, is_head },
                _ if store.is_some() => Then::Dead(failure.kind),
                Some((Decision::GiveUp(GiveUp::NoRoom), _)) => return Err(Outcome::Overflow),
                _ => return Err(Outcome::GivenUp),
            };
            let copy = if S::IS_COPY {
                None
            } else {
                Some(guard(|| Parked::copy(message, None)).ok_or(Outcome::GivenUp)?)
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

impl<P: MessagePayload> Delivery<'_, '_, P, Event<'_>> {
    /// Settles, and has the message wait for another attempt where it has failed. Returns whether the consumer still
    /// has its position.
    pub(super) fn end_event(
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
        Some(Outcome::Failed(error) | Outcome::Late(error)) => Some(error_text(error)),
        Some(Outcome::Panicked(payload)) => panic_text(&**payload).map(error_text),
        _ => None,
    }
}

/// Has a message that has failed wait for its next attempt, or makes it a dead letter. Returns whether the consumer
/// still has its position.
pub(super) fn keep<P: MessagePayload>(
    source: &mut impl Source<P>,
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
            match left.waiting.retry(state, parked, due, is_head) {
                None => true,
                // A newer one has taken its place while it was tried.
                Some(outdated) => {
                    settle_uncalled(&state.tally, &Outcome::Conflated);
                    left.waiting.settled();
                    discard(source, state, vec![outdated], left)
                }
            }
        }
        (Then::Dead(kind), Some(store)) => {
            let mut put = Some(bury(state, parked, kind, &store, clock, left));
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

/// Makes a message a dead letter, and counts it. What the store has let go of is to be dropped.
pub(super) fn bury<P: MessagePayload>(
    state: &SubscriptionState,
    parked: Parked<P>,
    kind: FailureKind,
    store: &SharedStore<P>,
    clock: &Clock,
    left: &Left<P>,
) -> Put<P> {
    let put = store.put(parked.into_letter(state, kind, left.origin, clock), clock);
    settle_uncalled(&state.tally, &Outcome::DeadLettered);
    put
}

/// Logs a failed delivery, and drops what the handler failed with.
fn tell<P: 'static>(
    state: &SubscriptionState,
    message: &Message<'_, P>,
    failure: Failure,
    given_up: Option<GiveUp>,
    callbacks: Option<&Callbacks<P>>,
    outcome: &mut Option<Outcome>,
) {
    if let Some(callbacks) = callbacks {
        let (error, panic) = match &outcome {
            Some(Outcome::Failed(error)) => (Some(error), None),
            Some(Outcome::Panicked(panic)) => (None, panic_text(&**panic)),
            _ => (None, None),
        };
        callbacks.tell(message, failure.kind, error, panic);
    }
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
        Some(Outcome::Failed(error) | Outcome::Late(error)) => drop(error),
        Some(Outcome::Panicked(payload) | Outcome::Uncopied(payload)) => discard_panic(payload),
        _ => {}
    });
}
