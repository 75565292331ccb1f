//! Settling: the one place where a delivery ends, is counted, and where what follows is decided.
//!
//! A consumer settles what it delivers. Who has taken its position over settles what it has left, and
//! is then the only one who counts for it.
//!
//! Nothing foreign runs here. What the handler failed with is dropped, and the failure is logged,
//! by who has settled: after the count, so that whatever panics or hangs there costs no count.

use super::outcome::Outcome;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::account::tally::Tally;
use crate::broker::account::term::{FailureKind, Term};

/// What follows a delivery.
#[must_use]
pub(crate) enum Next {
    /// Nothing.
    Done,
    /// The message is to be handed back.
    HandBack,
    /// It has failed: what becomes of the message is to be decided, and the failure to be told.
    Failed(Failure),
}

/// A failure that has been counted. What becomes of the message is counted beside it.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// How many of this kind the subscription has had by now.
    pub(crate) count: u64,
}

/// Ends a delivery whose handler has returned without an error: counts it with its subscription and with
/// the consumer.
#[inline(always)]
pub(crate) fn settle_delivered(tally: &Tally, consumer: &ConsumerTally) {
    tally.count(Term::Delivered);
    consumer.delivered.bump();
}

/// Ends a delivery, if it has not failed.
#[cold]
pub(crate) fn settle(tally: &Tally, consumer: &ConsumerTally, outcome: &Outcome) -> Next {
    let kind = match outcome {
        Outcome::Delivered => {
            settle_delivered(tally, consumer);
            return Next::Done;
        }
        Outcome::Failed(_) => FailureKind::Handler,
        Outcome::Panicked(_) | Outcome::Uncopied(_) => FailureKind::Panic,
        Outcome::Refused { .. } => FailureKind::Refused,
        Outcome::TimedOut | Outcome::Late(_) => FailureKind::TimedOut,
        Outcome::ExpiredDead => FailureKind::Expired,
        Outcome::TokenDropped { in_panic: true } => FailureKind::Panic,
        Outcome::TokenDropped { in_panic: false } => FailureKind::Cancelled,
        _ => {
            settle_uncalled(tally, outcome);
            return if matches!(outcome, Outcome::Undelivered) { Next::HandBack } else { Next::Done };
        }
    };
    if !matches!(kind, FailureKind::Refused | FailureKind::Expired) {
        consumer.failed.bump();
    }
    Next::Failed(Failure { kind, count: tally.count_failure(kind) })
}

/// Ends a delivery whose handler has told nothing, or one that has failed and is decided.
pub(crate) fn settle_uncalled(tally: &Tally, outcome: &Outcome) {
    match outcome {
        Outcome::Delivered
        | Outcome::Failed(_)
        | Outcome::Panicked(_)
        | Outcome::Uncopied(_)
        | Outcome::TimedOut
        | Outcome::Late(_)
        | Outcome::ExpiredDead
        | Outcome::TokenDropped { .. }
        | Outcome::Refused { .. } => {
            debug_assert!(false, "it has been called, or has failed");
        }
        Outcome::GivenUp => tally.count(Term::Failed),
        Outcome::DeadLettered => tally.count(Term::DeadLettered),
        Outcome::Filtered => tally.count(Term::Filtered),
        Outcome::Expired => tally.count(Term::Expired),
        Outcome::Overflow => tally.count(Term::Overflow),
        Outcome::Conflated => tally.count(Term::Conflated),
        Outcome::Duplicate => tally.count(Term::Duplicate),
        Outcome::Unsubscribed => tally.count(Term::Unsubscribed),
        Outcome::Undelivered => tally.count(Term::Undelivered),
        Outcome::InDoubt => tally.count(Term::InDoubt),
    }
}
