//! Draining: waiting until all that was published has been settled.

use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::error::DrainError;
use crate::broker::handle::Broker;
use crate::message::MessagePayload;
use crate::wait::{Deadline, Parking, WaitStrategy, wait_until};
use std::time::Duration;

/// Waits until all that has been claimed by now has been released.
fn drain<P: MessagePayload>(core: &Core<P>, limit: Duration) -> Result<(), DrainError> {
    if core.is_forked() {
        return Err(DrainError::Forked);
    }
    if context::is_filling() || context::consuming(core.id).is_some() {
        return Err(DrainError::WouldDeadlock);
    }
    let claimed: Vec<u64> = core.rings.iter().map(|state| state.ring.claimed()).collect();
    let is_over = || {
        if let Some(thread) = core.threads.lost() {
            return Some(Err(DrainError::ConsumerLost { thread }));
        }
        let mut rings = core.rings.iter().zip(&claimed);
        rings.all(|(state, &claimed)| state.ring.released() >= claimed).then_some(Ok(()))
    };
    // The rings' own parking spots are for those whom a publication or a release wakes.
    wait_until(WaitStrategy::Backoff, &Parking::new(false), Deadline::after(limit), is_over)
        .unwrap_or(Err(DrainError::TimedOut { limit }))
}

impl<P: MessagePayload> Broker<P> {
    /// Waits until everything published before this call has been delivered or otherwise settled,
    /// at most for `limit`. Publishers may go on meanwhile; where they rest, an
    /// [`audit`](Self::audit) after it is exact. What handlers publish meanwhile is not waited for:
    /// where one dispatcher's handlers publish to another's, drain as often as the chain is long.
    /// Spins, yields and sleeps.
    ///
    /// # Errors
    /// The time is up; or a consumer has died, or was taken over by a shutdown, and its ring drains
    /// no more; or this is a thread that would wait for itself: a consumer of this broker, or
    /// inside of a publish closure.
    pub fn drain(&self, limit: Duration) -> Result<(), DrainError> {
        drain(self.core(), limit)
    }
}
