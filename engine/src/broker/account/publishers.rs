//! The tallies of all publishers: who publishes, and how much.

use crate::observe::Counter;
use crate::sync::{CachePadded, Mutex};
use imbl::OrdMap;
use std::sync::Arc;

/// The counts of one publisher. Written by that publisher.
#[derive(Debug, Default)]
pub(crate) struct PublisherTally {
    /// Messages that were published: a ring has accepted them, or none had to.
    pub(crate) published: Counter,
    /// Of these, the ones that matched no subscription.
    pub(crate) unrouted: Counter,
    /// Of a publisher that has a cache of topics.
    pub(crate) cache: Option<CacheTally>,
}

/// What came of the looks into a cache of topics. Counted where a topic was not found: a hit, which
/// is the hot path, counts nothing of its own.
#[derive(Debug, Default)]
pub(crate) struct CacheTally {
    /// Topics that were not found.
    pub(crate) misses: Counter,
    /// Messages that were published to them, each by the look that did not find its topic. All
    /// others that the publisher has published are hits.
    pub(crate) published: Counter,
}

impl PublisherTally {
    /// The tally of a publisher that has a cache of topics.
    pub(crate) fn with_cache() -> Self {
        Self { cache: Some(CacheTally::default()), ..Self::default() }
    }
}

/// The counts of many publishers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PublisherTotals {
    pub(crate) published: u64,
    pub(crate) unrouted: u64,
    /// Messages that were published to topics which were found in a cache.
    pub(crate) cache_hits: u64,
    /// Topics that were not found in a cache.
    pub(crate) cache_misses: u64,
}

impl PublisherTotals {
    fn add(&mut self, tally: &PublisherTally) {
        let published = tally.published.get();
        self.published += published;
        self.unrouted += tally.unrouted.get();
        if let Some(cache) = &tally.cache {
            // A publisher that goes on meanwhile may be ahead with either.
            self.cache_hits += published.saturating_sub(cache.published.get());
            self.cache_misses += cache.misses.get();
        }
    }
}

#[derive(Default)]
struct PublishersInner {
    present: OrdMap<u32, Arc<CachePadded<PublisherTally>>>,
    next_id: u32,
    past: PublisherTotals,
}

/// All publishers of a broker.
#[derive(Default)]
pub(crate) struct Publishers(Mutex<PublishersInner>);

impl Publishers {
    /// Enters a publisher. Numbers wrap after four thousand million; those in use are skipped.
    pub(crate) fn enter(&self, tally: PublisherTally) -> (u32, Arc<CachePadded<PublisherTally>>) {
        let mut inner = self.0.lock();
        while inner.present.contains_key(&inner.next_id) {
            inner.next_id = inner.next_id.wrapping_add(1);
        }
        let id = inner.next_id;
        inner.next_id = inner.next_id.wrapping_add(1);
        let tally = Arc::new(CachePadded::new(tally));
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
    pub(crate) fn total(&self) -> PublisherTotals {
        let (mut total, present) = {
            let inner = self.0.lock();
            (inner.past, inner.present.clone())
        };
        for tally in present.values() {
            total.add(tally);
        }
        total
    }
}
