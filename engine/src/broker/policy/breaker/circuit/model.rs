//! Random tests of circuits: against a model that goes by the book, and under a clock that jumps about.

use super::tests::{admitted, at, millis};
use super::*;
use proptest::{collection, option, prelude::*};
use std::cell::Cell;

/// What is asked of a circuit.
#[derive(Clone, Debug)]
enum Step {
    Admit,
    /// The outcome of the call that was admitted so many calls ago.
    Record(usize, Verdict),
    GiveBack(usize),
    /// Calls that end at once, if they are admitted.
    Calls(Vec<bool>),
    /// Lets milliseconds pass. Or, where the clock is bad, is what the clock says.
    Time(u64),
    ForceOpen,
    ForceClosed,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ago = || prop_oneof![4 => 0..3_usize, 1 => 0..50_usize];
    let verdict = prop_oneof![
        3 => Just(Verdict::Failure),
        3 => Just(Verdict::Success),
        1 => Just(Verdict::Ignored),
    ];
    let calls = (0..=100_u8, 1..60_usize).prop_flat_map(|(percent, number)| {
        collection::vec((0..100_u8).prop_map(move |chance| chance < percent), number)
    });
    let step = prop_oneof![
        10 => Just(Step::Admit),
        10 => (ago(), verdict).prop_map(|(ago, verdict)| Step::Record(ago, verdict)),
        1 => ago().prop_map(Step::GiveBack),
        5 => calls.prop_map(Step::Calls),
        10 => (0..40_u64).prop_map(Step::Time),
        1 => prop_oneof![Just(Step::ForceOpen), Just(Step::ForceClosed)],
        1 => Just(Step::Reset),
    ];
    collection::vec(step, 1..120)
}

/// The numbers of a breaker; times are milliseconds.
#[derive(Clone, Debug)]
struct Plan {
    consecutive: Option<usize>,
    /// A percentage, of so many calls or of so much time.
    rate: Option<(usize, Result<usize, u64>)>,
    at_least: usize,
    first: u64,
    longest: u64,
    probes: u32,
}

impl Plan {
    fn breaker(&self) -> Breaker {
        let mut breaker = match self.consecutive {
            Some(failures) => Breaker::consecutive(failures as u32),
            None => Breaker::untripped(),
        };
        if let Some((percent, of)) = self.rate {
            let ratio = percent as f64 / 100.0;
            breaker = match of {
                Ok(calls) => breaker.or_rate(ratio, calls as u32),
                Err(time) => breaker.or_rate_within(ratio, millis(time)),
            }
            .at_least(self.at_least as u32);
        }
        breaker.open_for(millis(self.first)..=millis(self.longest)).probes(self.probes)
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let of = prop_oneof![(1..=140_usize).prop_map(Ok), (1..=60_u64).prop_map(|tens| Err(tens * 10))];
    (option::of(1..8_usize), option::of((1..=100_usize, of)), 1..=30_usize, 1..50_u64, 1..10_u64, 1..4_u32)
        .prop_map(|(consecutive, rate, at_least, first, times, probes)| {
            let at_least = match rate {
                Some((_, Ok(calls))) => at_least.min(calls),
                _ => at_least,
            };
            Plan { consecutive, rate, at_least, first, longest: first * times, probes }
        })
}

/// What a circuit is to do, by the book: it keeps each outcome, and judges them all each time.
struct Model {
    plan: Plan,
    situation: Situation,
    /// The failed probes since it was closed.
    setbacks: u32,
    changes: u64,
    /// The number of calls that were admitted.
    admitted: usize,
    /// Which of them count.
    counting: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Situation {
    /// When each call ended, and whether it failed.
    Closed(Vec<(u64, bool)>),
    Open(u64),
    /// The good probes so far, and until when the one that is out may be.
    HalfOpen(u32, Option<u64>),
    Forced(BreakerState),
}

impl Model {
    fn new(plan: Plan) -> Self {
        let situation = Situation::Closed(Vec::new());
        Self { plan, situation, setbacks: 0, changes: 0, admitted: 0, counting: Vec::new() }
    }

    fn state(&self) -> BreakerState {
        match self.situation {
            Situation::Closed(_) => BreakerState::Closed,
            Situation::Open(_) => BreakerState::Open,
            Situation::HalfOpen(..) => BreakerState::HalfOpen,
            Situation::Forced(state) => state,
        }
    }

    fn become_(&mut self, situation: Situation) {
        let before = self.state();
        self.situation = situation;
        self.counting.clear();
        self.changes += u64::from(before != self.state());
    }

    fn open_time(&self) -> u64 {
        self.plan.longest.min(self.plan.first << self.setbacks.min(20))
    }

    fn admit(&mut self, now: u64) -> bool {
        match self.situation {
            Situation::Closed(_) | Situation::Forced(BreakerState::Closed) => {}
            Situation::Open(until) if now >= until => {
                self.become_(Situation::HalfOpen(0, Some(now + self.open_time())));
            }
            Situation::HalfOpen(good, out) => {
                if let Some(until) = out {
                    if now < until {
                        return false;
                    }
                    self.setbacks += 1;
                }
                self.counting.clear();
                self.situation = Situation::HalfOpen(good, Some(now + self.open_time()));
            }
            _ => return false,
        }
        self.counting.push(self.admitted);
        self.admitted += 1;
        true
    }

    fn record(&mut self, call: usize, verdict: Verdict, now: u64) {
        if !self.counting.contains(&call) {
            return;
        }
        match (&mut self.situation, verdict) {
            (Situation::Closed(_), Verdict::Ignored) => {}
            (Situation::Closed(outcomes), verdict) => {
                outcomes.push((now, verdict == Verdict::Failure));
                if self.plan.trips(outcomes) {
                    self.setbacks = 0;
                    self.become_(Situation::Open(now + self.open_time()));
                }
            }
            (Situation::HalfOpen(..), Verdict::Failure) => {
                self.setbacks += 1;
                self.become_(Situation::Open(now + self.open_time()));
            }
            (Situation::HalfOpen(good, out), verdict) => {
                *good += u32::from(verdict == Verdict::Success);
                *out = None;
                self.counting.clear();
                if *good == self.plan.probes {
                    self.become_(Situation::Closed(Vec::new()));
                }
            }
            _ => {}
        }
    }

    /// Whether that is when the next probe may be admitted.
    fn may_open_at(&self, time: Option<Timestamp>, now: u64) -> bool {
        match self.situation {
            Situation::Open(until) | Situation::HalfOpen(_, Some(until)) => time == Some(at(until)),
            Situation::HalfOpen(_, None) => time.is_some_and(|time| time <= at(now)),
            Situation::Closed(_) | Situation::Forced(_) => time.is_none(),
        }
    }
}

impl Plan {
    fn trips(&self, outcomes: &[(u64, bool)]) -> bool {
        let run = outcomes.iter().rev().take_while(|(_, failed)| *failed).count();
        let is_too_bad = |percent: usize, judged: &[(u64, bool)]| {
            let failures = judged.iter().filter(|(_, failed)| *failed).count();
            judged.len() >= self.at_least && failures * 100 >= percent * judged.len()
        };
        let now = outcomes.last().map_or(0, |(time, _)| *time);
        self.consecutive.is_some_and(|limit| run >= limit)
            || match self.rate {
                None => false,
                Some((percent, Ok(calls))) => {
                    is_too_bad(percent, &outcomes[outcomes.len().saturating_sub(calls)..])
                }
                Some((percent, Err(time))) => {
                    let bucket = |at: u64| at / (time / 10);
                    let is_old = |(at, _): &(u64, bool)| bucket(*at) + 10 <= bucket(now);
                    is_too_bad(percent, &outcomes[outcomes.iter().take_while(|one| is_old(one)).count()..])
                }
            }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_circuit_does_what_its_model_does(plan in plans(), steps in steps()) {
        let mut circuit = Circuit::new(plan.breaker().exact());
        let mut model = Model::new(plan);
        let mut permits: Vec<Permit> = Vec::new();
        let mut now = 0;
        for step in steps {
            let (state, generation) = (circuit.state(), circuit.generation);
            let mut transition = None;
            match step {
                Step::Time(passed) => now += passed,
                Step::Admit => {
                    let permit = admitted(&mut circuit, now);
                    prop_assert_eq!(permit.is_some(), model.admit(now));
                    permits.extend(permit);
                }
                Step::Record(ago, verdict) if !permits.is_empty() => {
                    let call = permits.len() - 1 - ago % permits.len();
                    transition = circuit.record(permits[call], verdict, || at(now));
                    model.record(call, verdict, now);
                }
                Step::GiveBack(ago) if !permits.is_empty() => {
                    let call = permits.len() - 1 - ago % permits.len();
                    circuit.give_back(permits[call]);
                    model.record(call, Verdict::Ignored, now);
                }
                Step::Calls(calls) => {
                    for has_failed in calls {
                        let verdict = if has_failed { Verdict::Failure } else { Verdict::Success };
                        let permit = admitted(&mut circuit, now);
                        prop_assert_eq!(permit.is_some(), model.admit(now));
                        let Some(permit) = permit else { break };
                        permits.push(permit);
                        circuit.record(permit, verdict, || at(now));
                        model.record(permits.len() - 1, verdict, now);
                        prop_assert_eq!(circuit.state(), model.state());
                    }
                }
                Step::ForceOpen => {
                    transition = circuit.force_open();
                    model.become_(Situation::Forced(BreakerState::Open));
                }
                Step::ForceClosed => {
                    transition = circuit.force_closed();
                    model.become_(Situation::Forced(BreakerState::Closed));
                }
                Step::Reset => {
                    transition = circuit.reset();
                    model.become_(Situation::Closed(Vec::new()));
                }
                Step::Record(..) | Step::GiveBack(_) => {}
            }
            prop_assert_eq!(circuit.state(), model.state());
            prop_assert_eq!(circuit.changes(), model.changes);
            let opens = circuit.opens_until();
            prop_assert!(model.may_open_at(opens, now), "{opens:?}, {:?}", model.situation);
            prop_assert!(circuit.generation >= generation);
            if let Some(change) = transition {
                prop_assert_eq!(change, Transition { from: state, to: circuit.state() });
                prop_assert_ne!(change.from, change.to);
            }
        }
    }

    /// Whatever the clock says: at most one probe is out, no call is made before the open time has
    /// passed, which is bounded, and when it has passed a call is made.
    #[test]
    fn no_clock_can_confuse_a_circuit(plan in plans(), seed in any::<u64>(), steps in steps()) {
        // Chance takes off a tenth at most.
        let times = millis(plan.first) * 9 / 10..=millis(plan.longest);
        let mut circuit = Circuit::new(plan.breaker().seed(seed));
        let mut permits: Vec<Permit> = Vec::new();
        // The probe that is out, and when it has to be given up.
        let mut out: Option<(Permit, Timestamp)> = None;
        let clock = Cell::new(at(0));
        // The latest time that the circuit has read.
        let latest = Cell::new(at(0));
        let now = || {
            latest.set(latest.get().max(clock.get()));
            clock.get()
        };
        for step in steps {
            let (before, generation) = (circuit.state(), circuit.generation);
            match step {
                // A clock that jumps about.
                Step::Time(time) => clock.set(at(time * 25)),
                Step::Admit | Step::Calls(_) => {
                    let opens = circuit.opens_until();
                    let Admission::Call(permit) = circuit.admit(now) else {
                        prop_assert_ne!(before, BreakerState::Closed);
                        prop_assert!(circuit.is_forced() || circuit.opens_until() > Some(latest.get()));
                        continue;
                    };
                    permits.push(permit);
                    if before != BreakerState::Closed {
                        prop_assert!(opens.is_some_and(|opens| latest.get() >= opens), "too early");
                        if let Some((_, until)) = out {
                            prop_assert!(latest.get() >= until, "two probes are out");
                        }
                        let until = circuit.opens_until().expect("a probe is out");
                        prop_assert!(times.contains(&until.since(latest.get())));
                        out = Some((permit, until));
                    }
                }
                Step::Record(ago, verdict) if !permits.is_empty() => {
                    let permit = permits[permits.len() - 1 - ago % permits.len()];
                    circuit.record(permit, verdict, now);
                    out = out.filter(|(probe, _)| *probe != permit);
                    if before != BreakerState::Open && circuit.state() == BreakerState::Open {
                        let until = circuit.opens_until().expect("it is open");
                        prop_assert!(times.contains(&until.since(latest.get())));
                    }
                }
                Step::GiveBack(ago) if !permits.is_empty() => {
                    let permit = permits[permits.len() - 1 - ago % permits.len()];
                    circuit.give_back(permit);
                    out = out.filter(|(probe, _)| *probe != permit);
                }
                Step::ForceOpen => drop(circuit.force_open()),
                Step::ForceClosed => drop(circuit.force_closed()),
                Step::Reset => drop(circuit.reset()),
                Step::Record(..) | Step::GiveBack(_) => {}
            }
            if circuit.state() != BreakerState::HalfOpen {
                out = None;
            }
            prop_assert!(circuit.generation >= generation);
        }
        if circuit.is_forced() {
            circuit.reset();
        }
        let time = circuit.opens_until().unwrap_or_default();
        prop_assert!(matches!(circuit.admit(|| time), Admission::Call(_)), "wedged");
    }
}
