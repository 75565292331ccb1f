//! Shutting down: refuse, drain, stop by the deadline, and account for everything.

use super::takeover::{Abandoned, abandon};
use super::threads::Undelivered;
use crate::broker::account::ledger::Ledger;
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::error::{DrainError, ShutdownError};
use crate::broker::handle::Broker;
use crate::message::MessagePayload;
use crate::ring::Stopped;
use crate::routing::ConsumerAddr;
use crate::wait::{Deadline, Parking, WaitStrategy, wait_until};
use std::sync::Arc;
use std::time::Duration;

/// The part of the time limit that is kept for stopping those that have not drained, and its
/// bounds.
const RESERVE_DIVISOR: u32 = 8;
const MAX_RESERVE: Duration = Duration::from_millis(100);
/// Even a shutdown without any time gives those that it stops a moment to hand over.
const MIN_RESERVE: Duration = Duration::from_millis(5);

/// What [`Broker::shutdown`](crate::broker::Broker::shutdown) has come to.
#[derive(Clone, Debug)]
#[must_use = "it says what was not delivered"]
#[non_exhaustive]
pub struct ShutdownReport<P> {
    /// Where every message has gone. Exact, unless a consumer was left running: because this was
    /// called from its own handler, or because it was abandoned outside of a handler.
    pub ledger: Ledger,
    /// Consumers that did not come back: their threads are left to themselves.
    pub abandoned: Vec<Abandoned>,
    /// Messages that were accepted and not delivered, in order for each consumer.
    pub undelivered: Vec<Arc<Undelivered<P>>>,
}

/// Shuts a broker down. See [`Broker::shutdown`](crate::broker::Broker::shutdown).
pub(crate) fn shut_down<P: MessagePayload>(
    core: &Core<P>,
    limit: Duration,
) -> Result<ShutdownReport<P>, ShutdownError> {
    if context::is_filling() {
        return Err(ShutdownError::WouldDeadlock);
    }
    let reserve = (limit / RESERVE_DIVISOR).clamp(MIN_RESERVE, MAX_RESERVE);
    let deadline = Deadline::after(limit.max(reserve));
    let drained_by = Deadline::after(limit.saturating_sub(reserve));
    core.close();
    let spared = spared(core);
    let is_spared = |number, index| {
        spared
            .as_ref()
            .is_some_and(|(dispatcher, consumers)| *dispatcher == number && consumers.contains(&index))
    };
    let own = spared.as_ref().map_or(0, |(_, consumers)| consumers.len());
    let mut abandoned = Vec::new();
    if !core.threads.wait(own, drained_by) {
        for (number, dispatcher) in core.dispatchers.iter().enumerate() {
            for (index, consumer) in dispatcher.consumers.iter().enumerate() {
                if is_spared(number, index) {
                    continue;
                }
                if let Stopped::InCall(call) = consumer.mailbox.supervisor().stop()
                    && let Some(takeover) = call.take_over()
                {
                    abandoned.push(abandon(
                        core,
                        ConsumerAddr { dispatcher: number as u16, number: index as u16 },
                        &consumer.thread,
                        &takeover,
                        reserve / 2,
                    ));
                    core.threads.abandon_one();
                }
            }
        }
        // The others are in code of ours, and hand over by themselves; or else they drop what a
        // handler had captured, or wait for a publisher that is stuck in its closure.
        if !core.threads.wait(own, deadline) {
            for (number, dispatcher) in core.dispatchers.iter().enumerate() {
                for (index, consumer) in dispatcher.consumers.iter().enumerate() {
                    let mailbox = &consumer.mailbox;
                    if !is_spared(number, index)
                        && !mailbox.has_left()
                        && !mailbox.supervisor().is_taken_over()
                    {
                        abandoned.push(Abandoned::outside_of_a_handler(&consumer.thread));
                    }
                }
            }
        }
    }
    core.reclaim_signal.stop();
    let undelivered = core.threads.take_handed_back().into_iter().map(Arc::new).collect();
    for stuck in &abandoned {
        tracing::error!(
            target: "ringmain::shutdown",
            thread = stuck.thread,
            subscription = stuck.subscription,
            "a consumer did not come back in time and was abandoned"
        );
    }
    Ok(ShutdownReport { ledger: core.audit(), abandoned, undelivered })
}

/// The consumers that a shutdown from a handler cannot wait for: the handler's own, and those of
/// later stages, which wait for it. As the dispatcher's number and the consumers' numbers.
fn spared<P>(core: &Core<P>) -> Option<(usize, Vec<usize>)> {
    let me = context::consuming(core.id)?;
    let (dispatcher, consumer) = (usize::from(me.dispatcher), usize::from(me.number));
    let stages = &core.dispatchers[dispatcher].stages;
    // Only while a message is being handled does the consumer hold them up.
    let is_handling = context::handling().is_some();
    let later = stages.iter().filter(|stage| is_handling && stage.start > consumer).cloned().flatten();
    Some((dispatcher, std::iter::once(consumer).chain(later).collect()))
}

impl<P: MessagePayload> Broker<P> {
    /// Waits until everything published before this call has been delivered or otherwise settled,
    /// at most for `limit`. Publishers may go on meanwhile; where they rest, an
    /// [`audit`](Self::audit) after it is exact. Spins, yields and sleeps.
    ///
    /// # Errors
    /// The time is up; or this is a thread that would wait for itself: a consumer of this broker,
    /// or inside of a publish closure.
    pub fn drain(&self, limit: Duration) -> Result<(), DrainError> {
        let core = self.core();
        if context::is_filling() || context::consuming(core.id).is_some() {
            return Err(DrainError::WouldDeadlock);
        }
        let claimed: Vec<u64> = core.rings.iter().map(|state| state.ring.claimed()).collect();
        let is_drained = || {
            let mut rings = core.rings.iter().zip(&claimed);
            rings.all(|(state, &claimed)| state.ring.released() >= claimed).then_some(())
        };
        // The rings' own parking spots are for those whom a publication or a release wakes.
        wait_until(WaitStrategy::Backoff, &Parking::new(false), Deadline::after(limit), is_drained)
            .ok_or(DrainError::TimedOut { limit })
    }

    /// Refuses further publishes and subscriptions, lets consumers handle what was accepted, and
    /// returns when they have or when `limit` (or 5 ms, should it be shorter) has passed, whichever
    /// is first.
    ///
    /// Consumers that have not finished by then are stopped: what they have not handled is handed
    /// back in the report, and one that is stuck in a handler is abandoned, its running call in
    /// doubt. From a handler, all consumers are waited for but its own, and those of later stages,
    /// which wait for it. May be called again; the second report has nothing to hand back.
    ///
    /// # Errors
    /// It is called inside of a publish closure, whose slot its consumers wait for. Nothing is
    /// done.
    pub fn shutdown(&self, limit: Duration) -> Result<ShutdownReport<P>, ShutdownError> {
        shut_down(self.core(), limit)
    }
}
