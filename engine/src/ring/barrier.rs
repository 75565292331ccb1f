//! The sequence barrier: what a consumer may handle, which is what is published and what the consumers it depends on
//! have finished.

use super::Sequence;
use super::control::Core;
use super::gating::ConsumerSequence;
use crate::sync::edge::FINISH_STAGE;

/// The barrier of one consumer.
pub(super) struct Barrier {
    /// All consumers before this one in the graph, not only the nearest: one that leaves must not open the way for
    /// its dependents past those that stay.
    dependencies: Vec<ConsumerSequence>,
}

impl Barrier {
    pub(super) fn new(dependencies: Vec<ConsumerSequence>) -> Self {
        Self { dependencies }
    }

    /// The end of what is available from `from` on, at most `max` sequences.
    #[inline(always)]
    pub(super) fn available<E>(&self, core: &Core<E>, from: Sequence, max: u64) -> Sequence {
        // Edge `FINISH_STAGE`, acquire side.
        let limit = self
            .dependencies
            .iter()
            .map(|sequence| sequence.load(FINISH_STAGE.acquire()))
            .fold(from.saturating_add(max), Sequence::min);
        Self::published(core, from, limit)
    }

    /// The end of what is published from `from` on, below `limit`.
    #[inline(always)]
    pub(super) fn published<E>(core: &Core<E>, from: Sequence, limit: Sequence) -> Sequence {
        let mut end = from;
        while end < limit && core.slots.is_published(end) {
            end += 1;
        }
        end
    }
}
