//! The store as consumers and handles share it.

use super::counts::DeadLetterCounts;
use super::entry::{DeadLetter, Key, NewLetter};
use super::options::DeadLetterOptions;
use super::store::{MemoryStore, Put};
use crate::clock::Clock;
use crate::sync::{Mutex, MutexGuard};
use std::sync::Arc;

/// A broker's dead letters, behind a lock that is never held during a call of foreign code.
pub(crate) struct SharedStore<P> {
    store: Mutex<MemoryStore<P>>,
    keeps_error_texts: bool,
}

impl<P> SharedStore<P> {
    pub(crate) fn new(options: DeadLetterOptions) -> Self {
        let keeps_error_texts = options.keeps_error_texts();
        Self { store: Mutex::new(MemoryStore::new(options)), keeps_error_texts }
    }

    /// Returns whether error texts are worth making.
    pub(crate) fn keeps_error_texts(&self) -> bool {
        self.keeps_error_texts
    }

    /// Takes a new letter, which is dead from now on.
    pub(crate) fn put(&self, new: NewLetter<P>, clock: &Clock) -> Put<P> {
        let now = clock.now();
        self.store.lock().put(new, now, clock.wall(now))
    }

    pub(crate) fn counts(&self) -> DeadLetterCounts {
        self.store.lock().counts()
    }

    /// Takes a letter of a replay's plan, to be handed over.
    pub(crate) fn take(&self, number: u64) -> Option<Arc<DeadLetter<P>>> {
        self.store.lock().take(number)
    }

    /// Removes a letter whose replay is over, and returns it.
    #[must_use = "it is dropped outside of the lock"]
    pub(crate) fn settle_replayed(&self, key: &Key) -> Option<Arc<DeadLetter<P>>> {
        self.store.lock().settle_replayed(key)
    }

    /// Returns whether letters are being replayed.
    pub(crate) fn is_replaying(&self) -> bool {
        self.store.lock().is_replaying()
    }

    /// Ends the lease of a letter that was handed over and came back without having been handled.
    pub(crate) fn release(&self, key: &Key) {
        self.store.lock().release(key);
    }

    /// Ends the leases of letters that are not handed over.
    pub(crate) fn cancel(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut store = self.store.lock();
        numbers.into_iter().for_each(|number| store.cancel_one(number));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, MemoryStore<P>> {
        self.store.lock()
    }
}
