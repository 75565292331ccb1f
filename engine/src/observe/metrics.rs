//! The metrics of a broker at one moment: named numbers, and the latency histogram.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::fmt;

/// What [`Broker::metrics`](crate::broker::Broker::metrics) returns. A copy: reading it disturbs
/// nobody.
///
/// | key | unit | meaning |
/// |---|---|---|
/// | `messaging.broker.subscribers` | subscriptions | that exist |
/// | `messaging.broker.topics` | topics | that some publisher has resolved and still holds |
/// | `messaging.broker.routes` | routes | one for each publisher and topic, and those let go that messages still travel |
/// | `messaging.broker.messages.published` | messages | accepted since the start, matched or not |
/// | `messaging.broker.messages.consumed` | deliveries | that a handler returned from without an error |
/// | `messaging.broker.errors` | deliveries | whose handler failed or panicked |
/// | `messaging.broker.dlq.size` | messages | in the dead-letter store; 0 where none are kept |
/// | `messaging.dead_letters.evicted`, `.lost` | letters | that have left the store to make room for others, since the start; that were too large for it |
/// | `messaging.dead_letters.behind` | changes | of [durable](crate::broker::dead_letters::durable) dead letters that are not committed yet; as the two below it is there only where letters are durable |
/// | `messaging.dead_letters.unwritable` | letters | in the store of which no record could be made |
/// | `messaging.dead_letters.failed_commits` | commits | that have failed since the start; each is tried again |
/// | `messaging.waiting.backlogged`, `.retrying`, `.in_flight` | messages | that wait in backlogs; for another attempt; that handlers keep with tokens |
/// | `messaging.queue.depth.max`, `.avg` | messages | in the fullest ring; in the mean ring |
/// | `messaging.workers.active`, `.idle` | consumers | with messages waiting; without |
/// | `messaging.route_cache.hits` | messages | that [publishers to topics of run time](crate::broker::AnyTopicPublisher), living and gone, have published to a topic which their cache knew |
/// | `messaging.route_cache.misses` | topics | that were not in the cache of such a publisher and had to be resolved, whatever came of the message; of a batch, one |
/// | `messaging.memory.bytes` | bytes | of the rings, their retained payload buffers not included |
/// | `messaging.stall_callback.panics` | calls | of [`on_stall`](crate::broker::BrokerBuilder::on_stall)'s callback that panicked |
/// | `messaging.threads.replaced` | threads | that were replaced since the broker was built, because a handler did not return ([`Dispatcher::rescuable`](crate::broker::Dispatcher::rescuable)) |
/// | `messaging.handlers.away` | handlers | that are in such a call still, each on a thread of its own |
/// | `messaging.threads.total` | threads | that run for the broker: its consumers, those that were replaced and have not come back, the reclaimer, the watchdog, and what writes durable dead letters. Those that a shutdown starts for a moment, to copy messages aside, are not counted |
#[derive(Clone)]
#[non_exhaustive]
pub struct Metrics {
    /// The numbers by their key.
    pub values: BTreeMap<&'static str, f64>,
    /// Latency from publish until a consumer reads the message, in nanoseconds, over all consumers.
    /// One event in 64 is recorded on average, at random gaps, so that stalls and bursts show in it
    /// as handlers see them.
    pub latency: Histogram<u64>,
    /// The dispatchers, in the order in which they were declared.
    pub dispatchers: Vec<DispatcherMetrics>,
}

/// The part of [`Metrics`] that belongs to one dispatcher.
#[derive(Clone)]
#[non_exhaustive]
pub struct DispatcherMetrics {
    /// Name of the dispatcher.
    pub name: String,
    /// Slots of its ring.
    pub capacity: u64,
    /// Messages in its ring that its slowest consumer has yet to finish.
    pub depth: u64,
    /// Messages that its ring did not take, having no room or a dead consumer.
    pub refused: u64,
    /// Latency from publish until one of its consumers reads the message, in nanoseconds, sampled
    /// as [`Metrics::latency`] is.
    pub latency: Histogram<u64>,
}

impl fmt::Debug for DispatcherMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DispatcherMetrics")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .field("depth", &self.depth)
            .field("refused", &self.refused)
            .field("latency_p50", &self.latency.value_at_quantile(0.5))
            .field("latency_p99", &self.latency.value_at_quantile(0.99))
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// Returns the part that belongs to the dispatcher of that name.
    pub fn dispatcher(&self, name: &str) -> Option<&DispatcherMetrics> {
        self.dispatchers.iter().find(|dispatcher| dispatcher.name == name)
    }

    /// The number of that key.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.values.get(key).copied()
    }
}

impl fmt::Display for DispatcherMetrics {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, capacity, depth, refused, latency } = self;
        write!(f, "dispatcher {name}: depth {depth} of {capacity}, {refused} refused")?;
        if latency.is_empty() {
            return Ok(());
        }
        let of = |quantile| latency.value_at_quantile(quantile);
        write!(
            f,
            "; latency p50 {} ns, p99 {} ns, max {} ns of {} samples",
            of(0.5),
            of(0.99),
            latency.max(),
            latency.len()
        )
    }
}

impl fmt::Display for Metrics {
    /// A line for each number that is not zero, and one for each dispatcher.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in self.values.iter().filter(|(_, value)| **value != 0.0) {
            writeln!(f, "{key} {value}")?;
        }
        for (number, dispatcher) in self.dispatchers.iter().enumerate() {
            let line_break = if number == 0 { "" } else { "\n" };
            write!(f, "{line_break}{dispatcher}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Metrics {
    /// The numbers, and of the histogram what one wants to know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("values", &self.values)
            .field("latency_count", &self.latency.len())
            .field("latency_p50", &self.latency.value_at_quantile(0.5))
            .field("latency_p99", &self.latency.value_at_quantile(0.99))
            .field("latency_max", &self.latency.max())
            .field("dispatchers", &self.dispatchers)
            .finish()
    }
}
