//! What the sick one's breaker should do: computed from its options and the outcomes of the calls that
//! its handler saw, and not asked of the engine.
//!
//! ```text
//!          rate reached             a call comes, after the open time
//!  closed ─────────────► open ──────────────────────────────────────────► half-open
//!     ▲                    ▲          the call fails: twice as long          │
//!     │                    └─────────────────────────────────────────────────┤
//!     └──────────────────────────── so many good calls in a row ─────────────┘
//! ```
//!
//! Each arrow is a change of state. Since one consumer makes all calls, one after the other, their
//! outcomes alone say how often the state has changed and what it is: the engine's numbers must be the
//! same to the last one. A call that comes while the breaker should be open is a fault by itself.

use std::collections::VecDeque;

use super::contract::{Contract, Share};

/// The clocks of two cores may be so far apart, as a part of the open time.
const TOLERANCE: f64 = 0.01;
/// Windows of calls that must fit into a section for its failures' share to tell.
const WINDOWS: u64 = 10;
/// What the share of failed calls must be above the breaker's rate to tell.
const MARGIN: f64 = 0.1;

/// A state as the outcomes have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Since that moment, in nanoseconds, and for so long.
    Open {
        since: u64,
        lasting: u64,
    },
    HalfOpen {
        good: u32,
        lasting: u64,
    },
}

/// The breaker that should be.
#[derive(Clone, Debug)]
pub(super) struct Model {
    contract: Contract,
    state: State,
    /// The outcomes of the last calls, and how many of them failed.
    window: VecDeque<bool>,
    failed: u32,
    pub(super) changes: u64,
    /// How often it has opened from closed.
    pub(super) trips: u64,
    /// Calls that came while it should have been open.
    pub(super) too_early: u64,
}

impl Model {
    pub(super) fn new(contract: Contract) -> Self {
        let window = VecDeque::with_capacity(contract.window as usize + 1);
        let state = State::Closed;
        Self { contract, state, window, failed: 0, changes: 0, trips: 0, too_early: 0 }
    }

    /// Takes note of a call that began at that moment.
    pub(super) fn call(&mut self, began: u64, has_failed: bool) {
        if let State::Open { since, lasting } = self.state {
            let least = (lasting as f64 * (1.0 - TOLERANCE)) as u64;
            self.too_early += u64::from(began < since.saturating_add(least));
            self.enter(State::HalfOpen { good: 0, lasting });
        }
        match self.state {
            State::Closed => {
                if self.is_reached_with(has_failed) {
                    self.trips += 1;
                    self.open(began, self.contract.open.as_nanos() as u64);
                }
            }
            State::HalfOpen { lasting, .. } if has_failed => {
                let longest = self.contract.longest_open.as_nanos() as u64;
                self.open(began, lasting.saturating_mul(2).min(longest));
            }
            State::HalfOpen { good, .. } if good + 1 >= self.contract.probes => {
                self.window.clear();
                self.failed = 0;
                self.enter(State::Closed);
            }
            State::HalfOpen { good, lasting } => self.state = State::HalfOpen { good: good + 1, lasting },
            State::Open { .. } => {}
        }
    }

    /// The state's name, as the engine has it.
    pub(super) fn state(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half-open",
        }
    }

    fn open(&mut self, since: u64, lasting: u64) {
        self.enter(State::Open { since, lasting });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.changes += 1;
    }

    /// Adds an outcome to the window. Whether too many have failed.
    fn is_reached_with(&mut self, has_failed: bool) -> bool {
        self.window.push_back(has_failed);
        self.failed += u32::from(has_failed);
        if self.window.len() > self.contract.window as usize {
            self.failed -= u32::from(self.window.pop_front() == Some(true));
        }
        let calls = self.window.len() as f64;
        calls >= f64::from(self.contract.at_least) && f64::from(self.failed) >= self.contract.rate * calls
    }
}

/// What follows from the options alone, before any call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Forecast {
    /// Nothing fails: it stays closed.
    Never,
    /// So many calls fail that it must open.
    Opens,
    /// It depends on which calls come together: the outcomes decide.
    ByCalls,
}

impl Forecast {
    /// For so many messages of which a share fails at each attempt.
    ///
    /// With no trip, a message that fails is called for as often as it has attempts, and any other once.
    /// If of all these calls a larger share fails than trips the breaker, so it does in one window of
    /// calls at least.
    pub(super) fn of(contract: &Contract, share: Share, messages: u64) -> Self {
        if share.is_none() {
            return Self::Never;
        }
        let failing = share.ratio() * f64::from(contract.attempts);
        let rate = failing / (1.0 - share.ratio() + failing);
        let tells = messages >= WINDOWS * u64::from(contract.window) && rate >= contract.rate + MARGIN;
        let all_fail = share.is_all() && messages >= u64::from(contract.at_least);
        if tells || all_fail { Self::Opens } else { Self::ByCalls }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::CONTRACT;
    use super::*;

    const MS: u64 = 1_000_000;

    fn after(calls: &[(u64, bool)]) -> Model {
        let mut model = Model::new(CONTRACT);
        calls.iter().for_each(|&(at, has_failed)| model.call(at * MS, has_failed));
        model
    }

    #[test]
    fn it_opens_when_half_of_enough_calls_have_failed() {
        let alternating: Vec<_> = (0..20).map(|number| (0, number % 2 == 1)).collect();
        assert_eq!((after(&alternating[..19]).state(), after(&alternating).state()), ("closed", "open"));
        let good: Vec<_> = (0..1_000).map(|number| (0, number % 100 >= 51)).collect();
        let model = after(&good);
        assert_eq!((model.state(), model.changes, model.trips), ("closed", 0, 0));
        assert_eq!(after(&[(0, true); 19]).state(), "closed");
    }

    #[test]
    fn a_bad_probe_opens_it_for_twice_as_long_up_to_the_longest() {
        let mut model = after(&[(0, true); 20]);
        let mut now = 0;
        for lasting in [10, 20, 40, 40] {
            let mut early = model.clone();
            early.call((now + lasting - 1) * MS, true);
            assert_eq!(early.too_early, 1, "after {lasting} ms");
            now += lasting;
            model.call(now * MS, true);
            assert_eq!((model.state(), model.too_early), ("open", 0), "after {lasting} ms");
        }
        assert_eq!((model.changes, model.trips), (1 + 2 * 4, 1));
    }

    #[test]
    fn so_many_good_probes_in_a_row_close_it_and_it_begins_anew() {
        let mut calls = vec![(0, true); 20];
        calls.extend([(10, false), (10, false), (10, true), (30, false), (30, false)]);
        assert_eq!(after(&calls).state(), "half-open");
        calls.push((30, false));
        let model = after(&calls);
        assert_eq!((model.state(), model.too_early, model.changes), ("closed", 0, 5));
        // The failures before do not count any more.
        calls.extend([(30, true); 19]);
        assert_eq!(after(&calls).state(), "closed");
        calls.push((30, true));
        let model = after(&calls);
        assert_eq!((model.state(), model.trips), ("open", 2));
    }

    #[test]
    fn what_follows_from_the_options_alone() {
        let of = |messages| -> Vec<Forecast> {
            Share::all(10).map(|share| Forecast::of(&CONTRACT, share, messages)).collect()
        };
        use Forecast::{ByCalls, Never, Opens};
        let many = [Never, ByCalls, ByCalls, ByCalls, Opens, Opens, Opens, Opens, Opens, Opens, Opens];
        assert_eq!(of(4_000), many);
        assert_eq!((of(100)[0], of(100)[9], of(100)[10]), (Never, ByCalls, Opens));
        assert_eq!(of(19)[10], ByCalls);
    }
}
