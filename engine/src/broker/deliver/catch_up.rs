//! Delivering what has waited.

use super::delivery::Delivery;
use super::failed::Ended;
use super::handlers::HandlerTable;
use super::keeping::{HandedOut, hand_out};
use super::left::Left;
use super::left::Terms;
use super::lending::{Lender, LentCall};
use super::mailbox::{Command, Returning};
use super::outcome::Outcome;
use super::settle::settle_uncalled;
use super::source::{Source, Waited};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::policy::breaker::circuit::{Admission, Permit, Verdict};
use crate::broker::policy::guarded::Guarded;
use crate::broker::subscribe::contract::{ALL, Asked};
use crate::broker::subscribe::handler::{OwnedHandler, drop_handler};
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::broker::waiting::parked::Parked;
use crate::broker::waiting::side::Popped;
use crate::clock::Clock;
use crate::message::{Envelope, MessagePayload, Occasion, Origin};
use crate::ring::{Called, Poller};
use crate::sync::panics::guard;
use std::sync::Arc;

impl<P: MessagePayload> HandlerTable<P> {
    /// Delivers up to `max` messages that have waited and may be delivered by now, one of each subscription after
    /// the other. Returns how many it has seen to.
    #[cold]
    pub(super) fn deliver_waiting(
        &mut self,
        poller: &mut Poller<Envelope<P>>,
        tally: &ConsumerTally,
        max: u64,
    ) -> u64 {
        let mut done = 0;
        self.left.waiting.begin_turn(|| self.common.clock.now());
        while done < max {
            // Between any two calls: a pause is to hold at once.
            if poller.has_commands() {
                self.read_mail(poller.lease());
            }
            let Some(subscription) = self.left.waiting.next_turn() else { break };
            if !self.deliver_next(poller, tally, subscription) {
                return done + 1;
            }
            done += 1;
        }
        done
    }

    /// Delivers the next message of one subscription, if there is one. Returns whether the consumer still has its
    /// position.
    fn deliver_next(
        &mut self,
        poller: &mut Poller<Envelope<P>>,
        tally: &ConsumerTally,
        subscription: u64,
    ) -> bool {
        if let Some(is_ours) = self.settle_kept(poller, tally, subscription) {
            return is_ours;
        }
        let Some(owned) = self.owned.get(subscription) else { return true };
        // What waits for one that has ended is settled when its release is read, and dead letters stay in the store.
        if owned.state.has_ended() {
            return true;
        }
        // Taken out: whoever replaces this consumer during a call is to have all others.
        let Some(mut handler) = owned.handler.take() else { return true };
        let state = owned.state.clone();
        let is_ours = self.deliver_to(poller, tally, &state, &mut handler);
        if poller.lease().is_replaced() {
            self.common.threads.note_returned(self.consumer, self.last_lent);
            let returning = Returning { subscription, handler };
            if let Err(Command::ComeBack(returning)) = self.mailbox.post(Command::ComeBack(returning)) {
                drop_handler(Some(returning.handler));
            }
        } else if let Some(owned) = self.owned.get(subscription) {
            owned.handler = Some(handler);
        }
        is_ours
    }

    /// Delivers the next message of a subscription to its handler, if it may be. Returns whether the consumer still has
    /// its position.
    fn deliver_to(
        &mut self,
        poller: &mut Poller<Envelope<P>>,
        tally: &ConsumerTally,
        state: &Arc<SubscriptionState>,
        handler: &mut OwnedHandler<P>,
    ) -> bool {
        let Self { consumer, common, occasion, owned, left, lending, last_lent, .. } = self;
        let (origin, clock) = (common.origin, &common.clock);
        let is_held = state.waits_for(Reason::Paused) || state.waits_for(Reason::InFlight);
        if let Some(conflation) = handler.contract().and_then(|contract| contract.conflation.as_mut())
            && conflation.lets_by(poller.is_ready_leased())
        {
            left.waiting.look_later(state, None);
            return true;
        }
        let asked = if is_held { Admitted::Later } else { ask(handler.breaker(), state, clock, left) };
        let (popped, permit) = match asked {
            Admitted::Go(permit) => (left.waiting.pop(state, || clock.now(), origin), permit),
            Admitted::Later => (left.waiting.take_expired(state, || clock.now(), origin), None),
        };
        let parked = match popped {
            Some(Popped::Message(parked)) => Some(parked),
            Some(Popped::Replay(number)) => match copy_letter(poller, number, state, handler, occasion, left)
            {
                Copied::Message(parked) => {
                    left.waiting.begin_call(state.id, &parked, origin);
                    Some(parked)
                }
                Copied::Nothing => {
                    left.waiting.settled();
                    None
                }
                Copied::TakenOver => return false,
            },
            None => None,
        };
        let Some(parked) = parked else {
            if let (Some(guarded), Some(permit)) = (handler.breaker(), permit) {
                guarded.circuit.give_back(permit);
            }
            return true;
        };
        let (id, letter) = (parked.id(origin), parked.replayed.clone());
        let lender = lending.as_deref().map(|lending| {
            let expired = handler.contract().and_then(|contract| contract.expired.clone());
            let terms = Terms { backlog: handler.backlog(), expired };
            let call = LentCall { subscription: state.id, is_settled: false, replayed: letter, terms };
            Lender { lending, owned, call, last: last_lent }
        });
        let mut source = Waited { poller, number: left.waiting.call_number(), lender };
        let mut parked = parked;
        let mut uncalled = Outcome::uncalled(state, parked.has_expired(clock.now()));
        if parked.is_unasked && matches!(uncalled, Outcome::Undelivered) {
            match ask_late(&mut source, state, &mut parked, handler, origin, occasion) {
                Some(outcome) => uncalled = outcome,
                None => {
                    guard(|| drop(parked));
                    return false;
                }
            }
        } else if let Some(contract) = handler.contract() {
            // Somebody wants what is replayed handled, whether or not its like has been.
            let is_duplicate = contract.resume(parked.key) && parked.replayed.is_none();
            match uncalled {
                Outcome::Undelivered if is_duplicate => uncalled = Outcome::Duplicate,
                Outcome::Undelivered if parked.retried.is_none() => contract.count_first_attempt(),
                _ => {}
            }
        }
        let mut may_call = matches!(uncalled, Outcome::Undelivered);
        if let Some(contract) = handler.contract().filter(|contract| may_call && contract.keeper.is_some()) {
            match hand_out(&mut source, state, contract, parked, permit, left) {
                HandedOut::InFlight => return true,
                HandedOut::TakenOver => return false,
                HandedOut::Refused(back) => (parked, may_call) = (back, false),
            }
        }
        let message = parked.message(origin, occasion);
        let retried = parked.retried.as_deref();
        let mut delivery = Delivery { message: &message, source: &mut source, tally, clock, retried };
        let has_panicked = matches!(uncalled, Outcome::Panicked(_));
        let outcome = match uncalled {
            Outcome::Undelivered if may_call => delivery.call_guarded(state, handler, permit, left),
            outcome => {
                if let (Some(guarded), Some(permit)) = (handler.breaker(), permit) {
                    guarded.circuit.give_back(permit);
                }
                Some(outcome)
            }
        };
        if outcome.is_none() {
            // Nobody knows what came of it, should this handler be called again; for a breaker it took too long.
            if let (Some(guarded), Some(permit)) = (handler.breaker(), permit) {
                guarded.circuit.record(permit, Verdict::Failure, || clock.now());
            }
            if let Some(contract) = handler.contract() {
                contract.release(contract.key, id);
            }
        }
        // What a filter has failed is not tried again.
        let contract = if has_panicked { None } else { handler.contract() };
        let ended = outcome.map_or(Ended::TakenOver, |outcome| delivery.end(state, contract, outcome, left));
        common.conclude(*consumer, &mut source, state, parked, ended, left)
    }
}

/// Asks what was not asked of a message when it came, because its handler was away. Returns how the delivery ends, or
/// that the handler may be called ([`Outcome::Undelivered`]); nothing where somebody else has the consumer's position.
fn ask_late<P: MessagePayload>(
    source: &mut Waited<'_, P>,
    state: &SubscriptionState,
    parked: &mut Parked<P>,
    handler: &mut OwnedHandler<P>,
    origin: Origin,
    occasion: &Occasion,
) -> Option<Outcome> {
    parked.is_unasked = false;
    let Some(contract) = handler.contract() else { return Some(Outcome::Undelivered) };
    contract.key = None;
    if contract.has_to_ask() {
        match source.call(state.id, || contract.ask(&parked.message(origin, occasion), ALL)) {
            Called::TakenOver => return None,
            // The handler's call is refused as well.
            Called::Refused | Called::Returned(Ok(Asked::Go)) => {}
            Called::Returned(Ok(Asked::Filtered)) => return Some(Outcome::Filtered),
            Called::Returned(Ok(Asked::Duplicate)) => return Some(Outcome::Duplicate),
            Called::Returned(Err(panic)) => return Some(Outcome::Panicked(panic)),
        }
    }
    parked.key = contract.key;
    contract.count_first_attempt();
    Some(Outcome::Undelivered)
}

/// What has come of a dead letter that is to be replayed.
enum Copied<P> {
    Message(Parked<P>),
    /// It is not there any more, or could not be copied, or the consumer was stopped.
    Nothing,
    /// Somebody else has the consumer's position.
    TakenOver,
}

/// Takes a dead letter to be replayed, and copies it: the store keeps its own until the delivery is over.
fn copy_letter<P: MessagePayload>(
    poller: &mut Poller<Envelope<P>>,
    number: u64,
    state: &SubscriptionState,
    handler: &mut OwnedHandler<P>,
    occasion: &Occasion,
    left: &mut Left<P>,
) -> Copied<P> {
    let Some(letter) = left.dead_letters.as_ref().and_then(|store| store.take(number)) else {
        return Copied::Nothing;
    };
    state.tally.replayed.bump();
    let mut source = Waited { poller, number: left.waiting.call_number(), lender: None };
    let origin = left.origin;
    let again = || {
        let mut parked = Parked::again(&letter);
        if let Some(contract) = handler.contract() {
            parked.key = contract.key_of(&parked.message(origin, occasion));
        }
        parked
    };
    let outcome = match source.call(state.id, || guard(again)) {
        Called::Returned(Ok(Some(parked))) => return Copied::Message(parked),
        Called::Returned(_) => Outcome::GivenUp,
        // It stays in the store, and is handed back with it.
        Called::Refused => Outcome::Undelivered,
        Called::TakenOver => return Copied::TakenOver,
    };
    settle_uncalled(&state.tally, &outcome);
    if let Some(store) = &left.dead_letters {
        store.release(&letter.key());
    }
    Copied::Nothing
}

/// What a breaker says to a message that has waited.
enum Admitted {
    /// It may be delivered, if the subscription is not paused.
    Go(Option<Permit>),
    /// It goes on waiting.
    Later,
}

/// Asks a subscription's breaker, if it has one, whether a message that has waited may be delivered now.
fn ask<P: 'static>(
    guarded: Option<&mut Guarded>,
    state: &SubscriptionState,
    clock: &Clock,
    left: &mut Left<P>,
) -> Admitted {
    let Some(guarded) = guarded else { return Admitted::Go(None) };
    if !guarded.has_room_in(left.waiting.turn()) {
        left.waiting.look_later(state, None);
        return Admitted::Later;
    }
    match guarded.circuit.admit(|| clock.now()) {
        Admission::Call(permit) => {
            guarded.take_room();
            state.set_breaker(guarded.circuit.state(), guarded.circuit.changes());
            Admitted::Go(Some(permit))
        }
        Admission::Wait => {
            // Forced open, it has no moment: who resets it has the consumer look.
            if let Some(moment) = guarded.circuit.opens_until() {
                left.waiting.look_later(state, Some(moment));
            }
            Admitted::Later
        }
    }
}
