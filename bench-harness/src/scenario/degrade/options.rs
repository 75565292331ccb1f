//! The options, and what follows from them.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// Messages a second: a tenth of what a slow machine delivers, and room for a stall to be caught up.
const RATE: f64 = 20_000.0;
/// Shares of failures are steps + 1: from none to all.
const STEPS: (usize, usize) = (10, 4);
const ROUNDS: (usize, usize) = (5, 3);
/// At each share, in all rounds together.
const MESSAGES: (u64, u64) = (20_000, 6_000);
/// What a section takes beside its messages: brokers, threads, and the recovery of the sick one.
const AROUND: Duration = Duration::from_millis(60);

/// The options of `degrade`. What is `None` is left to `quick`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DegradeOptions {
    pub(crate) steps: Option<usize>,
    pub(crate) messages: Option<u64>,
    pub(crate) rounds: Option<usize>,
    /// Messages a second.
    pub(crate) rate: Option<f64>,
    pub(crate) quick: bool,
    pub(crate) cores: Option<Vec<usize>>,
    pub(crate) planted: Option<Fault>,
}

/// A fault of the measurement itself, planted to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// The healthy one stands still now and then while a sick one is there.
    Hurt,
    /// The healthy one overlooks a message.
    Lost,
    /// The sick one goes on failing when its failures should have ended.
    Unhealed,
    /// The sick one forgets one of its failures.
    Unseen,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Extent {
    pub(super) steps: usize,
    /// Messages at each share: in all rounds together, and for each place of the sick one.
    pub(super) messages: u64,
    pub(super) rounds: usize,
    pub(super) rate: f64,
    pub(super) quick: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cores: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) planted: Option<Fault>,
}

/// Where the sick one's handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// By a dispatcher of its own.
    Own,
    /// By the healthy one's.
    Same,
}

impl Extent {
    pub(super) fn of(options: &DegradeOptions) -> Self {
        let DegradeOptions { quick, planted, .. } = *options;
        fn pick<T>((full, quick): (T, T), is_quick: bool) -> T {
            if is_quick { quick } else { full }
        }
        Self {
            steps: options.steps.unwrap_or(pick(STEPS, quick)),
            messages: options.messages.unwrap_or(pick(MESSAGES, quick)),
            rounds: options.rounds.unwrap_or(pick(ROUNDS, quick)),
            rate: options.rate.unwrap_or(RATE),
            quick,
            cores: options.cores.clone(),
            planted,
        }
    }

    /// Messages of one section: at least one.
    pub(super) fn section(&self) -> u64 {
        self.messages.div_ceil(self.rounds as u64).max(1)
    }

    /// How long messages come due in a section: so long that as many come due as are asked for, however
    /// the quotient is rounded.
    pub(super) fn lasting(&self) -> Duration {
        Duration::from_secs_f64((self.section() as f64 - 0.5) / self.rate)
    }

    /// How long all of it takes, about.
    pub(super) fn expected(&self) -> Duration {
        let sections = self.rounds * (3 * (self.steps + 1) + 2);
        (self.lasting() + AROUND).saturating_mul(sections as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(quick: bool) -> Extent {
        let options = DegradeOptions {
            steps: None,
            messages: None,
            rounds: None,
            rate: None,
            quick,
            cores: None,
            planted: None,
        };
        Extent::of(&options)
    }

    #[test]
    fn the_default_takes_less_than_a_minute_and_the_quick_form_less_than_15_seconds() {
        assert!(extent(false).expected() < Duration::from_secs(50), "{:?}", extent(false).expected());
        assert!(extent(true).expected() < Duration::from_secs(12), "{:?}", extent(true).expected());
    }

    #[test]
    fn messages_are_spread_over_the_rounds_and_none_is_left_out() {
        let odd = Extent { messages: 10, rounds: 3, ..extent(true) };
        assert_eq!(odd.section(), 4);
        assert_eq!(Extent { messages: 1, ..odd }.section(), 1);
    }
}
