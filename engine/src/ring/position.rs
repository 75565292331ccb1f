//! Where a consumer stands: one word on a line of its own, which the consumer writes and gates and
//! later stages read.
//!
//! The word is the consumer's sequence, all below which is done with, and a bit that says whether
//! the consumer *holds* what follows. Only rings that drop their oldest events use the bit. In such
//! a ring, a producer that finds the ring full takes the oldest event away from a consumer that
//! does not hold it: it advances the consumer's word. The consumer takes hold of a run, by the same
//! compare-and-swap, before it reads any event of the run. Both swap the whole word, so exactly one
//! of them gets each event. A consumer that finds its word advanced has missed what lies between.

use super::sequence::Sequence;
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Whether this consumer clears the slots that it is done with. Set before there is a producer.
    clears: AtomicBool,
}

/// Reason why a producer could not take the oldest events away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unskippable {
    /// The consumer has them in hand.
    Held,
    /// Another producer has claimed and not yet published one of them.
    Unpublished,
}

impl Position {
    pub(super) fn new(at: Sequence) -> Self {
        Self(Arc::new(CachePadded::new(Word {
            at: AtomicU64::new(at << 1),
            missed: AtomicU64::new(0),
            clears: AtomicBool::new(false),
        })))
    }

    /// Returns the sequence below which all is done with. Edge `RELEASE_SLOT`, acquire side.
    #[inline(always)]
    pub(super) fn released(&self) -> Sequence {
        self.0.at.load(RELEASE_SLOT.acquire()) >> 1
    }

    /// Returns the same sequence for a later stage. Edge `FINISH_STAGE`, acquire side.
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

    /// Returns whether the consumer has left.
    pub(super) fn has_left(&self) -> bool {
        self.0.at.load(Ordering::Relaxed) >> 1 == LEFT
    }

    /// Returns where producers have moved this consumer, as a hint for itself.
    #[inline(always)]
    pub(super) fn own(&self) -> Sequence {
        self.0.at.load(Ordering::Relaxed) >> 1
    }

    /// Returns where producers have moved this consumer, for the consumer to go on from there. Edge
    /// `SKIP_OLDEST`, acquire side: the consumer's later releases tell producers that all below is
    /// written, and only the producer that moved it has seen that of what was skipped.
    pub(super) fn moved_to(&self) -> Sequence {
        self.0.at.load(SKIP_OLDEST.acquire()) >> 1
    }

    /// Takes hold of what follows `from`, unless a producer has moved this consumer on. Only the
    /// consumer calls it.
    #[inline(always)]
    pub(super) fn try_hold(&self, from: Sequence) -> bool {
        if edge::left_out("hold") {
            return true;
        }
        // Relaxed: the stamps have told that the events may be read, and this decides one word.
        self.0.at.compare_exchange(from << 1, from << 1 | HELD, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Keeps the consumer where it is for ever, for whoever has taken its position over: no
    /// producer moves it on any more, and it does not move itself. Returns where that is.
    pub(super) fn hold_for_good(&self) -> Sequence {
        if edge::left_out("hold-what-remains") {
            return self.released();
        }
        // Either a producer has moved it on before, or will find it held.
        self.0.at.fetch_or(HELD, SKIP_OLDEST.acquire()) >> 1
    }

    /// Checks whether a producer could take away what lies before `target`, as it looks at this
    /// moment.
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
            // Edge `SKIP_OLDEST`, release side. Whoever finds the word moved goes on to write the
            // skipped slots. Their last producer's writes, which this thread has seen, must come
            // before. It is the gate that finds the word moved (`RELEASE_SLOT`), or the consumer,
            // whose next release the gate then finds.
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
        // A loop of swaps: ThreadSanitizer does not understand an atomic maximum.
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

    /// Has this consumer clear the slots that it is done with. It must be behind all others, and
    /// there must be no producer yet: the first event's publication tells the consumer.
    pub(super) fn appoint_clearer(&self) {
        self.0.clears.store(true, Ordering::Relaxed);
    }

    /// Returns whether this consumer clears the slots that it is done with. Only the consumer calls
    /// it, where there is an event.
    #[inline(always)]
    pub(super) fn clears(&self) -> bool {
        self.0.clears.load(Ordering::Relaxed)
    }

    /// Counts missed sequences. Only the consumer calls it.
    pub(super) fn note_missed(&self, sequences: u64) {
        let so_far = self.0.missed.load(Ordering::Relaxed);
        self.0.missed.store(so_far + sequences, Ordering::Relaxed);
    }

    /// Returns how many sequences this consumer has missed, as far as it has noticed.
    pub(super) fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// Returns whether both are the same consumer's word.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
