//! One producer: it alone advances the claim word, and a claim is a comparison and a plain store.
//!
//! The store announces the claim to whoever closes the ring; see "Closing" in `ring::protocol`. The
//! producer keeps no number of its own beside the word. In front of a small ring it waits for lines
//! that the consumer has had, with its stores in the store buffer. Every store saved leaves room in
//! the buffer for another outstanding line.

use super::sealed::Claims;
use super::{CachedGate, Run, Sequencer, Unclaimed};
use crate::ring::control::{Control, Core};
use crate::ring::sequence::Sequence;
use crate::sync::atomic::Ordering;

/// Sequencer of the only producer of a ring.
#[derive(Debug)]
pub struct Single {
    gate: CachedGate,
}

impl Single {
    pub(in crate::ring) fn new() -> Self {
        Self { gate: CachedGate::default() }
    }

    /// Returns the next sequence if there is room for it. The room stays: nobody else claims.
    pub(in crate::ring) fn has_room<E>(&mut self, core: &Core<E>) -> Result<Sequence, Unclaimed> {
        if !core.control.is_open() {
            return Err(Unclaimed::Closed);
        }
        let next = next(&core.control);
        self.free(core, next).map(|_| next)
    }

    /// Returns how many sequences are free. Without consumers, all that was claimed is free again:
    /// this producer is done with it.
    #[inline(always)]
    fn free<E>(&mut self, core: &Core<E>, next: Sequence) -> Result<u64, Unclaimed> {
        self.gate.free(core, next, |_, _| next)
    }
}

impl Sequencer for Single {}

impl Claims for Single {
    const ARE_MANY: bool = false;

    #[inline(always)]
    fn try_claim<E>(&mut self, core: &Core<E>, wanted: u64) -> Result<Run, Unclaimed> {
        let control = &core.control;
        let first = next(control);
        let count = match self.free(core, first) {
            // Nearly all claims are for one. The compiler does not know that at least one is free.
            Ok(_) if wanted == 1 => 1,
            Ok(free) => wanted.min(free),
            Err(full) => return Err(if control.is_open() { full } else { Unclaimed::Closed }),
        };
        control.claim.store(first + count, Ordering::Relaxed);
        if !control.is_open_to_claim() {
            self.abandon(control, first);
            return Err(Unclaimed::Closed);
        }
        Ok(Run { first, count })
    }

    fn room<E>(&mut self, core: &Core<E>) -> Result<u64, Unclaimed> {
        if !core.control.is_open() {
            return Err(Unclaimed::Closed);
        }
        let next = next(&core.control);
        self.gate.refresh(core, next, |_, _| next)
    }

    fn cursor<E>(&self, core: &Core<E>) -> Sequence {
        next(&core.control)
    }

    #[cold]
    fn abandon(&mut self, control: &Control, from: Sequence) -> bool {
        control.claim.store(from, Ordering::Relaxed);
        // A consumer may have gone to sleep on this claim, which no event follows.
        control.signals.wake_consumers("wake-after-abandoning");
        false
    }
}

/// Returns the next sequence to claim. Nobody else advances the word.
#[inline(always)]
fn next(control: &Control) -> Sequence {
    control.claim.load(Ordering::Relaxed)
}
