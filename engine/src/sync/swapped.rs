//! A value that is read in place, replaced whole, and reclaimed when nobody can be reading it any more.
//!
//! Readers pin an epoch and never wait; a replaced value is freed two epochs later (K. Fraser, "Practical
//! lock-freedom", 2004; the implementation is crossbeam-epoch). crossbeam-epoch is trusted: a model sees a plain
//! shared pointer in its place.

#[cfg(not(ringmain_loom))]
mod imp {
    use crossbeam_epoch::{Atomic, Owned, pin};
    use std::sync::atomic::Ordering;

    #[derive(Debug)]
    pub(crate) struct Swapped<T>(Atomic<T>);

    impl<T: Send + Sync> Swapped<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Atomic::new(value))
        }

        pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
            let guard = pin();
            let shared = self.0.load(Ordering::Acquire, &guard);
            // SAFETY: the pointer is never null between `new` and `drop`, and what it led to when it was loaded is
            // not reclaimed while `guard` is pinned.
            f(unsafe { shared.deref() })
        }

        pub(crate) fn replace(&self, value: T) {
            let guard = pin();
            let old = self.0.swap(Owned::new(value), Ordering::AcqRel, &guard);
            // SAFETY: `old` was unlinked by the swap, so no later reader finds it, and each value is unlinked once.
            unsafe { guard.defer_destroy(old) };
        }
    }

    impl<T> Drop for Swapped<T> {
        fn drop(&mut self) {
            let last = std::mem::replace(&mut self.0, Atomic::null());
            // SAFETY: `&mut self` means that nobody reads any more, and the pointer is not null (see `new`).
            drop(unsafe { last.into_owned() });
        }
    }
}

#[cfg(ringmain_loom)]
mod imp {
    use std::sync::{Arc, RwLock};

    #[derive(Debug)]
    pub(crate) struct Swapped<T>(RwLock<Arc<T>>);

    impl<T: Send + Sync> Swapped<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(RwLock::new(Arc::new(value)))
        }

        pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
            let value = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
            f(&value)
        }

        pub(crate) fn replace(&self, value: T) {
            *self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(value);
        }
    }
}

pub(crate) use imp::Swapped;
