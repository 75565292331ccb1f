//! What becomes of a message that has waited, once its delivery has ended.

use super::common::Common;
use super::failed::{Ended, keep};
use super::left::{Left, Undropped};
use super::source::{Source, discard};
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::parked::Parked;
use crate::message::MessagePayload;
use crate::routing::ConsumerAddr;
use crate::sync::panics::guard;
use std::sync::Arc;

impl<P: MessagePayload> Common<P> {
    /// Keeps the message, hands it back, or drops it. Returns whether the consumer still has its position.
    pub(super) fn conclude(
        &self,
        consumer: ConsumerAddr,
        source: &mut impl Source<P>,
        state: &Arc<SubscriptionState>,
        parked: Parked<P>,
        ended: Ended<P>,
        left: &mut Left<P>,
    ) -> bool {
        match ended {
            Ended::TakenOver => {
                guard(|| drop(parked));
                return false;
            }
            Ended::Kept(kept) => return keep(source, state, parked, kept.how, &self.clock, left),
            Ended::Over => {}
        }
        left.waiting.settled();
        if left.refused.pop().is_none() {
            return discard(source, state, vec![parked], left);
        }
        if parked.replayed.is_some() {
            // It goes on lying in the store, and nowhere else.
            left.release_letter(&parked);
            left.undropped.push(Undropped::Parked(parked));
        } else {
            self.hand_back(consumer, state, parked);
        }
        true
    }
}
