//! What has come of the messages routed to one subscription, as it is counted.

use super::term::{FailureKind, Term};
use crate::observe::Counter;

/// The counts of one subscription. Written by its consumer, or by who has taken the consumer over.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By [`Term`]. Sizes, which are read and not counted, have a place that stays 0.
    terms: [Counter; Term::ALL.len()],
    failures: [Counter; FailureKind::ALL.len()],
    retries: Counter,
    /// Dead letters that were replayed to it.
    pub(crate) replayed: Counter,
    /// How often the state of its breaker has changed.
    pub(crate) breaker_changes: Counter,
}

impl Tally {
    /// Counts a message under a term.
    #[inline(always)]
    pub(crate) fn count(&self, term: Term) {
        self.terms[term as usize].bump();
    }

    /// Counts a failed delivery, and returns how many of that kind there have been. What becomes of
    /// the message is counted beside it.
    pub(crate) fn count_failure(&self, kind: FailureKind) -> u64 {
        let failures = &self.failures[kind as usize];
        failures.bump();
        failures.get()
    }

    /// Counts a failed delivery that is to be tried again.
    pub(crate) fn count_retry(&self) {
        self.retries.bump();
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries.get()
    }

    /// Returns how many messages have been counted under a term.
    pub(crate) fn get(&self, term: Term) -> u64 {
        self.terms[term as usize].get()
    }

    /// Returns all counts, in the order of [`Term::ALL`] and [`FailureKind::ALL`].
    pub(super) fn read(&self) -> ([u64; Term::ALL.len()], [u64; FailureKind::ALL.len()]) {
        (self.terms.each_ref().map(Counter::get), self.failures.each_ref().map(Counter::get))
    }
}
