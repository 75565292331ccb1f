//! Where threads sleep until somebody rings: one word that publishers look at, and a lock and condition behind it.
//!
//! # The handshake
//!
//! ```text
//! publisher                         sleeper, holding the lock
//!   make it ready                     parked = true
//!   light fence   (edge PARK)         heavy fence   (edge PARK)
//!   if parked { ring }                if ready { leave } else { wait, giving the lock up }
//! ```
//!
//! The two fences are in one total order. If the publisher's comes first, the sleeper's look sees what was made
//! ready. If the sleeper's comes first, the publisher sees `parked` and rings; to ring it needs the lock, which the
//! sleeper holds from before it set `parked` until it waits, so the ring cannot fall between look and wait.
//!
//! The ringer clears `parked`: a burst of publications after the first finds it false and makes no system call,
//! however long the woken thread takes to get going. One word serves any number of sleepers, all of whom wake and
//! look; those for whom nothing came set the word again. A sleeper that leaves by its deadline leaves the word set,
//! which costs one ring into the void.
//!
//! This is the blocking wait of the LMAX disruptor with its lock taken off the publisher's path.

use super::Deadline;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::edge::{self, PARK};
use crate::sync::{CachePadded, Condvar, Mutex, fence};

/// A spot where any number of threads sleep until they are rung awake.
#[derive(Debug)]
pub struct Parking {
    /// Whether anybody can ever park here. Fixed, so that a ring that only spins pays nothing.
    in_use: bool,
    parked: CachePadded<AtomicBool>,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Parking {
    /// A spot with nobody asleep. Where `in_use` is false nobody may ever park and ringing does nothing.
    pub fn new(in_use: bool) -> Self {
        fence::register();
        Self {
            in_use,
            parked: CachePadded::new(AtomicBool::new(false)),
            lock: Mutex::new(()),
            bell: Condvar::new(),
        }
    }

    /// Wakes all who sleep here. To be called after what they wait for was made ready.
    ///
    /// With nobody asleep: one fence for the compiler and one load of a word that seldom changes. Else it takes a
    /// lock and makes a system call.
    #[inline]
    pub fn wake_all(&self) {
        if !self.in_use {
            return;
        }
        fence::light(&PARK);
        if self.parked.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        let _guard = self.lock.lock();
        self.parked.store(false, Ordering::Relaxed);
        self.bell.notify_all();
    }

    /// Sleeps until `ready` returns something, or until the deadline. `ready` is called with the lock held.
    pub(super) fn park_until<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        assert!(self.in_use, "a parking wait strategy on a parking spot built without one");
        let mut guard = self.lock.lock();
        loop {
            self.parked.store(true, Ordering::Relaxed);
            fence::heavy(&PARK);
            if !edge::left_out("park-without-second-look")
                && let Some(value) = ready()
            {
                return Some(value);
            }
            if deadline.has_passed() {
                return None;
            }
            guard = self.bell.wait_until(guard, deadline.at());
            if let Some(value) = ready() {
                return Some(value);
            }
        }
    }
}
