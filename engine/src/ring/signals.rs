//! Where those sleep who wait for each other on one ring: consumers in one place, producers that found it full in the
//! other.

use crate::wait::Parking;
use std::sync::Arc;

/// The two sleeping places of a ring.
pub(super) struct Signals {
    /// Where consumers sleep. Rings that one consumer reads together share it.
    pub(super) readers: Arc<Parking>,
    /// Where producers sleep that found the ring full.
    pub(super) writers: Parking,
}

impl Signals {
    pub(super) fn new(readers: Arc<Parking>, writers: Parking) -> Self {
        Self { readers, writers }
    }

    pub(super) fn wake_everybody(&self) {
        self.readers.wake_all();
        self.writers.wake_all();
    }

    /// Tells whoever may be waiting for it that a consumer has moved on.
    #[inline(always)]
    pub(super) fn consumer_moved(&self) {
        self.writers.wake_all();
        // A later stage may be asleep over what this one has finished.
        self.readers.wake_all();
    }
}
