//! What a consumer with a thread of the ring's own and the driver tell each other.

use std::sync::atomic::{AtomicU64, Ordering};

/// No number of events yet.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// What a consumer and the driver tell each other, each on lines of its own.
pub(super) struct ConsumerProgress {
    warmed: Line,
    handled: Line,
}

#[repr(align(128))]
struct Line(AtomicU64);

impl ConsumerProgress {
    pub(super) fn new() -> Self {
        Self { warmed: Line(AtomicU64::new(UNKNOWN)), handled: Line(AtomicU64::new(0)) }
    }

    /// Says how many events there are before those that count.
    pub(super) fn warm_up_ends_with(&self, events: u64) {
        self.warmed.0.store(events, Ordering::Release);
    }

    /// How many events there are before those that count; [`UNKNOWN`] until that is known.
    #[inline(always)]
    pub(super) fn warmed_after(&self) -> u64 {
        self.warmed.0.load(Ordering::Acquire)
    }

    /// Says how many events were handled.
    #[inline(always)]
    pub(super) fn has_handled(&self, events: u64) {
        self.handled.0.store(events, Ordering::Release);
    }

    /// How many events were handled.
    pub(super) fn handled(&self) -> u64 {
        self.handled.0.load(Ordering::Acquire)
    }
}
