//! The subscriptions that a consumer owns: their handlers, and which of them each route leads to.

use super::mailbox::OwnedSubscription;
use super::route_cache::{CachedRoute, RouteCache};
use crate::broker::subscribe::registry::{Reason, Registry};
use crate::routing::{ConsumerAddr, Route, RouteId};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// What a consumer owns. Subscriptions are kept in places, which routes lead to.
pub(super) struct Owned<P> {
    route_cache: RouteCache,
    places: Vec<Option<OwnedSubscription<P>>>,
    free: Vec<u32>,
    by_subscription: HashMap<u64, u32, ahash::RandomState>,
}

impl<P> Default for Owned<P> {
    fn default() -> Self {
        Self {
            route_cache: RouteCache::default(),
            places: Vec::new(),
            free: Vec::new(),
            by_subscription: HashMap::default(),
        }
    }
}

impl<P> Owned<P> {
    /// Returns whether it is known where a route leads.
    #[inline(always)]
    pub(super) fn knows(&self, route: RouteId) -> bool {
        self.route_cache.is_cached(route)
    }

    /// Returns where a route leads, and all subscriptions by their places.
    #[inline(always)]
    pub(super) fn on_route(
        &mut self,
        route: RouteId,
    ) -> Option<(&CachedRoute, &mut Vec<Option<OwnedSubscription<P>>>)> {
        let Self { route_cache, places, .. } = self;
        Some((route_cache.get(route.index)?, places))
    }

    /// Notes where a route leads among the subscriptions of this consumer. One that has been released already comes
    /// back without its handler, so that what is dropped for it is counted.
    pub(super) fn learn(
        &mut self,
        id: RouteId,
        route: Arc<Route>,
        consumer: ConsumerAddr,
        registry: &Registry,
    ) {
        let subscriptions: SmallVec<[u64; 8]> = route.destinations.of(consumer).collect();
        let mut deliveries = SmallVec::new();
        for subscription in subscriptions {
            let known = self.by_subscription.get(&subscription).copied();
            let place = known.or_else(|| {
                let state = registry.find(subscription)?;
                Some(self.insert(OwnedSubscription { state, handler: None, routes: 0 }))
            });
            if let Some(place) = place {
                if let Some(Some(owned)) = self.places.get_mut(place as usize) {
                    owned.routes += 1;
                }
                deliveries.push(place);
            }
        }
        self.route_cache.insert(id, CachedRoute::new(id, route, deliveries));
    }

    /// Forgets the route of that index, which no message carries any more.
    pub(super) fn forget(&mut self, index: u32) {
        let Some(cached) = self.route_cache.remove(index) else { return };
        for place in cached.deliveries {
            if let Some(Some(owned)) = self.places.get_mut(place as usize) {
                owned.routes -= 1;
            }
            self.discard_if_unused(place);
        }
    }

    /// Owns a subscription from now on. Returns its place.
    pub(super) fn insert(&mut self, owned: OwnedSubscription<P>) -> u32 {
        let subscription = owned.state.id;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        self.places[place as usize] = Some(owned);
        self.by_subscription.insert(subscription, place);
        place
    }

    /// Returns a subscription, if it is one of this consumer's.
    pub(super) fn get(&mut self, subscription: u64) -> Option<&mut OwnedSubscription<P>> {
        let place = *self.by_subscription.get(&subscription)?;
        self.places.get_mut(place as usize)?.as_mut()
    }

    /// Returns all of them.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut OwnedSubscription<P>> {
        self.places.iter_mut().flatten()
    }

    /// Lets go of a subscription that has no handler any more, as soon as no route leads to it.
    pub(super) fn discard(&mut self, subscription: u64) {
        if let Some(&place) = self.by_subscription.get(&subscription) {
            self.discard_if_unused(place);
        }
    }

    fn discard_if_unused(&mut self, place: u32) {
        let slot = &mut self.places[place as usize];
        if let Some(owned) = slot
            && owned.handler.is_none()
            && owned.routes == 0
            && !owned.state.waits_for(Reason::Away)
        {
            self.by_subscription.remove(&owned.state.id);
            *slot = None;
            self.free.push(place);
        }
    }
}
