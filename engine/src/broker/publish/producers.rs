//! A publisher's producers, one for each ring, and the one it used last within reach.
//!
//! Most publishers stay with one ring. To find its producer among all by number is eight instructions of a publish; to
//! see that it is the one at hand, three.

use crate::broker::dispatcher::RingState;
use crate::message::Envelope;
use crate::ring::MultiProducer;
use crate::routing::RingId;

/// The producers of one publisher.
pub(super) struct Producers<P> {
    at_hand: MultiProducer<Envelope<P>>,
    /// The ring into which `at_hand` leads.
    ring: RingId,
    /// By ring; what is at hand is missing here.
    others: Vec<Option<MultiProducer<Envelope<P>>>>,
}

impl<P> Producers<P> {
    /// A producer for each ring, of which there is one at least.
    pub(super) fn new(rings: &[RingState<P>]) -> Self {
        let mut others: Vec<_> = rings.iter().map(|state| Some(state.producer.lock().clone())).collect();
        let Some(at_hand) = others[0].take() else { unreachable!("it has just been put there") };
        Self { at_hand, ring: RingId::default(), others }
    }

    /// Returns the producer for a ring, which is at hand from now on.
    #[inline(always)]
    pub(super) fn take_up(&mut self, ring: RingId) -> &mut MultiProducer<Envelope<P>> {
        if ring != self.ring {
            self.reach_for(ring);
        }
        &mut self.at_hand
    }

    /// Returns the producer for a ring, wherever it is: for those who go through many.
    pub(super) fn get(&mut self, ring: RingId) -> &mut MultiProducer<Envelope<P>> {
        self.others[ring.index()].as_mut().unwrap_or(&mut self.at_hand)
    }

    #[inline(never)]
    fn reach_for(&mut self, ring: RingId) {
        if let Some(wanted) = self.others[ring.index()].take() {
            let other = std::mem::replace(&mut self.at_hand, wanted);
            self.others[self.ring.index()] = Some(other);
            self.ring = ring;
        }
    }
}
