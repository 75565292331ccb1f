//! A message that arrives where it cannot simply be delivered: what comes before the handler's call, step by step, and
//! how the message comes to wait.

use super::context;
use super::delivery::{Delivery, verdict_on};
use super::failed::{Ended, How, Kept, Then, bury, keep};
use super::keeping::{HandedOut, hand_out};
use super::outcome::{CallMark, Outcome};
use super::settle::settle_uncalled;
use super::source::{Event, Left, Source, Undropped, discard};
use crate::broker::account::term::FailureKind;
use crate::broker::dead_letters::Put;
use crate::broker::policy::breaker::circuit::{Admission, Permit};
use crate::broker::policy::breaker::{BreakerState, WhileOpen};
use crate::broker::subscribe::contract::{ALL, Asked, Contract};
use crate::broker::subscribe::handled::HandlerError;
use crate::broker::subscribe::handler::{OwnedHandler, Told};
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::broker::waiting::backlog::WhenFull;
use crate::broker::waiting::line::GivenUp;
use crate::broker::waiting::parked::Parked;
use crate::message::MessagePayload;
use crate::ring::Called;
use crate::sync::panics::guard;
use std::sync::Arc;

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
                let called = match handler.contract().filter(|contract| contract.has_to_ask()) {
                    Some(contract) => self.source.call(state.id, || contract.ask(self.message, ALL)),
                    None => Called::Returned(Ok(Asked::Go)),
                };
                match called {
                    Called::TakenOver => return false,
                    Called::Returned(Ok(Asked::Go)) => match self.gate(state, handler, left) {
                        Gated::Go(permit) if handler.contract().is_some_and(|it| it.keeper.is_some()) => {
                            match self.hand_out(state, handler, permit, left) {
                                Gated::Ended(outcome) => outcome,
                                Gated::TakenOver => return false,
                                Gated::Kept | Gated::Go(_) => return true,
                            }
                        }
                        Gated::Go(permit) => {
                            if let Some(contract) = handler.contract() {
                                contract.count_first_attempt();
                            }
                            let outcome = self.call_guarded(state, handler, permit, left);
                            let contract = handler.contract();
                            return outcome
                                .is_some_and(|outcome| self.end_event(state, contract, outcome, left));
                        }
                        Gated::Kept => return true,
                        Gated::Ended(outcome) => outcome,
                        Gated::TakenOver => return false,
                    },
                    Called::Returned(Ok(Asked::Filtered)) => Outcome::Filtered,
                    Called::Returned(Ok(Asked::Duplicate)) => Outcome::Duplicate,
                    Called::Returned(Err(payload)) => Outcome::Panicked(payload),
                    Called::Refused => Outcome::Undelivered,
                }
            }
            (Some(handler), outcome) => return self.end_event(state, handler.contract(), outcome, left),
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
        if let Some(refused) = self.refuse_before_conflating(state, handler) {
            return refused;
        }
        if state.is_queued() {
            let gated = self.park(state, handler, left);
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
            Admission::Wait => self.refuse(state, handler),
        }
    }

    /// Has an open breaker that holds nothing up say what becomes of a message that would only wait for its turn.
    fn refuse_before_conflating(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
    ) -> Option<Gated> {
        if !state.only_conflates() || state.breaker()? == BreakerState::Closed {
            return None;
        }
        let guarded = handler.breaker()?;
        let admission = guarded.circuit.admit(|| self.clock.now());
        state.set_breaker(guarded.circuit.state(), guarded.circuit.changes());
        match admission {
            // The probe is the next whose turn it is.
            Admission::Call(permit) => {
                guarded.circuit.give_back(permit);
                None
            }
            Admission::Wait => Some(self.refuse(state, handler)),
        }
    }

    /// Does with a message what is to be done while the breaker is open.
    fn refuse(&mut self, state: &Arc<SubscriptionState>, handler: &mut OwnedHandler<P>) -> Gated {
        let policy = handler.breaker().map(|guarded| guarded.circuit.while_open());
        let is_dead = policy == Some(WhileOpen::DeadLetter);
        self.call_fallback(state, handler).unwrap_or(Gated::Ended(Outcome::Refused { is_dead }))
    }

    /// Calls what handles messages while the breaker is open, if there is something.
    fn call_fallback(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
    ) -> Option<Gated> {
        let contract = handler.contract()?;
        let (fallback, message) = (contract.fallback.as_mut()?, self.message);
        context::begin_handling(message.id(), message.correlation());
        let called = self.source.call(state.id, || fallback(message));
        context::end_handling();
        let Some(outcome) = Outcome::of_call(called) else { return Some(Gated::TakenOver) };
        if matches!(outcome, Outcome::Delivered) {
            contract.confirm();
        }
        Some(Gated::Ended(outcome))
    }

    /// Copies the message and hands it out to a handler that keeps it.
    fn hand_out(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
        permit: Option<Permit>,
        left: &mut Left<P>,
    ) -> Gated {
        let Some(contract) = handler.contract() else { return Gated::Ended(Outcome::Undelivered) };
        let key = contract.key;
        let ended = match self.source.call(state.id, || Parked::copy(self.message, key)) {
            Called::Returned(Ok(parked)) => {
                contract.count_first_attempt();
                match hand_out(&mut self.source, state, contract, parked, permit, left) {
                    HandedOut::InFlight => return Gated::Kept,
                    HandedOut::TakenOver => return Gated::TakenOver,
                    HandedOut::Refused(parked) => {
                        // It is counted before its slot is released, for which who looks waits as well.
                        left.waiting.settled();
                        left.undropped.push(Undropped::Parked(parked));
                        Outcome::Undelivered
                    }
                }
            }
            Called::Returned(Err(payload)) => Outcome::Uncopied(payload),
            Called::Refused => Outcome::Undelivered,
            Called::TakenOver => return Gated::TakenOver,
        };
        if let (Some(guarded), Some(permit)) = (&mut contract.breaker, permit) {
            guarded.circuit.give_back(permit);
        }
        Gated::Ended(ended)
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
                Some(Told::Duplicate) => Outcome::Duplicate,
                Some(Told::BreakerChanged) => {
                    if let Some(guarded) = handler.breaker() {
                        left.waiting.note_breaker(state, &guarded.circuit);
                    }
                    // Its contract has been told.
                    return self.end_event(state, None, Outcome::Delivered, left);
                }
            },
            // What a filter has failed on says nothing of the handler, and is not tried again.
            Outcome::Panicked(_) if !has_begun => return self.end_event(state, None, outcome, left),
            outcome => outcome,
        };
        if let Some(guarded) = handler.breaker()
            && matches!(outcome, Outcome::Failed(_) | Outcome::Panicked(_) | Outcome::Late(_))
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
    fn park(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
        left: &mut Left<P>,
    ) -> Gated {
        if self.source.lease.is_stopped() {
            // What waits shall not give way for one that is handed back.
            return Gated::Ended(Outcome::Undelivered);
        }
        let (size, key) =
            (Parked::size_of(self.message), handler.contract().and_then(|contract| contract.key));
        let made = left.waiting.make_room(state, size, key, handler.backlog(), self.clock.now());
        let has_given_way = !made.is_nothing();
        let GivenUp { expired, dropped: mut given_up, has_room } = made;
        for _ in &given_up {
            settle_uncalled(&state.tally, &Outcome::Overflow);
        }
        if let Some(contract) = handler.contract() {
            for parked in given_up.iter().chain(&expired) {
                contract.release(parked.key, parked.id(left.origin));
            }
        }
        let mut swept = self.count_expired(state, handler, expired, left);
        if has_given_way {
            left.waiting.settled();
        }
        let gated = self.copy_to_wait(state, handler, has_room, &mut given_up, left);
        if matches!(gated, Gated::TakenOver) {
            given_up.into_iter().chain(swept.parked).for_each(|parked| _ = guard(|| drop(parked)));
            swept.letters.into_iter().for_each(|put| _ = guard(|| put.discard()));
            return gated;
        }
        let (gated, is_ours) = match gated {
            Gated::Ended(outcome) => (Gated::Kept, self.end_event(state, None, outcome, left)),
            gated => (gated, true),
        };
        // Last: while this hangs, the delivery at hand is settled, or its message waits.
        let is_ours = is_ours && self.tell_of_expired(state, handler, &mut swept, left);
        given_up.append(&mut swept.parked);
        let is_ours = is_ours && discard(&mut self.source, state, given_up, left);
        if is_ours { gated } else { Gated::TakenOver }
    }

    /// Counts messages that have expired where they waited. Runs no foreign code.
    fn count_expired(
        &self,
        state: &SubscriptionState,
        handler: &mut OwnedHandler<P>,
        expired: Vec<Parked<P>>,
        left: &Left<P>,
    ) -> Swept<P> {
        let are_dead =
            handler.contract().and_then(|contract| contract.expired.as_ref()).is_some_and(|it| it.are_dead);
        let mut swept = Swept { parked: Vec::new(), letters: Vec::new() };
        for parked in expired {
            match &left.dead_letters {
                Some(store) if are_dead => {
                    let kind = FailureKind::Expired;
                    state.tally.count_failure(kind);
                    swept.letters.push(bury(state, parked, kind, store, self.clock, left));
                }
                _ => {
                    settle_uncalled(&state.tally, &Outcome::Expired);
                    swept.parked.push(parked);
                }
            }
        }
        swept
    }

    /// Tells of messages that have expired where they waited, and drops what the store has let go of for them. Returns
    /// whether the consumer still has its position.
    fn tell_of_expired(
        &mut self,
        state: &SubscriptionState,
        handler: &mut OwnedHandler<P>,
        swept: &mut Swept<P>,
        left: &mut Left<P>,
    ) -> bool {
        if swept.parked.is_empty() && swept.letters.is_empty() {
            return true;
        }
        let callback = handler.contract().and_then(|contract| contract.expired.as_ref()?.callback.clone());
        let (origin, occasion) = (left.origin, self.message.occasion());
        let Swept { parked, letters } = swept;
        let called = self.source.call(CallMark::settled(state.id), || {
            for parked in callback.iter().flat_map(|_| &*parked) {
                guard(|| callback.as_ref().map(|callback| callback(&parked.message(origin, occasion))));
            }
            letters.drain(..).for_each(Put::discard);
        });
        left.undropped.extend(letters.drain(..).map(Undropped::Letters));
        !matches!(called, Called::TakenOver)
    }

    /// Copies the message to wait, or to be a dead letter. Adds the one whose place it takes to those that are given
    /// up.
    fn copy_to_wait(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
        has_room: bool,
        given_up: &mut Vec<Parked<P>>,
        left: &mut Left<P>,
    ) -> Gated {
        let bounds = handler.backlog();
        if !has_room && bounds.when_full_in(left.dead_letters.is_some()) != WhenFull::DeadLetter {
            return Gated::Ended(Outcome::Overflow);
        }
        let key = handler.contract().and_then(|contract| contract.key);
        match self.source.call(state.id, || Parked::copy(self.message, key)) {
            Called::Returned(Ok(parked)) if !has_room => {
                let then = Then::Dead(FailureKind::Overflow);
                let how = How { attempt: None, first_at: self.clock.now(), then };
                let is_ours = keep(&mut self.source, state, parked, how, self.clock, left);
                if is_ours { Gated::Kept } else { Gated::TakenOver }
            }
            Called::Returned(Ok(parked)) => {
                if let Some(contract) = handler.contract() {
                    contract.reserve(key, self.message.id());
                }
                if let Some(outdated) = left.waiting.push(state, parked) {
                    settle_uncalled(&state.tally, &Outcome::Conflated);
                    given_up.push(outdated);
                }
                Gated::Kept
            }
            Called::Returned(Err(payload)) => Gated::Ended(Outcome::Uncopied(payload)),
            Called::Refused => Gated::Ended(Outcome::Undelivered),
            Called::TakenOver => Gated::TakenOver,
        }
    }
}

/// Messages that have expired where they waited, and have been counted.
struct Swept<P> {
    parked: Vec<Parked<P>>,
    /// What the store has let go of, for those that have become dead letters.
    letters: Vec<Put<P>>,
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
