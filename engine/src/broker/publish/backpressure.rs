//! Waiting for room in a ring.

use super::error::PublishFailure;
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::message::Envelope;
use crate::ring::{self, MultiProducer, Overflow, Run};
use crate::routing::{RingId, RouteTarget};
use crate::sync::atomic::Ordering;
use crate::wait::Deadline;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::time::Instant;

/// How long a publish waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitMode<'b> {
    /// As each ring's policy says.
    Policy,
    /// As each ring's policy says, once for a whole batch.
    PolicyOfBatch(&'b BatchWaits),
    /// Not at all.
    None,
    /// Until then, whatever the policy.
    Until(Deadline),
}

/// When a batch began to wait for each ring: that one message's limit is all that it waits there, however long it has
/// waited for others.
#[derive(Debug, Default)]
pub(crate) struct BatchWaits(RefCell<SmallVec<[(RingId, Instant); 1]>>);

impl BatchWaits {
    /// Returns when the batch began to wait for a ring: now, if it has not.
    fn began(&self, ring: RingId) -> Instant {
        let mut waits = self.0.borrow_mut();
        if let Some((_, began)) = waits.iter().find(|(other, _)| *other == ring) {
            return *began;
        }
        let now = Instant::now();
        waits.push((ring, now));
        now
    }
}

/// Reserves up to `count` slots of a route's ring, into which `producer` leads. A refusal is counted, for the
/// dispatcher and for the route.
#[inline(always)]
pub(super) fn reserve<P>(
    core: &Core<P>,
    producer: &mut MultiProducer<Envelope<P>>,
    target: &RouteTarget,
    count: u64,
    wait: WaitMode<'_>,
) -> Result<Run, PublishFailure> {
    match producer.reserve(count) {
        Ok(run) => Ok(run),
        Err(why) => reserve_late(core, producer, target, count, wait, why),
    }
}

/// Reserves where there was no room at once; counts it where there is none in the end.
// Out of line with all that it counts: hot paths have registers to lose.
#[cold]
#[inline(never)]
fn reserve_late<P>(
    core: &Core<P>,
    producer: &mut MultiProducer<Envelope<P>>,
    target: &RouteTarget,
    count: u64,
    wait: WaitMode<'_>,
    why: ring::PublishError,
) -> Result<Run, PublishFailure> {
    let outcome = match why {
        ring::PublishError::Closed => Err(why_closed(core, target)),
        _ => wait_for_room(core, producer, target, count, wait),
    };
    if outcome.as_ref().is_err_and(|failure| failure.reason().is_refusal()) {
        target.tally.refused.bump();
        core.dispatcher(target.dispatcher).refused.fetch_add(1, Ordering::Relaxed);
    }
    outcome
}

fn wait_for_room<P>(
    core: &Core<P>,
    producer: &mut MultiProducer<Envelope<P>>,
    target: &RouteTarget,
    count: u64,
    wait: WaitMode<'_>,
) -> Result<Run, PublishFailure> {
    let name = || core.dispatcher(target.dispatcher).name.clone();
    let deadline = match (wait, producer.overflow()) {
        (WaitMode::Until(deadline), _) => deadline,
        (WaitMode::Policy, Overflow::Block { limit }) => limit.map_or(Deadline::NEVER, Deadline::after),
        (WaitMode::PolicyOfBatch(waits), Overflow::Block { limit }) => {
            limit.map_or(Deadline::NEVER, |limit| Deadline::since(waits.began(target.ring), limit))
        }
        // No dispatcher drops: the builder sees to that.
        (WaitMode::None | WaitMode::Policy | WaitMode::PolicyOfBatch(_), _) => {
            return Err(PublishFailure::Full { dispatcher: name() });
        }
    };
    if core.is_forked() {
        return Err(PublishFailure::Forked);
    }
    // The slot that is being filled holds its ring up, and perhaps, through it, any other.
    if context::is_filling() {
        return Err(PublishFailure::WouldDeadlock { dispatcher: name() });
    }
    // For the watchdog. Whoever waits has the time; where there is none, nothing is counted.
    let _waiting = core.watch.as_ref().map(|_| core.dispatcher(target.dispatcher).waiting.enter());
    producer.reserve_until(count, deadline).map_err(|error| match error {
        ring::PublishError::Full | ring::PublishError::Dropped => PublishFailure::Full { dispatcher: name() },
        ring::PublishError::TimedOut => PublishFailure::TimedOut { dispatcher: name() },
        ring::PublishError::WouldDeadlock => PublishFailure::WouldDeadlock { dispatcher: name() },
        // To the user a ring that has used up its sequences is one that takes no more.
        ring::PublishError::Closed | ring::PublishError::Exhausted => why_closed(core, target),
    })
}

/// Says why a ring takes no message any more.
fn why_closed<P>(core: &Core<P>, target: &RouteTarget) -> PublishFailure {
    match core.dead_dispatcher(target.dispatcher) {
        Some(dispatcher) => PublishFailure::ConsumerDied { dispatcher },
        None => PublishFailure::Closed,
    }
}
