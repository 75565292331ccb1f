//! A running ring: its managed threads, its statistics, who joins and leaves, and its end.

use super::consumer::Poller;
use super::control::Core;
use super::error::BuildError;
use super::gate::Stage;
use super::gate::join;
use super::group::Worker;
use super::managed::{EventHandler, PlannedThread, spawn_pinned};
use super::options::{ConsumerId, ConsumerOptions, Keys};
use super::sequence::Sequence;
use super::topology::{Node, Plan};
use crate::affinity::{Pinning, Placement};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::panics::discard_panic;
use crate::sync::{Condvar, Mutex, TimedLock, thread, unique_number};
use crate::wait::{Deadline, ParkingExcluded, WaitStrategy};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Progress of a ring's threads, for those who wait for them.
struct Progress {
    running: Mutex<Vec<String>>,
    ended: Condvar,
}

impl Progress {
    /// Removes one thread of that name, which has ended.
    fn forget(&self, name: &str) {
        let mut running = self.running.lock();
        if let Some(index) = running.iter().position(|other| other == name) {
            running.swap_remove(index);
        }
        self.ended.notify_all();
    }
}

/// A managed consumer whose thread runs.
struct Running {
    /// Workers of one group share it.
    id: ConsumerId,
    /// Unique in this process.
    number: u64,
    name: String,
    panics: Arc<AtomicU64>,
    has_ended: Arc<AtomicBool>,
    ask_to_leave: Box<dyn Fn() + Send + Sync>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The handle of a running ring. Dropping it closes the ring; its threads drain what is there and
/// end by themselves.
pub struct Ring<E> {
    core: Arc<Core<E>>,
    has_many_producers: bool,
    plan: Mutex<Plan>,
    /// Held by whoever joins: one at a time.
    joining: TimedLock,
    keys: Keys<E>,
    managed: Vec<Running>,
    progress: Arc<Progress>,
}

/// Report on one managed consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerReport {
    /// The name it was given.
    pub name: String,
    /// How many calls of its handler panicked. Each cost its event, and nothing else.
    pub panics: u64,
}

/// The time limit passed with consumers still at work. The ring is closed; they go on draining it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these consumers had not finished in time: {}", .still_running.join(", "))]
pub struct ShutdownError {
    /// The names of those consumers.
    pub still_running: Vec<String>,
}

impl<E: Send + Sync + 'static> Ring<E> {
    pub(super) fn start(
        core: Arc<Core<E>>,
        has_many_producers: bool,
        (plan, keys): (Plan, Keys<E>),
        planned: Vec<PlannedThread>,
        pinning: &Pinning,
    ) -> Result<Self, BuildError> {
        let name = || planned.first().map_or_else(String::new, |first| first.name.clone());
        let placements =
            pinning.place(planned.len()).map_err(|reason| BuildError::Affinity { name: name(), reason })?;
        let progress = Arc::new(Progress { running: Mutex::new(Vec::new()), ended: Condvar::new() });
        let (plan, joining) = (Mutex::new(plan), TimedLock::new());
        let mut ring = Self { core, has_many_producers, plan, joining, keys, managed: Vec::new(), progress };
        for (planned, placement) in planned.into_iter().zip(placements) {
            if let Err(reason) = ring.spawn(planned, placement) {
                // Nothing was published, so the threads that have started end at once.
                ring.close();
                for thread in ring.managed.iter_mut().filter_map(|managed| managed.thread.take()) {
                    let _ = thread.join();
                }
                return Err(reason);
            }
        }
        Ok(ring)
    }

    fn spawn(&mut self, planned: PlannedThread, placement: Placement) -> Result<(), BuildError> {
        let PlannedThread { id, name, ask_to_leave, life } = planned;
        let panics = Arc::new(AtomicU64::new(0));
        let has_ended = Arc::new(AtomicBool::new(false));
        self.progress.running.lock().push(name.clone());
        let body = {
            let (name, panics, progress) = (name.clone(), panics.clone(), self.progress.clone());
            let has_ended = has_ended.clone();
            move || {
                // Making and dropping a handler may panic too.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| life(&panics))) {
                    panics.fetch_add(1, Ordering::Relaxed);
                    discard_panic(payload);
                }
                // Read under the lock that is taken next.
                has_ended.store(true, Ordering::Relaxed);
                progress.forget(&name);
            }
        };
        let thread = spawn_pinned(&name, placement, body).inspect_err(|_| self.progress.forget(&name))?;
        let number = unique_number();
        let thread = Some(thread);
        self.managed.push(Running { id, number, name, panics, has_ended, ask_to_leave, thread });
        Ok(())
    }
}

impl<E: Send + Sync + 'static> Ring<E> {
    /// Adds a consumer that you poll to the running ring. It sees every event that is published
    /// after this call has returned, and perhaps some from during the call, in order and none
    /// twice; of earlier ones, none. Producers are not stopped.
    ///
    /// Waits for producers that are filling an event at this moment, at most for `limit`.
    ///
    /// ```
    /// use ringmain::ring::{Polled, RingBuilder};
    /// use std::time::Duration;
    ///
    /// let (mut producer, ring) = RingBuilder::new(64, || 0_u64)?.graph()?.build_multi_producer()?;
    /// producer.publish(|event| *event = 1)?;
    /// let (_id, mut late) = ring.join_poller(&[], Duration::from_secs(1))?;
    /// producer.publish(|event| *event = 2)?;
    /// assert_eq!(late.poll(10, |event, _, _| assert_eq!(*event, 2)), Polled::Events(1));
    /// drop(late); // leaves, and holds nobody up any more
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Graph::poller`](super::Graph::poller); [`BuildError::Closed`],
    /// [`BuildError::TimedOut`], [`BuildError::BesideLast`].
    pub fn join_poller(
        &self,
        after: &[ConsumerId],
        limit: Duration,
    ) -> Result<(ConsumerId, Poller<E>), BuildError> {
        self.join("poller", after, limit)
    }

    /// Adds a consumer with a thread of its own to the running ring, as
    /// [`join_poller`](Self::join_poller) does. Its thread is pinned nowhere.
    ///
    /// # Errors
    /// As [`join_poller`](Self::join_poller); [`BuildError::Thread`].
    pub fn join_consumer<H: EventHandler<E> + 'static>(
        &mut self,
        options: ConsumerOptions<'_>,
        limit: Duration,
        make: impl FnOnce() -> H + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        let (id, poller) = self.join(options.name, options.after, limit)?;
        self.spawn(PlannedThread::hooked(id, options, poller, make), Placement::Anywhere)?;
        Ok(id)
    }

    /// Adds a worker that you poll to a group, keyed or not, of the running ring. It takes part at
    /// once, and nobody is stopped: what it may take is what nobody has taken.
    ///
    /// ```
    /// use ringmain::ring::{Polled, RingBuilder};
    ///
    /// let mut graph = RingBuilder::new(64, || 0_u64)?.graph()?;
    /// let (group, first) = graph.worker_pollers(&[], 1)?;
    /// let (mut producer, ring) = graph.build_single_producer()?;
    /// producer.publish(|event| *event = 1)?;
    /// let mut second = ring.join_worker_poller(group)?;
    /// drop(first); // leaves
    /// assert_eq!(second.poll(10, |event, _, _| assert_eq!(*event, 1)), Polled::Events(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError::NoSuchGroup`], also where all workers have left; [`BuildError::Closed`].
    pub fn join_worker_poller(&self, group: ConsumerId) -> Result<Worker<E>, BuildError> {
        self.join_group(group).map(|(_, worker)| worker)
    }

    /// Adds a worker with a thread of its own to a group, keyed or not, of the running ring. Its
    /// thread gets the group's name and the next number, and is pinned nowhere. It does not inherit
    /// the options of its group: it takes at most 64 events at once.
    ///
    /// # Errors
    /// As [`join_worker_poller`](Self::join_worker_poller); [`BuildError::Thread`].
    pub fn join_worker<H: EventHandler<E> + 'static>(
        &mut self,
        group: ConsumerId,
        make: impl FnOnce() -> H + Send + 'static,
    ) -> Result<(), BuildError> {
        let (name, worker) = self.join_group(group)?;
        self.spawn(PlannedThread::worker(group, &name, worker, make), Placement::Anywhere)
    }

    fn join_group(&self, group: ConsumerId) -> Result<(String, Worker<E>), BuildError> {
        let (name, stage, barrier) = self.plan.lock().beside(group).ok_or(BuildError::NoSuchGroup)?;
        if !self.core.control.is_open() {
            return Err(BuildError::Closed { name });
        }
        let key = self.keys.iter().find(|(id, _)| *id == group).map(|(_, key)| key);
        let worker = Worker::join(&self.core, barrier, &stage, key).ok_or(BuildError::NoSuchGroup)?;
        Ok((name, worker))
    }

    fn join(
        &self,
        name: &str,
        after: &[ConsumerId],
        limit: Duration,
    ) -> Result<(ConsumerId, Poller<E>), BuildError> {
        let deadline = Deadline::after(limit);
        // One joiner at a time; the plan is not locked while it waits for producers.
        let _joining = self
            .joining
            .lock_until(deadline.at())
            .ok_or_else(|| BuildError::TimedOut { name: name.to_owned() })?;
        let place = {
            let mut plan = self.plan.lock();
            plan.sweep();
            plan.place(name, after, false, self.core.control.overflow)?
        };
        if !self.core.control.is_open() {
            return Err(BuildError::Closed { name: name.to_owned() });
        }
        let (position, start) =
            join(&self.core, deadline).ok_or_else(|| BuildError::TimedOut { name: name.to_owned() })?;
        let barrier = place.barrier();
        let id = self.plan.lock().add(place, Stage::Consumer(position.clone()));
        Ok((id, Poller::new(self.core.clone(), barrier, position, start)))
    }
}

impl<E> Ring<E> {
    /// Has a managed consumer, or all managed workers of a group, leave: each finishes the batch
    /// that it is at, lets producers and later stages pass, and its thread ends; its report goes
    /// with it. Waits for that, at most for `limit`. From the consumer's own handler it is asked to
    /// leave and not waited for. A poller leaves when it is dropped.
    ///
    /// # Errors
    /// It did not leave in time; it will when its handler returns, and may be waited for by another
    /// call. One that is not there any more has left.
    pub fn leave(&mut self, consumer: ConsumerId, limit: Duration) -> Result<(), ShutdownError> {
        let leavers = self.managed.iter().filter(|managed| managed.id == consumer);
        let leavers = leavers.map(|managed| managed.number).collect();
        self.dismiss(leavers, limit)
    }

    /// Has one managed worker of a group leave, the last that came, as [`leave`](Self::leave) does.
    /// What it has claimed it handles first. When the last worker of a group leaves, the group is
    /// at its end; see [`Worker`].
    ///
    /// # Errors
    /// As [`leave`](Self::leave).
    pub fn leave_worker(&mut self, group: ConsumerId, limit: Duration) -> Result<(), ShutdownError> {
        let leaver = self.managed.iter().rev().find(|managed| managed.id == group);
        let leaver = leaver.map(|managed| managed.number);
        self.dismiss(leaver.into_iter().collect(), limit)
    }

    /// Asks these to leave, and waits for them.
    fn dismiss(&mut self, leavers: Vec<u64>, limit: Duration) -> Result<(), ShutdownError> {
        let deadline = Deadline::after(limit);
        let me = thread::current().id();
        let is_me =
            |managed: &Running| managed.thread.as_ref().is_some_and(|thread| thread.thread().id() == me);
        let is_leaver = |managed: &Running| leavers.contains(&managed.number);
        for leaver in self.managed.iter().filter(|managed| is_leaver(managed)) {
            (leaver.ask_to_leave)();
        }
        let awaited = |managed: &&Running| is_leaver(managed) && !is_me(managed);
        let mut running = self.progress.running.lock();
        loop {
            let at_work = self
                .managed
                .iter()
                .filter(awaited)
                .filter(|leaver| !leaver.has_ended.load(Ordering::Relaxed));
            let still_running: Vec<_> = at_work.map(|leaver| leaver.name.clone()).collect();
            if still_running.is_empty() {
                break;
            }
            if deadline.has_passed() {
                return Err(ShutdownError { still_running });
            }
            running = self.progress.ended.wait_until(running, deadline.at());
        }
        drop(running);
        self.managed.retain_mut(|managed| {
            if !is_leaver(managed) || is_me(managed) {
                return true;
            }
            if let Some(thread) = managed.thread.take() {
                // The thread has nothing left to do but return, and its panics were caught and
                // counted.
                let _ = thread.join();
            }
            false
        });
        Ok(())
    }

    /// Has managed consumers, and producers on a full ring, wait differently from now on. Those
    /// that wait at this moment notice it at once. Takes a lock and makes a system call where
    /// somebody sleeps.
    ///
    /// # Errors
    /// The strategy parks, and the ring was built with one that does not.
    pub fn set_wait(&self, strategy: WaitStrategy) -> Result<(), ParkingExcluded> {
        self.core.control.set_wait(strategy)
    }

    /// Refuses further publishes. What was claimed before will be consumed. Does not wait.
    pub fn close(&self) {
        self.core.control.close(self.has_many_producers);
    }

    /// Closes the ring and has its consumers stop where they are, the rest unread. Does not wait.
    pub fn halt(&self) {
        self.core.control.halt(self.has_many_producers);
    }

    /// Closes the ring, waits until the managed consumers have drained it, and joins their threads.
    /// May be called again, and from one of those threads, which is then left out. Consumers that
    /// you poll are yours to drain.
    ///
    /// # Errors
    /// The limit has passed; the error names who is still at work.
    pub fn shutdown(&mut self, limit: Duration) -> Result<Vec<ConsumerReport>, ShutdownError> {
        self.close();
        let deadline = Deadline::after(limit);
        let me = thread::current().id();
        let is_me =
            |managed: &Running| managed.thread.as_ref().is_some_and(|thread| thread.thread().id() == me);
        let own_name = self.managed.iter().find(|managed| is_me(managed)).map(|managed| managed.name.clone());
        let others = |running: &[String]| {
            let mut names = running.to_vec();
            if let Some(index) = names.iter().position(|name| Some(name) == own_name.as_ref()) {
                names.swap_remove(index);
            }
            names
        };
        let mut running = self.progress.running.lock();
        while !others(&running).is_empty() {
            if deadline.has_passed() {
                return Err(ShutdownError { still_running: others(&running) });
            }
            running = self.progress.ended.wait_until(running, deadline.at());
        }
        drop(running);
        for managed in &mut self.managed {
            if !is_me(managed)
                && let Some(thread) = managed.thread.take()
            {
                // The thread has nothing left to do but return, and its panics were caught and
                // counted.
                let _ = thread.join();
            }
        }
        Ok(self.reports())
    }

    /// Returns what each managed consumer has come to so far.
    pub fn reports(&self) -> Vec<ConsumerReport> {
        self.managed
            .iter()
            .map(|managed| ConsumerReport {
                name: managed.name.clone(),
                panics: managed.panics.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// Returns the number of slots.
    pub fn capacity(&self) -> u64 {
        self.core.control.capacity
    }

    /// Returns the sequence below which all have been claimed by a producer. Old by the time it is
    /// read.
    pub fn claimed(&self) -> Sequence {
        self.core.control.claimed()
    }

    /// Returns the sequence below which all have been released by every consumer; equal to
    /// [`claimed`](Self::claimed) where there is no consumer. Old by the time it is read.
    pub fn released(&self) -> Sequence {
        // The gate first, then the claim word: the difference is never negative.
        let lowest = self.core.control.gating.lowest();
        lowest.unwrap_or_else(|| self.claimed()).min(self.claimed())
    }

    /// Returns whether that sequence has been published, and perhaps later uses of its slot as well.
    pub(crate) fn was_published(&self, sequence: Sequence) -> bool {
        self.core.slots.was_published(sequence)
    }

    /// Returns how many events are claimed and not yet released by every consumer. Old by the time
    /// it is read.
    pub fn depth(&self) -> u64 {
        let released = self.released();
        // What a group of workers has released can fall again for a moment.
        self.claimed().saturating_sub(released).min(self.capacity())
    }

    /// Returns how many more events would fit at this moment.
    pub fn remaining_capacity(&self) -> u64 {
        self.capacity().saturating_sub(self.depth())
    }

    /// Returns how far each consumer is behind the producers, by name, in the order in which they
    /// were added. A consumer that has left is not behind.
    pub fn lags(&self) -> Vec<(String, u64)> {
        let plan = self.plan.lock();
        let lag = |node: &Node| {
            let released = node.stage.released();
            (node.name.clone(), self.claimed().saturating_sub(released))
        };
        plan.nodes().iter().map(lag).collect()
    }

    /// Returns how many sequences each consumer has missed, as far as it has noticed, by name, in
    /// the order in which they were added; only under
    /// [`Overflow::DropOldest`](super::Overflow::DropOldest).
    pub fn missed(&self) -> Vec<(String, u64)> {
        let plan = self.plan.lock();
        plan.nodes().iter().map(|node| (node.name.clone(), node.stage.missed())).collect()
    }

    /// Returns how many events were dropped because the ring was full when they were to be
    /// published: all that answered [`PublishError::Dropped`](super::PublishError::Dropped), and
    /// the rest of their batches.
    pub fn dropped(&self) -> u64 {
        self.core.control.refused.load(Ordering::Relaxed)
    }
}

/// For models: to wait as the ring's own threads do, for what rings no bell.
#[cfg(ringmain_loom)]
impl<E> Ring<E> {
    /// Waits as a consumer does.
    pub fn wait_among_consumers(&self, ready: impl FnMut() -> Option<()>) {
        let control = &self.core.control;
        crate::wait::Waiter::new().wait_until(
            || control.wait.get(),
            &control.signals.consumers,
            Deadline::NEVER,
            ready,
        );
    }

    /// Waits as a producer on a full ring does.
    pub fn wait_among_producers(&self, ready: impl FnMut() -> Option<()>) {
        let control = &self.core.control;
        crate::wait::Waiter::new().wait_until(
            || control.wait_for_room(),
            &control.signals.producers,
            Deadline::NEVER,
            ready,
        );
    }
}

impl<E> Drop for Ring<E> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<E> fmt::Debug for Ring<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.capacity())
            .field("depth", &self.depth())
            .finish_non_exhaustive()
    }
}
