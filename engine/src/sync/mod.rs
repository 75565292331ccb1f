//! The one façade over atomics, cells, locks and threads.
//!
//! Nothing else in the engine names the standard library's or loom's primitives, so that the code
//! which ships is the code which the models check: built with `--cfg ringmain_loom`, every name
//! below is loom's. What differs between the two builds is types, constants and what a spin hint
//! does; never the logic.
//!
//! * [`atomic`], [`cell`], [`thread`], [`hint`]: the primitives themselves
//! * [`Mutex`], [`Condvar`]: for slow paths; a poisoned lock is taken all the same, because
//!   each critical section keeps its data consistent at every step
//! * [`edge`]: every synchronising pair of the engine by name
//! * [`fence`]: the asymmetric fence, light for those who publish and heavy for those who go to
//!   sleep
//! * [`Watched`]: a word that is looked at behind a light fence all the time
//! * [`swapped`]: a value that is replaced whole and reclaimed when nobody reads it any more
//! * [`panics`]: what a panic leaves behind
//! * [`arc_swap`]: the same, counted by reference, for what readers keep longer

pub(crate) mod arc_swap;
pub mod cell;
pub mod edge;
pub mod fence;
mod lock;
pub(crate) mod panics;
mod process;
pub(crate) mod swapped;
mod watched;

pub use crossbeam_utils::CachePadded;
pub use lock::{Condvar, Mutex, MutexGuard, TimedLock};
pub(crate) use process::Process;
pub(crate) use watched::Watched;

/// Atomics and their orderings.
pub mod atomic {
    #[cfg(ringmain_loom)]
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
    #[cfg(not(ringmain_loom))]
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
}

/// Threads: spawning by name, yielding, sleeping.
pub mod thread {
    #[cfg(ringmain_loom)]
    pub use loom::thread::{Builder, JoinHandle, current, yield_now};
    #[cfg(not(ringmain_loom))]
    pub use std::thread::{Builder, JoinHandle, current, sleep, yield_now};

    /// In a model time does not pass: a sleep is a chance for the others.
    #[cfg(ringmain_loom)]
    pub fn sleep(_: std::time::Duration) {
        yield_now();
    }

    /// What the system counts for one thread.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Usage {
        pub(crate) thread: std::thread::ThreadId,
        /// How often it gave its core to another thread without going to sleep: by the scheduler's
        /// will, or by a yield.
        pub(crate) involuntary: u64,
        /// How often it went to sleep.
        pub(crate) voluntary: u64,
        /// How long it ran.
        pub(crate) running: std::time::Duration,
    }

    #[cfg(all(target_os = "linux", not(ringmain_loom), not(miri)))]
    impl Usage {
        /// The counts of the calling thread. Makes two system calls, of some 500 ns together.
        pub(crate) fn of_thread() -> Option<Self> {
            let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
            let mut running = std::mem::MaybeUninit::<libc::timespec>::uninit();
            // SAFETY: the calls write one `rusage` and one `timespec` to where the pointers point.
            let (usage, running) = unsafe {
                if libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) != 0
                    || libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, running.as_mut_ptr()) != 0
                {
                    return None;
                }
                // Both have succeeded, so both have been written.
                (usage.assume_init(), running.assume_init())
            };
            Some(Self {
                thread: std::thread::current().id(),
                involuntary: usage.ru_nivcsw as u64,
                voluntary: usage.ru_nvcsw as u64,
                running: std::time::Duration::new(running.tv_sec as u64, running.tv_nsec as u32),
            })
        }
    }

    #[cfg(any(not(target_os = "linux"), ringmain_loom, miri))]
    impl Usage {
        /// This system does not tell.
        pub(crate) fn of_thread() -> Option<Self> {
            None
        }
    }
}

/// Declares a value of each thread's own whose first value is a constant, so that reaching it costs
/// no check.
macro_rules! constant_per_thread {
    (static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(ringmain_loom)]
        ::loom::thread_local! { static $name: $type = $value; }
        #[cfg(not(ringmain_loom))]
        ::std::thread_local! { static $name: $type = const { $value }; }
    };
}
pub(crate) use constant_per_thread;

/// Declares a value that the whole process shares: in a model, one execution of it.
macro_rules! process_wide {
    (static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(ringmain_loom)]
        ::loom::lazy_static! { static ref $name: $type = $value; }
        #[cfg(not(ringmain_loom))]
        static $name: $type = $value;
    };
}
pub(crate) use process_wide;

/// Hints for threads that spin.
pub mod hint {
    /// Spins politely: tells the processor (and a hyper-thread beside it) that this is a wait.
    #[inline(always)]
    pub fn spin() {
        #[cfg(ringmain_loom)]
        loom::hint::spin_loop();
        #[cfg(not(ringmain_loom))]
        std::hint::spin_loop();
    }

    /// Asks for the line at an address, which need not be one, to be brought near for reading. Does
    /// nothing where there is no such hint.
    #[inline(always)]
    pub(crate) fn prefetch<T>(address: *const T) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a prefetch does not fault, whatever the address, and has no effect that a program
        // could see.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = address;
    }

    /// Spins as tightly as possible. A model must still let the others run.
    #[inline(always)]
    pub fn busy() {
        #[cfg(ringmain_loom)]
        loom::hint::spin_loop();
    }
}

/// A number that no other call in this process returns. It synchronises nothing, and is no step of
/// a model.
pub(crate) fn unique_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
