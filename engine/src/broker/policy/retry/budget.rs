//! The budget of retries: a share of the deliveries of the last ten seconds, and always so many a
//! second.
//!
//! Both are counted by whole seconds of the clock, in a ring of ten, so that the memory is fixed and
//! what is older than the window goes as its place is taken. Counting retries against the deliveries,
//! not against a store that refills, leaves nothing to save up in quiet times and spend in a storm.

use crate::clock::Timestamp;

/// Seconds that are looked at, the present one included.
const WINDOW: u64 = 10;
const NANOS: u64 = 1_000_000_000;

/// The share of deliveries that may be retried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) ratio: f64,
    pub(super) min_per_second: u32,
}

/// What was counted in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    deliveries: u64,
    retries: u64,
}

/// How much of the share is left.
#[derive(Debug)]
pub(super) struct Budget {
    share: Share,
    window: [Second; WINDOW as usize],
    /// The second, since the clock's origin, that was counted in last.
    present: u64,
}

impl Budget {
    pub(super) fn new(share: Share) -> Self {
        Self { share, window: Default::default(), present: 0 }
    }

    /// Counts a delivery.
    pub(super) fn delivered(&mut self, now: Timestamp) {
        self.second(now).deliveries += 1;
    }

    /// Takes a retry out of the budget, if there is one left.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        let is_allowed = self.second(now).retries < u64::from(self.share.min_per_second) || self.has_share();
        if is_allowed {
            self.second(now).retries += 1;
        }
        is_allowed
    }

    /// Whether the window's deliveries allow another retry.
    fn has_share(&self) -> bool {
        let deliveries: u64 = self.window.iter().map(|second| second.deliveries).sum();
        let retries: u64 = self.window.iter().map(|second| second.retries).sum();
        // 0.29 of 100 is a little less than 29 in binary.
        const ROUNDING: f64 = 1e-6;
        (retries + 1) as f64 <= self.share.ratio * deliveries as f64 + ROUNDING
    }

    /// The counts of the present second. A clock that went back still counts in the latest.
    fn second(&mut self, now: Timestamp) -> &mut Second {
        let second = (now.as_nanos() / NANOS).max(self.present);
        for passed in (self.present..second).rev().take(WINDOW as usize) {
            self.window[((passed + 1) % WINDOW) as usize] = Second::default();
        }
        self.present = second;
        &mut self.window[(second % WINDOW) as usize]
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn budget(ratio: f64, min_per_second: u32) -> Budget {
        Budget::new(Share { ratio, min_per_second })
    }

    /// How many retries there are until one is refused, at most 1,000.
    fn taken(budget: &mut Budget, now: Timestamp) -> usize {
        (0..1_000).take_while(|_| budget.take(now)).count()
    }

    #[test]
    fn a_ratio_of_the_deliveries_is_retried() {
        for (ratio, deliveries, retries) in
            [(0.2, 100, 20), (0.2, 4, 0), (0.2, 5, 1), (0.29, 100, 29), (2.0, 50, 100), (0.0, 500, 0)]
        {
            let mut budget = budget(ratio, 0);
            (0..deliveries).for_each(|_| budget.delivered(at(0)));
            assert_eq!(taken(&mut budget, at(999)), retries, "{ratio} of {deliveries}");
        }
    }

    #[test]
    fn deliveries_older_than_ten_seconds_allow_nothing() {
        for (later, retries) in
            [(9_999, 20), (10_000, 0), (19_000, 0), (25_000, 0), (u64::MAX / 1_000_000, 0)]
        {
            let mut budget = budget(0.2, 0);
            (0..100).for_each(|_| budget.delivered(at(0)));
            assert_eq!(taken(&mut budget, at(later)), retries, "after {later} ms");
        }
    }

    #[test]
    fn the_minimum_is_allowed_in_each_second_and_is_not_saved_up() {
        let mut budget = budget(0.0, 3);
        for second in [0, 1, 2, 60, 61] {
            assert_eq!(taken(&mut budget, at(second * 1_000)), 3, "in second {second}");
            assert_eq!(taken(&mut budget, at(second * 1_000 + 999)), 0, "in second {second}");
        }
    }

    #[test]
    fn the_minimum_and_the_ratio_do_not_add_up() {
        let mut budget = budget(0.2, 3);
        (0..100).for_each(|_| budget.delivered(at(0)));
        assert_eq!(taken(&mut budget, at(0)), 20);
        assert_eq!(taken(&mut budget, at(1_000)), 3);
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_retry_away() {
        let mut budget = budget(0.0, 2);
        assert_eq!(taken(&mut budget, at(5_000)), 2);
        assert_eq!(taken(&mut budget, at(4_999)), 0);
        assert_eq!(taken(&mut budget, at(0)), 0);
    }

    proptest! {
        /// Against all that ever happened, counted anew each time.
        #[test]
        fn the_window_is_what_counting_it_anew_gives(
            steps in prop::collection::vec((0_u64..4_000, any::<bool>()), 0..200),
            ratio in 0.0..1.0,
            min_per_second in 0_u32..3,
        ) {
            let mut budget = budget(ratio, min_per_second);
            let (mut deliveries, mut retries) = (Vec::new(), Vec::new());
            let mut now = 0;
            for (millis, is_delivery) in steps {
                // Most steps happen at once, so that the seconds fill.
                now += if millis > 3_000 { millis } else { 0 };
                let second = now / 1_000;
                if is_delivery {
                    budget.delivered(at(now));
                    deliveries.push(second);
                    continue;
                }
                let recent = |seconds: &[u64]| seconds.iter().filter(|&&one| one + 10 > second).count() as f64;
                let in_second = retries.iter().filter(|&&one| one == second).count();
                let is_allowed = in_second < min_per_second as usize
                    || recent(&retries) + 1.0 <= ratio * recent(&deliveries) + 1e-6;
                prop_assert_eq!(budget.take(at(now)), is_allowed);
                if is_allowed {
                    retries.push(second);
                }
            }
        }
    }
}
