//! What a broker's handles and threads share.

use super::account::publishers::Publishers;
use super::deliver::mailbox::{Latch, Letter};
use super::dispatcher::{ConsumerState, DispatcherState};
use super::lifecycle::reclaimer::{Bell, Round};
use super::lifecycle::threads::Exits;
use super::publish::wait_graph::Waits;
use super::subscribe::registry::{Record, Roster};
use crate::clock::Clock;
use crate::message::Origin;
use crate::routing::{Destination, RouteId, Routes, RoutingTable};
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// What all handles of a broker share.
pub(crate) struct Core<P> {
    pub(crate) origin: Origin,
    pub(crate) clock: Clock,
    pub(crate) table: RoutingTable<Destination>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) publishers: Publishers,
    pub(crate) dispatchers: Vec<DispatcherState<P>>,
    pub(crate) waits: Waits,
    pub(crate) exits: Arc<Exits<P>>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) is_closed: CachePadded<AtomicBool>,
}

impl<P> Core<P> {
    /// What tells this broker from others: an address that lives as long as it and its threads.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.routes).addr()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Refuses publishes and subscriptions from now on. Consumers drain and end by themselves.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for dispatcher in &self.dispatchers {
            dispatcher.ring.close();
        }
    }

    pub(crate) fn consumer(&self, of: Destination) -> &ConsumerState<P> {
        &self.dispatchers[usize::from(of.dispatcher)].consumers[usize::from(of.consumer)]
    }

    /// Takes subscriptions out in one swap of the table: no further message is routed to them, and their consumers are told
    /// to drop the handlers. Each latch opens when that is done.
    pub(crate) fn end_subscriptions<'a>(
        &self,
        records: impl IntoIterator<Item = &'a Record, IntoIter: Clone>,
    ) -> Vec<Arc<Latch>> {
        let records = records.into_iter();
        self.table.update(|edit| {
            for record in records.clone() {
                for pattern in &record.patterns {
                    edit.remove(pattern, &record.destination);
                }
            }
        });
        let ended = records.map(|record| self.dismiss(record)).collect();
        self.bell.ring();
        ended
    }

    /// Has a subscription to which nothing is routed any more dropped by its consumer. The latch opens when it has been.
    pub(crate) fn dismiss(&self, record: &Record) -> Arc<Latch> {
        self.roster.end(record.id);
        let done = Arc::new(Latch::new());
        let consumer = self.consumer(record.destination);
        consumer.subscriptions.fetch_sub(1, Ordering::Relaxed);
        let letter = Letter::Release { subscription: record.id, done: done.clone() };
        if consumer.mailbox.post(letter).is_err() {
            // The consumer has gone, and dropped its handlers when it went.
            done.open();
        }
        done
    }

    /// Frees routes that no message can travel any more, and returns how many those were: none only if there are none, but not
    /// all at a time.
    pub(crate) fn free_routes(&self) -> usize {
        let released: Vec<u64> =
            self.dispatchers.iter().map(|dispatcher| dispatcher.ring.released()).collect();
        let past = self.routes.take_past(|dispatcher| released[usize::from(dispatcher)]);
        self.roster.free(&self.routes, &past);
        let mut freed: Vec<Vec<RouteId>> = vec![Vec::new(); self.dispatchers.len()];
        for route in &past {
            for leg in &route.legs {
                freed[usize::from(leg.dispatcher)].push(route.id);
            }
        }
        for (dispatcher, theirs) in self.dispatchers.iter().zip(freed) {
            if !theirs.is_empty() {
                let theirs: Arc<[RouteId]> = theirs.into();
                for consumer in &dispatcher.consumers {
                    // One that has gone has forgotten everything.
                    let _ = consumer.mailbox.post(Letter::Forget(theirs.clone()));
                }
            }
        }
        past.len()
    }

    /// One round of the housekeeper.
    pub(crate) fn keep_house(&self) -> Round {
        let freed = self.table.reclaim() + self.free_routes();
        let waiting = self.table.retired_count() + self.routes.unlinked_count();
        match (freed, waiting) {
            (_, 0) => Round::Done,
            (0, _) => Round::Stuck,
            _ => Round::Progress,
        }
    }
}

impl<P> Drop for Core<P> {
    fn drop(&mut self) {
        self.bell.stop();
    }
}
