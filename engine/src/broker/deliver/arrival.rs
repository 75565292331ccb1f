//! A message that arrives where it cannot simply be delivered: what comes before the handler's call, step by step, and
//! how the message comes to wait.

use super::context;
use super::delivery::{Delivery, verdict_on};
use super::keeping::{HandedOut, hand_out};
use super::left::{Left, Undropped};
use super::outcome::Outcome;
use super::parking::{Gated, Waiting};
use super::source::Event;
use crate::broker::policy::breaker::circuit::{Admission, Permit};
use crate::broker::policy::breaker::{BreakerState, WhileOpen};
use crate::broker::subscribe::contract::{ALL, Asked};
use crate::broker::subscribe::handled::HandlerError;
use crate::broker::subscribe::handler::{OwnedHandler, Told};
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::broker::waiting::parked::Parked;
use crate::message::MessagePayload;
use crate::ring::Called;
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
        let message = self.message;
        // An earlier delivery of this very message may have ended the subscription.
        let outcome = match (handler, Outcome::uncalled(state, has_expired)) {
            (None, _) if state.waits_for(Reason::Away) => match self.park_for_absent(state, left) {
                Gated::Ended(outcome) => outcome,
                gated => return !matches!(gated, Gated::TakenOver),
            },
            (None, _) => Outcome::Unsubscribed,
            (Some(handler), Outcome::Undelivered) => {
                let called = match handler.contract().filter(|contract| contract.has_to_ask()) {
                    Some(contract) => self.call_foreign(state.id, || contract.ask(message, ALL)),
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
        if let Some(refused) = self.refuse_before_its_turn(state, handler) {
            return refused;
        }
        if state.is_queued() {
            let gated = self.park(state, &mut Waiting::Of(handler), left);
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
    fn refuse_before_its_turn(
        &mut self,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
    ) -> Option<Gated> {
        if !state.only_takes_its_turn() || state.breaker()? == BreakerState::Closed {
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
        let called = self.call_foreign(state.id, || fallback(message));
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
        let (key, message) = (contract.key, self.message);
        let ended = match self.call_foreign(state.id, || Parked::copy(message, key)) {
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
}
