//! Delivering what has waited.

use super::context;
use super::delivery::{Delivery, Source, Waited, discard};
use super::handlers::{Common, HandlerTable};
use super::mailbox::OwnedSubscription;
use super::outcome::Outcome;
use super::settle::settle_uncalled;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::lifecycle::report::Undelivered;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::parked::Parked;
use crate::message::Envelope;
use crate::ring::{Called, Poller};
use crate::routing::ConsumerAddr;
use crate::sync::panics::guard;

impl<P: Clone + 'static> HandlerTable<P> {
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
        let Self { consumer, common, owned, places, left, .. } = self;
        let owned = places.get(&subscription).and_then(|&place| owned.get_mut(place as usize)?.as_mut());
        let Some(OwnedSubscription { state, handler: Some(handler), .. }) = owned else { return true };
        let (origin, clock) = (common.origin, &common.clock);
        let popped = left.waiting.pop(state, |parked| {
            let message = parked.message(origin, clock);
            (message.id(), message.topic().clone())
        });
        let Some(parked) = popped else { return true };
        let mut source = Waited { poller, number: left.waiting.call_number() };
        let message = parked.message(origin, clock);
        let outcome = match Outcome::uncalled(state, parked.has_expired(clock.now())) {
            Outcome::Undelivered => {
                context::begin_handling(message.id(), message.correlation());
                let called = source.call(state.id, || (handler.call)(&message));
                context::end_handling();
                match called {
                    Called::Returned(Ok(Ok(()))) => Outcome::Delivered,
                    Called::Returned(Ok(Err(error))) => Outcome::Failed(error),
                    Called::Returned(Err(payload)) => Outcome::Panicked(payload),
                    Called::Refused => Outcome::Undelivered,
                    Called::TakenOver => {
                        guard(|| drop(parked));
                        return false;
                    }
                }
            }
            outcome => outcome,
        };
        if matches!(outcome, Outcome::Undelivered) {
            settle_uncalled(&state.tally, &outcome);
            common.hand_back(*consumer, state, parked);
            left.waiting.settled();
            return true;
        }
        let is_ours =
            Delivery { message: &message, source: &mut source, tally, clock }.end(state, outcome, left);
        if is_ours {
            left.waiting.settled();
        }
        is_ours && discard(&mut source, state, vec![parked], left)
    }

    /// Hands everything back that waits: the broker stops.
    #[cold]
    pub(super) fn hand_back_waiting(&mut self) {
        let Self { consumer, common, left, .. } = self;
        for (state, parked) in left.waiting.take_all() {
            let outcome = Outcome::uncalled(&state, parked.has_expired(common.clock.now()));
            settle_uncalled(&state.tally, &outcome);
            if matches!(outcome, Outcome::Undelivered) {
                common.hand_back(*consumer, &state, parked);
            } else {
                guard(|| drop(parked));
            }
        }
    }
}

impl<P: 'static> Common<P> {
    /// Hands a message back that has waited, and has been counted.
    fn hand_back(&self, consumer: ConsumerAddr, state: &SubscriptionState, parked: Parked<P>) {
        self.threads.withhold();
        let message = parked.into_owned(self.origin, &self.clock);
        let undelivered = Undelivered { message, subscriptions: vec![state.name.clone()] };
        self.threads.hand_back(consumer, Some(undelivered));
    }
}
