//! Messages that their handlers keep: handing them out with a token, and settling what comes back.

use super::context;
use super::delivery::{Delivery, verdict_on};
use super::handlers::HandlerTable;
use super::left::{Left, Undropped};
use super::mailbox::OwnedSubscription;
use super::outcome::{CallMark, Outcome};
use super::settle::settle_uncalled;
use super::source::{Source, Waited};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::account::term::FailureKind;
use crate::broker::policy::breaker::circuit::{Permit, Verdict};
use crate::broker::subscribe::contract::{Contract, Keeper};
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::subscribe::token::Token;
use crate::broker::waiting::held::{Held, Said};
use crate::broker::waiting::hold::Hold;
use crate::broker::waiting::parked::Parked;
use crate::message::{Envelope, MessagePayload};
use crate::ring::{Called, Poller};
use crate::sync::panics::{discard_panic, guard};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What has become of a message that was to be handed out.
pub(super) enum HandedOut<P> {
    /// Its handler was called, and it is in flight, or has come back already.
    InFlight,
    /// The consumer was stopped before. It is to be settled, and then said to be.
    Refused(Parked<P>),
    /// Somebody else has the consumer's position.
    TakenOver,
}

/// Calls a handler that keeps messages.
pub(super) fn hand_out<P: MessagePayload>(
    source: &mut impl Source<P>,
    state: &Arc<SubscriptionState>,
    contract: &mut Contract<P>,
    parked: Parked<P>,
    permit: Option<Permit>,
    left: &mut Left<P>,
) -> HandedOut<P> {
    // While it is in flight it has its key, as if it waited.
    contract.reserve(parked.key, parked.id(left.issuer.origin));
    let Some(Keeper { handler, terms, .. }) = &mut contract.keeper else {
        return HandedOut::Refused(parked);
    };
    let begun = left.issuer.clock.now();
    let until = begun.after(terms.limit);
    let held = Arc::new(Held { parked, hold: Hold::until(until), begun });
    let number = left.waiting.next_to_hand_out();
    // First of all: what becomes of it is known whatever its handler does.
    left.waiting.hand_out(state, held.clone(), permit, until, terms.in_flight);
    let own = held.clone();
    let mut token = Some(Token::new(held, number, terms.limit, state.clone(), &left.issuer));
    let called = source.call_handler(CallMark::handed_out(state.id), left, || {
        let token = token.take()?;
        let (id, correlation) = (token.message().id(), token.message().correlation());
        context::begin_handling(id, correlation);
        // A panic drops the token if the handler still has it, which settles the message.
        let panic = catch_unwind(AssertUnwindSafe(|| handler(token))).err();
        context::end_handling();
        let is_its_own = own.hold.is_settled();
        // It may be the last.
        guard(|| drop(own));
        match panic {
            Some(panic) if is_its_own => Some(panic),
            panic => {
                panic.into_iter().for_each(discard_panic);
                None
            }
        }
    });
    match called {
        Called::Returned(Ok(Some(panic))) => {
            left.waiting.note_panic(number, panic);
            HandedOut::InFlight
        }
        Called::Returned(_) => HandedOut::InFlight,
        Called::TakenOver => HandedOut::TakenOver,
        Called::Refused => {
            token.into_iter().for_each(Token::revoke);
            match left.waiting.revoke(state, number).and_then(Arc::into_inner) {
                Some(held) => HandedOut::Refused(held.parked),
                None => {
                    left.waiting.settled();
                    HandedOut::InFlight
                }
            }
        }
    }
}

impl<P: MessagePayload> HandlerTable<P> {
    /// Settles a message of a subscription that its handler has kept, if one has come back or its time is up. Returns
    /// whether the consumer still has its position, if there was one.
    pub(super) fn settle_kept(
        &mut self,
        poller: &mut Poller<Envelope<P>>,
        tally: &ConsumerTally,
        subscription: u64,
    ) -> Option<bool> {
        let Self { consumer, common, occasion, owned, left, .. } = self;
        let Some(OwnedSubscription { state, handler: Some(handler), .. }) = owned.get(subscription) else {
            return None;
        };
        let clock = &common.clock;
        let (held, permit, outcome) = match left.waiting.take_back(state) {
            Some((said, (held, permit))) => {
                let outcome = match said {
                    Said::Done => Outcome::Delivered,
                    Said::Failed(error) => Outcome::Failed(error),
                    Said::Panicked(panic) => Outcome::Panicked(panic),
                    Said::Dropped { in_panic } => Outcome::TokenDropped { in_panic },
                };
                (held, permit, outcome)
            }
            None => {
                let (held, permit) = left.waiting.time_out(state, || clock.now())?;
                (held, permit, Outcome::TimedOut)
            }
        };
        let mut source = Waited { poller, number: left.waiting.next_call_number(), lender: None };
        let took = clock.now().since(held.begun);
        let parked = match Arc::try_unwrap(held) {
            Ok(held) => held.parked,
            // Its token still has it: what happens to it from now on happens to a copy.
            Err(held) => {
                let (key, id) = (held.parked.key, held.parked.id(common.origin));
                let letter = held.parked.replayed.clone();
                left.waiting.begin_call(state.id, &held.parked, common.origin);
                let mut held = Some(held);
                let copied = source.call(state.id, || {
                    let held = held.take()?;
                    let copy = guard(|| held.parked.duplicate());
                    // It may be the last by now.
                    guard(|| drop(held));
                    copy
                });
                left.undropped.extend(held.map(Undropped::Held));
                let uncopied = match copied {
                    Called::TakenOver => return Some(false),
                    Called::Returned(Ok(Some(parked))) => Ok(parked),
                    Called::Returned(_) => Err(Outcome::GivenUp),
                    Called::Refused => Err(Outcome::InDoubt),
                };
                match uncopied {
                    Ok(parked) => parked,
                    Err(uncopied) => {
                        if matches!(uncopied, Outcome::GivenUp) {
                            state.tally.count_failure(FailureKind::TimedOut);
                            tally.failed.bump();
                        }
                        settle_uncalled(&state.tally, &uncopied);
                        if let (Some(store), Some(letter)) = (&left.dead_letters, &letter) {
                            store.release(letter);
                        }
                        if let Some(contract) = handler.contract() {
                            contract.release(key, id);
                        }
                        if let (Some(guarded), Some(permit)) = (handler.breaker(), permit)
                            && guarded.circuit.record(permit, verdict_on(&outcome), || clock.now()).is_some()
                        {
                            left.waiting.note_breaker(state, &guarded.circuit);
                        }
                        left.waiting.settled();
                        return Some(true);
                    }
                }
            }
        };
        handler.contract()?.resume(parked.key);
        let message = parked.message(common.origin, occasion);
        let retried = parked.retried.as_deref();
        let mut delivery = Delivery { message: &message, source: &mut source, tally, clock, retried };
        let verdict = match (verdict_on(&outcome), handler.breaker()) {
            (Verdict::Success, Some(guarded)) => guarded.circuit.success_in(took),
            (verdict, _) => verdict,
        };
        delivery.record(state, handler, permit, verdict, left);
        let ended = delivery.end(state, handler.contract(), outcome, left);
        Some(common.conclude(*consumer, &mut source, state, parked, ended, left))
    }
}
