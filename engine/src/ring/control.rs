//! What producers, consumers and closers of one ring share beside the slots: the claim word, the
//! phase, the gate and the sleeping places.

use super::gate::Gating;
use super::overflow::Overflow;
use super::part::{Blocked, Part};
use super::sequence::Sequence;
use super::signals::Signals;
use super::slot_policy::{Renewal, SlotPolicy};
use super::slots::Slots;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::edge::{self, CLOSE, CLOSE_RING, REFUSE};
use crate::sync::{CachePadded, Watched};
use crate::wait::{Parking, ParkingExcluded, SharedStrategy, WaitStrategy};
use std::sync::Arc;
use std::time::Duration;

/// Bit of the claim word that refuses further claims of a ring with many producers.
pub(super) const CLOSED_BIT: u64 = 1 << 63;

/// Phase of a ring. It only advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(super) enum Phase {
    /// Events come and go.
    Open = 0,
    /// No new claim succeeds. One of a single producer may still be under way.
    Closing = 1,
    /// The claim word has its last value, or is about to be taken back to it.
    Sealed = 2,
    /// Consumers stop where they are. A bit of its own, which each poll reads.
    Halted = 4,
}

/// Words that every publish and poll reads, and that are written only when the ring is built and
/// when it closes.
struct Standing {
    /// A [`Phase`].
    phase: Watched,
    /// Whether one producer stamps all slots, one after the other. An outdated 'no' is merely too
    /// careful.
    stamps_come_in_order: AtomicBool,
}

/// Shared words of a ring.
pub struct Control {
    standing: CachePadded<Standing>,
    /// All sequences below it are claimed.
    pub(super) claim: CachePadded<AtomicU64>,
    pub(super) capacity: u64,
    pub(super) gating: Gating,
    pub(super) overflow: Overflow,
    pub(super) wait: SharedStrategy,
    /// Time for which a managed consumer lingers.
    pub(super) linger: Duration,
    pub(super) signals: Signals,
    /// Events that `DropNewest`, or `DropOldest` where the oldest was held, has refused. On a line
    /// of its own: several producers write it, when the ring overflows.
    pub(super) refused: CachePadded<AtomicU64>,
}

impl Control {
    pub(super) fn new(
        capacity: u64,
        first: Sequence,
        overflow: Overflow,
        wait: SharedStrategy,
        linger: Duration,
        consumers: Arc<Parking>,
    ) -> Self {
        let producers_park = wait.may_park() && overflow.can_wait();
        let standing = Standing { phase: Watched::new(), stamps_come_in_order: AtomicBool::new(false) };
        Self {
            standing: CachePadded::new(standing),
            claim: CachePadded::new(AtomicU64::new(first)),
            capacity,
            gating: Gating::new(),
            overflow,
            wait,
            linger,
            signals: Signals::new(consumers, Parking::new(producers_park)),
            refused: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Returns whether the ring still takes events. A relaxed look; `is_open_to_claim` gives an
    /// answer that holds.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        self.standing.phase.get(Ordering::Relaxed) == Phase::Open as u32
    }

    /// Returns whether whoever closes the ring from now on sees what the caller has claimed. Edge
    /// `CLOSE`.
    #[inline(always)]
    pub(super) fn is_open_to_claim(&self) -> bool {
        // `Open` is zero.
        self.standing.phase.is_zero_after_light(&CLOSE)
    }

    #[inline(always)]
    pub(super) fn is_halted(&self) -> bool {
        self.standing.phase.get(Ordering::Relaxed) & Phase::Halted as u32 != 0
    }

    #[inline(always)]
    pub(super) fn stamps_come_in_order(&self) -> bool {
        self.standing.stamps_come_in_order.load(Ordering::Relaxed)
    }

    /// Notes that one producer stamps all slots, in order. Must be called before there is a
    /// producer.
    pub(super) fn have_stamps_come_in_order(&self) {
        self.standing.stamps_come_in_order.store(true, Ordering::Relaxed);
    }

    /// Returns the sequence below which all are claimed. May be a moment old.
    #[inline(always)]
    pub(super) fn claimed(&self) -> Sequence {
        self.claim.load(Ordering::Relaxed) & !CLOSED_BIT
    }

    /// Returns whether a consumer that has done everything below `next` has done all there will
    /// ever be. Must be asked anew at each look. Edge `CLOSE_RING`, acquire side.
    pub(super) fn is_finished(&self, next: Sequence) -> bool {
        let phase = self.standing.phase.get(CLOSE_RING.acquire());
        phase == Phase::Halted as u32 || (phase == Phase::Sealed as u32 && self.claimed() <= next)
    }

    /// Has one of many producers, which has seen the closed bit, see what was done before the ring
    /// was closed. Edge `REFUSE`, acquire side.
    pub(super) fn see_closed(&self) {
        self.claim.load(REFUSE.acquire());
    }

    /// Refuses claims from now on, and tells consumers where the end is. Any number of threads may
    /// call it. It does not write the claim word of a single producer, who alone writes it.
    pub(super) fn close(&self, has_many_producers: bool) {
        self.advance(Phase::Closing, Ordering::Relaxed);
        if has_many_producers && !edge::left_out("close-without-closed-bit") {
            // Edge `REFUSE`, release side.
            self.claim.fetch_or(CLOSED_BIT, REFUSE.release());
        }
        self.standing.phase.heavy(&CLOSE);
        // Edge `CLOSE_RING`, release side.
        self.advance(Phase::Sealed, CLOSE_RING.release());
        self.signals.wake_everybody("wake-at-close");
    }

    /// Closes, and has consumers stop where they are.
    pub(super) fn halt(&self, has_many_producers: bool) {
        self.close(has_many_producers);
        self.advance(Phase::Halted, CLOSE_RING.release());
        // Producers know by the close.
        self.signals.wake_consumers("wake-at-halt");
    }

    fn advance(&self, to: Phase, ordering: Ordering) {
        self.standing.phase.raise(to as u32, ordering);
    }

    /// Changes how consumers and producers wait.
    pub(super) fn set_wait(&self, strategy: WaitStrategy) -> Result<(), ParkingExcluded> {
        self.wait.set(strategy)?;
        self.signals.wake_everybody("wake-after-switch");
        Ok(())
    }

    /// Returns how a producer waits for room. A ring that does not block has no place where it
    /// could sleep.
    pub(super) fn wait_for_room(&self) -> WaitStrategy {
        let wait = self.wait.get();
        if self.signals.producers.is_in_use() { wait } else { wait.without_parking() }
    }
}

/// A whole ring: its shared words, and its slots.
pub struct Core<E> {
    pub(super) control: Control,
    pub(super) slots: Slots<E>,
    pub(super) policy: SlotPolicy,
    pub(super) renewal: Renewal<E>,
    pub(super) factory: Box<dyn Fn() -> E + Send + Sync>,
    /// The part of whoever fills a slot.
    pub(super) filler: Part,
}

impl<E> Core<E> {
    /// Returns what keeps the next sequence from being claimed. Nothing does so while there is room,
    /// and where the ring takes no more events.
    #[cold]
    pub(super) fn blocked(&self) -> Option<Blocked> {
        let Control { capacity, gating, .. } = &self.control;
        let at = self.control.claimed().checked_sub(*capacity)?;
        let is_published = self.slots.was_published(at);
        let is_free = gating.lowest().map_or(is_published, |lowest| lowest > at);
        let is_blocked = !is_free && self.control.is_open();
        is_blocked.then_some(Blocked { ring: self.filler.ring(), at, is_published })
    }
}

impl<E> Core<E> {
    /// Makes an event anew: one whose fill closure has panicked, or that is to be cleared. Runs user
    /// code. A panic leaves the event as it was, or new.
    pub(super) fn renew(&self, event: &mut E) {
        match self.renewal {
            Renewal::Anew => *event = (self.factory)(),
            Renewal::InPlace(clear) => clear(event),
        }
    }
}
