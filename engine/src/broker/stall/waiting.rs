//! How many publishers wait for room in a ring. Counted where they wait, and nowhere else.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The publishers that wait for room in one ring.
#[derive(Debug, Default)]
pub(crate) struct WaitingPublishers {
    now: AtomicU32,
    /// How many waits have begun.
    begun: AtomicU64,
}

/// A publisher that waits, until it is dropped.
pub(crate) struct Waiting<'w>(&'w WaitingPublishers);

impl WaitingPublishers {
    /// Says that a publisher is about to wait.
    pub(crate) fn enter(&self) -> Waiting<'_> {
        // Relaxed: each is a count that says nothing of anything else.
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.now.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    pub(super) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}
