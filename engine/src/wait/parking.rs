//! Where threads sleep until somebody wakes them: one word that publishers look at, and a lock and a
//! condition variable behind it.
//!
//! # The handshake
//!
//! ```text
//! publisher                         sleeper, holding the lock
//!   make it ready                     parked = true
//!   light fence   (edge PARK)         heavy fence   (edge PARK)
//!   if parked { wake }                if ready { leave } else { wait, giving the lock up }
//! ```
//!
//! The two fences are in one total order. If the publisher's comes first, the sleeper's look sees what
//! was made ready. If the sleeper's comes first, the publisher sees `parked` and wakes the sleeper. To
//! do so it needs the lock, which the sleeper holds from before it set `parked` until it waits, so the
//! wake-up cannot fall between look and wait. The publisher notifies after it has given the lock up,
//! so that the woken threads do not run into it.
//!
//! Whoever wakes clears `parked`. A burst of publications after the first finds it false and makes no
//! system call, however long the woken thread takes to get going. Of several threads that wake, only
//! the first notifies. One word serves any number of sleepers. All of them wake and look; those for
//! whom nothing came set the word again, and the last to leave clears it.
//!
//! # The nap before the sleep
//!
//! The heavy fence interrupts every running thread of the process. A thread that goes to sleep a thousand times a second
//! would show in the tail of all its neighbours, however well they are pinned. So the first sleep is a nap of
//! at most [`NAP`], *without* a heavy fence, and only a thread that has slept through a nap pays for the fence and
//! sleeps on without limit. What the fence makes certain is in a nap merely as good as certain: a publisher that looked at
//! `parked` just before it was set has its publication in a store buffer, which drains within a fraction of a
//! microsecond, while the napper goes on looking for longer than that ([`LOOKS`]). Were a wake-up ever lost, it
//! would cost the rest of the nap and nothing more: correctness hangs on the nap's end, not on the buffer.
//!
//! Where the system refuses the heavy fence after it has granted it (see `sync/fence.rs`), there is no sleep
//! without limit any more: one nap follows the other.
//!
//! This is the blocking wait of the LMAX disruptor with its lock taken off the publisher's path.

use super::Deadline;
use crate::sync::atomic::Ordering;
use crate::sync::edge::{self, PARK};
use crate::sync::{CachePadded, Condvar, Mutex, Watched, hint};
use std::time::Duration;

/// How long a thread naps before it pays for a sleep without limit. One thread makes at most a hundred heavy fences a
/// second, which take less than a thousandth of its neighbours' time.
const NAP: Duration = Duration::from_millis(10);
/// How often a thread looks, politely, before it naps: one to three microseconds, and once more. A model, where each
/// polite spin is a chance for the others, needs none of it to let a publication through.
const LOOKS: u32 = if cfg!(ringmain_loom) { 0 } else { 50 };

/// Spot where any number of threads sleep until they are woken.
#[derive(Debug)]
pub struct Parking {
    /// Whether anybody can ever park here. Fixed, so that a ring that only spins pays for no fence.
    in_use: bool,
    /// 1 while somebody sleeps whom nobody has woken.
    parked: CachePadded<Watched>,
    /// How many threads are asleep, or about to be.
    asleep: Mutex<usize>,
    wake_up: Condvar,
}

impl Parking {
    /// Makes a spot with nobody asleep. Where `in_use` is false nobody may ever park and a wake-up does
    /// nothing.
    pub fn new(in_use: bool) -> Self {
        let parked = if in_use { Watched::new() } else { Watched::never() };
        Self { in_use, parked: CachePadded::new(parked), asleep: Mutex::new(0), wake_up: Condvar::new() }
    }

    /// Whether anybody can ever park here.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// Wakes all who sleep here. To be called after what they wait for was made ready.
    ///
    /// With nobody asleep: one fence for the compiler and one load of a word that seldom changes. Else it takes a
    /// lock and makes a system call.
    #[inline(always)]
    pub fn wake_all(&self) {
        if !self.parked.is_zero_after_light(&PARK) {
            self.wake_sleepers();
        }
    }

    /// Notifies, unless another thread has. Under the lock the word tells whether anybody sleeps whom
    /// nobody has woken.
    #[cold]
    fn wake_sleepers(&self) {
        let asleep = self.asleep.lock();
        let has_sleepers = self.parked.get(Ordering::Relaxed) != 0;
        self.parked.set(0, Ordering::Relaxed);
        drop(asleep);
        if has_sleepers {
            self.wake_up.notify_all();
        }
    }

    /// Sleeps until `ready` returns something, or until the deadline. `ready` is called with the lock held.
    pub(super) fn park_until<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        assert!(self.in_use, "a parking wait strategy on a parking spot built without one");
        let mut asleep = self.asleep.lock();
        *asleep += 1;
        let mut has_napped = false;
        let found = loop {
            self.parked.set(1, Ordering::Relaxed);
            has_napped = has_napped && self.parked.try_heavy(&PARK);
            if !has_napped && let Some(value) = look_for_a_while(&mut ready) {
                break Some(value);
            }
            if !edge::left_out("park-without-second-look")
                && let Some(value) = ready()
            {
                break Some(value);
            }
            if deadline.has_passed() {
                break None;
            }
            if has_napped {
                asleep = self.wake_up.wait_until(asleep, deadline.at());
                // Woken: for the next fence a nap is due again.
                has_napped = false;
            } else {
                (asleep, has_napped) = self.wake_up.wait_at_most(asleep, &self.asleep, deadline.at_most(NAP));
            }
            if let Some(value) = ready() {
                break Some(value);
            }
        };
        *asleep -= 1;
        if *asleep == 0 || edge::left_out("leave-without-count") {
            self.parked.set(0, Ordering::Relaxed);
        }
        found
    }
}

/// Looks for as long as a publication may take to get out of a store buffer.
fn look_for_a_while<T>(ready: &mut impl FnMut() -> Option<T>) -> Option<T> {
    (0..LOOKS).find_map(|_| {
        hint::spin();
        ready()
    })
}

#[cfg(all(test, not(ringmain_loom)))]
impl Parking {
    /// How many threads are asleep at this moment: who holds the lock while it gets ready for that is not seen.
    pub(super) fn sleepers(&self) -> usize {
        *self.asleep.lock()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicBool, AtomicU32};
    use std::time::Instant;

    /// Waits for what another thread does.
    fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what} did not come");
            crate::sync::thread::yield_now();
        }
    }

    /// A sleeper that counts its looks, in and after a nap, and a spot.
    fn wakes_after(looks_asleep: u32) {
        let (spot, looks, ready) = (Parking::new(true), AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                spot.park_until(Deadline::after(Duration::from_secs(30)), || {
                    looks.fetch_add(1, Ordering::Relaxed);
                    ready.load(Ordering::Relaxed).then_some(7)
                })
            });
            until("sleep", || spot.sleepers() == 1 && looks.load(Ordering::Relaxed) >= looks_asleep);
            ready.store(true, Ordering::Relaxed);
            spot.wake_all();
            assert_eq!(sleeper.join().expect("the sleeper panicked"), Some(7));
        });
        assert_eq!(spot.sleepers(), 0);
        assert!(spot.parked.get(Ordering::Relaxed) == 0, "the last to leave clears the word");
    }

    #[test]
    fn a_wake_up_ends_a_nap() {
        wakes_after(LOOKS + 1);
    }

    #[test]
    fn a_wake_up_ends_the_sleep_after_a_nap() {
        wakes_after(LOOKS + 3);
    }

    #[test]
    fn a_wake_up_in_vain_leaves_the_sleeper_asleep_until_the_right_one() {
        let (spot, looks, ready) = (Parking::new(true), AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                spot.park_until(Deadline::after(Duration::from_secs(30)), || {
                    looks.fetch_add(1, Ordering::Relaxed);
                    ready.load(Ordering::Relaxed).then_some(())
                })
            });
            for _ in 0..3 {
                until("sleep", || spot.sleepers() == 1);
                let before = looks.load(Ordering::Relaxed);
                spot.wake_all();
                until("another look", || looks.load(Ordering::Relaxed) > before);
            }
            ready.store(true, Ordering::Relaxed);
            spot.wake_all();
            assert_eq!(sleeper.join().expect("the sleeper panicked"), Some(()));
        });
    }

    #[test]
    fn all_who_sleep_are_woken_at_once() {
        const SLEEPERS: usize = 4;
        let (spot, ready) = (Parking::new(true), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let park = || {
                spot.park_until(Deadline::after(Duration::from_secs(30)), || {
                    ready.load(Ordering::Relaxed).then_some(())
                })
            };
            let sleepers: Vec<_> = (0..SLEEPERS).map(|_| scope.spawn(park)).collect();
            until("sleep", || spot.sleepers() == SLEEPERS);
            ready.store(true, Ordering::Relaxed);
            spot.wake_all();
            for sleeper in sleepers {
                assert_eq!(sleeper.join().expect("a sleeper panicked"), Some(()));
            }
        });
        assert_eq!(spot.sleepers(), 0);
    }

    #[test]
    fn a_deadline_within_a_nap_is_kept() {
        let spot = Parking::new(true);
        let started = Instant::now();
        let limit = NAP / 2;
        assert_eq!(spot.park_until(Deadline::after(limit), || None::<()>), None);
        assert!(started.elapsed() >= limit);
        assert_eq!((spot.sleepers(), spot.parked.get(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    #[should_panic(expected = "built without one")]
    fn nobody_parks_where_nobody_may() {
        Parking::new(false).park_until(Deadline::NEVER, || Some(()));
    }
}
