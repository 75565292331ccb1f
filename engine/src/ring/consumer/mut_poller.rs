//! A consumer that may change events, because it is alone at its stage.

use super::poller::{Polled, Poller};
use super::visit::EachMut;
use crate::ring::sequence::Sequence;
use crate::wait::WaitStrategy;
use std::fmt;
use std::time::Duration;

/// A [`Poller`] whose handlers get `&mut E`. Every other consumer of its ring comes before it or
/// after it. Later stages read what it writes, and so does the producer that reuses the slot.
///
/// ```
/// use ringmain::ring::{Polled, RingBuilder};
///
/// let mut graph = RingBuilder::new(8, || (0_u64, 0_u64))?.graph()?;
/// let (squares, mut first) = graph.mut_poller(&[])?;
/// let (_, mut second) = graph.poller(&[squares])?;
/// let (mut producer, _ring) = graph.build_single_producer()?;
///
/// producer.publish(|event| event.0 = 7)?;
/// first.poll(1, |event, _sequence, _end_of_batch| event.1 = event.0 * event.0);
/// let polled = second.poll(1, |event, _sequence, _end_of_batch| assert_eq!(event.1, 49));
/// assert_eq!(polled, Polled::Events(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MutPoller<E>(Poller<E>);

impl<E> MutPoller<E> {
    /// Wraps a poller that, as the graph has checked, shares its stage with no other consumer.
    pub(in crate::ring) fn new(poller: Poller<E>) -> Self {
        Self(poller)
    }

    pub(in crate::ring) fn into_poller(self) -> Poller<E> {
        self.0
    }

    /// As [`Poller::poll`], with events to be changed.
    #[inline]
    pub fn poll(&mut self, max: u64, handler: impl FnMut(&mut E, Sequence, bool)) -> Polled {
        self.0.poll_visiting(max, &mut EachMut(handler))
    }

    /// As [`Poller::wait`].
    ///
    /// # Panics
    /// When the strategy parks and the ring was built so that it never does.
    pub fn wait(&self, strategy: WaitStrategy, limit: Duration) -> bool {
        self.0.wait(strategy, limit)
    }

    /// As [`Poller::next_sequence`].
    pub fn next_sequence(&self) -> Sequence {
        self.0.next_sequence()
    }

    /// As [`Poller::lag`].
    pub fn lag(&self) -> u64 {
        self.0.lag()
    }
}

impl<E> fmt::Debug for MutPoller<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutPoller").field(&self.0).finish()
    }
}
