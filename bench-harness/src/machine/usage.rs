//! What the process, or a thread of it, has used: memory and processor time.

use std::time::Duration;

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
        let usage = resource_usage(libc::RUSAGE_SELF)?;
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

/// Returns the processor time of the calling thread; `None` where the system does not tell.
#[cfg(unix)]
pub(crate) fn thread_cpu_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a structure of the kind that the call fills.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    (status == 0).then(|| Duration::new(seconds, nanos))
}

/// Returns the processor time of the calling thread; `None` where the system does not tell.
#[cfg(not(unix))]
pub(crate) fn thread_cpu_time() -> Option<Duration> {
    None
}

/// Returns how often the calling thread was taken off its core although it had work to do; `None`
/// where the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(crate) fn involuntary_switches() -> Option<u64> {
    let usage = resource_usage(libc::RUSAGE_THREAD)?;
    u64::try_from(usage.ru_nivcsw).ok()
}

/// Returns how often the calling thread was taken off its core although it had work to do; `None`
/// where the system does not tell.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(crate) fn involuntary_switches() -> Option<u64> {
    None
}

/// Asks the system what a process, or a thread, has used.
#[cfg(unix)]
fn resource_usage(whose: libc::c_int) -> Option<libc::rusage> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to writable memory of the size and alignment of the structure that the
    // call fills.
    let status = unsafe { libc::getrusage(whose, usage.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: all of it was zeroed, which is a valid value of a structure of integers, before the
    // call filled it.
    Some(unsafe { usage.assume_init() })
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
    fn a_thread_that_spins_uses_processor_time_and_one_that_sleeps_does_not() {
        let used = |work: fn()| {
            let before = thread_cpu_time().expect("a system that tells");
            work();
            thread_cpu_time().expect("a system that tells") - before
        };
        let asleep = used(|| std::thread::sleep(Duration::from_millis(50)));
        assert!(asleep < Duration::from_millis(20), "{asleep:?}");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let spin = || {
            for turn in 0..1_000_000 {
                std::hint::black_box(turn);
            }
        };
        while used(spin) < asleep {
            assert!(std::time::Instant::now() < deadline, "20 seconds of spinning were not seen");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_must_share_its_core_is_switched_against_its_will() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (core, is_over) = (crate::machine::cores::place(None, 1)[0], &AtomicBool::new(false));
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        std::thread::scope(|scope| {
            let spin = move || {
                crate::machine::cores::pin(core).expect("a core of our mask");
                while !is_over.load(Ordering::Relaxed) {
                    let count = involuntary_switches().expect("a system that tells");
                    if count >= 3 || std::time::Instant::now() > deadline {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
                involuntary_switches()
            };
            let counts =
                [scope.spawn(spin), scope.spawn(spin)].map(|thread| thread.join().expect("no panic"));
            assert!(counts.into_iter().flatten().any(|count| count >= 3), "{counts:?}");
        });
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
