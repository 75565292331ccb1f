//! The broker itself, and what its publishers, subscriptions and threads share.

use super::builder::BrokerBuilder;
use super::consumer::ConsumerTally;
use super::context;
use super::deadlock::Waits;
use super::error::SubscribeError;
use super::explain::{Explanation, SubscriptionInfo, explain};
use super::handler::IntoHandled;
use super::housekeeper::{Bell, Round};
use super::ledger::{Ledger, RingLedger};
use super::mailbox::{Latch, Letter, Mailbox};
use super::publisher::{AnyTopicPublisher, Publisher};
use super::roster::{Publishers, Record, Roster};
use super::shutdown::{Exits, ShutdownReport, shut_down};
use super::subscription::{Prepared, Subscribe, Subscription, start_all, unsubscribe_all};
use crate::clock::Clock;
use crate::message::{Envelope, Message, Origin, Payload};
use crate::observe::{Metrics, merge};
use crate::ring::{MultiProducer, Ring};
use crate::routing::{Destination, RouteId, Routes, RoutingTable};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{CachePadded, Mutex};
use crate::topic::{Topic, TopicError};
use crate::wait::{Deadline, Parking, WaitStrategy, wait_until};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The topics that an [`AnyTopicPublisher`] remembers unless told otherwise.
const DEFAULT_TOPIC_CACHE: usize = 4_096;

/// A dispatcher: a ring and its consumers, stage by stage.
pub(crate) struct DispatcherState<P> {
    pub(crate) name: String,
    pub(crate) ring: Ring<Envelope<P>>,
    /// What publishers clone.
    pub(crate) producer: Mutex<MultiProducer<Envelope<P>>>,
    /// The consumers of each stage.
    pub(crate) stages: Vec<Range<usize>>,
    pub(crate) consumers: Vec<ConsumerState<P>>,
}

/// A consumer as others know it.
pub(crate) struct ConsumerState<P> {
    /// Its thread's name.
    pub(crate) thread: String,
    pub(crate) mailbox: Arc<Mailbox<P>>,
    pub(crate) tally: Arc<ConsumerTally>,
    /// Subscriptions that it owns.
    pub(crate) subscriptions: AtomicU32,
}

/// What all handles of a broker share.
pub(crate) struct Shared<P> {
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

impl<P> Shared<P> {
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

    /// Where everything has gone. See [`Ledger`].
    pub(crate) fn audit(&self) -> Ledger {
        let calls: Vec<u64> = self
            .dispatchers
            .iter()
            .flat_map(|dispatcher| &dispatcher.consumers)
            .map(|consumer| consumer.mailbox.overseer())
            // A call in doubt has been counted as such, and is not in flight any more.
            .filter(|overseer| !overseer.is_taken_over())
            .filter_map(|overseer| overseer.current_call().map(|(_, subscription)| subscription))
            .collect();
        let in_flight = |id| calls.iter().filter(|&&call| call == id).count() as u64;
        let (subscriptions, past) = self.roster.audit(&self.routes, in_flight);
        let published = self.publishers.total();
        Ledger {
            published: published.published.get(),
            unrouted: published.unrouted.get(),
            refused: published.refused.get(),
            rings: self.dispatchers.iter().map(DispatcherState::audit).collect(),
            subscriptions,
            past,
        }
    }
}

impl<P> DispatcherState<P> {
    fn audit(&self) -> RingLedger {
        let slowest = self
            .consumers
            .iter()
            .map(|consumer| (consumer.tally.consumed.get(), consumer.tally.tombstones.get()))
            .min_by_key(|(consumed, tombstones)| consumed + tombstones)
            .unwrap_or_default();
        RingLedger {
            dispatcher: self.name.clone(),
            claimed: self.ring.claimed(),
            consumed: slowest.0,
            skipped: 0,
            tombstones: slowest.1,
            depth: self.ring.depth(),
        }
    }
}

impl<P> Drop for Shared<P> {
    fn drop(&mut self) {
        self.bell.stop();
    }
}

/// The handles of a broker; when the last is dropped, the broker closes.
struct Handle<P>(Arc<Shared<P>>);

impl<P> Drop for Handle<P> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A publish/subscribe broker. Cheap to clone; all clones are the same broker.
///
/// Dropping the last clone closes it as [`shutdown`](Self::shutdown) does, but waits for nothing: consumers drain what is
/// there, drop their handlers, and end.
pub struct Broker<P = Payload> {
    handle: Arc<Handle<P>>,
}

impl Broker<Payload> {
    /// The broker of the whole process, with default options, made at the first call. It is never shut down by itself.
    ///
    /// # Panics
    /// The first call panics when the system refuses to start a thread.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Broker> = OnceLock::new();
        GLOBAL.get_or_init(|| match Broker::builder().build() {
            Ok(broker) => broker,
            Err(error) => panic!("the global broker cannot be built: {error}"),
        })
    }
}

impl<P> Broker<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    /// A broker to be configured.
    pub fn builder() -> BrokerBuilder<P> {
        BrokerBuilder::new()
    }

    pub(crate) fn from_shared(shared: Arc<Shared<P>>) -> Self {
        Self { handle: Arc::new(Handle(shared)) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<P>> {
        &self.handle.0
    }

    /// Has `handler` called for every message published from now on to a topic that `pattern` matches, on the thread of
    /// the first dispatcher's consumer with the fewest subscriptions. For more options see
    /// [`subscription`](Self::subscription).
    ///
    /// The handler returns nothing, or a `Result`. It may publish and subscribe. A panic is caught and counted, and
    /// concerns nobody else. Allocates and locks briefly; does not wait.
    ///
    /// # Errors
    /// A malformed pattern, or a broker that was shut down.
    pub fn subscribe<R: IntoHandled>(
        &self,
        pattern: &str,
        handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
    ) -> Result<Subscription<P>, SubscribeError> {
        self.subscription().pattern(pattern).handler(handler)
    }

    /// Starts many subscriptions at once: publishers see all of them or none, and the table is swapped once. Where one of
    /// them cannot be had, none is started. In the order in which they were given.
    ///
    /// Allocates and locks briefly; does not wait.
    ///
    /// ```
    /// # use ringmain::broker::Broker;
    /// let broker: Broker = Broker::builder().build()?;
    /// let sites = (0..1_000).map(|site| {
    ///     let pattern = format!("site.{site}.#");
    ///     broker.subscription().pattern(&pattern).prepare(move |message| println!("{site}: {}", message.topic()))
    /// });
    /// let subscriptions = broker.subscribe_all(sites)?;
    /// assert_eq!(broker.match_count("site.7.temperature")?, 1);
    /// broker.unsubscribe_all(subscriptions);
    /// assert!(!broker.has_subscribers("site.7.temperature")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Subscribe::handler`], for the first that has one; and one that was prepared for another broker.
    pub fn subscribe_all(
        &self,
        subscriptions: impl IntoIterator<Item = Prepared<P>>,
    ) -> Result<Vec<Subscription<P>>, SubscribeError> {
        start_all(self.shared(), subscriptions.into_iter())
    }

    /// Ends many subscriptions in one swap of the table, and returns as [`Subscription::unsubscribe`] does, when no further
    /// call of any of the handlers can begin. Those of another broker are ended one by one.
    pub fn unsubscribe_all(&self, subscriptions: impl IntoIterator<Item = Subscription<P>>) {
        unsubscribe_all(self.shared(), subscriptions.into_iter());
    }

    /// A subscription to be configured.
    pub fn subscription(&self) -> Subscribe<P> {
        Subscribe::new(self.shared().clone())
    }

    /// A publisher bound to one topic: the fastest way. One for each thread; it can be cloned.
    ///
    /// # Errors
    /// A malformed topic.
    pub fn publisher(&self, topic: &str) -> Result<Publisher<P>, TopicError> {
        Ok(Publisher::new(self.shared().clone(), Topic::new(topic)?))
    }

    /// A publisher to topics that are only known at run time. It remembers what the last 4,096 topics resolved to.
    pub fn any_topic_publisher(&self) -> AnyTopicPublisher<P> {
        self.any_topic_publisher_remembering(DEFAULT_TOPIC_CACHE)
    }

    /// As [`any_topic_publisher`](Self::any_topic_publisher), with a cache of so many topics; 0 resolves each message's
    /// topic anew. A topic in the cache takes some 600 bytes.
    pub fn any_topic_publisher_remembering(&self, topics: usize) -> AnyTopicPublisher<P> {
        AnyTopicPublisher::new(self.shared().clone(), topics)
    }

    /// How many subscriptions a message to this topic would reach at this moment.
    ///
    /// # Errors
    /// A malformed topic.
    pub fn match_count(&self, topic: &str) -> Result<usize, TopicError> {
        crate::topic::validate(topic)?;
        let mut found = Vec::new();
        self.shared().table.load().trie.matches(topic, &mut found);
        Ok(found.len())
    }

    /// Whether a message to this topic would reach anybody at this moment.
    ///
    /// # Errors
    /// A malformed topic.
    pub fn has_subscribers(&self, topic: &str) -> Result<bool, TopicError> {
        Ok(self.match_count(topic)? > 0)
    }

    /// All subscriptions of this moment, by number. Allocates and locks briefly.
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let shared = self.shared();
        shared.roster.snapshot().live().map(|record| SubscriptionInfo::of(shared, record)).collect()
    }

    /// Which subscriptions a message to this topic would reach at this moment, by which of their patterns, and where; and if
    /// none, the patterns that miss it by least. For people who wonder; allocates, and locks briefly.
    ///
    /// ```
    /// # use ringmain::broker::Broker;
    /// let broker: Broker = Broker::builder().build()?;
    /// let _billing = broker.subscription().named("billing").pattern("orders.*.created").handler(|_| ())?;
    ///
    /// let explanation = broker.explain("orders.eu.created")?;
    /// assert_eq!(explanation.matches[0].subscription.name, "billing");
    ///
    /// let explanation = broker.explain("orders.eu.crated")?;
    /// assert!(explanation.matches.is_empty());
    /// assert_eq!(explanation.near_misses[0].pattern.as_str(), "orders.*.created");
    /// println!("{explanation}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A malformed topic.
    pub fn explain(&self, topic: &str) -> Result<Explanation, TopicError> {
        Ok(explain(self.shared(), Topic::new(topic)?))
    }

    /// Waits until everything published before this call has been delivered or otherwise settled, at most for `limit`,
    /// and returns whether it has. Publishers may go on meanwhile; where they rest, an [`audit`](Self::audit) after it is
    /// exact. Spins, yields and sleeps. On a consumer thread, which would wait for itself, it returns `false` at once.
    pub fn drain(&self, limit: Duration) -> bool {
        let shared = self.shared();
        if context::consuming(shared.key()).is_some() {
            return false;
        }
        let claimed: Vec<u64> =
            shared.dispatchers.iter().map(|dispatcher| dispatcher.ring.claimed()).collect();
        let is_drained = || {
            let mut rings = shared.dispatchers.iter().zip(&claimed);
            rings.all(|(dispatcher, &claimed)| dispatcher.ring.released() >= claimed).then_some(())
        };
        // The rings' own parking spots are for those whom a publication or a release wakes.
        wait_until(WaitStrategy::Backoff, &Parking::new(false), Deadline::after(limit), is_drained).is_some()
    }

    /// Where every message has gone so far. What still waits in a ring stands in the ring's account and in no
    /// subscription's: [`drain`](Self::drain) first where the sums are to hold. Allocates and locks briefly; disturbs no
    /// publisher and no consumer.
    pub fn audit(&self) -> Ledger {
        self.shared().audit()
    }

    /// The numbers of this moment. Allocates and locks briefly; disturbs no publisher and no consumer.
    pub fn metrics(&self) -> Metrics {
        let shared = self.shared();
        let consumers = || shared.dispatchers.iter().flat_map(|dispatcher| &dispatcher.consumers);
        let published = shared.publishers.total().published.get();
        let settled = shared.roster.snapshot().settled();
        let depths: Vec<u64> = shared.dispatchers.iter().map(|dispatcher| dispatcher.ring.depth()).collect();
        let active = shared
            .dispatchers
            .iter()
            .flat_map(|dispatcher| dispatcher.ring.lags())
            .filter(|(_, lag)| *lag > 0)
            .count();
        let slot = (size_of::<Envelope<P>>() + size_of::<u64>()).next_multiple_of(64) as u64;
        let memory: u64 = shared.dispatchers.iter().map(|dispatcher| dispatcher.ring.capacity() * slot).sum();
        // The housekeeper is one more.
        let threads = shared.exits.running() + 1;
        let values = [
            ("messaging.broker.subscribers", shared.roster.live_count() as f64),
            ("messaging.broker.topics", shared.routes.topic_count() as f64),
            ("messaging.broker.routes", shared.routes.count() as f64),
            ("messaging.broker.messages.published", published as f64),
            ("messaging.broker.messages.consumed", settled.delivered as f64),
            ("messaging.broker.errors", settled.errors.iter().sum::<u64>() as f64),
            ("messaging.broker.dlq.size", 0.0),
            ("messaging.queue.depth.max", depths.iter().copied().max().unwrap_or(0) as f64),
            ("messaging.queue.depth.avg", depths.iter().sum::<u64>() as f64 / depths.len().max(1) as f64),
            ("messaging.workers.active", active as f64),
            ("messaging.workers.idle", consumers().count().saturating_sub(active) as f64),
            ("messaging.memory.bytes", memory as f64),
            ("messaging.threads.total", threads as f64),
        ]
        .into();
        Metrics { values, latency: merge(consumers().map(|consumer| &consumer.tally.latency)) }
    }

    /// Refuses further publishes and subscriptions, lets consumers handle what was accepted, and returns when they have
    /// or when `limit` (or 5 ms, should it be shorter) has passed, whichever is first.
    ///
    /// Consumers that have not finished by then are stopped: what they have not handled is handed back in the report,
    /// and one that is stuck in a handler is abandoned, its running call in doubt. From a handler, all consumers are waited
    /// for but its own, and those of later stages, which wait for it. May be called again; the second report has nothing
    /// to hand back.
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport<P> {
        shut_down(self.shared(), limit)
    }
}

impl<P> Clone for Broker<P> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<P> fmt::Debug for Broker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.handle.0;
        f.debug_struct("Broker")
            .field("origin", &shared.origin)
            .field("is_closed", &shared.is_closed())
            .finish()
    }
}
