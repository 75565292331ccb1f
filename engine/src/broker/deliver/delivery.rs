//! One delivery: a message, and the call of a handler with it.

use super::context;
use super::left::Left;
use super::outcome::Outcome;
use super::source::Source;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::policy::breaker::circuit::{Permit, Verdict};
use crate::broker::subscribe::handled::{HandlerError, is_of_the_message};
use crate::broker::subscribe::handler::{Callee, OwnedHandler};
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::parked::Retried;
use crate::clock::Clock;
use crate::message::{Message, MessagePayload};
use crate::ring::Called;

/// A message that is being delivered to one subscription after the other.
pub(super) struct Delivery<'d, 'm, P, S> {
    pub(super) message: &'d Message<'m, P>,
    pub(super) source: S,
    pub(super) tally: &'d ConsumerTally,
    pub(super) clock: &'d Clock,
    /// What is known of its earlier attempts.
    pub(super) retried: Option<&'d Retried>,
}

impl<P: MessagePayload, S: Source<P>> Delivery<'_, '_, P, S> {
    /// Calls foreign code for this delivery, under the consumer's lease.
    pub(super) fn call_foreign<R>(&mut self, mark: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.source.call(mark, f)
    }

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
        let message = self.message;
        context::begin_handling(message.id(), message.correlation());
        let called =
            handler.call_bare(|handler| self.source.call_handler(state.id, left, || handler.call(message)));
        context::end_handling();
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
    pub(super) fn record(
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
}

/// Returns what an outcome says of the handler, whatever time it took.
pub(super) fn verdict_on(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Delivered => Verdict::Success,
        Outcome::Failed(error) if is_of_the_message(error) => Verdict::Ignored,
        Outcome::Failed(_)
        | Outcome::Panicked(_)
        | Outcome::TimedOut
        | Outcome::Late(_)
        | Outcome::TokenDropped { .. } => Verdict::Failure,
        _ => Verdict::Ignored,
    }
}

/// Whether a message that has extras is past its life.
#[cold]
pub(crate) fn has_expired<P>(message: &Message<'_, P>, clock: &Clock) -> bool {
    message.expires_at().is_some_and(|at| clock.now() >= at)
}
