//! The ledger: where every accepted message has gone.

use super::tally::Tally;
use crate::broker::error::{DropReason, ErrorKind};
use crate::broker::id::SubscriptionId;

/// The account of one ring: `claimed = consumed + skipped + tombstones + depth`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingLedger {
    /// The dispatcher's name.
    pub dispatcher: String,
    /// Slots that publishers claimed.
    pub claimed: u64,
    /// Events that the slowest consumer has gone through and released.
    pub consumed: u64,
    /// Events that were overwritten before they were read.
    pub skipped: u64,
    /// Slots whose publisher panicked.
    pub tombstones: u64,
    /// Slots claimed and not yet released.
    pub depth: u64,
}

impl RingLedger {
    /// Whether the sum holds.
    pub fn is_balanced(&self) -> bool {
        self.claimed == self.consumed + self.skipped + self.tombstones + self.depth
    }
}

/// The account of one subscription. Every term is counted where it happens, and once nothing waits in the ring any more:
///
/// `routed = delivered + filtered + expired + dropped + dead_lettered + undelivered + retrying + backlogged + in_flight
/// + in_doubt`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionLedger {
    /// Its number.
    pub id: SubscriptionId,
    /// Its name.
    pub name: String,
    /// Its patterns.
    pub patterns: Vec<String>,
    /// Messages that its ring accepted, on all routes that led to it. Counted by publishers.
    pub routed: u64,
    /// Calls that returned without an error.
    pub delivered: u64,
    /// Messages that a filter refused.
    pub filtered: u64,
    /// Messages that had expired.
    pub expired: u64,
    /// Messages that were dropped, by reason, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Messages that went to the dead-letter store.
    pub dead_lettered: u64,
    /// Messages that the shutdown handed back.
    pub undelivered: u64,
    /// Messages that wait for another attempt.
    pub retrying: u64,
    /// Messages that wait in the subscription's backlog.
    pub backlogged: u64,
    /// Calls that are running. Measured, not a remainder.
    pub in_flight: u64,
    /// Calls that had not returned when the broker stopped waiting for them.
    pub in_doubt: u64,
    /// Failed deliveries by kind, in the order of [`ErrorKind::ALL`]. Beside the sum: each also stands in it under
    /// what became of the message.
    pub errors: [u64; ErrorKind::ALL.len()],
}

impl SubscriptionLedger {
    /// What a subscription's consumer has counted, and nothing else.
    pub(crate) fn settled(tally: &Tally) -> Self {
        Self {
            delivered: tally.delivered.get(),
            filtered: tally.filtered.get(),
            expired: tally.expired.get(),
            dropped: std::array::from_fn(|reason| tally.dropped[reason].get()),
            dead_lettered: tally.dead_lettered.get(),
            undelivered: tally.undelivered.get(),
            in_doubt: tally.in_doubt.get(),
            errors: std::array::from_fn(|kind| tally.errors[kind].get()),
            ..Self::default()
        }
    }

    /// Adds another account's numbers to this one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.routed += other.routed;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.expired += other.expired;
        for (sum, term) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += term;
        }
        self.dead_lettered += other.dead_lettered;
        self.undelivered += other.undelivered;
        self.retrying += other.retrying;
        self.backlogged += other.backlogged;
        self.in_flight += other.in_flight;
        self.in_doubt += other.in_doubt;
        for (sum, term) in self.errors.iter_mut().zip(other.errors) {
            *sum += term;
        }
    }

    /// Messages dropped for that reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Failed deliveries of that kind.
    pub fn errors_of(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize]
    }

    /// What has been accounted for.
    pub fn accounted(&self) -> u64 {
        self.delivered
            + self.filtered
            + self.expired
            + self.dropped.iter().sum::<u64>()
            + self.dead_lettered
            + self.undelivered
            + self.retrying
            + self.backlogged
            + self.in_flight
            + self.in_doubt
    }

    /// Whether every message that was routed here is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.routed == self.accounted()
    }
}

/// The account of a whole broker.
///
/// While messages flow its terms are read one after the other, so it is exact only when nothing is under way: with
/// publishers at rest and rings drained, and always after a shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// Messages that were accepted.
    pub published: u64,
    /// Of these, the ones that matched no subscription.
    pub unrouted: u64,
    /// Refusals by single rings of messages that other rings accepted.
    pub refused: u64,
    /// Each dispatcher's ring.
    pub rings: Vec<RingLedger>,
    /// Each subscription that exists, or to which messages may still be under way.
    pub subscriptions: Vec<SubscriptionLedger>,
    /// The sum of all subscriptions that are past. It has neither number nor name of its own.
    pub past: SubscriptionLedger,
}

impl Ledger {
    /// All subscriptions, present and past, in one account.
    pub fn total(&self) -> SubscriptionLedger {
        let mut total = self.past.clone();
        for subscription in &self.subscriptions {
            total.add(subscription);
        }
        total
    }

    /// Whether every sum holds: each ring's and each subscription's.
    pub fn is_balanced(&self) -> bool {
        self.rings.iter().all(RingLedger::is_balanced)
            && self.subscriptions.iter().all(SubscriptionLedger::is_balanced)
            && self.past.is_balanced()
    }
}
