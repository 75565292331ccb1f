//! Counting instructions by the processor's own counter, where the kernel lets a process do so.
//!
//! Those of the calling thread in user space alone, which need no privilege where
//! `kernel.perf_event_paranoid` is at most 2. Virtual machines often have no such counter.

#[cfg(target_os = "linux")]
use perf_event::events::Hardware;

/// A counter of the instructions of the thread that has opened it.
#[derive(Debug)]
pub(crate) struct Counter {
    #[cfg(target_os = "linux")]
    counter: Result<perf_event::Counter, String>,
}

#[cfg(target_os = "linux")]
impl Counter {
    /// Asks the kernel for one. Never fails: without one nothing is counted.
    pub(crate) fn open() -> Self {
        let opened = perf_event::Builder::new().kind(Hardware::INSTRUCTIONS).build();
        let mut counter = Self { counter: opened.map_err(|error| error.to_string()) };
        // Some virtual machines hand out a counter that stands still.
        let counted = counter.count(|| {
            for turn in 0..1_000 {
                std::hint::black_box(turn);
            }
        });
        if counter.counter.is_ok() && counted.is_none_or(|count| count < 1_000) {
            counter.counter = Err("the counter stands still".to_owned());
        }
        counter
    }

    /// Does something, and returns the instructions that it took, with some hundred for the counting itself;
    /// `None` where they were not counted.
    pub(crate) fn count(&mut self, work: impl FnOnce()) -> Option<u64> {
        let Ok(counter) = &mut self.counter else {
            work();
            return None;
        };
        let begun = counter.reset().and_then(|()| counter.enable());
        work();
        begun.and_then(|()| counter.disable()).and_then(|()| counter.read()).ok()
    }

    /// Why nothing is counted; `None` where it is.
    pub(crate) fn unavailable(&self) -> Option<String> {
        self.counter.as_ref().err().cloned()
    }
}

#[cfg(not(target_os = "linux"))]
impl Counter {
    /// There is none.
    pub(crate) fn open() -> Self {
        Self {}
    }

    /// Does something.
    pub(crate) fn count(&mut self, work: impl FnOnce()) -> Option<u64> {
        work();
        None
    }

    /// Why nothing is counted.
    pub(crate) fn unavailable(&self) -> Option<String> {
        Some("this system has no counter that the program knows".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_work_takes_more_instructions_and_none_is_left_undone() {
        let mut counter = Counter::open();
        let mut done = 0_u64;
        let mut take =
            |turns: u64| counter.count(|| (0..turns).for_each(|turn| done += std::hint::black_box(turn % 2)));
        let (few, many) = (take(10_000), take(1_000_000));
        assert_eq!(done, 505_000);
        assert_eq!(counter.unavailable().is_none(), few.is_some());
        if let (Some(few), Some(many)) = (few, many) {
            assert!(few >= 10_000 && many > 20 * few, "{few} and {many}");
        }
    }
}
