//! Producers: they claim, fill the slot in place, and stamp it.

use super::Sequence;
use super::control::Core;
use super::hysteresis::Hysteresis;
use super::overflow::{Overflow, PublishError};
use super::reentry;
use super::runner::discard_panic;
use super::sequencer::{Exclusive, Multi, Run, Sequencer, Unclaimed};
use super::skip::make_room;
use super::slots::Layout;
use crate::sync::atomic::Ordering;
use crate::wait::{Deadline, Waiter};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The only producer of its ring: publishing costs no read-modify-write.
pub type ExclusiveProducer<E> = Producer<E, Exclusive>;

/// One of many producers of its ring; clone it for each thread. Publishing costs one read-modify-write.
pub type MultiProducer<E> = Producer<E, Multi>;

/// A handle to publish into a ring.
///
/// Filling happens in place: the event still holds what it held a capacity ago, so that its buffers can be reused. A
/// closure that panics publishes nothing; the event is made anew by the ring's factory, and the panic goes on.
///
/// No method allocates or locks, except to wake threads that sleep under
/// [`WaitStrategy::Blocking`](crate::wait::WaitStrategy::Blocking).
pub struct Producer<E, S> {
    core: Arc<Core<E>>,
    sequencer: S,
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
    pub(super) fn new(core: Arc<Core<E>>, sequencer: S) -> Self {
        Self { core, sequencer, waiter: Waiter::new() }
    }

    /// Publishes one event; on a full ring does what the ring's [`Overflow`] policy says.
    ///
    /// # Errors
    /// On a full ring `Full` under `Reject`, `TimedOut` under a limited `Block`, `Dropped` under the dropping policies,
    /// `WouldDeadlock` where waiting would never end. `Closed` and `Exhausted` otherwise. `fill` was not called.
    // Always: called out of line, it would save registers on the stack, stores in front of the event's own (PERFORMANCE.md, 17).
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

    /// Publishes `count` events, each filled by `fill` with its place in the batch. Claims as many at once as are
    /// free, so other producers' events may come between; on a full ring does what the policy says.
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
            let mut claimed = self.claimed(run);
            while claimed.is_open() {
                claimed.publish_next(|event| fill(published, event));
                published += 1;
            }
        }
        Ok(())
    }

    /// Fills and publishes a run of one: what [`Claimed`] does, and all of it in registers.
    #[inline(always)]
    pub(crate) fn fill_one(&mut self, run: Run, fill: impl FnOnce(&mut E)) -> Sequence {
        let sequence = run.first;
        let unfilled = Unfilled { producer: self, from: sequence, end: sequence + 1 };
        let core = &*unfilled.producer.core;
        // SAFETY: `sequence` is the claimed run and not yet published.
        let write = || unsafe { core.slots.write(sequence, fill) };
        if S::ARE_MANY {
            reentry::inside(core, write)
        } else {
            write()
        }
        core.slots.publish(sequence, false);
        core.control.readers.wake_all();
        std::mem::forget(unfilled);
        sequence
    }

    /// Reserves up to `count` sequences as the ring's policy says. A run and not a [`Claimed`], so that what is waited for
    /// out of line comes back in registers.
    #[inline(always)]
    fn reserve_by_policy(&mut self, count: u64) -> Result<Run, PublishError> {
        match self.sequencer.try_claim(&self.core, count) {
            Ok(run) => Ok(run),
            Err(why) => self.wait_by_policy(why, count),
        }
    }

    #[cold]
    fn wait_by_policy(&mut self, why: Unclaimed, count: u64) -> Result<Run, PublishError> {
        match (why, self.core.control.overflow) {
            (Unclaimed::Closed | Unclaimed::Exhausted, _) | (_, Overflow::Reject) => Err(refused(why)),
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
            if make_room(&self.core, self.sequencer.cursor(&self.core)).is_err() {
                return Err(self.drop_newest(count));
            }
            match self.sequencer.try_claim(&self.core, count) {
                Ok(run) => return Ok(run),
                // Another producer was quicker.
                Err(Unclaimed::Full) => {}
                Err(Unclaimed::InHand) => return Err(self.drop_newest(count)),
                Err(why) => return Err(refused(why)),
            }
        }
    }

    fn drop_newest(&self, count: u64) -> PublishError {
        self.core.control.refused.fetch_add(count, Ordering::Relaxed);
        PublishError::Dropped
    }

    /// Reserves up to `count` sequences that are free at this moment, to be turned into a [`Claimed`] at once. Two steps,
    /// so that whoever fails here still has the producer.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, count: u64) -> Result<Run, PublishError> {
        self.sequencer.try_claim(&self.core, count).map_err(refused)
    }

    /// What was reserved just now.
    #[inline(always)]
    pub(crate) fn claimed(&mut self, run: Run) -> Claimed<'_, E, S> {
        Claimed::new(self, run)
    }

    /// Reserves up to `count` sequences, waiting for the first of them until the deadline.
    pub(crate) fn reserve_until(&mut self, count: u64, deadline: Deadline) -> Result<Run, PublishError> {
        match self.sequencer.try_claim(&self.core, count) {
            Ok(run) => return Ok(run),
            Err(Unclaimed::Full | Unclaimed::InHand) => {}
            Err(why) => return Err(refused(why)),
        }
        if reentry::is_inside(&raw const *self.core) {
            return Err(PublishError::WouldDeadlock);
        }
        let control = &self.core.control;
        let strategy = || control.wait_for_room();
        let patience = Hysteresis::new(control.capacity);
        let mut outcome = self.waiter.wait_until(strategy, &control.writers, deadline, || {
            let room = self.sequencer.room(&self.core);
            // At the deadline any room will do.
            if !patience.is_over(room) && (room.is_err() || !deadline.has_passed()) {
                return None;
            }
            match self.sequencer.try_claim(&self.core, count) {
                Err(Unclaimed::Full) => None,
                other => Some(other),
            }
        });
        if let Some(Err(Unclaimed::InHand)) = outcome {
            // Who publishes rings for consumers only; where there is none, it is over as soon as a fill closure returns.
            let strategy = || control.wait.get().without_parking();
            outcome = self.waiter.wait_until(strategy, &control.writers, deadline, || {
                match self.sequencer.try_claim(&self.core, count) {
                    Err(Unclaimed::Full | Unclaimed::InHand) => None,
                    other => Some(other),
                }
            });
        }
        match outcome {
            Some(Ok(run)) => Ok(run),
            Some(Err(why)) => Err(refused(why)),
            None => Err(PublishError::TimedOut),
        }
    }

    /// What the ring does when it is full.
    pub fn overflow(&self) -> Overflow {
        self.core.control.overflow
    }
}

/// What a publish answers that does not wait.
fn refused(why: Unclaimed) -> PublishError {
    match why {
        Unclaimed::Full | Unclaimed::InHand => PublishError::Full,
        Unclaimed::Closed => PublishError::Closed,
        Unclaimed::Exhausted => PublishError::Exhausted,
    }
}

impl<E> ExclusiveProducer<E> {
    /// The next event, to be filled over several statements. Dropped or forgotten, it was never claimed. On a full
    /// ring fails at once.
    ///
    /// # Errors
    /// `Full` or `Closed`.
    ///
    /// ```
    /// # use ringmain::ring::RingBuilder;
    /// # let (mut producer, ring) = RingBuilder::new(8, || [0_u8; 16])?.graph().exclusive()?;
    /// let mut claim = producer.claim()?;
    /// claim[0] = 7;
    /// claim.publish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim(&mut self) -> Result<Claim<'_, E>, PublishError> {
        match self.sequencer.has_room(&self.core) {
            Ok(sequence) => Ok(Claim { producer: self, sequence }),
            Err(why) => Err(refused(why)),
        }
    }
}

impl<E> Clone for MultiProducer<E> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), sequencer: self.sequencer.clone(), waiter: Waiter::new() }
    }
}

impl<E, S> fmt::Debug for Producer<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("claimed", &self.core.control.claimed()).finish_non_exhaustive()
    }
}

/// A run of claimed sequences, published one after the other. What is left when it is dropped, by a panic of a fill
/// closure, is abandoned: tombstones where others may have claimed behind it, nothing where nobody can have.
///
/// A stamped event is published when it is filled, a dense run when all of it is: one store of the cursor.
pub(crate) struct Claimed<'p, E, S: Sequencer> {
    producer: &'p mut Producer<E, S>,
    first: Sequence,
    next: Sequence,
    end: Sequence,
}

impl<'p, E, S: Sequencer> Claimed<'p, E, S> {
    #[inline(always)]
    fn new(producer: &'p mut Producer<E, S>, run: Run) -> Self {
        Self { producer, first: run.first, next: run.first, end: run.first + run.count }
    }

    /// Whether any sequence of the run is left to publish.
    pub(crate) fn is_open(&self) -> bool {
        self.next < self.end
    }

    /// Fills and publishes the next sequence of the run.
    #[inline(always)]
    pub(crate) fn publish_next(&mut self, fill: impl FnOnce(&mut E)) -> Sequence {
        debug_assert!(self.is_open(), "more was published than claimed");
        let sequence = self.next;
        let core = &*self.producer.core;
        // SAFETY: `sequence` lies in the claimed run and is not yet published.
        let write = || unsafe { core.slots.write(sequence, fill) };
        if S::ARE_MANY {
            reentry::inside(core, write)
        } else {
            write()
        }
        if core.slots.layout() == Layout::Stamped {
            core.slots.publish(sequence, false);
        }
        self.next += 1;
        sequence
    }
}

impl<E, S: Sequencer> Drop for Claimed<'_, E, S> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_open() {
            drop(Unfilled { producer: self.producer, from: self.next, end: self.end });
        }
        let slots = &self.producer.core.slots;
        if slots.layout() == Layout::Dense && self.next > self.first {
            slots.publish(self.next - 1, false);
        }
        self.producer.core.control.readers.wake_all();
    }
}

/// The end of a run that a panic of a fill closure leaves behind. Dropping it makes that harmless.
struct Unfilled<'p, E, S: Sequencer> {
    producer: &'p mut Producer<E, S>,
    from: Sequence,
    end: Sequence,
}

impl<E, S: Sequencer> Drop for Unfilled<'_, E, S> {
    #[cold]
    fn drop(&mut self) {
        let Producer { core, sequencer, .. } = &mut *self.producer;
        // The factory, and the drop of an event, are user code too.
        reentry::inside(&raw const **core, || {
            for sequence in self.from..self.end {
                // The half-written event is still a value of its type. Should making a new one, or dropping the old one,
                // panic as well, then it stays, which is safe, and one panic is reported, which is enough.
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let fresh = (core.factory)();
                    // SAFETY: `sequence` lies in the claimed run and is not yet published.
                    unsafe { core.slots.write(sequence, |event| *event = fresh) };
                }));
                if let Err(payload) = outcome {
                    discard_panic(payload);
                }
            }
        });
        if sequencer.abandon(&core.control, self.from) && !crate::sync::edge::left_out("tombstone") {
            for sequence in self.from..self.end {
                core.slots.publish(sequence, true);
            }
        }
        core.control.readers.wake_all();
    }
}

/// The next event of an exclusive producer, not yet claimed. See [`ExclusiveProducer::claim`].
pub struct Claim<'p, E> {
    producer: &'p mut ExclusiveProducer<E>,
    sequence: Sequence,
}

impl<E> Claim<'_, E> {
    /// Publishes the event.
    ///
    /// # Errors
    /// `Closed` when the ring was closed meanwhile: nothing was published.
    pub fn publish(self) -> Result<Sequence, PublishError> {
        self.producer.try_publish(|_| ())
    }

    /// The sequence under which the event will be published.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

impl<E> Deref for Claim<'_, E> {
    type Target = E;

    fn deref(&self) -> &E {
        // SAFETY: the only producer holds this claim, and the gate showed the slot released by all consumers and it
        // is not stamped anew, so nobody writes while the claim is borrowed.
        unsafe { &*self.producer.core.slots.pointer(self.sequence) }
    }
}

impl<E> DerefMut for Claim<'_, E> {
    fn deref_mut(&mut self) -> &mut E {
        // SAFETY: as for `deref`, and the claim is borrowed mutably.
        unsafe { &mut *self.producer.core.slots.pointer(self.sequence) }
    }
}

impl<E: fmt::Debug> fmt::Debug for Claim<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
