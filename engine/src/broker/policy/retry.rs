//! Retries: whether a failed delivery is tried again, and when.
//!
//! [`Retry`] is what a subscription is told. `state` has what its consumer decides by; `delay` has the
//! schedules and their jitter, `budget` the bound of retries by deliveries.
//!
//! Nothing here counts attempts or keeps messages. The attempt, and when the first one failed, come
//! with the failure: they belong to the message, and so no other message's failures use them up.

mod budget;
mod delay;
mod state;

pub use delay::Jitter;
pub(crate) use state::{Decision, FailedAttempt, GiveUp, RetryState};

use crate::broker::account::term::FailureKind;
use crate::broker::subscribe::handled::HandlerError;
use crate::sync::panics::guard;
use budget::Share;
use delay::{Delays, Growth};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Attempts at a message, the first included, unless told otherwise.
const ATTEMPTS: u16 = 5;
/// Retries of one subscription that may wait, unless told otherwise.
const MOST_WAITING: usize = 1_024;

/// How a failed delivery is tried again: after which delays, how often, and after which errors.
///
/// A delivery is tried again where its handler returned an error, panicked or took too long. The next attempt is at the
/// same message, with the same id, and its attempt is one higher; what a failed attempt has published stays
/// published. While a message waits for its next attempt the consumer goes on to others: by default later
/// messages overtake it, and with [`in_order`](Self::in_order) those of its subscription wait for it.
///
/// The three constructors name a schedule, which comes with five attempts, no jitter and no cap.
/// [`Retry::default`] has what most want: five attempts, 50 ms that double, at most 30 s, full jitter.
/// The order of the options does not matter, and of one that is given twice the last one holds.
///
/// ```
/// use ringmain::broker::{Jitter, Retry};
/// use std::time::Duration;
///
/// let retry = Retry::exponential(Duration::from_millis(100))
///     .cap(Duration::from_secs(10))
///     .jitter(Jitter::Full)
///     .attempts(8)
///     .max_elapsed(Duration::from_secs(60))
///     .retry_if(|error| !error.is::<std::num::ParseIntError>());
/// # let _ = retry;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a policy does nothing until a subscription gets it"]
pub struct Retry {
    delays: Delays,
    attempts: u16,
    max_elapsed: Duration,
    /// Which errors are retried; all where there is none.
    only: Option<ErrorClass>,
    classes: Vec<(ErrorClass, Retry)>,
    whole: Whole,
}

/// What concerns a subscription as a whole, and so no class of its errors. Options that were not given
/// are absent, as a class's policy may give none.
#[derive(Clone, Debug, Default)]
struct Whole {
    in_order: bool,
    most_waiting: Option<usize>,
    budget: Option<Share>,
    seed: Option<u64>,
    /// Kinds of failures that are not retried.
    except: Vec<FailureKind>,
}

impl Retry {
    /// Waits this long before each retry.
    pub fn constant(delay: Duration) -> Self {
        Self::new(Growth::None, delay)
    }

    /// Waits one step before the first retry, and one step more before each further one.
    pub fn linear(step: Duration) -> Self {
        Self::new(Growth::Linear, step)
    }

    /// Waits this long before the first retry, and twice as long as before ahead of each further one.
    /// [`factor`](Self::factor) sets another growth.
    pub fn exponential(first: Duration) -> Self {
        Self::new(Growth::Exponential, first)
    }

    fn new(growth: Growth, first: Duration) -> Self {
        Self {
            delays: Delays { growth, first, factor: None, cap: Duration::MAX, jitter: Jitter::None },
            attempts: ATTEMPTS,
            max_elapsed: Duration::MAX,
            only: None,
            classes: Vec::new(),
            whole: Whole::default(),
        }
    }

    /// Multiplies each delay by this to get the next one; 2 by default. Finite and at least 1, and only
    /// exponential delays have one.
    pub fn factor(mut self, factor: f64) -> Self {
        self.delays.factor = Some(factor);
        self
    }

    /// Never waits longer than this, jitter included; without a bound by default. What a handler asks
    /// for itself is not bounded.
    pub fn cap(mut self, longest: Duration) -> Self {
        self.delays.cap = longest;
        self
    }

    /// Spreads the delays at random, so that what failed together does not come back together.
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.delays.jitter = jitter;
        self
    }

    /// Makes at most so many attempts at a message, the first included: 1 retries nothing. At least 1;
    /// 5 by default.
    pub fn attempts(mut self, most: u16) -> Self {
        self.attempts = most;
        self
    }

    /// Starts no attempt later than this after the first attempt failed; without a bound by default.
    ///
    /// This is judged when an attempt has failed: if the next one would be due later, there is none, and
    /// the message is given up at once. A call that runs is not interrupted, however long it takes.
    pub fn max_elapsed(mut self, longest: Duration) -> Self {
        self.max_elapsed = longest;
        self
    }

    /// Keeps the subscription's messages in order: while one waits for its next attempt, those behind it
    /// wait too. By default they overtake it.
    pub fn in_order(mut self) -> Self {
        self.whole.in_order = true;
        self
    }

    /// Has at most so many of the subscription's messages wait for their next attempt. One that fails
    /// when there are as many is given up. At least 1; 1,024 by default.
    pub fn at_most_waiting(mut self, most: usize) -> Self {
        self.whole.most_waiting = Some(most);
        self
    }

    /// Bounds retries by deliveries, so that a subscription whose every delivery fails does not do its
    /// work several times over; off by default.
    ///
    /// The retries of the last ten seconds are at most this ratio of the deliveries in that time, first
    /// attempts alone: 0.2 allows two for ten. The minimum is allowed in each second of the broker's
    /// clock, even where the ratio would not allow it; the two do not add up. A message that fails when
    /// the budget is used up is given up.
    ///
    /// The ratio is finite and at least 0.
    pub fn budget(mut self, ratio: f64, min_per_second: u32) -> Self {
        self.whole.budget = Some(Share { ratio, min_per_second });
        self
    }

    /// Never retries failures of this kind: of [`Handler`](FailureKind::Handler), [`Panic`](FailureKind::Panic) and
    /// [`TimedOut`](FailureKind::TimedOut), which are retried by default. Others never are. Can be said of several.
    ///
    /// ```
    /// use ringmain::broker::{FailureKind, Retry};
    ///
    /// // A panic is a mistake in the handler: it would panic again.
    /// let retry = Retry::default().except(FailureKind::Panic);
    /// # let _ = retry;
    /// ```
    pub fn except(mut self, kind: FailureKind) -> Self {
        self.whole.except.push(kind);
        self
    }

    /// Retries only errors for which the closure says so; all by default. Panics carry no error: they are
    /// retried without asking, unless they are [excepted](Self::except). Nor is it asked where the handler has said
    /// itself what is to be done.
    ///
    /// It is called by the consumer, once for each failed attempt, and should be quick.
    pub fn retry_if(mut self, retried: impl Fn(&HandlerError) -> bool + Send + Sync + 'static) -> Self {
        self.only = Some(ErrorClass(Arc::new(retried)));
        self
    }

    /// Has another policy decide on the errors for which the closure says so. Of several the first that
    /// wants the error decides; this policy decides on what none wants, and on panics.
    /// The closure sees a [`RetryAfter`](crate::broker::RetryAfter) as itself, whatever error that was made of: ask for
    /// `error.is::<RetryAfter>()` where its attempts are to be as many.
    ///
    /// A message's attempts are counted together, whichever policy each came by, and there is one final
    /// failure. What concerns the subscription as a whole, such as [`in_order`](Self::in_order), is the
    /// outer policy's to say.
    ///
    /// ```
    /// use ringmain::broker::Retry;
    /// use std::io;
    /// use std::time::Duration;
    ///
    /// let when_offline = Retry::constant(Duration::from_secs(30)).attempts(100);
    /// let retry = Retry::default().when(|error| error.is::<io::Error>(), when_offline);
    /// # let _ = retry;
    /// ```
    pub fn when(
        mut self,
        class: impl Fn(&HandlerError) -> bool + Send + Sync + 'static,
        policy: Retry,
    ) -> Self {
        self.classes.push((ErrorClass(Arc::new(class)), policy));
        self
    }

    /// Draws the jitter from this seed, so that the same failures have the same delays in each run; by
    /// default it is random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.whole.seed = Some(seed);
        self
    }

    /// Checks the options.
    pub(crate) fn check(&self) -> Result<(), RetryError> {
        if self.attempts == 0 {
            return Err(RetryError::NoAttempts);
        }
        if let Some(given) = self.delays.factor {
            if self.delays.growth != Growth::Exponential {
                return Err(RetryError::FactorUnused { given: given.to_string() });
            }
            // What is no number is not at least 1 either.
            if !(given.is_finite() && given >= 1.0) {
                return Err(RetryError::Factor { given: given.to_string() });
            }
        }
        if self.whole.most_waiting == Some(0) {
            return Err(RetryError::NoneWaiting);
        }
        if let Some(Share { ratio, .. }) = self.whole.budget
            && !(ratio.is_finite() && ratio >= 0.0)
        {
            return Err(RetryError::Ratio { given: ratio.to_string() });
        }
        for (_, policy) in &self.classes {
            if let Some(option) = policy.whole.given() {
                return Err(RetryError::NotForClass { option });
            }
            policy.check()?;
        }
        Ok(())
    }

    /// Drops the closures, which are foreign, one by one: each may panic.
    fn dismantle(self) {
        let Self { only, classes, .. } = self;
        guard(|| drop(only));
        for (class, policy) in classes {
            guard(|| drop(class));
            policy.dismantle();
        }
    }

    /// Whether deliveries have to be counted.
    pub(crate) fn has_budget(&self) -> bool {
        self.whole.budget.is_some()
    }

    /// Whether the messages behind one that waits for its next attempt wait too.
    pub(crate) fn is_in_order(&self) -> bool {
        self.whole.in_order
    }

    /// How many of the subscription's messages may wait for their next attempt.
    pub(crate) fn most_waiting(&self) -> usize {
        self.whole.most_waiting.unwrap_or(MOST_WAITING)
    }

    /// The policy that decides on an error. Calls foreign code.
    fn policy_for(&self, error: &HandlerError) -> &Self {
        let class = self.classes.iter().find(|(class, _)| class.has(error));
        class.map_or(self, |(_, policy)| policy.policy_for(error))
    }

    /// Whether an error is of those that are retried. Calls foreign code.
    fn retries(&self, error: &HandlerError) -> bool {
        self.only.as_ref().is_none_or(|only| only.has(error))
    }
}

impl Default for Retry {
    /// Five attempts, 50 ms that double, at most 30 s, full jitter.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50)).cap(Duration::from_secs(30)).jitter(Jitter::Full)
    }
}

impl Whole {
    /// The name of an option that was given, if one was.
    fn given(&self) -> Option<&'static str> {
        let Self { in_order, most_waiting, budget, seed, except } = self;
        let options = [
            (*in_order, "in_order"),
            (most_waiting.is_some(), "at_most_waiting"),
            (budget.is_some(), "budget"),
            (seed.is_some(), "seed"),
            (!except.is_empty(), "except"),
        ];
        options.into_iter().find(|(is_given, _)| *is_given).map(|(_, option)| option)
    }
}

/// A class of errors, told by foreign code.
#[derive(Clone)]
struct ErrorClass(Arc<dyn Fn(&HandlerError) -> bool + Send + Sync>);

impl ErrorClass {
    fn has(&self, error: &HandlerError) -> bool {
        (self.0)(error)
    }
}

impl fmt::Debug for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErrorClass(..)")
    }
}

/// Which option of a [`Retry`] does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// No attempt is allowed, not even the first.
    #[error("attempts is 0, and it is at least 1: the first attempt is counted")]
    NoAttempts,
    /// The factor would shrink the delays, or is no number.
    #[error("factor is {given}, and it is finite and at least 1")]
    Factor {
        /// The factor.
        given: String,
    },
    /// There is a factor, and the delays do not grow by one.
    #[error("factor is {given}, and only exponential delays have a factor")]
    FactorUnused {
        /// The factor.
        given: String,
    },
    /// The budget's ratio is negative or no number.
    #[error("budget has the ratio {given}, and it is finite and at least 0")]
    Ratio {
        /// The ratio.
        given: String,
    },
    /// No message may wait, so that none could be retried.
    #[error("at_most_waiting is 0, and it is at least 1: where nothing is to be retried, attempts is 1")]
    NoneWaiting,
    /// The policy of a class of errors has an option that concerns the whole subscription.
    #[error("{option} is given to the policy of a class of errors, and only the outer policy has it")]
    NotForClass {
        /// The option.
        option: &'static str,
    },
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_option_that_does_not_do_is_an_error_that_says_what_was_given_and_what_may_be() {
        let constant = || Retry::constant(SECOND);
        let exponential = || Retry::exponential(SECOND);
        let inside = |policy| Retry::default().when(|_| true, policy);
        let refused = [
            (constant().attempts(0), "attempts is 0, and it is at least 1: the first attempt is counted"),
            (exponential().factor(0.5), "factor is 0.5, and it is finite and at least 1"),
            (exponential().factor(-2.0), "factor is -2, and it is finite and at least 1"),
            (exponential().factor(f64::NAN), "factor is NaN, and it is finite and at least 1"),
            (exponential().factor(f64::INFINITY), "factor is inf, and it is finite and at least 1"),
            (constant().factor(2.0), "factor is 2, and only exponential delays have a factor"),
            (Retry::linear(SECOND).factor(2.0), "factor is 2, and only exponential delays have a factor"),
            (constant().budget(-0.1, 10), "budget has the ratio -0.1, and it is finite and at least 0"),
            (constant().budget(f64::NAN, 10), "budget has the ratio NaN, and it is finite and at least 0"),
            (
                constant().budget(f64::INFINITY, 1),
                "budget has the ratio inf, and it is finite and at least 0",
            ),
            (
                constant().at_most_waiting(0),
                "at_most_waiting is 0, and it is at least 1: where nothing is to be retried, attempts is 1",
            ),
            (
                inside(constant().attempts(0)),
                "attempts is 0, and it is at least 1: the first attempt is counted",
            ),
            (
                inside(inside(constant().in_order())),
                "in_order is given to the policy of a class of errors, and only the outer policy has it",
            ),
        ];
        for (policy, text) in refused {
            assert_eq!(policy.check().map_err(|error| error.to_string()), Err(text.to_owned()), "{policy:?}");
        }
    }

    #[test]
    fn options_of_the_whole_subscription_are_refused_in_a_class() {
        let plain = || Retry::constant(SECOND);
        let given = [
            ("in_order", plain().in_order()),
            ("at_most_waiting", plain().at_most_waiting(8)),
            ("budget", plain().budget(0.2, 1)),
            ("seed", plain().seed(7)),
        ];
        for (option, policy) in given {
            assert_eq!(policy.check(), Ok(()));
            let outer = Retry::default().when(|_| true, policy);
            assert_eq!(outer.check(), Err(RetryError::NotForClass { option }));
        }
    }

    #[test]
    fn what_may_be_is_no_error() {
        let extremes = [
            Retry::default(),
            Retry::constant(Duration::ZERO).attempts(1).cap(Duration::ZERO).max_elapsed(Duration::ZERO),
            Retry::linear(Duration::MAX).attempts(u16::MAX).at_most_waiting(usize::MAX),
            Retry::exponential(SECOND).factor(1.0).budget(0.0, 0),
            Retry::exponential(SECOND).factor(f64::MAX).budget(f64::MAX, u32::MAX),
            Retry::default().in_order().when(|_| true, Retry::constant(SECOND).max_elapsed(SECOND)),
        ];
        for policy in extremes {
            assert_eq!(policy.check(), Ok(()), "{policy:?}");
        }
    }

    #[test]
    fn the_default_is_what_its_documentation_says() {
        let retry = Retry::default();
        assert_eq!(retry.attempts, 5);
        assert_eq!(retry.delays.first, Duration::from_millis(50));
        assert_eq!((retry.delays.growth, retry.delays.factor), (Growth::Exponential, None));
        assert_eq!((retry.delays.cap, retry.delays.jitter), (Duration::from_secs(30), Jitter::Full));
        assert_eq!(retry.max_elapsed, Duration::MAX);
        assert!(!retry.is_in_order() && retry.whole.budget.is_none());
        assert_eq!(retry.most_waiting(), 1_024);
        assert!(retry.in_order().is_in_order());
        assert_eq!(Retry::default().at_most_waiting(3).most_waiting(), 3);
    }
}
