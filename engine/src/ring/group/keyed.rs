//! Keyed lanes: workers share a stage, and events of one key are handled one after the other, in
//! order.
//!
//! Each event falls, by its key, into one of a fixed number of lanes. A lane is a position of its
//! own in the ring: all events of the lane below it are done with. A worker *leases* a lane, goes
//! through a run of the ring from the lane's position on, handles the events that fall into the
//! lane and steps over the others, moves the position, and gives the lease back. So any worker can
//! take any lane, a slow event holds up only its own lane, and who comes or goes changes nothing of
//! the order. The gate is the minimum over all lanes.
//!
//! **Lease** (edge `LEASE_LANE`). The flag is taken by a swap with acquire and given back by a
//! store with release, only between events. Who has it is the only one to move the position, and
//! sees where its predecessor has moved it, and all that its predecessor did while it had the
//! lease: what handlers keep for a key can be handed on without a lock.
//!
//! **Gate** (edges `RELEASE_SLOT`, `FINISH_STAGE`). The position is stored with release, after the
//! last read of what lies below by this worker, and by its predecessors because of the lease. As
//! with a single consumer, then; and what a worker has seen published is so for whoever gets the
//! lease next.
//!
//! **Leaving.** Lanes belong to nobody between runs, so that a worker simply goes. The last one
//! takes all lanes off the gate; what they have not come to is nobody's, as with a consumer that
//! leaves.
//!
//! The price: each event's key is looked at once for each lane, so that its line is read by several
//! workers, and the gate reads a line a lane. More lanes balance better and cost more.

use super::raced::has_any;
use crate::ring::position::{LEFT, Position};
use crate::ring::sequence::Sequence;
use crate::ring::signals::Signals;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::edge::LEASE_LANE;
use crate::sync::{CachePadded, Mutex};

/// What the workers of one keyed stage share.
#[derive(Debug)]
pub(in crate::ring) struct Lanes {
    lanes: Box<[Lane]>,
    members: Mutex<Members>,
}

#[derive(Debug)]
struct Lane {
    position: Position,
    is_leased: CachePadded<AtomicBool>,
}

#[derive(Debug, Default)]
struct Members {
    workers: usize,
    /// How many workers there have ever been.
    ever: usize,
}

impl Lanes {
    /// So many lanes that start at `first`, without workers; the first is to come before the lanes
    /// are at a gate.
    pub(in crate::ring) fn new(count: usize, first: Sequence) -> Self {
        let lane = |_| {
            let is_leased = CachePadded::new(AtomicBool::new(false));
            Lane { position: Position::new(first), is_leased }
        };
        Self { lanes: (0..count).map(lane).collect(), members: Mutex::default() }
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

    /// Returns the sequence below which the workers have finished. Edge `FINISH_STAGE`, acquire
    /// side.
    pub(in crate::ring) fn finished(&self) -> Sequence {
        self.lanes.iter().map(|lane| lane.position.finished()).min().unwrap_or(LEFT)
    }

    /// Returns whether all workers have left.
    pub(in crate::ring) fn has_left(&self) -> bool {
        self.lanes.iter().all(|lane| lane.position.has_left())
    }

    /// A new worker. Returns its number; `None` where all have left.
    pub(in crate::ring) fn join(&self) -> Option<usize> {
        let mut members = self.members.lock();
        if self.has_left() {
            return None;
        }
        members.workers += 1;
        members.ever += 1;
        Some(members.ever - 1)
    }

    /// A worker leaves. Returns whether it was the last, so that the caller takes the stage off the
    /// gate. The lanes of a ring that was halted keep their places, since later stages must not
    /// pass them.
    pub(in crate::ring) fn leave(&self, is_halted: bool) -> bool {
        let mut members = self.members.lock();
        members.workers -= 1;
        if members.workers > 0 || is_halted {
            return false;
        }
        for lane in &self.lanes {
            // The leases have all been given back, the others' before they went through the lock.
            lane.position.leave();
        }
        true
    }

    /// Returns whether there is something to do in a lane that nobody has leased.
    pub(in crate::ring) fn is_ready(&self, lane: usize, is_available: impl Fn(Sequence) -> bool) -> bool {
        let lane = &self.lanes[lane];
        !lane.is_leased.load(Ordering::Relaxed) && has_any(|| lane.position.own(), is_available)
    }

    /// Leases a lane, unless somebody else has. Edge `LEASE_LANE`, acquire side.
    #[inline(always)]
    pub(in crate::ring) fn lease<'l>(&'l self, lane: usize, signals: &'l Signals) -> Option<LaneLease<'l>> {
        let lane = &self.lanes[lane];
        let taken =
            lane.is_leased.compare_exchange(false, true, LEASE_LANE.acquire(), Ordering::Relaxed).is_ok();
        // Nobody else moves it now.
        taken.then(|| LaneLease { lane, signals, next: lane.position.own() })
    }
}

/// A leased lane. Dropping it moves the lane to where it was told to, and gives it back.
pub(in crate::ring) struct LaneLease<'l> {
    lane: &'l Lane,
    signals: &'l Signals,
    /// All events of the lane below it have been handled.
    next: Sequence,
}

impl LaneLease<'_> {
    /// Where the lane stands.
    pub(in crate::ring) fn next(&self) -> Sequence {
        self.next
    }

    /// All events of the lane below `next` have been handled, or are about to be: a panic is past
    /// its event.
    pub(in crate::ring) fn move_to(&mut self, next: Sequence) {
        self.next = next;
    }
}

impl Drop for LaneLease<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lane.position.release(self.next);
        // Edge `LEASE_LANE`, release side.
        self.lane.is_leased.store(false, LEASE_LANE.release());
        // Also where the lane has not moved: who found it leased may have gone to sleep over it.
        self.signals.consumer_moved();
    }
}
