//! Tests of the breaker's machine.

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
    assert_eq!(circuit.force_open(), Some(Transition { from: BreakerState::Closed, to: BreakerState::Open }));
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
