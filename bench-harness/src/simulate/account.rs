//! Where a subscription's messages have gone.

use ringmain::broker::{DropReason, SubscriptionLedger, Term};
use serde::{Serialize, Serializer};

/// A term of an account: its name, and how an account of the engine tells it.
type Entry = (&'static str, fn(&SubscriptionLedger) -> u64);

/// The terms of a subscription's ledger, and beside their sum the retries.
const TERMS: [Entry; 19] = [
    ("routed", |ledger| ledger.routed),
    ("replayed", |ledger| ledger.replayed),
    ("delivered", SubscriptionLedger::delivered),
    ("filtered", |ledger| ledger.count(Term::Filtered)),
    ("expired", |ledger| ledger.count(Term::Expired)),
    ("dropped", SubscriptionLedger::dropped),
    ("dropped_unsubscribed", |ledger| ledger.dropped_for(DropReason::Unsubscribed)),
    ("dropped_failed", |ledger| ledger.dropped_for(DropReason::Failed)),
    ("dropped_overflow", |ledger| ledger.dropped_for(DropReason::Overflow)),
    ("dropped_conflated", |ledger| ledger.dropped_for(DropReason::Conflated)),
    ("dropped_duplicate", |ledger| ledger.dropped_for(DropReason::Duplicate)),
    ("dead_lettered", |ledger| ledger.count(Term::DeadLettered)),
    ("undelivered", |ledger| ledger.count(Term::Undelivered)),
    ("retrying", |ledger| ledger.count(Term::Retrying)),
    ("backlogged", |ledger| ledger.count(Term::Backlogged)),
    ("in_flight", |ledger| ledger.count(Term::InFlight)),
    ("in_doubt", |ledger| ledger.count(Term::InDoubt)),
    ("retries", |ledger| ledger.retries),
    ("late", |ledger| ledger.late),
];

/// The numbers of [`TERMS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account([u64; TERMS.len()]);

impl Account {
    pub(super) fn of(ledger: &SubscriptionLedger) -> Self {
        Self(TERMS.map(|(_, read)| read(ledger)))
    }

    /// What of this came after an earlier account.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|term| self.0[term].saturating_sub(earlier.0[term])))
    }

    /// Each term with its name, in order.
    pub(super) fn terms(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TERMS.iter().zip(self.0).map(|((name, _), number)| (*name, number))
    }
}

/// As a map, to stand among other fields.
impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.terms())
    }
}
