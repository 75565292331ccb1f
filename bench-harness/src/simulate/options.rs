//! The engine's options for what a scenario says. What it leaves out is as the engine has it.

use std::time::Duration;

use ringmain::broker::key::{self, KeyBy};
use ringmain::broker::{Acknowledgement, Backlog, Breaker, Idempotency, Jitter, Retry};

use super::scenario::{BacklogForm, BreakerForm, IdempotencyForm, ManualForm, RetryForm, Schedule};
use super::values::KeyForm;

/// The delay of a retry that says none: that of the engine's own.
const DELAY: Duration = Duration::from_millis(50);
/// How long a breaker stays open, at first and at last, and what a rate is taken of: the engine's own.
const OPEN: Duration = Duration::from_secs(1);
const LONGEST_OPEN: Duration = Duration::from_secs(60);
const WINDOW: u32 = 100;

pub(super) fn retry(form: &RetryForm, seed: u64) -> Retry {
    let delay = form.delay.map_or(DELAY, |delay| delay.0);
    let factor = form.factor.as_ref().map(|factor| *factor.get_ref());
    let schedule =
        form.schedule.unwrap_or(if factor.is_some() { Schedule::Exponential } else { Schedule::Constant });
    let mut retry = match schedule {
        Schedule::Constant => Retry::constant(delay),
        Schedule::Linear => Retry::linear(delay),
        Schedule::Exponential => Retry::exponential(delay),
    };
    retry = retry.jitter(Jitter::from(form.jitter)).seed(seed);
    if let Some(factor) = factor {
        retry = retry.factor(factor);
    }
    if let Some(attempts) = form.attempts {
        retry = retry.attempts(attempts);
    }
    if let Some(cap) = form.cap {
        retry = retry.cap(cap.0);
    }
    if let Some(longest) = form.max_elapsed {
        retry = retry.max_elapsed(longest.0);
    }
    if form.in_order { retry.in_order() } else { retry }
}

pub(super) fn breaker(form: &BreakerForm, seed: u64) -> Option<Breaker> {
    let window = form.window.as_ref().map_or(WINDOW, |window| *window.get_ref());
    let mut breaker = match (form.consecutive, form.rate) {
        (Some(failures), None) => Breaker::consecutive(failures),
        (None, Some(rate)) => Breaker::rate(rate, window),
        (Some(failures), Some(rate)) => Breaker::consecutive(failures).or_rate(rate, window),
        (None, None) => return None,
    };
    if let Some(minimum) = &form.minimum {
        breaker = breaker.at_least(*minimum.get_ref());
    }
    let open = form.open.map_or(OPEN, |open| open.0);
    let cap = form.cap.map_or(LONGEST_OPEN.max(open), |cap| cap.0);
    breaker = breaker.open_for(open..=cap).seed(seed);
    if form.jitter.as_ref().is_some_and(|jitter| *jitter.get_ref() == 0.0) {
        breaker = breaker.exact();
    }
    if let Some(probes) = form.probes {
        breaker = breaker.probes(probes);
    }
    Some(match &form.while_open {
        Some(policy) => breaker.while_open((*policy.get_ref()).into()),
        None => breaker,
    })
}

pub(super) fn key(form: &KeyForm) -> KeyBy<u64> {
    match form {
        KeyForm::Id => key::id(),
        KeyForm::Topic => key::topic(),
        KeyForm::Header(name) => key::header(name),
    }
}

pub(super) fn idempotency(form: &IdempotencyForm) -> Idempotency<u64> {
    let mut idempotency = Idempotency::by(key(form.by.get_ref()));
    if let Some(keys) = form.keys {
        idempotency = idempotency.keys(keys);
    }
    if let Some(time) = form.remembered_for {
        idempotency = idempotency.remember_for(time.0);
    }
    if form.may_lose { idempotency.may_lose() } else { idempotency }
}

pub(super) fn manual(form: &ManualForm) -> Acknowledgement {
    let terms = form.limit.map_or(Acknowledgement::default(), |limit| Acknowledgement::within(limit.0));
    form.in_flight.map_or(terms, |most| terms.in_flight(most))
}

/// Bounded by messages alone: a scenario's have no size to speak of.
pub(super) fn backlog(form: &BacklogForm) -> Backlog {
    let backlog = form.messages.map_or(Backlog::default(), Backlog::new).bytes(usize::MAX);
    match &form.when_full {
        Some(policy) => backlog.when_full((*policy.get_ref()).into()),
        None => backlog,
    }
}
