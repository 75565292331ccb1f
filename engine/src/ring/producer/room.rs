//! Waiting for room in a full ring.

use super::claimed::Claimant;
use crate::ring::circle;
use crate::ring::claim::{Run, Sequencer, Unclaimed};
use crate::ring::control::Core;
use crate::ring::overflow::PublishError;
use crate::ring::pace::Hysteresis;
use crate::ring::reentrancy::Parts;
use crate::wait::{Deadline, Waiter};

/// Reserves up to `count` sequences, waiting for the first of them until the deadline.
pub(super) fn reserve_until<E, S: Sequencer>(
    claimant: &mut Claimant<E, S>,
    waiter: &mut Waiter,
    count: u64,
    deadline: Deadline,
) -> Result<Run, PublishError> {
    let Claimant { core, sequencer } = claimant;
    match sequencer.try_claim(core, count) {
        Ok(run) => return Ok(run),
        Err(Unclaimed::Full | Unclaimed::Unpublished) => {}
        Err(why) => return Err(why.refusal()),
    }
    let mut wait = |deadline| wait_for_room(core, sequencer, waiter, count, deadline);
    let outcome = match Parts::of_this_thread() {
        None => wait(deadline),
        Some(parts) => {
            circle::wait_inside(core, parts, deadline, wait).map_err(|_| PublishError::WouldDeadlock)?
        }
    };
    match outcome {
        Some(Ok(run)) => Ok(run),
        Some(Err(why)) => Err(why.refusal()),
        None => Err(PublishError::TimedOut),
    }
}

/// Waits for room until the deadline, and claims it.
fn wait_for_room<E, S: Sequencer>(
    core: &Core<E>,
    sequencer: &mut S,
    waiter: &mut Waiter,
    count: u64,
    deadline: Deadline,
) -> Option<Result<Run, Unclaimed>> {
    let control = &core.control;
    let strategy = || control.wait_for_room();
    let hysteresis = Hysteresis::new(control.capacity);
    let outcome = waiter.wait_until(strategy, &control.signals.producers, deadline, || {
        let room = sequencer.room(core);
        if !hysteresis.is_over(room, deadline) {
            return None;
        }
        match sequencer.try_claim(core, count) {
            Err(Unclaimed::Full) => None,
            other => Some(other),
        }
    });
    let Some(Err(Unclaimed::Unpublished)) = outcome else { return outcome };
    // A publish wakes only consumers, and here there is none. The wait ends as soon as the other
    // producer's fill closure returns.
    let strategy = || control.wait.get().without_parking();
    waiter.wait_until(strategy, &control.signals.producers, deadline, || {
        match sequencer.try_claim(core, count) {
            Err(Unclaimed::Full | Unclaimed::Unpublished) => None,
            other => Some(other),
        }
    })
}
