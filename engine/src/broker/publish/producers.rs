//! A publisher's producers, one for each ring, and the one it used last within reach.
//!
//! Most publishers stay with one ring. To find its producer among all by number is eight instructions of a publish; to see
//! that it is the one at hand, three.

use crate::broker::dispatcher::DispatcherState;
use crate::message::Envelope;
use crate::ring::MultiProducer;

/// The producers of one publisher.
pub(super) struct Producers<P> {
    at_hand: MultiProducer<Envelope<P>>,
    /// The dispatcher into whose ring `at_hand` leads.
    number: u16,
    /// By dispatcher; what is at hand is missing here.
    others: Vec<Option<MultiProducer<Envelope<P>>>>,
}

impl<P> Producers<P> {
    /// A producer for the ring of each dispatcher, of which there is one at least.
    pub(super) fn new(dispatchers: &[DispatcherState<P>]) -> Self {
        let clone = |dispatcher: &DispatcherState<P>| dispatcher.producer.lock().clone();
        let mut others: Vec<_> = dispatchers.iter().map(|dispatcher| Some(clone(dispatcher))).collect();
        let Some(at_hand) = others[0].take() else { unreachable!("it has just been put there") };
        Self { at_hand, number: 0, others }
    }

    /// The producer for a dispatcher's ring, which is at hand from now on.
    #[inline(always)]
    pub(super) fn take_up(&mut self, dispatcher: u16) -> &mut MultiProducer<Envelope<P>> {
        if dispatcher != self.number {
            self.reach_for(dispatcher);
        }
        &mut self.at_hand
    }

    /// The producer for a dispatcher's ring, wherever it is: for those who go through many.
    pub(super) fn get(&mut self, dispatcher: u16) -> &mut MultiProducer<Envelope<P>> {
        self.others[usize::from(dispatcher)].as_mut().unwrap_or(&mut self.at_hand)
    }

    #[inline(never)]
    fn reach_for(&mut self, dispatcher: u16) {
        if let Some(wanted) = self.others[usize::from(dispatcher)].take() {
            let other = std::mem::replace(&mut self.at_hand, wanted);
            self.others[usize::from(self.number)] = Some(other);
            self.number = dispatcher;
        }
    }
}
