//! A worker: one of several that share the events of a stage, raced (`raced.rs`) or by key
//! (`keyed.rs`).

use super::keyed::Lanes;
use super::raced::{Group, WorkerRun};
use crate::ring::barrier::Barrier;
use crate::ring::consumer::Polled;
use crate::ring::consumer::{Each, Visit};
use crate::ring::control::{Control, Core};
use crate::ring::gate::Stage;
use crate::ring::lease::{Lease, Supervisor};
use crate::ring::options::Key;
use crate::ring::part::{Part, Role};
use crate::ring::position::Position;
use crate::ring::reentrancy;
use crate::ring::sequence::Sequence;
use crate::sync::edge;
use crate::sync::panics::discard_panic;
use crate::wait::{Crew, Deadline, News, Sleeper, WaitStrategy, wait_until};
#[cfg(ringmain_loom)]
use crate::wait::{Place, Waiter};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Default limit of events that a worker of a raced group claims at once.
const MAX_CLAIM: u64 = 64;

/// Limit of events between taking a lane and giving it back: the bits of the word that marks which
/// of them are in the lane.
const MAX_RUN: u64 = 64;

/// Worker: one of several that share the events of a ring, each of which goes to exactly one of
/// them. Driven by whoever calls [`poll`](Self::poll). Made by
/// [`Graph::worker_pollers`](crate::ring::Graph::worker_pollers) and
/// [`Graph::keyed_worker_pollers`](crate::ring::Graph::keyed_worker_pollers).
///
/// A worker that is not polled takes no events, and holds nobody up while another one is polled. It
/// leaves when it is dropped, at any time, and what it has claimed goes to the others. The group
/// ends when the last worker leaves: it does not hold up producers and later stages any more,
/// nobody handles what is left, and nobody can join it again.
///
/// ```
/// use ringmain::ring::{Polled, RingBuilder};
///
/// let mut graph = RingBuilder::new(8, || 0_u64)?.graph()?;
/// let (_group, mut workers) = graph.worker_pollers(&[], 2)?;
/// let (mut producer, _ring) = graph.build_single_producer()?;
/// for value in 1..=4 {
///     producer.publish(|event| *event = value)?;
/// }
/// let mut sum = 0;
/// for worker in &mut workers {
///     assert_eq!(worker.poll(2, |event, _sequence, _end_of_batch| sum += event), Polled::Events(2));
/// }
/// assert_eq!(sum, 1 + 2 + 3 + 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Worker<E> {
    core: Arc<Core<E>>,
    barrier: Barrier,
    share: Share<E>,
    /// Tells a managed worker to leave.
    lease: Lease,
    number: usize,
    max_claim: u64,
    /// Whether it goes on to look for work when it is woken, until it leaves.
    is_in_crew: bool,
    /// The part that whoever polls plays in the ring.
    part: Part,
}

/// Way in which a worker gets its events.
enum Share<E> {
    /// It claims the next.
    Raced(Arc<Group>, WorkerRun),
    /// It leases a lane. `next_lane` is the one it looks at next.
    Keyed { lanes: Arc<Lanes>, key: Key<E>, next_lane: usize },
}

impl<E> Worker<E> {
    /// Joins a group, or lanes, unless all workers have left.
    pub(in crate::ring) fn join(
        core: &Arc<Core<E>>,
        barrier: Barrier,
        stage: &Stage,
        key: Option<&Key<E>>,
    ) -> Option<Self> {
        let (share, number) = match stage {
            Stage::Consumer(_) => return None,
            Stage::Group(group) => {
                let (in_hand, number) = group.join()?;
                (Share::Raced(group.clone(), in_hand), number)
            }
            Stage::Lanes(lanes) => {
                let key = key?.clone();
                let number = lanes.join()?;
                // Workers start far apart; any stride that has no factor in common with 64 would
                // do.
                let next_lane = number.wrapping_mul(27) % lanes.count();
                (Share::Keyed { lanes: lanes.clone(), key, next_lane }, number)
            }
        };
        // Nobody takes over a worker's calls, so the position in the lease is never used.
        let lease = Lease::new(Position::new(0), &Barrier::new(Vec::new(), Vec::new()));
        let role = match &share {
            Share::Raced(group, in_hand) => Role::Works(in_hand.word(), group.clone()),
            Share::Keyed { .. } => Role::Belongs(stage.clone()),
        };
        let part = Part::new(core.filler.ring(), role);
        let core = core.clone();
        Some(Self { core, barrier, share, lease, number, max_claim: MAX_CLAIM, is_in_crew: false, part })
    }

    /// Handles up to `max` events that no other worker has taken, and returns at once. In a raced
    /// group these are the next ones. In a keyed group they are the next of the lanes that are
    /// free, and those of one key come in order.
    ///
    /// The handler gets the event, its sequence, and whether it is the last of its batch. It must
    /// not keep the reference. Does not allocate, lock or make a system call, unless it must wake a
    /// sleeping thread, or another worker has left something behind. In a raced group,
    /// [`Polled::Events`] counts tombstones as well.
    ///
    /// A handler that panics is past its event: the panic goes on to the caller, and the event
    /// counts as handled. The next poll first handles the rest of that claim, even if the ring is
    /// halted. If the worker is dropped instead, another worker handles the rest. A key function
    /// that panics is past its event as well, once in each lane, and no worker handles that event.
    ///
    /// Finds the ring `Finished` when all workers together have handled everything, or when the
    /// ring is halted and this worker has claimed nothing. So a handler that does not return keeps
    /// the others from finishing, and not from working.
    #[inline]
    pub fn poll(&mut self, max: u64, handler: impl FnMut(&E, Sequence, bool)) -> Polled {
        self.poll_visiting(max, &mut Each(handler))
    }

    #[inline(always)]
    pub(in crate::ring) fn poll_visiting(&mut self, max: u64, visitor: &mut impl Visit<E>) -> Polled {
        let handled = match self.share {
            Share::Raced(..) => self.poll_raced(max, visitor),
            Share::Keyed { .. } => self.poll_keyed(max, visitor),
        };
        match handled {
            0 if max > 0 && self.is_finished() => Polled::Finished,
            0 => Polled::Empty,
            _ => Polled::Events(handled),
        }
    }

    fn poll_raced(&mut self, max: u64, visitor: &mut impl Visit<E>) -> u64 {
        let mut handled = 0;
        while handled < max {
            if !self.has_claimed() && (self.core.control.is_halted() || !self.claim(max - handled)) {
                break;
            }
            handled += self.handle_claimed(max - handled, visitor);
        }
        handled
    }

    /// Claims at most `max` events, or what another worker has left behind. Returns whether there
    /// were any.
    #[inline(always)]
    fn claim(&mut self, max: u64) -> bool {
        let Self { core, barrier, share: Share::Raced(group, in_hand), part, .. } = self else {
            return false;
        };
        if group.has_left_behind() && group.adopt(in_hand) {
            *part = Part::new(core.filler.ring(), Role::Works(in_hand.word(), group.clone()));
            return true;
        }
        let most = max.min(self.max_claim);
        let control = &core.control;
        group.claim(
            in_hand,
            &control.signals,
            || moved(control, Some(group.crew())),
            |at| {
                if edge::left_out("claim-only-published") {
                    return at + 1;
                }
                // Half of a fair share of what is there. No look at the producers' claim word, over
                // which they fight.
                let there = barrier.available(core, at, most, || false) - at;
                at + there.div_ceil(2 * group.size().max(1))
            },
        )
    }

    /// Handles what was claimed, `max` events at most, and releases it, panic or not. Returns how
    /// many there were.
    #[inline(always)]
    fn handle_claimed(&mut self, max: u64, visitor: &mut impl Visit<E>) -> u64 {
        struct Releasing<'w>(&'w mut WorkerRun, &'w Control, &'w Group);
        impl Drop for Releasing<'_> {
            #[inline(always)]
            fn drop(&mut self) {
                self.0.release();
                let Self(_, control, group) = self;
                control.signals.consumer_moved("wake-after-work", || moved(control, Some(group.crew())));
            }
        }
        let Self { core, share: Share::Raced(group, in_hand), lease, part, .. } = self else { return 0 };
        let core = &**core;
        let first = in_hand.run.start;
        let end = in_hand.run.end.min(first.saturating_add(max));
        let running = Releasing(in_hand, &core.control, group);
        let next = &mut running.0.run.start;
        reentrancy::inside(part, || {
            visitor.run_starts(&core.control, first, end);
            let last = core.slots.without_tombstones(first, end);
            while *next < end {
                if core.slots.is_tombstone(*next) {
                    *next += 1;
                    continue;
                }
                let until = *next + 1;
                // SAFETY: all up to `end` was published, and finished by the stages before, when it
                // was claimed, by this worker or by one whose claim it has adopted under the
                // group's lock. Nobody but the drop of `running` releases it: until then this
                // worker's word, which the group's list has, is not above it. What is visited is no
                // tombstone, and in a dense ring there are none.
                unsafe { visitor.visit(&core.slots, next, until, last, lease) };
            }
            visitor.run_ends();
        });
        end - first
    }

    /// Goes through the lanes until there was something to handle, or nothing to step over.
    fn poll_keyed(&mut self, max: u64, visitor: &mut impl Visit<E>) -> u64 {
        let mut handled = 0;
        loop {
            let mut has_moved = false;
            for _ in 0..self.lanes() {
                if handled >= max || self.core.control.is_halted() || self.lease.has_commands() {
                    return handled;
                }
                let (found, moved) = self.go_through_lane(max - handled, visitor);
                handled += found;
                has_moved |= moved;
            }
            if handled > 0 || !has_moved {
                return handled;
            }
        }
    }

    fn lanes(&self) -> usize {
        match &self.share {
            Share::Raced(..) => 0,
            Share::Keyed { lanes, .. } => lanes.count(),
        }
    }

    /// Handles a run of the next lane, unless another worker has it. Returns how many events of the
    /// lane there were, `max` at most, and whether there was anything to go through.
    #[inline(always)]
    fn go_through_lane(&mut self, max: u64, visitor: &mut impl Visit<E>) -> (u64, bool) {
        let Self {
            core,
            barrier,
            share: Share::Keyed { lanes, key, next_lane },
            lease,
            is_in_crew,
            part,
            ..
        } = self
        else {
            return (0, false);
        };
        let core = &**core;
        // Who is in the crew comes back to this lane, or calls others. Nobody knows that of the rest.
        let crew = is_in_crew.then(|| lanes.crew());
        let news = || moved(&core.control, crew);
        let lane = *next_lane;
        *next_lane = (lane + 1) % lanes.count();
        if !lanes.is_ready(lane, |at| barrier.is_available(core, at, || false)) {
            return (0, false);
        }
        let Some(mut leased) = lanes.lease(lane, &core.control.signals, news) else { return (0, false) };
        let first = leased.next();
        let end = barrier.available(core, first, (core.control.capacity / 8).clamp(1, MAX_RUN), || false);
        let mut found = 0;
        reentrancy::inside(part, || {
            // First all keys, because a handler is told whether its event is the last of the batch.
            let (mut in_lane, mut lanes_in_run) = (0_u64, 0_u64);
            let mut until = first;
            while until < end && found < max {
                let sequence = until;
                until += 1;
                if core.slots.is_tombstone(sequence) {
                    continue;
                }
                // SAFETY: the barrier has seen all up to `end` published and finished by the stages
                // before, and nobody but the drop of `leased` moves the lane, which is at the gate,
                // past it.
                let key = catch_unwind(AssertUnwindSafe(|| unsafe {
                    core.slots.read(sequence, |event| key(event))
                }));
                let key = match key {
                    Ok(key) => key,
                    Err(payload) if in_lane == 0 => {
                        leased.move_to(until);
                        resume_unwind(payload);
                    }
                    Err(payload) => {
                        // What comes before is handled first. The next look begins here, and its
                        // panic goes on to the caller.
                        discard_panic(payload);
                        until = sequence;
                        break;
                    }
                };
                let lane_of_event = lanes.lane_of(key);
                lanes_in_run |= 1 << lane_of_event;
                if lane_of_event == lane {
                    in_lane |= 1 << (sequence - first);
                    found += 1;
                }
            }
            if in_lane != 0 {
                let batch_end = first + u64::from(u64::BITS - in_lane.leading_zeros());
                if let Some(crew) = crew {
                    let is_there = |others| {
                        // Who is under way is going to find it.
                        others == 1
                            && (lanes.has_work_beside(lane, (first, until), lanes_in_run)
                                || barrier.is_available(core, until, || false))
                    };
                    core.control.signals.wake_for_more("wake-for-other-lanes", crew, is_there);
                }
                // If that panics, this worker comes back to this lane first.
                let after = std::mem::replace(next_lane, lane);
                visitor.run_starts(&core.control, first, batch_end);
                *next_lane = after;
                while in_lane != 0 {
                    let mut next = first + u64::from(in_lane.trailing_zeros());
                    in_lane &= in_lane - 1;
                    let until = next + 1;
                    // What is stepped over belongs to other lanes.
                    leased.move_to(until);
                    // SAFETY: as above, and what is visited is no tombstone.
                    unsafe { visitor.visit(&core.slots, &mut next, until, batch_end, lease) };
                }
                visitor.run_ends();
            }
            leased.move_to(until);
        });
        (found, end > first)
    }

    /// Has this worker be woken together with others of its group only for as much work as there is
    /// for them. To be called for one that is polled again and again, each time after it has waited
    /// and [called others](Self::call_others). Who is polled as its user likes is woken whenever
    /// there is any work, so that its user may leave that to others.
    pub(in crate::ring) fn join_crew(&mut self) {
        self.is_in_crew = true;
    }

    /// Returns what this worker is to be woken for.
    pub(in crate::ring) fn sleeper(&self) -> Sleeper {
        let awaits_moves = self.barrier.has_dependencies();
        match &self.share {
            _ if !self.is_in_crew => Sleeper::ANY,
            Share::Raced(group, _) => Sleeper { awaits_moves, crew: Some(group.crew()) },
            Share::Keyed { lanes, .. } => Sleeper { awaits_moves, crew: Some(lanes.crew()) },
        }
    }

    /// Wakes others of the crew, if there is more to do than this worker takes. To be called between
    /// a wait and the poll after it. A keyed worker does so in the poll, when it knows the keys.
    pub(in crate::ring) fn call_others(&self) {
        let Share::Raced(group, _) = &self.share else { return };
        let is_available = |at| self.barrier.is_available(&self.core, at, || false);
        let is_there = |others| group.has_more(others, is_available);
        self.core.control.signals.wake_for_more("wake-for-more-work", group.crew(), is_there);
    }

    /// Wakes the others, if lanes are what is shared: what this worker has given back may hold events,
    /// and it runs foreign code before it comes back to them, or does not come back.
    pub(in crate::ring) fn leave_lanes_to_others(&self) {
        if let Share::Keyed { .. } = &self.share {
            self.core.control.signals.wake_consumers("wake-for-lanes-left");
        }
    }

    /// Waits until a poll would find something, with the given strategy and at most for `limit`.
    /// Returns whether it would, unless another worker is faster.
    ///
    /// # Panics
    /// When the strategy parks and the ring was built so that it never does.
    pub fn wait(&self, strategy: WaitStrategy, limit: Duration) -> bool {
        wait_until(strategy, &self.core.control.signals.consumers, Deadline::after(limit), || {
            self.is_ready().then_some(())
        })
        .is_some()
    }

    /// Returns whether a poll would find something at this moment: an event, or the end.
    pub fn is_ready(&self) -> bool {
        let is_available = |at| self.barrier.is_available(&self.core, at, || false);
        let has_more = match &self.share {
            Share::Raced(group, in_hand) => !in_hand.run.is_empty() || group.is_ready(is_available),
            Share::Keyed { lanes, .. } => (0..lanes.count()).any(|lane| lanes.is_ready(lane, is_available)),
        };
        has_more || self.is_finished()
    }

    /// Returns whether all workers together have done all there will ever be, or the ring is
    /// halted.
    fn is_finished(&self) -> bool {
        let control = &self.core.control;
        if control.is_open() {
            return false;
        }
        control.is_finished(match &self.share {
            Share::Raced(group, _) => group.released(),
            Share::Keyed { lanes, .. } => lanes.released(),
        })
    }

    /// Returns whether this worker has claimed what it has not handled: after a panic, or a poll of
    /// less.
    fn has_claimed(&self) -> bool {
        matches!(&self.share, Share::Raced(_, in_hand) if !in_hand.run.is_empty())
    }

    /// Returns this worker's number among all that its group has ever had, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Limits how many events a worker claims at once, when there are enough.
    pub(in crate::ring) fn set_max_claim(&mut self, events: u64) {
        // Without the option, the default stays.
        if events < u64::MAX {
            self.max_claim = events.clamp(1, self.core.control.capacity);
        }
    }

    /// Returns whether it was told to leave and has no claim to handle first.
    pub(in crate::ring) fn may_leave(&self) -> bool {
        self.lease.has_commands() && !self.has_claimed()
    }

    /// Returns the limit of events for one poll of a managed worker.
    pub(in crate::ring) fn max_turn(&self) -> u64 {
        match self.share {
            Share::Raced(..) => self.max_claim,
            Share::Keyed { .. } => self.max_claim.max(MAX_RUN),
        }
    }

    pub(in crate::ring) fn core(&self) -> &Arc<Core<E>> {
        &self.core
    }

    /// Returns the part of a thread that calls foreign code of this worker between polls.
    pub(in crate::ring) fn part_between_polls(&self) -> Part {
        let stage = match &self.share {
            Share::Raced(group, _) => Stage::Group(group.clone()),
            Share::Keyed { lanes, .. } => Stage::Lanes(lanes.clone()),
        };
        Part::new(self.core.filler.ring(), Role::Belongs(stage))
    }

    pub(in crate::ring) fn supervisor(&self) -> Supervisor<E> {
        self.lease.supervisor(&self.core)
    }
}

/// Returns whom it concerns that a worker has moved on: other stages, and not those of its crew who
/// sleep. Without a crew that has nothing to gain from it, everybody. Once the ring is closed, too: it
/// may be the end.
fn moved(control: &Control, crew: Option<Crew>) -> News {
    match crew {
        Some(_) if control.is_open() || edge::left_out("last-work-for-everybody") => News::Moved(crew),
        _ => News::ForEverybody,
    }
}

impl<E> Drop for Worker<E> {
    fn drop(&mut self) {
        let control = &self.core.control;
        let is_halted = control.is_halted();
        match &mut self.share {
            Share::Raced(group, in_hand) => {
                if group.leave(in_hand, is_halted) {
                    control.gating.remove(&Stage::Group(group.clone()));
                }
            }
            Share::Keyed { lanes, .. } => {
                if lanes.leave(is_halted) {
                    control.gating.remove(&Stage::Lanes(lanes.clone()));
                }
            }
        }
        control.signals.wake_everybody("wake-after-worker-left");
    }
}

/// For models: to wait as managed workers do.
#[cfg(ringmain_loom)]
impl<E> Worker<E> {
    /// Polls as a worker of the crew that does something else afterwards.
    pub fn poll_in_crew_and_turn_away(&mut self, max: u64, handler: impl FnMut(&E, Sequence, bool)) {
        self.join_crew();
        self.poll(max, handler);
        self.leave_lanes_to_others();
    }

    /// Waits as a worker of the crew, and calls others.
    pub fn wait_in_crew(&mut self) {
        self.join_crew();
        let place = Place { parking: &self.core.control.signals.consumers, sleeper: self.sleeper() };
        let ready = || self.is_ready().then_some(());
        Waiter::new().wait_at(place, || WaitStrategy::Blocking, Deadline::NEVER, ready);
        self.call_others();
    }
}

impl<E> fmt::Debug for Worker<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("number", &self.number).finish_non_exhaustive()
    }
}
