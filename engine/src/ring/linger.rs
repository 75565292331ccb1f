//! Lingering: a consumer that has caught up under load takes a breath before it looks again.
//!
//! A consumer on the producer's heels fights it for every line: each event costs a transfer of its line, and often one more
//! to take the line away from the consumer that was already looking at it. A consumer that trails finds whole batches,
//! and the producer writes undisturbed. Which of the two a pair falls into is decided by an instruction more or less. So
//! the consumer tries: when events come faster than a line travels and yet one by one, it lingers for some looks and
//! measures whether that makes them come faster. Where it does, the producer was held up by the fight, and the consumer goes
//! on lingering; where it does not, the producer is slower of its own accord, lingering would only add latency, and the
//! next try is a good while off.

use crate::sync::hint;
use std::time::{Duration, Instant};

/// How long a consumer lingers at a time, unless told otherwise.
pub(crate) const LINGER: Duration = Duration::from_micros(2);

/// Looks that are judged together.
const WINDOW: u32 = 64;

/// Events a look above which a consumer trails well enough.
const TRAILS: u64 = 16;

/// Nanoseconds an event above which the producer has no need of a breath: a line travels in less.
const SLOW: f64 = 250.0;

/// The part of the time an event took without lingering, below which lingering has paid.
const PAYS: f64 = 0.85;

/// The first pause between two tries, and the longest: each try that does not pay doubles it.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One consumer's lingering.
pub(crate) struct Linger {
    breath: Duration,
    state: State,
    looks: u32,
    events: u64,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not lingering; no try before that moment.
    Off { next_try: Instant, pause: Duration },
    /// Lingering, to compare with what an event took before.
    Trying { before: f64, pause: Duration },
    /// Lingering, as long as an event takes no longer than that.
    On { longest: f64, pause: Duration },
}

impl Linger {
    /// A consumer that lingers so long at a time; with a zero `breath` never, and then it costs a comparison a look.
    pub(crate) fn new(breath: Duration) -> Self {
        let now = Instant::now();
        // Models know no time.
        let breath = if cfg!(ringmain_loom) { Duration::ZERO } else { breath };
        Self { breath, state: State::Off { next_try: now, pause: PAUSE }, looks: 0, events: 0, since: now }
    }

    /// To be called after a look that found so many events, of at most `most`.
    #[inline]
    pub(crate) fn after(&mut self, found: u64) {
        if self.breath.is_zero() {
            return;
        }
        self.looks += 1;
        self.events += found;
        if self.looks == WINDOW {
            self.judge();
        }
        if found < TRAILS && !matches!(self.state, State::Off { .. }) {
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
        let took = (now - self.since).as_nanos() as f64 / self.events as f64;
        let one_by_one = self.events < TRAILS * u64::from(WINDOW);
        self.state = match self.state {
            State::Off { next_try, pause } if one_by_one && took < SLOW && now >= next_try => {
                State::Trying { before: took, pause }
            }
            State::Trying { before, .. } if took < before * PAYS => {
                State::On { longest: before, pause: PAUSE }
            }
            State::Trying { pause, .. } => {
                State::Off { next_try: now + pause, pause: LONGEST_PAUSE.min(pause * 2) }
            }
            State::On { longest, pause } if took > longest => State::Off { next_try: now, pause },
            state => state,
        };
        (self.looks, self.events, self.since) = (0, 0, now);
    }
}
