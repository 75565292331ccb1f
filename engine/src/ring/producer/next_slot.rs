//! The next event of a single producer, filled over several statements and claimed last.

use super::SingleProducer;
use crate::ring::overflow::PublishError;
use crate::ring::sequence::Sequence;
use std::fmt;
use std::ops::{Deref, DerefMut};

impl<E> SingleProducer<E> {
    /// Returns the next event, to be filled over several statements. If it is dropped or forgotten,
    /// it was never claimed. Fails at once on a full ring.
    ///
    /// # Errors
    /// `Full` or `Closed`.
    ///
    /// ```
    /// # use ringmain::ring::RingBuilder;
    /// # let (mut producer, ring) = RingBuilder::new(8, || [0_u8; 16])?.graph()?.build_single_producer()?;
    /// let mut slot = producer.next_slot()?;
    /// slot[0] = 7;
    /// slot.publish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_slot(&mut self) -> Result<NextSlot<'_, E>, PublishError> {
        match self.claimant.sequencer.has_room(&self.claimant.core) {
            Ok(sequence) => Ok(NextSlot { producer: self, sequence }),
            Err(why) => Err(why.refusal()),
        }
    }
}

/// Next event of a single producer, not claimed yet. See [`SingleProducer::next_slot`].
pub struct NextSlot<'p, E> {
    producer: &'p mut SingleProducer<E>,
    sequence: Sequence,
}

impl<E> NextSlot<'_, E> {
    /// Publishes the event.
    ///
    /// # Errors
    /// `Closed` when the ring was closed meanwhile: nothing was published.
    pub fn publish(self) -> Result<Sequence, PublishError> {
        self.producer.try_publish(|_| ())
    }

    /// Returns the sequence under which the event will be published.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

impl<E> Deref for NextSlot<'_, E> {
    type Target = E;

    fn deref(&self) -> &E {
        // SAFETY: the only producer is borrowed, and the gate showed the slot released by all
        // consumers and it is not stamped anew, so nobody writes while this is borrowed.
        unsafe { &*self.producer.claimant.core.slots.pointer(self.sequence) }
    }
}

impl<E> DerefMut for NextSlot<'_, E> {
    fn deref_mut(&mut self) -> &mut E {
        // SAFETY: as for `deref`, and this is borrowed mutably.
        unsafe { &mut *self.producer.claimant.core.slots.pointer(self.sequence) }
    }
}

impl<E: fmt::Debug> fmt::Debug for NextSlot<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextSlot").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
