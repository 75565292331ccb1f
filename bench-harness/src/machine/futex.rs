//! A bare wake-up: what the system charges for waking a thread, with nothing around it.

use std::sync::atomic::{AtomicU32, Ordering};

/// A word that one thread sleeps on until another one changes it.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: AtomicU32,
    #[cfg(not(target_os = "linux"))]
    sleeper: std::sync::Mutex<Option<std::thread::Thread>>,
}

impl Bell {
    /// Sleeps until the bell has rung more often than `heard` times, and returns how often it has.
    pub(crate) fn wait(&self, heard: u32) -> u32 {
        #[cfg(not(target_os = "linux"))]
        {
            *self.sleeper.lock().expect("nobody panics here") = Some(std::thread::current());
        }
        loop {
            let rings = self.rings.load(Ordering::Acquire);
            if rings != heard {
                return rings;
            }
            self.sleep(heard);
        }
    }

    /// Wakes the thread that sleeps here.
    pub(crate) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Release);
        self.wake();
    }

    #[cfg(target_os = "linux")]
    fn sleep(&self, heard: u32) {
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let no_limit = std::ptr::null::<libc::timespec>();
        // SAFETY: the word lives as long as the call, which only reads it; a null time-out means
        // none.
        unsafe { libc::syscall(libc::SYS_futex, self.rings.as_ptr(), operation, heard, no_limit) };
    }

    #[cfg(target_os = "linux")]
    fn wake(&self) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the call takes the word's address for a name and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_futex, self.rings.as_ptr(), operation, 1) };
    }

    #[cfg(not(target_os = "linux"))]
    fn sleep(&self, _heard: u32) {
        std::thread::park();
    }

    #[cfg(not(target_os = "linux"))]
    fn wake(&self) {
        if let Some(sleeper) = &*self.sleeper.lock().expect("nobody panics here") {
            sleeper.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_wakes_whoever_sleeps() {
        let bell = Bell::default();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| bell.wait(0));
            bell.ring();
            assert_eq!(sleeper.join().expect("the sleeper panicked"), 1);
        });
    }
}
