//! Which queues a consumer is to look at, and when.

use crate::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The subscriptions whose next message may be delivered, one after the other, and those for which that
/// will be so at a known moment.
#[derive(Default)]
pub(crate) struct Schedule {
    turns: VecDeque<u64>,
    /// Those that have a turn.
    listed: BTreeSet<u64>,
    /// Who gets a turn at which moment: each at one, the earliest.
    later: BTreeSet<(Timestamp, u64)>,
    moments: BTreeMap<u64, Timestamp>,
}

impl Schedule {
    /// Gives a subscription a turn behind the others, unless it has one.
    pub(crate) fn add(&mut self, subscription: u64) {
        if self.listed.insert(subscription) {
            self.turns.push_back(subscription);
        }
    }

    /// Gives a subscription a turn at that moment, unless it gets one before: whoever has it then says what comes next.
    pub(crate) fn add_at(&mut self, moment: Timestamp, subscription: u64) {
        match self.moments.get(&subscription) {
            Some(earlier) if *earlier <= moment => return,
            Some(later) => _ = self.later.remove(&(*later, subscription)),
            None => {}
        }
        self.moments.insert(subscription, moment);
        self.later.insert((moment, subscription));
    }

    /// Forgets the moment of a subscription that has ended.
    pub(crate) fn forget(&mut self, subscription: u64) {
        if let Some(moment) = self.moments.remove(&subscription) {
            self.later.remove(&(moment, subscription));
        }
    }

    /// Gives those a turn whose moment has come.
    pub(crate) fn advance(&mut self, now: impl FnOnce() -> Timestamp) {
        if self.later.is_empty() {
            return;
        }
        let now = now();
        while let Some(&(moment, subscription)) = self.later.first()
            && moment <= now
        {
            self.later.pop_first();
            self.moments.remove(&subscription);
            self.add(subscription);
        }
    }

    /// Returns whose turn it is, and takes the turn away.
    pub(crate) fn next(&mut self) -> Option<u64> {
        let subscription = self.turns.pop_front()?;
        self.listed.remove(&subscription);
        Some(subscription)
    }

    /// Returns whether somebody has a turn.
    pub(crate) fn is_due(&self, now: impl FnOnce() -> Timestamp) -> bool {
        !self.turns.is_empty() || self.next_moment().is_some_and(|moment| moment <= now())
    }

    /// Returns the next moment at which somebody gets a turn.
    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        self.later.first().map(|&(moment, _)| moment)
    }
}
