//! A progress bar on standard error, for people: only on a terminal, only for what takes longer
//! than two seconds.
//!
//! It is drawn by the thread that reports progress, which is never one that is measured, and has no
//! thread of its own that would disturb one.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Jobs that take less show nothing.
const WORTH_SHOWING: Duration = Duration::from_secs(2);
/// Steps of a whole bar.
const STEPS: u64 = 1_000;

/// The progress of one job. Cleared when it is dropped.
pub(crate) struct Progress {
    title: &'static str,
    started: Instant,
    expected: Option<Duration>,
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A job of a known length, shown at once if it is long enough.
    pub(crate) fn expecting(title: &'static str, expected: Duration) -> Self {
        Self::new(title, Some(expected))
    }

    /// A job of unknown length, shown once it has taken long enough.
    pub(crate) fn of_unknown_length(title: &'static str) -> Self {
        Self::new(title, None)
    }

    fn new(title: &'static str, expected: Option<Duration>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { title, started: Instant::now(), expected, terminal, bar: None }
    }

    /// Shows how much is done, from 0 to 1.
    pub(crate) fn set(&mut self, done: f64) {
        if self.is_worth_showing() {
            let title = self.title;
            let bar = self.bar.get_or_insert_with(|| draw(title));
            bar.set_position((done.clamp(0.0, 1.0) * STEPS as f64) as u64);
        }
    }

    /// Shows as much as of the expected time has passed.
    pub(crate) fn tick(&mut self) {
        if let Some(expected) = self.expected {
            self.set(self.started.elapsed().as_secs_f64() / expected.as_secs_f64().max(f64::MIN_POSITIVE));
        }
    }

    fn is_worth_showing(&self) -> bool {
        self.terminal && self.expected.unwrap_or_else(|| self.started.elapsed()) > WORTH_SHOWING
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn draw(title: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent:>3} % {elapsed}")
        .expect("a fixed template")
        .progress_chars("=> ");
    ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr())
        .with_style(style)
        .with_message(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_terminal(expected: Option<Duration>, started: Instant) -> Progress {
        Progress { title: "test", started, expected, terminal: true, bar: None }
    }

    #[test]
    fn only_what_takes_longer_than_two_seconds_is_shown() {
        let now = Instant::now();
        assert!(!on_a_terminal(Some(Duration::from_secs(2)), now).is_worth_showing());
        assert!(on_a_terminal(Some(Duration::from_secs(3)), now).is_worth_showing());
        assert!(!on_a_terminal(None, now).is_worth_showing());
        if let Some(long_ago) = now.checked_sub(Duration::from_secs(3)) {
            assert!(on_a_terminal(None, long_ago).is_worth_showing());
        }
    }

    #[test]
    fn without_a_terminal_nothing_is_shown() {
        let mut progress = on_a_terminal(Some(Duration::from_secs(3600)), Instant::now());
        progress.terminal = false;
        progress.set(0.5);
        assert!(progress.bar.is_none());
    }
}
