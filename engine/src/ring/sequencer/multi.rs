//! Many producers: the claim word is moved by compare-and-swap, one read-modify-write a claim.
//!
//! A claim is a swap and not an addition, because it is taken only when its slots are free: an addition could not be
//! taken back when they are not. The closed bit in the same word makes each claim fall before or after the close.

use super::sealed::Claims;
use super::{CachedGate, Run, Unclaimed};
use crate::ring::Sequence;
use crate::ring::control::{CLOSED_BIT, Control};
use crate::sync::atomic::Ordering;

/// Claims for one of many producers of a ring.
#[derive(Clone, Debug, Default)]
pub struct Multi {
    gate: CachedGate,
}

impl Claims for Multi {
    #[inline(always)]
    fn try_claim(&mut self, control: &Control, wanted: u64) -> Result<Run, Unclaimed> {
        let mut next = control.claim.load(Ordering::Relaxed);
        loop {
            if next & CLOSED_BIT != 0 {
                return Err(Unclaimed::Closed);
            }
            let count = wanted.min(self.gate.free(control, next));
            if count == 0 {
                return Err(Unclaimed::Full);
            }
            // Relaxed: the word hands over a number. That its slots are free was learnt through the gate.
            match control.claim.compare_exchange_weak(next, next + count, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(first) => return Ok(Run { first, count }),
                Err(moved) => next = moved,
            }
        }
    }

    #[cold]
    fn abandon(&mut self, _control: &Control, _from: Sequence) -> bool {
        true
    }
}
