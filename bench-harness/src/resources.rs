//! What the process has used: memory, processor time, and (in [`allocations`]) calls to the allocator.

pub(crate) mod allocations;
pub(crate) mod futex;

use serde::Serialize;

/// Memory and processor time of this process since its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// The most memory that was ever resident.
    pub(crate) peak_rss_bytes: u64,
    pub(crate) cpu_s: CpuSeconds,
}

/// Processor time in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct CpuSeconds {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl CpuSeconds {
    /// What was used since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

impl Usage {
    /// Asks the system; `None` where it does not tell.
    #[cfg(unix)]
    pub(crate) fn of_process() -> Option<Self> {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to writable memory of the size and alignment of the structure that the call fills.
        let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        if status != 0 {
            return None;
        }
        // SAFETY: all of it was zeroed, which is a valid value of a structure of integers, before the call filled it.
        let usage = unsafe { usage.assume_init() };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        // Apple's systems count bytes, all others kibibytes.
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1_024 };
        Some(Self {
            peak_rss_bytes: u64::try_from(usage.ru_maxrss).ok()? * unit,
            cpu_s: CpuSeconds { user: seconds(usage.ru_utime), system: seconds(usage.ru_stime) },
        })
    }

    /// Asks the system; `None` where it does not tell.
    #[cfg(not(unix))]
    pub(crate) fn of_process() -> Option<Self> {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_shows_in_the_peak() {
        const SIZE: usize = 64 << 20;
        let touched = vec![1_u8; SIZE];
        let usage = Usage::of_process().expect("a system that tells");
        assert!(usage.peak_rss_bytes > std::hint::black_box(&touched).len() as u64, "{usage:?}");
    }

    #[test]
    fn spinning_shows_in_the_processor_time() {
        let before = Usage::of_process().expect("a system that tells").cpu_s;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let used = Usage::of_process().expect("a system that tells").cpu_s.since(before);
            if used.user + used.system > 0.02 {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "20 seconds of spinning were not seen");
        }
    }
}
