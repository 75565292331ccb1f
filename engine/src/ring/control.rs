//! What producers, consumers and closers of one ring share beside the slots: the claim word, the phase, the gate and
//! the two parking spots.

use super::Sequence;
use super::gating::Gating;
use super::overflow::Overflow;
use super::slots::Slots;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::edge::{self, CLOSE, CLOSE_RING};
use crate::sync::{CachePadded, fence};
use crate::wait::{Parking, WaitStrategy};
use std::sync::Arc;

/// The bit of the claim word that refuses further claims of a ring with many producers.
pub(super) const CLOSED_BIT: u64 = 1 << 63;

/// The life of a ring. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(super) enum Phase {
    /// Events come and go.
    Open = 0,
    /// No new claim succeeds; an exclusive one may still be on its way.
    Closing = 1,
    /// The claim word has its last value, or is about to be taken back to it.
    Sealed = 2,
    /// Consumers stop where they are.
    Halted = 3,
}

/// The shared words of a ring.
pub struct Control {
    /// Next to the words below it is read at every publish and poll, and written only when the ring closes.
    phase: CachePadded<AtomicU32>,
    /// All sequences below it are claimed.
    pub(super) claim: CachePadded<AtomicU64>,
    pub(super) capacity: u64,
    pub(super) gating: Gating,
    pub(super) overflow: Overflow,
    pub(super) wait: WaitStrategy,
    /// Where consumers sleep. Rings that one consumer reads together share it.
    pub(super) readers: Arc<Parking>,
    /// Where producers sleep that found the ring full.
    pub(super) writers: Parking,
}

impl Control {
    pub(super) fn new(capacity: u64, overflow: Overflow, wait: WaitStrategy, readers: Arc<Parking>) -> Self {
        let producers_park = wait.can_park() && !matches!(overflow, Overflow::Reject);
        Self {
            phase: CachePadded::new(AtomicU32::new(Phase::Open as u32)),
            claim: CachePadded::new(AtomicU64::new(0)),
            capacity,
            gating: Gating::new(),
            overflow,
            wait,
            readers,
            writers: Parking::new(producers_park),
        }
    }

    /// Whether the ring still takes events. A relaxed look: who needs an answer that holds uses its fence.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Open as u32
    }

    #[inline(always)]
    pub(super) fn is_halted(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Halted as u32
    }

    /// All sequences below this are claimed. May be a moment old.
    #[inline(always)]
    pub(super) fn claimed(&self) -> Sequence {
        self.claim.load(Ordering::Relaxed) & !CLOSED_BIT
    }

    /// Whether a consumer that has done everything below `next` has done all there will ever be. To be asked anew at
    /// each look. Edge `CLOSE_RING`, acquire side.
    pub(super) fn is_finished(&self, next: Sequence) -> bool {
        let phase = self.phase.load(CLOSE_RING.acquire());
        phase == Phase::Halted as u32 || (phase == Phase::Sealed as u32 && self.claimed() == next)
    }

    /// Refuses claims from now on, and tells consumers where the end is. Any number of threads may call it. With one
    /// producer the claim word is that producer's alone to write.
    pub(super) fn close(&self, has_many_producers: bool) {
        self.advance(Phase::Closing, Ordering::Relaxed);
        if has_many_producers && !edge::left_out("close-without-closed-bit") {
            self.claim.fetch_or(CLOSED_BIT, Ordering::Relaxed);
        }
        fence::heavy(&CLOSE);
        // Edge `CLOSE_RING`, release side.
        self.advance(Phase::Sealed, CLOSE_RING.release());
        self.wake_everybody();
    }

    /// Has consumers stop where they are. Closes first.
    pub(super) fn halt(&self, has_many_producers: bool) {
        self.close(has_many_producers);
        self.advance(Phase::Halted, CLOSE_RING.release());
        self.wake_everybody();
    }

    fn advance(&self, to: Phase, success: Ordering) {
        self.phase.fetch_max(to as u32, success);
    }

    pub(super) fn wake_everybody(&self) {
        self.readers.wake_all();
        self.writers.wake_all();
    }

    /// Tells whoever may be waiting for it that a consumer has moved on.
    #[inline(always)]
    pub(super) fn consumer_moved(&self) {
        self.writers.wake_all();
        // A later stage may be asleep over what this one has finished.
        self.readers.wake_all();
    }
}

/// A whole ring: what is shared, and the slots.
pub struct Core<E> {
    pub(super) control: Control,
    pub(super) slots: Slots<E>,
    /// Makes an event anew where a fill closure has panicked.
    pub(super) factory: Box<dyn Fn() -> E + Send + Sync>,
}
