//! Events, and the handlers that read them: each word is read in every handler, so that no
//! contender gets away with handing over a pointer to a line that nobody looks at.
//!
//! An event's first word is its sender and the sender's own count; each further word is one more
//! than the word before. That makes a wrong word visible, and it makes the sum over all words of
//! all events a number known beforehand: a timed section adds up what it reads anyway, and compares
//! once at its end.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmain::clock::Clock;

use crate::error::Error;
use crate::machine::cores;
use crate::stats::histogram;

/// The bits of an event's first word that hold the sender's count.
const COUNT_BITS: u32 = 48;

/// The first word of an event.
#[inline(always)]
pub(super) fn value(sender: usize, count: u64) -> u64 {
    (sender as u64) << COUNT_BITS | count
}

/// The sender, and its own count, of a first word.
#[inline(always)]
pub(super) fn count_of(value: u64) -> (u64, u64) {
    (value >> COUNT_BITS, value & ((1 << COUNT_BITS) - 1))
}

/// The event of that first word.
#[inline(always)]
pub(super) fn event<const W: usize>(value: u64) -> [u64; W] {
    std::array::from_fn(|place| value.wrapping_add(place as u64))
}

/// The sum over all words of the first `count` events of a sender.
pub(super) fn sum_of<const W: usize>(sender: usize, count: u64) -> u64 {
    let words = W as u64;
    let counts = (u128::from(count) * u128::from(count.saturating_sub(1)) / 2) as u64;
    let values = value(sender, 0).wrapping_mul(count).wrapping_add(counts);
    values.wrapping_mul(words).wrapping_add(count.wrapping_mul(words * words.saturating_sub(1) / 2))
}

#[inline(always)]
fn fold<const W: usize>(event: &[u64; W]) -> u64 {
    event.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// What a receiver does with an event.
pub(super) trait Handle<const W: usize> {
    /// Reads an event.
    fn handle(&mut self, event: &[u64; W]);

    /// The part that counts begins now.
    fn begin(&mut self) {}

    /// What was found, in the end.
    fn found(&mut self) -> Found;
}

/// What a handler has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The sum over all words, where the handler takes it.
    pub(super) sum: Option<u64>,
    /// Events that were torn, doubled or out of order.
    pub(super) wrong: u64,
    /// How long after they were due events were handled.
    pub(super) latency: Option<Histogram<u64>>,
}

/// The handler of timed sections: reads, then works for a while.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    sum: u64,
    /// What the work has come to: each event's begins where the last one's ended, so that no two
    /// overlap.
    state: u64,
    work: Work,
}

impl Reader {
    pub(super) fn new(work: Work) -> Self {
        Self { sum: 0, state: 0, work }
    }
}

impl<const W: usize> Handle<W> for Reader {
    #[inline(always)]
    fn handle(&mut self, event: &[u64; W]) {
        let read = black_box(fold(event));
        self.sum = self.sum.wrapping_add(read);
        self.state = self.work.run(self.state ^ read);
    }

    fn found(&mut self) -> Found {
        // Lest the work be nobody's.
        black_box(self.state);
        Found { sum: Some(self.sum), ..Found::default() }
    }
}

/// The handler of the untimed check: every event once, in its sender's order, whole.
#[derive(Clone, Debug)]
pub(super) struct Checker {
    next: Vec<u64>,
    wrong: u64,
}

impl Checker {
    pub(super) fn new(senders: usize) -> Self {
        Self { next: vec![0; senders], wrong: 0 }
    }
}

impl<const W: usize> Handle<W> for Checker {
    fn handle(&mut self, found: &[u64; W]) {
        let first = found[0];
        let (sender, count) = count_of(first);
        let is_whole = *found == event::<W>(first);
        match self.next.get_mut(sender as usize) {
            Some(next) if is_whole && *next == count => *next += 1,
            _ => self.wrong += 1,
        }
    }

    fn found(&mut self) -> Found {
        Found { wrong: self.wrong, ..Found::default() }
    }
}

/// The handler of open-loop sections: an event's last word is the moment at which it was due.
pub(super) struct Stopwatch {
    clock: Clock,
    latency: Histogram<u64>,
}

impl Stopwatch {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), latency: histogram() }
    }
}

impl<const W: usize> Handle<W> for Stopwatch {
    #[inline(always)]
    fn handle(&mut self, event: &[u64; W]) {
        black_box(fold(event));
        let now = self.clock.now().as_nanos();
        self.latency.saturating_record(now.saturating_sub(event[W - 1]));
    }

    fn begin(&mut self) {
        self.latency.reset();
    }

    fn found(&mut self) -> Found {
        let latency = Some(std::mem::replace(&mut self.latency, histogram()));
        Found { latency, ..Found::default() }
    }
}

/// A handler's work: so many turns of a loop that depends on itself, and never looks at a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    turns: u64,
}

impl Work {
    /// Work that takes about so long on this machine. The first call calibrates the loop.
    pub(super) fn lasting(time: Duration) -> Self {
        static TURN: OnceLock<f64> = OnceLock::new();
        if time.is_zero() {
            return Self::default();
        }
        let turn = *TURN.get_or_init(|| {
            const TURNS: u64 = 20_000;
            let once = |_| {
                let started = Instant::now();
                black_box(Self { turns: TURNS }.run(TURNS));
                started.elapsed().as_nanos() as f64 / TURNS as f64
            };
            // The fastest of many was not disturbed.
            (0..40).map(once).fold(f64::INFINITY, f64::min).max(0.01)
        });
        Self { turns: (time.as_nanos() as f64 / turn).round() as u64 }
    }

    #[inline(always)]
    fn run(self, mut word: u64) -> u64 {
        for _ in 0..self.turns {
            word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (word >> 7);
        }
        word
    }
}

/// The handler by itself on this core, over events that stay in its first cache: nanoseconds an
/// event. What a ring adds to a handler is what is beyond this.
pub(super) fn handler_alone<const W: usize>(
    work: Work,
    core: Option<usize>,
    lasting: Duration,
) -> Result<f64, Error> {
    std::thread::scope(|scope| {
        let alone = scope.spawn(|| cores::pin(core).map(|()| handle_for::<W>(work, lasting)));
        alone.join().expect("the handler does not panic")
    })
}

fn handle_for<const W: usize>(work: Work, lasting: Duration) -> f64 {
    let events: [[u64; W]; 16] = std::array::from_fn(|count| event(value(0, count as u64)));
    let mut reader = Reader::new(work);
    let (started, mut handled) = (Instant::now(), 0_u64);
    while started.elapsed() < lasting {
        for _ in 0..8 {
            for event in black_box(&events) {
                reader.handle(event);
            }
        }
        handled += 8 * events.len() as u64;
    }
    let elapsed = started.elapsed();
    black_box((reader.sum, reader.state));
    elapsed.as_nanos() as f64 / handled.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_doubled_missing_or_torn_is_found() {
        let mut checker = Checker::new(2);
        let mut torn = event::<7>(value(1, 0));
        torn[6] += 1;
        let events = [value(0, 0), value(0, 1), value(0, 1), value(0, 3), value(2, 0)].map(event::<7>);
        for event in events.iter().chain([&torn]) {
            checker.handle(event);
        }
        assert_eq!(checker.next, [2, 0]);
        assert_eq!(Handle::<7>::found(&mut checker).wrong, 4);
    }

    #[test]
    fn the_sum_of_all_words_is_known_beforehand() {
        let (mut reader, mut expected) = (Reader::new(Work::default()), 0_u64);
        for (sender, count) in [(0, 5), (3, 1_000)] {
            (0..count).for_each(|number| reader.handle(&event::<8>(value(sender, number))));
            expected = expected.wrapping_add(sum_of::<8>(sender, count));
        }
        assert_eq!(Handle::<8>::found(&mut reader).sum, Some(expected));
        assert_eq!(sum_of::<8>(3, 0), 0);
    }

    #[test]
    fn longer_work_takes_longer() {
        let alone = |work, milliseconds| {
            handler_alone::<1>(work, None, Duration::from_millis(milliseconds)).expect("no core was named")
        };
        let short = alone(Work::default(), 2);
        let long = alone(Work::lasting(Duration::from_micros(2)), 5);
        assert!(long > 500.0 && long > short, "{short} and {long}");
    }
}
