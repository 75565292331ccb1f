//! A value that is read in place, replaced whole, and reclaimed when nobody can be reading it any
//! more.
//!
//! Readers pin an epoch and never wait; a replaced value is freed two epochs later (K. Fraser,
//! "Practical lock-freedom", 2004; the implementation is crossbeam-epoch). crossbeam-epoch is
//! trusted: a model sees an atomic pointer with the same orderings in its place, and nothing is
//! freed before the end.

use super::edge::SWAP_LIST;

#[cfg(not(ringmain_loom))]
mod imp {
    use super::SWAP_LIST;
    use crossbeam_epoch::{Atomic, Owned, pin};

    #[derive(Debug)]
    pub(crate) struct Swapped<T>(Atomic<T>);

    impl<T: Send + Sync> Swapped<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Atomic::new(value))
        }

        pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
            let guard = pin();
            let shared = self.0.load(SWAP_LIST.acquire(), &guard);
            // SAFETY: the pointer is never null between `new` and `drop`, and what it led to when
            // it was loaded is not reclaimed while `guard` is pinned.
            f(unsafe { shared.deref() })
        }

        pub(crate) fn replace(&self, value: T) {
            let guard = pin();
            let old = self.0.swap(Owned::new(value), SWAP_LIST.acquire_and_release(), &guard);
            // SAFETY: `old` was unlinked by the swap, so no later reader finds it, and each value
            // is unlinked once.
            unsafe { guard.defer_destroy(old) };
        }
    }

    impl<T> Drop for Swapped<T> {
        fn drop(&mut self) {
            let last = std::mem::replace(&mut self.0, Atomic::null());
            // SAFETY: `&mut self` means that nobody reads any more, and the pointer is not null
            // (see `new`).
            drop(unsafe { last.into_owned() });
        }
    }
}

#[cfg(ringmain_loom)]
mod imp {
    use super::SWAP_LIST;
    use loom::sync::atomic::AtomicPtr;
    use std::sync::Mutex;

    /// The shipped orderings; whatever was replaced is kept until the end.
    #[derive(Debug)]
    pub(crate) struct Swapped<T> {
        current: AtomicPtr<T>,
        all: Mutex<Vec<*mut T>>,
    }

    // SAFETY: the pointers are boxes that this owns, so it is sent and shared as they would be.
    unsafe impl<T: Send + Sync> Send for Swapped<T> {}
    // SAFETY: see above.
    unsafe impl<T: Send + Sync> Sync for Swapped<T> {}

    impl<T: Send + Sync> Swapped<T> {
        pub(crate) fn new(value: T) -> Self {
            let first = Box::into_raw(Box::new(value));
            Self { current: AtomicPtr::new(first), all: Mutex::new(vec![first]) }
        }

        pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
            // SAFETY: the pointer comes from a box, and what it leads to is dropped with `self`
            // only.
            f(unsafe { &*self.current.load(SWAP_LIST.acquire()) })
        }

        pub(crate) fn replace(&self, value: T) {
            let new = Box::into_raw(Box::new(value));
            self.all.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(new);
            self.current.swap(new, SWAP_LIST.acquire_and_release());
        }
    }

    impl<T> Drop for Swapped<T> {
        fn drop(&mut self) {
            for value in self.all.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).drain(..) {
                // SAFETY: each value came from a box, and `&mut self` means that nobody reads any
                // more.
                drop(unsafe { Box::from_raw(value) });
            }
        }
    }
}

pub(crate) use imp::Swapped;
