//! Where threads sleep that wait for each other on one ring: consumers in one place, producers that
//! found it full in another.

use crate::sync::edge;
use crate::wait::{Crew, News, Parking};
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

    /// Wakes the consumers that sleep. Each wake-up has a name, under which a model leaves it out.
    #[inline(always)]
    pub(super) fn wake_consumers(&self, wake_up: &'static str) {
        if edge::wakes(wake_up, "consumers") {
            self.consumers.wake_all();
        }
    }

    /// Wakes the consumers that sleep and may have something to do with a new event.
    #[inline(always)]
    pub(super) fn wake_for_event(&self, wake_up: &'static str) {
        if edge::wakes(wake_up, "consumers") {
            self.consumers.wake_for_event();
        }
    }

    /// Has a worker of a crew, which has found work, wake others for what it will not take.
    pub(super) fn wake_for_more(&self, wake_up: &'static str, crew: Crew, is_there: impl Fn(u64) -> bool) {
        if edge::wakes(wake_up, "consumers") {
            self.consumers.call_more(crew, is_there);
        }
    }

    /// Wakes the producers that sleep.
    #[inline(always)]
    pub(super) fn wake_producers(&self, wake_up: &'static str) {
        if edge::wakes(wake_up, "producers") {
            self.producers.wake_all();
        }
    }

    pub(super) fn wake_everybody(&self, wake_up: &'static str) {
        self.wake_consumers(wake_up);
        self.wake_producers(wake_up);
    }

    /// Wakes whoever may be waiting for a consumer to move on. `news` says whose, where somebody
    /// sleeps.
    #[inline(always)]
    pub(super) fn consumer_moved(&self, wake_up: &'static str, news: impl FnOnce() -> News) {
        self.wake_producers(wake_up);
        // A later stage may be waiting for what this one has finished.
        if edge::wakes(wake_up, "consumers") {
            self.consumers.wake(news);
        }
    }
}
