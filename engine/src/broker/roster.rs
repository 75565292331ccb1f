//! Who subscribes and who publishes: their names, their tallies, and what is left of those that have gone.

use super::error::SubscribeError;
use super::ledger::SubscriptionLedger;
use super::settle::Tally;
use crate::observe::Counter;
use crate::routing::{Destination, Route, Routes};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{CachePadded, Mutex};
use crate::topic::Pattern;
use std::collections::HashMap;
use std::sync::Arc;

/// The most subscriptions a broker has at once.
pub(crate) const MOST_SUBSCRIPTIONS: usize = 1 << 20;

/// So many routes are freed at a time, so that nobody waits long for a lock.
const FREED_AT_ONCE: usize = 64;

/// A subscription as everybody but its consumer knows it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) name: Box<str>,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) destination: Destination,
    /// Written by the subscription's consumer.
    pub(crate) tally: CachePadded<Tally>,
    /// Messages that came by routes that have been freed since. Written under the roster's lock.
    routed_before: Counter,
    has_ended: AtomicBool,
}

impl Record {
    /// Whether the subscription has ended. A hint that saves calls: what holds is what the consumer's mailbox says.
    #[inline(always)]
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

struct Entry {
    record: Arc<Record>,
    /// Routes that lead here and have not been freed.
    routes: usize,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<u64, Entry>,
    names: HashMap<Box<str>, u64>,
    next_id: u64,
    /// The sum of those that have ended and to which no route leads any more.
    past: SubscriptionLedger,
}

/// All subscriptions of a broker.
#[derive(Default)]
pub(crate) struct Roster(Mutex<Inner>);

impl Roster {
    /// Enters a subscription. Without a name it is called after its number.
    pub(crate) fn enter(
        &self,
        name: Option<&str>,
        patterns: Vec<Pattern>,
        (dispatcher, consumer): (u16, u16),
    ) -> Result<Arc<Record>, SubscribeError> {
        let mut inner = self.0.lock();
        if inner.entries.len() >= MOST_SUBSCRIPTIONS {
            return Err(SubscribeError::TooMany { limit: MOST_SUBSCRIPTIONS });
        }
        let name: Box<str> = match name {
            Some(name) if inner.names.contains_key(name) => {
                return Err(SubscribeError::NameTaken { name: name.into() });
            }
            Some(name) => name.into(),
            None => loop {
                let name = format!("subscription-{}", inner.next_id).into_boxed_str();
                if !inner.names.contains_key(&name) {
                    break name;
                }
                // Somebody has chosen that very name.
                inner.next_id += 1;
            },
        };
        let id = inner.next_id;
        inner.next_id += 1;
        inner.names.insert(name.clone(), id);
        let record = Arc::new(Record {
            id,
            name,
            patterns,
            destination: Destination { dispatcher, consumer, subscription: id },
            tally: CachePadded::default(),
            routed_before: Counter::default(),
            has_ended: AtomicBool::new(false),
        });
        inner.entries.insert(id, Entry { record: record.clone(), routes: 0 });
        Ok(record)
    }

    /// Says that a subscription has ended: no further route will lead to it, and its name is free.
    pub(crate) fn end(&self, id: u64) {
        let mut inner = self.0.lock();
        if let Some(Entry { record, .. }) = inner.entries.get(&id) {
            record.has_ended.store(true, Ordering::Relaxed);
            let record = record.clone();
            inner.names.remove(&record.name);
        }
        inner.discard_if_past(id);
    }

    /// Strikes those that have ended off a list of destinations, and counts a route for each that stays.
    pub(crate) fn attach(&self, destinations: &mut Vec<Destination>) {
        let mut inner = self.0.lock();
        destinations.retain(|to| match inner.entries.get_mut(&to.subscription) {
            Some(entry) if !entry.record.has_ended() => {
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
            inner.detach(to.subscription, 0);
        }
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<Record>> {
        self.0.lock().entries.get(&id).map(|entry| entry.record.clone())
    }

    /// Subscriptions that exist, by number: all, or the oldest so many.
    pub(crate) fn live(&self, most: usize) -> Vec<Arc<Record>> {
        let inner = self.0.lock();
        let records = inner.entries.values().map(|entry| &entry.record);
        let mut live: Vec<_> = records.filter(|record| !record.has_ended()).cloned().collect();
        drop(inner);
        live.sort_unstable_by_key(|record| record.id);
        live.truncate(most);
        live
    }

    /// How many subscriptions exist.
    pub(crate) fn live_count(&self) -> usize {
        self.0.lock().entries.values().filter(|entry| !entry.record.has_ended()).count()
    }

    /// Frees routes that no message can travel any more; what they carried stays counted. For whoever audits, each is
    /// freed in one step.
    pub(crate) fn free(&self, routes: &Routes, past: &[Arc<Route>]) {
        for past in past.chunks(FREED_AT_ONCE) {
            let mut inner = self.0.lock();
            routes.free(past);
            for route in past {
                for to in &route.destinations {
                    inner.detach(to.subscription, accepted(route, to.dispatcher));
                }
            }
        }
    }

    /// Each subscription's account, and the sum of those that are past.
    pub(crate) fn audit(
        &self,
        routes: &Routes,
        in_flight: impl Fn(u64) -> u64,
    ) -> (Vec<SubscriptionLedger>, SubscriptionLedger) {
        let inner = self.0.lock();
        let mut routed: HashMap<u64, u64> = HashMap::new();
        for route in routes.all() {
            for to in &route.destinations {
                *routed.entry(to.subscription).or_default() += accepted(&route, to.dispatcher);
            }
        }
        let mut ledgers: Vec<_> = inner
            .entries
            .values()
            .map(|Entry { record, .. }| {
                let routed = record.routed_before.get() + routed.get(&record.id).copied().unwrap_or(0);
                SubscriptionLedger::read(record, routed, in_flight(record.id))
            })
            .collect();
        ledgers.sort_by_key(|ledger| ledger.id);
        (ledgers, inner.past.clone())
    }
}

impl Inner {
    fn detach(&mut self, id: u64, carried: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.routes -= 1;
            entry.record.routed_before.add(carried);
        }
        self.discard_if_past(id);
    }

    fn discard_if_past(&mut self, id: u64) {
        if let Some(entry) = self.entries.get(&id)
            && entry.record.has_ended()
            && entry.routes == 0
        {
            let record = entry.record.clone();
            self.entries.remove(&id);
            self.past.add(&SubscriptionLedger::read(&record, record.routed_before.get(), 0));
        }
    }
}

/// How many messages a route has brought to a dispatcher.
fn accepted(route: &Route, dispatcher: u16) -> u64 {
    route.legs.iter().find(|leg| leg.dispatcher == dispatcher).map_or(0, |leg| leg.accepted.get())
}

/// What one publisher has published. Written by that publisher.
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
    present: HashMap<u32, Arc<CachePadded<PublisherTally>>>,
    next_id: u32,
    past: PublisherTally,
}

/// All publishers of a broker.
#[derive(Default)]
pub(crate) struct Publishers(Mutex<PublishersInner>);

impl Publishers {
    /// Enters a publisher. Numbers wrap after four thousand million, and those in use are passed over.
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

    /// The sum over all publishers, present and past.
    pub(crate) fn total(&self) -> PublisherTally {
        let inner = self.0.lock();
        let total = PublisherTally::default();
        total.add(&inner.past);
        for tally in inner.present.values() {
            total.add(tally);
        }
        total
    }
}
