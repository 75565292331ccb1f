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

/// What follows the end of a delivery.
#[must_use]
pub(crate) enum Next {
    /// Nothing.
    Done,
    /// The failure is to be told, and what the handler failed with to be dropped. Both is foreign
    /// code.
    Tell(Failure),
}

/// A failure that has been counted.
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// How many of this kind the subscription has had by now.
    pub(crate) count: u64,
}

/// Ends a delivery: counts it with its subscription and with the consumer.
#[inline(always)]
pub(crate) fn settle(tally: &Tally, consumer: &ConsumerTally, outcome: &Outcome) -> Next {
    if matches!(outcome, Outcome::Delivered) {
        tally.count(Term::Delivered);
        consumer.delivered.bump();
        return Next::Done;
    }
    settle_otherwise(tally, consumer, outcome)
}

#[cold]
fn settle_otherwise(tally: &Tally, consumer: &ConsumerTally, outcome: &Outcome) -> Next {
    match outcome {
        Outcome::Failed(_) => return fail(tally, consumer, FailureKind::Handler),
        Outcome::Panicked(_) | Outcome::Uncopied(_) => return fail(tally, consumer, FailureKind::Panic),
        _ => settle_uncalled(tally, outcome),
    }
    Next::Done
}

/// Ends a delivery that no foreign code has failed.
pub(crate) fn settle_uncalled(tally: &Tally, outcome: &Outcome) {
    match outcome {
        Outcome::Delivered | Outcome::Failed(_) | Outcome::Panicked(_) | Outcome::Uncopied(_) => {
            debug_assert!(false, "nothing was called");
        }
        Outcome::Filtered => tally.count(Term::Filtered),
        Outcome::Expired => tally.count(Term::Expired),
        Outcome::Overflow => tally.count(Term::Overflow),
        Outcome::Unsubscribed => tally.count(Term::Unsubscribed),
        Outcome::Undelivered => tally.count(Term::Undelivered),
        Outcome::InDoubt => tally.count(Term::InDoubt),
    }
}

/// A delivery that failed, with no attempt left and nowhere to put the message.
fn fail(tally: &Tally, consumer: &ConsumerTally, kind: FailureKind) -> Next {
    tally.count(Term::Failed);
    consumer.failed.bump();
    Next::Tell(Failure { kind, count: tally.count_failure(kind) })
}
