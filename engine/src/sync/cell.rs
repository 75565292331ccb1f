//! `UnsafeCell` with loom's access-by-closure interface, so that a model sees each read and write of an event.

#[cfg(ringmain_loom)]
pub use loom::cell::UnsafeCell;

/// Interior mutability whose every access is a closure over a raw pointer.
#[cfg(not(ringmain_loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(ringmain_loom))]
impl<T> UnsafeCell<T> {
    /// Calls `f` with a pointer that may be read while nobody writes.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Calls `f` with a pointer that may be written while nobody else reads or writes.
    #[inline(always)]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }

    /// Returns a pointer that may be written while nobody else reads or writes. It is for where a
    /// closure will not do: one that is called out of line captures through memory.
    #[inline(always)]
    pub(crate) fn get_mut(&self) -> MutPtr<T> {
        MutPtr(self.0.get())
    }
}

/// Pointer to a cell's value, for writing it.
#[cfg(not(ringmain_loom))]
#[derive(Debug)]
pub(crate) struct MutPtr<T>(*mut T);

#[cfg(not(ringmain_loom))]
impl<T> MutPtr<T> {
    /// Returns the value.
    ///
    /// # Safety
    /// The cell lives, and nobody else reads or writes it, as long as the reference is used.
    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "loom's has this form, and keeps watch while the pointer is there"
    )]
    pub(crate) unsafe fn deref(&self) -> &mut T {
        // SAFETY: as the caller promises.
        unsafe { &mut *self.0 }
    }
}

/// Makes a cell at a place that holds none yet. What `make` returns goes there without further copies
/// on the stack, which a large value might overflow.
///
/// # Safety
/// The place is aligned, and may be written.
#[cfg(not(ringmain_loom))]
pub(crate) unsafe fn init<T>(place: *mut UnsafeCell<T>, make: impl FnOnce() -> T) {
    // SAFETY: as the caller promises; the cell has the layout of its value (`repr(transparent)`,
    // twice).
    unsafe { place.cast::<T>().write(make()) };
}

/// The same in a model, whose cells are larger than their values.
///
/// # Safety
/// As above.
#[cfg(ringmain_loom)]
pub(crate) unsafe fn init<T>(place: *mut UnsafeCell<T>, make: impl FnOnce() -> T) {
    // SAFETY: as the caller promises.
    unsafe { place.write(UnsafeCell::new(make())) };
}

/// Calls `f` with pointers to the values of cells that lie side by side, which may be read while nobody writes: one
/// call for all of them.
#[cfg(not(ringmain_loom))]
#[inline(always)]
pub(crate) fn with_slice<T>(cells: &[UnsafeCell<T>], mut f: impl FnMut(*const [T])) {
    // The cell has the layout of its value (`repr(transparent)`, twice).
    f(std::ptr::from_ref(cells) as *const [T]);
}

/// The same in a model, whose cells are larger than their values: one call for each.
#[cfg(ringmain_loom)]
pub(crate) fn with_slice<T>(cells: &[UnsafeCell<T>], mut f: impl FnMut(*const [T])) {
    for cell in cells {
        cell.with(|value| f(std::ptr::slice_from_raw_parts(value, 1)));
    }
}
