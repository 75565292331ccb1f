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
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

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
}

/// Calls `f` with pointers to the values of cells that lie side by side, which may be read while nobody writes: one call
/// for all of them.
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
