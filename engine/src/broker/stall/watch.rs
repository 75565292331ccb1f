//! What the watchdog knows: the tracks of all consumers and rings, its own clock, and what it has yet to tell.

use super::limits::{Limits, interval_for};
use super::report::Stall;
use super::signal::Signal;
use super::track::Track;
use crate::broker::error::RescueError;
use crate::ring::{Call, Sequence};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, AtomicU64};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The age at which something is a stall, unless told otherwise.
pub(crate) const DEFAULT_LIMIT: Duration = Duration::from_secs(1);

pub(crate) const MIN_LIMIT: Duration = Duration::from_millis(1);

/// The most rescues that wait to be told.
pub(super) const MOST_RESCUES: usize = 1_024;

/// What is called for each stall.
pub(crate) type StallCallback = Arc<dyn Fn(&Stall) + Send + Sync>;

/// How a broker is watched.
#[derive(Clone)]
pub(crate) struct StallOptions {
    /// `None` where it is not.
    pub(crate) limit: Option<Duration>,
    pub(crate) callback: Option<StallCallback>,
}

impl Default for StallOptions {
    fn default() -> Self {
        Self { limit: Some(DEFAULT_LIMIT), callback: None }
    }
}

/// The watchdog's part of a broker. It knows nothing of payloads, and outlives the broker where it hangs.
pub(crate) struct Watch {
    pub(super) limit: Duration,
    /// Those of subscriptions.
    pub(super) limits: Limits,
    pub(super) callback: Option<StallCallback>,
    pub(super) seen: Mutex<Seen>,
    pub(super) signal: Signal,
    /// Callbacks that have panicked.
    pub(crate) panics: AtomicU64,
    /// How many threads run for it.
    pub(crate) threads: AtomicU32,
}

/// What lies under the lock.
pub(super) struct Seen {
    /// By consumer, in the order of the broker.
    pub(super) calls: Vec<Track<Call>>,
    /// By ring.
    pub(super) rings: Vec<Ring>,
    /// What has been told of and is over.
    pub(super) over: Vec<Stall>,
    /// Calls whose consumers were replaced, or could not be and why, and that is to be told: the first
    /// [`MOST_RESCUES`], should nobody come to tell them.
    pub(super) rescues: Vec<(Stall, Option<RescueError>)>,
    clock: WatchClock,
}

/// A ring, as the watchdog remembers it: while publishers wait there, how far it is claimed.
pub(super) struct Ring {
    pub(super) track: Track<Sequence>,
    /// How many waits had begun at the last look.
    pub(super) begun: u64,
}

/// A clock that goes on by what was watched of the time.
struct WatchClock {
    now: Duration,
    last: Instant,
    is_telling: bool,
}

impl WatchClock {
    /// Reads it. Of a time in which nobody has looked no more than `most` counts, unless it has gone into telling.
    fn read(&mut self, at: Instant, most: Duration) -> Duration {
        let passed = at.saturating_duration_since(self.last);
        self.last = self.last.max(at);
        self.now += if self.is_telling { passed } else { passed.min(most) };
        self.now
    }
}

impl Watch {
    pub(crate) fn new(options: StallOptions, consumers: usize, rings: usize) -> Option<Self> {
        let StallOptions { limit, callback } = options;
        let limit = limit?.max(MIN_LIMIT);
        let rings = (0..rings).map(|_| Ring { track: Track::new(), begun: 0 }).collect();
        let clock = WatchClock { now: Duration::ZERO, last: Instant::now(), is_telling: false };
        let calls = (0..consumers).map(|_| Track::new()).collect();
        Some(Self {
            limit,
            limits: Limits::default(),
            callback,
            seen: Mutex::new(Seen { calls, rings, over: Vec::new(), rescues: Vec::new(), clock }),
            signal: Signal::new(interval_for(limit)),
            panics: AtomicU64::new(0),
            threads: AtomicU32::new(0),
        })
    }

    /// Has calls told at that age that are over a subscription's time limit.
    pub(crate) fn look_within(&self, limit: Duration) {
        self.limits.add(limit, self.limit, &self.signal);
    }

    /// Says that such a subscription has ended.
    pub(crate) fn look_within_no_longer(&self, limit: Duration) {
        self.limits.remove(limit, self.limit, &self.signal);
    }

    /// Forgets the call of the consumer of that number among all: it is not over, and told of no more.
    pub(crate) fn forget_call(&self, consumer: usize) {
        self.seen.lock().calls.get_mut(consumer).into_iter().for_each(Track::forget);
    }

    /// Says that nothing more is to be told.
    pub(crate) fn stop(&self) {
        self.signal.stop();
    }

    /// Says whether the watchdog is telling, which may take any time.
    pub(super) fn set_telling(&self, is_telling: bool) {
        let interval = self.signal.interval();
        let mut seen = self.seen.lock();
        // What has passed so far counts as what it was.
        seen.read_clock(interval);
        seen.clock.is_telling = is_telling;
    }
}

impl Seen {
    /// Reads the watchdog's clock.
    pub(super) fn read_clock(&mut self, interval: Duration) -> Duration {
        self.clock.read(Instant::now(), interval * 2)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_nobody_looked_counts_for_little_unless_it_has_gone_into_telling() {
        let (start, most) = (Instant::now(), Duration::from_millis(500));
        let mut clock = WatchClock { now: Duration::ZERO, last: start, is_telling: false };
        let mut read = |seconds: f64, is_telling| {
            clock.is_telling = is_telling;
            clock.read(start + Duration::from_secs_f64(seconds), most).as_secs_f64()
        };
        assert_eq!(read(0.25, false), 0.25);
        assert_eq!(read(60.25, false), 0.75, "the process was stopped");
        assert_eq!(read(60.5, false), 1.0);
        assert_eq!(read(70.5, true), 11.0, "a callback took ten seconds");
        assert_eq!(read(70.0, false), 11.0, "a clock that goes back does no harm");
    }

    #[test]
    fn looks_come_four_within_a_limit_and_at_least_every_quarter_of_a_second() {
        let interval = |limit: u64| {
            let limit = Some(Duration::from_millis(limit));
            let watch = Watch::new(StallOptions { limit, callback: None }, 1, 1);
            watch.map(|watch| watch.signal.interval().as_millis())
        };
        let expected = [(0, 1), (20, 5), (1_000, 250), (60_000, 250)];
        assert!(expected.into_iter().all(|(limit, looks)| interval(limit) == Some(looks)));
        assert!(Watch::new(StallOptions { limit: None, callback: None }, 1, 1).is_none());
    }

    #[test]
    fn looks_follow_the_shortest_limit_of_a_subscription_and_are_as_before_when_it_has_ended() {
        let millis = Duration::from_millis;
        let options = StallOptions { limit: Some(millis(400)), callback: None };
        let watch = Watch::new(options, 1, 1).expect("it is switched on");
        let interval = || watch.signal.interval();
        assert_eq!(interval(), millis(100));
        watch.look_within(millis(4_000));
        assert_eq!(interval(), millis(100), "the broker's own is shorter");
        for _ in 0..2 {
            watch.look_within(millis(40));
        }
        watch.look_within(millis(200));
        assert_eq!(interval(), millis(10));
        watch.look_within(Duration::from_micros(1));
        assert_eq!(interval(), millis(1), "not more often than once a millisecond");
        watch.look_within_no_longer(Duration::from_micros(1));
        watch.look_within_no_longer(millis(40));
        assert_eq!(interval(), millis(10), "another one has that limit");
        watch.look_within_no_longer(millis(40));
        assert_eq!(interval(), millis(50));
        watch.look_within_no_longer(millis(200));
        watch.look_within_no_longer(millis(4_000));
        assert!(watch.limits.is_empty());
        assert_eq!(interval(), millis(100));
    }
}
