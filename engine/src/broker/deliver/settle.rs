//! Settling: the one place where a delivery ends, is counted, and where what follows is decided.

use super::outcome::{About, Outcome};
use crate::broker::account::tally::Tally;
use crate::broker::account::term::{FailureKind, Term};
use crate::broker::subscribe::handler::HandlerError;
use crate::sync::panics::discard_panic;

/// Ends a delivery.
#[inline(always)]
pub(crate) fn settle<'a>(tally: &Tally, outcome: Outcome, about: impl FnOnce() -> About<'a>) {
    match outcome {
        Outcome::Delivered => tally.count(Term::Delivered),
        other => settle_otherwise(tally, other, &about()),
    }
}

#[cold]
fn settle_otherwise(tally: &Tally, outcome: Outcome, about: &About<'_>) {
    match outcome {
        Outcome::Delivered => tally.count(Term::Delivered),
        Outcome::Failed(error) => {
            fail(tally, FailureKind::Handler, about, Some(&error));
            // Dropping an error is user code.
            discard_panic(Box::new(error));
        }
        Outcome::Panicked(payload) => {
            fail(tally, FailureKind::Panic, about, None);
            discard_panic(payload);
        }
        Outcome::Expired => tally.count(Term::Expired),
        Outcome::Unsubscribed => tally.count(Term::Unsubscribed),
        Outcome::Undelivered => tally.count(Term::Undelivered),
    }
}

/// A delivery that failed, with no attempt left and nowhere to put the message.
fn fail(tally: &Tally, kind: FailureKind, about: &About<'_>, _error: Option<&HandlerError>) {
    let failures = tally.count_failure(kind);
    tally.count(Term::Failed);
    // The first, the second, the fourth, the eighth: a handler that always fails does not fill the log. The error's own
    // text is not logged, since it may quote the payload.
    if failures.is_power_of_two() {
        tracing::warn!(
            target: "ringmain::settle",
            subscription = about.subscription,
            topic = %about.topic,
            message_id = %about.message,
            attempt = about.attempt,
            error_kind = kind.as_str(),
            failures,
            "a delivery failed"
        );
    }
}
