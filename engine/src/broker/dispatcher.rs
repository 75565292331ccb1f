//! Dispatchers: their options, how each is put together, and what the broker knows of it.

use super::account::consumer_tally::ConsumerTally;
use super::deliver::common::Common;
use super::deliver::consumer::Consumer;
use super::deliver::handlers::HandlerTable;
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
    /// Subscriptions that it owns.
    pub(crate) subscriptions: AtomicU32,
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
        let handlers =
            HandlerTable::new(addr, common.clone(), mailbox.clone(), waiting.clone(), tally.clone());
        let consumer = Consumer::new(poller, handlers, tally.clone());
        let planned =
            PlannedConsumer { dispatcher: self.name.clone(), thread: thread.clone(), placement, consumer };
        (ConsumerState { thread, mailbox, waiting, tally, subscriptions: AtomicU32::new(0) }, planned)
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
