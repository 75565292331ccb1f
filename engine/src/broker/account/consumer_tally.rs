//! What one consumer has done, over all its subscriptions.

use crate::observe::{Counter, Recorder};
use crate::sync::CachePadded;

/// What a consumer has done. Written by the consumer.
#[derive(Debug, Default)]
pub(crate) struct ConsumerTally {
    /// Events gone through and released.
    pub(crate) consumed: CachePadded<Counter>,
    pub(crate) tombstones: Counter,
    /// Calls of handlers that returned without an error: the sum over the consumer's subscriptions,
    /// present and past.
    pub(crate) delivered: Counter,
    /// Calls of handlers that failed or panicked.
    pub(crate) failed: Counter,
    /// From publish to reading.
    pub(crate) latency: Recorder,
}

impl ConsumerTally {
    /// Counts all below `next` as passed, with so many tombstones among it.
    #[inline(always)]
    pub(crate) fn pass(&self, next: u64, tombstones: u64) {
        if tombstones > self.tombstones.get() {
            self.tombstones.add(tombstones - self.tombstones.get());
        }
        self.consumed.add((next - tombstones).saturating_sub(self.consumed.get()));
    }
}
