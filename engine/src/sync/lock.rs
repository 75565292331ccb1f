//! Mutex and condition variable for slow paths.
//!
//! A poisoned lock is taken all the same: every critical section of the engine leaves its data
//! consistent at each step, and a panic elsewhere must not take the control plane down.

use std::time::{Duration, Instant};

#[cfg(ringmain_loom)]
use loom::sync as imp;
#[cfg(not(ringmain_loom))]
use std::sync as imp;

pub use imp::MutexGuard;

/// A lock for slow paths.
#[derive(Debug, Default)]
pub struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    /// A free lock around a value.
    #[cfg(not(ringmain_loom))]
    pub const fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// A free lock around a value.
    #[cfg(ringmain_loom)]
    pub fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// Waits for the lock, poisoned or not.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the lock, poisoned or not, unless somebody has it: for who comes again later. In a model,
    /// where there is no later, waits for it.
    pub fn lock_unless_taken(&self) -> Option<MutexGuard<'_, T>> {
        #[cfg(ringmain_loom)]
        return Some(self.lock());
        #[cfg(not(ringmain_loom))]
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// A condition variable whose waits may have a deadline.
#[derive(Debug)]
pub struct Condvar(imp::Condvar);

impl Condvar {
    /// A condition variable nobody waits on.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(imp::Condvar::new())
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits for a notification, at most until the deadline. Wakes spuriously, as all of its kind.
    /// In a model time does not pass: a wake-up that only the deadline would save is a deadlock,
    /// and reported as one.
    pub fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        #[cfg(not(ringmain_loom))]
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            return match self.0.wait_timeout(guard, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        let _ = deadline;
        self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for a notification, at most for so long, and says whether that time has passed. Wakes
    /// spuriously, as all of its kind. In a model time does not pass, and may have: the lock is
    /// given up once, and the answer is yes.
    pub fn wait_at_most<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        lock: &'a Mutex<T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        #[cfg(ringmain_loom)]
        {
            let _ = limit;
            // No yield: it would have the others run to their end first.
            drop(guard);
            (lock.lock(), true)
        }
        #[cfg(not(ringmain_loom))]
        {
            let _ = lock;
            let (guard, timed_out) =
                self.0.wait_timeout(guard, limit).unwrap_or_else(|poisoned| poisoned.into_inner());
            (guard, timed_out.timed_out())
        }
    }
}

/// A lock of nothing but a right: one thread at a time has it. Unlike a
/// [`Mutex`] it can be waited for with a deadline.
#[derive(Debug)]
pub struct TimedLock {
    is_taken: Mutex<bool>,
    given_back: Condvar,
}

/// The right, until it is dropped.
#[derive(Debug)]
pub struct TimedLockGuard<'a>(&'a TimedLock);

impl TimedLock {
    /// Returns a right that nobody has.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { is_taken: Mutex::new(false), given_back: Condvar::new() }
    }

    /// Waits for the right, at most until the deadline.
    pub fn lock_until(&self, deadline: Option<Instant>) -> Option<TimedLockGuard<'_>> {
        let mut is_taken = self.is_taken.lock();
        while *is_taken {
            if deadline.is_some_and(|at| Instant::now() >= at) {
                return None;
            }
            is_taken = self.given_back.wait_until(is_taken, deadline);
        }
        *is_taken = true;
        Some(TimedLockGuard(self))
    }
}

impl Drop for TimedLockGuard<'_> {
    fn drop(&mut self) {
        *self.0.is_taken.lock() = false;
        self.0.given_back.notify_all();
    }
}
