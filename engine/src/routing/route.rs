//! Routes: what a topic resolves to in one snapshot, as one publisher holds it.
//!
//! A message carries only the [`RouteId`] of its route. The publisher that resolved the topic holds the [`Route`] and
//! counts on it; consumers look ids up here the first time they meet them and keep what they learn. An id is an index
//! and a version, so that an index can be used again.
//!
//! # Retirement
//!
//! A route is *unlinked* when its publisher lets it go: the topic was resolved anew, it fell out of the publisher's cache,
//! or the publisher is gone. Messages that carry its id may still be in rings then. The unlinking notes how far each of
//! the rings was claimed, and the route is freed, by the housekeeper, once all of them have been released up to
//! there: then no consumer can meet the id any more. A publisher unlinks but never frees.

use crate::observe::Counter;
use crate::sync::{CachePadded, Mutex};
use crate::topic::Topic;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// The most routes a broker holds at once. A route takes some 300 bytes.
pub const MOST_ROUTES: usize = 1 << 20;

/// Which route a message travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteId {
    pub(crate) index: u32,
    /// From 1: version 0 is nobody's.
    pub(crate) version: u32,
}

/// A subscription as the routing table knows it: who it is, and which consumer owns its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The dispatcher's number.
    pub dispatcher: u16,
    /// The consumer's number in that dispatcher.
    pub consumer: u16,
    /// The subscription's number, never used again.
    pub subscription: u64,
}

/// One ring that a route's messages go into.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) dispatcher: u16,
    /// Messages that the ring accepted. Written by the route's publisher.
    pub(crate) accepted: Arc<CachePadded<Counter>>,
}

/// What a topic resolves to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    pub(crate) topic: Topic,
    /// Every matching subscription once, in order of dispatcher and consumer.
    pub(crate) destinations: SmallVec<[Destination; 4]>,
    /// Every dispatcher of the destinations once.
    pub(crate) legs: SmallVec<[Leg; 1]>,
}

/// A route that its publisher has let go.
struct Unlinked {
    route: Arc<Route>,
    /// For each leg, how far its ring was claimed when the route was unlinked.
    claimed: SmallVec<[u64; 1]>,
}

struct Entry {
    version: u32,
    route: Option<Arc<Route>>,
}

#[derive(Default)]
struct Inner {
    entries: Vec<Entry>,
    free: Vec<u32>,
    unlinked: Vec<Unlinked>,
    /// For each topic, how many routes lead from it.
    topics: HashMap<Topic, usize, ahash::RandomState>,
}

/// All routes of a broker.
#[derive(Default)]
pub(crate) struct Routes(Mutex<Inner>);

/// There are too many routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the broker holds {MOST_ROUTES} routes, the most it may; use fewer publishers or smaller topic caches"
)]
pub struct TooManyRoutes;

impl Routes {
    /// Makes a route for a topic and its destinations, which are sorted and distinct.
    pub(crate) fn link(
        &self,
        topic: &Topic,
        destinations: &[Destination],
    ) -> Result<Arc<Route>, TooManyRoutes> {
        let legs = destinations
            .chunk_by(|a, b| a.dispatcher == b.dispatcher)
            .map(|same| Leg { dispatcher: same[0].dispatcher, accepted: Arc::default() })
            .collect();
        let mut inner = self.0.lock();
        let index = match inner.free.pop() {
            Some(index) => index,
            None if inner.entries.len() < MOST_ROUTES => {
                inner.entries.push(Entry { version: 0, route: None });
                (inner.entries.len() - 1) as u32
            }
            None => return Err(TooManyRoutes),
        };
        *inner.topics.entry(topic.clone()).or_default() += 1;
        let entry = &mut inner.entries[index as usize];
        entry.version = entry.version.wrapping_add(1).max(1);
        let route = Arc::new(Route {
            id: RouteId { index, version: entry.version },
            topic: topic.clone(),
            destinations: destinations.into(),
            legs,
        });
        entry.route = Some(route.clone());
        Ok(route)
    }

    /// The route of an id. A consumer that holds a message of it always finds it.
    pub(crate) fn get(&self, id: RouteId) -> Option<Arc<Route>> {
        let inner = self.0.lock();
        inner.entries.get(id.index as usize).filter(|entry| entry.version == id.version)?.route.clone()
    }

    /// Lets a route go; `claimed` tells how far a dispatcher's ring is claimed.
    pub(crate) fn unlink(&self, route: Arc<Route>, claimed: impl Fn(u16) -> u64) {
        let claimed = route.legs.iter().map(|leg| claimed(leg.dispatcher)).collect();
        let mut inner = self.0.lock();
        if let Some(count) = inner.topics.get_mut(&route.topic) {
            *count -= 1;
            if *count == 0 {
                inner.topics.remove(&route.topic);
            }
        }
        inner.unlinked.push(Unlinked { route, claimed });
    }

    /// Takes out the unlinked routes whose rings have been released past their unlinking. Their ids may be used again.
    pub(crate) fn sweep(&self, released: impl Fn(u16) -> u64) -> Vec<Arc<Route>> {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let mut swept = Vec::new();
        inner.unlinked.retain_mut(|unlinked| {
            let is_past = unlinked
                .route
                .legs
                .iter()
                .zip(&unlinked.claimed)
                .all(|(leg, &at)| released(leg.dispatcher) >= at);
            if is_past {
                let index = unlinked.route.id.index;
                inner.entries[index as usize].route = None;
                inner.free.push(index);
                swept.push(unlinked.route.clone());
            }
            !is_past
        });
        swept
    }

    /// All routes that have not been swept.
    pub(crate) fn all(&self) -> Vec<Arc<Route>> {
        self.0.lock().entries.iter().filter_map(|entry| entry.route.clone()).collect()
    }

    /// How many routes wait for their rings to drain.
    pub(crate) fn unlinked_count(&self) -> usize {
        self.0.lock().unlinked.len()
    }

    /// How many routes have not been swept.
    pub(crate) fn count(&self) -> usize {
        let inner = self.0.lock();
        inner.entries.len() - inner.free.len()
    }

    /// How many distinct topics publishers hold.
    pub(crate) fn topic_count(&self) -> usize {
        self.0.lock().topics.len()
    }
}
