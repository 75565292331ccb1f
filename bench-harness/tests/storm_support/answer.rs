//! What the program has answered, read from its JSON.

use serde::Deserialize;

#[derive(Deserialize, Debug)]
pub(crate) struct Answer {
    pub(crate) ended_at_ns: u64,
    pub(crate) calls: Vec<Call>,
    pub(crate) subscriptions: Vec<Ended>,
    pub(crate) dead_letters: Vec<Letter>,
    pub(crate) store: Option<Store>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) published: u64,
}

#[derive(Deserialize, Clone, Debug)]
pub(crate) struct Call {
    pub(crate) subscription: String,
    pub(crate) n: u64,
    pub(crate) attempt: u16,
    pub(crate) at_ns: u64,
    pub(crate) outcome: String,
}

#[derive(Deserialize, Debug)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) breaker: Option<BreakerEnded>,
    #[serde(flatten)]
    pub(crate) account: Account,
}

#[derive(Deserialize, Debug)]
pub(crate) struct BreakerEnded {
    pub(crate) state: String,
}

/// Where a subscription's messages have gone.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) routed: u64,
    pub(crate) replayed: u64,
    pub(crate) delivered: u64,
    pub(crate) filtered: u64,
    pub(crate) expired: u64,
    pub(crate) dropped_unsubscribed: u64,
    pub(crate) dropped_failed: u64,
    pub(crate) dropped_overflow: u64,
    pub(crate) dropped_conflated: u64,
    pub(crate) dropped_duplicate: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) undelivered: u64,
    pub(crate) retrying: u64,
    pub(crate) backlogged: u64,
    pub(crate) in_flight: u64,
    pub(crate) in_doubt: u64,
    pub(crate) retries: u64,
    pub(crate) late: u64,
}

impl Account {
    /// Each message that came, and each replay, is in one term.
    pub(crate) fn is_balanced(&self) -> bool {
        let dropped = self.dropped_unsubscribed + self.dropped_failed + self.dropped_overflow;
        let dropped = dropped + self.dropped_conflated + self.dropped_duplicate;
        let ended = self.delivered + self.filtered + self.expired + dropped + self.dead_lettered;
        let handed_back = self.undelivered + self.in_doubt;
        self.routed + self.replayed == ended + handed_back + self.retrying + self.backlogged + self.in_flight
    }
}

#[derive(Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Letter {
    pub(crate) n: u64,
    pub(crate) subscription: String,
    pub(crate) kind: String,
    pub(crate) attempts: u64,
    pub(crate) episodes: u32,
}

#[derive(Deserialize, Debug)]
pub(crate) struct Store {
    pub(crate) taken: u64,
    pub(crate) held: u64,
    pub(crate) replayed: u64,
    pub(crate) evicted: u64,
    pub(crate) lost: u64,
}

#[derive(Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    pub(crate) step: usize,
    pub(crate) reason: String,
}
