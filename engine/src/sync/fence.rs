//! The asymmetric fence: free for the side that runs all the time, dear for the side that runs seldom.
//!
//! Both sides of a store-then-load handshake (Dekker's) need a full fence between their store and their load. Where
//! one side is a publisher and the other goes to sleep, Linux's `membarrier(2)` lets the sleeper pay for both: it
//! interrupts every other thread of the process and has them execute a barrier, so that the publisher's half is only
//! a fence for the compiler. Where there is no `membarrier`, both halves are sequentially consistent fences.
//!
//! The technique is described in `membarrier(2)` and used by liburcu and folly's `AsymmetricThreadFence`.
//! A model sees sequentially consistent fences on both sides.

use super::edge::Edge;

#[cfg(all(target_os = "linux", not(ringmain_loom), not(miri)))]
mod imp {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

    const REGISTER: libc::c_long = 1 << 4; // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
    const EXPEDITED: libc::c_long = 1 << 3; // MEMBARRIER_CMD_PRIVATE_EXPEDITED

    static REGISTERED: AtomicBool = AtomicBool::new(false);

    fn membarrier(command: libc::c_long) -> bool {
        // SAFETY: membarrier takes two integers, touches no memory of ours and fails with an error code.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_long) == 0 }
    }

    /// Must have returned before any fence that relies on it: rings call it before they are shared.
    pub(super) fn register() {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| REGISTERED.store(membarrier(REGISTER), Ordering::Relaxed));
    }

    /// Written once, before the first ring is shared, hence the same answer on both sides of every handshake.
    #[inline(always)]
    pub(super) fn is_light_free() -> bool {
        REGISTERED.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn light() {
        if is_light_free() {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
        if is_light_free() {
            // It cannot fail once registered; were it to, a lost wake-up would follow, so say so at once.
            assert!(membarrier(EXPEDITED), "membarrier failed after it was registered");
        }
    }
}

#[cfg(all(any(not(target_os = "linux"), miri), not(ringmain_loom)))]
mod imp {
    use std::sync::atomic::{Ordering, fence};

    pub(super) fn register() {}

    pub(super) fn is_light_free() -> bool {
        false
    }

    #[inline(always)]
    pub(super) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
    }
}

#[cfg(ringmain_loom)]
mod imp {
    use loom::sync::atomic::{Ordering, fence};

    pub(super) fn register() {}

    pub(super) fn is_light_free() -> bool {
        false
    }

    pub(super) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
    }
}

/// Prepares the process for [`light`] and [`heavy`]; called before a structure that uses them is shared. Makes a
/// system call the first time.
pub fn register() {
    imp::register();
}

/// Whether a light fence is one for the compiler only. The same answer always, once [`register`] has returned.
pub fn is_light_free() -> bool {
    imp::is_light_free()
}

/// What a light fence is at least: the compiler keeps what stands before it before what stands behind it.
#[inline(always)]
pub fn of_compiler() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// The half of the side that runs all the time: one fence for the compiler where the system has `membarrier`.
#[inline(always)]
pub fn light(edge: &Edge) {
    if edge.light_fence_stands() {
        imp::light();
    }
}

/// The half of the side that runs seldom. Makes a system call (some microseconds) and interrupts the process's
/// running threads for about as long as a cache miss.
pub fn heavy(edge: &Edge) {
    if edge.heavy_fence_stands() {
        imp::heavy();
    }
}
