//! Producers: they claim, fill the slot in place, and stamp it.

mod claimed;
mod next_slot;
mod room;

use self::claimed::{Claimant, fill_one};
use crate::ring::claim::{Multi, Run, Sequencer, Single, Unclaimed};
use crate::ring::control::Core;
use crate::ring::gate::make_room;
use crate::ring::overflow::{Overflow, PublishError};
use crate::ring::sequence::Sequence;
use crate::ring::slots::Write;
use crate::sync::atomic::Ordering;
use crate::wait::{Deadline, Waiter};
pub(crate) use claimed::ClaimedRun;
pub use next_slot::NextSlot;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The only producer of its ring: publishing costs no read-modify-write.
pub type SingleProducer<E> = Producer<E, Single>;

/// One of many producers of its ring; clone it for each thread. Publishing costs one
/// read-modify-write.
pub type MultiProducer<E> = Producer<E, Multi>;

/// A handle to publish into a ring.
///
/// Filling happens in place: the event still holds what it held a capacity ago, so that its buffers
/// can be reused. A closure that panics publishes nothing; the event is made anew by the ring's
/// factory, and the panic goes on.
///
/// No method allocates or locks, except to wake threads that sleep under
/// [`WaitStrategy::Blocking`](crate::wait::WaitStrategy::Blocking), and inside of a handler or fill
/// closure, where a wait for room of more than 200 µs locks now and then to see whether it would
/// ever end.
pub struct Producer<E, S> {
    claimant: Claimant<E, S>,
    waiter: Waiter,
}

/// Part of a batch was published, and then the ring was full or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{published} events of the batch were published, then: {reason}")]
pub struct BatchError {
    /// So many events, the first of the batch, are in the ring.
    pub published: usize,
    /// Why the rest is not.
    pub reason: PublishError,
}

impl<E, S: Sequencer> Producer<E, S> {
    pub(in crate::ring) fn new(core: Arc<Core<E>>, sequencer: S) -> Self {
        Self { claimant: Claimant { core, sequencer }, waiter: Waiter::new() }
    }

    /// Publishes one event; on a full ring does what the ring's [`Overflow`] policy says.
    ///
    /// # Errors
    /// On a full ring `Full` under `Reject`, `TimedOut` under a limited `Block`, `Dropped` under
    /// the dropping policies, `WouldDeadlock` where waiting would never end. `Closed` and
    /// `Exhausted` otherwise. `fill` was not called.
    // Hot path, inline: out of line it would spill registers, stores in front of the event's own
    // (PERFORMANCE.md, 17).
    #[inline(always)]
    pub fn publish(&mut self, fill: impl FnOnce(&mut E)) -> Result<Sequence, PublishError> {
        let run = self.reserve_by_policy(1)?;
        Ok(self.fill_one(run, fill))
    }

    /// Publishes one event if there is room at this moment.
    ///
    /// # Errors
    /// `Full`, `Closed` or `Exhausted`. `fill` was not called.
    #[inline(always)]
    pub fn try_publish(&mut self, fill: impl FnOnce(&mut E)) -> Result<Sequence, PublishError> {
        let run = self.reserve(1)?;
        Ok(self.fill_one(run, fill))
    }

    /// Publishes one event, waiting for room no longer than `limit`, whatever the ring's policy.
    ///
    /// # Errors
    /// `TimedOut`, `WouldDeadlock`, `Closed` or `Exhausted`. `fill` was not called.
    pub fn publish_timeout(
        &mut self,
        limit: Duration,
        fill: impl FnOnce(&mut E),
    ) -> Result<Sequence, PublishError> {
        let run = self.reserve_until(1, Deadline::after(limit))?;
        Ok(self.fill_one(run, fill))
    }

    /// Publishes `count` events, each filled by `fill` with its place in the batch. Claims as many
    /// at once as are free, so other producers' events may come between; on a full ring does what
    /// the policy says.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), with the number of events that were published before.
    pub fn publish_batch(
        &mut self,
        count: usize,
        mut fill: impl FnMut(usize, &mut E),
    ) -> Result<(), BatchError> {
        let mut published = 0;
        while published < count {
            let run = self
                .reserve_by_policy((count - published) as u64)
                .map_err(|reason| BatchError { published, reason })?;
            let mut claimed = self.claimed_run(run);
            while claimed.is_open() {
                claimed.publish_next(|event: &mut E| fill(published, event));
                published += 1;
            }
        }
        Ok(())
    }

    /// Fills and publishes a run of one, as [`ClaimedRun`] does, but all in registers.
    #[inline(always)]
    pub(crate) fn fill_one(&mut self, run: Run, writer: impl Write<E>) -> Sequence {
        fill_one(&mut self.claimant, run, writer)
    }

    /// Reserves up to `count` sequences as the ring's policy says. Returns a run and not a
    /// [`ClaimedRun`], so that the out-of-line wait returns in registers.
    #[inline(always)]
    fn reserve_by_policy(&mut self, count: u64) -> Result<Run, PublishError> {
        match self.claimant.sequencer.try_claim(&self.claimant.core, count) {
            Ok(run) => Ok(run),
            Err(why) => self.wait_by_policy(why, count),
        }
    }

    #[cold]
    fn wait_by_policy(&mut self, why: Unclaimed, count: u64) -> Result<Run, PublishError> {
        match (why, self.claimant.core.control.overflow) {
            (Unclaimed::Closed | Unclaimed::Exhausted, _) | (_, Overflow::Reject) => Err(why.refusal()),
            (_, Overflow::Block { limit }) => {
                self.reserve_until(count, limit.map_or(Deadline::NEVER, Deadline::after))
            }
            (_, Overflow::DropNewest) => Err(self.drop_newest(count)),
            (_, Overflow::DropOldest) => self.reserve_dropping(count),
        }
    }

    /// Takes the oldest events away from those who hold producers up, for one event at least.
    fn reserve_dropping(&mut self, count: u64) -> Result<Run, PublishError> {
        loop {
            if make_room(&self.claimant.core, self.claimant.sequencer.cursor(&self.claimant.core)).is_err() {
                return Err(self.drop_newest(count));
            }
            match self.claimant.sequencer.try_claim(&self.claimant.core, count) {
                Ok(run) => return Ok(run),
                // Another producer was quicker.
                Err(Unclaimed::Full) => {}
                Err(Unclaimed::Unpublished) => return Err(self.drop_newest(count)),
                Err(why) => return Err(why.refusal()),
            }
        }
    }

    fn drop_newest(&self, count: u64) -> PublishError {
        self.claimant.core.control.refused.fetch_add(count, Ordering::Relaxed);
        PublishError::Dropped
    }

    /// Reserves up to `count` sequences that are free at this moment. The caller turns them into a
    /// [`ClaimedRun`] at once. Two steps, so that a caller who fails here still has the producer.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, count: u64) -> Result<Run, PublishError> {
        self.claimant.sequencer.try_claim(&self.claimant.core, count).map_err(Unclaimed::refusal)
    }

    /// Returns the run that was reserved just now, to be filled.
    #[inline(always)]
    pub(crate) fn claimed_run(&mut self, run: Run) -> ClaimedRun<'_, E, S> {
        ClaimedRun::new(&mut self.claimant, run)
    }

    /// Reserves up to `count` sequences, waiting for the first of them until the deadline.
    pub(crate) fn reserve_until(&mut self, count: u64, deadline: Deadline) -> Result<Run, PublishError> {
        room::reserve_until(&mut self.claimant, &mut self.waiter, count, deadline)
    }

    /// Returns what the ring does when it is full.
    pub fn overflow(&self) -> Overflow {
        self.claimant.core.control.overflow
    }
}

impl<E> Clone for MultiProducer<E> {
    fn clone(&self) -> Self {
        Self::new(self.claimant.core.clone(), self.claimant.sequencer.clone())
    }
}

impl<E, S> fmt::Debug for Producer<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("claimed", &self.claimant.core.control.claimed())
            .finish_non_exhaustive()
    }
}
