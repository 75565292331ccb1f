//! The tallies of all publishers: who publishes, and how much.

use crate::observe::Counter;
use crate::sync::{CachePadded, Mutex};
use imbl::OrdMap;
use std::sync::Arc;

/// The counts of one publisher. Written by that publisher.
#[derive(Debug, Default)]
pub(crate) struct PublisherTally {
    /// Messages that were accepted, by at least one ring or because nobody wanted them.
    pub(crate) published: Counter,
    /// Of these, the ones that matched no subscription.
    pub(crate) unrouted: Counter,
    /// Refusals by single rings of messages that went into others.
    pub(crate) refused: Counter,
}

impl PublisherTally {
    fn add(&self, other: &Self) {
        self.published.add(other.published.get());
        self.unrouted.add(other.unrouted.get());
        self.refused.add(other.refused.get());
    }
}

#[derive(Default)]
struct PublishersInner {
    present: OrdMap<u32, Arc<CachePadded<PublisherTally>>>,
    next_id: u32,
    past: PublisherTally,
}

/// All publishers of a broker.
#[derive(Default)]
pub(crate) struct Publishers(Mutex<PublishersInner>);

impl Publishers {
    /// Enters a publisher. Numbers wrap after four thousand million; those in use are skipped.
    pub(crate) fn enter(&self) -> (u32, Arc<CachePadded<PublisherTally>>) {
        let mut inner = self.0.lock();
        while inner.present.contains_key(&inner.next_id) {
            inner.next_id = inner.next_id.wrapping_add(1);
        }
        let id = inner.next_id;
        inner.next_id = inner.next_id.wrapping_add(1);
        let tally = Arc::new(CachePadded::default());
        inner.present.insert(id, Arc::clone(&tally));
        (id, tally)
    }

    pub(crate) fn leave(&self, id: u32) {
        let mut inner = self.0.lock();
        if let Some(tally) = inner.present.remove(&id) {
            inner.past.add(&tally);
        }
    }

    /// Sums up all publishers, present and past.
    pub(crate) fn total(&self) -> PublisherTally {
        let total = PublisherTally::default();
        let present = {
            let inner = self.0.lock();
            total.add(&inner.past);
            inner.present.clone()
        };
        for tally in present.values() {
            total.add(tally);
        }
        total
    }
}
