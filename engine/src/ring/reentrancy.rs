//! Which rings this thread is inside of: it runs a handler of theirs, or fills one of their events.
//!
//! A thread that waits for room in such a ring may wait for itself. Each poll, and each publish of
//! one of many producers, puts a frame on a list that lives on this thread's own stack. Only a
//! publish that is about to wait walks the list; see `circle`.

use super::part::{Blocked, Part};
use crate::sync::constant_per_thread;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

constant_per_thread! {
    static INNERMOST: Cell<*const Frame<'static>> = Cell::new(ptr::null());
}

/// Place on the list, for a thread that enters a ring.
pub(super) struct Frame<'p> {
    part: *const Part,
    outer: *const Frame<'static>,
    _part: PhantomData<&'p Part>,
}

impl<'p> Frame<'p> {
    #[inline(always)]
    pub(super) fn new(part: &'p Part) -> Self {
        Self { part, outer: INNERMOST.with(Cell::get), _part: PhantomData }
    }

    /// Enters the ring until the guard is dropped, panic or not. A guard must not be forgotten: the
    /// frame would end while it is on the list.
    #[inline(always)]
    pub(super) fn enter(&self) -> Inside<'_> {
        INNERMOST.with(|innermost| innermost.set(ptr::from_ref(self).cast()));
        Inside(self.outer, PhantomData)
    }
}

/// Guard of a thread that is inside a ring.
#[must_use = "dropped, it leaves the ring"]
pub(super) struct Inside<'f>(*const Frame<'static>, PhantomData<&'f Part>);

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.0));
    }
}

/// Runs `f` as a part of a ring.
#[inline(always)]
pub(crate) fn inside<R>(part: &Part, f: impl FnOnce() -> R) -> R {
    let frame = Frame::new(part);
    let _inside = frame.enter();
    f()
}

/// All parts that a thread plays at a moment: the list as it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts(*const Frame<'static>);

impl Parts {
    /// Returns those of this thread, if there are any.
    #[cold]
    pub(super) fn of_this_thread() -> Option<Self> {
        let innermost = INNERMOST.with(Cell::get);
        (!innermost.is_null()).then_some(Self(innermost))
    }

    /// Returns whether one of them keeps a ring blocked.
    ///
    /// # Safety
    /// The thread whose parts these are has, since they were looked up, left none of the rings.
    #[cold]
    pub(super) unsafe fn block(self, blocked: &Blocked) -> bool {
        let mut at = self.0;
        // SAFETY: frames are on the stack of their thread, and each is taken off the list before it
        // ends, which the caller excludes.
        while let Some(frame) = unsafe { at.as_ref() } {
            // SAFETY: a frame is on the list for no longer than its part is borrowed.
            if unsafe { &*frame.part }.blocks(blocked) {
                return true;
            }
            at = frame.outer;
        }
        false
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::part::Role;
    use super::super::position::Position;
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Whether this thread blocks the ring with that number at its sequence 4.
    fn blocks(ring: u64) -> bool {
        let blocked = Blocked { ring, at: 4, is_published: true };
        // SAFETY: this thread looks them up, and leaves no ring before it returns.
        Parts::of_this_thread().is_some_and(|parts| unsafe { parts.block(&blocked) })
    }

    #[test]
    fn a_thread_is_inside_all_rings_whose_code_it_runs_and_outside_once_that_has_returned_or_panicked() {
        let [one, other] = [1, 2].map(|ring| Part::new(ring, Role::Consumes(Position::new(4))));
        let nested = || {
            inside(&one, || {
                assert!(blocks(1) && !blocks(2));
                inside(&other, || {
                    assert!(blocks(1) && blocks(2));
                    std::thread::scope(|scope| {
                        scope.spawn(|| assert!(!blocks(1)));
                    });
                    panic!("out of both at once");
                })
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(nested)).is_err());
        assert!(Parts::of_this_thread().is_none());
    }

    #[test]
    fn a_consumer_blocks_its_ring_while_it_stands_at_what_is_wanted() {
        let position = Position::new(4);
        let consumer = Part::new(1, Role::Consumes(position.clone()));
        inside(&consumer, || {
            assert!(blocks(1));
            position.release(5);
            assert!(!blocks(1));
        });
    }

    #[test]
    fn who_fills_a_slot_blocks_a_ring_whose_wanted_slot_is_not_published() {
        let filler = Part::new(1, Role::Fills);
        assert!(!filler.blocks(&Blocked { ring: 1, at: 4, is_published: true }));
        assert!(filler.blocks(&Blocked { ring: 1, at: 4, is_published: false }));
    }
}
