//! Lingering: a consumer that has caught up under load pauses briefly before it looks again.
//!
//! A consumer close behind its producer fights it for every line. Each event costs a transfer of
//! its line, and often another one to take the line away from the consumer that was already looking
//! at it. A consumer that trails finds whole batches, and the producer writes undisturbed. An
//! instruction more or less decides which of the two a pair falls into.
//!
//! So the consumer tries. When events come faster than a line travels, and yet one by one, it
//! lingers for some looks and measures whether events come faster. If they do, the fight had held
//! the producer up: the consumer goes on lingering, and checks now and then that it still pays. If
//! they do not, the producer is slower of its own accord and lingering would only add latency: the
//! next try comes much later.

use crate::sync::hint;
use std::time::{Duration, Instant};

/// Default time for which a consumer lingers.
pub(crate) const LINGER: Duration = Duration::from_micros(2);

/// Limit of that time, since a consumer that lingers sees neither a halt nor a command.
pub(crate) const MAX_LINGER: Duration = Duration::from_millis(1);

/// Looks that are judged together.
const WINDOW: u32 = 64;

/// Windows with lingering between two checks that it still pays.
const BETWEEN_CHECKS: u32 = 32;

/// Events per look from which on a consumer trails far enough.
const TRAILS: u64 = 64;

/// Nanoseconds per event above which lingering is pointless: a line travels in less.
const SLOW: f64 = 250.0;

/// Lingering pays when an event takes less than this part of its time without lingering.
const PAYS: f64 = 0.85;

/// First pause between two tries. Each try that does not pay doubles it, up to the limit.
const PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// One consumer's lingering.
pub(crate) struct Linger {
    breath: Duration,
    state: State,
    looks: u32,
    events: u64,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Not lingering; no try before that moment.
    Off { next_try: Instant, pause: Duration },
    /// Lingering, to compare with what an event took before.
    Trying { without: f64, pause: Duration },
    /// Lingering for so many more windows.
    On { windows: u32 },
    /// Not lingering, to compare with what an event took before.
    Checking { with: f64 },
}

impl Linger {
    /// Starts with a consumer that does not linger. With a zero `breath` it never will, which costs
    /// a comparison per look.
    pub(crate) fn new(breath: Duration) -> Self {
        let now = Instant::now();
        // Models know no time.
        let breath = if cfg!(ringmain_loom) { Duration::ZERO } else { breath };
        Self { breath, state: State::Off { next_try: now, pause: PAUSE }, looks: 0, events: 0, since: now }
    }

    /// Lingers if that pays, after a look that has found, and handled, `found` events of at most
    /// `most`. Reads the clock every 64 looks and while it lingers.
    #[inline]
    pub(crate) fn after(&mut self, found: u64, most: u64) {
        if self.breath.is_zero() {
            return;
        }
        self.looks += 1;
        self.events += found;
        if self.looks == WINDOW {
            self.judge();
        }
        // However many it has found, the next look would come right behind the producer.
        if found < most && matches!(self.state, State::Trying { .. } | State::On { .. }) {
            self.breathe();
        }
    }

    #[cold]
    fn breathe(&self) {
        let from = Instant::now();
        while from.elapsed() < self.breath {
            hint::spin();
        }
    }

    #[cold]
    fn judge(&mut self) {
        let now = Instant::now();
        let nanos = (now - self.since).as_nanos() as f64 / self.events as f64;
        self.state = self.state.after_window(nanos, self.events / u64::from(WINDOW), now);
        (self.looks, self.events, self.since) = (0, 0, now);
    }
}

impl State {
    /// Returns the state after a window in which an event took `nanos` nanoseconds and a look found
    /// `found` events.
    fn after_window(self, nanos: f64, found: u64, now: Instant) -> Self {
        match self {
            Self::Off { next_try, pause } if found < TRAILS && nanos < SLOW && now >= next_try => {
                Self::Trying { without: nanos, pause }
            }
            Self::Off { .. } => self,
            Self::Trying { without, .. } if nanos < without * PAYS => Self::On { windows: BETWEEN_CHECKS },
            Self::Trying { pause, .. } => {
                Self::Off { next_try: now + pause, pause: MAX_PAUSE.min(pause * 2) }
            }
            Self::On { windows: 0 } => Self::Checking { with: nanos },
            Self::On { .. } if nanos >= SLOW => Self::Off { next_try: now, pause: PAUSE },
            Self::On { windows } => Self::On { windows: windows - 1 },
            Self::Checking { with } if with < nanos * PAYS => Self::On { windows: BETWEEN_CHECKS },
            Self::Checking { .. } => Self::Off { next_try: now + PAUSE, pause: 2 * PAUSE },
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    fn off() -> (State, Instant) {
        let now = Instant::now();
        (State::Off { next_try: now, pause: PAUSE }, now)
    }

    fn lingers(state: State) -> bool {
        matches!(state, State::Trying { .. } | State::On { .. })
    }

    #[test]
    fn a_producer_that_is_held_up_is_given_room_and_loses_it_when_that_no_longer_helps() {
        let (state, now) = off();
        let state = state.after_window(80.0, 1, now);
        assert!(lingers(state), "it is worth a try");
        let mut state = state.after_window(10.0, 50, now);
        for window in 0..=BETWEEN_CHECKS {
            assert!(lingers(state), "window {window}");
            state = state.after_window(10.0, 50, now);
        }
        assert!(!lingers(state), "a check");
        assert!(lingers(state.after_window(80.0, 1, now)), "it still pays");
        let state = state.after_window(10.5, 1, now);
        assert!(!lingers(state), "it pays no longer");
        assert!(!lingers(state.after_window(80.0, 1, now)), "and is not tried at once");
        assert!(lingers(state.after_window(80.0, 1, now + PAUSE)));
    }

    #[test]
    fn a_producer_that_takes_its_time_is_tried_ever_more_seldom() {
        let (mut state, mut now) = off();
        let mut tries = 0;
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            state = state.after_window(100.0, 1, now);
            tries += u32::from(lingers(state));
        }
        assert!((5..20).contains(&tries), "{tries} tries in ten seconds");
    }

    #[test]
    fn neither_slow_events_nor_whole_batches_make_it_linger() {
        let (state, now) = off();
        assert!(!lingers(state.after_window(SLOW, 1, now)));
        assert!(!lingers(state.after_window(5.0, TRAILS, now)));
        assert!(!lingers(State::On { windows: 3 }.after_window(SLOW, 1, now)));
    }
}
