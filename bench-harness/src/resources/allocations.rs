//! A global allocator that counts, so that "no allocation per message" is a figure and not a claim.
//!
//! Counting is off except within [`count`], because a contended counter would slow whoever allocates (rivals do) and
//! not us. While it is off a call costs one load that is predicted; while it is on, one relaxed addition on a line
//! that threads seldom share. Threads take the lines in turn.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Lines that threads take in turn.
const SHARDS: usize = 64;

/// How often memory was asked for and given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocations {
    /// Blocks asked for; growing or shrinking one counts as asking.
    pub(crate) allocated: u64,
    /// Blocks given back.
    pub(crate) freed: u64,
}

/// The counts of the threads that share a line.
#[repr(align(128))]
struct Shard {
    allocated: AtomicU64,
    freed: AtomicU64,
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static SHARED: [Shard; SHARDS] =
    [const { Shard { allocated: AtomicU64::new(0), freed: AtomicU64::new(0) } }; SHARDS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's shard. Constant and without a destructor, so that reaching it allocates nothing.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Counts what all threads allocate and free while `work` runs. What a thread did is in the count when it was joined,
/// or has handed something over, before `work` returns. One count at a time.
pub(crate) fn count<R>(work: impl FnOnce() -> R) -> (R, Allocations) {
    let before = sum();
    COUNTING.store(true, Ordering::Relaxed);
    let result = work();
    COUNTING.store(false, Ordering::Relaxed);
    let after = sum();
    let counted =
        Allocations { allocated: after.allocated - before.allocated, freed: after.freed - before.freed };
    (result, counted)
}

fn sum() -> Allocations {
    let mut sum = Allocations::default();
    for shard in &SHARED {
        sum.allocated += shard.allocated.load(Ordering::Relaxed);
        sum.freed += shard.freed.load(Ordering::Relaxed);
    }
    sum
}

/// The shard of the calling thread; the first one while a thread ends and its locals are gone.
fn mine() -> &'static Shard {
    let index = MINE.try_with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        mine.get()
    });
    &SHARED[index.unwrap_or(0)]
}

#[inline]
fn allocated() {
    if COUNTING.load(Ordering::Relaxed) {
        mine().allocated.fetch_add(1, Ordering::Relaxed);
    }
}

#[inline]
fn freed() {
    if COUNTING.load(Ordering::Relaxed) {
        mine().freed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every method hands its arguments to the system's allocator unchanged and its answer back unchanged, so the
// contract holds as it does there; counting touches atomics and a constant thread-local, and neither allocates nor
// unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated();
        // SAFETY: the caller's promises about the layout are the ones that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        allocated();
        // SAFETY: the block came from the system's allocator with this layout, because all blocks do; the caller
        // promises the rest.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        freed();
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Other tests of this process allocate at the same time, so only lower bounds hold here.
    #[test]
    fn what_is_allocated_on_any_thread_is_counted() {
        const BLOCKS: u64 = 10_000;
        let ((), counted) = count(|| {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for block in 0..BLOCKS {
                            drop(std::hint::black_box(Box::new(block)));
                        }
                    });
                }
            });
        });
        assert!(counted.allocated >= 2 * BLOCKS && counted.freed >= 2 * BLOCKS, "{counted:?}");
        let mut before = sum();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // A thread that saw the flag just before it was cleared may still add one.
        while sum() != before {
            assert!(std::time::Instant::now() < deadline, "still counting");
            before = sum();
        }
        drop(std::hint::black_box(Box::new(1)));
        assert_eq!(sum(), before);
    }
}
