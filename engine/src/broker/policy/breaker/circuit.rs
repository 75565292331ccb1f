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
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    pub(super) fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    pub(super) fn at(time: u64) -> Timestamp {
        Timestamp::default().after(millis(time))
    }

    fn no_clock() -> Timestamp {
        panic!("the clock was read")
    }

    pub(super) fn admitted(circuit: &mut Circuit, time: u64) -> Option<Permit> {
        match circuit.admit(|| at(time)) {
            Admission::Call(permit) => Some(permit),
            Admission::Wait => None,
        }
    }

    /// Makes a call, if it may be made, which ends at once.
    fn call(circuit: &mut Circuit, time: u64, verdict: Verdict) -> Option<Transition> {
        let permit = admitted(circuit, time).expect("may be called");
        circuit.record(permit, verdict, || at(time))
    }

    fn one_second() -> Breaker {
        Breaker::consecutive(2).open_for(millis(SECOND)..=millis(60 * SECOND)).exact()
    }

    /// A circuit that has opened at time 0 for a second.
    fn opened(breaker: Breaker) -> Circuit {
        let mut circuit = Circuit::new(breaker);
        while circuit.state() == BreakerState::Closed {
            call(&mut circuit, 0, Verdict::Failure);
        }
        assert_eq!(circuit.opens_until(), Some(at(SECOND)));
        circuit
    }

    #[test]
    fn the_scenario_of_an_outage_comes_out_exactly() {
        let mut circuit = Circuit::new(
            Breaker::consecutive(5).open_for(millis(SECOND)..=millis(60 * SECOND)).probes(3).exact(),
        );
        let mut calls = 0;
        while let Some(permit) = admitted(&mut circuit, 0) {
            calls += 1;
            circuit.record(permit, Verdict::Failure, || at(0));
        }
        assert_eq!(calls, 5);
        assert_eq!(admitted(&mut circuit, 999), None);
        let probe = admitted(&mut circuit, 1_000).expect("the sixth call");
        assert_eq!(
            circuit.record(probe, Verdict::Failure, || at(1_000)),
            Some(Transition { from: BreakerState::HalfOpen, to: BreakerState::Open })
        );
        assert_eq!(circuit.opens_until(), Some(at(3_000)));
        assert_eq!(admitted(&mut circuit, 2_999), None);
        assert_eq!(call(&mut circuit, 3_000, Verdict::Success), None);
        assert_eq!(call(&mut circuit, 3_000, Verdict::Success), None);
        assert_eq!(
            call(&mut circuit, 3_000, Verdict::Success),
            Some(Transition { from: BreakerState::HalfOpen, to: BreakerState::Closed })
        );
        assert_eq!(circuit.changes(), 5);
    }

    #[test]
    fn half_open_admits_exactly_one_call_while_the_first_hangs() {
        let mut circuit = opened(one_second());
        let first = admitted(&mut circuit, 1_000);
        assert!(first.is_some());
        for time in [1_000, 1_001, 1_999] {
            assert_eq!(admitted(&mut circuit, time), None);
        }
    }

    #[test]
    fn an_outcome_begun_before_the_break_changes_no_later_state() {
        let mut circuit = Circuit::new(one_second().probes(1));
        let old: Vec<_> = (0..4).filter_map(|_| admitted(&mut circuit, 0)).collect();
        call(&mut circuit, 0, Verdict::Failure);
        call(&mut circuit, 0, Verdict::Failure);
        assert_eq!(circuit.state(), BreakerState::Open);
        assert_eq!(circuit.record(old[0], Verdict::Success, || at(1)), None);
        assert_eq!(circuit.opens_until(), Some(at(1_000)), "a late outcome moved the open time");

        let probe = admitted(&mut circuit, 1_000).expect("a probe");
        for verdict in [Verdict::Success, Verdict::Failure, Verdict::Ignored] {
            assert_eq!(circuit.record(old[1], verdict, || at(1_000)), None);
            assert_eq!(circuit.state(), BreakerState::HalfOpen);
            assert_eq!(admitted(&mut circuit, 1_000), None, "{verdict:?} took the probe back");
        }

        circuit.record(probe, Verdict::Success, || at(1_000));
        assert_eq!(circuit.state(), BreakerState::Closed);
        for permit in old {
            assert_eq!(circuit.record(permit, Verdict::Failure, || at(1_000)), None);
        }
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[test]
    fn an_ignored_outcome_of_the_last_probe_does_not_wedge_it() {
        let mut circuit = opened(one_second().probes(2));
        call(&mut circuit, 1_000, Verdict::Success);
        for _ in 0..10 {
            assert_eq!(call(&mut circuit, 1_000, Verdict::Ignored), None);
            let unused = admitted(&mut circuit, 1_000).expect("the permit was given back");
            circuit.give_back(unused);
            assert_eq!(circuit.record(unused, Verdict::Failure, || at(1_000)), None, "given back twice");
        }
        assert_eq!(circuit.state(), BreakerState::HalfOpen);
        call(&mut circuit, 1_000, Verdict::Success);
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_never_returns_does_not_wedge_it() {
        let mut circuit = opened(one_second().probes(1));
        let lost = admitted(&mut circuit, 1_000).expect("a probe");
        assert_eq!(circuit.opens_until(), Some(at(2_000)));
        assert_eq!(admitted(&mut circuit, 1_999), None);
        let second = admitted(&mut circuit, 2_000).expect("a second probe");
        for verdict in [Verdict::Success, Verdict::Failure, Verdict::Ignored] {
            assert_eq!(circuit.record(lost, verdict, || at(2_000)), None);
        }
        circuit.give_back(lost);
        assert_eq!(admitted(&mut circuit, 2_000), None, "the lost permit took the second probe back");
        circuit.record(second, Verdict::Success, || at(2_000));
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_is_late_counts_where_none_has_taken_its_place() {
        let mut circuit = opened(one_second().probes(1));
        let late = admitted(&mut circuit, 1_000).expect("a probe");
        circuit.record(late, Verdict::Success, || at(60_000));
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[test]
    fn calls_that_take_longer_than_a_probe_may_close_it_in_the_end() {
        let mut circuit = opened(one_second().probes(1));
        let mut out: Vec<(u64, Permit)> = Vec::new();
        // One asks each tenth of a second, and each call takes five seconds.
        for time in (1_000..60_000).step_by(100) {
            out.extend(admitted(&mut circuit, time).map(|permit| (time + 5_000, permit)));
            let ended = out.iter().filter(|(end, _)| *end == time).map(|(_, permit)| *permit);
            for permit in ended {
                circuit.record(permit, Verdict::Success, || at(time));
            }
            if circuit.state() == BreakerState::Closed {
                return;
            }
        }
        panic!("no probe ever counted");
    }

    #[test]
    fn asking_for_the_state_takes_no_permit() {
        let mut circuit = opened(one_second());
        assert_eq!(circuit.state(), BreakerState::Open);
        let probe = admitted(&mut circuit, 1_000).expect("a probe");
        circuit.give_back(probe);
        for _ in 0..10 {
            assert_eq!(circuit.state(), BreakerState::HalfOpen);
            assert_eq!(circuit.opens_until(), Some(at(1_000)));
        }
        assert!(admitted(&mut circuit, 1_000).is_some());
    }

    #[test]
    fn the_first_probe_counts_against_the_limit() {
        for probes in 1..5 {
            let mut circuit = opened(one_second().probes(probes));
            for _ in 0..probes {
                assert_ne!(circuit.state(), BreakerState::Closed, "closed early, of {probes} probes");
                call(&mut circuit, 1_000, Verdict::Success);
            }
            assert_eq!(circuit.state(), BreakerState::Closed);
        }
    }

    #[test]
    fn the_success_that_fills_the_window_can_trip_it() {
        let verdicts = [Verdict::Failure, Verdict::Failure, Verdict::Success, Verdict::Success];
        for rate in [Breaker::rate(0.5, 4).at_least(4), Breaker::rate_within(0.5, millis(50)).at_least(4)] {
            let mut circuit = Circuit::new(rate);
            let changes = verdicts.map(|verdict| call(&mut circuit, 0, verdict));
            assert_eq!(changes[..3], [None; 3]);
            assert_eq!(
                changes[3],
                Some(Transition { from: BreakerState::Closed, to: BreakerState::Open }),
                "{circuit:?}"
            );
        }
    }

    #[test]
    fn it_trips_if_no_call_ever_succeeded() {
        for (breaker, calls) in [
            (Breaker::consecutive(3), 3),
            (Breaker::rate(1.0, 10), 10),
            (Breaker::rate(0.1, 1_024), 20),
            (Breaker::rate_within(1.0, millis(SECOND)), 20),
            (Breaker::default(), 5),
        ] {
            let mut circuit = Circuit::new(breaker);
            for nth in 1..=calls {
                assert_eq!(circuit.state(), BreakerState::Closed, "before call {nth}: {circuit:?}");
                call(&mut circuit, 7, Verdict::Failure);
            }
            assert_eq!(circuit.state(), BreakerState::Open, "{circuit:?}");
        }
    }

    #[test]
    fn a_failure_in_half_open_reopens_though_the_rate_is_below_the_threshold() {
        let rate = Breaker::rate(0.9, 100).at_least(10).open_for(millis(SECOND)..=millis(9_000)).exact();
        let mut circuit = opened(rate.probes(50));
        for _ in 0..20 {
            call(&mut circuit, 1_000, Verdict::Success);
        }
        call(&mut circuit, 1_000, Verdict::Failure);
        assert_eq!(circuit.state(), BreakerState::Open);
        assert_eq!(circuit.opens_until(), Some(at(3_000)));
        // The good probes before the bad one do not count the next time.
        for _ in 0..49 {
            call(&mut circuit, 3_000, Verdict::Success);
        }
        assert_eq!(circuit.state(), BreakerState::HalfOpen);
    }

    #[test]
    fn asking_while_open_changes_nothing_and_does_not_put_the_probe_off() {
        let mut circuit = opened(one_second());
        let before = format!("{circuit:?}");
        for _ in 0..1_000 {
            assert_eq!(admitted(&mut circuit, 0), None);
        }
        assert_eq!(format!("{circuit:?}"), before);
        for time in 0..1_000 {
            assert_eq!(admitted(&mut circuit, time), None);
        }
        assert!(admitted(&mut circuit, 1_000).is_some());
    }

    #[test]
    fn a_closed_circuit_does_not_read_the_clock() {
        for breaker in [Breaker::default(), Breaker::consecutive(5).slow_calls(millis(1))] {
            let mut circuit = Circuit::new(breaker);
            for verdict in [Verdict::Success, Verdict::Failure, Verdict::Ignored, Verdict::Success] {
                let Admission::Call(permit) = circuit.admit(no_clock) else { panic!("it is closed") };
                circuit.record(permit, verdict, no_clock);
            }
        }
    }

    #[test]
    fn what_needs_the_clock_says_so() {
        assert!(!Circuit::new(Breaker::default()).needs_clock());
        assert!(Circuit::new(Breaker::default().slow_calls(millis(5))).needs_clock());
        assert!(Circuit::new(Breaker::consecutive(5).or_rate_within(0.5, millis(5))).needs_clock());
    }

    #[test]
    fn a_slow_call_is_a_failure_where_that_is_asked_for() {
        let circuit = Circuit::new(Breaker::consecutive(2).slow_calls(millis(5)));
        assert_eq!(circuit.success_in(millis(5)), Verdict::Success);
        assert_eq!(circuit.success_in(millis(6)), Verdict::Failure);
        assert_eq!(Circuit::new(Breaker::default()).success_in(Duration::MAX), Verdict::Success);
    }

    #[test]
    fn outcomes_leave_a_window_of_time() {
        let mut circuit = Circuit::new(Breaker::rate_within(0.5, millis(100)).at_least(2));
        call(&mut circuit, 0, Verdict::Failure);
        assert_eq!(call(&mut circuit, 100, Verdict::Failure), None, "the first is too old");
        assert!(call(&mut circuit, 190, Verdict::Failure).is_some(), "the second is not");
    }

    #[test]
    fn after_closing_the_window_the_run_and_the_open_time_start_anew() {
        let breaker = Breaker::consecutive(3).or_rate(0.5, 10).at_least(4);
        let mut circuit = opened(breaker.probes(1).open_for(millis(SECOND)..=millis(9_000)).exact());
        call(&mut circuit, 1_000, Verdict::Failure);
        assert_eq!(circuit.opens_until(), Some(at(3_000)));
        call(&mut circuit, 3_000, Verdict::Success);
        for _ in 0..2 {
            assert_eq!(call(&mut circuit, 3_000, Verdict::Failure), None);
        }
        assert_eq!(circuit.state(), BreakerState::Closed);
        call(&mut circuit, 3_000, Verdict::Failure);
        assert_eq!(circuit.opens_until(), Some(at(4_000)));
    }

    #[test]
    fn the_open_time_doubles_up_to_its_cap() {
        let mut circuit = opened(Breaker::consecutive(2).open_for(millis(SECOND)..=millis(5_000)).exact());
        let mut now = SECOND;
        for open in [2_000, 4_000, 5_000, 5_000] {
            call(&mut circuit, now, Verdict::Failure);
            now += open;
            assert_eq!(circuit.opens_until(), Some(at(now)));
        }
    }

    #[test]
    fn any_open_time_saturates() {
        for breaker in [Breaker::consecutive(1), Breaker::consecutive(1).exact()] {
            let mut circuit = Circuit::new(breaker.open_for(millis(1)..=Duration::MAX));
            call(&mut circuit, 0, Verdict::Failure);
            for _ in 0..100 {
                let open = circuit.opens_until().expect("it is open");
                let Admission::Call(probe) = circuit.admit(|| open) else { panic!("its time has passed") };
                circuit.record(probe, Verdict::Failure, || open);
            }
            assert_eq!(circuit.opens_until(), Some(Timestamp::from_nanos(u64::MAX)));
        }
    }

    /// Open times of a handler that always fails.
    fn open_times(breaker: Breaker, number: usize) -> Vec<Duration> {
        let mut circuit = Circuit::new(breaker);
        let mut now = Timestamp::default();
        let mut times = Vec::new();
        while times.len() < number {
            let Admission::Call(permit) = circuit.admit(|| now) else { panic!("its time has passed") };
            if circuit.record(permit, Verdict::Failure, || now).is_some() {
                let until = circuit.opens_until().expect("it is open");
                times.push(until.since(now));
                now = until;
            }
        }
        times
    }

    #[test]
    fn chance_is_a_tenth_and_never_above_the_cap_nor_piled_up_at_it() {
        let breaker = Breaker::consecutive(1).open_for(millis(1_000)..=millis(4_000)).seed(7);
        let times = open_times(breaker, 1_000);
        assert!((millis(900)..=millis(1_100)).contains(&times[0]), "{times:?}");
        assert!((millis(1_800)..=millis(2_200)).contains(&times[1]), "{times:?}");
        let capped = &times[2..];
        assert!(capped.iter().all(|time| (millis(3_600)..=millis(4_000)).contains(time)), "{times:?}");
        for quarter in 0..4 {
            let range = millis(3_600 + 100 * quarter)..millis(3_700 + 100 * quarter);
            let drawn = capped.iter().filter(|time| range.contains(time)).count();
            assert!((150..350).contains(&drawn), "{drawn} of 998 in {range:?}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_times() {
        let times = |seed| open_times(Breaker::consecutive(1).seed(seed), 20);
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }

    #[test]
    fn the_turns_after_closing_make_1_2_4_8_calls_and_then_as_many_as_they_like() {
        let mut circuit = Circuit::new(one_second().probes(1));
        assert_eq!(circuit.ramp(), usize::MAX, "nothing has been wrong yet");
        call(&mut circuit, 0, Verdict::Failure);
        call(&mut circuit, 0, Verdict::Failure);
        assert_eq!(circuit.ramp(), 1);
        for round in 1..=2 {
            assert_eq!(circuit.ramp(), 1);
            call(&mut circuit, 1_000 * round, Verdict::Success);
            let turns: Vec<_> = (0..6).map(|_| circuit.ramp()).collect();
            assert_eq!(turns, [1, 2, 4, 8, usize::MAX, usize::MAX]);
            call(&mut circuit, 1_000 * round, Verdict::Failure);
            call(&mut circuit, 1_000 * round, Verdict::Failure);
        }
    }

    #[test]
    fn a_forced_state_stays_until_it_is_reset() {
        let mut circuit = Circuit::new(one_second());
        let before = admitted(&mut circuit, 0).expect("closed");
        assert_eq!(
            circuit.force_open(),
            Some(Transition { from: BreakerState::Closed, to: BreakerState::Open })
        );
        assert_eq!(circuit.opens_until(), None);
        assert_eq!(admitted(&mut circuit, u64::MAX / 2_000_000), None);
        assert_eq!(circuit.record(before, Verdict::Success, || at(0)), None);

        circuit.force_closed();
        for _ in 0..100 {
            assert_eq!(call(&mut circuit, 0, Verdict::Failure), None);
        }
        assert_eq!(circuit.state(), BreakerState::Closed);
        assert!(circuit.is_forced());

        circuit.reset();
        assert!(!circuit.is_forced());
        assert_eq!(circuit.changes(), 2);
        call(&mut circuit, 0, Verdict::Failure);
        call(&mut circuit, 0, Verdict::Failure);
        assert_eq!(circuit.state(), BreakerState::Open);
    }

    #[test]
    fn a_clock_that_goes_back_holds_nothing_up() {
        let mut circuit = Circuit::new(one_second().probes(1));
        call(&mut circuit, 50_000, Verdict::Failure);
        call(&mut circuit, 50_000, Verdict::Failure);
        assert_eq!(admitted(&mut circuit, 0), None);
        assert_eq!(circuit.opens_until(), Some(at(51_000)));
        let probe = admitted(&mut circuit, 51_000).expect("a probe");
        // The failure is told of at an earlier time: the open time begins no earlier than the probe.
        circuit.record(probe, Verdict::Failure, || at(3));
        assert_eq!(circuit.opens_until(), Some(at(53_000)));
        assert!(admitted(&mut circuit, 53_000).is_some());

        let mut timed = Circuit::new(Breaker::rate_within(1.0, millis(100)).at_least(3));
        call(&mut timed, 1_000, Verdict::Failure);
        call(&mut timed, 10, Verdict::Failure);
        assert!(call(&mut timed, 1_050, Verdict::Failure).is_some(), "all three are of the last 100 ms");
    }
}
