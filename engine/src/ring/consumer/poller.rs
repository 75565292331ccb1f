//! A consumer that is polled: its position in the ring, and `poll`, which handles what is there.
//!
//! Managed threads, the broker's consumers and a user's own loop all drive this one type.

use super::visit::{Each, EachLeased, Slices, Visit};
use crate::ring::barrier::Barrier;
use crate::ring::control::Core;
use crate::ring::gate::Stage;
use crate::ring::lease::{Lease, Supervisor};
use crate::ring::overflow::{Missed, Overflow};
use crate::ring::position::Position;
use crate::ring::reentrancy;
use crate::ring::sequence::Sequence;
use crate::sync::edge;
use crate::wait::{Deadline, Parking, WaitStrategy, wait_until};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The most events between two releases.
const MAX_RUN: u64 = 512;

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many sequences were gone through. Tombstones count: they too were claimed.
    Events(u64),
    /// Nothing was there.
    Empty,
    /// The ring has dropped events for newer ones before this consumer came to them: only under
    /// [`Overflow::DropOldest`]. The next poll goes on behind them.
    Missed(Missed),
    /// Nothing will ever be there again: the ring is closed and drained, or halted.
    Finished,
}

/// A consumer of a ring, driven by whoever calls [`poll`](Self::poll).
///
/// It holds producers up from the moment it is made: one that is not polled fills the ring.
/// Dropping it lets go.
pub struct Poller<E> {
    core: Arc<Core<E>>,
    barrier: Barrier,
    position: Position,
    /// The owner's copy of its own sequence, ahead of it within a run.
    next: Sequence,
    /// The most sequences after which a run ends and is released.
    max_run: u64,
    /// Whether the ring drops its oldest events, so that each run has to be taken hold of.
    can_miss: bool,
    tombstones: u64,
    lease: Lease,
}

impl<E> Poller<E> {
    pub(in crate::ring) fn new(
        core: Arc<Core<E>>,
        barrier: Barrier,
        position: Position,
        next: Sequence,
    ) -> Self {
        let can_miss = core.control.overflow == Overflow::DropOldest;
        // What is held may be a quarter of the ring at most.
        let part = core.control.capacity / if can_miss { 4 } else { 8 };
        let max_run = part.clamp(1, MAX_RUN);
        let lease = Lease::new(position.clone(), barrier.writers().to_vec());
        Self { core, barrier, position, next, max_run, can_miss, tombstones: 0, lease }
    }

    /// Handles up to `max` events that are there, oldest first, and returns at once.
    ///
    /// The handler gets the event, its sequence, and whether it is the last of what was found in
    /// one look, after which the events so far are released to producers. It must not keep the
    /// reference. Does not allocate, lock or make a system call, unless a sleeping producer is to
    /// be woken.
    ///
    /// A handler that panics is past its event: the panic goes on to the caller, and the next poll
    /// starts behind it.
    #[inline]
    pub fn poll(&mut self, max: u64, handler: impl FnMut(&E, Sequence, bool)) -> Polled {
        self.poll_visiting(max, &mut Each(handler))
    }

    /// As [`poll`](Self::poll), for handlers that make their calls of user code under the [`Lease`]
    /// they are given, so that a [`Supervisor`] can take its position over when such a call does
    /// not return. Once that has happened, this poller finds the ring `Finished` and touches it no
    /// more.
    #[inline]
    pub fn poll_leased(&mut self, max: u64, handler: impl FnMut(&E, Sequence, bool, &Lease)) -> Polled {
        self.poll_visiting(max, &mut EachLeased(handler))
    }

    /// As [`poll`](Self::poll), with events by the slice: as many at once as lie side by side,
    /// which in a [`Dense`](crate::ring::Layout::Dense) ring is all that a look has found, but for
    /// the seam of the ring. In a `Stamped` ring each slice holds one event. The handler gets the
    /// slice and the sequence of its first event.
    ///
    /// A handler that panics is past its slice.
    ///
    /// ```
    /// use ringmain::ring::{Layout, Polled, RingBuilder};
    ///
    /// let mut graph = RingBuilder::new(8, || 0_u32)?.layout(Layout::Dense).graph();
    /// let (_id, mut poller) = graph.poller(&[])?;
    /// let (mut producer, _ring) = graph.build_single_producer()?;
    /// producer.publish_batch(5, |place, event| *event = place as u32)?;
    ///
    /// let mut sum = 0;
    /// while let Polled::Events(_) = poller.poll_slices(64, |events, _first| sum += events.iter().sum::<u32>()) {}
    /// assert_eq!(sum, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn poll_slices(&mut self, max: u64, handler: impl FnMut(&[E], Sequence)) -> Polled {
        self.poll_visiting(max, &mut Slices(handler))
    }

    #[inline(always)]
    pub(in crate::ring) fn poll_visiting(&mut self, max: u64, visitor: &mut impl Visit<E>) -> Polled {
        let mut left = max;
        // A halt is noticed between runs: a consumer does not go on with a whole ring first.
        while left > 0 && !self.core.control.is_halted() && !self.lease.is_lost() {
            if self.can_miss && self.position.own() != self.next {
                if left < max {
                    break;
                }
                return Polled::Missed(self.take_missed());
            }
            let first = self.next;
            let end = self.available(self.max_run.min(left));
            if end == first {
                // What the look found in the slot may be a later event, whose producer has just
                // moved this consumer on.
                if self.can_miss && self.position.own() != first {
                    continue;
                }
                break;
            }
            if self.can_miss && !self.position.try_hold(first) {
                continue;
            }
            self.handle_run(end, visitor);
            left -= end - first;
            if left == 0 || self.barrier.has_caught_up() {
                break;
            }
        }
        match max - left {
            _ if self.lease.is_lost() => Polled::Finished,
            0 if max > 0 && self.core.control.is_finished(self.next) => Polled::Finished,
            0 => Polled::Empty,
            handled => Polled::Events(handled),
        }
    }

    /// Goes on where producers have moved this consumer.
    #[cold]
    fn take_missed(&mut self) -> Missed {
        let missed = Missed { from: self.next, to: self.position.moved_to() };
        self.position.note_missed(missed.to - missed.from);
        self.next = missed.to;
        missed
    }

    /// The end of what may be gone through, at most `max` sequences.
    #[inline(always)]
    fn available(&mut self, max: u64) -> Sequence {
        self.barrier.available(&self.core, self.next, max, || self.lease.is_stopped())
    }

    /// Handles all from `self.next` up to `end`, which is available, and releases it, panic or not.
    #[inline(always)]
    fn handle_run(&mut self, end: Sequence, visitor: &mut impl Visit<E>) {
        struct Releasing<'p, E>(&'p mut Poller<E>);
        impl<E> Drop for Releasing<'_, E> {
            #[inline(always)]
            fn drop(&mut self) {
                self.0.release();
            }
        }
        let running = Releasing(self);
        let Poller { core, barrier, next, tombstones, lease, .. } = &mut *running.0;
        let core = &**core;
        reentrancy::inside(core, || {
            visitor.run_starts(&core.control, *next, end);
            let (mut until, mut last) = (end, end);
            if barrier.has_tombstones(*next) {
                (until, last) = (*next, core.slots.without_tombstones(*next, end));
            }
            loop {
                // SAFETY: the barrier has seen all up to `end` published, and nobody but the drop
                // of `running` releases it; up to `until` there is no tombstone.
                unsafe { visitor.visit(&core.slots, next, until, last, lease) };
                if *next == end || lease.is_lost() {
                    break;
                }
                let events = core.slots.first_events(*next, end);
                *tombstones += events.start - *next;
                (*next, until) = (events.start, events.end);
            }
            visitor.run_ends();
        });
    }

    /// Lets producers, and later stages, have all below `self.next`.
    #[inline(always)]
    fn release(&mut self) {
        if !self.lease.is_lost() || edge::left_out("release-after-loss") {
            self.position.release(self.next);
            self.core.control.signals.consumer_moved();
        }
    }

    /// Waits until a poll would find something, with the given strategy and at most for `limit`.
    /// Returns whether it would.
    ///
    /// # Panics
    /// When the strategy parks and the ring was built so that it never does.
    pub fn wait(&self, strategy: WaitStrategy, limit: Duration) -> bool {
        wait_until(strategy, &self.core.control.signals.consumers, Deadline::after(limit), || {
            self.is_ready().then_some(())
        })
        .is_some()
    }

    /// Whether a poll would find something: an event, the news of missed ones, or the end.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.lease.is_lost() || self.has_more() || self.core.control.is_finished(self.next)
    }

    /// Whether a poll would find events, or that some were missed.
    #[inline(always)]
    fn has_more(&self) -> bool {
        if self.can_miss && self.position.own() != self.next {
            return true;
        }
        self.barrier.is_available(&self.core, self.next, || self.lease.is_stopped())
    }

    /// Whether the lease says that there is mail or a stop; to be part of what a consumer waits
    /// for.
    pub fn has_commands(&self) -> bool {
        self.lease.has_commands()
    }

    /// The lease under which [`poll_leased`](Self::poll_leased) works.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// A handle to watch this consumer, send it commands, and take its position over.
    pub fn supervisor(&self) -> Supervisor<E> {
        self.lease.supervisor(&self.core)
    }

    /// The ring, for [`drive`](crate::ring::managed::drive::drive).
    pub(crate) fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }

    /// How the ring's consumers wait at this moment.
    pub(crate) fn wait_strategy(&self) -> WaitStrategy {
        self.core.control.wait.get()
    }

    /// Where this consumer sleeps.
    pub(crate) fn readers(&self) -> Arc<Parking> {
        self.core.control.signals.consumers.clone()
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

    /// How many sequences the ring has dropped before this consumer came to them: all that polls
    /// have told of as [`Polled::Missed`].
    pub fn missed(&self) -> u64 {
        self.position.missed()
    }

    /// How many claimed sequences this consumer has yet to go through. Old by the time it is read.
    pub fn lag(&self) -> u64 {
        self.core.control.claimed().saturating_sub(self.next)
    }
}

impl<E> Drop for Poller<E> {
    fn drop(&mut self) {
        // A consumer of a halted ring leaves events behind that it has not finished: its place must
        // go on keeping them from later stages, and producers need none any more.
        if self.lease.is_lost()
            || (self.core.control.is_halted() && !edge::left_out("halted-keeps-its-place"))
        {
            return;
        }
        if self.can_miss && self.position.own() != self.next {
            self.take_missed();
        }
        self.position.leave();
        self.core.control.gating.remove(&Stage::Consumer(self.position.clone()));
        self.core.control.signals.wake_everybody();
    }
}

impl<E> fmt::Debug for Poller<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("next", &self.next).finish_non_exhaustive()
    }
}
