//! The audit: where everything has gone.

use super::ledger::{Ledger, RingLedger, SubscriptionLedger};
use super::term::Term;
use crate::broker::core::Core;
use crate::broker::deliver::outcome::CallMark;
use crate::broker::dispatcher::RingState;
use crate::broker::handle::Broker;
use crate::broker::waiting::queue::Sizes;
use crate::message::MessagePayload;
use crate::sync::atomic::Ordering;
use std::collections::BTreeMap;

impl<P: MessagePayload> Core<P> {
    /// Where everything has gone. See [`Ledger`].
    pub(crate) fn audit(&self) -> Ledger {
        let calls: Vec<u64> = self
            .consumers()
            .map(|consumer| consumer.mailbox.supervisor())
            // A call in doubt has been counted as such, and is not in flight any more.
            .filter(|supervisor| !supervisor.is_taken_over())
            .filter_map(|supervisor| supervisor.current_call()?.delivery().map(CallMark::from_lease))
            // One that is settled has been counted, and is not in flight either.
            .filter(|call| !call.is_settled)
            .map(|call| call.subscription)
            .collect();
        let waiting: BTreeMap<u64, Sizes> =
            self.consumers().flat_map(|consumer| consumer.waiting.sizes()).collect();
        let add_sizes = |account: &mut SubscriptionLedger| {
            let in_flight = calls.iter().filter(|&&call| call == account.id.0).count();
            let Sizes { backlogged, retrying, in_flight: kept, .. } =
                waiting.get(&account.id.0).copied().unwrap_or_default();
            account.set(Term::InFlight, (in_flight + kept) as u64);
            account.set(Term::Backlogged, backlogged as u64);
            account.set(Term::Retrying, retrying as u64);
        };
        let (subscriptions, past) = self.registry.audit(&self.routes, add_sizes);
        let published = self.publishers.total();
        let rings: Vec<_> = self.rings.iter().map(|state| self.audit_ring(state)).collect();
        Ledger {
            published: published.published,
            unrouted: published.unrouted,
            refused: rings.iter().map(|ring| ring.refused).sum(),
            rings,
            subscriptions,
            past,
        }
    }

    fn audit_ring(&self, RingState { ring, dispatcher, .. }: &RingState<P>) -> RingLedger {
        let dispatcher = self.dispatcher(*dispatcher);
        let slowest = dispatcher
            .consumers
            .iter()
            .map(|consumer| (consumer.tally.consumed.get(), consumer.tally.tombstones.get()))
            .min_by_key(|(consumed, tombstones)| consumed + tombstones)
            .unwrap_or_default();
        RingLedger {
            dispatcher: dispatcher.name.to_string(),
            claimed: ring.claimed(),
            consumed: slowest.0,
            skipped: 0,
            tombstones: slowest.1,
            depth: ring.depth(),
            refused: dispatcher.refused.load(Ordering::Relaxed),
        }
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Where every message has gone so far. What still waits in a ring stands in the ring's account
    /// and in no subscription's: [`drain`](Self::drain) first where the sums are to hold. Allocates
    /// and locks briefly; disturbs no publisher and no consumer.
    pub fn audit(&self) -> Ledger {
        self.core().audit()
    }
}
