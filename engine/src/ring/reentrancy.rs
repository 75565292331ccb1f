//! Which rings this thread is inside of: it runs a handler of theirs, or fills one of their events.
//!
//! A thread that waits for room in such a ring waits for itself. Each poll, and each publish of one
//! of many producers, puts a frame on a list that lives on this thread's own stack. Only a publish
//! that is about to wait walks the list.

use crate::sync::constant_per_thread;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

constant_per_thread! {
    static INNERMOST: Cell<*const Frame> = Cell::new(ptr::null());
}

/// Place on the list, for a thread that enters a ring.
pub(super) struct Frame {
    /// The address that tells this ring from others.
    ring: *const (),
    outer: *const Frame,
}

impl Frame {
    #[inline(always)]
    pub(super) fn new<T>(ring: *const T) -> Self {
        Self { ring: ring.cast(), outer: INNERMOST.with(Cell::get) }
    }

    /// Enters the ring until the guard is dropped, panic or not. A guard must not be forgotten: the
    /// frame would end while it is on the list.
    #[inline(always)]
    pub(super) fn enter(&self) -> Inside<'_> {
        INNERMOST.with(|innermost| innermost.set(self));
        Inside(self.outer, PhantomData)
    }
}

/// Guard of a thread that is inside a ring.
#[must_use = "dropped, it leaves the ring"]
pub(super) struct Inside<'f>(*const Frame, PhantomData<&'f Frame>);

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.0));
    }
}

/// Runs `f` as a part of the given ring.
#[inline(always)]
pub(super) fn inside<T, R>(ring: *const T, f: impl FnOnce() -> R) -> R {
    let frame = Frame::new(ring);
    let _inside = frame.enter();
    f()
}

/// Returns whether this thread is inside the given ring.
#[cold]
pub(super) fn is_inside<T>(ring: *const T) -> bool {
    let mut at = INNERMOST.with(Cell::get);
    // SAFETY: frames are on this thread's stack, below whoever asks, and each is taken off the list
    // before it ends.
    while let Some(frame) = unsafe { at.as_ref() } {
        if frame.ring == ring.cast() {
            return true;
        }
        at = frame.outer;
    }
    false
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_thread_is_inside_all_rings_whose_code_it_runs_and_outside_once_that_has_returned_or_panicked() {
        let (one, other) = (1_u64, 2_u64);
        let nested = || {
            inside(&raw const one, || {
                assert!(is_inside(&raw const one) && !is_inside(&raw const other));
                inside(&raw const other, || {
                    assert!(is_inside(&raw const one) && is_inside(&raw const other));
                    std::thread::scope(|scope| {
                        let one = &one;
                        scope.spawn(move || assert!(!is_inside(std::ptr::from_ref(one))));
                    });
                    panic!("out of both at once");
                })
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(nested)).is_err());
        assert!(!is_inside(&raw const one) && !is_inside(&raw const other));
    }
}
