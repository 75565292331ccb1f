//! Building a broker: its dispatchers, their rings and their threads.

use super::consumer::{Consumer, ConsumerTally};
use super::deadlock::Waits;
use super::desk::Desk;
use super::error::check_name;
use super::housekeeper::{self, Bell, Round};
use super::mailbox::Mailbox;
use super::roster::{Publishers, Roster};
use super::shared::{Broker, ConsumerState, DispatcherState, Shared};
use super::shutdown::Exits;
use crate::affinity::{Pinning, pin_current_thread};
use crate::clock::Clock;
use crate::message::{Envelope, Origin};
use crate::ring::{self, ConsumerId, Overflow, RingBuilder, check_capacity};
use crate::routing::{Routes, RoutingTable};
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{CachePadded, Mutex, thread};
use crate::wait::WaitStrategy;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, mpsc};

/// The name of the dispatcher that a broker has when none is declared.
const DEFAULT_NAME: &str = "default";
/// The slots of a ring unless told otherwise: half a mebibyte with 64-byte payloads, 256 MiB at the very most.
const DEFAULT_CAPACITY: usize = 4_096;
/// The most consumers of one dispatcher.
const MOST_CONSUMERS: usize = 256;
/// The most dispatchers of one broker.
const MOST_DISPATCHERS: usize = 1_024;

/// A dispatcher to be: a ring and its stages of consumers, each consumer with a thread.
///
/// Its memory is the capacity times two cache lines (with payloads of up to 64 bytes), plus whatever its payloads keep on
/// the heap: at most 4 KiB a slot that holds a small message, at most 64 KiB a slot that holds a large one.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    name: String,
    capacity: usize,
    wait: WaitStrategy,
    pinning: Pinning,
    overflow: Overflow,
    stages: Vec<usize>,
}

impl Dispatcher {
    /// A dispatcher with 4,096 slots and one consumer, which parks when idle; publishers wait when it is full.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            capacity: DEFAULT_CAPACITY,
            wait: WaitStrategy::default(),
            pinning: Pinning::default(),
            overflow: Overflow::default(),
            stages: vec![1],
        }
    }

    /// The number of slots: a power of two.
    #[must_use]
    pub fn capacity(mut self, slots: usize) -> Self {
        self.capacity = slots;
        self
    }

    /// How its consumers wait for messages, and publishers for room.
    #[must_use]
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Where its threads run, in order of stage.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// What a publish does when the ring is full.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How many consumers each stage has, each with a thread. A stage sees a message when all consumers of the stage
    /// before have finished with it: `[1, 2]` is a journal before two consumers that share the subscriptions.
    #[must_use]
    pub fn stages(mut self, consumers: &[usize]) -> Self {
        self.stages = consumers.to_vec();
        self
    }
}

/// Why a broker could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerBuildError {
    /// A dispatcher's name is empty, too long or not printable.
    #[error("the name of dispatcher number {number} {problem}; it has 1 to 64 printable bytes")]
    Name {
        /// Which dispatcher, from 0.
        number: usize,
        /// What is wrong with its name.
        problem: String,
    },
    /// Two dispatchers have the same name.
    #[error("there are two dispatchers named {name:?}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Too many dispatchers.
    #[error("{count} dispatchers are too many; a broker has at most {MOST_DISPATCHERS}")]
    TooManyDispatchers {
        /// How many there were.
        count: usize,
    },
    /// A dispatcher without stages, a stage without consumers, or too many consumers.
    #[error(
        "the stages {stages:?} of dispatcher {dispatcher:?} do not do: at least one stage, each of at least one consumer, at most {MOST_CONSUMERS} in all"
    )]
    Stages {
        /// The dispatcher.
        dispatcher: String,
        /// What was asked for.
        stages: Vec<usize>,
    },
    /// A dispatcher's ring would drop messages that the ledger owes to subscriptions.
    #[error(
        "dispatcher {dispatcher:?}: a dispatcher's ring blocks or rejects; only a ring used alone may drop"
    )]
    Overflow {
        /// The dispatcher.
        dispatcher: String,
    },
    /// A ring cannot be built, or a thread cannot run where it was told to.
    #[error("dispatcher {dispatcher:?}: {reason}")]
    Ring {
        /// The dispatcher.
        dispatcher: String,
        /// What is wrong.
        reason: ring::BuildError,
    },
    /// The housekeeper's thread could not be started.
    #[error("the housekeeper's thread could not be started ({kind})")]
    Housekeeper {
        /// What the system said.
        kind: std::io::ErrorKind,
    },
}

/// A consumer whose thread is yet to be started.
pub(super) struct Planned<P> {
    dispatcher: String,
    thread: String,
    core: Option<usize>,
    pub(super) consumer: Consumer<P>,
}

/// The options of a broker. Without any dispatcher declared it has one, named `default`.
pub struct BrokerBuilder<P> {
    dispatchers: Vec<Dispatcher>,
    clock: Option<Clock>,
    _payload: PhantomData<fn() -> P>,
}

impl<P> BrokerBuilder<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { dispatchers: Vec::new(), clock: None, _payload: PhantomData }
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

    /// Allocates the rings and starts the threads. Everything is checked first; where something fails nothing is left
    /// running.
    ///
    /// # Errors
    /// Options that do not do, a core that does not exist, or a thread that the system refuses.
    pub fn build(self) -> Result<Broker<P>, BrokerBuildError> {
        // From here on a failure drops the broker, which closes it, which ends the threads that have started.
        let (broker, planned) = self.assemble()?;
        let house = Arc::downgrade(broker.shared());
        housekeeper::start(broker.shared().bell.clone(), move || {
            house.upgrade().map_or(Round::Over, |shared| shared.keep_house())
        })
        .map_err(|error| BrokerBuildError::Housekeeper { kind: error.kind() })?;
        for consumer in planned {
            start(broker.shared(), consumer)?;
        }
        Ok(broker)
    }

    /// Everything but the threads.
    pub(super) fn assemble(self) -> Result<(Broker<P>, Vec<Planned<P>>), BrokerBuildError> {
        let Self { mut dispatchers, clock, .. } = self;
        if dispatchers.is_empty() {
            dispatchers.push(Dispatcher::new(DEFAULT_NAME));
        }
        check(&dispatchers)?;
        let clock = clock.unwrap_or_else(Clock::hardware);
        let origin = Origin::random();
        let routes = Arc::new(Routes::default());
        let roster = Arc::new(Roster::default());
        let exits = Arc::new(Exits::new());

        let mut states = Vec::new();
        let mut planned = Vec::new();
        for (number, options) in dispatchers.iter().enumerate() {
            if matches!(options.overflow, Overflow::DropNewest | Overflow::DropOldest) {
                return Err(BrokerBuildError::Overflow { dispatcher: options.name.clone() });
            }
            let in_ring = |reason| BrokerBuildError::Ring { dispatcher: options.name.clone(), reason };
            let mut consumers = Vec::new();
            let mut stages = Vec::new();
            let mut graph = RingBuilder::new(options.capacity, Envelope::default)
                .map_err(in_ring)?
                .wait(options.wait)
                .overflow(options.overflow)
                .graph();
            let count = options.stages.iter().sum();
            let cores = options.pinning.place(count).map_err(|reason| {
                in_ring(ring::BuildError::Affinity { name: options.name.clone(), reason })
            })?;
            let mut before: Vec<ConsumerId> = Vec::new();
            for &width in &options.stages {
                let start = consumers.len();
                let mut stage = Vec::new();
                for _ in 0..width {
                    let (id, poller) = graph.poller(&before).map_err(in_ring)?;
                    stage.push(id);
                    let index = consumers.len();
                    let mailbox = Arc::new(Mailbox::new(poller.overseer()));
                    let tally = Arc::new(ConsumerTally::default());
                    let thread = format!("rm-{}-{index}", options.name);
                    let find = {
                        let roster = roster.clone();
                        Box::new(move |id| roster.find(id))
                    };
                    let place = (number as u16, index as u16);
                    let desk = Desk::new(place, origin, clock.clone(), mailbox.clone(), routes.clone(), find);
                    let consumer = Consumer {
                        poller,
                        desk,
                        tally: tally.clone(),
                        exits: exits.clone(),
                        broker: Arc::as_ptr(&routes).addr(),
                        batches: 0,
                    };
                    let (dispatcher, core) = (options.name.clone(), cores[index]);
                    planned.push(Planned { dispatcher, thread: thread.clone(), core, consumer });
                    consumers.push(ConsumerState {
                        thread,
                        mailbox,
                        tally,
                        subscriptions: AtomicU32::new(0),
                    });
                }
                stages.push(start..consumers.len());
                before = stage;
            }
            let (producer, ring) = graph.multi().map_err(in_ring)?;
            let producer = Mutex::new(producer);
            states.push(DispatcherState { name: options.name.clone(), ring, producer, stages, consumers });
        }

        let waits = Waits::new(states.iter().map(|state| state.consumers.len()));
        let shared = Arc::new(Shared {
            origin,
            clock,
            table: RoutingTable::new(),
            routes,
            roster,
            publishers: Publishers::default(),
            dispatchers: states,
            waits,
            exits,
            bell: Arc::new(Bell::new()),
            is_closed: CachePadded::new(AtomicBool::new(false)),
        });
        Ok((Broker::from_shared(shared), planned))
    }
}

/// Starts a consumer's thread and waits until it runs where it should.
fn start<P>(shared: &Shared<P>, planned: Planned<P>) -> Result<(), BrokerBuildError>
where
    P: Clone + Default + Send + Sync + 'static,
{
    let Planned { dispatcher, thread: name, core, consumer } = planned;
    let failed = |reason| Err(BrokerBuildError::Ring { dispatcher, reason });
    let (pinned, is_pinned) = mpsc::channel();
    shared.exits.enter();
    let body = move || {
        let outcome = core.map_or(Ok(()), pin_current_thread);
        let may_run = outcome.is_ok();
        let _ = pinned.send(outcome);
        drop(pinned);
        if may_run {
            consumer.run();
        } else {
            drop(consumer.exits.leaving(None));
        }
    };
    match thread::Builder::new().name(name.clone()).spawn(body) {
        // A thread that ends without an answer has panicked; it holds nobody up.
        Ok(_detached) => match is_pinned.recv() {
            Ok(Err(reason)) => failed(ring::BuildError::Affinity { name, reason }),
            _ => Ok(()),
        },
        Err(error) => {
            drop(shared.exits.leaving(None));
            failed(ring::BuildError::Thread { name, kind: error.kind() })
        }
    }
}

/// Checks everything that can be checked before anything is made.
fn check(dispatchers: &[Dispatcher]) -> Result<(), BrokerBuildError> {
    if dispatchers.len() > MOST_DISPATCHERS {
        return Err(BrokerBuildError::TooManyDispatchers { count: dispatchers.len() });
    }
    for (number, options) in dispatchers.iter().enumerate() {
        check_name(&options.name).map_err(|problem| BrokerBuildError::Name { number, problem })?;
        if dispatchers[..number].iter().any(|other| other.name == options.name) {
            return Err(BrokerBuildError::NameTaken { name: options.name.clone() });
        }
        let count = options.stages.iter().try_fold(0_usize, |sum, &width| sum.checked_add(width));
        if options.stages.is_empty()
            || options.stages.contains(&0)
            || count.is_none_or(|count| count > MOST_CONSUMERS)
        {
            let (dispatcher, stages) = (options.name.clone(), options.stages.clone());
            return Err(BrokerBuildError::Stages { dispatcher, stages });
        }
        let in_ring = |reason| BrokerBuildError::Ring { dispatcher: options.name.clone(), reason };
        check_capacity(options.capacity).map_err(in_ring)?;
        options
            .pinning
            .place(1)
            .map_err(|reason| in_ring(ring::BuildError::Affinity { name: options.name.clone(), reason }))?;
    }
    Ok(())
}

impl<P> fmt::Debug for BrokerBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerBuilder").field("dispatchers", &self.dispatchers).finish_non_exhaustive()
    }
}
