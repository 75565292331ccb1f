//! Where a consumer stands: one word on a line of its own, written by the consumer and read by
//! gates and later stages.
//!
//! The word is the consumer's sequence, all below which is done with, and a bit that says whether
//! the consumer *holds* what follows. Only rings that drop their oldest events use the bit. There a
//! producer that finds the ring full takes the oldest event away from a consumer that is not
//! holding it, by moving the consumer's word on; the consumer takes hold of a run by the same
//! compare-and-swap before it reads a single event of it. Both swap the whole word, so exactly one
//! of them gets each event. A consumer that finds its word moved has missed what lies between.

use super::sequence::Sequence;
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::edge::{self, FINISH_STAGE, RELEASE_SLOT, SKIP_OLDEST};
use std::sync::Arc;

/// The sequence of a consumer that has left: it holds nobody up.
pub(super) const LEFT: Sequence = Sequence::MAX >> 1;

const HELD: u64 = 1;

/// A consumer's word, shared with those who look at it.
#[derive(Clone, Debug)]
pub(super) struct Position(Arc<CachePadded<Word>>);

#[derive(Debug)]
struct Word {
    at: AtomicU64,
    /// Sequences that producers have taken away from this consumer, as far as it has noticed.
    /// Written by the consumer.
    missed: AtomicU64,
}

/// Why a producer could not take the oldest events away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unskippable {
    /// The consumer has them in hand.
    Held,
    /// Another producer has claimed and not yet published one of them.
    Unpublished,
}

impl Position {
    pub(super) fn new(at: Sequence) -> Self {
        Self(Arc::new(CachePadded::new(Word { at: AtomicU64::new(at << 1), missed: AtomicU64::new(0) })))
    }

    /// All below this is done with. Edge `RELEASE_SLOT`, acquire side.
    #[inline(always)]
    pub(super) fn released(&self) -> Sequence {
        self.0.at.load(RELEASE_SLOT.acquire()) >> 1
    }

    /// The same for a later stage. Edge `FINISH_STAGE`, acquire side.
    #[inline(always)]
    pub(super) fn finished(&self) -> Sequence {
        self.0.at.load(FINISH_STAGE.acquire()) >> 1
    }

    /// Lets go of all below `to`, and of what was held. Edges `RELEASE_SLOT` and `FINISH_STAGE`,
    /// release side.
    #[inline(always)]
    pub(super) fn release(&self, to: Sequence) {
        self.0.at.store(to << 1, RELEASE_SLOT.release());
    }

    /// Lets go of everything for good.
    pub(super) fn leave(&self) {
        self.release(LEFT);
    }

    /// Whether the consumer has left.
    pub(super) fn has_left(&self) -> bool {
        self.0.at.load(Ordering::Relaxed) >> 1 == LEFT
    }

    /// The consumer's own look at where producers have moved it.
    #[inline(always)]
    pub(super) fn own(&self) -> Sequence {
        self.0.at.load(Ordering::Relaxed) >> 1
    }

    /// The same, to go on from there. Edge `SKIP_OLDEST`, acquire side: what this consumer releases
    /// from then on tells producers that all below is written, and of what it was moved past only
    /// the producer that moved it has seen so.
    pub(super) fn moved_to(&self) -> Sequence {
        self.0.at.load(SKIP_OLDEST.acquire()) >> 1
    }

    /// Takes hold of what follows `from`, unless a producer has moved this consumer on. The
    /// consumer's own call.
    #[inline(always)]
    pub(super) fn try_hold(&self, from: Sequence) -> bool {
        if edge::left_out("hold") {
            return true;
        }
        // Relaxed: that the events may be read was learnt from their stamps, and what this decides
        // is one word.
        self.0.at.compare_exchange(from << 1, from << 1 | HELD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Keeps the consumer where it is for ever: no producer moves it on any more, and it moves no
    /// further itself. Returns where that is. For who has taken its position over.
    pub(super) fn hold_for_good(&self) -> Sequence {
        if edge::left_out("hold-what-remains") {
            return self.released();
        }
        // Either a producer has moved it on before, or will find it held.
        self.0.at.fetch_or(HELD, SKIP_OLDEST.acquire()) >> 1
    }

    /// Whether a producer could take away what lies before `target`, as it looks at this moment.
    pub(super) fn can_skip_to(
        &self,
        target: Sequence,
        mut is_published: impl FnMut(Sequence) -> bool,
    ) -> Result<(), Unskippable> {
        let word = self.0.at.load(RELEASE_SLOT.acquire());
        match word >> 1 {
            from if from >= target => Ok(()),
            _ if word & HELD != 0 => Err(Unskippable::Held),
            from if (from..target).all(&mut is_published) => Ok(()),
            _ => Err(Unskippable::Unpublished),
        }
    }

    /// Moves the consumer on to `target`, unless it holds what lies before or that is not
    /// published.
    pub(super) fn skip_to(
        &self,
        target: Sequence,
        mut is_published: impl FnMut(Sequence) -> bool,
    ) -> Result<(), Unskippable> {
        let mut word = self.0.at.load(RELEASE_SLOT.acquire());
        loop {
            let from = word >> 1;
            if from >= target {
                return Ok(());
            }
            if word & HELD != 0 {
                return Err(Unskippable::Held);
            }
            if !(from..target).all(&mut is_published) {
                return Err(Unskippable::Unpublished);
            }
            // Edge `SKIP_OLDEST`, release side: who finds the word moved goes on to write the slots
            // that were skipped, and their last producer's writes, which this one has seen, must
            // come before. Who finds it so is the gate, with `RELEASE_SLOT`, or the consumer
            // itself, whose next release is what the gate finds then.
            let swapped = self.0.at.compare_exchange(
                word,
                target << 1,
                SKIP_OLDEST.acquire_and_release(),
                RELEASE_SLOT.acquire(),
            );
            match swapped {
                Ok(_) => return Ok(()),
                Err(moved) => word = moved,
            }
        }
    }

    /// Starts at `at`, or further on where producers have moved this consumer meanwhile. Returns
    /// where.
    pub(super) fn start_at(&self, at: Sequence) -> Sequence {
        // A swap, and not the maximum in one operation, which ThreadSanitizer does not see.
        let mut word = self.0.at.load(Ordering::Relaxed);
        while word < at << 1 {
            // Release: what was looked up before comes before, as with any release.
            let swapped =
                self.0.at.compare_exchange(word, at << 1, RELEASE_SLOT.release(), Ordering::Relaxed);
            match swapped {
                Ok(_) => break,
                Err(moved) => word = moved,
            }
        }
        self.moved_to()
    }

    /// Notes that so many sequences were missed. The consumer's own call.
    pub(super) fn note_missed(&self, sequences: u64) {
        let so_far = self.0.missed.load(Ordering::Relaxed);
        self.0.missed.store(so_far + sequences, Ordering::Relaxed);
    }

    /// How many sequences this consumer has missed, as far as it has noticed.
    pub(super) fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// Whether this is the same consumer's word.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
