//! Which queues a consumer is to look at.

use std::collections::{BTreeSet, VecDeque};

/// The subscriptions whose next message may be delivered, one after the other.
#[derive(Default)]
pub(crate) struct Schedule {
    turns: VecDeque<u64>,
    /// Those that have a turn.
    listed: BTreeSet<u64>,
}

impl Schedule {
    /// Gives a subscription a turn behind the others, unless it has one.
    pub(crate) fn add(&mut self, subscription: u64) {
        if self.listed.insert(subscription) {
            self.turns.push_back(subscription);
        }
    }

    /// Returns whose turn it is, and takes the turn away.
    pub(crate) fn next(&mut self) -> Option<u64> {
        let subscription = self.turns.pop_front()?;
        self.listed.remove(&subscription);
        Some(subscription)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}
