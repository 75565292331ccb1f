//! Sequencers: how producers come by the next sequences.
//!
//! A sequencer claims only what is free at that moment. Waiting for room is its caller's affair, so that nobody ever
//! waits with a claim in hand.

mod exclusive;
mod multi;

use super::Sequence;
use super::control::Control;
pub use exclusive::Exclusive;
pub use multi::Multi;

/// Sequences that belong to one producer until it stamps or abandons them.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub(super) first: Sequence,
    pub(super) count: u64,
}

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// No slot is free.
    Full,
    /// The ring takes no more events.
    Closed,
}

pub(super) mod sealed {
    use super::*;

    /// What the two sequencers have in common; not for implementing elsewhere.
    pub trait Claims: Send {
        /// Claims up to `wanted` sequences, at least one.
        fn try_claim(&mut self, control: &Control, wanted: u64) -> Result<Run, Unclaimed>;

        /// Gives up the end of a run: sequences from `from` on were not published. Returns whether the caller must
        /// leave tombstones there.
        fn abandon(&mut self, control: &Control, from: Sequence) -> bool;
    }
}

/// One of the two ways to claim: [`Exclusive`] or [`Multi`].
pub trait Sequencer: sealed::Claims {}

impl Sequencer for Exclusive {}
impl Sequencer for Multi {}

/// A producer's copy of the gate, refreshed only when it is used up.
#[derive(Clone, Debug, Default)]
struct CachedGate {
    minimum: Sequence,
}

impl CachedGate {
    /// How many sequences are free from `next` on.
    #[inline(always)]
    fn free(&mut self, control: &Control, next: Sequence) -> u64 {
        let free = self.room(control, next);
        if free > 0 { free } else { self.refresh(control, next) }
    }

    #[inline(always)]
    fn room(&self, control: &Control, next: Sequence) -> u64 {
        // `next` may lag behind the gate where it was read before others claimed and their events were consumed.
        control.capacity - next.saturating_sub(self.minimum)
    }

    #[cold]
    fn refresh(&mut self, control: &Control, next: Sequence) -> u64 {
        self.minimum = control.gating.minimum(next);
        self.room(control, next)
    }
}
