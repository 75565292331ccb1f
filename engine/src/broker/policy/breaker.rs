//! Breakers: when a handler that keeps failing is left alone for a while, and how it is tried again.
//!
//! A breaker is closed while all is well, and calls go through. Where failures come in a row, or where
//! too many of the last calls fail, it opens: no call is made until its open time has passed. Then it
//! is half-open: one call at a time goes through as a probe. Enough good probes close it, and a bad one
//! opens it again for twice the time. The states are those of M. Nygard, "Release It!", 2007.
//!
//! This file has what a user says of a breaker; [`circuit`] has the machine that a consumer drives.

pub(crate) mod circuit;
mod window;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The most calls that a rate is taken of: the window is an array of so many bits.
const MOST_CALLS: u32 = 1_024;
/// The number of calls that a rate is judged from on where nothing is said: a few calls are no rate.
const DEFAULT_AT_LEAST: u32 = 20;
/// The shortest time that a rate is taken of, and the shortest open time.
const LEAST_TIME: Duration = Duration::from_millis(1);

/// When a handler that fails is left alone, for how long, and how it is tried again.
///
/// It trips on failures in a row, on a rate of failures, or on whichever of both comes first. A call
/// that has failed is one whose handler has returned an error or has panicked, or was
/// [slow](Self::slow_calls) where that is asked for.
///
/// [`Breaker::default`] trips on 5 failures in a row, or when half of the last 100 calls have failed, judged
/// from 20 on. [`Permanent`](crate::broker::Permanent) errors do not count: they speak of the message,
/// and neither continue a row of failures nor end it. A [`RetryAfter`](crate::broker::RetryAfter) does count. Where
/// nothing else is said, messages wait while it is open, and a breaker stays open for 1 s at first, for at
/// most 60 s after it has opened again and again, and 3 good probes close it.
///
/// ```
/// use ringmain::broker::{Breaker, WhileOpen};
/// use std::time::Duration;
///
/// let breaker = Breaker::consecutive(5)
///     .or_rate(0.5, 100)
///     .at_least(20)
///     .open_for(Duration::from_secs(1)..=Duration::from_secs(60))
///     .probes(3)
///     .while_open(WhileOpen::DeadLetter);
/// # let _ = breaker;
/// ```
///
/// # What it costs
///
/// A closed breaker costs a call some 30 instructions. It reads no clock, takes no lock and allocates
/// nothing; only [`slow_calls`](Self::slow_calls) and [`rate_within`](Self::rate_within) have it read the
/// clock, once or twice a call.
#[derive(Clone, Debug)]
#[must_use = "a breaker does nothing until a subscription has it"]
pub struct Breaker {
    consecutive: Option<u32>,
    rate: Option<Rate>,
    at_least: Option<u32>,
    slow: Option<Duration>,
    first_open: Duration,
    longest_open: Duration,
    jitter: Jitter,
    probes: u32,
    while_open: WhileOpen,
}

/// A share of failures that trips a breaker.
#[derive(Clone, Debug)]
struct Rate {
    ratio: f64,
    of: Of,
}

/// What a rate is taken of.
#[derive(Clone, Debug)]
enum Of {
    Calls(u32),
    Time(Duration),
}

/// How open times are drawn.
#[derive(Clone, Debug)]
enum Jitter {
    Random,
    Seeded(u64),
    Exact,
}

impl Breaker {
    /// Trips on so many failures in a row: 1 or more.
    pub fn consecutive(failures: u32) -> Self {
        Self { consecutive: Some(failures), ..Self::untripped() }
    }

    /// Trips when this share of the last calls has failed: a ratio above 0 and at most 1, of 1 to
    /// 1,024 calls. It is judged from [`at_least`](Self::at_least) calls on, after each call.
    pub fn rate(ratio: f64, of_calls: u32) -> Self {
        Self::untripped().or_rate(ratio, of_calls)
    }

    /// Trips when this share of the calls that ended within a time has failed: a ratio above 0 and at
    /// most 1, and a time of at least 1 ms. It is judged from [`at_least`](Self::at_least) calls on,
    /// after each call. Time is kept in tenths of `within`, so that what is judged is between nine
    /// tenths of it and all of it. Reads the clock once a call.
    pub fn rate_within(ratio: f64, within: Duration) -> Self {
        Self::untripped().or_rate_within(ratio, within)
    }

    /// One that nothing trips.
    fn untripped() -> Self {
        Self {
            consecutive: None,
            rate: None,
            at_least: None,
            slow: None,
            first_open: Duration::from_secs(1),
            longest_open: Duration::from_secs(60),
            jitter: Jitter::Random,
            probes: 3,
            while_open: WhileOpen::default(),
        }
    }

    /// Trips on so many failures in a row as well.
    pub fn or_consecutive(mut self, failures: u32) -> Self {
        self.consecutive = Some(failures);
        self
    }

    /// Trips on a [`rate`](Self::rate) as well. A breaker has one rate: this takes the place of one
    /// that was given before.
    pub fn or_rate(mut self, ratio: f64, of_calls: u32) -> Self {
        self.rate = Some(Rate { ratio, of: Of::Calls(of_calls) });
        self
    }

    /// Trips on a [`rate_within`](Self::rate_within) a time as well. A breaker has one rate: this takes
    /// the place of one that was given before.
    pub fn or_rate_within(mut self, ratio: f64, within: Duration) -> Self {
        self.rate = Some(Rate { ratio, of: Of::Time(within) });
        self
    }

    /// Sets how many calls there must be before the rate is judged: 1 or more, and no more than the
    /// rate is taken of. By default 20, or as many as the rate is taken of where those are fewer.
    pub fn at_least(mut self, calls: u32) -> Self {
        self.at_least = Some(calls);
        self
    }

    /// Takes a call that lasts longer than this for a failure, also where it ends well. Reads the
    /// clock before and after each call.
    pub fn slow_calls(mut self, longer_than: Duration) -> Self {
        self.slow = Some(longer_than);
        self
    }

    /// Sets for how long it stays open: at first for the range's start, which is at least 1 ms, and
    /// twice as long each time that a probe opens it again, up to the range's end. Once probes have
    /// closed it, it starts with the first time again.
    ///
    /// Each time is drawn evenly from 10 % below to 10 % above, and never above the range's end, so
    /// that breakers which have opened together do not all try again together. See
    /// [`exact`](Self::exact) and [`seed`](Self::seed).
    ///
    /// A probe may last for as long as the breaker was open. From then on its outcome no longer counts
    /// once another probe has taken its place, which may last twice as long, up to the range's end.
    pub fn open_for(mut self, times: RangeInclusive<Duration>) -> Self {
        (self.first_open, self.longest_open) = times.into_inner();
        self
    }

    /// Has open times be exactly what [`open_for`](Self::open_for) says, with no chance in them.
    pub fn exact(mut self) -> Self {
        self.jitter = Jitter::Exact;
        self
    }

    /// Has open times be drawn from this seed: the same seed, the same times.
    pub fn seed(mut self, seed: u64) -> Self {
        self.jitter = Jitter::Seeded(seed);
        self
    }

    /// Sets how many probes must end well, with none that fails, to close it: 1 or more.
    pub fn probes(mut self, good: u32) -> Self {
        self.probes = good;
        self
    }

    /// Sets what becomes of messages while it is open.
    pub fn while_open(mut self, policy: WhileOpen) -> Self {
        self.while_open = policy;
        self
    }

    /// The calls that there must be before the rate is judged.
    fn judged_from(&self) -> u32 {
        let most = self.rate.as_ref().map_or(u32::MAX, Rate::most_calls);
        self.at_least.unwrap_or(DEFAULT_AT_LEAST.min(most))
    }

    /// What becomes of messages while it is open.
    pub(crate) fn policy(&self) -> WhileOpen {
        self.while_open
    }

    /// Returns an error that names a number which it cannot have, if there is one.
    pub(crate) fn check(&self) -> Result<(), BreakerError> {
        if let Some(given @ 0) = self.consecutive {
            return Err(BreakerError::Consecutive { given });
        }
        if let Some(rate) = &self.rate {
            rate.check()?;
        }
        match (self.at_least, &self.rate) {
            (Some(given), None) => return Err(BreakerError::NoRate { given }),
            (Some(given), Some(rate)) if given == 0 || given > rate.most_calls() => {
                return Err(BreakerError::AtLeast { given, most: rate.most_calls() });
            }
            _ => {}
        }
        if self.slow == Some(Duration::ZERO) {
            return Err(BreakerError::SlowCalls);
        }
        let (first, longest) = (self.first_open, self.longest_open);
        if first < LEAST_TIME || first > longest {
            return Err(BreakerError::OpenFor { first, longest, least: LEAST_TIME });
        }
        if self.probes == 0 {
            return Err(BreakerError::Probes { given: self.probes });
        }
        Ok(())
    }
}

impl Rate {
    /// The most calls that can be in its window.
    fn most_calls(&self) -> u32 {
        match self.of {
            Of::Calls(calls) => calls,
            Of::Time(_) => u32::MAX,
        }
    }

    fn check(&self) -> Result<(), BreakerError> {
        // Not a number is neither.
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(BreakerError::Ratio { given: self.ratio.to_string() });
        }
        match self.of {
            Of::Calls(given) if !(1..=MOST_CALLS).contains(&given) => {
                Err(BreakerError::OfCalls { given, most: MOST_CALLS })
            }
            Of::Time(given) if given < LEAST_TIME => Err(BreakerError::Within { given, least: LEAST_TIME }),
            Of::Calls(_) | Of::Time(_) => Ok(()),
        }
    }
}

impl Default for Breaker {
    /// Trips on 5 failures in a row, or when half of the last 100 calls have failed, judged from 20 on.
    fn default() -> Self {
        Self::consecutive(5).or_rate(0.5, 100).at_least(20)
    }
}

/// What becomes of messages while a breaker is open. None of it uses up an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhileOpen {
    /// They wait in the subscription's backlog, in their order.
    #[default]
    Pause,
    /// They become dead letters.
    DeadLetter,
    /// They are refused: counted as failures of kind [`Refused`](crate::broker::FailureKind::Refused), without
    /// a call and without a dead letter.
    Refuse,
}

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// All go through.
    Closed,
    /// None goes through.
    Open,
    /// One at a time goes through, as a probe.
    HalfOpen,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// Why a breaker was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BreakerError {
    /// It trips on no failure at all.
    #[error("a breaker trips on 1 failure in a row or more, not on {given}")]
    Consecutive {
        /// The number that was given.
        given: u32,
    },
    /// The ratio is no share.
    #[error("the ratio of a breaker's rate is above 0 and at most 1; {given} is not")]
    Ratio {
        /// The ratio that was given.
        given: String,
    },
    /// The rate is taken of no calls, or of too many.
    #[error("a breaker's rate is taken of 1 to {most} calls, not of {given}")]
    OfCalls {
        /// The number that was given.
        given: u32,
        /// The most there may be.
        most: u32,
    },
    /// The rate is taken of too short a time.
    #[error("a breaker's rate is taken of a time of at least {least:?}, not of {given:?}")]
    Within {
        /// The time that was given.
        given: Duration,
        /// The shortest there may be.
        least: Duration,
    },
    /// The rate is judged from no calls, or from more than it is taken of.
    #[error("a breaker's rate is judged from 1 to {most} calls on, not from {given}")]
    AtLeast {
        /// The number that was given.
        given: u32,
        /// The most there may be.
        most: u32,
    },
    /// A number of calls was given from which to judge a rate, and no rate.
    #[error("at least {given} calls are for a rate, and this breaker has none; give it one by or_rate")]
    NoRate {
        /// The number that was given.
        given: u32,
    },
    /// Every call would be slow.
    #[error("slow calls last longer than some time above 0; at 0 each call would be slow")]
    SlowCalls,
    /// The open time is too short, or longer at first than it may get.
    #[error(
        "a breaker stays open for at least {least:?} at first, and at last for no less; \
         {first:?} to {longest:?} is not so"
    )]
    OpenFor {
        /// The first open time that was given.
        first: Duration,
        /// The longest that was given.
        longest: Duration,
        /// The shortest there may be.
        least: Duration,
    },
    /// It closes with no probe at all.
    #[error("1 good probe or more close a breaker, not {given}")]
    Probes {
        /// The number that was given.
        given: u32,
    },
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_number_that_a_breaker_cannot_have_is_refused() {
        let day = Duration::from_secs(86_400);
        let short = Duration::from_micros(999);
        let refused = [
            (Breaker::consecutive(0), "1 failure in a row or more, not on 0"),
            (Breaker::rate(0.0, 10), "above 0 and at most 1; 0 is not"),
            (Breaker::rate(1.01, 10), "above 0 and at most 1; 1.01 is not"),
            (Breaker::rate(f64::NAN, 10), "above 0 and at most 1; NaN is not"),
            (Breaker::rate(0.5, 0), "of 1 to 1024 calls, not of 0"),
            (Breaker::rate(0.5, 1_025), "of 1 to 1024 calls, not of 1025"),
            (Breaker::rate_within(0.5, short), "at least 1ms, not of 999µs"),
            (Breaker::rate(0.5, 10).at_least(0), "from 1 to 10 calls on, not from 0"),
            (Breaker::rate(0.5, 10).at_least(11), "from 1 to 10 calls on, not from 11"),
            (Breaker::consecutive(5).at_least(10), "at least 10 calls are for a rate"),
            (Breaker::default().slow_calls(Duration::ZERO), "at 0 each call would be slow"),
            (Breaker::default().open_for(short..=day), "999µs to 86400s is not so"),
            (Breaker::default().open_for(day..=LEAST_TIME), "86400s to 1ms is not so"),
            (Breaker::default().probes(0), "1 good probe or more close a breaker, not 0"),
        ];
        for (breaker, reason) in refused {
            let error = breaker.check().expect_err(reason).to_string();
            assert!(error.contains(reason), "{error:?} does not say {reason:?}");
        }
    }

    #[test]
    fn each_number_that_a_breaker_can_have_is_taken() {
        let taken = [
            Breaker::default(),
            Breaker::consecutive(1),
            Breaker::consecutive(u32::MAX),
            Breaker::rate(1.0, 1),
            Breaker::rate(f64::MIN_POSITIVE, 1_024).at_least(1_024),
            Breaker::rate_within(0.5, LEAST_TIME).at_least(u32::MAX),
            Breaker::rate_within(0.5, Duration::MAX).or_consecutive(3),
            Breaker::default().open_for(LEAST_TIME..=LEAST_TIME),
            Breaker::default().open_for(Duration::MAX..=Duration::MAX),
        ];
        for breaker in taken {
            assert_eq!(breaker.check(), Ok(()), "{breaker:?}");
        }
    }

    #[test]
    fn a_rate_of_few_calls_is_judged_when_there_are_as_many() {
        assert_eq!(Breaker::rate(0.5, 100).judged_from(), 20);
        assert_eq!(Breaker::rate(0.5, 4).judged_from(), 4);
        assert_eq!(Breaker::rate_within(0.5, LEAST_TIME).judged_from(), 20);
        assert_eq!(Breaker::rate(0.5, 100).at_least(7).judged_from(), 7);
    }

    #[test]
    fn a_state_pads_as_text_does() {
        assert_eq!(format!("{:>9}", BreakerState::Open), "     open");
        assert_eq!(BreakerState::HalfOpen.to_string(), "half-open");
    }
}
