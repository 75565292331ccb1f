//! Where threads sleep that wait for each other on one ring: consumers in one place, producers that
//! found it full in another.

use crate::wait::Parking;
use std::sync::Arc;

/// Sleeping places of a ring.
pub(super) struct Signals {
    /// Where consumers sleep. Rings that one consumer reads together share it.
    pub(super) consumers: Arc<Parking>,
    /// Where producers sleep that found the ring full.
    pub(super) producers: Parking,
}

impl Signals {
    pub(super) fn new(consumers: Arc<Parking>, producers: Parking) -> Self {
        Self { consumers, producers }
    }

    /// Wakes all who sleep.
    pub(super) fn wake_everybody(&self) {
        self.consumers.wake_all();
        self.producers.wake_all();
    }

    /// Wakes whoever may be waiting for a consumer to move on.
    #[inline(always)]
    pub(super) fn consumer_moved(&self) {
        self.producers.wake_all();
        // A later stage may be waiting for what this one has finished.
        self.consumers.wake_all();
    }
}
