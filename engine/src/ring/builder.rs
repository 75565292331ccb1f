//! Building a ring: first its options, then its consumers, then the producer's kind.
//!
//! A consumer can only depend on consumers that were added before it, so every graph is acyclic by construction.

use super::Sequence;
use super::control::{Control, Core, END_OF_SEQUENCES};
use super::gating::Stage;
use super::group::Group;
use super::handler::EventHandler;
use super::lanes::{self, Lanes};
use super::linger::{LINGER, LONGEST_LINGER};
use super::overflow::Overflow;
use super::plan::{ConsumerId, Plan};
use super::poller::Poller;
use super::position::Position;
use super::producer::{ExclusiveProducer, MultiProducer, Producer};
use super::runner::{Planned, Ring};
use super::sequencer::{Exclusive, Multi, Sequencer};
use super::slots::{Layout, Slots};
use super::sole::SolePoller;
use super::worker::{Key, Worker};
use crate::affinity::{AffinityError, Pinning};
use crate::wait::{Parking, SharedStrategy, WaitStrategy};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The most slots a ring may have.
const MOST_SLOTS: usize = 1 << 30;

/// Why a ring could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The capacity is not a power of two from 1 to 2^30.
    #[error(
        "a capacity of {capacity} is not a power of two from 1 to {MOST_SLOTS}; the next that fits is {next}"
    )]
    Capacity {
        /// What was asked for.
        capacity: usize,
        /// The nearest capacity that would do, not smaller where possible.
        next: usize,
    },
    /// A dependency that belongs to another ring, or that has left this one.
    #[error("consumer {name:?} depends on a consumer that is not of this ring, or has left it")]
    ForeignConsumer {
        /// The consumer that was to be added.
        name: String,
    },
    /// Two consumers would touch an event at once, of which one may change it.
    #[error(
        "consumer {name:?} would be at the same stage as {other:?}, and one of them may change events: \
         let one of the two depend on the other"
    )]
    NotAlone {
        /// The consumer that was to be added.
        name: String,
        /// The other one.
        other: String,
    },
    /// A ring that drops its oldest events has one stage.
    #[error("consumer {name:?} depends on others, which a ring with DropOldest does not allow")]
    StagesThatDrop {
        /// The consumer that was to be added.
        name: String,
    },
    /// A ring that drops its oldest events has no workers: what they have in hand cannot be taken from them.
    #[error("workers {name:?} share events, which a ring with DropOldest does not allow")]
    WorkersThatDrop {
        /// The group of workers that was to be added.
        name: String,
    },
    /// A group that nobody works in would hold the ring up for ever.
    #[error("the group {name:?} has no workers: give it at least one")]
    NoWorkers {
        /// The group that was to be added.
        name: String,
    },
    /// The number of lanes is out of bounds.
    #[error("the group {name:?} cannot have {lanes} lanes: give it 1 to {}", lanes::MOST)]
    Lanes {
        /// The group that was to be added.
        name: String,
        /// What was asked for.
        lanes: usize,
    },
    /// Nobody joins a group that is not there.
    #[error(
        "a worker cannot join: there is no such group of workers in this ring, or all of them have left it, \
         which ends a group"
    )]
    NoSuchGroup,
    /// The dense layout is for one producer.
    #[error("a dense ring has one producer: build it with exclusive(), or stamped for several")]
    DenseForMany,
    /// Nobody joins a ring that is closed.
    #[error("consumer {name:?} cannot join: the ring is closed")]
    Closed {
        /// The consumer that was to join.
        name: String,
    },
    /// A producer has had an event in hand for the whole time limit.
    #[error("consumer {name:?} cannot join: a producer did not finish filling its event in time")]
    TimedOut {
        /// The consumer that was to join.
        name: String,
    },
    /// A thread cannot run where it was told to.
    #[error("consumer {name:?}: {reason}")]
    Affinity {
        /// The consumer whose thread it is.
        name: String,
        /// What is wrong.
        reason: AffinityError,
    },
    /// The system refused a thread.
    #[error("consumer {name:?}: no thread could be started ({kind})")]
    Thread {
        /// The consumer whose thread it is.
        name: String,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
}

/// Checks a capacity.
pub(crate) fn check_capacity(capacity: usize) -> Result<(), BuildError> {
    if capacity.is_power_of_two() && capacity <= MOST_SLOTS {
        return Ok(());
    }
    Err(BuildError::Capacity { capacity, next: capacity.min(MOST_SLOTS).next_power_of_two() })
}

/// The options of a ring. The memory it takes is the capacity times the size of a slot; see [`Layout`].
pub struct RingBuilder<E> {
    capacity: usize,
    factory: Box<dyn Fn() -> E + Send + Sync>,
    layout: Layout,
    first: Sequence,
    overflow: Overflow,
    wait: WaitStrategy,
    linger: Duration,
    pinning: Pinning,
}

impl<E: Send + Sync + 'static> RingBuilder<E> {
    /// A ring of `capacity` slots (a power of two from 1 to 2^30), each with an event made by `factory`.
    ///
    /// # Errors
    /// [`BuildError::Capacity`].
    pub fn new(capacity: usize, factory: impl Fn() -> E + Send + Sync + 'static) -> Result<Self, BuildError> {
        check_capacity(capacity)?;
        Ok(Self {
            capacity,
            factory: Box::new(factory),
            layout: Layout::default(),
            first: 0,
            overflow: Overflow::default(),
            wait: WaitStrategy::default(),
            linger: LINGER,
            pinning: Pinning::default(),
        })
    }

    /// How events lie in memory. [`Layout::Stamped`] unless told otherwise.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The sequence of the first event; 0 unless told otherwise. For a ring that goes on where a journal ends. Sequences end
    /// at 2^62; one beyond that publishes nothing.
    #[must_use]
    pub fn first_sequence(mut self, first: Sequence) -> Self {
        self.first = first.min(END_OF_SEQUENCES);
        self
    }

    /// What a publish does on a full ring. Waits without limit unless told otherwise.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How managed consumers, and producers on a full ring, wait. Fixes whether the ring can ever park.
    #[must_use]
    pub fn wait(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// How long a managed consumer that has caught up under load waits before it looks again, where it finds that this
    /// makes events come faster; zero for never, 1 ms at most, 2 µs unless told otherwise. A consumer that lingers adds up to that much
    /// latency; it does so only while the producer runs at full speed, and tries for some 0.1 ms now and then whether it
    /// does.
    #[must_use]
    pub fn linger(mut self, breath: Duration) -> Self {
        self.linger = breath.min(LONGEST_LINGER);
        self
    }

    /// Where the threads of managed consumers run.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// Allocates the ring. Its consumers come next.
    pub fn graph(self) -> Graph<E> {
        let wait = SharedStrategy::new(self.wait);
        let readers = Arc::new(Parking::new(wait.may_park()));
        let capacity = self.capacity as u64;
        let control = Control::new(capacity, self.first, self.overflow, wait, self.linger, readers);
        let slots = Slots::new(self.layout, self.capacity, self.first, &self.factory);
        let core = Arc::new(Core { control, slots, factory: self.factory });
        Graph {
            first: self.first,
            core,
            pinning: self.pinning,
            plan: Plan::new(),
            keys: Vec::new(),
            planned: Vec::new(),
        }
    }
}

impl<E> fmt::Debug for RingBuilder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// The options of a managed consumer.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions<'a> {
    pub(super) name: &'a str,
    pub(super) after: &'a [ConsumerId],
    pub(super) longest_batch: u64,
}

impl<'a> ConsumerOptions<'a> {
    /// A consumer of that name, which its thread gets as well. It depends on no other.
    pub fn new(name: &'a str) -> Self {
        Self { name, after: &[], longest_batch: u64::MAX }
    }

    /// It sees an event when all of these have finished with it.
    #[must_use]
    pub fn after(mut self, consumers: &'a [ConsumerId]) -> Self {
        self.after = consumers;
        self
    }

    /// It handles so many events in one batch at most, and at least one. An eighth of the ring, and 512, are further limits.
    #[must_use]
    pub fn longest_batch(mut self, events: u64) -> Self {
        self.longest_batch = events.max(1);
        self
    }
}

/// The consumers of a ring that has no producer yet.
pub struct Graph<E> {
    first: Sequence,
    core: Arc<Core<E>>,
    pinning: Pinning,
    plan: Plan,
    keys: Keys<E>,
    planned: Vec<Planned>,
}

/// What tells the key of an event, of each keyed group.
pub(super) type Keys<E> = Vec<(ConsumerId, Key<E>)>;

/// Lanes a worker, where nobody says how many: enough for the quick ones to find something to do beside a slow one.
const LANES_A_WORKER: usize = 4;

impl<E: Send + Sync + 'static> Graph<E> {
    /// Adds a consumer that you poll. It sees an event when all consumers in `after` have finished with it.
    ///
    /// # Errors
    /// [`BuildError::ForeignConsumer`], [`BuildError::NotAlone`], [`BuildError::StagesThatDrop`].
    pub fn poller(&mut self, after: &[ConsumerId]) -> Result<(ConsumerId, Poller<E>), BuildError> {
        self.add("poller", after, false)
    }

    /// Adds a consumer that you poll and that may change events, because every other one comes before it or after it.
    ///
    /// # Errors
    /// As [`poller`](Self::poller).
    pub fn sole_poller(&mut self, after: &[ConsumerId]) -> Result<(ConsumerId, SolePoller<E>), BuildError> {
        let (id, poller) = self.add("sole poller", after, true)?;
        Ok((id, SolePoller::new(poller)))
    }

    /// Adds a consumer with a thread of its own, which starts when the ring is built and ends when the ring is closed
    /// and drained. The handler gets the event, its sequence, and whether it is the last of those found in one look.
    /// When it panics, the event is skipped and counted, and the next one is handled.
    ///
    /// # Errors
    /// As [`poller`](Self::poller).
    pub fn consumer(
        &mut self,
        name: &str,
        after: &[ConsumerId],
        handler: impl FnMut(&E, Sequence, bool) + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        self.consumer_with(ConsumerOptions::new(name).after(after), || handler)
    }

    /// Adds a consumer with a thread of its own and a handler that is made there, and so may hold what is not `Send`.
    ///
    /// ```
    /// use ringmain::ring::{Batch, ConsumerOptions, EventHandler, RingBuilder, Sequence};
    /// use std::{cell::RefCell, rc::Rc, time::Duration};
    ///
    /// struct Journal { lines: Rc<RefCell<Vec<u64>>> } // not `Send`
    /// impl EventHandler<u64> for Journal {
    ///     fn on_event(&mut self, event: &u64, _: Sequence, _: bool) { self.lines.borrow_mut().push(*event) }
    ///     fn on_batch_end(&mut self) { /* one write for all of them */ self.lines.borrow_mut().clear() }
    /// }
    ///
    /// let mut graph = RingBuilder::new(64, || 0_u64)?.graph();
    /// let journal = || Journal { lines: Rc::default() };
    /// graph.consumer_with(ConsumerOptions::new("journal").longest_batch(16), journal)?;
    /// let (mut producer, mut ring) = graph.exclusive()?;
    /// producer.publish(|event| *event = 1)?;
    /// ring.shutdown(Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`poller`](Self::poller).
    pub fn consumer_with<H: EventHandler<E> + 'static>(
        &mut self,
        options: ConsumerOptions<'_>,
        make: impl FnOnce() -> H + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        let (id, poller) = self.add(options.name, options.after, false)?;
        self.planned.push(Planned::hooked(id, options, poller, make));
        Ok(id)
    }

    /// Adds a consumer with a thread of its own that may change events, because every other one comes before it or after
    /// it.
    ///
    /// # Errors
    /// As [`poller`](Self::poller).
    pub fn sole_consumer(
        &mut self,
        name: &str,
        after: &[ConsumerId],
        handler: impl FnMut(&mut E, Sequence, bool) + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        let (id, poller) = self.add(name, after, true)?;
        let options = ConsumerOptions::new(name).after(after);
        self.planned.push(Planned::sole(id, options, SolePoller::new(poller), handler));
        Ok(id)
    }

    fn add(
        &mut self,
        name: &str,
        after: &[ConsumerId],
        is_sole: bool,
    ) -> Result<(ConsumerId, Poller<E>), BuildError> {
        let place = self.plan.place(name, after, is_sole, self.core.control.overflow)?;
        let position = Position::new(self.first);
        let stage = Stage::Consumer(position.clone());
        self.core.control.gating.add(stage.clone());
        let barrier = place.barrier();
        let id = self.plan.add(place, stage);
        Ok((id, Poller::new(self.core.clone(), barrier, position, self.first)))
    }

    /// Adds a group of `workers` workers that you poll, and that share the events between them: each event goes to the first
    /// that is free. The group sees an event when all consumers in `after` have finished with it, and has finished with it
    /// when one worker has. Workers handle events at the same time and in no order among each other.
    ///
    /// # Errors
    /// As [`poller`](Self::poller); [`BuildError::WorkersThatDrop`], [`BuildError::NoWorkers`].
    pub fn worker_pollers(
        &mut self,
        after: &[ConsumerId],
        workers: usize,
    ) -> Result<(ConsumerId, Vec<Worker<E>>), BuildError> {
        self.add_workers("workers", after, workers, None)
    }

    /// As [`worker_pollers`](Self::worker_pollers), with a thread for each worker, whose names end in `-0`, `-1` and so on,
    /// and which is pinned as consumers are. `make` is called on each of these threads with the number of the worker.
    ///
    /// A worker takes 16 events at once at most, and fewer when there are few, so that others get some; the option
    /// [`longest_batch`](ConsumerOptions::longest_batch) is that limit here.
    ///
    /// ```
    /// use ringmain::ring::{ConsumerOptions, RingBuilder};
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let sum = Arc::new(AtomicU64::new(0));
    /// let mut graph = RingBuilder::new(64, || 0_u64)?.graph();
    /// let shared = sum.clone();
    /// let make = move |_worker| {
    ///     let sum = shared.clone();
    ///     move |event: &u64, _, _| drop(sum.fetch_add(*event, Ordering::Relaxed))
    /// };
    /// graph.workers(ConsumerOptions::new("summing"), 3, make)?;
    /// let (mut producer, mut ring) = graph.exclusive()?;
    /// for value in 1..=100 {
    ///     producer.publish(|event| *event = value)?;
    /// }
    /// assert_eq!(ring.shutdown(Duration::from_secs(5))?.len(), 3);
    /// assert_eq!(sum.load(Ordering::Relaxed), 5_050);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`worker_pollers`](Self::worker_pollers).
    pub fn workers<H: EventHandler<E> + 'static>(
        &mut self,
        options: ConsumerOptions<'_>,
        workers: usize,
        make: impl Fn(usize) -> H + Clone + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        let (id, workers) = self.add_workers(options.name, options.after, workers, None)?;
        self.plan_workers(id, options, workers, make);
        Ok(id)
    }

    /// As [`worker_pollers`](Self::worker_pollers), for events that have keys: those of one key are handled one after the
    /// other, in the order of their sequences, whichever workers do it; and what a handler did for one it can find done at
    /// the next. Keys fall into `lanes` lanes, 1 to 64, by a hash; `None` is four a worker, 64 at most. A lane is
    /// worked at by one worker at a time.
    ///
    /// Each worker looks at the events of each lane that it takes up, so `key` is called about once an event and lane: it
    /// should be quick, and must always tell the same key of an event. More lanes balance better and cost more.
    ///
    /// # Errors
    /// As [`worker_pollers`](Self::worker_pollers); [`BuildError::Lanes`].
    pub fn keyed_worker_pollers(
        &mut self,
        after: &[ConsumerId],
        workers: usize,
        lanes: Option<usize>,
        key: impl Fn(&E) -> u64 + Send + Sync + 'static,
    ) -> Result<(ConsumerId, Vec<Worker<E>>), BuildError> {
        self.add_workers("keyed workers", after, workers, Some((lanes, Arc::new(key))))
    }

    /// As [`keyed_worker_pollers`](Self::keyed_worker_pollers), with a thread for each worker as [`workers`](Self::workers)
    /// have it. [`longest_batch`](ConsumerOptions::longest_batch) limits how many events of a lane are handled in one go.
    ///
    /// # Errors
    /// As [`keyed_worker_pollers`](Self::keyed_worker_pollers).
    pub fn keyed_workers<H: EventHandler<E> + 'static>(
        &mut self,
        options: ConsumerOptions<'_>,
        workers: usize,
        lanes: Option<usize>,
        key: impl Fn(&E) -> u64 + Send + Sync + 'static,
        make: impl Fn(usize) -> H + Clone + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        let keyed = Some((lanes, Arc::new(key) as Key<E>));
        let (id, workers) = self.add_workers(options.name, options.after, workers, keyed)?;
        self.plan_workers(id, options, workers, make);
        Ok(id)
    }

    fn add_workers(
        &mut self,
        name: &str,
        after: &[ConsumerId],
        workers: usize,
        keyed: Option<(Option<usize>, Key<E>)>,
    ) -> Result<(ConsumerId, Vec<Worker<E>>), BuildError> {
        if self.core.control.overflow == Overflow::DropOldest {
            return Err(BuildError::WorkersThatDrop { name: name.to_owned() });
        }
        if workers == 0 {
            return Err(BuildError::NoWorkers { name: name.to_owned() });
        }
        let place = self.plan.place(name, after, false, self.core.control.overflow)?;
        let (stage, key) = match keyed {
            None => (Stage::Group(Arc::new(Group::new(self.first))), None),
            Some((lanes, key)) => {
                let lanes = lanes.unwrap_or_else(|| workers.saturating_mul(LANES_A_WORKER).min(lanes::MOST));
                if !(1..=lanes::MOST).contains(&lanes) {
                    return Err(BuildError::Lanes { name: name.to_owned(), lanes });
                }
                (Stage::Lanes(Arc::new(Lanes::new(lanes, self.first))), Some(key))
            }
        };
        let join = |_| Worker::join(&self.core, place.barrier(), &stage, key.as_ref());
        let joined: Vec<_> = (0..workers).filter_map(join).collect();
        self.core.control.gating.add(stage.clone());
        let id = self.plan.add(place, stage);
        self.keys.extend(key.map(|key| (id, key)));
        Ok((id, joined))
    }

    fn plan_workers<H: EventHandler<E> + 'static>(
        &mut self,
        id: ConsumerId,
        options: ConsumerOptions<'_>,
        workers: Vec<Worker<E>>,
        make: impl Fn(usize) -> H + Clone + Send + 'static,
    ) {
        for mut worker in workers {
            let (make, number) = (make.clone(), worker.number());
            worker.set_longest_claim(options.longest_batch);
            self.planned.push(Planned::worker(id, options.name, worker, move || make(number)));
        }
    }

    /// Starts the managed consumers and returns the ring's only producer.
    ///
    /// # Errors
    /// A thread that cannot be started or pinned; nothing is left running then.
    pub fn exclusive(self) -> Result<(ExclusiveProducer<E>, Ring<E>), BuildError> {
        self.core.control.have_stamps_come_in_order();
        let sequencer = Exclusive::new();
        self.build(sequencer)
    }

    /// Starts the managed consumers and returns a producer that can be cloned.
    ///
    /// # Errors
    /// A thread that cannot be started or pinned; nothing is left running then. [`BuildError::DenseForMany`].
    pub fn multi(self) -> Result<(MultiProducer<E>, Ring<E>), BuildError> {
        if self.core.slots.layout() == Layout::Dense {
            return Err(BuildError::DenseForMany);
        }
        self.build(Multi::default())
    }

    fn build<S: Sequencer>(self, sequencer: S) -> Result<(Producer<E, S>, Ring<E>), BuildError> {
        let Self { core, pinning, plan, keys, planned, .. } = self;
        let producer = Producer::new(core.clone(), sequencer);
        let ring = Ring::start(core, S::ARE_MANY, (plan, keys), planned, &pinning)?;
        Ok((producer, ring))
    }
}

impl<E> fmt::Debug for Graph<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("plan", &self.plan).finish_non_exhaustive()
    }
}
