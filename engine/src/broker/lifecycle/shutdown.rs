//! Shutting down: refuse, drain, stop by the deadline, and account for everything.
//!
//! # One shutdown, whoever calls
//!
//! Any number of threads may call, at once or one after the other, from outside and from handlers.
//! None of them leads: what is due is done by whoever is there, once, under the lock of
//! [`threads`](super::threads), and each caller leaves when there is nothing left for it to wait
//! for. The time limit that is up first counts for all.
//!
//! 1. The rings are closed, and consumers drain them.
//! 2. Shortly before the time is up, all that still run are stopped: no further call begins, and
//!    what is left they hand back by themselves.
//! 3. Who was in a call then is given half of what is left for it to return. Healthy handlers do.
//! 4. From who still is in that same call the position is taken over: the call is in doubt, and what
//!    came behind it is counted and handed back by who shuts down.
//! 5. Who does not come back from somewhere else is reported, and left to itself.
//!
//! However many consumers are stuck, they share these times.
//!
//! # From a handler
//!
//! A call from a consumer's thread is a part of what others wait for. Neither its own consumer nor
//! those of later stages, which wait for that, can end before it returns. So it waits for none of
//! these, and while it runs nobody stops them. Others wait for them as for all, in case that they
//! come to their end in time.
//!
//! # Foreign code
//!
//! No foreign code runs between the first and the last count. Payloads are copied for the report on
//! the consumer's thread, or aside (see `aside`), and what is to be logged is logged last, and
//! aside as well: a panic costs nothing, and what does not return is left to itself.

use super::aside::run_aside;
#[cfg(feature = "durable-dead-letters")]
use super::keep::offer;
#[cfg(feature = "durable-dead-letters")]
use super::report::Undelivered;
use super::report::{Abandoned, ShutdownReport};
use super::taken::{InHand, Taken};
use super::takeover::{account_for, account_for_in_hand};
use super::threads::{Caller, ReplacedThread, Stop, Threads};
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::error::ShutdownError;
use crate::broker::handle::Broker;
use crate::message::MessagePayload;
use crate::ring::Stopped;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The part of the time limit that is kept for stopping those that have not drained, and its
/// bounds.
const RESERVE_DIVISOR: u32 = 4;
const MAX_RESERVE: Duration = Duration::from_millis(100);
/// Even a shutdown without any time gives those that it stops a moment to hand over.
const MIN_RESERVE: Duration = Duration::from_millis(10);

/// How much longer than its limit a shutdown waits for who is handing messages back all the time,
/// for what is being copied, and for the log.
const OVERTIME: Duration = Duration::from_millis(30);

/// What a caller is to do next.
enum Step<P> {
    /// Account for consumers that were taken over, until then.
    TakeOver(Vec<Taken<P>>, Instant),
    /// Offer the durable store what was handed back.
    #[cfg(feature = "durable-dead-letters")]
    Keep(Vec<Arc<Undelivered<P>>>),
    /// Nothing is left to wait for, or no time. Those had not come back at that moment who should
    /// have: others may have to be waited for since, when a handler's own shutdown has ended.
    Over(Vec<Abandoned>),
}

/// Shuts a broker down. See [`Broker::shutdown`](crate::broker::Broker::shutdown).
fn shut_down<P: MessagePayload>(
    core: &Arc<Core<P>>,
    limit: Duration,
) -> Result<ShutdownReport<P>, ShutdownError> {
    if core.is_forked() {
        return Err(ShutdownError::Forked);
    }
    if context::is_filling() {
        return Err(ShutdownError::WouldDeadlock);
    }
    let now = Instant::now();
    let reserve = (limit / RESERVE_DIVISOR).clamp(MIN_RESERVE, MAX_RESERVE);
    let drained_by = now.checked_add(limit.saturating_sub(reserve));
    let deadline = now.checked_add(limit.max(reserve));
    core.close();
    let me = context::consuming(core.id);
    let guard = core.threads.begin_shutdown(me, drained_by, deadline, reserve);
    let caller = &guard.caller;
    account_for_in_hand(core);
    let outside = loop {
        match next_step(core, caller) {
            Step::TakeOver(taken, until) => {
                account_for(core, taken, until);
                core.threads.lock().pending -= 1;
                core.threads.notify();
            }
            #[cfg(feature = "durable-dead-letters")]
            Step::Keep(undelivered) => offer(core, undelivered),
            Step::Over(outside) => break outside,
        }
    };
    core.stop_background();
    account_for_in_hand(core);
    #[cfg(feature = "durable-dead-letters")]
    end_writing(core, caller);
    let (report, unlogged) = report(core, outside);
    log(unlogged, caller.deadline);
    Ok(report)
}

/// Waits until there is something to do, does what can be done under the lock, and returns what
/// cannot.
fn next_step<P>(core: &Core<P>, caller: &Caller) -> Step<P> {
    let mut threads = core.threads.lock();
    loop {
        if threads.pending == 0 && !threads.awaited(caller).any(|_| true) {
            return end(core, &mut threads, Vec::new());
        }
        let now = Instant::now();
        let is_past = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        // The earliest moment from now on at which something is due.
        let mut due = None;
        let mut wake_at = |moment: Option<Instant>| {
            due = [due, moment].into_iter().flatten().filter(|moment| *moment > now).min();
        };

        let drained_by = threads.callers.iter().filter_map(|caller| caller.drained_by).min();
        if is_past(drained_by) {
            threads.stop_all(now);
        } else {
            wake_at(drained_by);
        }

        let (taken, until) = threads.take_over_all(now);
        if !taken.is_empty() {
            threads.pending += 1;
            return Step::TakeOver(taken, until);
        }

        let may_come = |stop: &Stop<P>| stop.until > now;
        let stops = || threads.to_be_stopped().map(|thread| thread.stop.as_ref());
        for stop in stops().flatten() {
            wake_at(stop.call.is_some().then_some(stop.grace_until));
            wake_at(Some(stop.until));
        }
        let overtime = caller.deadline.and_then(|deadline| deadline.checked_add(OVERTIME));
        wake_at(caller.deadline);
        if is_past(caller.deadline) && !stops().any(|stop| stop.is_none_or(may_come)) {
            if threads.pending == 0 || is_past(overtime) {
                let late = threads.awaited(caller).filter(|thread| !threads.is_held_up(thread));
                let late = late.map(|thread| Abandoned::outside_of_a_handler(&thread.name)).collect();
                return end(core, &mut threads, late);
            }
            wake_at(overtime);
        }
        threads = core.threads.wait(threads, due);
    }
}

/// Nothing is left to wait for: what was handed back is kept, where that outlives the process, and then all is over.
#[cfg(feature = "durable-dead-letters")]
fn end<P>(core: &Core<P>, threads: &mut Threads<P>, outside: Vec<Abandoned>) -> Step<P> {
    let is_durable = core.dead_letters.as_ref().is_some_and(|store| store.durable().is_some());
    let unoffered = if is_durable { threads.take_unoffered() } else { Vec::new() };
    if unoffered.is_empty() { Step::Over(outside) } else { Step::Keep(unoffered) }
}

#[cfg(not(feature = "durable-dead-letters"))]
fn end<P>(_core: &Core<P>, _threads: &mut Threads<P>, outside: Vec<Abandoned>) -> Step<P> {
    Step::Over(outside)
}

impl<P> Threads<P> {
    /// Returns the threads that a caller waits for.
    fn awaited<'t>(
        &'t self,
        caller: &'t Caller,
    ) -> impl Iterator<Item = &'t super::threads::ConsumerThread<P>> {
        let is_awaited = |thread: &&_| caller.consumer.is_none() || !self.is_held_up(thread);
        self.consumers.iter().filter(|thread| thread.is_on_its_way()).filter(is_awaited)
    }

    /// Returns the threads that are not to go on when the time is up.
    fn to_be_stopped(&self) -> impl Iterator<Item = &super::threads::ConsumerThread<P>> {
        self.consumers.iter().filter(|thread| thread.is_on_its_way() && !self.is_held_up(thread))
    }

    /// Stops all that still run.
    fn stop_all(&mut self, now: Instant) {
        let reserve = self.callers.iter().map(|caller| caller.reserve).min().unwrap_or(MIN_RESERVE);
        let (grace_until, until) = (now + reserve / 2, now + reserve);
        for index in 0..self.consumers.len() {
            let thread = &self.consumers[index];
            if thread.stop.is_some() || !thread.is_on_its_way() || self.is_held_up(thread) {
                continue;
            }
            let call = match thread.supervisor.stop() {
                Stopped::InCall(call) => Some(call),
                // In code of ours, and about to notice; or else it drops what a handler had
                // captured, or waits for a publisher that is stuck in its closure.
                Stopped::BetweenCalls => None,
            };
            let at_most_until = until + OVERTIME;
            self.consumers[index].stop = Some(Stop { call, grace_until, until, at_most_until });
        }
    }

    /// Takes over all that have been given the time to return, and are still in their calls; and
    /// returns until when they are to be accounted for.
    fn take_over_all(&mut self, now: Instant) -> (Vec<Taken<P>>, Instant) {
        let (mut taken, mut until) = (Vec::new(), now);
        for index in 0..self.consumers.len() {
            let thread = &self.consumers[index];
            if !thread.is_on_its_way() || self.is_held_up(thread) {
                continue;
            }
            let thread = &mut self.consumers[index];
            let Some(stop) = thread.stop.as_mut().filter(|stop| stop.grace_until <= now) else { continue };
            until = until.max(stop.until);
            if let Some(takeover) = stop.call.take().and_then(|call| call.take_over()) {
                thread.is_taken_over = true;
                taken.push(Taken { addr: thread.addr, thread: thread.name.clone(), takeover });
            }
        }
        (taken, until)
    }
}

/// Has all dead letters durable, if there is time for that. When all consumers have ended, and what they have left is
/// copied and was offered, nothing changes any more but by hand, and their store is closed. Else a later call closes
/// it, or the end of the broker, with what has come by then.
#[cfg(feature = "durable-dead-letters")]
fn end_writing<P>(core: &Core<P>, caller: &Caller) {
    let Some(store) = &core.dead_letters else { return };
    let soon = Instant::now() + OVERTIME;
    let until = caller.deadline.map_or(soon, |deadline| deadline.max(soon));
    if core.threads.lock().is_all_offered() {
        store.end_writing(until);
    } else {
        // What is missing is told by the report.
        let _ = store.flush(Some(until), until.saturating_duration_since(Instant::now()));
    }
}

/// Says what there is to say at the end of a broker without threads.
pub(in crate::broker) fn report_of<P: MessagePayload>(core: &Core<P>) -> ShutdownReport<P> {
    core.stop_background();
    report(core, Vec::new()).0
}

/// Takes the steps of a shutdown whose time is up, for models, in which no time passes: all that run are stopped, and
/// who is in a call then and has not returned is taken over. Returns whether somebody was.
#[cfg(ringmain_loom)]
pub(in crate::broker) fn cut_short<P: MessagePayload>(core: &Arc<Core<P>>) -> bool {
    core.close();
    let now = Instant::now();
    core.threads.lock().stop_all(now);
    let (taken, until) = core.threads.lock().take_over_all(now + MIN_RESERVE);
    let is_taken_over = !taken.is_empty();
    account_for(core, taken, until);
    is_taken_over
}

/// Says what a shutdown has come to, when what was taken over has been copied aside.
#[cfg(ringmain_loom)]
pub(in crate::broker) fn report_when_copied<P: MessagePayload>(core: &Arc<Core<P>>) -> ShutdownReport<P> {
    let mut threads = core.threads.lock();
    while threads.pending > 0 {
        threads = core.threads.wait(threads, None);
    }
    drop(threads);
    report_of(core)
}

/// What is to be logged of a shutdown.
#[derive(Default)]
struct Unlogged {
    abandoned: Vec<Abandoned>,
    dead: Vec<String>,
}

/// Says what the shutdown has come to by now, and what of that nobody has logged.
fn report<P: MessagePayload>(core: &Core<P>, outside: Vec<Abandoned>) -> (ShutdownReport<P>, Unlogged) {
    let (mut report, unlogged) = {
        let mut threads = core.threads.lock();
        let dead = threads.dead();
        let mut abandoned = threads.abandoned.clone();
        let logged = std::mem::replace(&mut threads.logged, (abandoned.len(), dead.len()));
        let mut unlogged = Unlogged {
            abandoned: abandoned.get(logged.0..).unwrap_or_default().to_vec(),
            dead: dead.get(logged.1..).unwrap_or_default().to_vec(),
        };
        unlogged.abandoned.extend(outside.iter().cloned());
        abandoned.extend(outside);
        // Those were logged when they were replaced.
        abandoned.extend(threads.stuck().map(ReplacedThread::abandoned));
        let (undelivered, withheld) = (threads.handed_back.clone(), threads.withheld);
        let in_doubt = threads.in_doubt.clone();
        let in_hand = threads.in_hand.iter().map(InHand::count).sum();
        #[cfg(feature = "durable-dead-letters")]
        let kept = threads.kept;
        let ledger = Default::default();
        let report = ShutdownReport {
            ledger,
            abandoned,
            in_doubt,
            dead,
            undelivered,
            withheld,
            in_hand,
            #[cfg(feature = "durable-dead-letters")]
            kept,
            #[cfg(feature = "durable-dead-letters")]
            dead_letters: None,
        };
        (report, unlogged)
    };
    #[cfg(feature = "durable-dead-letters")]
    {
        report.dead_letters = core.dead_letters.as_ref().and_then(|store| store.durable());
    }
    report.ledger = core.audit();
    (report, unlogged)
}

/// Logs what was not as it should be. Last, and aside: a log's subscriber is foreign code.
fn log(unlogged: Unlogged, deadline: Option<Instant>) {
    let Unlogged { abandoned, dead } = unlogged;
    if abandoned.is_empty() && dead.is_empty() {
        return;
    }
    let until = Instant::now() + OVERTIME;
    run_aside(deadline.map_or(until, |deadline| deadline.max(until)), move || {
        for thread in dead {
            tracing::error!(target: "ringmain::shutdown", thread, "a consumer has died");
        }
        for stuck in abandoned {
            tracing::error!(
                target: "ringmain::shutdown",
                thread = stuck.thread,
                subscription = stuck.subscription,
                "a consumer did not come back in time and was abandoned"
            );
        }
    });
}

impl<P: MessagePayload> Broker<P> {
    /// Refuses further publishes and subscriptions, lets consumers handle what was accepted, and
    /// returns when they have or when `limit` (or 10 ms, should it be shorter) has passed,
    /// whichever is first. While messages are being handed back it may take 60 ms longer.
    ///
    /// Shortly before the limit, consumers that have not finished are stopped: what they have not
    /// handled they hand back, in the report. One that even then does not return from its handler
    /// is abandoned, its running call in doubt, and what it has left is handed back for it.
    ///
    /// May be called by any number of threads, and again: calls that overlap are one shutdown,
    /// which the shortest of their limits ends, and each report says all that there is to say.
    /// From a handler, all consumers are waited for but its own, and those of later stages, which
    /// wait for it; what was accepted for these is delivered later.
    ///
    /// The broker keeps what it has handed back for further reports, until it is dropped. Where its dead letters
    /// outlive the process, they take copies of it, as far as they have room: another process finds them there.
    ///
    /// # Errors
    /// It is called inside of a publish closure, whose slot its consumers wait for. Nothing is
    /// done.
    pub fn shutdown(&self, limit: Duration) -> Result<ShutdownReport<P>, ShutdownError> {
        shut_down(self.core(), limit)
    }
}
