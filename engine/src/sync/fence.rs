//! The asymmetric fence: free for the side that runs all the time, dear for the side that runs seldom.
//!
//! Both sides of a store-then-load handshake (Dekker's) need a full fence between their store and their
//! load. Where one side is a publisher and the other goes to sleep, Linux's `membarrier(2)` lets the
//! sleeper pay for both: it interrupts every other thread of the process and has them execute a barrier,
//! so that the publisher's half is only a fence for the compiler. Where there is no `membarrier`, both
//! halves are sequentially consistent fences.
//!
//! The technique is described in `membarrier(2)` and used by liburcu and folly's
//! `AsymmetricThreadFence`. A model sees sequentially consistent fences on both sides.
//!
//! # Where the system call is refused later
//!
//! A filter of system calls that a program installs after it has built its rings takes `membarrier` away
//! for good. From the first refusal on light fences are full ones. What is left is a light fence which
//! was still one for the compiler, and whose store had not left its core when the refusal came. It leaves
//! within [`DRAIN`]: a core writes its stores out in the order of their ages, whatever its thread does
//! next, and a load that its thread has not finished by then is repeated after an interrupt. (The
//! hardware's bound is some microseconds. A. Morrison and Y. Afek build asymmetric fences on such a bound
//! alone in "Temporally bounding TSO for fence-free asymmetric synchronization", ASPLOS 2015.) So the
//! first heavy fence without the system call waits for that long, and so do those that are made
//! meanwhile.
//!
//! [`Watched`](super::Watched) words are looked at before any fence. One that was made while light fences
//! were free is watched like that for good, so each heavy fence of such a word waits. Edge by edge:
//!
//! * `LEASE`, `LEASE_RETURN` and `JOIN` have full fences on both sides after the first wait.
//! * `CLOSE`, whose word is watched, waits each time: a ring closes once, or twice.
//! * `PARK`, whose word is watched too, would wait at each sleep, with a lock in hand. It uses
//!   [`try_heavy`](super::Watched::try_heavy) and sleeps in naps where that fails: a wake-up that is lost
//!   costs the rest of a nap.

use super::edge::Edge;

/// A thousand times what a core takes to write out the stores that it holds back.
#[cfg(all(target_os = "linux", not(ringmain_loom), not(miri)))]
const DRAIN: std::time::Duration = std::time::Duration::from_millis(10);

#[cfg(all(target_os = "linux", not(ringmain_loom), not(miri)))]
mod imp {
    use super::DRAIN;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

    const REGISTER: libc::c_long = 1 << 4; // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
    const EXPEDITED: libc::c_long = 1 << 3; // MEMBARRIER_CMD_PRIVATE_EXPEDITED

    /// Light fences are full ones.
    const FULL: u32 = 0;
    /// They are fences for the compiler.
    const FREE: u32 = 1;
    /// They are full ones since a moment ago: one for the compiler may still be on its way.
    const SETTLING: u32 = 2;

    static LIGHT: AtomicU32 = AtomicU32::new(FULL);

    fn membarrier(command: libc::c_long) -> bool {
        // SAFETY: membarrier takes two integers, touches no memory of ours and fails with an error code.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_long) == 0 }
    }

    /// Must have returned before any fence that relies on it: rings call it before they are shared.
    pub(super) fn register() {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            let light = if membarrier(REGISTER) { FREE } else { FULL };
            LIGHT.store(light, Ordering::Relaxed);
        });
    }

    #[inline(always)]
    pub(super) fn is_light_free() -> bool {
        LIGHT.load(Ordering::Relaxed) == FREE
    }

    #[inline(always)]
    pub(super) fn light() {
        if is_light_free() {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    pub(super) fn full() {
        fence(Ordering::SeqCst);
    }

    pub(super) fn try_heavy() -> bool {
        full();
        if !is_light_free() {
            return false;
        }
        #[cfg(test)]
        if super::tests::does_without_membarrier() {
            return true;
        }
        if membarrier(EXPEDITED) {
            return true;
        }
        // Refused, after it was granted.
        let _ = LIGHT.compare_exchange(FREE, SETTLING, Ordering::Relaxed, Ordering::Relaxed);
        full();
        false
    }

    pub(super) fn heavy() -> bool {
        if try_heavy() {
            return true;
        }
        if LIGHT.load(Ordering::Relaxed) == FULL {
            return false;
        }
        wait_for_stores();
        LIGHT.store(FULL, Ordering::Relaxed);
        true
    }

    pub(super) fn wait_for_stores() {
        std::thread::sleep(DRAIN);
        full();
    }
}

/// No light fence is free, so no heavy one meets more than a full fence does.
#[cfg(any(not(target_os = "linux"), miri, ringmain_loom))]
mod imp {
    #[cfg(ringmain_loom)]
    use loom::sync::atomic::{Ordering, fence};
    #[cfg(not(ringmain_loom))]
    use std::sync::atomic::{Ordering, fence};

    pub(super) fn register() {}

    pub(super) fn is_light_free() -> bool {
        false
    }

    #[inline(always)]
    pub(super) fn light() {
        full();
    }

    pub(super) fn full() {
        fence(Ordering::SeqCst);
    }

    pub(super) fn try_heavy() -> bool {
        full();
        false
    }

    pub(super) fn heavy() -> bool {
        try_heavy()
    }

    pub(super) fn wait_for_stores() {}
}

/// Prepares the process for [`light`] and [`heavy`]; called before a structure that uses them is shared.
/// Makes a system call the first time.
pub fn register() {
    imp::register();
}

/// Whether a light fence is one for the compiler only. Once [`register`] has returned, the answer changes
/// at most once, to no.
pub fn is_light_free() -> bool {
    imp::is_light_free()
}

/// What a light fence is at least: the compiler keeps what stands before it before what stands behind it.
#[inline(always)]
pub fn of_compiler() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// The half of the side that runs all the time: one fence for the compiler where the system has
/// `membarrier`.
#[inline(always)]
pub fn light(edge: &Edge) {
    if edge.light_fence_stands() {
        imp::light();
    }
}

/// The half of the side that runs seldom. Makes a system call (some microseconds) and interrupts the
/// process's running threads for about as long as a cache miss. Where the call is refused for the first
/// time, it sleeps.
pub fn heavy(edge: &Edge) {
    if edge.heavy_fence_stands() {
        imp::heavy();
    }
}

/// [`heavy`] for a word that is watched, whose readers make a full fence or, where `is_fenced` is false,
/// one for the compiler.
pub(super) fn heavy_after_watching(edge: &Edge, is_fenced: bool) {
    if !edge.heavy_fence_stands() {
    } else if is_fenced {
        imp::full();
    } else if !imp::heavy() {
        imp::wait_for_stores();
    }
}

/// The same without a wait. Returns whether the fence holds.
pub(super) fn try_heavy_after_watching(edge: &Edge, is_fenced: bool) -> bool {
    if !edge.heavy_fence_stands() {
        true
    } else if is_fenced {
        imp::full();
        true
    } else {
        imp::try_heavy()
    }
}

/// A litmus test on real cores. It shows what no model can, since a model's light fence is a full one.
#[cfg(all(test, target_os = "linux", not(ringmain_loom), not(miri)))]
mod tests {
    use super::super::CachePadded;
    use super::super::atomic::{AtomicBool, AtomicU64, Ordering};
    use super::super::edge::PARK;
    use super::*;
    use std::process::Command;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    const LITMUS: &str = "sync::fence::tests::one_of_the_two_sees_the_other";
    const MUTANT: &str = "RINGMAIN_MUTANT";
    /// How long there are rounds, of a microsecond or so each.
    const LIMIT: Duration = Duration::from_secs(3);
    /// Without the system call one round in a hundred to a hundred thousand fails, which depends on how
    /// far apart the cores are. Where other programs want them too, rounds take long and show little.
    const MUTANTS_LIMIT: Duration = Duration::from_secs(30);
    const MUTANTS_ROUNDS: u64 = 2_000_000;
    /// Stores to lines that the other core has, which hold back the store behind them: one to so many.
    const BALLAST: usize = 8;
    /// The polite spins before a round, fewer than so many, so that each side comes first at times.
    const DELAYS: u64 = 16;

    /// Whether this process is to do without the system call of a heavy fence, to see what comes of it.
    pub(super) fn does_without_membarrier() -> bool {
        static LEFT_OUT: OnceLock<bool> = OnceLock::new();
        *LEFT_OUT.get_or_init(|| std::env::var(MUTANT).is_ok_and(|mutant| mutant == "membarrier"))
    }

    /// Two cores, where this machine can show anything. Says why where it cannot.
    fn two_cores() -> Option<[core_affinity::CoreId; 2]> {
        register();
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        match cores[..] {
            _ if !is_light_free() => eprintln!("skipped: this system has no membarrier"),
            [one, .., other] => return Some([one, other]),
            _ => eprintln!("skipped: it takes two cores for one to hold a store back"),
        }
        None
    }

    /// One side of the handshake, on lines of its own.
    #[derive(Default)]
    struct Side {
        mark: CachePadded<AtomicU64>,
        /// The other side's mark as this side saw it in the last round.
        seen: CachePadded<AtomicU64>,
        /// The last round that this side has ended.
        ended: CachePadded<AtomicU64>,
        ballast: [CachePadded<AtomicU64>; BALLAST],
    }

    impl Side {
        /// Makes its mark, fences, looks for the other's mark.
        fn make(&self, other: &Self, round: u64, fence: impl FnOnce()) {
            self.mark.store(round, Ordering::Relaxed);
            fence();
            self.seen.store(other.mark.load(Ordering::Relaxed), Ordering::Relaxed);
        }

        fn wait_for(&self, round: u64) {
            let mut looks: u64 = 0;
            while self.ended.load(Ordering::Acquire) < round {
                looks += 1;
                if looks.is_multiple_of(1_000) {
                    std::thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn one_of_the_two_sees_the_other() {
        let Some(cores) = two_cores() else { return };
        let limit = if does_without_membarrier() { MUTANTS_LIMIT } else { LIMIT };
        let (often, seldom, is_over) = (Side::default(), Side::default(), AtomicBool::new(false));
        let spin = |times| (0..times).for_each(|_| std::hint::spin_loop());
        let started = Instant::now();
        let rounds = std::thread::scope(|scope| {
            scope.spawn(|| {
                core_affinity::set_for_current(cores[0]);
                for round in 1.. {
                    seldom.wait_for(round - 1);
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    spin(round / BALLAST as u64 % DELAYS);
                    often.ballast[..=round as usize % BALLAST]
                        .iter()
                        .for_each(|line| line.store(round, Ordering::Relaxed));
                    often.make(&seldom, round, || light(&PARK));
                    often.ended.store(round, Ordering::Release);
                }
            });
            core_affinity::set_for_current(cores[1]);
            let mut round = 0;
            let missed = loop {
                round += 1;
                spin(round / BALLAST as u64 / DELAYS % DELAYS);
                seldom.make(&often, round, || heavy(&PARK));
                often.wait_for(round);
                // The lines are this core's again.
                let ballast = often.ballast.iter().map(|line| line.load(Ordering::Relaxed));
                assert_eq!(ballast.max(), Some(round));
                if [&often, &seldom].iter().all(|side| side.seen.load(Ordering::Relaxed) < round) {
                    break true;
                }
                if started.elapsed() > limit {
                    break false;
                }
                seldom.ended.store(round, Ordering::Release);
            };
            is_over.store(true, Ordering::Relaxed);
            seldom.ended.store(round, Ordering::Release);
            assert!(!missed, "neither saw the other in round {round}");
            round
        });
        println!("rounds: {rounds} in {:?}", started.elapsed());
    }

    #[test]
    fn without_its_system_call_a_heavy_fence_is_none() {
        if two_cores().is_none() || does_without_membarrier() {
            return;
        }
        let this = std::env::current_exe().expect("the path of this test");
        let output = Command::new(this)
            .args([LITMUS, "--exact", "--nocapture"])
            .env(MUTANT, "membarrier")
            .output()
            .expect("a process could not be started");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("running 1 test"), "{LITMUS} was not found: {said}");
        if !output.status.success() {
            return;
        }
        let rounds = said.split_once("rounds: ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let rounds: u64 = rounds.expect("a litmus test that says how many rounds it made");
        assert!(rounds < MUTANTS_ROUNDS, "nobody missed the system call in {rounds} rounds");
        eprintln!("skipped: this machine is too busy to tell in {rounds} rounds");
    }
}
