//! Where threads sleep until somebody wakes them: one word that publishers look at, and a list of
//! sleepers behind a lock.
//!
//! # The handshake
//!
//! ```text
//! publisher                         sleeper
//!   make it ready                     lock: into the list, parked = true
//!   light fence   (edge PARK)         heavy fence   (edge PARK)
//!   if parked {                       if ready { lock: out of the list, leave }
//!     lock: off the list              lock: if still in the list { wait for the bell }
//!     ring the bell
//!   }
//! ```
//!
//! The two fences are in one total order. If the publisher's comes first, the sleeper's look sees what
//! was made ready. If the sleeper's comes first, the publisher sees `parked`, finds the sleeper in the
//! list and calls it: it takes it off the list, under the lock. A sleeper waits only while it is in the
//! list, so the call cannot fall between look and wait.
//!
//! `parked` says whether anybody is in the list or to be rung for, and is changed under the lock
//! together with that. When all who sleep have been rung for, it is down, and a burst of publications
//! makes no system call, however long the woken threads take to get going. A second bit says whether
//! any sleeper waits for other consumers: a consumer that moves on need not look at the list for those
//! who wait for events alone.
//!
//! # Who rings
//!
//! Whom a wake-up calls, and of whom one is as good as another, stands in `sleepers.rs`. Of those who
//! are called, the publisher rings for one and leaves the others to be rung for by those who get up.
//! That must not hang on what a woken thread does next, or on whether it was the bell that woke it. So
//! whoever gets up rings for others first, in any case: when its nap is over, when it is too late, when
//! it found by itself what it looks for. Then no one who is due is left without somebody who will ring
//! for it: each bell that was rung has a thread that gets up and takes two more. Should that thread not
//! get its core for long, others who get up take its part, and the next to publish rings for one more.
//!
//! In the same way a member of a crew that was called for work stops being under way when it gets up,
//! under the lock. Who came with news before that, and so called nobody, had made it ready before the
//! member's next look. Who leaves to work calls others for what it will not take
//! ([`call_more`](Parking::call_more)).
//!
//! # The nap before the sleep
//!
//! The heavy fence interrupts every running thread of the process. A thread that goes to sleep a
//! thousand times a second would show in the tail of all its neighbours, however well they are pinned.
//! So the first sleep is a nap of at most [`NAP`], *without* a heavy fence, and only a thread that has
//! slept through a nap pays for the fence and sleeps on without limit. What the fence makes certain is
//! in a nap merely as good as certain: a publisher that looked at `parked` just before it was set has
//! its publication in a store buffer, which drains within a fraction of a microsecond, while the napper
//! goes on looking for longer than that ([`LOOKS`]). Were a wake-up ever lost, it would cost the rest of
//! the nap and nothing more: correctness hangs on the nap's end, not on the buffer.
//!
//! Where the system refuses the heavy fence after it has granted it (see `sync/fence.rs`), there is no sleep
//! without limit any more: one nap follows the other.
//!
//! This is the blocking wait of the LMAX disruptor with its lock taken off the publisher's path. Crews
//! are woken as Go's and Tokio's schedulers wake their workers: one looks for work at a time, and calls
//! the next when it has found more than its own.

use super::Deadline;
use super::sleepers::{AT_ONCE, Bell, Crew, News, Sleeper, Sleepers};
use crate::sync::atomic::Ordering;
use crate::sync::edge::{self, PARK};
use crate::sync::{CachePadded, Mutex, MutexGuard, Watched, hint};
use std::time::Duration;

/// How long a thread naps before it pays for a sleep without limit. One thread makes at most a hundred heavy fences a
/// second, which take less than a thousandth of its neighbours' time.
const NAP: Duration = Duration::from_millis(10);
/// How often a thread looks, politely, before it naps: one to three microseconds, and once more. A model, where each
/// polite spin is a chance for the others, needs none of it to let a publication through.
const LOOKS: u32 = if cfg!(ringmain_loom) { 0 } else { 50 };

/// Bits of the word that publishers look at: somebody is asleep and not rung for.
const ASLEEP: u32 = 1;
/// Somebody is asleep who waits for other consumers.
const AWAITS_MOVES: u32 = 2;

/// Spot where any number of threads sleep until they are woken.
#[derive(Debug)]
pub struct Parking {
    /// Whether anybody can ever park here. Fixed, so that a ring that only spins pays for no fence.
    in_use: bool,
    /// Not 0 while somebody sleeps whom nobody has called, or rung for.
    parked: CachePadded<Watched>,
    sleepers: Mutex<Sleepers>,
}

/// Where a thread sleeps, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    pub(crate) parking: &'p Parking,
    pub(crate) sleeper: Sleeper,
}

impl Parking {
    /// Makes a spot with nobody asleep. Where `in_use` is false nobody may ever park and a wake-up does
    /// nothing.
    pub fn new(in_use: bool) -> Self {
        let parked = if in_use { Watched::new() } else { Watched::never() };
        Self { in_use, parked: CachePadded::new(parked), sleepers: Mutex::default() }
    }

    /// Whether anybody can ever park here.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// Wakes all who sleep here. To be called after what they wait for was made ready.
    ///
    /// With nobody asleep: one fence for the compiler and one load of a word that seldom changes. Else it takes a
    /// lock and makes one system call, however many are asleep: the first that wakes up wakes others.
    #[inline(always)]
    pub fn wake_all(&self) {
        self.wake(|| News::ForEverybody);
    }

    /// Wakes those whom the news concerns, as [`wake_all`](Self::wake_all) does. It is asked for where somebody
    /// sleeps.
    #[inline(always)]
    pub(crate) fn wake(&self, news: impl FnOnce() -> News) {
        if !self.parked.is_zero_after_light(&PARK) {
            self.tell(news());
        }
    }

    /// Wakes those whom a new event concerns, as [`wake_all`](Self::wake_all) does.
    // Hot path: a call without news to hand over costs fewer registers there.
    #[inline(always)]
    pub(crate) fn wake_for_event(&self) {
        if !self.parked.is_zero_after_light(&PARK) {
            self.tell_of_event();
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_of_event(&self) {
        self.tell(News::Published);
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, news: News) {
        if matches!(news, News::Moved(_)) && self.parked.get(Ordering::Relaxed) & AWAITS_MOVES == 0 {
            return;
        }
        self.call(|sleepers| sleepers.call(news));
    }

    /// Has a member of a crew that was asleep, or may have been, and is about to work call others of its crew for
    /// the work that it will not take. `is_there` is asked whether there is any beside the work of so many
    /// members, perhaps with a lock held, so it must not wake anybody here.
    ///
    /// With nobody asleep: one load.
    pub(crate) fn call_more(&self, crew: Crew, is_there: impl Fn(u64) -> bool) {
        // Whoever sleeps, and was told nothing because this member was under way, was asleep before this member
        // got up, under the lock.
        if self.parked.get(Ordering::Relaxed) != 0 && is_there(1) {
            self.call(|sleepers| sleepers.call_more(crew, is_there));
        }
    }

    /// Calls sleepers, and rings for the first of them.
    fn call(&self, whom: impl FnOnce(&mut Sleepers)) {
        let mut sleepers = self.sleepers.lock();
        whom(&mut sleepers);
        self.ring(sleepers, 1);
    }

    /// Brings the word up to date with the list. The caller has changed that, and holds its lock.
    fn note(&self, sleepers: &Sleepers) {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let bits = bit(sleepers.has_any(), ASLEEP) | bit(sleepers.await_moves(), AWAITS_MOVES);
        self.parked.set(bits, Ordering::Relaxed);
    }

    /// Rings for so many of those who are due, with the lock given up, so that they do not run into it.
    fn ring(&self, mut sleepers: MutexGuard<'_, Sleepers>, most: usize) {
        let due = sleepers.take_due(most);
        self.note(&sleepers);
        drop(sleepers);
        for bell in due.into_iter().flatten() {
            bell.notify_all();
        }
    }

    fn lie_down(&self, sleeper: Sleeper) -> Bell {
        let mut sleepers = self.sleepers.lock();
        let bell = sleepers.lie_down(sleeper);
        self.note(&sleepers);
        bell
    }

    /// Gets up, and rings for whoever is due.
    fn get_up(&self, mut sleepers: MutexGuard<'_, Sleepers>, bell: &Bell) {
        sleepers.get_up(bell);
        self.ring(sleepers, if edge::left_out("up-without-ringing") { 0 } else { AT_ONCE });
        if edge::left_out("leave-without-count") {
            self.parked.set(0, Ordering::Relaxed);
        }
    }

    /// Sleeps until `ready` returns something, or until the deadline.
    pub(super) fn park_until<T>(
        &self,
        sleeper: Sleeper,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        assert!(self.in_use, "a parking wait strategy on a parking spot built without one");
        let mut bell = self.lie_down(sleeper);
        let mut has_napped = false;
        loop {
            has_napped = has_napped && self.parked.try_heavy(&PARK);
            let mut found = if has_napped { None } else { look_for_a_while(&mut ready) };
            if found.is_none() && !edge::left_out("park-without-second-look") {
                found = ready();
            }
            let is_over = found.is_some() || deadline.has_passed();
            let mut sleepers = self.sleepers.lock();
            if is_over {
                self.get_up(sleepers, &bell);
                return found;
            }
            if !sleepers.is_asleep(&bell) {
                // Called since the last look.
            } else if has_napped {
                sleepers = bell.wait_until(sleepers, deadline.at());
                // For the next fence a nap is due again.
                has_napped = false;
            } else {
                (sleepers, has_napped) = bell.wait_at_most(sleepers, &self.sleepers, deadline.at_most(NAP));
            }
            if !sleepers.is_asleep(&bell) {
                self.get_up(sleepers, &bell);
                if let Some(value) = ready() {
                    return Some(value);
                }
                bell = self.lie_down(sleeper);
                has_napped = false;
            }
        }
    }
}

impl<'p> From<&'p Parking> for Place<'p> {
    /// The place of a thread that is woken by everything.
    fn from(parking: &'p Parking) -> Self {
        Self { parking, sleeper: Sleeper::ANY }
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
    /// How many threads are asleep, or about to be, whom nobody has called.
    pub(super) fn sleepers(&self) -> usize {
        self.sleepers.lock().count()
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
                spot.park_until(Sleeper::ANY, Deadline::after(Duration::from_secs(30)), || {
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
        wakes_after(LOOKS + 2);
    }

    #[test]
    fn a_wake_up_in_vain_leaves_the_sleeper_asleep_until_the_right_one() {
        let (spot, looks, ready) = (Parking::new(true), AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                spot.park_until(Sleeper::ANY, Deadline::after(Duration::from_secs(30)), || {
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
                spot.park_until(Sleeper::ANY, Deadline::after(Duration::from_secs(30)), || {
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
        assert_eq!(spot.park_until(Sleeper::ANY, Deadline::after(limit), || None::<()>), None);
        assert!(started.elapsed() >= limit);
        assert_eq!((spot.sleepers(), spot.parked.get(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    #[should_panic(expected = "built without one")]
    fn nobody_parks_where_nobody_may() {
        Parking::new(false).park_until(Sleeper::ANY, Deadline::NEVER, || Some(()));
    }
}
