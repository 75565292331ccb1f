//! Dispatchers: their options, how each is put together, and what the broker knows of it.

use super::account::consumer_tally::ConsumerTally;
use super::deliver::common::Common;
use super::deliver::consumer::Consumer;
use super::deliver::handlers::HandlerTable;
use super::deliver::lending::Lending;
use super::deliver::mailbox::Mailbox;
use super::error::{BrokerBuildError, MAX_CONSUMERS};
use super::name::DispatcherName;
use super::stall::waiting::WaitingPublishers;
use super::waiting::room::WaitingRoom;
use crate::affinity::{Pinning, Placement};
use crate::message::{Envelope, MessagePayload};
use crate::ring::{
    self, ConsumerId, MultiProducer, Overflow, Poller, Ring, RingBuilder, SlotPolicy, check_capacity,
    spawn_pinned,
};
use crate::routing::{ConsumerAddr, RingId};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::wait::WaitStrategy;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The default number of slots: half a mebibyte with 64-byte payloads, 256 MiB at the very most.
const DEFAULT_CAPACITY: usize = 4_096;

/// The options of a dispatcher: a ring and its stages of consumers, each consumer with a thread.
///
/// A dispatcher takes two cache lines of memory a slot (with payloads of up to 64 bytes), plus what
/// the payloads keep on the heap: at most 4 KiB for a slot that holds a small message, at most 64
/// KiB for one that holds a large message. Where the slots do not fit the memory, building the broker
/// is an error; see [`RingBuilder::graph`] for what that cannot find out.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    pub(super) name: String,
    capacity: usize,
    wait: WaitStrategy,
    pinning: Pinning,
    overflow: Overflow,
    is_best_effort: bool,
    stages: Vec<usize>,
    slot_policy: SlotPolicy,
    pub(super) rescue: Rescue,
}

/// Whether consumers of a dispatcher can be replaced while they are in a call of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rescue {
    Never,
    /// By whoever asks for it.
    ByHand,
    /// Also by the watchdog, at that age of the call.
    After(Duration),
}

impl Dispatcher {
    /// Declares a dispatcher with 4,096 slots and one consumer, which parks when idle. Publishers
    /// wait when it is full.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            capacity: DEFAULT_CAPACITY,
            wait: WaitStrategy::default(),
            pinning: Pinning::default(),
            overflow: Overflow::default(),
            is_best_effort: false,
            stages: vec![1],
            slot_policy: SlotPolicy::default(),
            rescue: Rescue::Never,
        }
    }

    /// Sets the number of slots: a power of two.
    #[must_use]
    pub fn capacity(mut self, slots: usize) -> Self {
        self.capacity = slots;
        self
    }

    /// Sets how its consumers wait for messages, and publishers for room.
    #[must_use]
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Sets where its threads run, in order of stage.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// Sets what a publish does when the ring is full.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Has a publish succeed also where this dispatcher does not take the message: it waits as the overflow policy
    /// says, and then goes on without. The messages that are missing are counted, here and for each subscription
    /// ([`RingLedger::refused`](super::RingLedger::refused),
    /// [`SubscriptionLedger::refused`](super::SubscriptionLedger::refused),
    /// [`DispatcherMetrics::refused`](crate::observe::DispatcherMetrics::refused)). For what may miss messages, such
    /// as a display; of any other dispatcher a publisher is told by an error. A topic that leads to such a dispatcher
    /// costs a publish as much as one that leads to several: the payload is written aside and cloned into the ring.
    /// Goes with [`Overflow::Reject`] or with [`Overflow::Block`] and a limit; a block without a limit refuses
    /// nothing.
    #[must_use]
    pub fn best_effort(mut self) -> Self {
        self.is_best_effort = true;
        self
    }

    /// Sets how many consumers each stage has, each with a thread. A stage sees a message when all
    /// consumers of the stage before have finished with it, or have put it aside for a subscription that is
    /// paused, retries, or has an open breaker: `[1, 2]` is a journal before two
    /// consumers that share the subscriptions.
    #[must_use]
    pub fn stages(mut self, consumers: &[usize]) -> Self {
        self.stages = consumers.to_vec();
        self
    }

    /// Sets what becomes of messages that have been handled: by default they stay in their slots
    /// until they are overwritten, [`SlotPolicy::Keep`].
    ///
    /// With [`SlotPolicy::Clear`] the last consumer clears each slot right after it has handled the
    /// message, on its own thread. The last stage must have one consumer then: put a stage of one
    /// behind it, which needs no subscriptions. Cleared are the payload, the headers, the correlation
    /// and the parent; ids, route and time stay. A [`Payload`](crate::message::Payload) is
    /// [wiped](crate::message::Payload::wipe), and keeps a buffer of up to 4 KiB for the next message,
    /// filled with zeros; headers keep their buffer in the same way. Any other type of payload is
    /// replaced by its `Default`, and dropped: it is for its `Drop` to wipe what it has on the heap.
    ///
    /// A `Default` or `Drop` that panics is caught, and one that does not return is taken over by a
    /// shutdown, as a handler is. What was not handled is not cleared: a shutdown hands it back. Nor
    /// is what others keep: a handler's own copies, and the copy that a publisher keeps of its last
    /// message to several dispatchers, until it publishes to several again or is dropped.
    #[must_use]
    pub fn slot_policy(mut self, policy: SlotPolicy) -> Self {
        self.slot_policy = policy;
        self
    }
}

impl Dispatcher {
    /// Has its consumers replaced when a call of a handler does not return: when somebody asks for it, with
    /// [`Broker::rescue`](crate::broker::Broker::rescue). [`rescue_after`](Self::rescue_after) does so by itself.
    ///
    /// A fresh thread then goes on with all that the stuck one had to do: its ring, its other subscriptions, what
    /// waits, retries and dead letters. Nothing of it is lost, counted twice or out of order. The message that the
    /// stuck handler was called with is [in doubt](crate::broker::Term::InDoubt), for good, and listed as such by a
    /// shutdown: it is not tried again, no dead letter is made of it, and what that call returns is discarded, be it
    /// after the subscription's [time limit](crate::broker::SubscriptionBuilder::time_limit) or not. When the call has
    /// returned, the [breaker](crate::broker::SubscriptionBuilder::breaker) counts it as failed. The call is told
    /// ([`is_cancelled`](crate::message::Message::is_cancelled)). What comes for the stuck subscription waits in its
    /// [backlog](crate::broker::SubscriptionBuilder::backlog), and goes on when the call has returned after all; its
    /// [status](crate::broker::SubscriptionStatus::is_away) says so. A shutdown waits for it until shortly before its
    /// limit, then names it ([`abandoned`](crate::broker::ShutdownReport::abandoned)), and hands back what waits. A
    /// [drain](crate::broker::Broker::drain) waits for what waits behind it, and not for the call itself.
    ///
    /// What it costs: every message of every subscription of this dispatcher is copied before its handler is called,
    /// as one that has waited is, since a stuck handler would hold the slot otherwise. It allocates, and takes some
    /// 340 ns more (`ringmain-bench cost`). So a handler that may hang, such as one that calls a network, is best kept
    /// on a dispatcher of its own, and this is for those that share it. A thread more runs for each handler that is
    /// stuck.
    ///
    /// What it does not help against: a filter, a key, a fallback or a payload's `Clone` that does not return holds the
    /// slot; a callback, an error's `Display` or a payload's `Drop` that does not return is none of the handler's
    /// calls. [`Broker::stalls`](crate::broker::Broker::stalls) tells of them, and a shutdown ends.
    ///
    /// A subscription that [conflates](crate::broker::SubscriptionBuilder::conflate) is refused here: while its handler
    /// is stuck nobody can be asked for keys. What a filter and a key for idempotency would be asked then is asked when
    /// the handler is back; until then an unwanted message takes a place in the backlog.
    ///
    /// A later [stage](Self::stages) does not wait for handlers of this one: it sees a message when that was copied.
    #[must_use]
    pub fn rescuable(mut self) -> Self {
        if self.rescue == Rescue::Never {
            self.rescue = Rescue::ByHand;
        }
        self
    }

    /// Has the [watchdog](crate::broker::BrokerBuilder::stall_after) replace a consumer whose handler has been in a
    /// call for so long: see [`rescuable`](Self::rescuable). At least 1 ms. It comes up to two looks of the watchdog
    /// later, which looks four times within this age, at most once a millisecond and at least every 250 ms. A thread of
    /// its own, `rm-rescuer`, does it, which waits for no callback and no log. In a simulation nothing is replaced.
    ///
    /// That it was done is logged (target `ringmain::rescue`), and told to
    /// [`on_stall`](crate::broker::BrokerBuilder::on_stall), with the message's id; that it cannot be done is logged,
    /// once for each call. [`Broker::stalls`](crate::broker::Broker::stalls) lists the call until it returns.
    ///
    /// Without a watchdog (`stall_after(None)`), or below 1 ms, building the broker is an error.
    ///
    /// ```
    /// use ringmain::broker::Dispatcher;
    /// use ringmain::Broker;
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// let shared = Dispatcher::new("shared").rescue_after(Duration::from_millis(20));
    /// let broker = Broker::of::<u32>().dispatcher(shared).build()?;
    /// let (go_on, until_then) = channel::<()>();
    /// let (sender, received) = channel();
    /// let stuck = broker.subscription().pattern("a").subscribe(move |_| _ = until_then.recv())?;
    /// let other = broker.subscription().pattern("a").subscribe(move |number| _ = sender.send(**number))?;
    ///
    /// for number in 0..3 {
    ///     let _ = broker.publisher("a")?.publish(number)?;
    /// }
    /// let limit = Duration::from_secs(5);
    /// for number in 0..3 {
    ///     assert_eq!(received.recv_timeout(limit)?, number);
    /// }
    /// assert!(stuck.status().is_away);
    /// drop(go_on); // It returns after all: one message is in doubt, and the others are delivered.
    /// let report = broker.shutdown(limit)?;
    /// assert_eq!(report.ledger.total().count(ringmain::broker::Term::InDoubt), 1);
    /// assert_eq!((stuck.delivered(), other.delivered()), (2, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn rescue_after(mut self, age: Duration) -> Self {
        self.rescue = Rescue::After(age);
        self
    }
}

/// A ring as publishers and accounts know it.
pub(crate) struct RingState<P> {
    pub(crate) ring: Ring<Envelope<P>>,
    /// The producer that publishers clone.
    pub(crate) producer: Mutex<MultiProducer<Envelope<P>>>,
    /// The dispatcher whose consumers read it.
    pub(crate) dispatcher: u16,
}

/// A dispatcher as others know it: its consumers, stage by stage.
pub(crate) struct DispatcherState<P> {
    pub(crate) name: DispatcherName,
    /// Whether a message counts as published that it has no room for.
    pub(crate) is_best_effort: bool,
    pub(crate) rescue: Rescue,
    /// Messages that its ring did not take. Written where a publish is refused.
    pub(crate) refused: AtomicU64,
    /// Who waits for room in its ring.
    pub(crate) waiting: WaitingPublishers,
    /// The ring that its consumers read.
    pub(crate) ring: RingId,
    /// The consumers of each stage.
    pub(crate) stages: Vec<Range<usize>>,
    pub(crate) consumers: Vec<ConsumerState<P>>,
}

/// A consumer as others know it.
pub(crate) struct ConsumerState<P> {
    /// The name of its thread.
    pub(crate) thread: String,
    pub(crate) mailbox: Arc<Mailbox<P>>,
    pub(crate) waiting: Arc<WaitingRoom<P>>,
    pub(crate) tally: Arc<ConsumerTally>,
    /// What another needs to take its place, if one may.
    pub(crate) standby: Option<Standby<P>>,
    /// Subscriptions that it owns.
    pub(crate) subscriptions: AtomicU32,
}

/// What a consumer needs that takes another's place.
pub(crate) struct Standby<P> {
    pub(crate) common: Common<P>,
    pub(crate) lending: Arc<Lending<P>>,
    pub(crate) placement: Placement,
}

/// A consumer whose thread is yet to be started.
pub(super) struct PlannedConsumer<P> {
    dispatcher: String,
    thread: String,
    placement: Placement,
    pub(super) consumer: Consumer<P>,
}

/// A dispatcher that has been put together, and nothing started.
pub(super) struct Assembled<P> {
    pub(super) ring: RingState<P>,
    pub(super) state: DispatcherState<P>,
    pub(super) consumers: Vec<PlannedConsumer<P>>,
}

impl Dispatcher {
    /// Has a publish refused that would wait for room.
    pub(super) fn refuse_when_full(&mut self) {
        if let Overflow::Block { .. } = self.overflow {
            self.overflow = Overflow::Reject;
        }
    }

    /// Checks everything that can be checked before anything is made.
    pub(super) fn check(&self) -> Result<(), BrokerBuildError> {
        let count = self.stages.iter().try_fold(0_usize, |sum, &width| sum.checked_add(width));
        if self.stages.is_empty()
            || self.stages.contains(&0)
            || count.is_none_or(|count| count > MAX_CONSUMERS)
        {
            let (dispatcher, stages) = (self.name.clone(), self.stages.clone());
            return Err(BrokerBuildError::Stages { dispatcher, stages });
        }
        if self.slot_policy == SlotPolicy::Clear
            && let Some(&consumers) = self.stages.last()
            && consumers > 1
        {
            return Err(BrokerBuildError::LastStage { dispatcher: self.name.clone(), consumers });
        }
        check_capacity(self.capacity).map_err(|reason| self.ring_error(reason))?;
        self.place(1).map(drop)
    }

    /// Makes the ring and the consumers, which know each other by their numbers in the broker.
    pub(super) fn assemble<P: MessagePayload>(
        &self,
        number: u16,
        ring: RingId,
        common: &Common<P>,
    ) -> Result<Assembled<P>, BrokerBuildError> {
        if matches!(self.overflow, Overflow::DropNewest | Overflow::DropOldest) {
            return Err(BrokerBuildError::Overflow { dispatcher: self.name.clone() });
        }
        let mut graph = RingBuilder::new(self.capacity, Envelope::default)
            .map_err(|reason| self.ring_error(reason))?
            .wait(self.wait)
            .overflow(self.overflow)
            .slot_policy(self.slot_policy)
            .renewed_by(Envelope::clear)
            .graph()
            .map_err(|reason| self.ring_error(reason))?;
        let mut placements = self.place(self.stages.iter().sum())?.into_iter();
        let mut state = DispatcherState {
            name: self.name.as_str().into(),
            is_best_effort: self.is_best_effort,
            rescue: self.rescue,
            refused: AtomicU64::new(0),
            waiting: WaitingPublishers::default(),
            ring,
            stages: Vec::new(),
            consumers: Vec::new(),
        };
        let mut consumers = Vec::new();
        let mut before: Vec<ConsumerId> = Vec::new();
        for (number_of_stage, &width) in self.stages.iter().enumerate() {
            let start = state.consumers.len();
            let mut stage = Vec::new();
            for index in start..start + width {
                let (id, poller) = graph.poller(&before).map_err(|reason| self.ring_error(reason))?;
                stage.push(id);
                let addr = ConsumerAddr { dispatcher: number, number: index as u16 };
                let (known, planned) = self.consumer(
                    addr,
                    number_of_stage,
                    poller,
                    placements.next().unwrap_or_default(),
                    common,
                );
                state.consumers.push(known);
                consumers.push(planned);
            }
            state.stages.push(start..state.consumers.len());
            before = stage;
        }
        let (producer, ring) = graph.build_multi_producer().map_err(|reason| self.ring_error(reason))?;
        let ring = RingState { ring, producer: Mutex::new(producer), dispatcher: number };
        Ok(Assembled { ring, state, consumers })
    }

    /// Makes a consumer: what others know of it, and what its thread is to run.
    fn consumer<P: MessagePayload>(
        &self,
        addr: ConsumerAddr,
        stage: usize,
        poller: Poller<Envelope<P>>,
        placement: Placement,
        common: &Common<P>,
    ) -> (ConsumerState<P>, PlannedConsumer<P>) {
        let mailbox = Arc::new(Mailbox::new(poller.supervisor()));
        let waiting = Arc::new(WaitingRoom::default());
        let thread = format!("rm-{}-{}", self.name, addr.number);
        common.threads.enter(addr, stage, &thread, poller.supervisor());
        let tally = Arc::new(ConsumerTally::default());
        let mut handlers =
            HandlerTable::new(addr, common.clone(), mailbox.clone(), waiting.clone(), tally.clone());
        let standby = (self.rescue != Rescue::Never).then(|| {
            let lending = Arc::new(Lending::new(common, &mailbox, waiting.clone(), tally.clone()));
            handlers.lend_to(lending.clone());
            Standby { common: common.clone(), lending, placement }
        });
        let consumer = Consumer::new(poller, handlers, tally.clone());
        let planned =
            PlannedConsumer { dispatcher: self.name.clone(), thread: thread.clone(), placement, consumer };
        let subscriptions = AtomicU32::new(0);
        (ConsumerState { thread, mailbox, waiting, tally, standby, subscriptions }, planned)
    }

    /// Returns where each of so many threads is to run.
    fn place(&self, count: usize) -> Result<Vec<Placement>, BrokerBuildError> {
        self.pinning
            .place(count)
            .map_err(|reason| self.ring_error(ring::BuildError::Affinity { name: self.name.clone(), reason }))
    }

    fn ring_error(&self, reason: ring::BuildError) -> BrokerBuildError {
        BrokerBuildError::Ring { dispatcher: self.name.clone(), reason }
    }
}

impl<P: MessagePayload> PlannedConsumer<P> {
    /// Starts the consumer's thread and waits until it runs where it should.
    pub(super) fn start(self) -> Result<(), BrokerBuildError> {
        let Self { dispatcher, thread, placement, consumer } = self;
        let (threads, addr) = (consumer.threads().clone(), consumer.addr());
        threads.start(addr);
        // Detached: a shutdown waits for the registry of threads and not for them.
        spawn_pinned(&thread, placement, move || consumer.run()).map(drop).map_err(|reason| {
            drop(threads.exit_guard(addr));
            BrokerBuildError::Ring { dispatcher, reason }
        })
    }
}
