//! Sequencers: how producers come by the next sequences.
//!
//! A sequencer claims only what is free at that moment. Waiting for room is its caller's affair, so
//! that nobody ever waits with a claim in hand.

mod multi;
mod single;

use crate::ring::control::{Control, Core};
use crate::ring::overflow::PublishError;
use crate::ring::sequence::{END_OF_SEQUENCES, Sequence};
pub use multi::Multi;
pub use single::Single;

/// Sequences that belong to one producer until it stamps or abandons them. Cannot be copied: two
/// who held the same run would write the same slots.
#[derive(Debug)]
#[must_use = "a run that nobody stamps or abandons stops the ring for ever"]
pub struct Run {
    pub(in crate::ring) first: Sequence,
    pub(in crate::ring) count: u64,
}

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// No slot is free: a consumer is a whole ring behind.
    Full,
    /// There is no consumer, and the next slot is still in another producer's hand. Nobody rings
    /// when it no longer is.
    Unpublished,
    /// The ring takes no more events.
    Closed,
    /// There are no more sequences.
    Exhausted,
}

impl Unclaimed {
    /// What a publish answers that does not wait.
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

    /// What the two sequencers have in common; not for implementing elsewhere.
    pub trait Claims: Send {
        /// Whether several producers move the claim word, so that it is there that closing must
        /// refuse them.
        const ARE_MANY: bool;

        /// Claims up to `wanted` sequences, at least one.
        fn try_claim<E>(&mut self, core: &Core<E>, wanted: u64) -> Result<Run, Unclaimed>;

        /// How many sequences are free, by a new look at the gate.
        fn room<E>(&mut self, core: &Core<E>) -> Result<u64, Unclaimed>;

        /// The sequence that would be claimed next. May be a moment old.
        fn cursor<E>(&self, core: &Core<E>) -> Sequence;

        /// Gives up the end of a run: sequences from `from` on were not published. Returns whether
        /// the caller must leave tombstones there.
        fn abandon(&mut self, control: &Control, from: Sequence) -> bool;
    }
}

/// One of the two ways to claim: [`Single`] or [`Multi`].
pub trait Sequencer: sealed::Claims {}

/// A producer's copy of the gate, refreshed only when it is used up.
#[derive(Clone, Debug, Default)]
struct CachedGate {
    /// The first sequence that is not known to be free: a ring after the lowest that some consumer
    /// has not released.
    end: Sequence,
}

impl CachedGate {
    /// How many sequences are free from `next` on.
    ///
    /// In a ring without consumers all below `bound` is done with, which is asked only then.
    #[inline(always)]
    fn free<E>(
        &mut self,
        core: &Core<E>,
        next: Sequence,
        bound: impl FnOnce(&Core<E>, Sequence) -> Sequence,
    ) -> Result<u64, Unclaimed> {
        // With many producers the difference can be out of range. `next` may lie a ring and more
        // before the end, where it was read before others claimed and their events were consumed: a
        // claim of it fails, however long. And it may lie behind the end, where others have seen a
        // later minimum than this producer has.
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
        // From no further than the cursor was before the list was loaded (see `gating`), and to no
        // further than there are sequences, which is thus no business of the hot path.
        self.end = (minimum.min(next) + core.control.capacity).min(END_OF_SEQUENCES);
        match self.end.saturating_sub(next) {
            0 if next >= END_OF_SEQUENCES => Err(Unclaimed::Exhausted),
            0 => Err(full),
            free => Ok(free),
        }
    }
}
