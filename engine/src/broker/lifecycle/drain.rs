//! Draining: waiting until all that was published has been settled.

use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::error::DrainError;
use crate::broker::handle::Broker;
use crate::broker::waiting::queue::Sizes;
use crate::message::MessagePayload;
use crate::sync::edge;
use crate::wait::{Deadline, Parking, WaitStrategy, wait_until};
use std::time::Duration;

/// Waits until all that has been claimed by now has been released.
fn drain<P: MessagePayload>(core: &Core<P>, limit: Duration) -> Result<(), DrainError> {
    if core.is_forked() {
        return Err(DrainError::Forked);
    }
    if core.is_simulated || context::is_filling() || context::consuming(core.id).is_some() {
        return Err(DrainError::WouldDeadlock);
    }
    let claimed: Vec<u64> = core.rings.iter().map(|state| state.ring.claimed()).collect();
    let is_replaying = || core.dead_letters.as_ref().is_some_and(|store| store.is_replaying());
    let are_empty = || core.consumers().all(|consumer| consumer.waiting.is_empty()) && !is_replaying();
    let have_drained = || {
        let mut rings = core.rings.iter().zip(&claimed);
        rings.all(|(state, &claimed)| state.ring.released() >= claimed)
    };
    let is_over = || {
        if let Some(thread) = core.threads.lost() {
            return Some(Err(DrainError::ConsumerLost { thread }));
        }
        if edge::left_out("rings-before-rooms") {
            return (are_empty() && have_drained()).then_some(Ok(()));
        }
        // In this order: what leaves a ring to wait is in its room before the ring's slot is released.
        (have_drained() && are_empty()).then_some(Ok(()))
    };
    // The rings' own parking spots are for those whom a publication or a release wakes.
    wait_until(WaitStrategy::Backoff, &Parking::new(false), Deadline::after(limit), is_over)
        .unwrap_or_else(|| Err(why_not(core, have_drained(), limit)))
}

/// Says why the time is up.
pub(super) fn why_not<P: MessagePayload>(core: &Core<P>, have_drained: bool, limit: Duration) -> DrainError {
    let waiting: Vec<_> = core.consumers().flat_map(|consumer| consumer.waiting.sizes()).collect();
    let count = |sizes: &Sizes| sizes.waiting() + sizes.in_flight;
    let messages: usize = waiting.iter().map(|(_, sizes)| count(sizes)).sum();
    if !have_drained || messages == 0 {
        return DrainError::TimedOut { limit };
    }
    let those = waiting.iter().filter(|(_, sizes)| count(sizes) > 0);
    let name = |id| core.registry.find(id).map(|state| state.name.to_string());
    DrainError::Waiting {
        subscriptions: those.filter_map(|&(id, _)| name(id)).collect(),
        messages: messages as u64,
        limit,
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Waits until everything published before this call has been delivered or otherwise settled, and
    /// nothing waits in a backlog, for another attempt or to be replayed, nor is kept with a token, at most for
    /// `limit`. So it does not end while a subscription is paused for which messages wait. Publishers may go on
    /// meanwhile; where they rest, an [`audit`](Self::audit) after it is exact. What handlers publish meanwhile is
    /// not waited for: where one dispatcher's handlers publish to another's, drain as often as the chain is long.
    /// Nor is a call whose consumer [was replaced](crate::broker::Dispatcher::rescuable): its message is in doubt by
    /// then. What waits behind it is waited for.
    /// Spins, yields and sleeps.
    ///
    /// # Errors
    /// The time is up, and the error tells whether messages wait for subscriptions; or a consumer has
    /// died, or was taken over by a shutdown, and its ring drains no more; or this is a thread that
    /// would wait for itself: a consumer of this broker, or inside of a publish closure, or that of a
    /// [simulation](crate::broker::simulation).
    pub fn drain(&self, limit: Duration) -> Result<(), DrainError> {
        drain(self.core(), limit)
    }
}
