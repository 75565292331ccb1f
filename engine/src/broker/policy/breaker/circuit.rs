//! The machine behind a breaker: which calls go through, and what follows from how they end.
//!
//! One consumer owns it and drives it. It has no lock and no clock: who drives it hands it the time,
//! and it reads it only where it needs it. It acts on the latest time it has been handed: where a clock
//! goes back, as those of two cores can by a little, time stands still until it has caught up.
//!
//! ```text
//!             trips                    open time has passed
//!  ┌──────┐ ────────► ┌──────┐ ─────────────────────────────► ┌─────────┐
//!  │closed│           │ open │                                │half-open│
//!  └──────┘           └──────┘ ◄───────────────────────────── └─────────┘
//!     ▲                          a probe fails: twice as long      │
//!     └────────────────────────────────────────────────────────────┘
//!                      so many probes have ended well
//! ```
//!
//! # Generations
//!
//! A call gets a permit that has the circuit's generation. The generation goes up with each change of
//! state, with each probe that is sent, and with each that is taken back. So the outcome of a call
//! counts exactly if its permit is of the present generation: what began before the circuit opened
//! changes nothing later, and of the probes only the one that is out counts, once.

use super::window::Window;
use super::{Breaker, BreakerState, Jitter, WhileOpen};
use crate::clock::Timestamp;
use fastrand::Rng;
use std::time::Duration;

/// The most calls of a turn after closing, before there is no limit any more.
const LAST_STEP: usize = 8;

/// A breaker at work. See the [module](self).
#[derive(Debug)]
pub(crate) struct Circuit {
    mode: Mode,
    generation: u64,
    /// The failures since the last success. They are counted in 64 bits, so as never to overflow.
    run: u64,
    /// The failures in a row that trip it.
    run_limit: u64,
    window: Window,
    /// The latest time that it has been handed.
    latest: Timestamp,
    /// While open: when the first probe may go. While a probe is out: when another may take its place.
    until: Timestamp,
    is_probe_out: bool,
    good_probes: u32,
    /// For how long it opens, or a probe may last, before chance.
    open_time: Duration,
    /// The same after chance, drawn anew with each change of it.
    drawn_time: Duration,
    /// Chance, where open times are not exact.
    random: Option<Rng>,
    changes: u64,
    /// The calls that the next turn may make.
    step: usize,
    breaker: Breaker,
}

/// The state, and whether it is forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Closed,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
}

/// The answer to who asks for leave to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The call may be made. How it ended is to be [recorded](Circuit::record); if it is not made
    /// after all, the permit is to be [given back](Circuit::give_back).
    Call(Permit),
    /// Not now: the circuit is open, or a probe is out.
    Wait,
}

/// Leave to make one call. One that is lost costs nothing but time: another probe takes the place of
/// one that is out for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    generation: u64,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Well. Where slow calls are watched, [`Circuit::success_in`] says whether it was one.
    Success,
    Failure,
    /// In a way that says nothing of the handler, such as that it has not come to be called.
    Ignored,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
}

impl Circuit {
    /// A closed circuit. The breaker has passed its [check](Breaker::check).
    pub(crate) fn new(breaker: Breaker) -> Self {
        debug_assert_eq!(breaker.check(), Ok(()));
        Self {
            mode: Mode::Closed,
            generation: 0,
            run: 0,
            run_limit: breaker.consecutive.map_or(u64::MAX, u64::from),
            window: Window::new(&breaker),
            latest: Timestamp::default(),
            until: Timestamp::default(),
            is_probe_out: false,
            good_probes: 0,
            open_time: breaker.first_open,
            drawn_time: breaker.first_open,
            random: match breaker.jitter {
                Jitter::Random => Some(Rng::new()),
                Jitter::Seeded(seed) => Some(Rng::with_seed(seed)),
                Jitter::Exact => None,
            },
            changes: 0,
            step: usize::MAX,
            breaker,
        }
    }

    /// Asks for leave to call. While the circuit is closed it does not read the clock. When the open
    /// time has passed, this is what makes the circuit half-open, and the permit is the first probe's.
    #[inline]
    pub(crate) fn admit(&mut self, now: impl FnOnce() -> Timestamp) -> Admission {
        if self.mode != Mode::Closed {
            return self.admit_unless_closed(now());
        }
        Admission::Call(Permit { generation: self.generation })
    }

    /// Tells how an admitted call ended. The outcome of a call of an older generation changes nothing.
    ///
    /// While the circuit is closed it reads the clock where a rate is taken of a time, and where the
    /// outcome opens it.
    #[inline]
    pub(crate) fn record(
        &mut self,
        permit: Permit,
        verdict: Verdict,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<Transition> {
        if permit.generation != self.generation {
            return None;
        }
        if self.mode != Mode::Closed {
            return self.record_unless_closed(verdict, now());
        }
        let has_failed = match verdict {
            Verdict::Success => false,
            Verdict::Failure => true,
            Verdict::Ignored => return None,
        };
        if has_failed {
            self.run += 1;
            if self.run >= self.run_limit {
                // The window does not get to know, and need not: it starts anew before it is asked again.
                return self.trip(now());
            }
        } else {
            self.run = 0;
        }
        match &mut self.window {
            Window::None => None,
            Window::Calls(window) => {
                let is_reached = window.add(has_failed);
                if is_reached { self.trip(now()) } else { None }
            }
            Window::Time(_) => self.record_in_time(has_failed, now()),
        }
    }

    /// Tells that a call ended well that began while calls went through and nothing else was told since, and of which
    /// the time does not matter. Returns whether that has changed the state.
    #[inline(always)]
    pub(crate) fn succeed(&mut self, now: impl FnOnce() -> Timestamp) -> bool {
        if self.mode != Mode::Closed {
            return false;
        }
        self.run = 0;
        match &mut self.window {
            // The success that fills the window can be what trips it.
            Window::Calls(window) => window.add(false) && self.trip(now()).is_some(),
            Window::None | Window::Time(_) => false,
        }
    }

    /// The same of a call that began then, at this moment.
    pub(crate) fn succeed_since(&mut self, begun: Timestamp, now: Timestamp) -> bool {
        self.record(self.permit(), self.success_in(now.since(begun)), || now).is_some()
    }

    /// Returns the permit of a call that has begun while calls went through, if nothing was told since.
    pub(crate) fn permit(&self) -> Permit {
        Permit { generation: self.generation }
    }

    /// Gives the permit of a call back that was not made.
    pub(crate) fn give_back(&mut self, permit: Permit) {
        if permit.generation == self.generation && self.is_probe_out {
            self.end_probe();
        }
    }

    /// The verdict on a call that ended well and took so long.
    pub(crate) fn success_in(&self, took: Duration) -> Verdict {
        match self.breaker.slow {
            Some(longest) if took > longest => Verdict::Failure,
            _ => Verdict::Success,
        }
    }

    /// The state. Asking takes no permit, and changes nothing: an open circuit whose time has passed
    /// is open until somebody asks for leave to call.
    pub(crate) fn state(&self) -> BreakerState {
        match self.mode {
            Mode::Closed | Mode::ForcedClosed => BreakerState::Closed,
            Mode::Open | Mode::ForcedOpen => BreakerState::Open,
            Mode::HalfOpen => BreakerState::HalfOpen,
        }
    }

    /// Whether the state stays as it is until a [reset](Self::reset).
    #[cfg(all(test, not(ringmain_loom)))]
    pub(crate) fn is_forced(&self) -> bool {
        matches!(self.mode, Mode::ForcedOpen | Mode::ForcedClosed)
    }

    /// When the next probe may be admitted, if nothing is recorded before. In half-open with no probe
    /// out that is a moment which has passed. `None` where calls go through, and where it is forced
    /// open.
    pub(crate) fn opens_until(&self) -> Option<Timestamp> {
        match self.mode {
            Mode::Open => Some(self.until),
            Mode::HalfOpen if self.is_probe_out => Some(self.until),
            Mode::HalfOpen => Some(self.latest),
            Mode::Closed | Mode::ForcedOpen | Mode::ForcedClosed => None,
        }
    }

    /// Whether calls are to be timed, or the time to be at hand when they end. What a circuit reads of
    /// a clock besides, it reads seldom.
    pub(crate) fn needs_clock(&self) -> bool {
        self.breaker.slow.is_some() || matches!(self.window, Window::Time(_))
    }

    /// What becomes of messages while it is open.
    pub(crate) fn while_open(&self) -> WhileOpen {
        self.breaker.while_open
    }

    /// How often the state has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Opens it until it is reset.
    pub(crate) fn force_open(&mut self) -> Option<Transition> {
        self.enter(Mode::ForcedOpen)
    }

    /// Closes it until it is reset: all calls go through, and how they end is not looked at.
    pub(crate) fn force_closed(&mut self) -> Option<Transition> {
        self.enter(Mode::ForcedClosed)
    }

    /// Closes it, with everything as it was at the start, and looks at outcomes again.
    pub(crate) fn reset(&mut self) -> Option<Transition> {
        self.close()
    }

    /// How many of the messages that have waited may be handed to the handler in this turn: 1, 2, 4
    /// and 8 in the first turns after closing, then no limit. Each asking is a turn. Before, it is 1,
    /// the probe's.
    pub(crate) fn ramp(&mut self) -> usize {
        if self.state() != BreakerState::Closed {
            return 1;
        }
        let step = self.step;
        self.step = if step < LAST_STEP { step * 2 } else { usize::MAX };
        step
    }

    #[cold]
    fn admit_unless_closed(&mut self, now: Timestamp) -> Admission {
        self.latest = self.latest.max(now);
        match self.mode {
            Mode::Closed | Mode::ForcedClosed => Admission::Call(Permit { generation: self.generation }),
            Mode::ForcedOpen => Admission::Wait,
            Mode::Open if self.latest < self.until => Admission::Wait,
            Mode::HalfOpen if self.is_probe_out && self.latest < self.until => Admission::Wait,
            Mode::Open => {
                self.enter(Mode::HalfOpen);
                self.good_probes = 0;
                self.send_probe()
            }
            Mode::HalfOpen => {
                if self.is_probe_out {
                    // Or no probe would ever count of a handler whose calls all take longer than one may.
                    self.lengthen();
                }
                self.send_probe()
            }
        }
    }

    fn send_probe(&mut self) -> Admission {
        self.generation += 1;
        self.is_probe_out = true;
        self.until = self.latest.after(self.drawn_time);
        Admission::Call(Permit { generation: self.generation })
    }

    /// Takes the permit of the probe that is out.
    fn end_probe(&mut self) {
        self.generation += 1;
        self.is_probe_out = false;
    }

    /// Records an outcome whose permit is of the present generation.
    #[cold]
    fn record_unless_closed(&mut self, verdict: Verdict, now: Timestamp) -> Option<Transition> {
        self.latest = self.latest.max(now);
        if self.mode != Mode::HalfOpen {
            return None;
        }
        match verdict {
            Verdict::Failure => {
                self.lengthen();
                self.open()
            }
            Verdict::Success if self.good_probes + 1 >= self.breaker.probes => self.close(),
            Verdict::Success => {
                self.good_probes += 1;
                self.end_probe();
                None
            }
            Verdict::Ignored => {
                self.end_probe();
                None
            }
        }
    }

    /// Records an outcome of a closed circuit whose rate is taken of a time.
    fn record_in_time(&mut self, has_failed: bool, now: Timestamp) -> Option<Transition> {
        self.latest = self.latest.max(now);
        let Window::Time(window) = &mut self.window else { return None };
        if window.add(has_failed, self.latest) { self.trip(now) } else { None }
    }

    #[cold]
    fn trip(&mut self, now: Timestamp) -> Option<Transition> {
        self.latest = self.latest.max(now);
        self.open_time = self.breaker.first_open;
        self.draw();
        self.open()
    }

    fn open(&mut self) -> Option<Transition> {
        self.until = self.latest.after(self.drawn_time);
        self.enter(Mode::Open)
    }

    fn close(&mut self) -> Option<Transition> {
        self.run = 0;
        self.window.clear();
        self.enter(Mode::Closed)
    }

    fn enter(&mut self, mode: Mode) -> Option<Transition> {
        let from = self.state();
        self.mode = mode;
        self.generation += 1;
        self.is_probe_out = false;
        let to = self.state();
        if from == to {
            return None;
        }
        if to == BreakerState::Closed {
            self.step = 1;
        }
        self.changes += 1;
        Some(Transition { from, to })
    }

    /// Doubles the time, up to the longest.
    fn lengthen(&mut self) {
        self.open_time = self.open_time.saturating_mul(2).min(self.breaker.longest_open);
        self.draw();
    }

    /// Draws a time that is at most a tenth off, and never above the longest.
    fn draw(&mut self) {
        self.drawn_time = match &mut self.random {
            None => self.open_time,
            Some(random) => {
                let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let time = nanos(self.open_time);
                // The cap bounds what is drawn from and not what is drawn, or half of all draws
                // would be the cap itself.
                let most = time.saturating_add(time / 10).min(nanos(self.breaker.longest_open));
                Duration::from_nanos(random.u64(time - time / 10..=most))
            }
        };
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod model;

#[cfg(all(test, not(ringmain_loom)))]
mod tests;
