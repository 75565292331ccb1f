//! The slots: one allocation, in one of two layouts.
//!
//! *Stamped*: each slot is a stamp followed by its event. Its size is rounded up, to a power of two
//! up to a cache line, and to whole lines beyond. So a slot never straddles a line that it could
//! avoid: one line transfer brings stamp and event of a small event, and an event of two lines
//! touches no third one.
//!
//! *Dense*: the events side by side as in an array, and one published cursor on a line of its own.

use super::error::BuildError;
use super::sequence::Sequence;
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::cell::{self, UnsafeCell, with_slice};
use crate::sync::edge::{PUBLISH_CURSOR, PUBLISH_SLOT};
use crate::sync::hint;
use crate::sync::panics::guard;
use std::alloc::{Layout as Memory, alloc, dealloc};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::Range;
use std::ptr::NonNull;

/// The size of a cache line on the processors this is tuned for.
const LINE: usize = 64;

/// Prefetch distance in events: a cache-line fetch outlasts a short handler.
const AHEAD: u64 = 8;

/// Layout of a ring's events in memory, and how their publication is announced.
///
/// | | `Stamped` | `Dense` |
/// |---|---|---|
/// | producers | one or many | one |
/// | memory a slot | event and 8 bytes, rounded up to a power of two or whole lines | the event |
/// | a lone event reaches a consumer with | one line transfer | two: the cursor, then the event |
/// | a batch of small events | a look at each stamp, or at a far one | one look at the cursor, slices |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// A stamp in the event's first cache line. Lowest latency, and the one layout for many
    /// producers.
    #[default]
    Stamped,
    /// Events side by side and one published cursor. Highest throughput of small events from one
    /// producer.
    Dense,
}

/// One cell of a stamped ring.
#[repr(C)]
struct Slot<E> {
    stamp: AtomicU64,
    event: UnsafeCell<E>,
}

/// State of a sequence, as its slot's stamp tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// It is published as an event, and its slot not used again.
    Event,
    /// The same, as a tombstone.
    Tombstone,
    /// It is not published, or its slot was used again.
    Nothing,
}

/// What writes an event in place.
///
/// A trait of its own, because the compiler can be told to inline a method always, and not a
/// closure. A writer that is called out of line goes through the stack, stored word by word and
/// loaded again, perhaps in wider pieces. Such a load cannot be forwarded from the store buffer: it
/// waits until all older stores have left it, those to the previous slot's lines included.
pub(crate) trait Write<E> {
    /// Writes the event, which still holds what it held a capacity ago.
    fn write(self, event: &mut E);
}

impl<E, F: FnOnce(&mut E)> Write<E> for F {
    #[inline(always)]
    fn write(self, event: &mut E) {
        self(event);
    }
}

/// Slots of a ring, each of which always holds an event.
pub(super) struct Slots<E> {
    base: NonNull<u8>,
    mask: u64,
    stride: usize,
    /// Offset of an event in its slot.
    offset: usize,
    layout: Layout,
    /// Dense layout: all below it is published.
    cursor: CachePadded<AtomicU64>,
    memory: Memory,
    _events: PhantomData<Slot<E>>,
}

// SAFETY: the slots own their events, so sending them sends events. Sharing them lets several
// consumers hold `&E` at once (hence `E: Sync`) and lets one thread drop or overwrite an event that
// another made (hence `E: Send`). The ring's protocol says who may touch which event, see
// `ring::protocol`.
unsafe impl<E: Send> Send for Slots<E> {}
// SAFETY: see above.
unsafe impl<E: Send + Sync> Sync for Slots<E> {}

/// Returns the stamp of a slot that holds sequence `sequence`.
const fn stamp_of(sequence: Sequence, tombstone: bool) -> u64 {
    ((sequence + 1) << 1) | tombstone as u64
}

/// Returns the stamp of slot `index` in a ring whose first sequence is `first`: that of the last
/// use before it, if any.
fn first_stamp(first: Sequence, capacity: u64, index: u64) -> u64 {
    let back = (first.wrapping_sub(1).wrapping_sub(index)) & (capacity - 1);
    // The greatest sequence below `first` that lies in this slot.
    first.checked_sub(1 + back).map_or(0, |sequence| stamp_of(sequence, false))
}

/// Slots that are being built: the first `built` hold an event. Dropped early, because the factory
/// has panicked, it frees what there is.
struct Building<E> {
    slots: ManuallyDrop<Slots<E>>,
    built: usize,
}

impl<E> Building<E> {
    /// Builds the next event where it is to lie.
    ///
    /// Never inline: an event that is too large for the stack must not be in the frame of who finds
    /// out that there is no memory for it.
    #[inline(never)]
    fn build_next(&mut self, first: Sequence, factory: &mut impl FnMut() -> E) {
        let slots = &*self.slots;
        let (index, capacity) = (self.built, slots.capacity());
        debug_assert!((index as u64) < capacity);
        // SAFETY: the slot lies inside the allocation, aligned for what is written there for the
        // first time. A stamp has no drop: it may be left behind by a factory that panics.
        unsafe {
            let place = slots.base.as_ptr().add(index * slots.stride);
            if slots.layout == Layout::Stamped {
                let stamp = AtomicU64::new(first_stamp(first, capacity, index as u64));
                place.add(offset_of!(Slot<E>, stamp)).cast::<AtomicU64>().write(stamp);
            }
            cell::init(place.add(slots.offset).cast::<UnsafeCell<E>>(), factory);
        }
        self.built += 1;
    }

    fn finish(mut self) -> Slots<E> {
        debug_assert_eq!(self.built as u64, self.slots.capacity());
        // SAFETY: `self` is forgotten at once, so the slots are moved out exactly once.
        let slots = unsafe { ManuallyDrop::take(&mut self.slots) };
        std::mem::forget(self);
        slots
    }
}

impl<E> Drop for Building<E> {
    fn drop(&mut self) {
        // SAFETY: the first `built` slots were written, and nobody else knows this memory.
        unsafe { self.slots.free(self.built) }
    }
}

impl<E> Slots<E> {
    /// Allocates the ring and builds each event. `capacity` is a power of two; sequences start at
    /// `first`.
    ///
    /// # Errors
    /// [`BuildError::Memory`]: the factory has not been called.
    ///
    /// # Panics
    /// When the factory panics; what was built is dropped.
    pub(super) fn new(
        layout: Layout,
        capacity: usize,
        first: Sequence,
        mut factory: impl FnMut() -> E,
    ) -> Result<Self, BuildError> {
        let slots = Self::allocate(layout, capacity, first)?;
        let mut building = Building { slots: ManuallyDrop::new(slots), built: 0 };
        for _ in 0..capacity {
            building.build_next(first, &mut factory);
        }
        Ok(building.finish())
    }

    /// Allocates the memory, and writes nothing there.
    fn allocate(layout: Layout, capacity: usize, first: Sequence) -> Result<Self, BuildError> {
        debug_assert!(capacity.is_power_of_two());
        let (stride, offset, align) = match layout {
            Layout::Stamped => {
                let size = size_of::<Slot<E>>();
                let stride =
                    if size <= LINE { size.next_power_of_two() } else { size.next_multiple_of(LINE) };
                let stride = stride.next_multiple_of(align_of::<Slot<E>>());
                (stride, offset_of!(Slot<E>, event), align_of::<Slot<E>>())
            }
            Layout::Dense => (size_of::<UnsafeCell<E>>(), 0, align_of::<UnsafeCell<E>>()),
        };
        // At least one byte: an allocation may not be empty.
        let bytes = stride.saturating_mul(capacity).max(1);
        let refused = || BuildError::Memory { capacity, bytes };
        // Two lines: the adjacent-line prefetcher of x86 fetches aligned pairs.
        let memory = Memory::from_size_align(bytes, align.max(2 * LINE)).map_err(|_| refused())?;
        // SAFETY: the size is not zero, see above.
        let base = NonNull::new(unsafe { alloc(memory) }).ok_or_else(refused)?;
        let cursor = CachePadded::new(AtomicU64::new(first));
        let mask = capacity as u64 - 1;
        Ok(Self { base, mask, stride, offset, layout, cursor, memory, _events: PhantomData })
    }

    /// Drops the first `built` slots and frees the memory.
    ///
    /// # Safety
    /// Exactly the first `built` slots hold values, nobody else uses the memory, and it is not used
    /// again.
    unsafe fn free(&mut self, built: usize) {
        for index in 0..built {
            // The value's drop is user code: one that panics costs itself alone.
            //
            // SAFETY: as the caller promises.
            guard(|| unsafe {
                let place = self.base.as_ptr().add(index * self.stride);
                match self.layout {
                    Layout::Stamped => place.cast::<Slot<E>>().drop_in_place(),
                    Layout::Dense => place.cast::<UnsafeCell<E>>().drop_in_place(),
                }
            });
        }
        // SAFETY: the memory was allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.memory) };
    }

    /// Returns the number of slots.
    pub(super) const fn capacity(&self) -> u64 {
        self.mask + 1
    }

    /// How the events lie.
    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    #[inline(always)]
    fn place(&self, sequence: Sequence) -> *mut u8 {
        let index = (sequence & self.mask) as usize;
        // SAFETY: `index` is below the capacity, so the place lies inside the allocation.
        unsafe { self.base.as_ptr().add(index * self.stride) }
    }

    /// Prefetches the event `AHEAD` places behind one that is about to be handled, if it lies
    /// before `end`.
    #[inline(always)]
    pub(super) fn prefetch(&self, sequence: Sequence, end: Sequence) {
        // Several smaller events share a line, and the processor's own prefetcher keeps up.
        if self.stride >= LINE && sequence + AHEAD < end {
            let place = self.place(sequence + AHEAD);
            hint::prefetch(place);
            hint::prefetch(place.wrapping_add(self.stride - 1));
        }
    }

    #[inline(always)]
    fn slot_stamp(&self, sequence: Sequence) -> &AtomicU64 {
        debug_assert_eq!(self.layout, Layout::Stamped);
        // SAFETY: each slot was written when the ring was made; its stamp comes first (`repr(C)`).
        unsafe { &(*self.place(sequence).cast::<Slot<E>>()).stamp }
    }

    #[inline(always)]
    fn event(&self, sequence: Sequence) -> &UnsafeCell<E> {
        // SAFETY: each place was written when the ring was made, and its event lies there.
        unsafe { &*self.place(sequence).add(self.offset).cast::<UnsafeCell<E>>() }
    }

    /// Returns whether `sequence` is published, as an event or as a tombstone, and its slot not
    /// used again. Edges `PUBLISH_SLOT` and `PUBLISH_CURSOR`, acquire side.
    #[inline(always)]
    pub(super) fn is_published(&self, sequence: Sequence) -> bool {
        match self.layout {
            Layout::Stamped => self.slot_stamp(sequence).load(PUBLISH_SLOT.acquire()) >> 1 == sequence + 1,
            Layout::Dense => self.cursor() > sequence,
        }
    }

    /// Returns what `sequence` is published as, in a stamped ring. Edge `PUBLISH_SLOT`, acquire
    /// side.
    #[inline(always)]
    pub(super) fn stamped(&self, sequence: Sequence) -> Stamp {
        let stamp = self.slot_stamp(sequence).load(PUBLISH_SLOT.acquire());
        match stamp ^ stamp_of(sequence, false) {
            0 => Stamp::Event,
            1 => Stamp::Tombstone,
            _ => Stamp::Nothing,
        }
    }

    /// Returns whether `sequence` has been published, and perhaps later uses of its slot as well.
    /// Edges as above.
    pub(super) fn was_published(&self, sequence: Sequence) -> bool {
        match self.layout {
            Layout::Stamped => self.slot_stamp(sequence).load(PUBLISH_SLOT.acquire()) >> 1 > sequence,
            Layout::Dense => self.cursor() > sequence,
        }
    }

    /// Returns the end of what is published, in a dense ring. Edge `PUBLISH_CURSOR`, acquire side.
    #[inline(always)]
    pub(super) fn cursor(&self) -> Sequence {
        self.cursor.load(PUBLISH_CURSOR.acquire())
    }

    /// Returns whether a sequence, which the caller has seen published, is a tombstone.
    #[inline(always)]
    pub(super) fn is_tombstone(&self, sequence: Sequence) -> bool {
        // A single producer leaves none, and dense rings have a single producer.
        self.layout == Layout::Stamped && self.slot_stamp(sequence).load(Ordering::Relaxed) & 1 == 1
    }

    /// Returns the first events without a tombstone between them, of a run that is published up to
    /// `end`.
    pub(super) fn first_events(&self, from: Sequence, end: Sequence) -> Range<Sequence> {
        let first = (from..end).find(|&sequence| !self.is_tombstone(sequence)).unwrap_or(end);
        first..(first..end).find(|&sequence| self.is_tombstone(sequence)).unwrap_or(end)
    }

    /// Returns the end of a published run without the tombstones at its end, so that its last event
    /// is known.
    #[inline(always)]
    pub(super) fn without_tombstones(&self, from: Sequence, mut end: Sequence) -> Sequence {
        while end > from && self.is_tombstone(end - 1) {
            end -= 1;
        }
        end
    }

    /// Publishes what was written: an event, or a tombstone. Edges `PUBLISH_SLOT` and
    /// `PUBLISH_CURSOR`, release side.
    #[inline(always)]
    pub(super) fn publish(&self, sequence: Sequence, tombstone: bool) {
        match self.layout {
            Layout::Stamped => {
                self.slot_stamp(sequence).store(stamp_of(sequence, tombstone), PUBLISH_SLOT.release());
            }
            Layout::Dense => self.cursor.store(sequence + 1, PUBLISH_CURSOR.release()),
        }
    }

    /// Lets `f` read the event.
    ///
    /// # Safety
    /// The caller is a consumer that has seen `sequence` published and has not released it.
    #[inline(always)]
    pub(super) unsafe fn read<R>(&self, sequence: Sequence, f: impl FnOnce(&E) -> R) -> R {
        // SAFETY: published and not released means that no producer may claim this slot, so nobody
        // writes.
        self.event(sequence).with(|event| f(unsafe { &*event }))
    }

    /// Hands events over as slices, each with the sequence of its first event: as many at once as
    /// lie side by side.
    ///
    /// # Safety
    /// The caller is a consumer that has seen all from `first` up to `end` published and has not
    /// released any of it.
    #[inline(always)]
    pub(super) unsafe fn read_slices(
        &self,
        first: Sequence,
        end: Sequence,
        mut f: impl FnMut(&[E], Sequence),
    ) {
        let mut at = first;
        while at < end {
            let cells = match self.layout {
                Layout::Stamped => std::slice::from_ref(self.event(at)),
                Layout::Dense => {
                    let count = (end - at).min(self.capacity() - (at & self.mask));
                    // SAFETY: dense cells lie side by side, and these do not go past the seam. The
                    // pointer may reach them all, which one made from a reference to the first
                    // might not.
                    unsafe {
                        std::slice::from_raw_parts(self.place(at).cast::<UnsafeCell<E>>(), count as usize)
                    }
                }
            };
            with_slice(cells, |events: *const [E]| {
                // SAFETY: as for `read`.
                let events = unsafe { &*events };
                let first = at;
                at += events.len() as u64;
                f(events, first);
            });
        }
    }

    /// Lets `f` write the event.
    ///
    /// # Safety
    /// The caller holds the claim of `sequence` and has not stamped it; or it is the only consumer
    /// that may touch it at this time: it has seen `sequence` published and all stages before it
    /// finish with it, and no other is at its stage.
    #[inline(always)]
    pub(super) unsafe fn write(&self, sequence: Sequence, writer: impl Write<E>) {
        let event = self.event(sequence).get_mut();
        // SAFETY: a claim belongs to one producer, which took it after every consumer had released
        // this slot. A mutating consumer's turn comes after every earlier stage's and before any
        // later one's.
        writer.write(unsafe { event.deref() });
    }

    /// Returns where the event lies.
    pub(super) fn pointer(&self, sequence: Sequence) -> *mut E {
        self.event(sequence).with_mut(|event| event)
    }
}

impl<E> Drop for Slots<E> {
    fn drop(&mut self) {
        let capacity = self.capacity() as usize;
        // SAFETY: a complete ring holds an event in every slot, and `&mut self` means that nobody
        // uses it.
        unsafe { self.free(capacity) };
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    fn stamped<E>(capacity: usize, factory: impl FnMut() -> E) -> Slots<E> {
        slots(Layout::Stamped, capacity, 0, factory)
    }

    fn slots<E>(layout: Layout, capacity: usize, first: Sequence, factory: impl FnMut() -> E) -> Slots<E> {
        Slots::new(layout, capacity, first, factory).expect("memory")
    }

    #[test]
    fn small_slots_share_lines_and_large_ones_straddle_none_they_could_avoid() {
        assert_eq!(stamped(2, || 0_u64).stride, 16);
        assert_eq!(stamped(2, || [0_u8; 20]).stride, 32);
        assert_eq!(stamped(2, || [0_u64; 7]).stride, 64);
        assert_eq!(stamped(2, || [0_u64; 15]).stride, 128);
        assert_eq!(stamped(2, || ()).stride, 8);
    }

    #[test]
    fn dense_slots_are_an_array() {
        assert_eq!(slots(Layout::Dense, 2, 0, || [0_u8; 20]).stride, 20);
        assert_eq!(slots(Layout::Dense, 2, 0, || ()).stride, 0);
    }

    #[test]
    fn a_ring_that_starts_late_looks_as_if_all_before_had_been_published() {
        for first in [0, 1, 3, 8, 9, 13, (1 << 62) - 5] {
            let slots = slots(Layout::Stamped, 8, first, || ());
            for sequence in first.saturating_sub(8)..first {
                assert!(slots.is_published(sequence), "{sequence} before {first}");
            }
            for sequence in first..first + 8 {
                assert!(!slots.was_published(sequence), "{sequence} from {first} on");
            }
        }
    }

    #[test]
    fn a_factory_that_panics_leaks_nothing() {
        for layout in [Layout::Stamped, Layout::Dense] {
            let witness = Arc::new(());
            let mut built = 0;
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                slots(layout, 8, 0, || {
                    built += 1;
                    assert!(built < 5, "the factory gives up");
                    witness.clone()
                })
            }));
            assert!(outcome.is_err());
            assert_eq!(Arc::strong_count(&witness), 1);
        }
    }

    #[test]
    fn over_aligned_events_lie_aligned() {
        #[repr(align(256))]
        struct Wide(u8);
        for layout in [Layout::Stamped, Layout::Dense] {
            let slots = slots(layout, 4, 0, || Wide(7));
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
}
