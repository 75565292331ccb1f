//! Where those sleep who wait for each other on one ring: consumers in one place, producers that
//! found it full in the other.

use crate::wait::Parking;
use std::sync::Arc;

/// The two sleeping places of a ring.
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

    pub(super) fn wake_everybody(&self) {
        self.consumers.wake_all();
        self.producers.wake_all();
    }

    /// Tells whoever may be waiting for it that a consumer has moved on.
    #[inline(always)]
    pub(super) fn consumer_moved(&self) {
        self.producers.wake_all();
        // A later stage may be asleep over what this one has finished.
        self.consumers.wake_all();
    }
}
