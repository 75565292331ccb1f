//! A time limit of a handler's calls, and what comes of a call that has not kept it.
//!
//! The limit lies around the handler's own call, and inside of all that is asked before it: what a filter or a key
//! takes does not count, and the breaker, the retry and the keys of an idempotent subscription learn of a late call as
//! of any that has failed. A handler without a limit is not wrapped, and pays nothing.
//!
//! The clock is read before the call and after it. One that returns after its limit has failed, whatever it returned:
//! nobody is to rely on what comes too late. It is the consumer who finds that out, and only when the call has
//! returned: a call cannot be interrupted, and the message must not be tried again beside it. Meanwhile the watchdog
//! names it (`broker/stall/`), and the handler can ask ([`Message::is_cancelled`]).
//!
//! A call that panics has panicked, however late: its text says more than the time does, and nothing has come back that
//! would be discarded.

use super::handled::HandlerError;
use crate::message::{Message, Occasion};
use crate::sync::panics::guard;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a limit may be. Below, reading the clock would take a good part of it; above, it is taken for a mistake.
pub(crate) const LIMITS: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(86_400);

/// The time limit of a handler's calls.
pub(crate) struct TimeLimit {
    limit: Duration,
    /// On which the handler sees messages, with the deadline of the call at hand.
    occasion: Occasion,
}

impl TimeLimit {
    /// A limit within [`LIMITS`], of calls on that occasion.
    pub(crate) fn new(limit: Duration, occasion: Occasion) -> Self {
        Self { limit, occasion }
    }

    /// Goes with another consumer from now on, whose calls are made on that occasion.
    pub(super) fn go_with(&mut self, calls: &Occasion) {
        self.occasion.follow(calls);
    }

    /// Makes a call, whose outcome does not count where it returns after the limit.
    #[inline]
    pub(super) fn keep<P>(
        &mut self,
        message: &Message<'_, P>,
        call: impl FnOnce(&Message<'_, P>) -> Result<(), HandlerError>,
    ) -> Result<(), HandlerError> {
        let Self { limit, occasion } = self;
        let begun = occasion.clock.now();
        occasion.set_deadline(begun.after(*limit));
        let outcome = call(&message.on(occasion));
        let took = occasion.clock.now().since(begun);
        if took > *limit { Err(discard(outcome, *limit, took)) } else { outcome }
    }
}

/// Drops what a late call has returned, which is foreign, and says that it was late.
#[cold]
fn discard(outcome: Result<(), HandlerError>, limit: Duration, took: Duration) -> HandlerError {
    let has_failed = outcome.is_err();
    guard(|| drop(outcome));
    Box::new(Late { limit, took, has_failed })
}

/// What a call has failed with that has returned after its limit. No handler can make it.
#[derive(Debug)]
pub(crate) struct Late {
    limit: Duration,
    took: Duration,
    /// Whether it has returned an error.
    has_failed: bool,
}

impl Late {
    /// Returns whether that is what a call has failed with.
    pub(crate) fn is(error: &HandlerError) -> bool {
        error.is::<Self>()
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, took, has_failed } = self;
        let returned = if *has_failed { "an error" } else { "well" };
        write!(
            f,
            "the call took {took:?}, over its time limit of {limit:?}; it returned {returned}, which is discarded"
        )
    }
}

impl std::error::Error for Late {}
