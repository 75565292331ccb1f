//! A consumer that is polled: its position in the ring, and `poll`, which handles what is there.
//!
//! Managed threads, the broker's consumers and a user's own loop all drive this one type.

use super::clearing::Uncleared;
use super::visit::{Each, EachCounted, EachLeased, Slices, Visit};
use crate::ring::barrier::Barrier;
use crate::ring::control::Core;
use crate::ring::gate::Stage;
use crate::ring::lease::{Called, Lease, Supervisor, Vacated};
use crate::ring::overflow::{Missed, Overflow};
use crate::ring::part::{Part, Role};
use crate::ring::position::Position;
use crate::ring::reentrancy;
use crate::ring::sequence::Sequence;
use crate::ring::slot_policy::SlotPolicy;
use crate::ring::slots::Layout;
use crate::sync::edge;
use crate::wait::{Deadline, News, Place, Sleeper, WaitStrategy, Waiter};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Limit of events between two releases.
const MAX_RUN: u64 = 512;

/// Outcome of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many sequences were passed. Tombstones count: they too were claimed.
    Events(u64),
    /// Nothing was there.
    Empty,
    /// The ring has dropped events for newer ones before this consumer handled them: only under
    /// [`Overflow::DropOldest`]. The next poll goes on behind them.
    Missed(Missed),
    /// Nothing will ever be there again: the ring is closed and drained, or halted.
    Finished,
}

/// A consumer of a ring, driven by whoever calls [`poll`](Self::poll).
///
/// It holds producers up from the moment it is made: a poller that nobody polls fills the ring.
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
    /// Whether there is more to a run than to handle it: the ring drops its oldest events, or clears
    /// its slots.
    is_special: bool,
    tombstones: u64,
    lease: Lease,
    part: Part,
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
        let lease = Lease::new(position.clone(), &barrier);
        let is_special = can_miss || core.policy == SlotPolicy::Clear;
        let part = Part::new(core.filler.ring(), Role::Consumes(position.clone()));
        Self { core, barrier, position, next, max_run, can_miss, is_special, tombstones: 0, lease, part }
    }

    /// Handles up to `max` events that are there, oldest first, and returns at once.
    ///
    /// The handler gets the event, its sequence, and whether it is the last that one look found.
    /// After that event, producers get the slots back. It must not keep the
    /// reference. Does not allocate, lock or make a system call, unless a sleeping producer is to
    /// be woken.
    ///
    /// A handler that panics is past its event: the panic goes on to the caller, and the next poll
    /// starts behind it.
    #[inline]
    pub fn poll(&mut self, max: u64, handler: impl FnMut(&E, Sequence, bool)) -> Polled {
        self.poll_visiting(max, &mut Each(handler))
    }

    /// Polls as [`poll`](Self::poll) does, for handlers that call user code under the [`Lease`]
    /// that they get. When such a call does not return, a [`Supervisor`] can take the position
    /// over. This poller then finds the ring `Finished` and does not touch it any more.
    ///
    /// A supervisor can also stop a poller between calls. The lease then refuses all further calls,
    /// and the poller goes on to the end without waiting for stages that may have been taken over.
    /// Only this method does so: after a stop, [`poll`](Self::poll) and
    /// [`poll_slices`](Self::poll_slices) go on as before, behind the stages before them.
    #[inline]
    pub fn poll_leased(&mut self, max: u64, handler: impl FnMut(&E, Sequence, bool, &Lease)) -> Polled {
        self.poll_visiting(max, &mut EachLeased(handler))
    }

    /// Polls as [`poll_leased`](Self::poll_leased) does, and calls `releases` before each release: with
    /// the sequence below which everything is released then, and how many tombstones were among
    /// that. So what is counted there is never less than what others see released.
    #[inline]
    pub(crate) fn poll_counted(
        &mut self,
        max: u64,
        handler: impl FnMut(&E, Sequence, bool, &Lease),
        releases: impl FnMut(Sequence, u64),
    ) -> Polled {
        self.poll_visiting(max, &mut EachCounted(EachLeased(handler), releases))
    }

    /// Calls `f`, which handles a delivery of what is kept outside of the ring, between two polls. It
    /// is called under the [`Lease`], as handlers of events are: refused after a stop, its panic
    /// caught, and taken over when it does not return; also by a consumer that goes on in this one's
    /// place ([`Supervisor::replace`]). Number and delivery are what a
    /// [`Supervisor`] is told of it ([`Call::Parked`](crate::ring::Call::Parked)); the number is to
    /// be below 2^62.
    pub fn call_parked<R>(&mut self, number: u64, delivery: u64, f: impl FnOnce() -> R) -> Called<R> {
        let Self { part, lease, next, tombstones, .. } = self;
        reentrancy::inside(part, || lease.call_parked(number, delivery, (*next, *tombstones), f))
    }

    /// Polls as [`poll`](Self::poll) does, with slices of events that lie side by side. In a
    /// [`Dense`](crate::ring::Layout::Dense) ring a slice is all that a look has found, up to the
    /// end of the ring's memory. In a `Stamped` ring each slice holds one event. The handler gets
    /// the slice and the sequence of its first event.
    ///
    /// A handler that panics is past its slice.
    ///
    /// ```
    /// use ringmain::ring::{Layout, Polled, RingBuilder};
    ///
    /// let mut graph = RingBuilder::new(8, || 0_u32)?.layout(Layout::Dense).graph()?;
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
    pub(in crate::ring) fn poll_visiting<V: Visit<E>>(&mut self, max: u64, visitor: &mut V) -> Polled {
        let mut left = max;
        // Between runs, so that a halted consumer does not handle a whole ring first.
        while left > 0 && !self.core.control.is_halted() && !self.lease.is_lost() {
            if self.can_miss && self.position.own() != self.next {
                if left < max {
                    break;
                }
                return Polled::Missed(self.take_missed());
            }
            let first = self.next;
            let end = self.available::<V>(self.max_run.min(left));
            if end == first {
                // The look may have found a later event, whose producer has just moved this
                // consumer on.
                if self.can_miss && self.position.own() != first {
                    continue;
                }
                break;
            }
            let mut clears = false;
            if self.is_special {
                if self.can_miss && !self.position.try_hold(first) {
                    continue;
                }
                clears = self.position.clears();
            }
            if clears {
                self.handle_and_clear_run(end, visitor);
            } else {
                self.handle_run::<V, false>(end, visitor);
            }
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

    /// Catches up with where producers have moved this consumer.
    #[cold]
    fn take_missed(&mut self) -> Missed {
        let missed = Missed { from: self.next, to: self.position.moved_to() };
        self.position.note_missed(missed.to - missed.from);
        self.next = missed.to;
        missed
    }

    /// Returns the end of what may be handled, at most `max` sequences.
    #[inline(always)]
    fn available<V: Visit<E>>(&mut self, max: u64) -> Sequence {
        // Who calls user code past the lease would call it for events that an earlier stage has not
        // finished.
        let is_stopped = || V::IS_LEASED && self.lease.is_stopped();
        self.barrier.available(&self.core, self.next, max, is_stopped)
    }

    /// Handles a run as [`handle_run`](Self::handle_run) does, and clears each slot before it is
    /// released.
    #[cold]
    #[inline(never)]
    fn handle_and_clear_run<V: Visit<E>>(&mut self, end: Sequence, visitor: &mut V) {
        self.handle_run::<V, true>(end, visitor);
    }

    /// Handles all from `self.next` up to `end`, which is available, and releases it, panic or not.
    /// Clears it before, where this consumer does.
    #[inline(always)]
    fn handle_run<V: Visit<E>, const CLEARS: bool>(&mut self, end: Sequence, visitor: &mut V) {
        struct Releasing<'p, E, const CLEARS: bool>(&'p mut Poller<E>, Uncleared);
        impl<E, const CLEARS: bool> Drop for Releasing<'_, E, CLEARS> {
            #[inline(always)]
            fn drop(&mut self) {
                let Self(poller, uncleared) = self;
                if CLEARS && !edge::left_out("clear-before-release") {
                    poller.clear(uncleared);
                }
                poller.release();
                if CLEARS && edge::left_out("clear-before-release") {
                    poller.clear(uncleared);
                }
            }
        }
        let uncleared = Uncleared::new(self.next, V::IS_LEASED);
        let mut running = Releasing::<E, CLEARS>(self, uncleared);
        let Releasing(poller, uncleared) = &mut running;
        let Poller { core, barrier, next, tombstones, lease, part, .. } = &mut **poller;
        let core = &**core;
        reentrancy::inside(part, || {
            visitor.run_starts(&core.control, *next, end);
            let (mut until, mut last) = (end, end);
            if barrier.has_tombstones(*next) {
                (until, last) = (*next, core.slots.without_tombstones(*next, end));
            }
            loop {
                // Each event, or slice, is cleared before the next one is handled.
                let is_by_event = V::IS_BY_EVENT || core.slots.layout() == Layout::Stamped;
                let stop = if CLEARS && is_by_event { until.min(*next + 1) } else { until };
                // SAFETY: the barrier has seen all up to `end` published, and nobody but the drop
                // of `running` releases it; up to `until` there is no tombstone.
                unsafe { visitor.visit(&core.slots, next, stop, last, lease) };
                if CLEARS && !edge::left_out("clear-before-release") {
                    // SAFETY: this consumer is behind all others, see `Plan::appoint_clearer`. What
                    // it has visited is released by the drop of `running`.
                    unsafe { uncleared.clear(core, lease, *next) };
                }
                if *next == end || lease.is_lost() {
                    break;
                }
                if CLEARS && *next < until {
                    continue;
                }
                let events = core.slots.first_events(*next, end);
                *tombstones += events.start - *next;
                (*next, until) = (events.start, events.end);
            }
            visitor.run_ends();
            if !lease.is_lost() {
                visitor.releases(*next, *tombstones);
            }
        });
    }

    /// Clears what has been handled and is not yet cleared: where a handler has panicked, its event.
    fn clear(&self, uncleared: &mut Uncleared) {
        let core = &*self.core;
        reentrancy::inside(&self.part, || {
            // SAFETY: this consumer is behind all others, see `Plan::appoint_clearer`, and releases
            // all up to `self.next` afterwards.
            unsafe { uncleared.clear(core, &self.lease, self.next) };
        });
    }

    /// Releases all below `self.next` to producers and later stages.
    #[inline(always)]
    fn release(&mut self) {
        if !self.lease.is_lost() || edge::left_out("release-after-loss") {
            self.position.release(self.next);
            self.core.control.signals.consumer_moved("wake-after-release", || News::Moved(None));
        }
    }

    /// Waits until a poll would find something, with the given strategy and at most for `limit`.
    /// Returns whether it would.
    ///
    /// # Panics
    /// When the strategy parks and the ring was built so that it never does.
    pub fn wait(&self, strategy: WaitStrategy, limit: Duration) -> bool {
        self.wait_for(strategy, limit, || self.is_ready())
    }

    /// Waits as [`wait`](Self::wait) does, until a [`poll_leased`](Self::poll_leased) would find
    /// something: also a stop, after which it does not wait for earlier stages.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    pub fn wait_leased(&self, strategy: WaitStrategy, limit: Duration) -> bool {
        self.wait_for(strategy, limit, || self.is_ready_leased())
    }

    fn wait_for(&self, strategy: WaitStrategy, limit: Duration, is_ready: impl Fn() -> bool) -> bool {
        let ready = || is_ready().then_some(());
        Waiter::new().wait_at(self.place(), || strategy, Deadline::after(limit), ready).is_some()
    }

    /// Returns whether a poll would find something: an event, the news of missed ones, or the end.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.has_something(false)
    }

    /// Returns whether a [`poll_leased`](Self::poll_leased) would find something. One that has been
    /// stopped does not wait for earlier stages.
    #[inline]
    pub fn is_ready_leased(&self) -> bool {
        self.has_something(self.lease.is_stopped())
    }

    #[inline(always)]
    fn has_something(&self, is_stopped: bool) -> bool {
        self.lease.is_lost()
            || (self.can_miss && self.position.own() != self.next)
            || self.barrier.is_available(&self.core, self.next, || is_stopped)
            || self.core.control.is_finished(self.next)
    }

    /// Returns whether the lease says that there is mail or a stop. A consumer must wait for that
    /// too.
    pub fn has_commands(&self) -> bool {
        self.lease.has_commands()
    }

    /// Returns the lease under which [`poll_leased`](Self::poll_leased) works.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Returns a handle to watch this consumer, send it commands, and take its position over.
    pub fn supervisor(&self) -> Supervisor<E> {
        self.lease.supervisor(&self.core)
    }

    /// Returns the part that whoever polls plays in the ring. A thread that only polls this, and
    /// calls foreign code between polls, plays it all the time.
    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    /// Returns the ring, for [`drive`](crate::ring::managed::drive::drive).
    pub(crate) fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }

    /// Returns the place where this consumer sleeps.
    pub(crate) fn place(&self) -> Place<'_> {
        let sleeper = Sleeper { awaits_moves: self.barrier.has_dependencies(), crew: None };
        Place { parking: &self.core.control.signals.consumers, sleeper }
    }

    /// Returns the number of slots of the ring.
    pub fn capacity(&self) -> u64 {
        self.core.control.capacity
    }

    /// Returns the sequence below which this consumer has handled everything.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// Returns how many tombstones this consumer has skipped: sequences whose producer panicked.
    pub fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// Returns how many sequences the ring has dropped before this consumer handled them: the sum
    /// of all [`Polled::Missed`].
    pub fn missed(&self) -> u64 {
        self.position.missed()
    }

    /// Returns how many claimed sequences this consumer has not handled yet. May be outdated when
    /// it returns.
    pub fn lag(&self) -> u64 {
        self.core.control.claimed().saturating_sub(self.next)
    }
}

impl<E> Supervisor<E> {
    /// Puts another consumer in the place of this one, if it is in the parked call of that number and has not been
    /// stopped: returns a poller that goes on where it stands. The call is in doubt from then on. When it returns, its
    /// consumer is told [`Called::TakenOver`], and finds its ring finished.
    ///
    /// No other call may have that number, or the consumer may be found in one that was not meant. Where it is not in
    /// that call any more nothing happens: it goes on. Makes a system call, and may allocate; waits for nobody but
    /// another supervisor's stop or replacement, which is as short.
    ///
    /// ```
    /// use ringmain::ring::{Called, Polled, RingBuilder};
    /// use std::sync::mpsc::channel;
    ///
    /// let mut graph = RingBuilder::new(8, || 0_u32)?.graph()?;
    /// let (_id, mut poller) = graph.poller(&[])?;
    /// let (mut producer, _ring) = graph.build_single_producer()?;
    /// producer.publish(|event| *event = 7)?;
    ///
    /// let supervisor = poller.supervisor();
    /// let (stuck, is_stuck) = channel();
    /// let (let_go, until_let_go) = channel::<()>();
    /// let thread = std::thread::spawn(move || {
    ///     poller.call_parked(1, 0, || {
    ///         stuck.send(()).ok();
    ///         until_let_go.recv().ok();
    ///     })
    /// });
    /// is_stuck.recv()?;
    /// let mut other = supervisor.replace(1).ok_or("it has returned")?;
    /// assert_eq!(other.poll(8, |event, _, _| assert_eq!(*event, 7)), Polled::Events(1));
    ///
    /// let_go.send(())?;
    /// assert!(matches!(thread.join(), Ok(Called::TakenOver)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the ring fills when its new consumer is not polled"]
    pub fn replace(&self, number: u64) -> Option<Poller<E>> {
        let Vacated { core, barrier, position, next, tombstones } = self.take_place(number)?;
        let mut poller = Poller::new(core, barrier, position, next);
        poller.tombstones = tombstones;
        Some(poller)
    }
}

impl<E> Drop for Poller<E> {
    fn drop(&mut self) {
        // A consumer of a halted ring leaves unfinished events behind. Its place must keep later
        // stages from them, and producers need no room any more.
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
        self.core.control.signals.wake_everybody("wake-after-leaving");
    }
}

impl<E> fmt::Debug for Poller<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("next", &self.next).finish_non_exhaustive()
    }
}
