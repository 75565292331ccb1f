//! What a broker's handles and threads share.

use super::account::publishers::Publishers;
use super::dead_letters::SharedStore;
use super::deliver::context;
use super::deliver::mailbox::{Command, Released};
use super::dispatcher::{ConsumerState, DispatcherState, RingState};
use super::id::BrokerId;
use super::lifecycle::reclaimer::{ReclaimSignal, Round};
use super::lifecycle::threads::ThreadRegistry;
use super::name::DispatcherName;
use super::publish::lifetimes::Lifetimes;
use super::stall::watch::Watch;
use super::subscribe::callbacks::ErrorCallback;
use super::subscribe::registry::{Registry, SubscriptionState};
use crate::clock::{Clock, Watcher};
use crate::message::{Envelope, Origin};
use crate::ring::Ring;
use crate::routing::{ConsumerAddr, Destination, RingId, RouteId, Routes, RoutingTable};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{CachePadded, Process};
use std::sync::Arc;

/// What all handles of a broker share.
pub(crate) struct Core<P> {
    pub(crate) id: BrokerId,
    pub(crate) origin: Origin,
    pub(crate) clock: Clock,
    /// Wakes the consumers when the clock is moved by hand.
    pub(crate) _on_advance: Arc<Watcher>,
    pub(crate) on_error: Option<ErrorCallback<P>>,
    /// The most wildcards of a pattern.
    pub(crate) max_wildcards: usize,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) table: RoutingTable<Destination>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) publishers: Publishers,
    /// By their [`RingId`].
    pub(crate) rings: Vec<RingState<P>>,
    pub(crate) dispatchers: Vec<DispatcherState<P>>,
    pub(crate) threads: Arc<ThreadRegistry<P>>,
    pub(crate) dead_letters: Option<Arc<SharedStore<P>>>,
    pub(crate) reclaim_signal: Arc<ReclaimSignal>,
    /// What the watchdog knows. None where it is switched off, and where there are no threads to watch.
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) process: Process,
    /// Whether it has no threads, and nobody may wait for them.
    pub(crate) is_simulated: bool,
    pub(crate) is_closed: CachePadded<AtomicBool>,
    /// Whether only handlers may publish. Set before the table's generation goes up, which has every publisher look
    /// here.
    pub(crate) is_quiescing: AtomicBool,
}

impl<P> Core<P> {
    /// Returns whether the broker was closed. Whoever was refused by one of its rings for that
    /// reason finds that it was: the flag is set first, and crosses with edge `REFUSE`. To all
    /// others it says nothing but itself.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Refuses publishes and subscriptions from now on. Consumers drain and end by themselves.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        for state in &self.rings {
            state.ring.close();
        }
    }

    /// Refuses publishes from now on but those that handlers make. One that is under way goes on.
    pub(crate) fn refuse_outsiders(&self) {
        self.is_quiescing.store(true, Ordering::Relaxed);
        // Edge `SWAP_TABLE`: who sees the new generation, and so resolves its topic anew, sees that.
        self.table.update(|_| ());
    }

    /// Returns whether this thread may not publish any more, although the broker is open: it runs no handler.
    pub(crate) fn refuses_this_thread(&self) -> bool {
        self.is_quiescing.load(Ordering::Relaxed) && context::consuming(self.id).is_none()
    }

    /// Returns whether this process is a child of the one that has built the broker, made by
    /// `fork`: it has none of the broker's threads, and must take none of its locks.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_forked()
    }

    /// Leaves everything as it is, for ever, in a child that drops its copy of it.
    pub(crate) fn forsake(self: &Arc<Self>) {
        std::mem::forget(self.clone());
    }

    /// Returns the name of a dispatcher one of whose consumers has died, while the broker is open.
    #[cold]
    pub(crate) fn dead_dispatcher(&self, dispatcher: u16) -> Option<DispatcherName> {
        let has_died = !self.is_closed() && self.threads.has_died(dispatcher);
        has_died.then(|| self.dispatcher(dispatcher).name.clone())
    }

    pub(crate) fn ring(&self, id: RingId) -> &Ring<Envelope<P>> {
        &self.rings[id.index()].ring
    }

    pub(crate) fn dispatcher(&self, number: u16) -> &DispatcherState<P> {
        &self.dispatchers[usize::from(number)]
    }

    /// Returns the ring that leads to a dispatcher's consumers.
    pub(crate) fn ring_of(&self, dispatcher: u16) -> RingId {
        self.dispatcher(dispatcher).ring
    }

    pub(crate) fn consumers(&self) -> impl Iterator<Item = &ConsumerState<P>> {
        self.dispatchers.iter().flat_map(|dispatcher| &dispatcher.consumers)
    }

    pub(crate) fn consumer(&self, addr: ConsumerAddr) -> &ConsumerState<P> {
        &self.dispatcher(addr.dispatcher).consumers[usize::from(addr.number)]
    }

    /// Takes subscriptions out in one swap of the table: no further message is routed to them, and
    /// their consumers are told to drop the handlers, save those that are handed back, in the order
    /// of the subscriptions.
    pub(crate) fn end_subscriptions<'a>(
        &self,
        states: impl IntoIterator<Item = &'a SubscriptionState, IntoIter: Clone>,
    ) -> Vec<Released<P>> {
        let states = states.into_iter();
        self.unroute(states.clone());
        let ended = states.map(|state| self.dismiss(state)).collect();
        self.reclaim_signal.notify();
        ended
    }

    /// Has nothing routed to subscriptions any more, in one swap of the table.
    pub(crate) fn unroute<'a>(&self, states: impl Iterator<Item = &'a SubscriptionState>) {
        self.table.update(|edit| {
            for state in states {
                for pattern in &state.patterns {
                    edit.remove(pattern, &state.destination);
                }
            }
        });
    }

    /// Ends a subscription to which nothing is routed any more.
    pub(crate) fn dismiss(&self, state: &SubscriptionState) -> Released<P> {
        self.registry.end(state.id);
        let consumer = self.consumer(state.destination.consumer);
        consumer.subscriptions.fetch_sub(1, Ordering::Relaxed);
        if let (Some(watch), Some(limit)) = (&self.watch, state.time_limit) {
            watch.look_within_no_longer(limit);
        }
        consumer.mailbox.release(state.id)
    }

    /// Frees routes that no message can travel any more, and returns how many those were: none only
    /// if there are none, but not all at a time.
    pub(crate) fn free_routes(&self) -> usize {
        let released: Vec<u64> = self.rings.iter().map(|state| state.ring.released()).collect();
        let past = self.routes.take_past(|ring| released[ring.index()]);
        self.registry.free(&self.routes, &past);
        let mut freed: Vec<Vec<RouteId>> = vec![Vec::new(); self.dispatchers.len()];
        for route in &past {
            // Where nothing was accepted no consumer has met the route: what a stuck one would have
            // to forget does not grow with what its ring refuses.
            for target in route.targets.iter().filter(|target| target.has_accepted()) {
                freed[usize::from(target.dispatcher)].push(route.id);
            }
        }
        for (dispatcher, theirs) in self.dispatchers.iter().zip(freed) {
            if !theirs.is_empty() {
                let theirs: Arc<[RouteId]> = theirs.into();
                for consumer in &dispatcher.consumers {
                    // One that has gone has forgotten everything.
                    let _ = consumer.mailbox.post(Command::Forget(theirs.clone()));
                }
            }
        }
        past.len()
    }

    /// Ends the threads that work in the background.
    pub(crate) fn stop_background(&self) {
        self.reclaim_signal.stop();
        if let Some(watch) = &self.watch {
            watch.stop();
        }
    }

    /// Runs a round of the reclaimer.
    pub(crate) fn reclaim(&self) -> Round {
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
        self.stop_background();
        #[cfg(feature = "durable-dead-letters")]
        if let Some(store) = &self.dead_letters {
            store.stop_writing();
        }
    }
}
