//! Keyed lanes: workers share a stage, and events of one key are handled one after the other, in
//! order.
//!
//! Each event falls, by its key, into one of a fixed number of lanes. A lane is a position of its
//! own in the ring: all events of the lane below it are done with. A worker *leases* a lane, goes
//! through a run of the ring from the lane's position on, handles the events of the lane, steps
//! over the others, advances the position, and gives the lease back. So any worker can take any
//! lane, a slow event holds up only its own lane, and the order does not depend on who comes or
//! goes. The gate is the minimum over all lanes.
//!
//! **Lease** (edge `LEASE_LANE`). A worker takes the flag by a swap with acquire and gives it back
//! by a store with release, only between events. The holder alone advances the position. It sees
//! where its predecessor has left the position, and all that its predecessor did under the lease.
//! So handlers can hand on what they keep for a key without a lock.
//!
//! **Gate** (edges `RELEASE_SLOT`, `FINISH_STAGE`). The position is stored with release, after the
//! last read below it by this worker and, because of the lease, by its predecessors: as with a
//! single consumer. What a worker has seen published is so for the next holder as well.
//!
//! **Leaving.** Lanes belong to nobody between runs, so a worker simply goes. The last one takes
//! all lanes off the gate. Then nobody handles what they have not reached, as with a consumer that
//! leaves.
//!
//! **Sleep.** Workers that have threads are a crew, as in `raced.rs`. Which lane has work is in the
//! events' keys, so a worker wakes another one when it knows them: before its handlers run, where it
//! has seen an event of another free lane, or does not know what there is. A lane that is given back
//! wakes nobody of the crew: whoever gives it back comes back to it, or wakes another before it
//! handles anything else.
//!
//! The price: each lane looks at each event's key, so several workers read its line, and the gate
//! reads a line per lane. More lanes balance better and cost more.

use super::raced::has_any;
use crate::ring::position::{LEFT, Position};
use crate::ring::sequence::Sequence;
use crate::ring::signals::Signals;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::edge::LEASE_LANE;
use crate::sync::{CachePadded, Mutex};
use crate::wait::{Crew, News};

/// Shared words of the workers of one keyed stage.
#[derive(Debug)]
pub(in crate::ring) struct Lanes {
    lanes: Box<[Lane]>,
    members: Mutex<Members>,
    /// What those of the workers are who go on to look for work when they are woken.
    crew: Crew,
}

#[derive(Debug)]
struct Lane {
    position: Position,
    is_leased: CachePadded<AtomicBool>,
}

#[derive(Debug, Default)]
struct Members {
    workers: usize,
    /// Number of workers that there have ever been.
    ever: usize,
}

impl Lanes {
    /// Makes so many lanes that start at `first`, without workers. The first worker must join
    /// before the lanes are at a gate.
    pub(in crate::ring) fn new(count: usize, first: Sequence) -> Self {
        let lane = |_| {
            let is_leased = CachePadded::new(AtomicBool::new(false));
            Lane { position: Position::new(first), is_leased }
        };
        Self { lanes: (0..count).map(lane).collect(), members: Mutex::default(), crew: Crew::new() }
    }

    pub(in crate::ring) fn crew(&self) -> Crew {
        self.crew
    }

    pub(in crate::ring) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Returns the lane of a key: the upper bits of a product with a mixed key, which spreads keys
    /// that count up or lie apart by a power of two (the finaliser of D. Stafford's Mix13, 2011).
    #[inline(always)]
    pub(in crate::ring) fn lane_of(&self, key: u64) -> usize {
        let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let key = key ^ (key >> 31);
        ((u128::from(key) * self.lanes.len() as u128) >> 64) as usize
    }

    /// Returns the sequence below which no worker reads any more. Edge `RELEASE_SLOT`, acquire
    /// side.
    pub(in crate::ring) fn released(&self) -> Sequence {
        self.lanes.iter().map(|lane| lane.position.released()).min().unwrap_or(LEFT)
    }

    /// Returns the sequence below which the workers have finished everything. Edge `FINISH_STAGE`,
    /// acquire side.
    pub(in crate::ring) fn finished(&self) -> Sequence {
        self.lanes.iter().map(|lane| lane.position.finished()).min().unwrap_or(LEFT)
    }

    /// Returns whether all workers have left.
    pub(in crate::ring) fn has_left(&self) -> bool {
        self.lanes.iter().all(|lane| lane.position.has_left())
    }

    /// Adds a worker. Returns its number, or `None` when all workers have left.
    pub(in crate::ring) fn join(&self) -> Option<usize> {
        let mut members = self.members.lock();
        if self.has_left() {
            return None;
        }
        members.workers += 1;
        members.ever += 1;
        Some(members.ever - 1)
    }

    /// Removes a worker. Returns whether it was the last, so that the caller takes the stage off
    /// the gate. The lanes of a halted ring keep their places, because later stages must not pass
    /// them.
    pub(in crate::ring) fn leave(&self, is_halted: bool) -> bool {
        let mut members = self.members.lock();
        members.workers -= 1;
        if members.workers > 0 || is_halted {
            return false;
        }
        for lane in &self.lanes {
            // All leases have been given back: the other workers' before they took the lock.
            lane.position.leave();
        }
        true
    }

    /// Returns whether there is something to do in a lane that nobody has leased.
    pub(in crate::ring) fn is_ready(&self, lane: usize, is_available: impl Fn(Sequence) -> bool) -> bool {
        let lane = &self.lanes[lane];
        !lane.is_leased.load(Ordering::Relaxed) && has_any(|| lane.position.own(), is_available)
    }

    /// Returns whether there may be work in a lane that nobody has leased, for another worker than
    /// the one who is at `own` lane. It has looked at the run from `first` up to `end`, and `in_run`
    /// has a bit for each lane whose events it has seen there. What lies before the run, it does not
    /// know.
    pub(in crate::ring) fn has_work_beside(
        &self,
        own: usize,
        (first, end): (Sequence, Sequence),
        in_run: u64,
    ) -> bool {
        self.lanes.iter().enumerate().any(|(at, lane)| {
            let next = lane.position.own();
            let has_work = next < first || (next < end && in_run & (1 << at) != 0);
            has_work && at != own && !lane.is_leased.load(Ordering::Relaxed)
        })
    }

    /// Leases a lane, unless another worker has it. Whoever sleeps when it is given back is told the
    /// `news`. Edge `LEASE_LANE`, acquire side.
    #[inline(always)]
    pub(in crate::ring) fn lease<'l, N: Fn() -> News>(
        &'l self,
        lane: usize,
        signals: &'l Signals,
        news: N,
    ) -> Option<LaneLease<'l, N>> {
        let lane = &self.lanes[lane];
        let taken =
            lane.is_leased.compare_exchange(false, true, LEASE_LANE.acquire(), Ordering::Relaxed).is_ok();
        // Nobody else moves it now.
        taken.then(|| LaneLease { lane, signals, news, next: lane.position.own() })
    }
}

/// Lease of a lane. Dropping it advances the lane as told and gives it back.
pub(in crate::ring) struct LaneLease<'l, N: Fn() -> News> {
    lane: &'l Lane,
    signals: &'l Signals,
    news: N,
    /// All events of the lane below it have been handled.
    next: Sequence,
}

impl<N: Fn() -> News> LaneLease<'_, N> {
    /// Returns where the lane stands.
    pub(in crate::ring) fn next(&self) -> Sequence {
        self.next
    }

    /// Notes that all events of the lane below `next` have been handled, or are about to be: a
    /// panic is past its event.
    pub(in crate::ring) fn move_to(&mut self, next: Sequence) {
        self.next = next;
    }
}

impl<N: Fn() -> News> Drop for LaneLease<'_, N> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lane.position.release(self.next);
        // Edge `LEASE_LANE`, release side.
        self.lane.is_leased.store(false, LEASE_LANE.release());
        // Even if the lane has not advanced: whoever found it leased may have gone to sleep.
        self.signals.consumer_moved("wake-after-lane", &self.news);
    }
}
