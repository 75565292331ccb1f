//! What follows from a report: whether its bounds are met, and the exit code.

use super::schema::Report;
use crate::exit::Exit;
use crate::machine::noise;

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
        if missed.is_empty() || !check {
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

#[cfg(test)]
mod tests {
    use super::super::schema::{Bound, Ledger, Side};
    use super::*;
    use crate::stats::LatencyNs;

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
}
