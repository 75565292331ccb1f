//! The signal that stops the watchdog, and by which it sleeps.

use crate::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// What stops the watchdog.
pub(super) struct Signal {
    is_stopped: Mutex<bool>,
    stopped: Condvar,
}

impl Signal {
    pub(super) fn new() -> Self {
        Self { is_stopped: Mutex::new(false), stopped: Condvar::new() }
    }

    pub(super) fn stop(&self) {
        *self.is_stopped.lock() = true;
        self.stopped.notify_all();
    }

    /// Waits for so long. Returns whether to go on.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut is_stopped = self.is_stopped.lock();
        while !*is_stopped && Instant::now() < deadline {
            is_stopped = self.stopped.wait_until(is_stopped, Some(deadline));
        }
        !*is_stopped
    }
}
