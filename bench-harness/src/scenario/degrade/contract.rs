//! The contract of the sick subscription, and which of its messages fail.

use std::time::Duration;

use ringmain::broker::{Backlog, Breaker, Retry};
use serde::Serialize;

/// The numbers of the contract. What the engine is told, and what is expected of it, both follow from
/// these.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Contract {
    /// Attempts at a message, the first included.
    pub(super) attempts: u16,
    #[serde(serialize_with = "crate::json::seconds")]
    pub(super) delay: Duration,
    /// The breaker opens when this share of the last `window` calls has failed, judged from `at_least` on.
    pub(super) rate: f64,
    pub(super) window: u32,
    pub(super) at_least: u32,
    /// For so long it stays open at first, and at most.
    #[serde(serialize_with = "crate::json::seconds")]
    pub(super) open: Duration,
    #[serde(serialize_with = "crate::json::seconds")]
    pub(super) longest_open: Duration,
    /// Good probes in a row that close it.
    pub(super) probes: u32,
    /// Messages that may wait.
    pub(super) backlog: usize,
}

/// Short times: a section lasts for tenths of a second, and the breaker is to open and probe often in it.
pub(super) const CONTRACT: Contract = Contract {
    attempts: 3,
    delay: Duration::from_millis(2),
    rate: 0.5,
    window: 100,
    at_least: 20,
    open: Duration::from_millis(10),
    longest_open: Duration::from_millis(40),
    probes: 3,
    backlog: 1_024,
};

impl Contract {
    /// Without chance: each time is exactly what is said.
    pub(super) fn retry(&self) -> Retry {
        Retry::constant(self.delay).attempts(self.attempts)
    }

    pub(super) fn breaker(&self) -> Breaker {
        let breaker = Breaker::rate(self.rate, self.window).at_least(self.at_least);
        breaker.open_for(self.open..=self.longest_open).exact().probes(self.probes)
    }

    pub(super) fn backlog(&self) -> Backlog {
        Backlog::new(self.backlog)
    }
}

/// A share of messages that fail: so many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    step: u64,
    steps: u64,
}

impl Share {
    pub(super) const NONE: Self = Self { step: 0, steps: 1 };

    /// All shares from none to all.
    pub(super) fn all(steps: usize) -> impl Iterator<Item = Self> {
        let steps = steps.max(1) as u64;
        (0..=steps).map(move |step| Self { step, steps })
    }

    pub(super) fn ratio(self) -> f64 {
        self.step as f64 / self.steps as f64
    }

    pub(super) fn is_none(self) -> bool {
        self.step == 0
    }

    pub(super) fn is_all(self) -> bool {
        self.step == self.steps
    }

    /// Whether a message fails, at each attempt. Those that do are spread evenly over all (Bresenham's
    /// line).
    pub(super) fn fails(self, number: u64) -> bool {
        let before = |number: u64| u128::from(number) * u128::from(self.step) / u128::from(self.steps);
        before(number + 1) > before(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_spread_evenly_and_are_as_many_as_the_share_says() {
        for share in Share::all(10) {
            for window in [0, 7, 990] {
                let failing = (window..window + 10).filter(|&number| share.fails(number)).count() as u64;
                assert_eq!(failing, share.step, "{share:?} from {window}");
            }
        }
        let [none, half, all]: [Share; 3] =
            Share::all(2).collect::<Vec<_>>().try_into().expect("three shares");
        assert!(none.is_none() && all.is_all() && !half.is_none() && !half.is_all());
        assert!((half.ratio() - 0.5).abs() < f64::EPSILON);
    }
}
