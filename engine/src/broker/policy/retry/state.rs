//! What a consumer decides retries by.

use super::Retry;
use super::budget::Budget;
use crate::broker::account::term::FailureKind;
use crate::broker::subscribe::handled::{HandlerError, Wish};
use crate::clock::Timestamp;
use fastrand::Rng;
use std::time::Duration;

/// A subscription's policy of retries, with what it has to remember. It is its consumer's alone, reads
/// no clock and takes no lock.
///
/// The policy holds foreign closures, and the last copy drops them: that, too, is for a fence.
#[derive(Debug)]
pub(crate) struct RetryState {
    policy: Retry,
    random: Rng,
    budget: Option<Budget>,
    /// The latest moment that was told. Stamps of two cores can differ by a little.
    latest: Timestamp,
}

/// A failed attempt at a message.
#[derive(Debug)]
pub(crate) struct FailedAttempt<'a> {
    /// Which attempt it was, from 1.
    pub(crate) attempt: u16,
    /// How it failed.
    pub(crate) kind: FailureKind,
    /// What the handler returned; nothing where it panicked or took too long.
    pub(crate) error: Option<&'a HandlerError>,
    /// What the handler wants done.
    pub(crate) wish: Wish,
    /// When the message's first attempt failed: now, if this is the first.
    pub(crate) first_at: Timestamp,
    /// The delay that was decided on before this attempt.
    pub(crate) last_delay: Option<Duration>,
    /// Whether one more message of the subscription may wait.
    pub(crate) has_room: bool,
}

/// What is done about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The message is tried again.
    Retry {
        /// When.
        due: Timestamp,
        /// How long after the failure that is.
        delay: Duration,
    },
    /// The message is not tried again.
    GiveUp(GiveUp),
}

/// Why a message is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GiveUp {
    /// No attempt is left.
    Attempts,
    /// The next attempt would be later than there may be one.
    Elapsed,
    /// The handler has said that none would succeed.
    Permanent,
    /// Failures of this kind, or errors of this class, are not retried.
    NotRetried,
    /// As many messages wait as may.
    NoRoom,
    /// The budget of retries is used up.
    Budget,
}

impl GiveUp {
    /// Returns the reason as a word for logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Elapsed => "elapsed",
            Self::Permanent => "permanent",
            Self::NotRetried => "not_retried",
            Self::NoRoom => "no_room",
            Self::Budget => "budget",
        }
    }
}

impl RetryState {
    /// The state at the beginning. The policy has been checked.
    pub(crate) fn new(policy: Retry) -> Self {
        Self {
            random: policy.whole.seed.map_or_else(Rng::new, Rng::with_seed),
            budget: policy.whole.budget.map(Budget::new),
            latest: Timestamp::default(),
            policy,
        }
    }

    /// Drops the policy's closures, which are foreign, one by one: each may panic.
    pub(crate) fn dismantle(self) {
        self.policy.dismantle();
    }

    /// The policy.
    pub(crate) fn policy(&self) -> &Retry {
        &self.policy
    }

    /// Counts a delivery: a message's first attempt, however it ended, and before a decision about it.
    /// Needed only where there is a budget.
    pub(crate) fn delivered(&mut self, now: Timestamp) {
        let now = self.advance(now);
        if let Some(budget) = &mut self.budget {
            budget.delivered(now);
        }
    }

    /// Decides what is done about a failed attempt. A retry that is decided on is taken out of the
    /// budget.
    ///
    /// Calls foreign code, which may panic, and does not catch that: the caller does. The state is then
    /// what it was before the call.
    pub(crate) fn decide(&mut self, failed: &FailedAttempt<'_>, now: Timestamp) -> Decision {
        match self.try_again(failed, now) {
            Ok((due, delay)) => Decision::Retry { due, delay },
            Err(reason) => Decision::GiveUp(reason),
        }
    }

    fn try_again(
        &mut self,
        failed: &FailedAttempt<'_>,
        now: Timestamp,
    ) -> Result<(Timestamp, Duration), GiveUp> {
        if !is_retried(failed.kind) || self.policy.whole.except.contains(&failed.kind) {
            return Err(GiveUp::NotRetried);
        }
        if failed.wish == Wish::Never {
            return Err(GiveUp::Permanent);
        }
        // Foreign code comes before anything changes.
        let policy = failed.error.map_or(&self.policy, |error| self.policy.policy_for(error));
        let is_wanted =
            matches!(failed.wish, Wish::After(_)) || failed.error.is_none_or(|error| policy.retries(error));
        if !is_wanted {
            return Err(GiveUp::NotRetried);
        }
        if failed.attempt >= policy.attempts {
            return Err(GiveUp::Attempts);
        }
        let delay = match failed.wish {
            Wish::After(delay) => delay,
            _ => policy.delays.draw(failed.attempt.saturating_sub(1), failed.last_delay, &mut self.random),
        };
        let longest = policy.max_elapsed;
        let now = self.advance(now);
        // Of durations: the sum of moments would stop at the last one that a clock can tell.
        if now.since(failed.first_at).saturating_add(delay) > longest {
            return Err(GiveUp::Elapsed);
        }
        if !failed.has_room {
            return Err(GiveUp::NoRoom);
        }
        // The budget comes last: what is given up anyway takes nothing out of it.
        if self.budget.as_mut().is_some_and(|budget| !budget.take(now)) {
            return Err(GiveUp::Budget);
        }
        Ok((now.after(delay), delay))
    }

    /// The moment, or the latest one if the clock went back.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }
}

/// Whether another attempt can help. The rest never reached the handler, or never will.
fn is_retried(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Handler | FailureKind::Panic | FailureKind::TimedOut => true,
        FailureKind::Refused
        | FailureKind::Expired
        | FailureKind::Overflow
        | FailureKind::Codec
        | FailureKind::Cancelled
        | FailureKind::Undelivered => false,
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::Jitter;
    use super::*;
    use proptest::prelude::*;
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    /// The attempt of that number fails at the moment at which the first one failed.
    fn failed(attempt: u16) -> FailedAttempt<'static> {
        FailedAttempt {
            attempt,
            kind: FailureKind::Handler,
            error: None,
            wish: Wish::ByPolicy,
            first_at: at(0),
            last_delay: None,
            has_room: true,
        }
    }

    fn busy() -> HandlerError {
        Box::new(io::Error::from(io::ErrorKind::WouldBlock))
    }

    fn broken() -> HandlerError {
        "broken".into()
    }

    /// The delay in milliseconds, or why there is none.
    fn delay(decision: Decision) -> Result<u128, GiveUp> {
        match decision {
            Decision::Retry { delay, .. } => Ok(delay.as_millis()),
            Decision::GiveUp(reason) => Err(reason),
        }
    }

    /// When a message is attempted whose every attempt fails at once, and why it is given up.
    fn attempts(policy: Retry) -> (Vec<Timestamp>, GiveUp) {
        attempts_by(&mut RetryState::new(policy), failed)
    }

    fn attempts_by<'a>(
        state: &mut RetryState,
        how: impl Fn(u16) -> FailedAttempt<'a>,
    ) -> (Vec<Timestamp>, GiveUp) {
        let (mut calls, mut last_delay) = (vec![at(0)], None);
        loop {
            let attempt = u16::try_from(calls.len()).unwrap();
            let now = *calls.last().unwrap();
            match state.decide(&FailedAttempt { last_delay, ..how(attempt) }, now) {
                Decision::Retry { due, delay } => {
                    assert_eq!(due, now.after(delay));
                    calls.push(due);
                    last_delay = Some(delay);
                }
                Decision::GiveUp(reason) => return (calls, reason),
            }
        }
    }

    fn doubling() -> Retry {
        Retry::exponential(100 * MILLI).cap(SECOND).attempts(6)
    }

    #[test]
    fn a_message_is_attempted_by_the_schedule_until_no_attempt_is_left() {
        let calls = [0, 100, 300, 700, 1_500, 2_500].map(at).to_vec();
        assert_eq!(attempts(doubling()), (calls, GiveUp::Attempts));
    }

    #[test]
    fn max_elapsed_is_judged_when_the_retry_is_scheduled() {
        let calls = [0, 100, 300, 700].map(at).to_vec();
        assert_eq!(attempts(doubling().max_elapsed(SECOND)), (calls, GiveUp::Elapsed));
        // What is due at the limit is not later than it.
        assert_eq!(attempts(doubling().max_elapsed(700 * MILLI)).0.len(), 4);
        assert_eq!(attempts(doubling().max_elapsed(699 * MILLI)).0.len(), 3);
        assert_eq!(attempts(doubling().max_elapsed(Duration::ZERO)).0.len(), 1);
    }

    #[test]
    fn max_elapsed_asks_only_once_a_call_has_failed() {
        let mut state = RetryState::new(doubling().max_elapsed(SECOND));
        // The first call ran for an hour: time is counted from its failure.
        let hour = at(3_600_000);
        let first = FailedAttempt { first_at: hour, ..failed(1) };
        assert_eq!(delay(state.decide(&first, hour)), Ok(100));
        // The second was due in time and ran for another.
        let second = FailedAttempt { first_at: hour, ..failed(2) };
        assert_eq!(delay(state.decide(&second, hour.after(3_600 * SECOND))), Err(GiveUp::Elapsed));
    }

    #[test]
    fn attempts_are_counted_for_each_message_and_not_by_how_often_the_policy_was_asked() {
        let mut state = RetryState::new(doubling().attempts(2));
        for _ in 0..100 {
            assert_eq!(delay(state.decide(&failed(1), at(0))), Ok(100));
        }
        assert_eq!(delay(state.decide(&failed(2), at(0))), Err(GiveUp::Attempts));
        assert_eq!(delay(state.decide(&failed(1), at(0))), Ok(100));
    }

    #[test]
    fn the_first_attempt_is_counted() {
        assert_eq!(attempts(doubling().attempts(1)), (vec![at(0)], GiveUp::Attempts));
        assert_eq!(attempts(doubling().attempts(2)).0.len(), 2);
        let many = Retry::constant(Duration::ZERO).attempts(u16::MAX);
        assert_eq!(attempts(many), (vec![at(0); usize::from(u16::MAX)], GiveUp::Attempts));
    }

    #[test]
    fn the_limit_of_attempts_holds_for_deferred_retries_as_for_those_in_order() {
        assert_eq!(attempts(doubling()), attempts(doubling().in_order()));
        let asked = |policy| {
            let how = |attempt| FailedAttempt { wish: Wish::After(SECOND), ..failed(attempt) };
            attempts_by(&mut RetryState::new(policy), how)
        };
        let calls: Vec<_> = (0..6).map(|second| at(second * 1_000)).collect();
        assert_eq!(asked(doubling()), (calls.clone(), GiveUp::Attempts));
        assert_eq!(asked(doubling().in_order()), (calls, GiveUp::Attempts));
    }

    #[test]
    fn a_handler_that_dies_before_it_settles_uses_up_an_attempt() {
        for kind in [FailureKind::Panic, FailureKind::TimedOut] {
            let mut state = RetryState::new(doubling());
            let (calls, reason) =
                attempts_by(&mut state, |attempt| FailedAttempt { kind, ..failed(attempt) });
            assert_eq!((calls.len(), reason), (6, GiveUp::Attempts));
        }
    }

    #[test]
    fn only_failures_of_calls_are_retried() {
        let mut state = RetryState::new(Retry::constant(SECOND));
        for &kind in FailureKind::ALL {
            let retried = [FailureKind::Handler, FailureKind::Panic, FailureKind::TimedOut].contains(&kind);
            let expected = if retried { Ok(1_000) } else { Err(GiveUp::NotRetried) };
            assert_eq!(delay(state.decide(&FailedAttempt { kind, ..failed(1) }, at(0))), expected);
            // Even if asked for.
            let asked = FailedAttempt { kind, wish: Wish::After(SECOND), ..failed(1) };
            assert_eq!(delay(state.decide(&asked, at(0))), expected);
        }
    }

    #[test]
    fn a_permanent_failure_is_not_retried() {
        let mut state = RetryState::new(doubling().retry_if(|_| panic!("nobody is asked")));
        let error = busy();
        let permanent = FailedAttempt { wish: Wish::Never, error: Some(&error), ..failed(1) };
        assert_eq!(state.decide(&permanent, at(0)), Decision::GiveUp(GiveUp::Permanent));
    }

    #[test]
    fn retry_after_replaces_one_delay_and_the_schedule_goes_on_by_the_attempt() {
        let mut state = RetryState::new(doubling());
        let asked = |attempt, delay| FailedAttempt { wish: Wish::After(delay), ..failed(attempt) };
        assert_eq!(delay(state.decide(&failed(1), at(0))), Ok(100));
        assert_eq!(delay(state.decide(&asked(2, 7 * MILLI), at(0))), Ok(7));
        assert_eq!(delay(state.decide(&failed(3), at(0))), Ok(400));
        // A cap bounds what the policy chooses and not what the handler asks for.
        assert_eq!(delay(state.decide(&asked(4, 60 * SECOND), at(0))), Ok(60_000));
        assert_eq!(delay(state.decide(&failed(5), at(0))), Ok(1_000));
        assert_eq!(delay(state.decide(&asked(6, MILLI), at(0))), Err(GiveUp::Attempts));
    }

    #[test]
    fn retry_after_is_not_jittered_and_draws_nothing() {
        for jitter in [Jitter::Full, Jitter::Decorrelated] {
            let seeded = || RetryState::new(doubling().jitter(jitter).seed(11));
            let (mut with_wishes, mut without) = (seeded(), seeded());
            for attempt in 1..6 {
                let asked = FailedAttempt { wish: Wish::After(SECOND), ..failed(attempt) };
                assert_eq!(delay(with_wishes.decide(&asked, at(0))), Ok(1_000));
                let expected = without.decide(&failed(attempt), at(0));
                assert_eq!(with_wishes.decide(&failed(attempt), at(0)), expected);
            }
        }
    }

    #[test]
    fn max_elapsed_holds_for_retry_after_too() {
        let mut state = RetryState::new(doubling().max_elapsed(SECOND));
        let asked = |delay| FailedAttempt { wish: Wish::After(delay), ..failed(1) };
        assert_eq!(delay(state.decide(&asked(800 * MILLI), at(200))), Ok(800));
        assert_eq!(delay(state.decide(&asked(801 * MILLI), at(200))), Err(GiveUp::Elapsed));
        assert_eq!(delay(state.decide(&asked(Duration::MAX), at(200))), Err(GiveUp::Elapsed));
    }

    #[test]
    fn a_moment_after_the_last_of_the_clock_is_the_last_and_within_no_limit() {
        let never = FailedAttempt { wish: Wish::After(Duration::MAX), ..failed(1) };
        let last = Timestamp::from_nanos(u64::MAX);
        let decision = RetryState::new(doubling()).decide(&never, at(5));
        assert_eq!(decision, Decision::Retry { due: last, delay: Duration::MAX });
        // The clock's 584 years are not what the limit is held against.
        let thousand_years = Duration::from_secs(1_000 * 365 * 86_400);
        let mut limited = RetryState::new(doubling().max_elapsed(thousand_years));
        assert_eq!(delay(limited.decide(&never, at(5))), Err(GiveUp::Elapsed));
    }

    #[test]
    fn a_short_delay_is_not_held_up_by_another_messages_long_one() {
        let mut state = RetryState::new(Retry::exponential(100 * MILLI).attempts(20));
        let long = state.decide(&failed(15), at(0));
        let short = state.decide(&FailedAttempt { first_at: at(1), ..failed(1) }, at(1));
        assert_eq!(delay(long), Ok(100 << 14));
        assert_eq!(short, Decision::Retry { due: at(101), delay: 100 * MILLI });
    }

    #[test]
    fn only_errors_that_are_wanted_are_retried() {
        let mut state = RetryState::new(doubling().retry_if(|error| error.is::<io::Error>()));
        let (busy, broken) = (busy(), broken());
        let with = |error| FailedAttempt { error: Some(error), ..failed(1) };
        assert_eq!(delay(state.decide(&with(&busy), at(0))), Ok(100));
        assert_eq!(delay(state.decide(&with(&broken), at(0))), Err(GiveUp::NotRetried));
        // What carries no error is retried, and so is what the handler asks for itself.
        assert_eq!(delay(state.decide(&failed(1), at(0))), Ok(100));
        let asked = FailedAttempt { wish: Wish::After(SECOND), ..with(&broken) };
        assert_eq!(delay(state.decide(&asked, at(0))), Ok(1_000));
    }

    /// 10 s for those of input and output, three attempts.
    fn two_policies() -> Retry {
        doubling().when(|error| error.is::<io::Error>(), Retry::constant(10 * SECOND).attempts(3))
    }

    #[test]
    fn kinds_that_are_excepted_are_not_retried_and_others_are() {
        let policy = doubling().except(FailureKind::Panic).except(FailureKind::TimedOut);
        for (kind, is_retried) in
            [(FailureKind::Handler, true), (FailureKind::Panic, false), (FailureKind::TimedOut, false)]
        {
            let mut state = RetryState::new(policy.clone());
            let decision = state.decide(&FailedAttempt { kind, ..failed(1) }, Timestamp::default());
            assert_eq!(decision != Decision::GiveUp(GiveUp::NotRetried), is_retried, "{kind}");
        }
    }

    #[test]
    fn two_policies_on_two_classes_of_errors_give_one_final_failure() {
        let (busy, broken) = (busy(), broken());
        let errors = [&broken, &busy, &broken, &broken, &broken, &broken];
        let calls = attempts_by(&mut RetryState::new(two_policies()), |attempt| FailedAttempt {
            error: Some(errors[usize::from(attempt) - 1]),
            ..failed(attempt)
        });
        // Attempts and the schedule's delays are counted together.
        let expected = [0, 100, 10_100, 10_500, 11_300, 12_300].map(at).to_vec();
        assert_eq!(calls, (expected, GiveUp::Attempts));
        // The class with fewer attempts gives up at its own, however the earlier ones failed.
        let errors = [&broken, &broken, &busy];
        let calls = attempts_by(&mut RetryState::new(two_policies()), |attempt| FailedAttempt {
            error: Some(errors[usize::from(attempt) - 1]),
            ..failed(attempt)
        });
        assert_eq!(calls, ([0, 100, 300].map(at).to_vec(), GiveUp::Attempts));
    }

    #[test]
    fn the_first_class_that_wants_an_error_decides_on_it_alone() {
        let policy = Retry::constant(SECOND)
            .retry_if(|_| false)
            .when(|error| error.is::<io::Error>(), Retry::constant(2 * SECOND))
            .when(|error| error.is::<io::Error>(), Retry::constant(3 * SECOND))
            .when(|error| error.to_string() == "broken", Retry::constant(4 * SECOND).retry_if(|_| false));
        let mut state = RetryState::new(policy);
        let (busy, broken, other) = (busy(), broken(), HandlerError::from("other"));
        let with = |error| FailedAttempt { error: Some(error), ..failed(1) };
        assert_eq!(delay(state.decide(&with(&busy), at(0))), Ok(2_000));
        assert_eq!(delay(state.decide(&with(&broken), at(0))), Err(GiveUp::NotRetried));
        assert_eq!(delay(state.decide(&with(&other), at(0))), Err(GiveUp::NotRetried));
        // A panic is no error of a class.
        assert_eq!(delay(state.decide(&failed(1), at(0))), Ok(1_000));
    }

    #[test]
    fn the_order_of_options_does_not_matter() {
        type Apply = fn(Retry) -> Retry;
        let options: [Apply; 7] = [
            |policy| policy.attempts(7),
            |policy| policy.cap(3 * SECOND),
            |policy| policy.factor(3.0),
            |policy| policy.jitter(Jitter::Full),
            |policy| policy.max_elapsed(60 * SECOND),
            |policy| policy.seed(5),
            |policy| policy.when(|error| error.is::<io::Error>(), Retry::constant(SECOND)).in_order(),
        ];
        let built = |turned: usize, backwards: bool| {
            let mut options = options;
            options.rotate_left(turned);
            if backwards {
                options.reverse();
            }
            options.into_iter().fold(Retry::exponential(100 * MILLI), |policy, option| option(policy))
        };
        let expected = attempts(built(0, false));
        assert_eq!(expected.0.len(), 7);
        for turned in 0..options.len() {
            assert_eq!(attempts(built(turned, false)), expected);
            assert_eq!(attempts(built(turned, true)), expected);
        }
    }

    #[test]
    fn a_seed_makes_delays_repeat_and_without_one_they_differ() {
        let policy = || Retry::exponential(SECOND).jitter(Jitter::Full).attempts(20);
        assert_eq!(attempts(policy().seed(1)), attempts(policy().seed(1)));
        assert_ne!(attempts(policy().seed(1)), attempts(policy().seed(2)));
        assert_ne!(attempts(policy()), attempts(policy()));
    }

    #[test]
    fn retries_beyond_the_budget_are_given_up() {
        let mut state = RetryState::new(Retry::constant(SECOND).budget(0.2, 0));
        assert!(state.policy().has_budget() && !RetryState::new(Retry::default()).policy().has_budget());
        (0..10).for_each(|_| state.delivered(at(0)));
        // What is given up for another reason takes nothing out.
        for reason in [GiveUp::Attempts, GiveUp::NotRetried, GiveUp::Permanent] {
            let lost = match reason {
                GiveUp::Attempts => failed(5),
                GiveUp::NotRetried => FailedAttempt { kind: FailureKind::Expired, ..failed(1) },
                _ => FailedAttempt { wish: Wish::Never, ..failed(1) },
            };
            assert_eq!(delay(state.decide(&lost, at(0))), Err(reason));
        }
        assert_eq!(delay(state.decide(&failed(1), at(0))), Ok(1_000));
        let asked = FailedAttempt { wish: Wish::After(2 * SECOND), ..failed(1) };
        assert_eq!(delay(state.decide(&asked, at(0))), Ok(2_000));
        assert_eq!(delay(state.decide(&failed(1), at(0))), Err(GiveUp::Budget));
        assert_eq!(delay(state.decide(&asked, at(0))), Err(GiveUp::Budget));
    }

    #[test]
    fn what_is_given_up_for_its_time_takes_nothing_out_of_the_budget() {
        let mut state = RetryState::new(Retry::constant(SECOND).budget(0.0, 1).max_elapsed(5 * SECOND));
        assert_eq!(delay(state.decide(&failed(1), at(9_000))), Err(GiveUp::Elapsed));
        let recent = FailedAttempt { first_at: at(9_000), ..failed(1) };
        assert_eq!(delay(state.decide(&recent, at(9_000))), Ok(1_000));
        assert_eq!(delay(state.decide(&recent, at(9_000))), Err(GiveUp::Budget));
    }

    #[test]
    fn a_closure_that_panics_leaves_the_state_as_it_was() {
        let policy = || {
            let policy = Retry::exponential(SECOND).jitter(Jitter::Full).attempts(20).budget(0.0, 2);
            policy.seed(3).retry_if(|error| !error.is::<io::Error>() || panic!("not that one"))
        };
        let (mut hit, mut spared) = (RetryState::new(policy()), RetryState::new(policy()));
        let (busy, broken) = (busy(), broken());
        for second in 0..10 {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let failed = FailedAttempt { error: Some(&busy), ..failed(1) };
                hit.decide(&failed, at(second * 1_000 + 999))
            }));
            assert!(panicked.is_err());
            for _ in 0..3 {
                let failed = FailedAttempt { error: Some(&broken), ..failed(1) };
                let now = at(second * 1_000);
                assert_eq!(hit.decide(&failed, now), spared.decide(&failed, now));
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_retry_due_earlier() {
        let mut state = RetryState::new(doubling());
        state.delivered(at(50));
        let decision = state.decide(&failed(1), at(40));
        assert_eq!(decision, Decision::Retry { due: at(150), delay: 100 * MILLI });
        // A first failure that seems to lie ahead has no time elapsed since.
        let ahead = FailedAttempt { first_at: at(60), ..failed(1) };
        assert_eq!(delay(state.decide(&ahead, at(55))), Ok(100));
    }

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            (0_u64..=60_000).prop_map(Duration::from_millis),
            any::<u64>().prop_map(Duration::from_nanos),
        ]
    }

    fn policies() -> impl Strategy<Value = Retry> {
        let jitters = prop::sample::select(vec![Jitter::None, Jitter::Full, Jitter::Decorrelated]);
        let schedule = (0..3, durations(), prop_oneof![1.0..4.0, Just(1e300)]);
        let limits = (1_u16..50, durations(), durations(), prop::option::of(0_u32..5));
        (schedule, jitters, limits, any::<u64>()).prop_map(|(schedule, jitter, limits, seed)| {
            let policy = match schedule {
                (0, first, _) => Retry::constant(first),
                (1, first, _) => Retry::linear(first),
                (_, first, factor) => Retry::exponential(first).factor(factor),
            };
            let (attempts, cap, max_elapsed, budget) = limits;
            let policy =
                policy.jitter(jitter).attempts(attempts).cap(cap).max_elapsed(max_elapsed).seed(seed);
            budget.map_or(policy.clone(), |least| policy.budget(0.0, least))
        })
    }

    proptest! {
        /// Whatever the policy, and whatever the handler asks for in between.
        #[test]
        fn no_message_is_tried_more_often_or_later_than_it_may_be(
            policy in policies(),
            wishes in prop::collection::vec(prop::option::weighted(0.2, durations()), 50),
            start: u64,
        ) {
            prop_assert_eq!(policy.check(), Ok(()));
            let first_at = Timestamp::from_nanos(start);
            let mut state = RetryState::new(policy.clone());
            let (mut now, mut last_delay, mut attempt) = (first_at, None, 1);
            let reason = loop {
                let asked = wishes[usize::from(attempt) - 1];
                let wish = asked.map_or(Wish::ByPolicy, Wish::After);
                let failed = FailedAttempt { first_at, last_delay, wish, ..failed(attempt) };
                match state.decide(&failed, now) {
                    Decision::Retry { due, delay } => {
                        prop_assert_eq!(due, now.after(delay));
                        prop_assert!(due.since(first_at) <= policy.max_elapsed);
                        match asked {
                            Some(wanted) => prop_assert_eq!(delay, wanted),
                            None => prop_assert!(delay <= policy.delays.cap),
                        }
                        (now, last_delay, attempt) = (due, Some(delay), attempt + 1);
                    }
                    Decision::GiveUp(reason) => break reason,
                }
            };
            prop_assert!(attempt <= policy.attempts);
            match reason {
                GiveUp::Attempts => prop_assert_eq!(attempt, policy.attempts),
                GiveUp::Elapsed => prop_assert!(policy.max_elapsed < Duration::MAX),
                GiveUp::Budget => prop_assert!(state.policy().has_budget()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
