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

struct Frame {
    /// The address that tells this ring from others.
    ring: *const (),
    outer: *const Frame,
}

/// Runs `f` as a part of the given ring.
#[inline(always)]
pub(super) fn inside<T, R>(ring: *const T, f: impl FnOnce() -> R) -> R {
    struct Leaving<'f>(*const Frame, PhantomData<&'f Frame>);
    impl Drop for Leaving<'_> {
        #[inline(always)]
        fn drop(&mut self) {
            INNERMOST.with(|innermost| innermost.set(self.0));
        }
    }
    let frame = Frame { ring: ring.cast(), outer: INNERMOST.with(Cell::get) };
    // Taken off again, panic or not, before the frame is gone.
    let _leaving = Leaving(frame.outer, PhantomData);
    INNERMOST.with(|innermost| innermost.set(&raw const frame));
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
