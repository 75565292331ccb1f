//! All subscriptions: their names, their tallies, and what is left of those that have gone.
//!
//! # Snapshots
//!
//! There may be a million subscriptions. Listing or auditing them must hold up neither subscribers
//! nor the publishers and consumers that look subscriptions up. So the entries are a persistent
//! map. A reader copies a pointer under the lock, and reads the snapshot without it. A writer
//! copies the few nodes that it changes while a snapshot shares them.
//!
//! # The audit
//!
//! A linked route holds the count of what it has carried; once it is freed, its subscriptions do.
//! The count is handed on in one step under the registry's lock, before the route's id can be used
//! again. An audit lists the routes first, a few at a time, and then takes a snapshot of the
//! registry. A route that it did not find was handed on before the snapshot; one that it found may
//! have been. The snapshot has a number, and so has the step in which a route was handed on: an
//! audit that compares them counts everything once, whatever is freed meanwhile.

use crate::broker::account::ledger::SubscriptionLedger;
use crate::broker::account::tally::Tally;
use crate::broker::account::term::Term;
use crate::broker::error::SubscribeError;
use crate::broker::id::SubscriptionId;
use crate::routing::{ConsumerAddr, Destination, Route, Routes};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{CachePadded, Mutex};
use crate::topic::Pattern;
use imbl::OrdMap;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The most subscriptions a broker has at once.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 1 << 20;

/// The most destinations of freed routes under one hold of the lock, so that nobody waits long for
/// it.
const MAX_PER_LOCK: usize = 64;

/// A subscription as all but its consumer know it.
#[derive(Debug)]
pub(crate) struct SubscriptionState {
    pub(crate) id: u64,
    pub(crate) name: Box<str>,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) destination: Destination,
    /// Written by the subscription's consumer.
    pub(crate) tally: CachePadded<Tally>,
    has_ended: AtomicBool,
}

impl SubscriptionState {
    /// Returns whether the subscription has ended. A hint that saves calls: the consumer's mailbox
    /// decides.
    #[inline(always)]
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Entry {
    state: Arc<SubscriptionState>,
    /// Routes that lead here and have not been freed.
    routes: usize,
    /// Messages that came by routes that have been freed since.
    routed_before: u64,
}

/// All subscriptions at one moment.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// By their numbers, which ascend with time.
    entries: OrdMap<u64, Entry>,
    /// The sum of those that have ended and to which no route leads any more.
    past: SubscriptionLedger,
    /// How many times routes have been freed.
    step: u64,
}

impl Snapshot {
    /// Lists the subscriptions that exist, by number.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<SubscriptionState>> {
        self.entries.values().map(|entry| &entry.state).filter(|state| !state.has_ended())
    }

    fn detach(&mut self, id: u64, carried: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.routes -= 1;
            entry.routed_before += carried;
        }
        self.discard_if_past(id);
    }

    fn discard_if_past(&mut self, id: u64) {
        if let Some(Entry { state, routes: 0, routed_before }) = self.entries.get(&id)
            && state.has_ended()
        {
            let mut account = SubscriptionLedger::settled(&state.tally);
            account.routed = *routed_before;
            self.past.add(&account);
            self.entries.remove(&id);
        }
    }
}

#[derive(Default)]
struct Inner {
    now: Snapshot,
    /// Of those that exist. A tree, since it grows without a pause.
    names: BTreeSet<Box<str>>,
    next_id: u64,
}

/// All subscriptions of a broker.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Inner>);

impl Registry {
    /// Enters a subscription. Without a name it is called after its number.
    pub(crate) fn enter(
        &self,
        name: Option<&str>,
        patterns: Vec<Pattern>,
        consumer: ConsumerAddr,
    ) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let mut inner = self.0.lock();
        if inner.now.entries.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::TooMany { limit: MAX_SUBSCRIPTIONS });
        }
        let name: Box<str> = match name {
            Some(name) if inner.names.contains(name) => {
                return Err(SubscribeError::NameTaken { name: name.into() });
            }
            Some(name) => name.into(),
            None => loop {
                let name = format!("subscription-{}", inner.next_id).into_boxed_str();
                if !inner.names.contains(&name) {
                    break name;
                }
                // Somebody has chosen that very name.
                inner.next_id += 1;
            },
        };
        let id = inner.next_id;
        inner.next_id += 1;
        inner.names.insert(name.clone());
        let state = Arc::new(SubscriptionState {
            id,
            name,
            patterns,
            destination: Destination { consumer, subscription: id },
            tally: CachePadded::default(),
            has_ended: AtomicBool::new(false),
        });
        inner.now.entries.insert(id, Entry { state: state.clone(), routes: 0, routed_before: 0 });
        Ok(state)
    }

    /// Says that a subscription has ended: no further route will lead to it, and its name is free.
    pub(crate) fn end(&self, id: u64) {
        let mut inner = self.0.lock();
        let Inner { now, names, .. } = &mut *inner;
        if let Some(Entry { state, .. }) = now.entries.get(&id) {
            state.has_ended.store(true, Ordering::Relaxed);
            names.remove(&state.name);
        }
        now.discard_if_past(id);
    }

    /// Strikes those that have ended off a list of destinations, and counts a route for each that
    /// stays.
    pub(crate) fn attach(&self, destinations: &mut Vec<Destination>) {
        let mut inner = self.0.lock();
        destinations.retain(|to| match inner.now.entries.get_mut(&to.subscription) {
            Some(entry) if !entry.state.has_ended() => {
                entry.routes += 1;
                true
            }
            _ => false,
        });
    }

    /// Takes an [`attach`](Self::attach) back that came to nothing.
    pub(crate) fn detach(&self, destinations: &[Destination]) {
        let mut inner = self.0.lock();
        for to in destinations {
            inner.now.detach(to.subscription, 0);
        }
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<SubscriptionState>> {
        self.0.lock().now.entries.get(&id).map(|entry| entry.state.clone())
    }

    /// Returns all subscriptions as they are now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.0.lock().now.clone()
    }

    /// Returns how many subscriptions exist.
    pub(crate) fn live_count(&self) -> usize {
        self.0.lock().names.len()
    }

    /// Frees routes that no message can travel any more; what they carried stays counted.
    pub(crate) fn free(&self, routes: &Routes, past: &[Arc<Route>]) {
        let mut left = past;
        while !left.is_empty() {
            let mut inner = self.0.lock();
            inner.now.step += 1;
            let mut destinations = 0;
            while destinations < MAX_PER_LOCK
                && let Some((route, others)) = left.split_first()
            {
                route.hand_on(inner.now.step);
                for to in &route.destinations {
                    inner.now.detach(to.subscription, route.accepted(to.consumer.dispatcher));
                }
                destinations += route.destinations.len();
                left = others;
            }
        }
        routes.free(past);
    }

    /// Returns each subscription's account, and the sum of those that are past.
    pub(crate) fn audit(
        &self,
        routes: &Routes,
        in_flight: impl Fn(u64) -> u64,
    ) -> (Vec<SubscriptionLedger>, SubscriptionLedger) {
        let routes: Vec<_> = routes.all().collect();
        let Snapshot { entries, past, step } = self.snapshot();
        let mut routed: HashMap<u64, u64> = HashMap::new();
        for route in routes.iter().filter(|route| !route.was_handed_on(step)) {
            for to in &route.destinations {
                *routed.entry(to.subscription).or_default() += route.accepted(to.consumer.dispatcher);
            }
        }
        let account = |Entry { state, routed_before, .. }: &Entry| {
            let mut account = SubscriptionLedger::settled(&state.tally);
            account.id = SubscriptionId(state.id);
            account.name = state.name.to_string();
            account.patterns = state.patterns.iter().map(ToString::to_string).collect();
            account.routed = routed_before + routed.get(&state.id).copied().unwrap_or(0);
            account.set(Term::InFlight, in_flight(state.id));
            account
        };
        (entries.values().map(account).collect(), past)
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::routing::RingId;
    use crate::topic::Topic;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn enter(registry: &Registry, many: u64) -> Vec<Arc<SubscriptionState>> {
        let pattern = || vec![Pattern::new("a").unwrap()];
        (0..many).map(|_| registry.enter(None, pattern(), ConsumerAddr::default()).unwrap()).collect()
    }

    /// A route that has carried so many messages to each of the subscriptions.
    fn link(registry: &Registry, routes: &Routes, to: &[&SubscriptionState], carried: u64) -> Arc<Route> {
        let mut destinations = to.iter().map(|state| state.destination).collect();
        registry.attach(&mut destinations);
        let route = routes.link(&Topic::new("a").unwrap(), &destinations, RingId::new).unwrap();
        route.targets[0].accepted.add(carried);
        route
    }

    #[test]
    fn an_audit_counts_all_once_while_routes_are_freed() {
        for _ in 0..20 {
            let (registry, routes) = (Registry::default(), Routes::default());
            let states = enter(&registry, 200);
            let linked: Vec<_> = (0..1_000)
                .map(|n| link(&registry, &routes, &[&states[n % 200], &states[(n + 1) % 200]], 1 + n as u64))
                .collect();
            let routed =
                |ledgers: &[SubscriptionLedger]| ledgers.iter().map(|ledger| ledger.routed).sum::<u64>();
            let (expected, _) = registry.audit(&routes, |_| 0);
            assert_eq!(routed(&expected), (1..=1_000).sum::<u64>() * 2);
            // Of those that end the account is past as soon as the last route is freed.
            for state in &states[..100] {
                registry.end(state.id);
            }
            std::thread::scope(|scope| {
                let freeing = scope.spawn(|| {
                    for some in linked.chunks(10) {
                        registry.free(&routes, some);
                    }
                });
                while !freeing.is_finished() {
                    let (present, past) = registry.audit(&routes, |_| 0);
                    assert_eq!(routed(&present) + past.routed, routed(&expected));
                    for ledger in present {
                        assert_eq!(ledger.routed, expected[ledger.id.0 as usize].routed, "{}", ledger.name);
                    }
                }
            });
            let (present, _) = registry.audit(&routes, |_| 0);
            assert_eq!(present, expected[100..]);
        }
    }

    #[test]
    fn nobody_who_reads_many_entries_holds_the_lock_meanwhile() {
        let (sender, done) = channel();
        std::thread::spawn(move || {
            let (registry, routes) = (Registry::default(), Routes::default());
            let states = enter(&registry, 3);
            let _route = link(&registry, &routes, &[&states[0]], 1);
            // Each look takes the lock.
            let look = |id| registry.find(id).map_or(0, |state| state.id);
            let (ledgers, _) = registry.audit(&routes, look);
            let live = registry.snapshot().live().map(|state| look(state.id)).sum::<u64>();
            sender.send((ledgers.len(), live))
        });
        assert_eq!(done.recv_timeout(Duration::from_secs(30)), Ok((3, 3)));
    }

    #[test]
    fn a_name_is_free_again_once_its_subscription_has_ended() {
        let registry = Registry::default();
        let enter =
            |name| registry.enter(Some(name), Vec::new(), ConsumerAddr::default()).map(|state| state.id);
        let first = enter("subscription-1").unwrap();
        assert!(matches!(enter("subscription-1"), Err(SubscribeError::NameTaken { .. })));
        let unnamed = registry.enter(None, Vec::new(), ConsumerAddr::default()).unwrap();
        assert_eq!((&*unnamed.name, registry.live_count()), ("subscription-2", 2));
        registry.end(first);
        assert_eq!((enter("subscription-1").is_ok(), registry.live_count()), (true, 2));
    }
}
