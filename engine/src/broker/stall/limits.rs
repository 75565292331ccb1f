//! How often the watchdog looks: four times within the shortest time after which something is to be told. That is the
//! broker's own limit, or the shortest time limit of a subscription that exists. Where none has one, it is as if there
//! were no such limits.

use super::signal::Signal;
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// Looks within a limit, and the bounds of the time between two of them.
const LOOKS: u32 = 4;
const MIN_INTERVAL: Duration = Duration::from_millis(1);
const MAX_INTERVAL: Duration = Duration::from_millis(250);

/// Returns the time between two looks that a limit asks for.
pub(super) fn interval_for(limit: Duration) -> Duration {
    (limit / LOOKS).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// The time limits of subscriptions, and how many have each.
#[derive(Default)]
pub(super) struct Limits(Mutex<BTreeMap<Duration, usize>>);

impl Limits {
    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Notes a subscription's limit. The watchdog of a broker with that `general` limit looks more often, if need be.
    pub(super) fn add(&self, limit: Duration, general: Duration, signal: &Signal) {
        let mut limits = self.0.lock();
        *limits.entry(limit).or_insert(0) += 1;
        set_pace(&limits, general, signal);
    }

    /// Forgets the limit of a subscription that has ended.
    pub(super) fn remove(&self, limit: Duration, general: Duration, signal: &Signal) {
        let mut limits = self.0.lock();
        if let Some(count) = limits.get_mut(&limit) {
            *count -= 1;
            if *count == 0 {
                limits.remove(&limit);
            }
        }
        set_pace(&limits, general, signal);
    }
}

/// Under the lock of the limits, so that the last who changes them sets it.
fn set_pace(limits: &BTreeMap<Duration, usize>, general: Duration, signal: &Signal) {
    let shortest = limits.keys().next().map_or(general, |shortest| general.min(*shortest));
    signal.set_interval(interval_for(shortest));
}
