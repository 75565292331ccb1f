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
//! there: then no consumer can meet the id any more. A publisher unlinks and does not free; but one that
//! makes up topics faster than the housekeeper frees them has to help, so that what waits stays bounded.
//!
//! # Locks
//!
//! A publisher that makes up topics without end links and unlinks a route a message, and consumers look each up. So that
//! this holds nobody up, the lock that consumers take is held for a few instructions at a time, by the housekeeper too:
//! it sorts out what can be freed on a list of its own, and frees a few routes at a time.

use crate::observe::Counter;
use crate::sync::{CachePadded, Mutex, edge};
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
struct Entries {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

/// All routes of a broker. No lock is taken under another.
#[derive(Default)]
pub(crate) struct Routes {
    /// By the indices of ids. The lock that consumers take.
    linked: Mutex<Entries>,
    /// For each topic, how many routes lead from it.
    topics: Mutex<HashMap<Topic, usize, ahash::RandomState>>,
    /// What was unlinked since the housekeeper last looked.
    unlinked: Mutex<Vec<Unlinked>>,
    /// What the housekeeper has found not to be free yet.
    waiting: Mutex<Vec<Unlinked>>,
}

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
        let mut linked = self.linked.lock();
        let index = match linked.free.pop() {
            Some(index) => index,
            None if linked.entries.len() < MOST_ROUTES => {
                linked.entries.push(Entry { version: 0, route: None });
                (linked.entries.len() - 1) as u32
            }
            None => return Err(TooManyRoutes),
        };
        let entry = &mut linked.entries[index as usize];
        entry.version = entry.version.wrapping_add(1).max(1);
        let route = Arc::new(Route {
            id: RouteId { index, version: entry.version },
            topic: topic.clone(),
            destinations: destinations.into(),
            legs,
        });
        entry.route = Some(route.clone());
        drop(linked);
        *self.topics.lock().entry(topic.clone()).or_default() += 1;
        Ok(route)
    }

    /// The route of an id. A consumer that holds a message of it always finds it.
    pub(crate) fn get(&self, id: RouteId) -> Option<Arc<Route>> {
        let linked = self.linked.lock();
        linked.entries.get(id.index as usize).filter(|entry| entry.version == id.version)?.route.clone()
    }

    /// Lets a route go; `claimed` tells how far a dispatcher's ring is claimed. Returns how many there are now that the
    /// housekeeper has not looked at.
    pub(crate) fn unlink(&self, route: Arc<Route>, claimed: impl Fn(u16) -> u64) -> usize {
        let claimed = route.legs.iter().map(|leg| claimed(leg.dispatcher)).collect();
        {
            let mut topics = self.topics.lock();
            if let Some(count) = topics.get_mut(&route.topic) {
                *count -= 1;
                if *count == 0 {
                    topics.remove(&route.topic);
                }
            }
        }
        let mut unlinked = self.unlinked.lock();
        unlinked.push(Unlinked { route, claimed });
        unlinked.len()
    }

    /// The unlinked routes whose rings have been released past their unlinking; each is handed out once, to be
    /// [freed](Self::free). The housekeeper's, and those' who help it.
    pub(crate) fn take_past(&self, released: impl Fn(u16) -> u64) -> Vec<Arc<Route>> {
        let mut unlinked = std::mem::take(&mut *self.unlinked.lock());
        let mut waiting = self.waiting.lock();
        waiting.append(&mut unlinked);
        let is_past = |unlinked: &mut Unlinked| {
            let mut legs = unlinked.route.legs.iter().zip(&unlinked.claimed);
            edge::left_out("retire-when-released")
                || legs.all(|(leg, &claimed)| released(leg.dispatcher) >= claimed)
        };
        waiting.extract_if(.., is_past).map(|unlinked| unlinked.route).collect()
    }

    /// Forgets routes that no message can travel any more. Their ids may be used again.
    pub(crate) fn free(&self, routes: &[Arc<Route>]) {
        let mut linked = self.linked.lock();
        for route in routes {
            linked.entries[route.id.index as usize].route = None;
            linked.free.push(route.id.index);
        }
    }

    /// All routes that have not been freed.
    pub(crate) fn all(&self) -> Vec<Arc<Route>> {
        self.linked.lock().entries.iter().filter_map(|entry| entry.route.clone()).collect()
    }

    /// How many routes wait for their rings to drain.
    pub(crate) fn unlinked_count(&self) -> usize {
        let waiting = self.waiting.lock().len();
        waiting + self.unlinked.lock().len()
    }

    /// How many routes have not been freed.
    pub(crate) fn count(&self) -> usize {
        let linked = self.linked.lock();
        linked.entries.len() - linked.free.len()
    }

    /// How many distinct topics publishers hold.
    pub(crate) fn topic_count(&self) -> usize {
        self.topics.lock().len()
    }
}
