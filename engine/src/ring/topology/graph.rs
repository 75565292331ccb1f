//! The graph of a ring: its consumers, added one by one, and then its kind of producer.
//!
//! A consumer can only depend on consumers that were added before it, so every graph is acyclic by
//! construction.

use super::plan::Plan;
use crate::affinity::Pinning;
use crate::ring::claim::{Multi, Sequencer, Single};
use crate::ring::consumer::{MutPoller, Poller};
use crate::ring::control::Core;
use crate::ring::error::BuildError;
use crate::ring::gate::Stage;
use crate::ring::group::{Group, Lanes, Worker};
use crate::ring::managed::{EventHandler, PlannedThread};
use crate::ring::options::{ConsumerId, ConsumerOptions, Key, Keys, MAX_LANES};
use crate::ring::overflow::Overflow;
use crate::ring::position::Position;
use crate::ring::producer::{MultiProducer, Producer, SingleProducer};
use crate::ring::ring::Ring;
use crate::ring::sequence::Sequence;
use crate::ring::slot_policy::SlotPolicy;
use crate::ring::slots::Layout;
use std::fmt;
use std::sync::Arc;

/// Consumers of a ring that has no producer yet.
pub struct Graph<E> {
    first: Sequence,
    core: Arc<Core<E>>,
    pinning: Pinning,
    plan: Plan,
    keys: Keys<E>,
    planned: Vec<PlannedThread>,
}

/// Default number of lanes per worker: enough for quick workers to find work beside a slow one.
const LANES_PER_WORKER: usize = 4;

impl<E: Send + Sync + 'static> Graph<E> {
    pub(super) fn new(first: Sequence, core: Arc<Core<E>>, pinning: Pinning) -> Self {
        Self { first, core, pinning, plan: Plan::new(), keys: Vec::new(), planned: Vec::new() }
    }

    /// Adds a consumer that you poll. It sees an event when all consumers in `after` have finished
    /// with it.
    ///
    /// # Errors
    /// [`BuildError::ForeignConsumer`], [`BuildError::NotAlone`], [`BuildError::StagesThatDrop`].
    pub fn poller(&mut self, after: &[ConsumerId]) -> Result<(ConsumerId, Poller<E>), BuildError> {
        self.add("poller", after, false)
    }

    /// Adds a consumer that you poll and that may change events, because every other one comes
    /// before it or after it.
    ///
    /// # Errors
    /// As [`poller`](Self::poller).
    pub fn mut_poller(&mut self, after: &[ConsumerId]) -> Result<(ConsumerId, MutPoller<E>), BuildError> {
        let (id, poller) = self.add("mut poller", after, true)?;
        Ok((id, MutPoller::new(poller)))
    }

    /// Adds a consumer with a thread of its own, which starts when the ring is built and ends when
    /// the ring is closed and drained. The handler gets the event, its sequence, and whether it is
    /// the last of those found in one look. When it panics, the event is skipped and counted, and
    /// the next one is handled.
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

    /// Adds a consumer with a thread of its own and a handler that is made there, and so may hold
    /// what is not `Send`.
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
    /// let mut graph = RingBuilder::new(64, || 0_u64)?.graph()?;
    /// let journal = || Journal { lines: Rc::default() };
    /// graph.consumer_with(ConsumerOptions::new("journal").max_batch(16), journal)?;
    /// let (mut producer, mut ring) = graph.build_single_producer()?;
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
        self.planned.push(PlannedThread::hooked(id, options, poller, make));
        Ok(id)
    }

    /// Adds a consumer with a thread of its own that may change events, because every other one
    /// comes before it or after it.
    ///
    /// # Errors
    /// As [`poller`](Self::poller).
    pub fn mut_consumer(
        &mut self,
        name: &str,
        after: &[ConsumerId],
        handler: impl FnMut(&mut E, Sequence, bool) + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        let (id, poller) = self.add(name, after, true)?;
        let options = ConsumerOptions::new(name).after(after);
        self.planned.push(PlannedThread::mutating(id, options, MutPoller::new(poller), handler));
        Ok(id)
    }

    fn add(
        &mut self,
        name: &str,
        after: &[ConsumerId],
        is_mut: bool,
    ) -> Result<(ConsumerId, Poller<E>), BuildError> {
        let place = self.plan.place(name, after, is_mut, self.core.control.overflow)?;
        let position = Position::new(self.first);
        let stage = Stage::Consumer(position.clone());
        self.core.control.gating.add(stage.clone());
        let barrier = place.barrier();
        let id = self.plan.add(place, stage);
        Ok((id, Poller::new(self.core.clone(), barrier, position, self.first)))
    }

    /// Adds a group of `workers` workers that you poll, and that share the events between them:
    /// each event goes to the first that is free. The group sees an event when all consumers in
    /// `after` have finished with it, and has finished with it when one worker has. Workers handle
    /// events at the same time and in no order among each other.
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

    /// As [`worker_pollers`](Self::worker_pollers), with a thread for each worker, whose names end
    /// in `-0`, `-1` and so on, and which is pinned as consumers are. `make` is called on each of
    /// these threads with the number of the worker.
    ///
    /// A worker takes at most 64 events at once, and fewer when there are few, so that others get
    /// some. The option [`max_batch`](ConsumerOptions::max_batch) changes that limit.
    ///
    /// ```
    /// use ringmain::ring::{ConsumerOptions, RingBuilder};
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let sum = Arc::new(AtomicU64::new(0));
    /// let mut graph = RingBuilder::new(64, || 0_u64)?.graph()?;
    /// let shared = sum.clone();
    /// let make = move |_worker| {
    ///     let sum = shared.clone();
    ///     move |event: &u64, _, _| drop(sum.fetch_add(*event, Ordering::Relaxed))
    /// };
    /// graph.workers(ConsumerOptions::new("summing"), 3, make)?;
    /// let (mut producer, mut ring) = graph.build_single_producer()?;
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

    /// As [`worker_pollers`](Self::worker_pollers), for events that have keys: those of one key are
    /// handled one after the other, in the order of their sequences, whichever workers do it; and
    /// what a handler did for one it can find done at the next. Keys fall into `lanes` lanes, 1 to
    /// 64, by a hash; `None` is four a worker, 64 at most. A lane is worked at by one worker at a
    /// time.
    ///
    /// Each worker looks at the events of each lane that it takes up, so `key` is called about once
    /// an event and lane: it should be quick, and must always tell the same key of an event. More
    /// lanes balance better and cost more.
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

    /// As [`keyed_worker_pollers`](Self::keyed_worker_pollers), with a thread for each worker as
    /// [`workers`](Self::workers) have it. [`max_batch`](ConsumerOptions::max_batch) limits how
    /// many events of a lane are handled in one go.
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
                let lanes = lanes.unwrap_or_else(|| workers.saturating_mul(LANES_PER_WORKER).min(MAX_LANES));
                if !(1..=MAX_LANES).contains(&lanes) {
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
            worker.set_max_claim(options.max_batch);
            self.planned.push(PlannedThread::worker(id, options.name, worker, move || make(number)));
        }
    }

    /// Starts the managed consumers and returns the ring's only producer.
    ///
    /// # Errors
    /// A thread that cannot be started or pinned; nothing is left running then.
    /// [`BuildError::NoSoleLast`].
    pub fn build_single_producer(self) -> Result<(SingleProducer<E>, Ring<E>), BuildError> {
        self.core.control.have_stamps_come_in_order();
        let sequencer = Single::new();
        self.build(sequencer)
    }

    /// Starts the managed consumers and returns a producer that can be cloned.
    ///
    /// # Errors
    /// A thread that cannot be started or pinned; nothing is left running then.
    /// [`BuildError::DenseForMany`], [`BuildError::NoSoleLast`].
    pub fn build_multi_producer(self) -> Result<(MultiProducer<E>, Ring<E>), BuildError> {
        if self.core.slots.layout() == Layout::Dense {
            return Err(BuildError::DenseForMany);
        }
        self.build(Multi::default())
    }

    fn build<S: Sequencer>(self, sequencer: S) -> Result<(Producer<E, S>, Ring<E>), BuildError> {
        let Self { core, pinning, mut plan, keys, planned, .. } = self;
        if core.policy == SlotPolicy::Clear {
            plan.appoint_clearer()?;
        }
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
