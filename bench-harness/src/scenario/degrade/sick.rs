//! The two handlers, and what each has seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use ringmain::clock::{Clock, Timestamp};
use ringmain::message::Message;

use super::contract::{CONTRACT, Share};
use super::expected::Model;
use super::options::Fault;
use crate::stats::histogram;

/// A planted stall of the healthy one, and the messages between two of them.
const STALL: Duration = Duration::from_millis(40);
const STALL_EVERY: u64 = 200;

/// A message: its number, and the moment at which it was due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) due: u64,
}

/// What the healthy one has seen.
#[derive(Debug)]
pub(super) struct Healthy {
    /// The number that should be next.
    next: u64,
    pub(super) calls: u64,
    /// Messages that did not come in their place: lost, doubled or out of order.
    pub(super) misplaced: u64,
    /// From when a message was due to its handler.
    pub(super) latency: Histogram<u64>,
}

/// What the sick one has seen.
#[derive(Clone, Debug)]
pub(super) struct Sick {
    pub(super) calls: u64,
    pub(super) failures: u64,
    /// Calls that were not a message's first.
    pub(super) repeated: u64,
    pub(super) model: Model,
}

/// What a handler and who measures share. Only the handler locks it while messages flow.
pub(super) type Shared<T> = Arc<Mutex<T>>;

pub(super) fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The messages whose latency is recorded: those after the warm-up, and none of the recovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Healthy {
    pub(super) fn new() -> Self {
        Self { next: 0, calls: 0, misplaced: 0, latency: histogram() }
    }

    /// The handler.
    pub(super) fn handler(
        seen: Shared<Self>,
        clock: Clock,
        recorded: Recorded,
        planted: Option<Fault>,
    ) -> impl FnMut(&Message<'_, Job>) + Send + 'static {
        move |message| {
            let (now, Job { number, due }) = (clock.now(), **message);
            let mut seen = locked(&seen);
            if planted == Some(Fault::Lost) && number == 7 {
                return;
            }
            seen.calls += 1;
            seen.misplaced += u64::from(number != seen.next);
            seen.next = number + 1;
            if (recorded.from..recorded.to).contains(&number) {
                let waited = now.since(Timestamp::from_nanos(due));
                seen.latency.saturating_record(waited.as_nanos() as u64);
            }
            if planted == Some(Fault::Hurt) && number % STALL_EVERY == 0 {
                std::thread::sleep(STALL);
            }
        }
    }
}

impl Sick {
    pub(super) fn new() -> Self {
        Self { calls: 0, failures: 0, repeated: 0, model: Model::new(CONTRACT) }
    }

    /// The handler: while `is_failing`, it fails at a share of the messages, at each attempt.
    pub(super) fn handler(
        seen: Shared<Self>,
        clock: Clock,
        share: Share,
        is_failing: Arc<AtomicBool>,
        planted: Option<Fault>,
    ) -> impl FnMut(&Message<'_, Job>) -> Result<(), &'static str> + Send + 'static {
        let mut has_overlooked = planted != Some(Fault::Unseen);
        move |message| {
            let now = clock.now().as_nanos();
            let has_failed = is_failing.load(Ordering::Relaxed) && share.fails(message.number);
            let mut seen = locked(&seen);
            seen.calls += 1;
            seen.repeated += u64::from(message.attempt() > 1);
            let is_seen = has_overlooked || !has_failed;
            has_overlooked |= has_failed;
            seen.failures += u64::from(has_failed && is_seen);
            seen.model.call(now, has_failed && is_seen);
            if has_failed { Err("it is sick") } else { Ok(()) }
        }
    }
}
