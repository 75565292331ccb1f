//! Routes: what a topic resolves to in one snapshot, as one publisher holds it.
//!
//! A message carries only the [`RouteId`] of its route. The publisher that resolved the topic holds
//! the [`Route`] and counts on it; consumers look ids up here the first time they meet them and
//! keep what they learn. An id is an index and a version, so that an index can be used again.
//!
//! # Retirement
//!
//! A route is *unlinked* when its publisher lets it go: the topic was resolved anew, it fell out of
//! the publisher's cache, or the publisher is gone. Messages that carry its id may still be in
//! rings then. The unlinking notes how far each ring that accepted any was claimed, and the route
//! is freed once all of these have been released up to there: then no consumer can meet the id any
//! more. A ring that accepted none is not waited for: what a full ring refuses leaves no route
//! behind. A publisher unlinks and does not free, which is the reclaimer's work; but one that makes
//! up topics faster than the reclaimer frees them helps with it, so that what waits without need
//! stays bounded.
//!
//! A consumer that is stuck keeps its ring's routes waiting, up to a million of them. Nobody looks
//! through those for what can be freed: a route waits for its rings one after the other, each time
//! in a map of that ring's, in order of how far the ring has to be released. A look at each map's
//! first tells that there is nothing; what there is costs the logarithm of the map's size for each
//! route and ring. (A queue in order of arrival would do without the logarithm; but a route that
//! comes from another ring's would wait for all that overtook it meanwhile.)
//!
//! # Locks
//!
//! A publisher that makes up topics without end links and unlinks a route a message, and consumers
//! look each up. So that this holds nobody up, the lock that consumers take is held for a few
//! instructions at a time, by others too: what can be freed is found on lists of their own, and
//! routes are freed, and listed for an audit, a few at a time. Whoever helps frees about as many
//! routes as have been unlinked since the last help, which is a constant for each.

use super::address::RingId;
use super::destinations::Destinations;
use crate::observe::Counter;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{CachePadded, Mutex, edge};
use crate::topic::Topic;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::sync::Arc;

/// The most routes a broker holds at once. A route takes some 300 bytes.
pub const MAX_ROUTES: usize = 1 << 20;

/// So many waiting routes are taken to be freed at a time. Not fewer than are unlinked before a
/// publisher helps, or what waits would grow.
const MAX_TAKEN: usize = 4_096;

/// So many routes are listed, or freed, under one hold of the lock that consumers take.
const MAX_PER_LOCK: usize = 64;

/// Which route a message travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteId {
    pub(crate) index: u32,
    /// From 1: version 0 is nobody's.
    pub(crate) version: u32,
}

/// One ring that a route's messages go into.
#[derive(Clone, Debug)]
pub(crate) struct RouteTarget {
    pub(crate) ring: RingId,
    /// The dispatcher whose consumers read the ring.
    pub(crate) dispatcher: u16,
    pub(crate) tally: Arc<CachePadded<TargetTally>>,
}

/// What one ring has done with a route's messages. Written by the route's publisher.
#[derive(Debug, Default)]
pub(crate) struct TargetTally {
    /// Messages that the ring accepted.
    pub(crate) accepted: Counter,
    /// Messages that it had no room for.
    pub(crate) refused: Counter,
}

impl TargetTally {
    /// Returns the counts of this moment.
    pub(crate) fn read(&self) -> TargetCounts {
        TargetCounts { accepted: self.accepted.get(), refused: self.refused.get() }
    }
}

/// The counts of a [`TargetTally`], or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetCounts {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

impl AddAssign for TargetCounts {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
    }
}

impl RouteTarget {
    /// Returns whether the ring has accepted any message of the route. For the route's publisher,
    /// and for all once that has unlinked it.
    pub(crate) fn has_accepted(&self) -> bool {
        self.tally.accepted.get() > 0
    }
}

/// What a topic resolves to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    pub(crate) topic: Topic,
    pub(crate) destinations: Destinations,
    /// Every ring that leads to destinations once, in order of dispatcher.
    pub(crate) targets: SmallVec<[RouteTarget; 1]>,
    /// The step of the registry in which what it has carried was handed on to its destinations; 0
    /// before that.
    handed_on: AtomicU64,
}

impl Route {
    /// Returns what the rings of a dispatcher have done with the route's messages.
    pub(crate) fn counts(&self, dispatcher: u16) -> TargetCounts {
        let mut counts = TargetCounts::default();
        for target in self.targets.iter().filter(|target| target.dispatcher == dispatcher) {
            counts += target.tally.read();
        }
        counts
    }

    /// Says that what the route has carried is counted elsewhere from that step of the registry on.
    /// Under the registry's lock.
    pub(crate) fn hand_on(&self, step: u64) {
        self.handed_on.store(step, Ordering::Relaxed);
    }

    /// Returns whether what the route has carried was counted elsewhere in that step of the
    /// registry already. For those who have held the registry's lock in that step or later.
    pub(crate) fn was_handed_on(&self, step: u64) -> bool {
        (1..=step).contains(&self.handed_on.load(Ordering::Relaxed))
    }
}

/// A route that its publisher has let go.
struct Unlinked {
    route: Arc<Route>,
    /// For each of the first targets, how far its ring has to be released; those of the others have
    /// been. It waits for the last.
    marks: SmallVec<[u64; 1]>,
}

impl Unlinked {
    /// Returns the ring that it waits for, and how far that has to be
    /// released. Strikes off those that have been.
    fn waits_for(&mut self, released: impl Fn(RingId) -> u64) -> Option<(RingId, u64)> {
        while let Some(&mark) = self.marks.last() {
            let ring = self.route.targets[self.marks.len() - 1].ring;
            if released(ring) < mark && !edge::left_out("retire-when-released") {
                return Some((ring, mark));
            }
            self.marks.pop();
        }
        None
    }
}

/// The routes that wait for one ring, by how far it has to be released, and their indices.
type Waiting = BTreeMap<(u64, u32), Unlinked>;

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
pub(crate) struct Routes {
    /// How many there may be.
    limit: usize,
    /// By the indices of ids. The lock that consumers take.
    linked: Mutex<Entries>,
    /// For each topic, how many routes lead from it.
    topics: Mutex<HashMap<Topic, usize, ahash::RandomState>>,
    /// What was unlinked since the reclaimer, or a publisher that helps, last looked.
    unlinked: Mutex<Vec<Unlinked>>,
    /// What they found not to be free yet, by the ring that it waits for.
    waiting: Mutex<BTreeMap<RingId, Waiting>>,
}

/// There are too many routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the broker holds {MAX_ROUTES} routes, the most it may; use fewer publishers or smaller topic caches"
)]
pub struct TooManyRoutes;

impl Default for Routes {
    fn default() -> Self {
        Self::with_limit(MAX_ROUTES)
    }
}

impl Routes {
    /// Creates a list for so many routes.
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            linked: Mutex::default(),
            topics: Mutex::default(),
            unlinked: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Makes a route for a topic and its destinations, which are sorted and distinct. `ring_of`
    /// tells which ring leads to a dispatcher's consumers.
    pub(crate) fn link(
        &self,
        topic: &Topic,
        destinations: &Destinations,
        ring_of: impl Fn(u16) -> RingId,
    ) -> Result<Arc<Route>, TooManyRoutes> {
        let targets = destinations
            .dispatchers()
            .into_iter()
            .map(|dispatcher| RouteTarget { ring: ring_of(dispatcher), dispatcher, tally: Arc::default() })
            .collect();
        let mut linked = self.linked.lock();
        let index = match linked.free.pop() {
            Some(index) => index,
            None if linked.entries.len() < self.limit => {
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
            destinations: destinations.clone(),
            targets,
            handed_on: AtomicU64::new(0),
        });
        entry.route = Some(route.clone());
        drop(linked);
        *self.topics.lock().entry(topic.clone()).or_default() += 1;
        Ok(route)
    }

    /// Returns the route of an id. A consumer that holds a message of it always finds it.
    pub(crate) fn get(&self, id: RouteId) -> Option<Arc<Route>> {
        let linked = self.linked.lock();
        linked.entries.get(id.index as usize).filter(|entry| entry.version == id.version)?.route.clone()
    }

    /// Lets a route go; `claimed` tells how far a ring is claimed. Returns how many
    /// there are now that nobody has looked at.
    pub(crate) fn unlink(&self, route: Arc<Route>, claimed: impl Fn(RingId) -> u64) -> usize {
        let mark = |target: &RouteTarget| if target.has_accepted() { claimed(target.ring) } else { 0 };
        let marks = route.targets.iter().map(mark).collect();
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
        unlinked.push(Unlinked { route, marks });
        unlinked.len()
    }

    /// Returns unlinked routes whose rings have been released past their unlinking; each is handed
    /// out once, to be [freed](Self::free). None only if there are none, but not all at a time.
    pub(crate) fn take_past(&self, released: impl Fn(RingId) -> u64) -> Vec<Arc<Route>> {
        let mut looked_at = std::mem::take(&mut *self.unlinked.lock());
        loop {
            let most = looked_at.len() + MAX_TAKEN;
            let mut waiting = self.waiting.lock();
            for (&ring, routes) in waiting.iter_mut() {
                let released = routes.extract_if(..=(released(ring), u32::MAX), |_, _| true);
                looked_at.extend(released.take(most - looked_at.len()).map(|(_, unlinked)| unlinked));
            }
            if looked_at.is_empty() {
                return Vec::new();
            }
            let mut past = Vec::new();
            for mut unlinked in looked_at.drain(..) {
                match unlinked.waits_for(&released) {
                    None => past.push(unlinked.route),
                    Some((ring, mark)) => {
                        let key = (mark, unlinked.route.id.index);
                        waiting.entry(ring).or_default().insert(key, unlinked);
                    }
                }
            }
            if !past.is_empty() {
                return past;
            }
        }
    }

    /// Forgets routes that no message can travel any more. Their ids may be used again.
    pub(crate) fn free(&self, routes: &[Arc<Route>]) {
        for routes in routes.chunks(MAX_PER_LOCK) {
            let mut linked = self.linked.lock();
            for route in routes {
                linked.entries[route.id.index as usize].route = None;
                linked.free.push(route.id.index);
            }
        }
    }

    /// Returns all routes that are there from the first to the last call of the iterator, and
    /// perhaps some that are not.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Route>> {
        let some = |from| {
            let linked = self.linked.lock();
            let some = linked.entries.get(from..)?.iter().take(MAX_PER_LOCK);
            Some(some.filter_map(|entry| entry.route.clone()).collect::<Vec<_>>())
        };
        (0..MAX_ROUTES).step_by(MAX_PER_LOCK).map_while(some).flatten()
    }

    /// Returns how many routes wait for their rings to drain.
    pub(crate) fn unlinked_count(&self) -> usize {
        let waiting: usize = self.waiting.lock().values().map(BTreeMap::len).sum();
        waiting + self.unlinked.lock().len()
    }

    /// Returns how many routes have not been freed.
    pub(crate) fn count(&self) -> usize {
        let linked = self.linked.lock();
        linked.entries.len() - linked.free.len()
    }

    /// Returns how many distinct topics publishers hold.
    pub(crate) fn topic_count(&self) -> usize {
        self.topics.lock().len()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::routing::{ConsumerAddr, Destination};
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;

    /// Links a route to a subscription on each of the dispatchers, which have been brought so many
    /// messages by it.
    fn link(routes: &Routes, targets: &[(u16, u64)]) -> Arc<Route> {
        let consumer = |dispatcher| ConsumerAddr { dispatcher, number: 0 };
        let to =
            |&(dispatcher, _): &(u16, u64)| Destination { consumer: consumer(dispatcher), subscription: 0 };
        let destinations: Vec<_> = targets.iter().map(to).collect();
        let topic = Topic::new("a").unwrap();
        let route = routes.link(&topic, &Destinations::new(&destinations), RingId::new).unwrap();
        for (target, (_, accepted)) in route.targets.iter().zip(targets) {
            target.tally.accepted.add(*accepted);
        }
        route
    }

    #[test]
    fn a_stuck_ring_is_not_searched_for_routes_to_free() {
        let routes = Routes::default();
        let looks = Cell::new(0);
        let released = |_| {
            looks.set(looks.get() + 1);
            7
        };
        for n in 0..10_000 {
            routes.unlink(link(&routes, &[(0, 1)]), |_| 8 + n);
        }
        assert!(routes.take_past(released).is_empty());
        looks.set(0);
        assert!(routes.take_past(released).is_empty());
        assert!(looks.get() <= 1, "{} looks at the ring", looks.get());
        assert_eq!(routes.unlinked_count(), 10_000);
    }

    #[test]
    fn an_index_that_is_used_again_has_another_version() {
        let routes = Routes::default();
        let mut ids = BTreeSet::new();
        for _ in 0..10 {
            let route = link(&routes, &[(0, 0)]);
            assert!(ids.insert((route.id.index, route.id.version)), "{ids:?}");
            routes.unlink(route, |_| 0);
            routes.free(&routes.take_past(|_| 0));
        }
        assert_eq!(routes.count(), 0);
    }

    #[test]
    fn a_topic_is_counted_as_long_as_a_route_bears_it() {
        let routes = Routes::default();
        let [one, other] = [(); 2].map(|()| link(&routes, &[(0, 0)]));
        for (route, left) in [(one, 1), (other, 0)] {
            routes.unlink(route, |_| 0);
            assert_eq!(routes.topic_count(), left);
        }
    }

    #[test]
    fn a_ring_that_accepted_nothing_by_a_route_is_not_waited_for() {
        let routes = Routes::default();
        routes.unlink(link(&routes, &[(0, 0), (1, 1)]), |_| 8);
        let is_free = |released: [u64; 2]| !routes.take_past(|ring| released[ring.index()]).is_empty();
        assert!(!is_free([8, 7]));
        assert!(is_free([0, 8]));
    }

    #[test]
    fn all_routes_are_listed_without_the_lock() {
        let routes = Routes::default();
        let linked: Vec<_> = (0..3 * MAX_PER_LOCK).map(|_| link(&routes, &[(0, 0)])).collect();
        routes.free(&linked[5..7]);
        let is_there = |route: Arc<Route>| routes.get(route.id).map(|route| route.id.index);
        let listed: Vec<_> = routes.all().map(is_there).collect();
        let expected: Vec<_> = linked
            .iter()
            .map(|route| Some(route.id.index))
            .filter(|index| !matches!(index, Some(5 | 6)))
            .collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn no_more_routes_are_linked_than_there_may_be() {
        let routes = Routes::with_limit(2);
        let topic = Topic::new("a").unwrap();
        let link = || routes.link(&topic, &Destinations::new(&[]), RingId::new);
        let (first, _second) = (link().unwrap(), link().unwrap());
        assert_eq!(link().unwrap_err(), TooManyRoutes);
        assert_eq!((routes.count(), routes.topic_count()), (2, 1));
        // Not before it is freed: messages may still carry its id.
        routes.unlink(first, |_| 0);
        assert_eq!(link().unwrap_err(), TooManyRoutes);
        routes.free(&routes.take_past(|_| 0));
        assert_eq!(link().unwrap().id, RouteId { index: 0, version: 2 });
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A route to some dispatchers is unlinked, each ring being claimed so far beyond its
        /// release.
        Unlink(Vec<(u16, u64, u64)>),
        /// A dispatcher's ring is released so much further.
        Release(u16, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let target = (0_u64..2, 0_u64..10).prop_map(Some);
        let targets = prop::collection::vec(prop_oneof![target, Just(None)], 4).prop_map(|targets| {
            let targets = targets.into_iter().zip(0..).filter_map(|(target, dispatcher)| {
                let (accepted, ahead) = target?;
                Some((dispatcher, accepted, ahead))
            });
            Step::Unlink(targets.collect())
        });
        let release = (0_u16..4, 1_u64..5).prop_map(|(dispatcher, by)| Step::Release(dispatcher, by));
        prop::collection::vec(prop_oneof![targets, release], 0..200)
    }

    proptest! {
        /// However the marks of late publishers stand to each other.
        #[test]
        fn a_route_is_handed_out_once_and_as_soon_as_its_rings_are_past(steps in steps()) {
            let routes = Routes::default();
            let mut released = [0; 4];
            let mut waiting: Vec<(u32, Vec<(u16, u64)>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Unlink(targets) => {
                        let accepted: Vec<_> = targets.iter().map(|&(to, accepted, _)| (to, accepted)).collect();
                        let marks: Vec<_> =
                            targets.iter().map(|&(to, _, ahead)| (to, released[usize::from(to)] + ahead)).collect();
                        let route = link(&routes, &accepted);
                        let index = route.id.index;
                        routes.unlink(route, |of| marks.iter().find(|(to, _)| RingId::new(*to) == of).unwrap().1);
                        let awaited = marks.into_iter().zip(accepted).filter(|(_, (_, accepted))| *accepted > 0);
                        waiting.push((index, awaited.map(|(mark, _)| mark).collect()));
                    }
                    Step::Release(dispatcher, by) => released[usize::from(dispatcher)] += by,
                }
                let is_past = |(_, marks): &mut (u32, Vec<(u16, u64)>)| {
                    marks.iter().all(|&(to, mark)| released[usize::from(to)] >= mark)
                };
                let expected: BTreeSet<u32> = waiting.extract_if(.., is_past).map(|(index, _)| index).collect();
                let past = routes.take_past(|ring| released[ring.index()]);
                prop_assert_eq!(past.iter().map(|route| route.id.index).collect::<BTreeSet<_>>(), expected);
                routes.free(&past);
                prop_assert_eq!(routes.unlinked_count(), waiting.len());
                prop_assert_eq!(routes.count(), waiting.len());
            }
        }
    }
}
