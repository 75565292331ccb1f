//! Sequencers: how producers claim the next sequences.
//!
//! A sequencer claims only what is free at that moment. Its caller waits for room, so nobody waits
//! while it holds a claim.

mod multi;
mod single;

use crate::ring::control::{Control, Core};
use crate::ring::overflow::PublishError;
use crate::ring::sequence::{END_OF_SEQUENCES, Sequence};
use crate::sync::edge;
pub use multi::Multi;
pub use single::Single;

/// Sequences that belong to one producer until it stamps or abandons them. No copies: two holders
/// of one run would write the same slots.
#[derive(Debug)]
#[must_use = "a run that nobody stamps or abandons stops the ring for ever"]
pub struct Run {
    pub(in crate::ring) first: Sequence,
    pub(in crate::ring) count: u64,
}

/// Reason why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// No slot is free: a consumer is a whole ring behind.
    Full,
    /// There is no consumer, and another producer has not published the next slot. Nobody is woken
    /// when it has.
    Unpublished,
    /// The ring takes no more events.
    Closed,
    /// There are no more sequences.
    Exhausted,
}

impl Unclaimed {
    /// Returns what a publish answers that does not wait.
    pub(in crate::ring) fn refusal(self) -> PublishError {
        match self {
            Self::Full | Self::Unpublished => PublishError::Full,
            Self::Closed => PublishError::Closed,
            Self::Exhausted => PublishError::Exhausted,
        }
    }
}

pub(in crate::ring) mod sealed {
    use super::*;

    /// Operations of a sequencer. Sealed: only this crate implements them.
    pub trait Claims: Send {
        /// Whether several producers advance the claim word. Then closing must refuse them there.
        const ARE_MANY: bool;

        /// Claims up to `wanted` sequences, at least one.
        fn try_claim<E>(&mut self, core: &Core<E>, wanted: u64) -> Result<Run, Unclaimed>;

        /// Returns how many sequences are free, by a new look at the gate.
        fn room<E>(&mut self, core: &Core<E>) -> Result<u64, Unclaimed>;

        /// Returns the sequence that would be claimed next. May be a moment old.
        fn cursor<E>(&self, core: &Core<E>) -> Sequence;

        /// Gives up the end of a run: sequences from `from` on were not published. Returns whether
        /// the caller must leave tombstones there.
        fn abandon(&mut self, control: &Control, from: Sequence) -> bool;
    }
}

/// Way to claim sequences: [`Single`] or [`Multi`].
pub trait Sequencer: sealed::Claims {}

/// Producer's copy of the gate, refreshed only when it is used up.
#[derive(Clone, Debug, Default)]
struct CachedGate {
    /// The first sequence that is not known to be free: a ring after the lowest that some consumer
    /// has not released.
    end: Sequence,
}

impl CachedGate {
    /// Returns how many sequences are free from `next` on.
    ///
    /// In a ring without consumers, all below `bound` is done with. It is called only there.
    #[inline(always)]
    fn free<E>(
        &mut self,
        core: &Core<E>,
        next: Sequence,
        bound: impl FnOnce(&Core<E>, Sequence) -> Sequence,
    ) -> Result<u64, Unclaimed> {
        // With many producers the difference can be out of range. `next` may lie a ring and more
        // before the end, if others have claimed since it was read and their events were consumed;
        // a claim of it fails, however long. It may lie past the end, if others have seen a later
        // minimum than this producer.
        match self.end.saturating_sub(next) {
            0 => self.refresh(core, next, bound),
            free => Ok(free),
        }
    }

    #[cold]
    fn refresh<E>(
        &mut self,
        core: &Core<E>,
        next: Sequence,
        bound: impl FnOnce(&Core<E>, Sequence) -> Sequence,
    ) -> Result<u64, Unclaimed> {
        let (minimum, full) = match core.control.gating.lowest() {
            Some(lowest) => (lowest, Unclaimed::Full),
            None => (bound(core, self.end.saturating_sub(core.control.capacity)), Unclaimed::Unpublished),
        };
        // Starts no further than the cursor was before the list was loaded (see `gating`). Ends
        // with the sequences, so that the hot path need not check for their end.
        let minimum = if edge::left_out("gate-bounded-by-cursor") { minimum } else { minimum.min(next) };
        self.end = (minimum + core.control.capacity).min(END_OF_SEQUENCES);
        match self.end.saturating_sub(next) {
            0 if next >= END_OF_SEQUENCES => Err(Unclaimed::Exhausted),
            0 => Err(full),
            free => Ok(free),
        }
    }
}
