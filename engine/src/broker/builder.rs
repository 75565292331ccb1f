//! Building a broker: its dispatchers, their rings and their threads.

use super::account::publishers::Publishers;
use super::core::Core;
#[cfg(feature = "durable-dead-letters")]
use super::dead_letters::durable::{self, DurableDeadLetters, OpenError};
use super::dead_letters::{DeadLetterOptions, SharedStore};
use super::deliver::common::Common;
use super::dispatcher::{Dispatcher, DispatcherState, PlannedConsumer, Rescue};
use super::error::{BrokerBuildError, MAX_DISPATCHERS, check_name};
use super::handle::Broker;
use super::id::BrokerId;
use super::lifecycle::reclaimer::{self, ReclaimSignal, Round};
use super::lifecycle::threads::ThreadRegistry;
use super::publish::lifetimes::Lifetimes;
use super::stall::report::Stall;
use super::stall::watch::{MIN_LIMIT, StallOptions, Watch};
use super::stall::watchdog;
use super::subscribe::callbacks::{ErrorCallback, FailedDelivery};
use super::subscribe::registry::Registry;
use crate::clock::{Clock, Watcher};
use crate::message::{Message, MessagePayload, Origin, Payload};
use crate::routing::{RingId, Routes, RoutingTable};
use crate::sync::atomic::AtomicBool;
use crate::sync::{CachePadded, Process};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The name of the dispatcher that a broker has when none is declared.
const DEFAULT_NAME: &str = "default";

/// The options of a broker. Without any dispatcher declared it has one, named `default`.
pub struct BrokerBuilder<P> {
    dispatchers: Vec<Dispatcher>,
    clock: Option<Clock>,
    on_error: Option<ErrorCallback<P>>,
    max_wildcards: usize,
    lifetimes: Vec<(String, Duration)>,
    dead_letters: Option<DeadLetterOptions>,
    #[cfg(feature = "durable-dead-letters")]
    durable: Option<DurableDeadLetters<P>>,
    stalls: StallOptions,
    is_simulated: bool,
    _payload: PhantomData<fn() -> P>,
}

/// What a broker's threads are made of, before they run.
pub(super) struct Planned<P> {
    pub(super) consumers: Vec<PlannedConsumer<P>>,
    /// What writes the dead letters that are to outlive the process.
    #[cfg(feature = "durable-dead-letters")]
    writer: Option<durable::Unstarted<P>>,
}

impl<P: MessagePayload> BrokerBuilder<P> {
    pub(super) fn new() -> Self {
        Self {
            dispatchers: Vec::new(),
            clock: None,
            on_error: None,
            max_wildcards: usize::MAX,
            lifetimes: Vec::new(),
            dead_letters: None,
            #[cfg(feature = "durable-dead-letters")]
            durable: None,
            stalls: StallOptions::default(),
            is_simulated: false,
            _payload: PhantomData,
        }
    }

    /// Declares a dispatcher. Subscriptions that name none go to the first one declared.
    #[must_use]
    pub fn dispatcher(mut self, dispatcher: Dispatcher) -> Self {
        self.dispatchers.push(dispatcher);
        self
    }

    /// Has the broker tell time by this clock; by the hardware's unless told otherwise.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Has a callback called for each failed delivery of any subscription, after the subscription's own. See
    /// [`SubscriptionBuilder::on_error`](crate::broker::SubscriptionBuilder::on_error).
    #[must_use]
    pub fn on_error(
        mut self,
        callback: impl Fn(&Message<'_, P>, &FailedDelivery<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Arc::new(callback));
        self
    }

    /// Refuses patterns with more than so many wildcards, `*` and `#` as they are written; by
    /// default none is refused.
    ///
    /// For brokers whose patterns are written by strangers. A publisher matches a topic when it
    /// publishes to it for the first time, and after changes that may concern it. That takes time
    /// in proportion to the nodes of the patterns' tree that are live, of which many patterns of
    /// many wildcards can make very many: [`Trie`](crate::routing::Trie) says how many, and how few
    /// a cap leaves. There is no cap by default since no single pattern is at fault: 32 wildcards
    /// in one cost what 32 words do.
    ///
    /// ```
    /// # use ringmain::broker::{Broker, SubscribeError};
    /// let broker: Broker = Broker::builder().max_wildcards(1).build()?;
    /// let _orders = broker.subscribe("orders.*.created", |_| ())?;
    /// let refused = broker.subscribe("#.a.#.a", |_| ()).map(drop);
    /// let pattern = "#.a.#.a".to_owned();
    /// assert_eq!(refused, Err(SubscribeError::TooManyWildcards { pattern, wildcards: 2, limit: 1 }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_wildcards(mut self, most: usize) -> Self {
        self.max_wildcards = most;
        self
    }

    /// Has the messages of all topics that match a pattern expire so long after they were published, unless their
    /// [options](crate::broker::PublishOptions) say when they expire. Can be told for several patterns: where more than
    /// one matches, the shortest time counts. By default messages do not expire.
    ///
    /// It holds for every publisher of the broker, also in handlers, and for dead letters that are
    /// [published again](crate::broker::dead_letters::DeadLetters::republish) without an expiry of their own. A batch
    /// counts from its own call. What is published to such a topic goes the way of a
    /// [publish with options](crate::broker::Publisher::publish_with), which reads the clock once more; no other
    /// publish is concerned.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u64>().expire_after("quotes.#", Duration::from_secs(2)).build()?;
    /// let (sender, expiries) = std::sync::mpsc::channel();
    /// let _all = broker.subscribe("#", move |message| sender.send(message.expires_at()))?;
    /// broker.publisher("quotes.eurusd")?.publish(975)?;
    /// broker.publisher("orders")?.publish(1)?;
    /// assert!(expires_soon(expiries.recv_timeout(Duration::from_secs(5))?));
    /// assert!(!expires_soon(expiries.recv_timeout(Duration::from_secs(5))?));
    /// # fn expires_soon(at: Option<ringmain::clock::Timestamp>) -> bool { at.is_some() }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn expire_after(mut self, pattern: &str, life: Duration) -> Self {
        self.lifetimes.push((pattern.to_owned(), life));
        self
    }

    /// Keeps what no handler could handle as [dead letters](crate::broker::dead_letters), in memory and within
    /// bounds; by default it is counted and dropped.
    ///
    /// A message becomes a dead letter when its last attempt has failed, with its payload, its headers and what each
    /// attempt has failed with; also where a subscription's backlog has no room for it, unless that was told otherwise,
    /// and where its breaker is open, if that was told so. It is copied for this. The same message that fails for two
    /// subscriptions is two dead letters.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::dead_letters::{DeadLetterOptions, Selection};
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().dead_letters(DeadLetterOptions::new()).build()?;
    /// let _billing = broker
    ///     .subscription()
    ///     .name("billing")
    ///     .pattern("orders")
    ///     .subscribe(|order| if **order == 13 { Err("no such customer") } else { Ok(()) })?;
    /// let mut orders = broker.publisher("orders")?;
    /// for order in 10..20 {
    ///     orders.publish(order)?;
    /// }
    /// broker.drain(Duration::from_secs(5))?;
    ///
    /// let dead = broker.dead_letters().ok_or("this broker keeps them")?;
    /// let letters = dead.query(&Selection::all().subscription("billing"));
    /// assert_eq!(letters.len(), 1);
    /// assert_eq!(letters[0].message.payload, 13);
    /// assert_eq!(letters[0].last_error(), Some("no such customer"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn dead_letters(mut self, options: DeadLetterOptions) -> Self {
        self.dead_letters = Some(options);
        self
    }

    /// Has [dead letters](Self::dead_letters) outlive the process: those of earlier processes are read back when the
    /// broker is built, and what changes is written by a thread of its own, for which nobody waits. What that promises
    /// is told in [`durable`](crate::broker::dead_letters::durable). Dead letters are kept then, with default options
    /// unless others are set.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// use ringmain::Broker;
    /// use ringmain::broker::dead_letters::durable::{Codec, DurableDeadLetters};
    ///
    /// let text = Codec::new(|n: &u32| Ok::<_, &str>(n.to_string().into_bytes()), |bytes| {
    ///     str::from_utf8(bytes).unwrap_or_default().parse::<u32>()
    /// });
    /// let durable = DurableDeadLetters::at_with(directory.path().join("dead-letters"), text);
    /// let broker = Broker::of::<u32>().durable_dead_letters(durable).build()?;
    /// let dead = broker.dead_letters().ok_or("this broker keeps them")?;
    /// assert_eq!(dead.opened().map(|report| report.restored), Some(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "durable-dead-letters")]
    #[must_use]
    pub fn durable_dead_letters(mut self, durable: DurableDeadLetters<P>) -> Self {
        self.durable = Some(durable);
        self.dead_letters.get_or_insert_default();
        self
    }

    /// Sets how long something may stand still before the broker says so: a call of a handler that does not return, or
    /// a ring that publishers wait for. By default one second; at least one millisecond. `None` switches it off: there
    /// is no watchdog then, and no thread for it.
    ///
    /// What stands still is told as a warning (target `ringmain::stall`) with the names of subscription, topic and
    /// thread, at this age and at each doubling of it; when it is over, that is told once. It is also told to the
    /// [callback](Self::on_stall), and [listed](crate::broker::Broker::stalls); also of a call whose consumer [was
    /// replaced](crate::broker::Dispatcher::rescuable), until it returns.
    ///
    /// A thread of its own, `rm-watchdog`, looks four times within this time, and at least every 250 ms. Deliveries
    /// and publishes do nothing for it. An age is told late, by up to two such intervals, never too high: it is the
    /// time between two looks that have found the same call. All calls about one delivery (its filter, its handler,
    /// its error callbacks) count as one, and never those of two deliveries. A call whose thread the machine has no
    /// core for takes long as well, and is told. Code that runs outside of a call, such as the drop of a handler
    /// whose subscription ends, is not seen by itself, but by the publishers who wait for it.
    ///
    /// A call whose subscription has a [time limit](crate::broker::SubscriptionBuilder::time_limit) is told at that,
    /// and not at this; as long as there is such a subscription the thread looks four times within the shortest of
    /// these limits, at most once a millisecond.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use std::time::Duration;
    /// let patient = Broker::builder().stall_after(Duration::from_secs(30)).build()?;
    /// let unwatched = Broker::builder().stall_after(None).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stall_after(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.stalls.limit = limit.into();
        self
    }

    /// Has a callback called for each [stall](Stall), whenever it is logged: at
    /// [its limit](Self::stall_after), and at each doubling of its age. A later one takes the place of an earlier one.
    ///
    /// It is also called when a consumer was [replaced by itself](crate::broker::Dispatcher::rescue_after), with
    /// [`is_replaced`](Stall::is_replaced) set.
    ///
    /// It is called on the watchdog's thread, where it may block: meanwhile no stall is told, and nothing else is held
    /// up. A panic of it is caught, and counted in `messaging.stall_callback.panics`
    /// ([`Metrics`](crate::observe::Metrics)). What it captures lives as long as the broker: a handle of it should be a
    /// [`WeakBroker`](crate::broker::WeakBroker). One that hangs holds no shutdown up: its thread is left to itself.
    ///
    /// ```
    /// use ringmain::Broker;
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// let (sender, stalls) = channel();
    /// let broker = Broker::of::<u32>()
    ///     .stall_after(Duration::from_millis(20))
    ///     .on_stall(move |stall| _ = sender.send(stall.clone()))
    ///     .build()?;
    /// let (go_on, door) = channel::<()>();
    /// let _slow = broker.subscription().name("slow").pattern("a").subscribe(move |_| _ = door.recv())?;
    /// broker.publisher("a")?.publish(1)?;
    /// let stall = stalls.recv_timeout(Duration::from_secs(5))?;
    /// assert_eq!(stall.subscription.as_deref(), Some("slow"));
    /// assert!(stall.age >= Duration::from_millis(20));
    /// go_on.send(())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn on_stall(mut self, callback: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.stalls.callback = Some(Arc::new(callback));
        self
    }

    /// Allocates the rings and starts the threads. Everything is checked first; where something fails nothing is left
    /// running.
    ///
    /// # Errors
    /// Options that do not do, rings that do not fit the memory, a core that does not exist, a thread that the
    /// system refuses, or dead letters of earlier processes that cannot be read.
    pub fn build(self) -> Result<Broker<P>, BrokerBuildError> {
        // From here on a failure drops the broker, which closes it, which ends the threads that have started.
        let (broker, planned) = self.assemble()?;
        let weak = Arc::downgrade(broker.core());
        reclaimer::start(broker.core().reclaim_signal.clone(), move || {
            weak.upgrade().map_or(Round::Over, |core| core.reclaim())
        })
        .map_err(|error| BrokerBuildError::Reclaimer { kind: error.kind() })?;
        if let Some(watch) = &broker.core().watch {
            watchdog::start(broker.core(), watch)
                .map_err(|error| BrokerBuildError::Watchdog { kind: error.kind() })?;
        }
        #[cfg(feature = "durable-dead-letters")]
        if let (Some(writer), Some(store)) = (planned.writer, &broker.core().dead_letters) {
            writer.start(store)?;
        }
        for consumer in planned.consumers {
            consumer.start()?;
        }
        Ok(broker)
    }

    /// Nobody is to wait for anybody: there are no threads.
    pub(super) fn without_waiting(mut self) -> Self {
        self.is_simulated = true;
        self
    }

    /// Everything but the threads.
    pub(super) fn assemble(self) -> Result<(Broker<P>, Planned<P>), BrokerBuildError> {
        let Self {
            mut dispatchers,
            clock,
            on_error,
            max_wildcards,
            lifetimes,
            dead_letters,
            #[cfg(feature = "durable-dead-letters")]
            durable,
            stalls,
            is_simulated,
            _payload,
        } = self;
        if dispatchers.is_empty() {
            dispatchers.push(Dispatcher::new(DEFAULT_NAME));
        }
        if is_simulated {
            dispatchers.iter_mut().for_each(Dispatcher::refuse_when_full);
        }
        check(&dispatchers)?;
        if !is_simulated {
            check_rescues(&dispatchers, stalls.limit.is_some())?;
        }
        let lifetimes = check_lifetimes(lifetimes)?;
        let clock = clock.unwrap_or_else(Clock::hardware);
        #[cfg(feature = "durable-dead-letters")]
        let (dead_letters, writer) = match (dead_letters, durable) {
            (Some(_), Some(_)) if is_simulated => return Err(OpenError::Simulated.into()),
            (Some(options), Some(durable)) => {
                let (store, writer) = durable::open(durable, options, &clock)?;
                (Some(store), Some(writer))
            }
            (options, _) => (options.map(|options| Arc::new(SharedStore::new(options))), None),
        };
        #[cfg(not(feature = "durable-dead-letters"))]
        let dead_letters = dead_letters.map(|options| Arc::new(SharedStore::new(options)));
        let routes = Arc::new(Routes::default());
        let common = Common {
            id: BrokerId::of(&routes),
            origin: Origin::random(),
            clock,
            routes,
            registry: Arc::new(Registry::default()),
            threads: Arc::new(ThreadRegistry::new()),
            dead_letters,
            process: Process::current(),
        };
        let mut rings = Vec::new();
        let mut states = Vec::new();
        let mut planned = Vec::new();
        for (number, options) in (0..).zip(&dispatchers) {
            let assembled = options.assemble(number, RingId::new(number), &common)?;
            rings.push(assembled.ring);
            states.push(assembled.state);
            planned.extend(assembled.consumers);
        }
        let Common { id, origin, clock, process, routes, registry, threads, dead_letters } = common;
        let on_advance = on_advance(&states);
        clock.watch(&on_advance);
        let consumers = states.iter().map(|state| state.consumers.len()).sum();
        // Where there are no threads nothing stands still; nor does it in a model, in which no time passes.
        let watch = if is_simulated || cfg!(ringmain_loom) {
            None
        } else {
            Watch::new(stalls, consumers, rings.len())
        };
        if let Some(watch) = &watch {
            for state in &states {
                if let Rescue::After(age) = state.rescue {
                    watch.look_within(age);
                }
            }
        }
        let core = Arc::new(Core {
            id,
            origin,
            clock,
            _on_advance: on_advance,
            on_error,
            max_wildcards,
            lifetimes,
            table: RoutingTable::new(),
            routes,
            registry,
            publishers: Publishers::default(),
            rings,
            dispatchers: states,
            threads,
            dead_letters,
            reclaim_signal: Arc::new(ReclaimSignal::new()),
            watch: watch.map(Arc::new),
            process,
            is_simulated,
            is_closed: CachePadded::new(AtomicBool::new(false)),
            is_quiescing: AtomicBool::new(false),
        });
        let planned = Planned {
            consumers: planned,
            #[cfg(feature = "durable-dead-letters")]
            writer,
        };
        Ok((Broker::from_core(core), planned))
    }
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

impl Broker<Payload> {
    /// A broker of bytes and text to be configured.
    pub fn builder() -> BrokerBuilder<Payload> {
        BrokerBuilder::new()
    }

    /// A broker of a payload type of yours to be configured.
    ///
    /// ```
    /// use ringmain::Broker;
    ///
    /// #[derive(Clone, Default)]
    /// struct Order { quantity: u32 }
    ///
    /// let broker = Broker::of::<Order>().build()?;
    /// broker.subscribe("orders", |message| println!("{} pieces", message.quantity))?.detach();
    /// broker.publisher("orders")?.publish(Order { quantity: 2 })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The type can also be told by what becomes of the broker:
    ///
    /// ```
    /// # use ringmain::Broker;
    /// let broker: Broker<u64> = Broker::of().build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of<P: MessagePayload>() -> BrokerBuilder<P> {
        BrokerBuilder::new()
    }
}

/// Checks that somebody looks as often as dispatchers are to be rescued.
fn check_rescues(dispatchers: &[Dispatcher], has_watchdog: bool) -> Result<(), BrokerBuildError> {
    for dispatcher in dispatchers {
        let Rescue::After(age) = dispatcher.rescue else { continue };
        let problem = match () {
            () if !has_watchdog => "there is no watchdog (stall_after) to do so; rescuable leaves it to you",
            () if age < MIN_LIMIT => "it is to be at least 1 ms",
            () => continue,
        };
        return Err(BrokerBuildError::Rescue { dispatcher: dispatcher.name.clone(), age, problem });
    }
    Ok(())
}

fn check_lifetimes(told: Vec<(String, Duration)>) -> Result<Lifetimes, BrokerBuildError> {
    if let Some((pattern, _)) = told.iter().find(|(_, life)| life.is_zero()) {
        return Err(BrokerBuildError::NoLifetime { pattern: pattern.clone() });
    }
    Lifetimes::new(told).map_err(|(pattern, reason)| BrokerBuildError::LifetimePattern { pattern, reason })
}

/// Returns what has the consumers look at the clock.
fn on_advance<P: MessagePayload>(dispatchers: &[DispatcherState<P>]) -> Arc<Watcher> {
    let consumers = dispatchers.iter().flat_map(|dispatcher| &dispatcher.consumers);
    let mailboxes: Vec<_> = consumers.map(|consumer| consumer.mailbox.clone()).collect();
    Arc::new(move || mailboxes.iter().for_each(|mailbox| mailbox.supervisor().announce_mail()))
}

/// Checks everything that can be checked before anything is made.
fn check(dispatchers: &[Dispatcher]) -> Result<(), BrokerBuildError> {
    if dispatchers.len() > MAX_DISPATCHERS {
        return Err(BrokerBuildError::TooManyDispatchers { count: dispatchers.len() });
    }
    for (number, options) in dispatchers.iter().enumerate() {
        check_name(&options.name).map_err(|problem| BrokerBuildError::Name { number, problem })?;
        if dispatchers[..number].iter().any(|other| other.name == options.name) {
            return Err(BrokerBuildError::NameTaken { name: options.name.clone() });
        }
        options.check()?;
    }
    Ok(())
}

impl<P> fmt::Debug for BrokerBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerBuilder").field("dispatchers", &self.dispatchers).finish_non_exhaustive()
    }
}
