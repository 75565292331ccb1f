//! The slots: one allocation, each slot a stamp followed by its event.
//!
//! A slot never straddles a cache line that it could avoid: up to a line its size is rounded up to a power of two,
//! beyond that to whole lines, so that for small events one line transfer brings stamp and event, and for an event of two
//! lines no third one is touched.

use super::Sequence;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::cell::UnsafeCell;
use crate::sync::edge::PUBLISH_SLOT;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// The size of a cache line on the processors this is tuned for.
const LINE: usize = 64;

/// One cell of the ring.
#[repr(C)]
struct Slot<E> {
    stamp: AtomicU64,
    event: UnsafeCell<E>,
}

/// A ring of slots, each with its event, from the moment it is made.
pub(super) struct Slots<E> {
    base: NonNull<u8>,
    mask: u64,
    stride: usize,
    layout: Layout,
    _events: std::marker::PhantomData<Slot<E>>,
}

// SAFETY: the slots own their events, so sending them sends events. Sharing them lets several consumers hold `&E`
// at once (hence `E: Sync`) and lets one thread drop or overwrite an event that another made (hence `E: Send`).
// Who may touch which event is the ring's protocol, stated in the module documentation of `ring`.
unsafe impl<E: Send> Send for Slots<E> {}
// SAFETY: see above.
unsafe impl<E: Send + Sync> Sync for Slots<E> {}

/// The stamp of a slot that holds sequence `sequence`.
const fn stamp_of(sequence: Sequence, tombstone: bool) -> u64 {
    ((sequence + 1) << 1) | tombstone as u64
}

impl<E> Slots<E> {
    /// Allocates the ring and builds each event. `capacity` is a power of two.
    ///
    /// # Panics
    /// When the factory panics (what was built is dropped), or when the size overflows the address space.
    pub(super) fn new(capacity: usize, mut factory: impl FnMut() -> E) -> Self {
        debug_assert!(capacity.is_power_of_two());
        let size = size_of::<Slot<E>>();
        let stride = if size <= LINE { size.next_power_of_two() } else { size.next_multiple_of(LINE) };
        let stride = stride.next_multiple_of(align_of::<Slot<E>>());
        let bytes = stride.checked_mul(capacity).expect("the ring does not fit the address space");
        // Two lines: the adjacent-line prefetcher of x86 fetches aligned pairs.
        let layout = Layout::from_size_align(bytes, align_of::<Slot<E>>().max(2 * LINE))
            .expect("the ring does not fit the address space");
        // SAFETY: the layout's size is not zero, as each slot has a stamp.
        let base = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));

        /// Frees what was built if the factory panics half-way.
        struct Building<E> {
            slots: std::mem::ManuallyDrop<Slots<E>>,
            built: usize,
        }
        impl<E> Drop for Building<E> {
            fn drop(&mut self) {
                // SAFETY: the first `built` slots were written, and nobody else knows this memory.
                unsafe { self.slots.free(self.built) }
            }
        }

        let slots =
            Self { base, mask: capacity as u64 - 1, stride, layout, _events: std::marker::PhantomData };
        let mut building = Building { slots: std::mem::ManuallyDrop::new(slots), built: 0 };
        for index in 0..capacity {
            let slot = Slot { stamp: AtomicU64::new(0), event: UnsafeCell::new(factory()) };
            // SAFETY: `index * stride` is inside the allocation, aligned for a slot, and written for the first time.
            unsafe { building.slots.base.as_ptr().add(index * stride).cast::<Slot<E>>().write(slot) };
            building.built += 1;
        }
        // SAFETY: `building` is forgotten at once, so the slots are moved out exactly once.
        let slots = unsafe { std::mem::ManuallyDrop::take(&mut building.slots) };
        std::mem::forget(building);
        slots
    }

    /// Drops the first `built` slots and frees the memory.
    ///
    /// # Safety
    /// Exactly the first `built` slots hold values, nobody else uses the memory, and it is not used again.
    unsafe fn free(&mut self, built: usize) {
        for index in 0..built {
            // SAFETY: as the caller promises.
            unsafe { self.base.as_ptr().add(index * self.stride).cast::<Slot<E>>().drop_in_place() };
        }
        // SAFETY: the memory was allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }

    /// The number of slots.
    pub(super) const fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn slot(&self, sequence: Sequence) -> &Slot<E> {
        let index = (sequence & self.mask) as usize;
        // SAFETY: `index` is below the capacity, and each slot was written when the ring was made.
        unsafe { self.base.add(index * self.stride).cast::<Slot<E>>().as_ref() }
    }

    /// Whether `sequence` is published, as an event or as a tombstone. Edge `PUBLISH_SLOT`, acquire side.
    #[inline(always)]
    pub(super) fn is_published(&self, sequence: Sequence) -> bool {
        self.slot(sequence).stamp.load(PUBLISH_SLOT.acquire()) >> 1 == sequence + 1
    }

    /// Whether `sequence` has been published, and perhaps later uses of its slot as well. Edge `PUBLISH_SLOT`, acquire
    /// side.
    pub(super) fn was_published(&self, sequence: Sequence) -> bool {
        self.slot(sequence).stamp.load(PUBLISH_SLOT.acquire()) >> 1 > sequence
    }

    /// Whether a sequence, which the caller has seen published, is a tombstone.
    #[inline(always)]
    pub(super) fn is_tombstone(&self, sequence: Sequence) -> bool {
        self.slot(sequence).stamp.load(Ordering::Relaxed) & 1 == 1
    }

    /// Publishes what was written. Edge `PUBLISH_SLOT`, release side.
    #[inline(always)]
    pub(super) fn stamp(&self, sequence: Sequence, tombstone: bool) {
        self.slot(sequence).stamp.store(stamp_of(sequence, tombstone), PUBLISH_SLOT.release());
    }

    /// The event, to be read.
    ///
    /// # Safety
    /// The caller is a consumer that has seen `sequence` published and has not released it.
    #[inline(always)]
    pub(super) unsafe fn read<R>(&self, sequence: Sequence, f: impl FnOnce(&E) -> R) -> R {
        // SAFETY: published and not released means that no producer may claim this slot, so nobody writes.
        self.slot(sequence).event.with(|event| f(unsafe { &*event }))
    }

    /// The event, to be written.
    ///
    /// # Safety
    /// The caller holds the claim of `sequence` and has not stamped it.
    #[inline(always)]
    pub(super) unsafe fn write<R>(&self, sequence: Sequence, f: impl FnOnce(&mut E) -> R) -> R {
        // SAFETY: a claim is exclusive, and it was taken only once every consumer had released this slot.
        self.slot(sequence).event.with_mut(|event| f(unsafe { &mut *event }))
    }
}

impl<E> Slots<E> {
    /// Where the event lies.
    pub(super) fn pointer(&self, sequence: Sequence) -> *mut E {
        self.slot(sequence).event.with_mut(|event| event)
    }
}

impl<E> Drop for Slots<E> {
    fn drop(&mut self) {
        let capacity = self.capacity() as usize;
        // SAFETY: a complete ring holds an event in every slot, and `&mut self` means that nobody uses it.
        unsafe { self.free(capacity) };
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    #[test]
    fn small_slots_share_lines_and_large_ones_straddle_none_they_could_avoid() {
        assert_eq!(Slots::new(2, || 0_u64).stride, 16);
        assert_eq!(Slots::new(2, || [0_u8; 20]).stride, 32);
        assert_eq!(Slots::new(2, || [0_u64; 7]).stride, 64);
        assert_eq!(Slots::new(2, || [0_u64; 15]).stride, 128);
        assert_eq!(Slots::new(2, || ()).stride, 8);
    }

    #[test]
    fn a_factory_that_panics_leaks_nothing() {
        let witness = Arc::new(());
        let mut built = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            Slots::new(8, || {
                built += 1;
                assert!(built < 5, "the factory gives up");
                witness.clone()
            })
        }));
        assert!(outcome.is_err());
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn over_aligned_events_lie_aligned() {
        #[repr(align(256))]
        struct Wide(u8);
        let slots = Slots::new(4, || Wide(7));
        for sequence in 0..4 {
            // SAFETY: this test is the only user of the ring.
            unsafe {
                slots.read(sequence, |event| {
                    assert_eq!(std::ptr::from_ref(event).addr() % 256, 0);
                    assert_eq!(event.0, 7);
                });
            }
        }
    }
}
