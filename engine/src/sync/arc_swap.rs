//! A shared value that readers borrow without waiting and a writer replaces whole, by the
//! `arc-swap` crate.
//!
//! `arc-swap` is trusted: a model sees in its place an atomic number with an acquiring load and a
//! swap, which is the least that it promises, and what was replaced is kept until the end.

#[cfg(not(ringmain_loom))]
pub(crate) use arc_swap::{ArcSwap, Guard};
#[cfg(ringmain_loom)]
pub(crate) use imp::{ArcSwap, Guard};

#[cfg(ringmain_loom)]
mod imp {
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use std::ops::Deref;
    use std::sync::{Arc, Mutex, PoisonError};

    pub(crate) struct ArcSwap<T> {
        /// Which of `all` is current.
        current: AtomicUsize,
        all: Mutex<Vec<Arc<T>>>,
    }

    pub(crate) struct Guard<T>(T);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self { current: AtomicUsize::new(0), all: Mutex::new(vec![Arc::new(value)]) }
        }

        fn at(&self, index: usize) -> Arc<T> {
            self.all.lock().unwrap_or_else(PoisonError::into_inner)[index].clone()
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            Guard(self.load_full())
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.at(self.current.load(Ordering::Acquire))
        }

        pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
            let new = {
                let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(value);
                all.len() - 1
            };
            self.at(self.current.swap(new, Ordering::AcqRel))
        }
    }

    impl<T> Deref for Guard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}
