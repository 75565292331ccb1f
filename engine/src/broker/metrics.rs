//! The broker's metrics.

use super::account::consumer_tally::ConsumerTally;
use super::core::Core;
use super::dispatcher::DispatcherState;
use super::handle::Broker;
use crate::message::{Envelope, MessagePayload};
use crate::observe::{Counter, DispatcherMetrics, Metrics, merge};
use crate::sync::atomic::Ordering;

impl<P: MessagePayload> Broker<P> {
    /// Returns the numbers of this moment. Allocates and locks briefly; disturbs no publisher and no consumer. Takes
    /// time in proportion to dispatchers, consumers and publishers, however many subscriptions there are.
    pub fn metrics(&self) -> Metrics {
        let core = self.core();
        let consumers = || core.dispatchers.iter().flat_map(|dispatcher| &dispatcher.consumers);
        let publishers = core.publishers.total();
        let depths: Vec<u64> = core.rings.iter().map(|state| state.ring.depth()).collect();
        let lags = core.rings.iter().flat_map(|state| state.ring.lags());
        let active = lags.filter(|(_, lag)| *lag > 0).count();
        let slot = (size_of::<Envelope<P>>() + size_of::<u64>()).next_multiple_of(64) as u64;
        let memory: u64 = core.rings.iter().map(|state| state.ring.capacity() * slot).sum();
        let dead_letters = core.dead_letters.as_ref().map_or(0, |store| store.counts().held);
        // The reclaimer is one more, and the watchdog perhaps.
        let watch = core.watch.as_ref();
        let watchdogs = watch.filter(|watch| watch.is_running.load(Ordering::Relaxed)).iter().count();
        let threads = core.threads.running() + 1 + watchdogs;
        let stall_panics = watch.map_or(0, |watch| watch.panics.load(Ordering::Relaxed));
        let sum = |counter: fn(&ConsumerTally) -> &Counter| {
            consumers().map(|consumer| counter(&consumer.tally).get()).sum::<u64>() as f64
        };
        let values = [
            ("messaging.broker.subscribers", core.registry.live_count() as f64),
            ("messaging.broker.topics", core.routes.topic_count() as f64),
            ("messaging.broker.routes", core.routes.count() as f64),
            ("messaging.broker.messages.published", publishers.published as f64),
            ("messaging.broker.messages.consumed", sum(|tally| &tally.delivered)),
            ("messaging.broker.errors", sum(|tally| &tally.failed)),
            ("messaging.broker.dlq.size", dead_letters as f64),
            ("messaging.queue.depth.max", depths.iter().copied().max().unwrap_or(0) as f64),
            ("messaging.queue.depth.avg", depths.iter().sum::<u64>() as f64 / depths.len().max(1) as f64),
            ("messaging.workers.active", active as f64),
            ("messaging.workers.idle", consumers().count().saturating_sub(active) as f64),
            ("messaging.route_cache.hits", publishers.cache_hits as f64),
            ("messaging.route_cache.misses", publishers.cache_misses as f64),
            ("messaging.memory.bytes", memory as f64),
            ("messaging.stall_callback.panics", stall_panics as f64),
            ("messaging.threads.total", threads as f64),
        ]
        .into();
        let latency = merge(consumers().map(|consumer| &consumer.tally.latency));
        let dispatchers =
            core.dispatchers.iter().map(|dispatcher| core.dispatcher_metrics(dispatcher)).collect();
        Metrics { values, latency, dispatchers }
    }
}

impl<P> Core<P> {
    fn dispatcher_metrics(&self, dispatcher: &DispatcherState<P>) -> DispatcherMetrics {
        let ring = self.ring(dispatcher.ring);
        DispatcherMetrics {
            name: dispatcher.name.to_string(),
            capacity: ring.capacity(),
            depth: ring.depth(),
            refused: dispatcher.refused.load(Ordering::Relaxed),
            latency: merge(dispatcher.consumers.iter().map(|consumer| &consumer.tally.latency)),
        }
    }
}
