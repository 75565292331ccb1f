//! Many producers: the claim word is moved by compare-and-swap, one read-modify-write a claim.
//!
//! A claim is a swap and not an addition, because it is taken only when its slots are free: an
//! addition could not be taken back when they are not. The closed bit in the same word makes each
//! claim fall before or after the close.
//!
//! Who fails to claim, because another was quicker, stands back for a while, longer each time: the
//! word is then claimed many times where it is, in the time in which it would have been fetched
//! back once (exponential back-off: T. Anderson, "The performance of spin lock alternatives",
//! 1990).
//!
//! A consumer handles only what is published, so what it has released no producer has in hand. A
//! ring that all consumers have left must see to that by itself: there a slot is free once the
//! stamp of its last use is seen.

use super::sealed::Claims;
use super::{CachedGate, Run, Sequencer, Unclaimed};
use crate::ring::control::{CLOSED_BIT, Control, Core};
use crate::ring::sequence::Sequence;
use crate::sync::atomic::Ordering;
use crate::sync::edge;
use crossbeam_utils::Backoff;

/// Claims for one of many producers of a ring.
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
                return Err(Unclaimed::Closed);
            }
            let count =
                wanted.min(self.gate.free(core, next, |core, from| published_below(core, from, next))?);
            // Relaxed: the word hands over a number. That its slots are free was learnt through the
            // gate.
            match control.claim.compare_exchange_weak(
                next,
                next + count,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(first) => return Ok(Run { first, count }),
                Err(moved) => {
                    // Old by the time it is tried: who is still being outrun stands back for
                    // longer. A look at the word instead would be a fetch that nearly always wins
                    // one claim, and no more (PERFORMANCE.md, 28).
                    next = moved;
                    stand_back(&backoff);
                }
            }
        }
    }

    fn room<E>(&mut self, core: &Core<E>) -> Result<u64, Unclaimed> {
        let next = core.control.claim.load(Ordering::Relaxed);
        if next & CLOSED_BIT != 0 {
            return Err(Unclaimed::Closed);
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

/// Spins for a while, up to some microseconds. Out of line, where nobody pays who claims at once.
#[cold]
#[inline(never)]
fn stand_back(backoff: &Backoff) {
    backoff.spin();
}

/// The first sequence from `from` on that is claimed, below `next`, and not published.
#[cold]
fn published_below<E>(core: &Core<E>, from: Sequence, next: Sequence) -> Sequence {
    if edge::left_out("in-hand") {
        return next;
    }
    // Whoever claimed up to `next` has seen everything published that lies a whole ring and more
    // below it.
    let mut bound = from.max(next.saturating_sub(core.control.capacity));
    while bound < next && core.slots.was_published(bound) {
        bound += 1;
    }
    bound
}
