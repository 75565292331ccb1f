//! Building a broker: its dispatchers, their rings and their threads.

use super::account::publishers::Publishers;
use super::core::Core;
use super::deliver::consumer::{Consumer, ConsumerTally};
use super::deliver::handlers::HandlerTable;
use super::deliver::mailbox::Mailbox;
use super::dispatcher::{ConsumerState, Dispatcher, DispatcherState};
use super::error::{BrokerBuildError, MAX_CONSUMERS, MAX_DISPATCHERS, check_name};
use super::handle::Broker;
use super::lifecycle::reclaimer::{self, ReclaimSignal, Round};
use super::lifecycle::threads::ThreadRegistry;
use super::publish::wait_graph::WaitForGraph;
use super::subscribe::registry::Registry;
use crate::clock::Clock;
use crate::message::{Envelope, MessagePayload, Origin, Payload};
use crate::ring::{self, ConsumerId, Overflow, RingBuilder, check_capacity, spawn_pinned};
use crate::routing::{Routes, RoutingTable};
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{CachePadded, Mutex};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

/// The name of the dispatcher that a broker has when none is declared.
const DEFAULT_NAME: &str = "default";

/// A consumer whose thread is yet to be started.
pub(super) struct Planned<P> {
    dispatcher: String,
    thread: String,
    cpu: Option<usize>,
    pub(super) consumer: Consumer<P>,
}

/// The options of a broker. Without any dispatcher declared it has one, named `default`.
pub struct BrokerBuilder<P> {
    dispatchers: Vec<Dispatcher>,
    clock: Option<Clock>,
    _payload: PhantomData<fn() -> P>,
}

impl<P: MessagePayload> BrokerBuilder<P> {
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
        let weak = Arc::downgrade(broker.core());
        reclaimer::start(broker.core().reclaim_signal.clone(), move || {
            weak.upgrade().map_or(Round::Over, |core| core.reclaim())
        })
        .map_err(|error| BrokerBuildError::Reclaimer { kind: error.kind() })?;
        for consumer in planned {
            start(broker.core(), consumer)?;
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
        let registry = Arc::new(Registry::default());
        let threads = Arc::new(ThreadRegistry::new());

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
                    let mailbox = Arc::new(Mailbox::new(poller.supervisor()));
                    let tally = Arc::new(ConsumerTally::default());
                    let thread = format!("rm-{}-{index}", options.name);
                    let find = {
                        let registry = registry.clone();
                        Box::new(move |id| registry.find(id))
                    };
                    let place = (number as u16, index as u16);
                    let handlers = HandlerTable::new(
                        place,
                        origin,
                        clock.clone(),
                        mailbox.clone(),
                        routes.clone(),
                        find,
                    );
                    let consumer = Consumer {
                        poller,
                        handlers,
                        tally: tally.clone(),
                        threads: threads.clone(),
                        broker: Arc::as_ptr(&routes).addr(),
                        batches: 0,
                    };
                    let (dispatcher, cpu) = (options.name.clone(), cores[index]);
                    planned.push(Planned { dispatcher, thread: thread.clone(), cpu, consumer });
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
            let (producer, ring) = graph.build_multi_producer().map_err(in_ring)?;
            let producer = Mutex::new(producer);
            states.push(DispatcherState { name: options.name.clone(), ring, producer, stages, consumers });
        }

        let wait_graph = WaitForGraph::new(states.iter().map(|state| state.consumers.len()));
        let core = Arc::new(Core {
            origin,
            clock,
            table: RoutingTable::new(),
            routes,
            registry,
            publishers: Publishers::default(),
            dispatchers: states,
            wait_graph,
            threads,
            reclaim_signal: Arc::new(ReclaimSignal::new()),
            is_closed: CachePadded::new(AtomicBool::new(false)),
        });
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

impl<P: MessagePayload> Broker<P> {
    /// A broker to be configured.
    pub fn builder() -> BrokerBuilder<P> {
        BrokerBuilder::new()
    }
}

/// Starts a consumer's thread and waits until it runs where it should.
fn start<P: MessagePayload>(core: &Core<P>, planned: Planned<P>) -> Result<(), BrokerBuildError> {
    let Planned { dispatcher, thread: name, cpu, consumer } = planned;
    core.threads.enter();
    // Detached: a shutdown waits for the registry of threads and not for them.
    spawn_pinned(&name, cpu, move || consumer.run()).map(drop).map_err(|reason| {
        drop(core.threads.exit_guard(None));
        BrokerBuildError::Ring { dispatcher, reason }
    })
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
        let count = options.stages.iter().try_fold(0_usize, |sum, &width| sum.checked_add(width));
        if options.stages.is_empty()
            || options.stages.contains(&0)
            || count.is_none_or(|count| count > MAX_CONSUMERS)
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
