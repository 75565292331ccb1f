//! Options of a consumer: its name, its dependencies, its batches, and the keys of its events.

use crate::sync::unique_number;
use std::sync::Arc;

/// The most lanes of a keyed group.
pub(super) const MAX_LANES: usize = 64;

/// Identity of a consumer, or of a group of workers, for others to depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId {
    /// Unique in this process.
    number: u64,
}

impl ConsumerId {
    /// Returns an id that no other consumer of this process has.
    pub(super) fn unique() -> Self {
        Self { number: unique_number() }
    }
}

/// Options of a managed consumer.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions<'a> {
    pub(super) name: &'a str,
    pub(super) after: &'a [ConsumerId],
    pub(super) max_batch: u64,
}

impl<'a> ConsumerOptions<'a> {
    /// Names a consumer, and its thread. It depends on no other.
    pub fn new(name: &'a str) -> Self {
        Self { name, after: &[], max_batch: u64::MAX }
    }

    /// Lets it see an event when all of these have finished with it.
    #[must_use]
    pub fn after(mut self, consumers: &'a [ConsumerId]) -> Self {
        self.after = consumers;
        self
    }

    /// Limits its batches to so many events, at least one. An eighth of the ring and 512 are
    /// further limits.
    #[must_use]
    pub fn max_batch(mut self, events: u64) -> Self {
        self.max_batch = events.max(1);
        self
    }
}

/// Function that returns the key of an event.
pub(super) type Key<E> = Arc<dyn Fn(&E) -> u64 + Send + Sync>;

/// Key functions of all keyed groups.
pub(super) type Keys<E> = Vec<(ConsumerId, Key<E>)>;
