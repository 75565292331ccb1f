//! The store as consumers and handles share it.

use super::counts::DeadLetterCounts;
#[cfg(feature = "durable-dead-letters")]
use super::durable::{DurableStatus, FlushError, OpenReport, changes::WriterNumbers};
use super::entry::{DeadLetter, Key, NewLetter};
use super::options::DeadLetterOptions;
use super::store::{MemoryStore, Put};
use crate::clock::Clock;
use crate::sync::{Mutex, MutexGuard};
use std::sync::Arc;
#[cfg(feature = "durable-dead-letters")]
use std::time::{Duration, Instant};

/// A broker's dead letters, behind a lock that is never held during a call of foreign code.
pub(crate) struct SharedStore<P> {
    store: Mutex<MemoryStore<P>>,
    keeps_error_texts: bool,
    /// What was found where letters outlive the process.
    #[cfg(feature = "durable-dead-letters")]
    opened: Option<OpenReport>,
}

impl<P> SharedStore<P> {
    pub(crate) fn new(options: DeadLetterOptions) -> Self {
        let keeps_error_texts = options.keeps_error_texts();
        Self {
            store: Mutex::new(MemoryStore::new(options)),
            keeps_error_texts,
            #[cfg(feature = "durable-dead-letters")]
            opened: None,
        }
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

    /// Takes a new letter, if no other has to make room for it.
    #[cfg(feature = "durable-dead-letters")]
    pub(crate) fn put_beside(&self, new: NewLetter<P>, clock: &Clock) -> Result<Put<P>, Box<NewLetter<P>>> {
        let now = clock.now();
        self.store.lock().put_beside(new, now, clock.wall(now))
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

#[cfg(feature = "durable-dead-letters")]
impl<P> SharedStore<P> {
    /// Shares a store whose letters outlive the process.
    pub(super) fn of(store: MemoryStore<P>, keeps_error_texts: bool, opened: Option<OpenReport>) -> Self {
        Self { store: Mutex::new(store), keeps_error_texts, opened }
    }

    pub(super) fn opened(&self) -> Option<&OpenReport> {
        self.opened.as_ref()
    }

    /// Returns how durable the letters are; nothing where they are kept in memory alone.
    pub(crate) fn durable(&self) -> Option<DurableStatus> {
        self.store.lock().changes().map(|changes| changes.status())
    }

    /// Waits until all that has changed by now is durable, at most until the deadline, which is that limit away.
    pub(crate) fn flush(&self, deadline: Option<Instant>, limit: Duration) -> Result<(), FlushError> {
        let mut store = self.store.lock();
        let changes = store.changes().ok_or(FlushError::Volatile)?;
        let (noted, signal) = (changes.hurry(), changes.signal.clone());
        loop {
            let Some(changes) = store.changes() else { return Err(FlushError::Volatile) };
            if changes.is_settled(noted) {
                return match changes.unwritable() {
                    0 => Ok(()),
                    letters => Err(FlushError::Unwritable { letters }),
                };
            }
            let behind = changes.behind();
            if changes.is_over {
                return Err(FlushError::Closed { behind });
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let reason = changes.failure().map(ToOwned::to_owned);
                return Err(FlushError::TimedOut { limit, behind, reason });
            }
            store = signal.done.wait_until(store, deadline);
        }
    }

    /// Returns what metrics say of the writer, where letters outlive the process.
    pub(crate) fn writer_numbers(&self) -> Option<WriterNumbers> {
        self.store.lock().changes().map(|changes| changes.numbers())
    }

    /// Has no more written, once all that is there has been; does not wait for that.
    pub(crate) fn stop_writing(&self) {
        if let Some(changes) = self.store.lock().changes() {
            changes.stop();
        }
    }

    /// Has no more written, once all that is there has been, and waits for that until then.
    pub(crate) fn end_writing(&self, until: Instant) {
        let mut store = self.store.lock();
        let Some(changes) = store.changes() else { return };
        changes.stop();
        let signal = changes.signal.clone();
        while Instant::now() < until && store.changes().is_some_and(|changes| !changes.is_over) {
            store = signal.done.wait_until(store, Some(until));
        }
    }
}
