//! The outcomes that a breaker's rate is taken of: those of the last so many calls, or of the last so
//! much time.

use super::{Breaker, MOST_CALLS, Of};
use crate::clock::Timestamp;

/// Bits of a word.
const BITS: usize = u64::BITS as usize;
/// The parts that a time is kept in: what is older than a whole time leaves a tenth at a time.
const BUCKETS: usize = 10;
/// The unit of a ratio. Fine enough to tell apart any two shares of 1,024 calls, and whole numbers
/// have no rounding that would make 7 of 100 less than 0.07.
const MILLION: u64 = 1_000_000;

/// The window of a breaker.
#[derive(Debug)]
pub(super) enum Window {
    /// It has no rate.
    None,
    Calls(CallWindow),
    Time(TimeWindow),
}

impl Window {
    pub(super) fn new(breaker: &Breaker) -> Self {
        let Some(rate) = &breaker.rate else { return Self::None };
        let threshold = Threshold {
            // Rounded down, but never to nothing: no failures at all are below each rate.
            millionths: ((rate.ratio * MILLION as f64) as u64).max(1),
            at_least: u64::from(breaker.judged_from()),
        };
        match rate.of {
            Of::Calls(calls) => Self::Calls(CallWindow::new(threshold, calls)),
            Of::Time(within) => {
                let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
                Self::Time(TimeWindow::new(threshold, nanos))
            }
        }
    }

    /// Forgets all outcomes.
    pub(super) fn clear(&mut self) {
        match self {
            Self::None => {}
            Self::Calls(window) => *window = CallWindow::new(window.threshold, window.size),
            Self::Time(window) => window.clear(),
        }
    }
}

/// How many failures of how many calls are too many.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    millionths: u64,
    at_least: u64,
}

impl Threshold {
    #[inline]
    fn is_reached(self, failures: u64, calls: u64) -> bool {
        calls >= self.at_least && failures * MILLION >= self.millionths * calls
    }
}

/// The outcomes of the last calls: a ring of bits, one for each call, set where it failed, and their
/// running sum.
#[derive(Debug)]
pub(super) struct CallWindow {
    threshold: Threshold,
    /// The calls that it has room for.
    size: u32,
    /// The place of the next outcome, which is that of the oldest where the ring is full.
    next: u32,
    is_full: bool,
    failures: u32,
    /// With fewer failures than these the threshold is not reached, whatever the number of calls.
    least_failures: u32,
    has_failed: [u64; MOST_CALLS as usize / BITS],
}

impl CallWindow {
    fn new(threshold: Threshold, size: u32) -> Self {
        // A share of the fewest calls that are judged, which are at most 1,024.
        let least_failures = (threshold.millionths * threshold.at_least).div_ceil(MILLION) as u32;
        let has_failed = [0; MOST_CALLS as usize / BITS];
        Self { threshold, size, next: 0, is_full: false, failures: 0, least_failures, has_failed }
    }

    /// Adds an outcome. Says whether too many calls have failed.
    ///
    /// Where none has, as with most calls of a handler that does its work, nothing but the place changes.
    #[inline(always)]
    pub(super) fn add(&mut self, has_failed: bool) -> bool {
        if has_failed || self.failures > 0 {
            return self.replace(has_failed);
        }
        self.go_on();
        false
    }

    /// Puts an outcome in the place of the oldest.
    #[inline(never)]
    fn replace(&mut self, has_failed: bool) -> bool {
        // The remainder changes nothing; it spares the check of the array's bounds.
        let place = (self.next % MOST_CALLS) as usize;
        let (word, bit) = (&mut self.has_failed[place / BITS], 1 << (place % BITS));
        if (*word & bit != 0) != has_failed {
            *word ^= bit;
            self.failures = if has_failed { self.failures + 1 } else { self.failures - 1 };
        }
        self.go_on();
        self.failures >= self.least_failures && self.is_reached()
    }

    #[inline(always)]
    fn go_on(&mut self) {
        self.next += 1;
        if self.next == self.size {
            self.next = 0;
            self.is_full = true;
        }
    }

    fn is_reached(&self) -> bool {
        let calls = if self.is_full { self.size } else { self.next };
        self.threshold.is_reached(u64::from(self.failures), u64::from(calls))
    }
}

/// The outcomes of the last so much time: a ring of counts, one for each tenth of it, and their
/// running sum.
#[derive(Debug)]
pub(super) struct TimeWindow {
    threshold: Threshold,
    /// The nanoseconds of a bucket.
    width: u64,
    /// The number of the newest bucket since the clock's origin.
    newest: u64,
    sum: Bucket,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    calls: u64,
    failures: u64,
}

impl TimeWindow {
    fn new(threshold: Threshold, nanos: u64) -> Self {
        let width = nanos / BUCKETS as u64;
        Self { threshold, width, newest: 0, sum: Bucket::default(), buckets: [Bucket::default(); BUCKETS] }
    }

    fn clear(&mut self) {
        self.sum = Bucket::default();
        self.buckets = [Bucket::default(); BUCKETS];
    }

    /// Adds the outcome of a call that ended at this moment, which is none before the last such one.
    /// Says whether too many calls have failed.
    pub(super) fn add(&mut self, has_failed: bool, at: Timestamp) -> bool {
        self.advance(at.as_nanos() / self.width);
        let failures = u64::from(has_failed);
        for bucket in [&mut self.buckets[place(self.newest)], &mut self.sum] {
            bucket.calls += 1;
            bucket.failures += failures;
        }
        self.threshold.is_reached(self.sum.failures, self.sum.calls)
    }

    /// Makes this bucket the newest, and empties those that come to stand for another time.
    fn advance(&mut self, newest: u64) {
        let passed = newest.saturating_sub(self.newest);
        for step in 1..=passed.min(BUCKETS as u64) {
            let left = std::mem::take(&mut self.buckets[place(self.newest + step)]);
            self.sum.calls -= left.calls;
            self.sum.failures -= left.failures;
        }
        self.newest += passed;
    }
}

/// Where a bucket is kept.
fn place(bucket: u64) -> usize {
    (bucket % BUCKETS as u64) as usize
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use proptest::{collection, prelude::*};

    /// Outcomes, and the time that passes before each.
    fn outcomes() -> impl Strategy<Value = Vec<(u64, bool)>> {
        let passed = prop_oneof![4 => Just(0), 4 => 0..30_u64, 1 => 0..500_u64];
        collection::vec((passed, any::<bool>()), 1..400)
    }

    fn threshold() -> Threshold {
        Threshold { millionths: 500_000, at_least: 1 }
    }

    #[test]
    fn a_ratio_that_no_double_has_exactly_is_reached_all_the_same() {
        for (ratio, failures, calls) in
            [(0.07, 7, 100), (0.29, 29, 100), (2.0 / 3.0, 2, 3), (1.0 / 3.0, 341, 1_023)]
        {
            let Window::Calls(window) = Window::new(&Breaker::rate(ratio, calls as u32)) else { panic!() };
            assert!(window.threshold.is_reached(failures, calls), "{failures} of {calls} are not {ratio}");
            assert!(
                !window.threshold.is_reached(failures - 1, calls),
                "{failures} - 1 of {calls} are {ratio}"
            );
        }
    }

    #[test]
    fn no_failure_is_below_each_rate() {
        let Window::Calls(mut window) = Window::new(&Breaker::rate(f64::MIN_POSITIVE, 10)) else { panic!() };
        assert!((0..100).all(|_| !window.add(false)));
        assert!(window.add(true));
    }

    proptest! {
        #[test]
        fn a_window_of_calls_has_the_failures_of_the_last(size in 1..=200_u32, outcomes in outcomes()) {
            let mut window = CallWindow::new(threshold(), size);
            for (index, (_, has_failed)) in outcomes.iter().enumerate() {
                let is_reached = window.add(*has_failed);
                let judged = &outcomes[(index + 1).saturating_sub(size as usize)..=index];
                let failures = judged.iter().filter(|(_, has_failed)| *has_failed).count();
                prop_assert_eq!(window.failures as usize, failures);
                prop_assert_eq!(is_reached, failures * 2 >= judged.len());
            }
        }

        #[test]
        fn a_window_of_time_has_the_failures_of_so_much_of_it(tenth in 1..40_u64, outcomes in outcomes()) {
            let mut window = TimeWindow::new(threshold(), tenth * 10);
            let mut now = 0;
            let mut ended = Vec::new();
            for (passed, has_failed) in outcomes {
                now += passed;
                ended.push((now, has_failed));
                let is_reached = window.add(has_failed, Timestamp::from_nanos(now));
                ended.retain(|(time, _)| now / tenth - time / tenth < 10);
                let failures = ended.iter().filter(|(_, has_failed)| *has_failed).count();
                prop_assert_eq!(window.sum.calls, ended.len() as u64);
                prop_assert_eq!(window.sum.failures, failures as u64);
                prop_assert_eq!(is_reached, failures * 2 >= ended.len());
            }
        }
    }
}
