//! The gate: the slowest consumer's sequence, which producers may not lap.

use super::Sequence;
use crate::sync::CachePadded;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU64;
use crate::sync::edge::RELEASE_SLOT;
use crate::sync::swapped::Swapped;
use std::sync::Arc;

/// A consumer's sequence on a line of its own: every sequence below it is done with.
pub(super) type ConsumerSequence = Arc<CachePadded<AtomicU64>>;

/// The sequence of a consumer that has left: it holds nobody up.
pub(super) const LEFT: Sequence = Sequence::MAX;

/// All consumers' sequences. The list is swapped whole when a consumer comes or goes, and is read only by a producer
/// whose cached minimum is used up.
pub(super) struct Gating {
    sequences: Swapped<Vec<ConsumerSequence>>,
    /// The same list for those who change it, one at a time.
    latest: Mutex<Vec<ConsumerSequence>>,
}

impl Gating {
    pub(super) fn new() -> Self {
        Self { sequences: Swapped::new(Vec::new()), latest: Mutex::new(Vec::new()) }
    }

    /// The lowest sequence of all consumers that are there, `None` where there is none. Edge `RELEASE_SLOT`, acquire
    /// side.
    pub(super) fn lowest(&self) -> Option<Sequence> {
        self.sequences.read(|sequences| {
            let all = sequences.iter().map(|sequence| sequence.load(RELEASE_SLOT.acquire()));
            all.filter(|&sequence| sequence != LEFT).min()
        })
    }

    /// Lets a consumer hold producers up from now on.
    pub(super) fn add(&self, sequence: ConsumerSequence) {
        let mut latest = self.latest.lock();
        latest.push(sequence);
        self.sequences.replace(latest.clone());
    }

    /// Lets a consumer hold nobody up any more.
    pub(super) fn remove(&self, sequence: &ConsumerSequence) {
        let mut latest = self.latest.lock();
        latest.retain(|other| !Arc::ptr_eq(other, sequence));
        self.sequences.replace(latest.clone());
    }
}
