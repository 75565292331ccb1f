//! What follows from a report: whether its bounds are met, and the exit code.

use super::schema::{OpenLoop, Report};
use crate::exit::Exit;
use crate::machine::floor::FloorNs;
use crate::machine::noise;
use crate::stats::{LatencyNs, Stalls};
use crate::units::{grouped, time, times};

impl Report {
    /// Judges the bounds where they are to be checked: one that was missed is a failed check,
    /// unless the machine was so busy with other things that nothing follows.
    pub(crate) fn judge_bounds(&mut self, check: bool) {
        self.shows_bounds = check;
        let missed: Vec<_> = self
            .bounds
            .iter()
            .filter(|bound| !bound.met)
            .map(|bound| format!("{}: {:.2} {}, {}", bound.name, bound.value, bound.unit, bound.limit()))
            .collect();
        if !check {
            return;
        }
        let all = self.bounds.len();
        self.verdict = Some(match missed.len() {
            0 => format!("all {all} bounds are met"),
            missed => format!("{missed} of {all} bounds are missed"),
        });
        if missed.is_empty() {
            return;
        }
        if self.noise_ns.is_some_and(|noise| noise::is_noisy(&noise)) {
            self.too_noisy = Some(format!(
                "this machine was busy with other things, so that nothing follows from the bounds that \
                 were missed: {}",
                missed.join("; ")
            ));
        } else {
            self.failed_checks.extend(missed);
        }
    }

    /// The verdict. An interrupted run has none; lost messages outweigh a noisy machine.
    pub(crate) fn exit(&self) -> Exit {
        if self.interrupted {
            Exit::Interrupted
        } else if !self.failed_checks.is_empty() || self.ledger.is_some_and(|ledger| !ledger.balanced) {
            Exit::CheckFailed
        } else if self.too_noisy.is_some() {
            Exit::TooNoisy
        } else {
            Exit::Done
        }
    }
}

/// Says in a sentence what a latency comes to, and whose its tail is.
pub(crate) fn latency_sentence(
    latency: &LatencyNs,
    open_loop: Option<&OpenLoop>,
    floor: Option<&FloorNs>,
) -> String {
    if let Some(open_loop) = open_loop.filter(|open_loop| open_loop.saturated) {
        let due = open_loop.sent + open_loop.omitted;
        return format!(
            "this load is beyond saturation: of {} messages that came due {} were not sent",
            grouped(due),
            grouped(open_loop.omitted)
        );
    }
    let over_floor = floor.map_or_else(String::new, |floor| {
        let ratio = latency.p50 as f64 / floor.one_way;
        let ratio = if ratio < 100.0 { format!("{ratio:.1}") } else { grouped(ratio as u64) };
        format!(" ({ratio} times the floor's one way)")
    });
    let [p50, p99] = [latency.p50, latency.p99].map(|ns| time(ns as f64));
    let tail = open_loop.map_or_else(String::new, |open_loop| tail(latency, open_loop));
    format!("half of the messages took at most {p50}{over_floor}, 99 of 100 at most {p99}{tail}")
}

/// Whose the tail is, as far as that shows.
fn tail(latency: &LatencyNs, open_loop: &OpenLoop) -> String {
    let in_words = |stalls: Stalls| {
        let longest = time(stalls.longest_ns as f64);
        format!("stood still {}, for {longest} at most", times(stalls.count))
    };
    if let Some(stalls) = open_loop.machine_stalls {
        return format!("; the tail is this machine's, which {}", in_words(stalls));
    }
    if let Some(stalls) = open_loop.publish_stalls {
        return format!("; the tail is the engine's, or a handler's, which {}", in_words(stalls));
    }
    let lateness = open_loop.lateness_ns.map_or(0, |lateness| lateness.p99_9);
    if latency.p99_9 > latency.p99 && lateness >= latency.p99_9 / 2 {
        format!(
            "; most of the tail is this machine's, which kept publishers back for {} (p99.9)",
            time(lateness as f64)
        )
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Bound, Ledger, Side};
    use super::*;

    #[test]
    fn a_ledger_that_does_not_balance_is_a_failed_check() {
        let mut report = Report::new("latency");
        report.too_noisy = Some("stalls".to_owned());
        assert_eq!(report.exit(), Exit::TooNoisy);
        report.ledger = Some(Ledger { balanced: true, ..Ledger::default() });
        assert_eq!(report.exit(), Exit::TooNoisy);
        report.ledger = Some(Ledger::default());
        assert_eq!(report.exit(), Exit::CheckFailed);
        report.interrupted = true;
        assert_eq!(report.exit(), Exit::Interrupted);
    }

    #[test]
    fn a_missed_bound_is_a_failure_where_it_is_checked_and_the_machine_was_quiet() {
        let with = |value, check, noise: Option<u64>| {
            let mut report = Report::new("compare");
            report.bounds.push(Bound::new("one".to_owned(), Side::AtLeast, 1.5, value, "x"));
            let stalls = noise.map(|ns| {
                let mut times = crate::stats::histogram();
                times.record(ns).expect("within the bounds");
                times
            });
            report.noise_ns = stalls.as_ref().and_then(LatencyNs::of);
            report.judge_bounds(check);
            report.exit()
        };
        assert_eq!(with(1.5, true, None), Exit::Done);
        assert_eq!(with(1.4, false, None), Exit::Done);
        assert_eq!(with(1.4, true, Some(1_000)), Exit::CheckFailed);
        assert_eq!(with(1.4, true, Some(1_000_000)), Exit::TooNoisy);
        let limit = |bound| Bound::new(String::new(), Side::AtMost, bound, 0.0, "ns").limit();
        assert_eq!([5.0, 0.95, 10.25].map(limit), ["at most 5 ns", "at most 0.95 ns", "at most 10.25 ns"]);
    }

    #[test]
    fn a_failed_check_is_said_by_the_exit_code() {
        let mut report = Report::new("latency");
        assert_eq!(report.exit(), Exit::Done);
        report.failed_checks.push("3 messages lost".to_owned());
        assert_eq!(report.exit(), Exit::CheckFailed);
    }

    #[test]
    fn a_sentence_tells_whose_the_tail_is() {
        let times = |p50, p99, p99_9| LatencyNs {
            p50,
            p90: p50,
            p95: p50,
            p99,
            p99_9,
            p99_99: p99_9,
            max: p99_9,
            mean: p50 as f64,
            count: 1_000,
        };
        let latency = times(120, 1_200, 90_000);
        let quiet = OpenLoop {
            sent: 990,
            late: 0,
            omitted: 0,
            lateness_ns: Some(times(20, 30, 40)),
            saturated: false,
            machine_stalls: None,
            publish_stalls: None,
            involuntary_switches: None,
        };
        let floor = FloorNs { round_trip: 120.0, min: 100.0, one_way: 60.0 };
        let say = |open_loop: OpenLoop| latency_sentence(&latency, Some(&open_loop), Some(&floor));
        let plain = "half of the messages took at most 120 ns (2.0 times the floor's one way), \
                     99 of 100 at most 1.20 µs";
        assert_eq!(say(quiet), plain);
        let disturbed = OpenLoop { lateness_ns: Some(times(20, 900, 80_000)), ..quiet };
        let tail = "; most of the tail is this machine's, which kept publishers back for 80.0 µs (p99.9)";
        assert_eq!(say(disturbed), format!("{plain}{tail}"));
        let stalls = Some(Stalls { count: 5, longest_ns: 700_000_000, total_ns: 3_500_000_000 });
        let stopped = say(OpenLoop { machine_stalls: stalls, ..quiet });
        let tail = "; the tail is this machine's, which stood still 5 times, for 700 ms at most";
        assert_eq!(stopped, format!("{plain}{tail}"));
        assert!(say(OpenLoop { publish_stalls: stalls, ..quiet }).contains("the tail is the engine's"));
        assert_eq!(
            say(OpenLoop { saturated: true, omitted: 1_010, ..quiet }),
            "this load is beyond saturation: of 2,000 messages that came due 1,010 were not sent"
        );
    }
}
