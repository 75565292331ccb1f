//! Time behind its seam: the processor's time-stamp counter, or a virtual clock that a test moves by hand.
//!
//! A reading is a [`Timestamp`]: nanoseconds since the clock was made. The time-stamp counter is read where the
//! processor keeps it invariant across cores and sleep states (some 8 to 15 ns), else the system's monotonic clock
//! (some 25 ns); the choice and the calibration are the `quanta` crate's.

use crate::sync::{CachePadded, Mutex};
use crate::wait::Deadline;
use std::fmt;
use std::sync::{Arc, Weak};
// A virtual clock is an instrument of tests, not a protocol: models do not explore it.
#[allow(clippy::disallowed_types)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A moment: nanoseconds since the origin of the clock that was read. Good for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment that many nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero when `earlier` is the later of the two.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `wait` after this one, or the last the clock can tell.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A reading of a clock in the clock's own unit, which only that clock can tell the time of. Taking
/// one costs no more than the counter; what it costs to make nanoseconds of it is paid by who wants
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticks(u64);

/// A source of time. Cheap to clone; clones tell the same time. Can be read from any thread, waits for nobody.
#[derive(Clone)]
pub struct Clock {
    source: Source,
    wall_origin: SystemTime,
}

#[derive(Clone)]
enum Source {
    Hardware { clock: quanta::Clock, origin: u64 },
    Virtual(Arc<Virtual>),
}

/// A virtual clock's time, and who is to be told when it is moved.
struct Virtual {
    nanos: CachePadded<AtomicU64>,
    watchers: Mutex<Vec<Weak<Watcher>>>,
}

/// What is called when a virtual clock has been moved.
pub(crate) type Watcher = dyn Fn() + Send + Sync;

impl Clock {
    /// The hardware's clock. The first call of a process calibrates it, which takes up to 200 ms.
    pub fn hardware() -> Self {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Self { source: Source::Hardware { clock, origin }, wall_origin: SystemTime::now() }
    }

    /// A clock that stands still until its [`VirtualTime`] is moved.
    ///
    /// ```
    /// use ringmain::clock::Clock;
    /// use std::time::Duration;
    ///
    /// let (clock, time) = Clock::manual();
    /// let before = clock.now();
    /// time.advance(Duration::from_secs(3));
    /// assert_eq!(clock.now().since(before), Duration::from_secs(3));
    /// ```
    pub fn manual() -> (Self, VirtualTime) {
        let time = Virtual { nanos: CachePadded::new(AtomicU64::new(0)), watchers: Mutex::default() };
        let time = Arc::new(time);
        let clock = Self { source: Source::Virtual(time.clone()), wall_origin: SystemTime::UNIX_EPOCH };
        (clock, VirtualTime(time))
    }

    /// The present moment. Never runs backwards on one thread.
    #[inline]
    pub fn now(&self) -> Timestamp {
        self.moment(self.ticks())
    }

    /// A reading to be turned into a moment later.
    #[inline(always)]
    pub(crate) fn ticks(&self) -> Ticks {
        match &self.source {
            Source::Hardware { clock, .. } => Ticks(clock.raw()),
            Source::Virtual(time) => Ticks(time.nanos.load(Ordering::Acquire)),
        }
    }

    /// The moment at which a reading was taken.
    #[inline]
    pub(crate) fn moment(&self, ticks: Ticks) -> Timestamp {
        match &self.source {
            Source::Hardware { clock, origin } => Timestamp(clock.delta_as_nanos(*origin, ticks.0)),
            Source::Virtual(_) => Timestamp(ticks.0),
        }
    }

    /// Returns when a wait for a moment is to give up: never where the clock is a virtual one, which tells its
    /// watchers.
    pub(crate) fn deadline(&self, moment: Timestamp) -> Deadline {
        match &self.source {
            Source::Hardware { .. } => Deadline::after(moment.since(self.now())),
            Source::Virtual(_) => Deadline::NEVER,
        }
    }

    /// Has something called whenever the clock is moved by hand, as long as it exists.
    pub(crate) fn watch(&self, watcher: &Arc<Watcher>) {
        if let Source::Virtual(time) = &self.source {
            let mut watchers = time.watchers.lock();
            watchers.retain(|other| other.strong_count() > 0);
            watchers.push(Arc::downgrade(watcher));
        }
    }

    /// The wall-clock time of a moment, as the wall clock stood when this clock was made: later corrections of the
    /// wall clock do not show.
    pub fn wall(&self, at: Timestamp) -> SystemTime {
        self.wall_origin + Duration::from_nanos(at.0)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            Source::Hardware { .. } => "Clock(hardware)",
            Source::Virtual(_) => "Clock(virtual)",
        })
    }
}

/// The hand that moves a virtual clock.
#[derive(Clone)]
pub struct VirtualTime(Arc<Virtual>);

impl VirtualTime {
    /// Moves the clock forward, at most to the last moment that it can tell, some 584 years after its
    /// origin. Wakes the consumers of brokers that tell time by this clock: what has become due, such as
    /// another attempt, they do. It does not wait for that.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let later = |nanos: u64| Some(nanos.saturating_add(by));
        // The closure refuses nothing.
        let _ = self.0.nanos.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
        let watchers: Vec<_> = self.0.watchers.lock().iter().filter_map(Weak::upgrade).collect();
        for watcher in watchers {
            watcher();
        }
    }
}

impl fmt::Debug for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VirtualTime")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_stops_at_its_end_and_never_runs_backwards() {
        let (clock, time) = Clock::manual();
        let almost = Duration::from_nanos(u64::MAX - 1);
        time.advance(almost);
        let before = clock.now();
        for by in [Duration::from_nanos(1), Duration::from_secs(1), Duration::MAX] {
            time.advance(by);
            assert!(clock.now() >= before);
            assert_eq!(clock.now().as_nanos(), u64::MAX);
        }
    }

    #[test]
    fn the_hardware_clock_keeps_the_time_of_the_system() {
        let clock = Clock::hardware();
        let (ours, theirs) = (clock.now(), std::time::Instant::now());
        while theirs.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (ours, theirs) = (clock.now().since(ours), theirs.elapsed());
        let off = ours.abs_diff(theirs);
        assert!(off < Duration::from_millis(5), "{ours:?} against {theirs:?}");
    }
}
