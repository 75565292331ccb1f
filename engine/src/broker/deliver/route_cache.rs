//! A consumer's cache of routes: to which of its own subscriptions each leads.

use crate::routing::{Route, RouteId};
use smallvec::SmallVec;
use std::sync::Arc;

/// A route as one consumer has looked it up.
pub(super) struct CachedRoute {
    /// That of the route's id, at hand without going through the route.
    version: u32,
    pub(super) route: Arc<Route>,
    /// Places in the handler table, in ascending order of subscription.
    pub(super) deliveries: SmallVec<[u32; 4]>,
}

impl CachedRoute {
    pub(super) fn new(id: RouteId, route: Arc<Route>, deliveries: SmallVec<[u32; 4]>) -> Self {
        Self { version: id.version, route, deliveries }
    }
}

/// The routes that a consumer has met and that have not been freed, by the index of their ids.
#[derive(Default)]
pub(super) struct RouteCache(Vec<Option<CachedRoute>>);

impl RouteCache {
    #[inline(always)]
    pub(super) fn is_cached(&self, id: RouteId) -> bool {
        matches!(self.get(id.index), Some(cached) if cached.version == id.version)
    }

    #[inline(always)]
    pub(super) fn get(&self, index: u32) -> Option<&CachedRoute> {
        self.0.get(index as usize)?.as_ref()
    }

    pub(super) fn insert(&mut self, id: RouteId, route: CachedRoute) {
        let index = id.index as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(route);
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<CachedRoute> {
        self.0.get_mut(index as usize)?.take()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::routing::{Destinations, RingId, Routes};
    use crate::topic::Topic;

    #[test]
    fn a_route_is_not_taken_for_another_that_had_its_index_before() {
        let routes = Routes::default();
        let route = routes.link(&Topic::new("a").unwrap(), &Destinations::new(&[]), RingId::new).unwrap();
        let (now, mut next, mut cache) = (route.id, route.id, RouteCache::default());
        next.version += 1;
        assert!(!cache.is_cached(now));
        cache.insert(now, CachedRoute::new(now, route, SmallVec::new()));
        assert!(cache.is_cached(now) && !cache.is_cached(next));
    }
}
