//! The consumers' threads: which of them run, how far each has come on its way out, and what those
//! that stopped early have handed back.
//!
//! All that a shutdown waits for stands here, under one lock, and wakes it when it changes.

use super::report::{Abandoned, InDoubt, Undelivered};
use super::taken::InHand;
use crate::broker::stall::report::{Stall, StallCause, StallKind};
use crate::message::Envelope;
use crate::ring::{StoppedCall, Supervisor};
use crate::routing::ConsumerAddr;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::panics::guard;
use crate::sync::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time in which a consumer that was stopped may come back from a shutdown of its own.
const OWN_GRACE: Duration = Duration::from_millis(10);

/// The time that a consumer which hands messages back is given for the next one.
const NEXT_MESSAGE: Duration = Duration::from_millis(5);

/// How far a consumer's thread has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unstarted,
    Running,
    /// It has gone through its ring, and drops its handlers.
    Leaving,
    Ended,
}

/// What a consumer that was stopped is given time for.
pub(super) struct Stop<P> {
    /// The call that it was in, until its position is taken over.
    pub(super) call: Option<StoppedCall<Envelope<P>>>,
    /// Until then the call may return.
    pub(super) grace_until: Instant,
    /// Until then the consumer may hand over.
    pub(super) until: Instant,
    /// Until then at the most, as long as message comes after message.
    pub(super) at_most_until: Instant,
}

/// A consumer's thread as those know it who wait for it.
pub(super) struct ConsumerThread<P> {
    pub(super) addr: ConsumerAddr,
    stage: usize,
    pub(super) name: String,
    pub(super) supervisor: Supervisor<Envelope<P>>,
    phase: Phase,
    /// Calls of `shutdown` that are running on this thread.
    shutdowns: u32,
    pub(super) stop: Option<Stop<P>>,
    pub(super) is_taken_over: bool,
    has_died: bool,
}

/// A thread that is in a call of a handler, and whose consumer goes on on another.
pub(super) struct ReplacedThread {
    pub(super) addr: ConsumerAddr,
    /// The call's.
    pub(super) number: u64,
    /// What was told of it, and when.
    pub(super) stall: Stall,
    pub(super) since: Instant,
    /// The age at which it is told again.
    pub(super) next: Duration,
    /// Whether the call has returned: the thread has nothing to do any more but to end.
    pub(super) has_returned: bool,
}

/// The most calls in doubt that are listed, and that have come back and are to be told.
const MOST_LISTED: usize = 1_024;

/// What is to be told of threads that were replaced.
pub(crate) struct Replaced {
    /// Calls that have not returned.
    pub(crate) stuck: Vec<Stall>,
    /// Calls that have.
    pub(crate) back: Vec<Stall>,
}

impl ReplacedThread {
    /// Says what it is at a shutdown.
    pub(super) fn abandoned(&self) -> Abandoned {
        let Stall { thread, subscription, message, topic, .. } = &self.stall;
        Abandoned {
            thread: thread.to_string(),
            subscription: subscription.as_deref().unwrap_or_default().to_owned(),
            message: *message,
            topic: topic.clone(),
        }
    }

    /// Says what it is at this moment: a call, whether it was found as one or as what keeps publishers waiting.
    fn stall(&self) -> Stall {
        let age = self.stall.call_age.unwrap_or(self.stall.age) + self.since.elapsed();
        Stall {
            kind: StallKind::Call,
            cause: StallCause::Call,
            age,
            call_age: Some(age),
            // Its message is a copy, and its place in the ring another's.
            sequence: None,
            behind: 0,
            waiting_publishers: 0,
            is_replaced: true,
            call: None,
            ..self.stall.clone()
        }
    }
}

impl<P> ConsumerThread<P> {
    /// Returns whether it runs, and nobody has asked it to end.
    pub(super) fn is_at_work(&self) -> bool {
        self.phase == Phase::Running && self.shutdowns == 0 && self.stop.is_none() && !self.has_died
    }

    /// Returns whether there is something to wait for: that it ends.
    pub(super) fn is_on_its_way(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Leaving) && !self.is_taken_over
    }
}

/// A call of `shutdown` that is running, and how long it waits.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    number: u64,
    /// The consumer whose thread it is.
    pub(super) consumer: Option<ConsumerAddr>,
    /// Until then consumers may drain. `None` is never.
    pub(super) drained_by: Option<Instant>,
    /// The end of its time.
    pub(super) deadline: Option<Instant>,
    /// The time that is kept for those that have to be stopped.
    pub(super) reserve: Duration,
}

/// What stands under the lock.
pub(super) struct Threads<P> {
    pub(super) consumers: Vec<ConsumerThread<P>>,
    pub(super) callers: Vec<Caller>,
    callers_so_far: u64,
    /// Take-overs whose messages are being counted or copied.
    pub(super) pending: usize,
    /// Consumers that were taken over.
    pub(super) abandoned: Vec<Abandoned>,
    /// How many of these, and of the dead, have been logged.
    pub(super) logged: (usize, usize),
    pub(super) handed_back: Vec<Arc<Undelivered<P>>>,
    /// How many of them the durable store was offered, and how many letters it has taken.
    #[cfg(feature = "durable-dead-letters")]
    pub(super) offered: usize,
    #[cfg(feature = "durable-dead-letters")]
    pub(super) kept: u64,
    /// What handlers kept.
    pub(super) in_doubt: Vec<InDoubt>,
    /// Threads that were replaced and have not ended, and how many there have been.
    pub(super) replaced: Vec<ReplacedThread>,
    pub(super) replaced_so_far: u64,
    /// Calls of such threads that have returned, and of which nobody has told.
    back: Vec<Stall>,
    /// Messages that have been counted as undelivered, and have not been handed back.
    pub(super) withheld: u64,
    /// What publishers had in hand when a consumer was taken over, and nobody has accounted for.
    pub(super) in_hand: Vec<InHand<P>>,
}

impl<P> Threads<P> {
    /// Returns whether a thread cannot end before a call of `shutdown` on a consumer's thread
    /// returns: its own, or one of an earlier stage, whose consumers it waits for.
    pub(super) fn is_held_up(&self, thread: &ConsumerThread<P>) -> bool {
        thread.shutdowns > 0
            || self.consumers.iter().any(|other| {
                other.shutdowns > 0
                    && other.phase == Phase::Running
                    && other.addr.dispatcher == thread.addr.dispatcher
                    && other.stage < thread.stage
            })
    }

    /// Lists a message whose handler's call was replaced: of too many, the last.
    pub(super) fn list_replaced(&mut self, in_doubt: InDoubt) {
        if self.in_doubt.len() >= MOST_LISTED {
            self.in_doubt.remove(0);
        }
        self.in_doubt.push(in_doubt);
    }

    /// Takes back a message that was withheld.
    pub(super) fn take_back(&mut self, undelivered: Undelivered<P>) {
        self.withheld -= 1;
        self.handed_back.push(Arc::new(undelivered));
    }

    /// Returns the names of the threads that have died.
    pub(super) fn dead(&self) -> Vec<String> {
        let dead = self.consumers.iter().filter(|thread| thread.has_died);
        dead.map(|thread| thread.name.clone()).collect()
    }

    /// Gives those that were stopped while a shutdown held them up the time to come back.
    fn give_time(&mut self, dispatcher: u16, until: Instant) {
        for thread in self.consumers.iter_mut().filter(|thread| thread.addr.dispatcher == dispatcher) {
            if let Some(stop) = &mut thread.stop {
                stop.grace_until = stop.grace_until.max(until);
                stop.until = stop.until.max(until);
                stop.at_most_until = stop.at_most_until.max(until);
            }
        }
    }

    /// Returns the threads that were replaced and are in their calls still.
    pub(super) fn stuck(&self) -> impl Iterator<Item = &ReplacedThread> {
        self.replaced.iter().filter(|thread| !thread.has_returned)
    }

    pub(super) fn consumer(&mut self, addr: ConsumerAddr) -> Option<&mut ConsumerThread<P>> {
        // They were entered in this order.
        let key = |addr: ConsumerAddr| (addr.dispatcher, addr.number);
        let index = self.consumers.binary_search_by_key(&key(addr), |thread| key(thread.addr)).ok()?;
        self.consumers.get_mut(index)
    }
}

impl<P> Drop for Threads<P> {
    fn drop(&mut self) {
        // Payloads are foreign, and whoever is the last to hold them may be a consumer's thread.
        for undelivered in self.handed_back.drain(..) {
            guard(|| drop(undelivered));
        }
    }
}

/// The consumers' threads of a broker.
pub(crate) struct ThreadRegistry<P> {
    /// Whether the last of the broker's handles is gone: consumers end without waiting for what handlers keep.
    is_left_alone: AtomicBool,
    threads: Mutex<Threads<P>>,
    changed: Condvar,
}

impl<P> ThreadRegistry<P> {
    pub(crate) fn new() -> Self {
        Self {
            is_left_alone: AtomicBool::new(false),
            threads: Mutex::new(Threads {
                consumers: Vec::new(),
                callers: Vec::new(),
                callers_so_far: 0,
                pending: 0,
                abandoned: Vec::new(),
                logged: (0, 0),
                handed_back: Vec::new(),
                #[cfg(feature = "durable-dead-letters")]
                offered: 0,
                #[cfg(feature = "durable-dead-letters")]
                kept: 0,
                in_doubt: Vec::new(),
                replaced: Vec::new(),
                replaced_so_far: 0,
                back: Vec::new(),
                withheld: 0,
                in_hand: Vec::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Enters a consumer whose thread is yet to be started. In ascending order.
    pub(crate) fn enter(
        &self,
        addr: ConsumerAddr,
        stage: usize,
        name: &str,
        supervisor: Supervisor<Envelope<P>>,
    ) {
        self.threads.lock().consumers.push(ConsumerThread {
            addr,
            stage,
            name: name.to_owned(),
            supervisor,
            phase: Phase::Unstarted,
            shutdowns: 0,
            stop: None,
            is_taken_over: false,
            has_died: false,
        });
    }

    /// Says that a consumer's thread is about to start.
    pub(crate) fn start(&self, addr: ConsumerAddr) {
        self.change(addr, |thread| thread.phase = Phase::Running);
    }

    /// Says that a consumer has gone through its ring. It has handlers to drop yet.
    pub(crate) fn leave(&self, addr: ConsumerAddr) {
        self.change(addr, |thread| thread.phase = Phase::Leaving);
    }

    /// Says that a consumer has died: it will call no handler any more.
    pub(crate) fn note_death(&self, addr: ConsumerAddr) {
        self.change(addr, |thread| thread.has_died = true);
    }

    /// Returns what says, when it is dropped, that a consumer's thread has ended.
    pub(crate) fn exit_guard(&self, addr: ConsumerAddr) -> ExitGuard<'_, P> {
        ExitGuard { registry: self, addr, replaced_in: Cell::new(None) }
    }

    fn change(&self, addr: ConsumerAddr, f: impl FnOnce(&mut ConsumerThread<P>)) {
        if let Some(thread) = self.threads.lock().consumer(addr) {
            f(thread);
        }
        self.changed.notify_all();
    }

    /// Says that a consumer has counted a message as undelivered and is about to copy it, which is
    /// foreign code and may not return.
    pub(crate) fn withhold(&self) {
        self.threads.lock().withheld += 1;
    }

    /// Hands a message back that was withheld. Without a copy of it, it stays so.
    pub(crate) fn hand_back(&self, addr: ConsumerAddr, copy: Option<Undelivered<P>>) {
        let mut threads = self.threads.lock();
        if let Some(stop) = threads.consumer(addr).and_then(|thread| thread.stop.as_mut()) {
            stop.until = stop.until.max(Instant::now() + NEXT_MESSAGE).min(stop.at_most_until);
        }
        if let Some(undelivered) = copy {
            threads.take_back(undelivered);
        }
    }

    /// Lists messages that handlers kept, and for which nobody waits any more.
    pub(crate) fn list_in_doubt(&self, in_doubt: impl Iterator<Item = InDoubt>) {
        self.threads.lock().in_doubt.extend(in_doubt);
    }

    /// Says that the last of the broker's handles is gone. Before the rings are closed, which has consumers look.
    pub(crate) fn leave_alone(&self) {
        self.is_left_alone.store(true, Ordering::Relaxed);
    }

    /// Returns whether that is so. To be asked by who has found its ring closed.
    pub(crate) fn are_left_alone(&self) -> bool {
        self.is_left_alone.load(Ordering::Relaxed)
    }

    /// Returns how many threads run.
    pub(crate) fn running(&self) -> usize {
        let runs = |thread: &&ConsumerThread<P>| matches!(thread.phase, Phase::Running | Phase::Leaving);
        let threads = self.threads.lock();
        threads.consumers.iter().filter(runs).count() + threads.replaced.len()
    }

    /// Returns what is to be told of threads that were replaced: of a call that does not return at each doubling of its
    /// age, from that limit on, and once that it has returned.
    pub(crate) fn replaced_to_tell(&self, limit: Duration) -> Replaced {
        let mut threads = self.threads.lock();
        let back = std::mem::take(&mut threads.back);
        let mut stuck = Vec::new();
        for thread in threads.replaced.iter_mut().filter(|thread| !thread.has_returned) {
            let stall = thread.stall();
            if stall.age >= thread.next.max(limit) {
                thread.next = stall.age.saturating_mul(2);
                stuck.push(stall);
            }
        }
        Replaced { stuck, back }
    }

    /// Returns what stands still on threads that were replaced.
    pub(crate) fn stalls(&self) -> Vec<Stall> {
        self.threads.lock().stuck().map(ReplacedThread::stall).collect()
    }

    /// Returns how many threads have been replaced, and how many of them are in their calls still.
    pub(crate) fn replaced(&self) -> (u64, usize) {
        let threads = self.threads.lock();
        (threads.replaced_so_far, threads.stuck().count())
    }

    /// Says that the call has returned in which a consumer was replaced. Before its handler comes back: who finds that
    /// all is over is not to be told of a stuck thread.
    pub(crate) fn note_returned(&self, addr: ConsumerAddr, call: u64) {
        let mut threads = self.threads.lock();
        let Threads { replaced, back, .. } = &mut *threads;
        let mut those = replaced.iter_mut().filter(|thread| (thread.addr, thread.number) == (addr, call));
        if let Some(thread) = those.next() {
            thread.has_returned = true;
            if back.len() < MOST_LISTED {
                back.push(thread.stall());
            }
        }
    }

    /// Returns the name of a thread whose consumer calls no handler any more, though its ring has
    /// been left undrained: it has died, or it was taken over.
    pub(super) fn lost(&self) -> Option<String> {
        let threads = self.threads.lock();
        let mut lost = threads.consumers.iter().filter(|thread| thread.has_died || thread.is_taken_over);
        lost.next().map(|thread| thread.name.clone())
    }

    /// Returns whether a consumer of a dispatcher has died.
    ///
    /// It is written down before the ring is closed: who has found that ring closed, and the broker
    /// open, learns of it here.
    pub(crate) fn has_died(&self, dispatcher: u16) -> bool {
        let threads = self.threads.lock();
        threads.consumers.iter().any(|thread| thread.has_died && thread.addr.dispatcher == dispatcher)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Threads<P>> {
        self.threads.lock()
    }

    /// Waits until something may have changed, at most until then.
    pub(super) fn wait<'a>(
        &self,
        threads: MutexGuard<'a, Threads<P>>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, Threads<P>> {
        self.changed.wait_until(threads, until)
    }

    /// Says that something has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Says that a call of `shutdown` has begun. It has ended when what is returned is dropped.
    pub(super) fn begin_shutdown(
        &self,
        consumer: Option<ConsumerAddr>,
        drained_by: Option<Instant>,
        deadline: Option<Instant>,
        reserve: Duration,
    ) -> CallerGuard<'_, P> {
        let caller = {
            let mut threads = self.threads.lock();
            threads.callers_so_far += 1;
            let number = threads.callers_so_far;
            let caller = Caller { number, consumer, drained_by, deadline, reserve };
            threads.callers.push(caller);
            if let Some(thread) = consumer.and_then(|addr| threads.consumer(addr)) {
                thread.shutdowns += 1;
            }
            caller
        };
        // Others have it to spare, and perhaps less time.
        self.changed.notify_all();
        CallerGuard { registry: self, caller }
    }
}

/// Says, when it is dropped, that a consumer's thread has ended.
pub(crate) struct ExitGuard<'a, P> {
    registry: &'a ThreadRegistry<P>,
    addr: ConsumerAddr,
    /// The call that it was replaced in, if it was.
    replaced_in: Cell<Option<u64>>,
}

impl<P> ExitGuard<'_, P> {
    /// Says that its consumer goes on on another thread, since that call.
    pub(crate) fn note_replaced(&self, call: u64) {
        self.replaced_in.set(Some(call));
    }
}

impl<P> Drop for ExitGuard<'_, P> {
    fn drop(&mut self) {
        let Some(number) = self.replaced_in.get() else {
            return self.registry.change(self.addr, |thread| thread.phase = Phase::Ended);
        };
        let mut threads = self.registry.threads.lock();
        threads.replaced.retain(|thread| (thread.addr, thread.number) != (self.addr, number));
    }
}

/// A call of `shutdown`, until it is dropped.
pub(super) struct CallerGuard<'a, P> {
    registry: &'a ThreadRegistry<P>,
    pub(super) caller: Caller,
}

impl<P> Drop for CallerGuard<'_, P> {
    fn drop(&mut self) {
        {
            let mut threads = self.registry.threads.lock();
            threads.callers.retain(|caller| caller.number != self.caller.number);
            if let Some(addr) = self.caller.consumer {
                if let Some(thread) = threads.consumer(addr) {
                    thread.shutdowns -= 1;
                }
                threads.give_time(addr.dispatcher, Instant::now() + OWN_GRACE);
            }
        }
        self.registry.changed.notify_all();
    }
}
