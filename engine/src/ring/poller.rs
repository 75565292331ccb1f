//! A consumer that is polled: its position in the ring, and `poll`, which handles what is there.
//!
//! Managed threads, the broker's consumers and a user's own loop all drive this one type.

use super::Sequence;
use super::barrier::Barrier;
use super::control::Core;
use super::gating::{ConsumerSequence, LEFT};
use super::lease::{Lease, Overseer};
use crate::sync::edge::{self, RELEASE_SLOT};
use crate::wait::{Deadline, Parking, WaitStrategy, wait_until};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The most events between two releases: enough to spread the cost of a release, and few enough to keep what was
/// looked at in the first-level cache until it is handled.
const LONGEST_RUN: u64 = 64;

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many sequences were gone through. Tombstones count: they too were claimed.
    Events(u64),
    /// Nothing was there.
    Empty,
    /// Nothing will ever be there again: the ring is closed and drained, or halted.
    Finished,
}

/// A consumer of a ring, driven by whoever calls [`poll`](Self::poll).
///
/// It holds producers up from the moment it is made: one that is not polled fills the ring. Dropping it lets go.
pub struct Poller<E> {
    core: Arc<Core<E>>,
    barrier: Barrier,
    sequence: ConsumerSequence,
    /// The owner's copy of its own sequence, ahead of it within a run.
    next: Sequence,
    run: u64,
    tombstones: u64,
    lease: Lease,
}

impl<E> Poller<E> {
    pub(super) fn new(
        core: Arc<Core<E>>,
        dependencies: Vec<ConsumerSequence>,
        sequence: ConsumerSequence,
        next: Sequence,
    ) -> Self {
        let run = (core.control.capacity / 8).clamp(1, LONGEST_RUN);
        let barrier = Barrier::new(dependencies);
        let lease = Lease::new(sequence.clone());
        Self { core, barrier, sequence, next, run, tombstones: 0, lease }
    }

    /// Handles up to `max` events that are there, oldest first, and returns at once.
    ///
    /// The handler gets the event, its sequence, and whether it is the last of what was found in one look, after
    /// which the events so far are released to producers. It must not keep the reference. Does not allocate, lock or
    /// make a system call, unless a sleeping producer is to be woken.
    ///
    /// A handler that panics is past its event: the panic goes on to the caller, and the next poll starts behind it.
    #[inline]
    pub fn poll(&mut self, max: u64, mut handler: impl FnMut(&E, Sequence, bool)) -> Polled {
        self.poll_leased(max, |event, sequence, end_of_batch, _lease| handler(event, sequence, end_of_batch))
    }

    /// As [`poll`](Self::poll), for handlers that make their calls of user code under the [`Lease`] they are given, so
    /// that an [`Overseer`] can take its position over when such a call does not return. Once that has happened, this
    /// poller finds the ring `Finished` and touches it no more.
    #[inline]
    pub fn poll_leased(&mut self, max: u64, mut handler: impl FnMut(&E, Sequence, bool, &Lease)) -> Polled {
        if self.core.control.is_halted() || self.lease.is_lost() {
            return Polled::Finished;
        }
        let mut handled = 0;
        // A halt is noticed between runs: a consumer does not go on with a whole ring first.
        while handled < max && !self.core.control.is_halted() {
            let first = self.next;
            let end = self.available(self.run.min(max - handled));
            if end == first {
                break;
            }
            self.handle_run(end, &mut handler);
            if self.lease.is_lost() {
                return Polled::Finished;
            }
            handled += end - first;
        }
        match handled {
            0 if max > 0 && self.core.control.is_finished(self.next) => Polled::Finished,
            0 => Polled::Empty,
            _ => Polled::Events(handled),
        }
    }

    /// The end of what may be gone through, at most `max` sequences. Who has been stopped makes no further call of user
    /// code: it need not wait for the consumers before it, one of which may have been taken over and never move on.
    #[inline(always)]
    fn available(&self, max: u64) -> Sequence {
        if self.lease.is_stopped() {
            return Barrier::published(&self.core, self.next, self.next.saturating_add(max));
        }
        self.barrier.available(&self.core, self.next, max)
    }

    /// Handles all from `self.next` up to `end`, which is available, and releases it, panic or not.
    #[inline(always)]
    fn handle_run(&mut self, end: Sequence, handler: &mut impl FnMut(&E, Sequence, bool, &Lease)) {
        struct Releasing<'p, E>(&'p mut Poller<E>);
        impl<E> Drop for Releasing<'_, E> {
            #[inline(always)]
            fn drop(&mut self) {
                self.0.release();
            }
        }
        let running = Releasing(self);
        let poller = &mut *running.0;
        while poller.next < end && !poller.lease.is_lost() {
            let sequence = poller.next;
            poller.next += 1;
            if poller.core.slots.is_tombstone(sequence) {
                poller.tombstones += 1;
                continue;
            }
            let (slots, lease) = (&poller.core.slots, &poller.lease);
            let end_of_batch = sequence + 1 == end;
            // SAFETY: the barrier has seen `sequence` published, and nobody but the drop of `running` releases it.
            unsafe { slots.read(sequence, |event| handler(event, sequence, end_of_batch, lease)) };
        }
    }

    /// Lets producers, and later stages, have all below `self.next`.
    #[inline(always)]
    fn release(&mut self) {
        if !self.lease.is_lost() || edge::left_out("release-after-loss") {
            // Edges `RELEASE_SLOT` and `FINISH_STAGE`, release side.
            self.sequence.store(self.next, RELEASE_SLOT.release());
            self.core.control.consumer_moved();
        }
    }

    /// Waits until a poll would find something, with the given strategy and at most for `limit`. Returns whether it
    /// would.
    ///
    /// # Panics
    /// When the strategy parks and the ring was built so that it never does.
    pub fn wait(&self, strategy: WaitStrategy, limit: Duration) -> bool {
        wait_until(strategy, &self.core.control.readers, Deadline::after(limit), || {
            self.is_ready().then_some(())
        })
        .is_some()
    }

    /// Whether a poll would find something: an event, or the end.
    pub fn is_ready(&self) -> bool {
        self.available(1) > self.next || self.core.control.is_finished(self.next)
    }

    /// Whether the lease says that there is mail or a stop; to be part of what a consumer waits for.
    pub fn is_summoned(&self) -> bool {
        self.lease.is_summoned()
    }

    /// The lease under which [`poll_leased`](Self::poll_leased) works.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// A handle to watch this consumer, summon it, and take its position over.
    pub fn overseer(&self) -> Overseer<E> {
        self.lease.overseer(&self.core)
    }

    /// Where this consumer sleeps.
    pub(crate) fn readers(&self) -> Arc<Parking> {
        self.core.control.readers.clone()
    }

    /// The number of slots of the ring.
    pub fn capacity(&self) -> u64 {
        self.core.control.capacity
    }

    /// Everything below this sequence has been handled.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// The tombstones this consumer has skipped: sequences whose producer panicked.
    pub fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// How many claimed sequences this consumer has yet to go through. Old by the time it is read.
    pub fn lag(&self) -> u64 {
        self.core.control.claimed().saturating_sub(self.next)
    }
}

impl<E> Drop for Poller<E> {
    fn drop(&mut self) {
        // A consumer of a halted ring leaves events behind that it has not finished: its place must go on keeping them
        // from later stages, and producers need none any more.
        if self.lease.is_lost()
            || (self.core.control.is_halted() && !edge::left_out("halted-keeps-its-place"))
        {
            return;
        }
        self.sequence.store(LEFT, RELEASE_SLOT.release());
        self.core.control.gating.remove(&self.sequence);
        self.core.control.wake_everybody();
    }
}

impl<E> fmt::Debug for Poller<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("next", &self.next).finish_non_exhaustive()
    }
}
