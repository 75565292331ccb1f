//! What a breaker lets through, as its documentation says it, where each call ends at once.
//!
//! Whether it is open or half-open shows only in the moment from which on a call may come. Where chance is in an open
//! time, that moment is known by its bounds.

use std::collections::VecDeque;

use super::scenario::{Breaker, Force, Nanos, WhileOpen};

/// A moment by its bounds.
pub(crate) type Range = (Nanos, Nanos);

pub(crate) struct Circuit<'s> {
    form: &'s Breaker,
    mode: Mode,
    failures_in_a_row: u32,
    /// Which of the last calls have failed.
    window: VecDeque<bool>,
    good_probes: u32,
    open_time: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Closed,
    /// Open until then, and half-open from then on.
    Probing(Range),
    ForcedOpen,
    ForcedClosed,
}

impl<'s> Circuit<'s> {
    pub(crate) fn new(form: &'s Breaker) -> Self {
        let window = VecDeque::new();
        Self { form, mode: Mode::Closed, failures_in_a_row: 0, window, good_probes: 0, open_time: form.open }
    }

    /// From when on a call may come, at the earliest and at the latest. Nothing where it is held open.
    pub(crate) fn opens(&self) -> Option<Range> {
        match self.mode {
            Mode::Closed | Mode::ForcedClosed => Some((0, 0)),
            Mode::Probing(until) => Some(until),
            Mode::ForcedOpen => None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.mode, Mode::Closed | Mode::ForcedClosed)
    }

    /// Whether what comes now waits for it.
    pub(crate) fn holds(&self) -> bool {
        !self.is_closed() && self.form.while_open == WhileOpen::Pause
    }

    /// Whether the program may say that it is in this state.
    pub(crate) fn may_be(&self, state: &str) -> bool {
        match self.mode {
            Mode::Closed | Mode::ForcedClosed => state == "closed",
            Mode::Probing(_) => ["open", "half-open"].contains(&state),
            Mode::ForcedOpen => state == "open",
        }
    }

    pub(crate) fn force(&mut self, force: Force) {
        self.mode = match force {
            Force::Open => Mode::ForcedOpen,
            Force::Closed => Mode::ForcedClosed,
            Force::Reset => return self.close(),
        };
    }

    fn close(&mut self) {
        (self.mode, self.failures_in_a_row) = (Mode::Closed, 0);
        self.window.clear();
    }

    /// A call has ended: whether it has failed, unless that says nothing of the handler.
    pub(crate) fn record(&mut self, has_failed: Option<bool>, at: Nanos) {
        let Some(has_failed) = has_failed else { return };
        match self.mode {
            Mode::ForcedOpen | Mode::ForcedClosed => {}
            Mode::Closed => {
                self.failures_in_a_row = if has_failed { self.failures_in_a_row + 1 } else { 0 };
                self.window.push_back(has_failed);
                if self.trips() {
                    self.open(self.form.open, at);
                }
            }
            Mode::Probing(_) if has_failed => self.open((self.open_time * 2).min(self.form.cap), at),
            Mode::Probing(_) => {
                self.good_probes += 1;
                if self.good_probes >= self.form.probes {
                    self.close();
                }
            }
        }
    }

    fn trips(&mut self) -> bool {
        let is_a_row = self.form.consecutive.is_some_and(|most| self.failures_in_a_row >= most);
        let Some((share, size, minimum)) = self.form.rate else { return is_a_row };
        while self.window.len() > size as usize {
            self.window.pop_front();
        }
        let failures = self.window.iter().filter(|has_failed| **has_failed).count();
        let calls = self.window.len();
        is_a_row || calls >= minimum as usize && 100 * failures >= share as usize * calls
    }

    fn open(&mut self, open_time: Nanos, at: Nanos) {
        let tenth = if self.form.is_exact { 0 } else { open_time / 10 };
        self.open_time = open_time;
        self.good_probes = 0;
        self.mode = Mode::Probing((
            at + open_time - tenth,
            at + (open_time + tenth).min(self.form.cap.max(open_time)),
        ));
    }
}
