//! A global allocator that counts, so that "no allocation per message" is a figure and not a claim.
//!
//! Counting is off except within [`count`], because a contended counter would slow whoever
//! allocates (rivals do) and not us. While it is off a call costs one load that is predicted; while
//! it is on, two relaxed additions on a line that threads seldom share. Threads take the lines in
//! turn.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// Lines that threads take in turn.
const SHARDS: usize = 64;

/// How often memory was asked for and given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocations {
    /// Blocks asked for; growing or shrinking one counts as asking.
    pub(crate) allocated: u64,
    /// Blocks given back.
    pub(crate) freed: u64,
    /// Bytes of the blocks that were asked for and not given back, without what the allocator adds
    /// to each; less than none where older ones were given back.
    pub(crate) kept_bytes: i64,
}

/// The counts of the threads that share a line.
#[repr(align(128))]
struct Shard {
    allocated: AtomicU64,
    freed: AtomicU64,
    kept_bytes: AtomicI64,
}

impl Shard {
    const fn new() -> Self {
        Self { allocated: AtomicU64::new(0), freed: AtomicU64::new(0), kept_bytes: AtomicI64::new(0) }
    }
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static SHARED: [Shard; SHARDS] = [const { Shard::new() }; SHARDS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's shard. Constant and without a destructor, so that reaching it allocates
    /// nothing.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Counts what all threads allocate and free while `work` runs. What a thread did is in the count
/// when it was joined, or has handed something over, before `work` returns. One count at a time.
pub(crate) fn count<R>(work: impl FnOnce() -> R) -> (R, Allocations) {
    let before = sum();
    COUNTING.store(true, Ordering::Relaxed);
    let result = work();
    COUNTING.store(false, Ordering::Relaxed);
    let after = sum();
    let counted = Allocations {
        allocated: after.allocated - before.allocated,
        freed: after.freed - before.freed,
        kept_bytes: after.kept_bytes - before.kept_bytes,
    };
    (result, counted)
}

fn sum() -> Allocations {
    let mut sum = Allocations::default();
    for shard in &SHARED {
        sum.allocated += shard.allocated.load(Ordering::Relaxed);
        sum.freed += shard.freed.load(Ordering::Relaxed);
        sum.kept_bytes += shard.kept_bytes.load(Ordering::Relaxed);
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

/// A block of so many bytes, in the place of one of `former` bytes.
#[inline]
fn allocated(size: usize, former: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        let mine = mine();
        mine.allocated.fetch_add(1, Ordering::Relaxed);
        // Sizes of blocks are below 2^63.
        mine.kept_bytes.fetch_add(size as i64 - former as i64, Ordering::Relaxed);
    }
}

#[inline]
fn freed(size: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        let mine = mine();
        mine.freed.fetch_add(1, Ordering::Relaxed);
        mine.kept_bytes.fetch_sub(size as i64, Ordering::Relaxed);
    }
}

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every method hands its arguments to the system's allocator unchanged and its answer back
// unchanged, so the contract holds as it does there; counting touches atomics and a constant
// thread-local, and neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size(), 0);
        // SAFETY: the caller's promises about the layout are the ones that the system's allocator
        // asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size(), 0);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        allocated(size, layout.size());
        // SAFETY: the block came from the system's allocator with this layout, because all blocks
        // do; the caller promises the rest.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        freed(layout.size());
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
        const SIZE: usize = 64 << 20;
        let (mut block, counted) = count(|| Vec::<u8>::with_capacity(2 * SIZE));
        assert!(counted.kept_bytes > SIZE as i64, "{counted:?}");
        let ((), counted) = count(|| block.shrink_to(1));
        assert!(counted.kept_bytes < -(SIZE as i64), "{counted:?}");
        drop(block);
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
