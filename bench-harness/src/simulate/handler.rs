//! A handler that fails as it is told, and what it was called with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringmain::broker::{Handled, Token};
use ringmain::clock::{Clock, VirtualTime};
use ringmain::message::Message;
use serde::Serialize;

use super::scenario::HandlerForm;
use super::values::{Fails, FailsAs};
use crate::interrupt::interrupted;

/// The most calls of a scenario, so that its answer fits into memory. Few in tests, of which some run what chance
/// has made.
pub(super) const MOST_CALLS: usize = if cfg!(test) { 2_000 } else { 5_000_000 };

/// A call of a handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The subscription's place in the scenario.
    pub(super) subscription: u32,
    pub(super) n: u64,
    pub(super) attempt: u16,
    pub(super) at_ns: u64,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    Delivered,
    Failed,
    Panicked,
    /// It has returned after its time limit.
    TimedOut,
    /// Its token was kept.
    Pending,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed-out",
            Self::Pending => "pending",
        }
    }
}

/// All calls, in order.
#[derive(Default)]
pub(super) struct Record {
    pub(super) calls: Vec<Call>,
    /// There were more than may be. From then on nothing is as the scenario says.
    pub(super) is_overrun: bool,
}

/// A lock that nothing panics with.
pub(super) fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a handler behaves at this moment of the scenario.
#[derive(Default)]
pub(super) struct Behaviour {
    takes: Duration,
    fails: Fails,
    fails_as: FailsAs,
    numbers: Numbers,
}

impl Behaviour {
    pub(super) fn new(form: &HandlerForm, seed: u64) -> Self {
        let mut behaviour = Self { numbers: Numbers(seed), ..Self::default() };
        behaviour.change(form.takes.map(|takes| takes.0), form.fails.as_ref(), form.fails_as);
        behaviour
    }

    /// Changes what is given.
    pub(super) fn change(
        &mut self,
        takes: Option<Duration>,
        fails: Option<&Fails>,
        fails_as: Option<FailsAs>,
    ) {
        self.takes = takes.unwrap_or(self.takes);
        self.fails = fails.unwrap_or(&self.fails).clone();
        self.fails_as = fails_as.unwrap_or(self.fails_as);
    }

    /// Whether a call fails.
    fn is_failing(&mut self, n: u64, attempt: u16) -> bool {
        match &self.fails {
            Fails::Never => false,
            Fails::Always => true,
            Fails::Odd => n % 2 == 1,
            Fails::First(attempts) => attempt <= *attempts,
            Fails::Numbers(numbers, attempts) => attempt <= *attempts && numbers.contains(&n),
            Fails::Rate(rate) => self.numbers.share() < *rate,
        }
    }
}

/// A small generator of numbers (Steele and Vigna's SplitMix64).
#[derive(Clone, Copy, Default)]
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to 1, without 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What the handler of a subscription has at hand.
pub(super) struct Handler {
    pub(super) subscription: u32,
    pub(super) behaviour: Arc<Mutex<Behaviour>>,
    pub(super) record: Arc<Mutex<Record>>,
    pub(super) clock: Clock,
    pub(super) time: VirtualTime,
}

/// The tokens that the handler of a subscription has kept, from the oldest.
pub(super) type Tokens = Arc<Mutex<VecDeque<Token<u64>>>>;

/// What the handler of a subscription has at hand that keeps its messages.
pub(super) struct Keeper {
    pub(super) subscription: u32,
    pub(super) tokens: Tokens,
    pub(super) record: Arc<Mutex<Record>>,
    pub(super) clock: Clock,
}

impl Keeper {
    /// Keeps a message.
    pub(super) fn keep(&self, token: Token<u64>) {
        let mut record = locked(&self.record);
        record.is_overrun |= record.calls.len() >= MOST_CALLS;
        if record.is_overrun || interrupted() {
            // No answer will be given; this ends soonest.
            let _ = token.ack();
            return;
        }
        let (n, attempt) = (*token.message(), token.message().attempt());
        let at_ns = self.clock.now().as_nanos();
        record.calls.push(Call {
            subscription: self.subscription,
            n,
            attempt,
            at_ns,
            outcome: Outcome::Pending,
        });
        locked(&self.tokens).push_back(token);
    }
}

impl Handler {
    /// Handles a message.
    pub(super) fn call(&self, message: &Message<'_, u64>) -> Handled {
        let mut record = locked(&self.record);
        record.is_overrun |= record.calls.len() >= MOST_CALLS;
        if record.is_overrun || interrupted() {
            // No answer will be given; this ends soonest.
            return Handled::Permanent("the simulation ends".into());
        }
        let (n, attempt) = (**message, message.attempt());
        let (fails, fails_as, takes) = {
            let mut behaviour = locked(&self.behaviour);
            (behaviour.is_failing(n, attempt), behaviour.fails_as, behaviour.takes)
        };
        let now = self.clock.now();
        let is_late = message.deadline().is_some_and(|deadline| now.after(takes) > deadline);
        let outcome = match (fails, fails_as) {
            (true, FailsAs::Panic) => Outcome::Panicked,
            _ if is_late => Outcome::TimedOut,
            (false, _) => Outcome::Delivered,
            (true, _) => Outcome::Failed,
        };
        let at_ns = now.as_nanos();
        record.calls.push(Call { subscription: self.subscription, n, attempt, at_ns, outcome });
        drop(record);
        if !takes.is_zero() {
            self.time.advance(takes);
        }
        match (fails, fails_as) {
            (false, _) => Handled::Done,
            (true, FailsAs::Error) => Handled::Failed("told to fail".into()),
            (true, FailsAs::Permanent) => Handled::Permanent("told to fail".into()),
            (true, FailsAs::RetryAfter(delay)) => Handled::RetryAfter(delay),
            // As a panic, without its message on standard error.
            (true, FailsAs::Panic) => std::panic::resume_unwind(Box::new("told to panic")),
        }
    }
}
