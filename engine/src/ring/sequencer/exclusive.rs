//! One producer: the next sequence is its own plain number, and a claim is a comparison and a plain store.
//!
//! The store announces the claim to whoever closes the ring; see "Closing" in the documentation of `ring`.

use super::sealed::Claims;
use super::{CachedGate, Run, Unclaimed};
use crate::ring::Sequence;
use crate::ring::control::{Control, Core};
use crate::sync::atomic::Ordering;
use crate::sync::edge::CLOSE;
use crate::sync::fence;

/// Claims for the only producer of a ring.
#[derive(Debug)]
pub struct Exclusive {
    next: Sequence,
    gate: CachedGate,
}

impl Exclusive {
    pub(in crate::ring) fn new(first: Sequence) -> Self {
        Self { next: first, gate: CachedGate::default() }
    }

    /// Whether there is room for one more, which stays so: nobody else claims.
    pub(in crate::ring) fn has_room<E>(&mut self, core: &Core<E>) -> Result<Sequence, Unclaimed> {
        if !core.control.is_open() {
            return Err(Unclaimed::Closed);
        }
        self.free(core).map(|_| self.next)
    }

    /// How many sequences are free. Without consumers all that was claimed is: this producer is done with it.
    #[inline(always)]
    fn free<E>(&mut self, core: &Core<E>) -> Result<u64, Unclaimed> {
        let next = self.next;
        self.gate.free(core, next, |_, _| next)
    }
}

impl Claims for Exclusive {
    const ARE_MANY: bool = false;

    #[inline(always)]
    fn try_claim<E>(&mut self, core: &Core<E>, wanted: u64) -> Result<Run, Unclaimed> {
        let control = &core.control;
        let first = self.next;
        let count = match self.free(core) {
            Ok(free) => wanted.min(free),
            Err(full) => return Err(if control.is_open() { full } else { Unclaimed::Closed }),
        };
        self.next = first + count;
        control.claim.store(self.next, Ordering::Relaxed);
        fence::light(&CLOSE);
        if !control.is_open() {
            self.abandon(control, first);
            return Err(Unclaimed::Closed);
        }
        Ok(Run { first, count })
    }

    fn room<E>(&mut self, core: &Core<E>) -> Result<u64, Unclaimed> {
        if !core.control.is_open() {
            return Err(Unclaimed::Closed);
        }
        let next = self.next;
        self.gate.refresh(core, next, |_, _| next)
    }

    fn cursor<E>(&self, _core: &Core<E>) -> Sequence {
        self.next
    }

    #[cold]
    fn abandon(&mut self, control: &Control, from: Sequence) -> bool {
        self.next = from;
        control.claim.store(from, Ordering::Relaxed);
        // A consumer may have gone to sleep over a claim that nothing follows.
        control.readers.wake_all();
        false
    }
}
