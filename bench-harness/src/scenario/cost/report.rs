//! What came of it, for people and as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::cases::{Case, NOTHING};
use super::pairs::{Measured, Sides};
use crate::interrupt::interrupted;
use crate::report::{Answer, Cell, Ledger, Report, Table, render, write_json};
use crate::stats::Spread;

/// What came of it.
#[derive(Serialize)]
pub(crate) struct CostAnswer {
    #[serde(flatten)]
    report: Report,
    costs: Vec<CostRow>,
    /// Why instructions were not counted; absent where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions_unavailable: Option<String>,
}

/// One feature.
#[derive(Serialize)]
struct CostRow {
    case: &'static str,
    pairs: usize,
    deliver_ns: Option<Cost>,
    publish_ns: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_instructions: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publish_instructions: Option<Cost>,
}

/// A figure a message, off and on, and what the feature adds: medians, and the spread of the differences
/// of the pairs.
#[derive(Clone, Copy, Serialize)]
struct Cost {
    off: f64,
    on: f64,
    difference: f64,
    spread: Spread,
}

impl Cost {
    fn of(sides: &Sides) -> Option<Self> {
        let spread = Spread::of(&sides.differences())?;
        let (off, on) = (Spread::of(&sides.off)?.median, Spread::of(&sides.on)?.median);
        Some(Self { off, on, difference: spread.median, spread })
    }
}

impl CostRow {
    fn of(case: &Case, measured: &Measured) -> Self {
        Self {
            case: case.name,
            pairs: measured.deliver.off.len(),
            deliver_ns: Cost::of(&measured.deliver),
            publish_ns: Cost::of(&measured.publish),
            deliver_instructions: Cost::of(&measured.deliver_instructions),
            publish_instructions: Cost::of(&measured.publish_instructions),
        }
    }
}

impl CostAnswer {
    pub(super) fn new(
        mut report: Report,
        all: Vec<(Case, Measured)>,
        instructions_unavailable: Option<String>,
    ) -> Self {
        let mut ledger = Ledger::empty();
        for (case, measured) in &all {
            ledger.add(&measured.ledger);
            if let Some(fault) = fault(case.name, measured).filter(|_| !interrupted()) {
                report.failed_checks.push(fault);
            }
        }
        report.published = Some(ledger.published);
        report.delivered = Some(ledger.delivered);
        report.ledger = Some(ledger);
        let costs: Vec<CostRow> = all.iter().map(|(case, measured)| CostRow::of(case, measured)).collect();
        report.verdict = verdict(&costs);
        report.notes.push(
            "a figure is the median of its pairs, a message; adds is the median of what the feature adds \
             in each pair, and half of the pairs lie between from and to. One thread publishes a batch and \
             then delivers it, without a hand-over between cores, on a clock that is moved by hand: where \
             a feature reads the clock, the hardware's takes 8 to 25 ns more"
                .to_owned(),
        );
        report.notes.push(format!(
            "'{NOTHING}' has no feature on either side: what it adds is what this machine lets the other \
             rows be off by"
        ));
        report.notes.extend(instructions_unavailable.as_ref().map(|why| {
            format!(
                "instructions are not available here ({why}); scripts/instructions.sh counts them on any \
                 x86-64 or ARM machine with valgrind"
            )
        }));
        report.finish();
        Self { report, costs, instructions_unavailable }
    }

    fn times(&self) -> Table {
        let mut table = Table::with_header([
            "ns a message",
            "deliver off",
            "on",
            "adds",
            "from",
            "to",
            "publish off",
            "on",
            "adds",
            "from",
            "to",
        ]);
        for row in &self.costs {
            let [off, on, adds, from, to] = cells(row.deliver_ns);
            let [publish_off, publish_on, publish_adds, publish_from, publish_to] = cells(row.publish_ns);
            table.row([
                row.case.into(),
                off,
                on,
                adds,
                from,
                to,
                publish_off,
                publish_on,
                publish_adds,
                publish_from,
                publish_to,
            ]);
        }
        table
    }

    fn instructions(&self) -> Table {
        let mut table = Table::with_header([
            "instructions a message",
            "deliver off",
            "on",
            "adds",
            "publish off",
            "on",
            "adds",
        ]);
        for row in self.costs.iter().filter(|row| row.deliver_instructions.is_some()) {
            let [off, on, adds, ..] = cells(row.deliver_instructions);
            let [publish_off, publish_on, publish_adds, ..] = cells(row.publish_instructions);
            table.row([row.case.into(), off, on, adds, publish_off, publish_on, publish_adds]);
        }
        table
    }
}

/// Off, on, what is added, and the quartiles of that.
fn cells(cost: Option<Cost>) -> [Cell; 5] {
    let numbers = cost.map(|cost| [cost.off, cost.on, cost.difference, cost.spread.q1, cost.spread.q3]);
    // What is nearly nothing has no sign.
    let shown = |number: f64| format!("{:.1}", if number.abs() < 0.05 { 0.0 } else { number });
    std::array::from_fn(|place| Cell::text(numbers.map(|numbers| shown(numbers[place]))))
}

/// What was lost, if anything was.
fn fault(case: &str, measured: &Measured) -> Option<String> {
    let (delivered, expected) = (measured.ledger.delivered, measured.expected);
    (delivered != expected)
        .then(|| format!("{case}: {delivered} messages were delivered, and {expected} should have been"))
}

/// The dearest feature, and what a plain delivery takes.
fn verdict(costs: &[CostRow]) -> Option<String> {
    let plain = costs.first()?.deliver_ns?;
    let dearest = costs.iter().filter_map(|row| Some((row.case, row.deliver_ns?.difference)));
    let (case, adds) = dearest.max_by(|one, other| one.1.total_cmp(&other.1))?;
    Some(format!(
        "a plain delivery takes {:.0} ns; what adds most to it is {case}: {adds:.0} ns, give or take {:.1}",
        plain.off,
        plain.spread.q3.abs().max(plain.spread.q1.abs())
    ))
}

impl Answer for CostAnswer {
    fn report(&self) -> &Report {
        &self.report
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(render(&self.report, &[self.times(), self.instructions()]).as_bytes())
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_json(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases;
    use super::*;

    fn sides(off: &[f64], on: &[f64]) -> Sides {
        Sides { off: off.to_vec(), on: on.to_vec() }
    }

    #[test]
    fn what_is_added_is_the_median_of_the_pairs_and_not_the_difference_of_medians() {
        // The machine slows down half-way: the pairs do not care.
        let cost = Cost::of(&sides(&[10.0, 10.0, 30.0], &[15.0, 16.0, 34.0])).expect("three pairs");
        assert_eq!((cost.off, cost.on, cost.difference), (10.0, 16.0, 5.0));
        assert_eq!((cost.spread.min, cost.spread.max), (4.0, 6.0));
        assert!(Cost::of(&Sides::default()).is_none());
    }

    #[test]
    fn a_message_that_was_not_delivered_is_a_failed_check() {
        let mut measured = Measured { expected: 10, ..Measured::default() };
        measured.ledger.delivered = 10;
        assert_eq!(fault("retry", &measured), None);
        measured.ledger.delivered = 9;
        let all = vec![(cases::all()[0], measured)];
        let answer = CostAnswer::new(Report::new("cost"), all, None);
        assert_eq!(answer.report.exit(), crate::exit::Exit::CheckFailed);
        assert!(answer.report.failed_checks[0].contains("9 messages were delivered"));
    }
}
