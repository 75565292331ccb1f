//! The broker's metrics.

use super::account::consumer_tally::ConsumerTally;
use super::core::Core;
use super::dispatcher::DispatcherState;
use super::handle::Broker;
use super::waiting::queue::Sizes;
use crate::message::{Envelope, MessagePayload};
use crate::observe::{Counter, DispatcherMetrics, Metrics, merge};
use crate::sync::atomic::Ordering;
use std::collections::BTreeMap;

impl<P: MessagePayload> Broker<P> {
    /// Returns the numbers of this moment. Allocates and locks briefly; disturbs no publisher and no consumer. Takes
    /// time in proportion to dispatchers, consumers, publishers, and subscriptions of which something waits, however
    /// many others there are.
    pub fn metrics(&self) -> Metrics {
        let core = self.core();
        let consumers = || core.dispatchers.iter().flat_map(|dispatcher| &dispatcher.consumers);
        let publishers = core.publishers.total();
        let depths: Vec<u64> = core.rings.iter().map(|state| state.ring.depth()).collect();
        let lags = core.rings.iter().flat_map(|state| state.ring.lags());
        let active = lags.filter(|(_, lag)| *lag > 0).count();
        let slot = (size_of::<Envelope<P>>() + size_of::<u64>()).next_multiple_of(64) as u64;
        let memory: u64 = core.rings.iter().map(|state| state.ring.capacity() * slot).sum();
        let dead_letters = core.dead_letters.as_ref().map(|store| store.counts()).unwrap_or_default();
        let waiting: Sizes = consumers().map(|consumer| consumer.waiting.total()).sum();
        let watch = core.watch.as_ref();
        let watching = watch.map_or(0, |watch| watch.threads.load(Ordering::Relaxed)) as usize;
        let background = usize::from(core.reclaim_signal.is_running()) + watching;
        let threads = core.threads.running() + background;
        let (replaced, away) = core.threads.replaced();
        let stall_panics = watch.map_or(0, |watch| watch.panics.load(Ordering::Relaxed));
        let sum = |counter: fn(&ConsumerTally) -> &Counter| {
            consumers().map(|consumer| counter(&consumer.tally).get()).sum::<u64>() as f64
        };
        #[cfg_attr(not(feature = "durable-dead-letters"), expect(unused_mut, reason = "there is no writer"))]
        let mut values: BTreeMap<_, _> = [
            ("messaging.broker.subscribers", core.registry.live_count() as f64),
            ("messaging.broker.topics", core.routes.topic_count() as f64),
            ("messaging.broker.routes", core.routes.count() as f64),
            ("messaging.broker.messages.published", publishers.published as f64),
            ("messaging.broker.messages.consumed", sum(|tally| &tally.delivered)),
            ("messaging.broker.errors", sum(|tally| &tally.failed)),
            ("messaging.broker.dlq.size", dead_letters.held as f64),
            ("messaging.dead_letters.evicted", dead_letters.evicted as f64),
            ("messaging.dead_letters.lost", dead_letters.lost as f64),
            ("messaging.waiting.backlogged", waiting.backlogged as f64),
            ("messaging.waiting.retrying", waiting.retrying as f64),
            ("messaging.waiting.in_flight", waiting.in_flight as f64),
            ("messaging.queue.depth.max", depths.iter().copied().max().unwrap_or(0) as f64),
            ("messaging.queue.depth.avg", depths.iter().sum::<u64>() as f64 / depths.len().max(1) as f64),
            ("messaging.workers.active", active as f64),
            ("messaging.workers.idle", consumers().count().saturating_sub(active) as f64),
            ("messaging.route_cache.hits", publishers.cache_hits as f64),
            ("messaging.route_cache.misses", publishers.cache_misses as f64),
            ("messaging.memory.bytes", memory as f64),
            ("messaging.stall_callback.panics", stall_panics as f64),
            ("messaging.threads.total", threads as f64),
            ("messaging.threads.replaced", replaced as f64),
            ("messaging.handlers.away", away as f64),
        ]
        .into();
        #[cfg(feature = "durable-dead-letters")]
        if let Some(writer) = core.dead_letters.as_ref().and_then(|store| store.writer_numbers()) {
            values.extend([
                ("messaging.dead_letters.behind", writer.behind as f64),
                ("messaging.dead_letters.unwritable", writer.unwritable as f64),
                ("messaging.dead_letters.failed_commits", writer.failed_commits as f64),
                ("messaging.threads.total", (threads + usize::from(writer.is_running)) as f64),
            ]);
        }
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
