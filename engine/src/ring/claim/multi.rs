//! Many producers: each claim advances the claim word by compare-and-swap, one read-modify-write.
//!
//! A claim is a swap and not an addition, because a producer claims only free slots, and an
//! addition could not be taken back. The closed bit in the same word puts each claim before or
//! after the close.
//!
//! A producer whose swap fails backs off, longer each time. Meanwhile the word is claimed many
//! times where it is, in the time of one transfer back (exponential back-off: T. Anderson, "The
//! performance of spin lock alternatives", 1990). Each failure is another producer's success, so
//! the group always makes progress.
//!
//! A consumer handles only what is published, so no producer is still writing what it has released.
//! A ring that all consumers have left must check that itself: there a slot is free once the stamp
//! of its last use is seen.

use super::sealed::Claims;
use super::{CachedGate, Run, Sequencer, Unclaimed};
use crate::ring::control::{CLOSED_BIT, Control, Core};
use crate::ring::sequence::Sequence;
use crate::sync::atomic::Ordering;
use crate::sync::edge;
use crossbeam_utils::Backoff;

/// Sequencer of one of many producers of a ring.
#[derive(Clone, Debug, Default)]
pub struct Multi {
    gate: CachedGate,
}

impl Sequencer for Multi {}

impl Claims for Multi {
    const ARE_MANY: bool = true;

    #[inline(always)]
    fn try_claim<E>(&mut self, core: &Core<E>, wanted: u64) -> Result<Run, Unclaimed> {
        let control = &core.control;
        let mut next = control.claim.load(Ordering::Relaxed);
        let backoff = Backoff::new();
        loop {
            if next & CLOSED_BIT != 0 {
                return Err(closed(control));
            }
            let count =
                wanted.min(self.gate.free(core, next, |core, from| published_below(core, from, next))?);
            // Relaxed: the word hands over a number. The gate has told that its slots are free.
            match control.claim.compare_exchange_weak(
                next,
                next + count,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(first) => return Ok(Run { first, count }),
                Err(moved) => {
                    // Old by the time it is tried, so a producer that is still being outrun backs
                    // off for longer. Reading the word instead would be a transfer that nearly
                    // always wins one claim and no more (PERFORMANCE.md, 28).
                    next = moved;
                    stand_back(&backoff);
                }
            }
        }
    }

    fn room<E>(&mut self, core: &Core<E>) -> Result<u64, Unclaimed> {
        let next = core.control.claim.load(Ordering::Relaxed);
        if next & CLOSED_BIT != 0 {
            return Err(closed(&core.control));
        }
        self.gate.refresh(core, next, |core, from| published_below(core, from, next))
    }

    fn cursor<E>(&self, core: &Core<E>) -> Sequence {
        core.control.claimed()
    }

    #[cold]
    fn abandon(&mut self, _control: &Control, _from: Sequence) -> bool {
        true
    }
}

/// Refuses a claim of a closed ring.
#[cold]
#[inline(never)]
fn closed(control: &Control) -> Unclaimed {
    control.see_closed();
    Unclaimed::Closed
}

/// Spins for a while, up to some microseconds. Out of line: a claim that succeeds at once does not
/// pay.
#[cold]
#[inline(never)]
fn stand_back(backoff: &Backoff) {
    backoff.spin();
}

/// Returns the first sequence from `from` on, below `next`, that is claimed and not published.
#[cold]
fn published_below<E>(core: &Core<E>, from: Sequence, next: Sequence) -> Sequence {
    if edge::left_out("in-hand") {
        return next;
    }
    // Whoever claimed up to `next` has seen all published that lies at least a whole ring below it.
    let mut bound = from.max(next.saturating_sub(core.control.capacity));
    while bound < next && core.slots.was_published(bound) {
        bound += 1;
    }
    bound
}
