//! A counter with one writer and any number of readers.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Counts up. One thread at a time writes it; any thread may read it, a moment late.
///
/// Adding is a load and a store of a line that nobody else writes: no read-modify-write, no
/// contention. Two threads that add at once lose counts, so whoever embeds one sees to it that they
/// do not.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the counter's one writer may call it.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one. Only the counter's one writer may call it.
    #[inline(always)]
    pub fn bump(&self) {
        self.add(1);
    }

    /// What has been counted so far, as far as the reader can see.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
