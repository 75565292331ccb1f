//! A running ring: its managed consumer threads, its statistics, and its end.

use super::Sequence;
use super::builder::{BuildError, Node};
use super::control::Core;
use super::poller::{Polled, Poller};
use crate::affinity::{Pinning, pin_current_thread};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::edge::RELEASE_SLOT;
use crate::sync::{Condvar, Mutex, thread};
use crate::wait::{Deadline, WaitStrategy, wait_until};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A managed consumer's handler.
type Handler<E> = Box<dyn FnMut(&E, Sequence, bool) + Send>;

/// A managed consumer whose thread has not started.
pub(super) struct Planned<E> {
    pub(super) name: String,
    pub(super) poller: Poller<E>,
    pub(super) handler: Handler<E>,
}

/// What the threads of a ring tell those who wait for them.
struct Progress {
    running: Mutex<Vec<String>>,
    ended: Condvar,
}

/// A managed consumer whose thread runs.
struct Managed {
    name: String,
    panics: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The handle of a running ring. Dropping it closes the ring; its threads drain what is there and end by themselves.
pub struct Ring<E> {
    core: Arc<Core<E>>,
    has_many_producers: bool,
    consumers: Vec<Node>,
    managed: Vec<Managed>,
    progress: Arc<Progress>,
}

/// What one managed consumer has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerReport {
    /// The name it was given.
    pub name: String,
    /// Handlers that panicked. Each cost the event it was called with, and nothing else.
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
        consumers: Vec<Node>,
        planned: Vec<Planned<E>>,
        pinning: &Pinning,
    ) -> Result<Self, BuildError> {
        let name = || planned.first().map_or_else(String::new, |first| first.name.clone());
        let cores =
            pinning.place(planned.len()).map_err(|reason| BuildError::Affinity { name: name(), reason })?;
        let progress = Arc::new(Progress { running: Mutex::new(Vec::new()), ended: Condvar::new() });
        let mut ring = Self { core, has_many_producers, consumers, managed: Vec::new(), progress };
        for (planned, core) in planned.into_iter().zip(cores) {
            if let Err(reason) = ring.spawn(planned, core) {
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

    fn spawn(&mut self, planned: Planned<E>, core: Option<usize>) -> Result<(), BuildError> {
        let Planned { name, poller, handler } = planned;
        let panics = Arc::new(AtomicU64::new(0));
        let wait = self.core.control.wait;
        let (pinned, is_pinned) = std::sync::mpsc::channel();
        self.progress.running.lock().push(name.clone());
        let body = {
            let (name, panics, progress) = (name.clone(), panics.clone(), self.progress.clone());
            move || {
                let outcome = core.map_or(Ok(()), pin_current_thread);
                let may_run = outcome.is_ok();
                let _ = pinned.send(outcome);
                // What a handler owns is dropped on the way, and may panic too.
                let life = AssertUnwindSafe(|| {
                    if may_run {
                        consume(poller, handler, wait, &panics);
                    }
                });
                if let Err(payload) = catch_unwind(life) {
                    panics.fetch_add(1, Ordering::Relaxed);
                    discard_panic(payload);
                }
                let mut running = progress.running.lock();
                if let Some(index) = running.iter().position(|other| *other == name) {
                    running.swap_remove(index);
                }
                progress.ended.notify_all();
            }
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(body).map_err(|error| {
            self.progress.running.lock().retain(|other| *other != name);
            BuildError::Thread { name: name.clone(), kind: error.kind() }
        })?;
        if core.is_some()
            && let Ok(Err(reason)) = is_pinned.recv()
        {
            let _ = thread.join();
            return Err(BuildError::Affinity { name, reason });
        }
        self.managed.push(Managed { name, panics, thread: Some(thread) });
        Ok(())
    }
}

impl<E> Ring<E> {
    /// Refuses further publishes. What was claimed before will be consumed. Does not wait.
    pub fn close(&self) {
        self.core.control.close(self.has_many_producers);
    }

    /// Closes the ring and has its consumers stop where they are, the rest unread. Does not wait.
    pub fn halt(&self) {
        self.core.control.halt(self.has_many_producers);
    }

    /// Closes the ring, waits until the managed consumers have drained it, and joins their threads. May be called
    /// again, and from one of those threads, which is then left out. Consumers that you poll are yours to drain.
    ///
    /// # Errors
    /// The limit has passed; the error names who is still at work.
    pub fn shutdown(&mut self, limit: Duration) -> Result<Vec<ConsumerReport>, ShutdownError> {
        self.close();
        let deadline = Deadline::after(limit);
        let me = thread::current().id();
        let is_me =
            |managed: &Managed| managed.thread.as_ref().is_some_and(|thread| thread.thread().id() == me);
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
                // The thread has nothing left to do but return, and its panics were caught and counted.
                let _ = thread.join();
            }
        }
        Ok(self.reports())
    }

    /// What each managed consumer has come to so far.
    pub fn reports(&self) -> Vec<ConsumerReport> {
        self.managed
            .iter()
            .map(|managed| ConsumerReport {
                name: managed.name.clone(),
                panics: managed.panics.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// The number of slots.
    pub fn capacity(&self) -> u64 {
        self.core.control.capacity
    }

    /// All sequences below this one have been claimed by a producer. Old by the time it is read.
    pub fn claimed(&self) -> Sequence {
        self.core.control.claimed()
    }

    /// All sequences below this one have been released by every consumer; equal to [`claimed`](Self::claimed) where
    /// there is no consumer. Old by the time it is read.
    pub fn released(&self) -> Sequence {
        // The gate first, then the claim word: the difference is never negative.
        let lowest = self.core.control.gating.lowest();
        lowest.unwrap_or_else(|| self.claimed()).min(self.claimed())
    }

    /// How many events are claimed and not yet released by every consumer. Old by the time it is read.
    pub fn depth(&self) -> u64 {
        let released = self.released();
        self.claimed().saturating_sub(released)
    }

    /// How many more events would fit at this moment.
    pub fn remaining_capacity(&self) -> u64 {
        self.capacity().saturating_sub(self.depth())
    }

    /// How far each consumer is behind the producers, by name, in the order in which they were added. A consumer that
    /// has left is not behind.
    pub fn lags(&self) -> Vec<(String, u64)> {
        let lag = |node: &Node| {
            let sequence = node.sequence.load(RELEASE_SLOT.acquire());
            (node.name.clone(), self.claimed().saturating_sub(sequence))
        };
        self.consumers.iter().map(lag).collect()
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

/// The life of a managed consumer's thread.
fn consume<E>(mut poller: Poller<E>, mut handler: Handler<E>, wait: WaitStrategy, panics: &AtomicU64) {
    let readers = poller.readers();
    let most = poller.capacity();
    loop {
        match catch_unwind(AssertUnwindSafe(|| poller.poll(most, &mut handler))) {
            Ok(Polled::Events(_)) => {}
            Ok(Polled::Empty) => {
                wait_until(wait, &readers, Deadline::NEVER, || poller.is_ready().then_some(()));
            }
            Ok(Polled::Finished) => return,
            Err(payload) => {
                // One writer: this thread.
                panics.store(panics.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                discard_panic(payload);
            }
        }
    }
}

/// Drops what a panic carried. Should that panic as well, what that carries is dropped if it is the text that `panic!`
/// makes, and leaked if it is anything else, which might panic in turn: the consumer must go on.
pub(crate) fn discard_panic(payload: Box<dyn std::any::Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
        && !second.is::<&'static str>()
        && !second.is::<String>()
    {
        std::mem::forget(second);
    }
}
