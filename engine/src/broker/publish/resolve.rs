//! Topics as a publisher has resolved them.

use super::error::PublishFailure;
use crate::broker::core::Core;
use crate::routing::{Destination, Destinations, Route, RouteId, RouteTarget};
use crate::topic::Topic;
use std::sync::Arc;
use std::time::Duration;

/// A publisher that finds so many routes unlinked since the reclaimer last looked does its work for
/// once.
const MAX_UNLINKED: usize = 4_096;

/// A topic, resolved in one snapshot of the routing table.
#[derive(Debug)]
pub(crate) struct ResolvedTopic {
    pub(crate) topic: Topic,
    generation: u64,
    /// `None` while nobody wants the topic.
    pub(super) route: Option<Arc<Route>>,
    /// For how long its messages live that are not told themselves. One for which there is such a time is not
    /// [`direct`](Self::direct), so that no other topic has to ask.
    pub(super) life: Option<Duration>,
    /// What a publish needs of a route that leads to one ring, at hand without going through the
    /// route: among a thousand topics each line that is not touched counts.
    pub(super) direct: Option<Direct>,
}

/// A route that leads to one ring, which must take its messages: of one that is best effort the publish has two ways to
/// succeed, and to have both at hand costs every publish.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) route: RouteId,
    pub(super) target: RouteTarget,
}

/// Returns the one ring that a route leads to, if it leads to one that must take its messages.
pub(super) fn only_target<'r, P>(core: &Core<P>, route: &'r Route) -> Option<&'r RouteTarget> {
    match &route.targets[..] {
        [target] if !core.dispatcher(target.dispatcher).is_best_effort => Some(target),
        _ => None,
    }
}

impl ResolvedTopic {
    /// A topic that is yet to be resolved.
    pub(crate) fn later(topic: Topic) -> Self {
        Self { topic, generation: 0, route: None, life: None, direct: None }
    }

    /// Whether the table is still the one that the topic was resolved in.
    #[inline(always)]
    pub(crate) fn is_current<P>(&self, core: &Core<P>) -> bool {
        core.table.generation() <= self.generation
    }

    /// Resolves the topic anew.
    #[cold]
    pub(crate) fn resolve<P>(
        &mut self,
        core: &Core<P>,
        found: &mut Vec<Destination>,
    ) -> Result<(), PublishFailure> {
        if core.is_closed() || core.refuses_this_thread() {
            // Nobody frees routes any more.
            return Err(PublishFailure::Closed);
        }
        if core.is_forked() {
            return Err(PublishFailure::Forked);
        }
        if let Some(generation) = core.table.still_holds(self.generation, &self.topic) {
            self.generation = generation;
            return Ok(());
        }
        let (generation, mut destinations) = {
            let snapshot = core.table.load();
            let destinations = Destinations::find(&snapshot.trie, self.topic.as_str(), found);
            (snapshot.generation, destinations)
        };
        // What leads where it led stays: no consumer has to learn it anew.
        let is_unchanged = match self.route.as_deref() {
            None => destinations.is_empty(),
            Some(route) => {
                destinations.share(&route.destinations);
                destinations.is_same(&route.destinations)
            }
        };
        if !is_unchanged {
            // Unlinked first, so that a publisher at the limit can go on.
            self.release(core);
            core.registry.attach(&mut destinations);
            if !destinations.is_empty() {
                let ring_of = |dispatcher| core.ring_of(dispatcher);
                self.route = match core.routes.link(&self.topic, &destinations, ring_of) {
                    Ok(route) => Some(route),
                    Err(error) => {
                        core.registry.detach(&destinations);
                        return Err(error.into());
                    }
                };
            }
        }
        self.life = core.lifetimes.of(&self.topic);
        let direct = self.route.as_deref().filter(|_| self.life.is_none());
        self.direct = direct
            .and_then(|route| Some(Direct { route: route.id, target: only_target(core, route)?.clone() }));
        self.generation = generation;
        Ok(())
    }

    /// Returns the one ring that the topic leads to, if it leads to one that must take its messages, and its route.
    pub(super) fn only_target<P>(&self, core: &Core<P>) -> Option<(RouteId, &RouteTarget)> {
        match (&self.direct, self.route.as_deref()) {
            (Some(Direct { route, target }), _) => Some((*route, target)),
            (None, Some(route)) => Some((route.id, only_target(core, route)?)),
            (None, None) => None,
        }
    }

    /// Lets the topic go: its route is freed, by the reclaimer, when its last message has been
    /// consumed.
    pub(crate) fn release<P>(&mut self, core: &Core<P>) {
        self.direct = None;
        if let Some(route) = self.route.take() {
            self.generation = 0;
            if core.routes.unlink(route, |ring| core.ring(ring).claimed()) >= MAX_UNLINKED {
                core.free_routes();
            }
            // After the help: what could not be freed was in our hand, where the reclaimer did not
            // see it.
            core.reclaim_signal.notify();
        }
    }

    /// How many subscriptions the topic reaches.
    pub(crate) fn matched(&self) -> usize {
        self.route.as_ref().map_or(0, |route| route.destinations.len())
    }
}
