//! What a consumer is told when it is added: its name, whom it comes after, how much it takes at
//! once, and the keys of its events.

use crate::sync::unique_number;
use std::sync::Arc;

/// The most lanes of a keyed group.
pub(super) const MAX_LANES: usize = 64;

/// One consumer of a ring, or one group of workers, for others to depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId {
    /// Unique in this process.
    number: u64,
}

impl ConsumerId {
    /// An id that no other consumer of this process has.
    pub(super) fn unique() -> Self {
        Self { number: unique_number() }
    }
}

/// The options of a managed consumer.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions<'a> {
    pub(super) name: &'a str,
    pub(super) after: &'a [ConsumerId],
    pub(super) max_batch: u64,
}

impl<'a> ConsumerOptions<'a> {
    /// A consumer of that name, which its thread gets as well. It depends on no other.
    pub fn new(name: &'a str) -> Self {
        Self { name, after: &[], max_batch: u64::MAX }
    }

    /// It sees an event when all of these have finished with it.
    #[must_use]
    pub fn after(mut self, consumers: &'a [ConsumerId]) -> Self {
        self.after = consumers;
        self
    }

    /// It handles so many events in one batch at most, and at least one. An eighth of the ring, and
    /// 512, are further limits.
    #[must_use]
    pub fn max_batch(mut self, events: u64) -> Self {
        self.max_batch = events.max(1);
        self
    }
}

/// What tells the key of an event.
pub(super) type Key<E> = Arc<dyn Fn(&E) -> u64 + Send + Sync>;

/// What tells the key of an event, of each keyed group.
pub(super) type Keys<E> = Vec<(ConsumerId, Key<E>)>;
