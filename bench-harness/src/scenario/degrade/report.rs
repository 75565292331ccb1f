//! What came of it, for people and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::contract::CONTRACT;
use super::expected::Forecast;
use super::options::{Extent, Place};
use super::rounds::{Others, Rounds, Row};
use super::verdict::{Judgement, LIMIT, MIN_RECORDED, Trio, disagree, judge};
use crate::interrupt::interrupted;
use crate::report::{Answer, Cell, OpenLoop, Report, Table, render, write_json};
use crate::stats::{LatencyNs, Spread};
use crate::units::{grouped, time};

/// Rows of which nothing follows that are told one by one.
const MAX_UNCLEAR: usize = 2;

/// What came of it.
#[derive(Serialize)]
pub(crate) struct DegradeAnswer {
    #[serde(flatten)]
    report: Report,
    /// With nobody beside it.
    alone: OtherAnswer,
    /// Beside a well one.
    control: OtherAnswer,
    shares: Vec<ShareAnswer>,
}

/// The healthy one without a sick one.
#[derive(Serialize)]
struct OtherAnswer {
    delivered: u64,
    latency_ns: Option<LatencyNs>,
    /// The spread of the sections' p99.
    p99_ns: Option<Spread>,
    #[serde(flatten)]
    open_loop: OpenLoop,
}

/// A share of failures, at one place of the sick one; all rounds together.
#[derive(Serialize)]
struct ShareAnswer {
    #[serde(skip)]
    label: String,
    /// From 0 to 1.
    share: f64,
    dispatcher: Place,
    sections: u64,
    published: u64,
    #[serde(flatten)]
    open_loop: OpenLoop,
    healthy: HealthyAnswer,
    sick: SickAnswer,
}

#[derive(Serialize)]
struct HealthyAnswer {
    calls: u64,
    delivered: u64,
    latency_ns: Option<LatencyNs>,
    /// The p99 over the control's, round by round.
    p99_over_control: Option<Spread>,
    /// Whether it is within the limit in most rounds; absent where it is not judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<bool>,
}

#[derive(Serialize)]
struct SickAnswer {
    calls: u64,
    delivered: u64,
    failures: u64,
    retries: u64,
    dead_lettered: u64,
    dropped: u64,
    /// What waited when failures ended.
    waiting: WaitingAnswer,
    breaker: BreakerAnswer,
}

#[derive(Serialize)]
struct WaitingAnswer {
    backlogged: u64,
    retrying: u64,
}

#[derive(Serialize)]
struct BreakerAnswer {
    /// What follows from the options alone.
    expected: Forecast,
    /// Sections in which it opened.
    opened_in: u64,
    /// The states when failures ended, and after the recovery, each with its number of sections.
    while_failing: BTreeMap<String, u64>,
    recovered: BTreeMap<String, u64>,
    changes: u64,
    /// The changes that follow from the calls.
    expected_changes: u64,
}

impl DegradeAnswer {
    pub(super) fn new(mut report: Report, extent: &Extent, rounds: Rounds) -> Self {
        let noise = report.noise_ns.map(|noise| noise.p99);
        if !interrupted() {
            judge_rows(&rounds, noise, &mut report);
        }
        report.failed_checks.extend(rounds.failures.iter().cloned());
        if interrupted() {
            report.failed_checks.clear();
        }
        report.published = Some(rounds.ledger.published);
        report.delivered = Some(rounds.ledger.delivered);
        report.ledger = Some(rounds.ledger);
        describe(extent, &rounds, &mut report);
        report.finish();
        let (alone, control) = (OtherAnswer::of(&rounds.alone), OtherAnswer::of(&rounds.control));
        let shares = rounds.rows.iter().filter(|row| row.sections > 0);
        Self { report, alone, control, shares: shares.map(|row| ShareAnswer::of(row, noise)).collect() }
    }
}

/// Judges the rows in which the sick one has a dispatcher of its own.
fn judge_rows(rounds: &Rounds, noise: Option<u64>, report: &mut Report) {
    let judged = || rounds.rows.iter().filter(|row| row.place == Place::Own && !row.trios.is_empty());
    if judged().next().is_none() {
        report.verdict = Some(format!(
            "the healthy one's p99 is not judged: a section has fewer than {MIN_RECORDED} messages that count"
        ));
        return;
    }
    let mut unclear = Vec::new();
    // With no failures the two differ in nothing: who is hurt there is hurt by the machine.
    let is_steady = judged().all(|row| !row.share.is_none() || judge(&row.trios, noise) == Judgement::Within);
    for row in judged() {
        let label = row.label();
        match judge(&row.trios, noise) {
            Judgement::Within => {}
            Judgement::Hurt(why) if !is_steady => unclear.push(format!("{label}: the healthy one's {why}")),
            Judgement::Hurt(why) => report.failed_checks.push(format!("{label}: the healthy one's {why}")),
            Judgement::CannotTell(why) => unclear.push(format!("{label}: the healthy one's {why}")),
        }
    }
    if let Some(more @ 1..) = unclear.len().checked_sub(MAX_UNCLEAR) {
        unclear.truncate(MAX_UNCLEAR);
        unclear.push(format!("and {more} more rows like these"));
    }
    let all: Vec<Trio> = judged().flat_map(|row| row.trios.iter().copied()).collect();
    if disagree(&all) {
        let apart: Vec<f64> = all.iter().map(Trio::apart).collect();
        let median = Spread::of(&apart).map_or(f64::NAN, |spread| spread.median);
        unclear.push(format!(
            "controls one after the other are {median:.2} times apart (the median), and what is judged may \
             be {LIMIT} times at most"
        ));
    }
    if !unclear.is_empty() {
        report.too_noisy = Some(unclear.join("; "));
    }
    let ratios = judged().filter_map(|row| Some((row, ratios(row)?.median)));
    if let Some((row, worst)) = ratios.max_by(|one, other| one.1.total_cmp(&other.1)) {
        let outcome = match (report.failed_checks.is_empty(), report.too_noisy.is_some()) {
            (false, _) => "the healthy one was hurt",
            (true, true) => "this machine is too noisy to tell",
            (true, false) => "a sick subscriber does no harm to a healthy one",
        };
        report.verdict = Some(format!(
            "{outcome}: its p99 is at most {worst:.2} times that of the control ({}), and may be {LIMIT}; \
             this is the median of the rounds{}",
            row.label(),
            hidden(&all, noise).unwrap_or_default()
        ));
    }
}

/// What a machine that stalls any thread for as long as the limit leaves room for would hide.
fn hidden(all: &[Trio], noise: Option<u64>) -> Option<String> {
    let controls: Vec<f64> = all.iter().map(Trio::control).collect();
    let room = (LIMIT - 1.0) * Spread::of(&controls)?.median;
    let noise = noise.map(|noise| noise as f64).filter(|noise| *noise >= room)?;
    let noise = time(noise);
    Some(format!(
        "; a harm of less than {noise} would not show: so long this machine stalls any thread (p99)"
    ))
}

/// What one has to know to read the figures.
fn describe(extent: &Extent, rounds: &Rounds, report: &mut Report) {
    let tallies = rounds.rows.iter().map(|row| (row.label(), &row.tally));
    let saturated: Vec<_> = tallies.filter(|(_, tally)| tally.is_saturated).map(|(label, _)| label).collect();
    if !saturated.is_empty() {
        report.notes.push(format!(
            "{} messages a second were more than could be sent: {}",
            grouped(extent.rate as u64),
            saturated.join("; ")
        ));
    }
    report.notes.push(format!(
        "a section publishes {} messages, {} a second; latency counts from when each was due. A message that \
         fails does so at each of its {} attempts, until failures end with the section; then the breaker has \
         to close, and what waits is delivered. Calls and changes include that",
        grouped(extent.section()),
        grouped(extent.rate as u64),
        CONTRACT.attempts,
    ));
    report.notes.push(
        "over control: the healthy one's p99 over that beside a well one in the sections before and after, the \
         median of the rounds with its extremes. On the same dispatcher the control is there too, and it is shown \
         and not judged: there a handler's time is its neighbours' time"
            .to_owned(),
    );
}

fn ratios(row: &Row) -> Option<Spread> {
    Spread::of(&row.trios.iter().map(Trio::ratio).collect::<Vec<_>>())
}

impl OtherAnswer {
    fn of(others: &Others) -> Self {
        Self {
            delivered: others.delivered,
            latency_ns: LatencyNs::of(&others.latency),
            p99_ns: Spread::of(&others.p99s),
            open_loop: others.tally.to_report(None),
        }
    }
}

impl ShareAnswer {
    fn of(row: &Row, noise: Option<u64>) -> Self {
        let is_judged = row.place == Place::Own && !row.trios.is_empty();
        let sick = row.sick.clone();
        Self {
            label: row.label(),
            share: row.share.ratio(),
            dispatcher: row.place,
            sections: row.sections,
            published: row.published,
            open_loop: row.tally.to_report(None),
            healthy: HealthyAnswer {
                calls: row.healthy_calls,
                delivered: row.healthy_delivered,
                latency_ns: LatencyNs::of(&row.latency),
                p99_over_control: ratios(row),
                within: is_judged.then(|| judge(&row.trios, noise) == Judgement::Within),
            },
            sick: SickAnswer {
                calls: sick.calls,
                delivered: sick.delivered,
                failures: sick.failures,
                retries: sick.retries,
                dead_lettered: sick.dead_lettered,
                dropped: sick.dropped,
                waiting: WaitingAnswer { backlogged: sick.backlogged, retrying: sick.retrying },
                breaker: BreakerAnswer {
                    expected: Forecast::of(&CONTRACT, row.share, row.paced),
                    opened_in: sick.opened_in,
                    while_failing: sick.while_failing,
                    recovered: sick.recovered,
                    changes: sick.changes,
                    expected_changes: sick.expected_changes,
                },
            },
        }
    }
}

/// States with their numbers of sections; the state alone where there is one.
fn states(states: &BTreeMap<String, u64>) -> String {
    let several = states.len() > 1;
    let word =
        |(state, count): (&String, &u64)| if several { format!("{state} {count}") } else { state.clone() };
    states.iter().map(word).collect::<Vec<_>>().join(", ")
}

impl DegradeAnswer {
    fn healthy_table(&self) -> Table {
        let mut table = Table::with_header([
            "the healthy one",
            "delivered",
            "p50",
            "p99",
            "max",
            "over control",
            "from",
            "to",
        ]);
        let mut add = |label: &str, delivered: u64, latency: Option<LatencyNs>, over: Option<Spread>| {
            let number = |value: Option<f64>| Cell::text(value.map(|value| format!("{value:.2}")));
            table.row([
                label.into(),
                grouped(delivered).into(),
                Cell::time(latency.map(|latency| latency.p50 as f64)),
                Cell::time(latency.map(|latency| latency.p99 as f64)),
                Cell::time(latency.map(|latency| latency.max as f64)),
                number(over.map(|over| over.median)),
                number(over.map(|over| over.min)),
                number(over.map(|over| over.max)),
            ]);
        };
        add("alone", self.alone.delivered, self.alone.latency_ns, None);
        add("beside a well one (control)", self.control.delivered, self.control.latency_ns, None);
        for share in &self.shares {
            let HealthyAnswer { delivered, latency_ns, p99_over_control, .. } = share.healthy;
            add(&share.label, delivered, latency_ns, p99_over_control);
        }
        table
    }

    fn sick_table(&self) -> Table {
        let mut table = Table::with_header([
            "the sick one",
            "calls",
            "delivered",
            "failures",
            "retries",
            "dead letters",
            "waiting",
            "breaker at the end",
            "after",
            "changes",
        ]);
        for share in &self.shares {
            let sick = &share.sick;
            table.row([
                share.label.as_str().into(),
                grouped(sick.calls).into(),
                grouped(sick.delivered).into(),
                grouped(sick.failures).into(),
                grouped(sick.retries).into(),
                grouped(sick.dead_lettered).into(),
                grouped(sick.waiting.backlogged + sick.waiting.retrying).into(),
                states(&sick.breaker.while_failing).into(),
                states(&sick.breaker.recovered).into(),
                grouped(sick.breaker.changes).into(),
            ]);
        }
        table
    }
}

impl Answer for DegradeAnswer {
    fn report(&self) -> &Report {
        &self.report
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let tables = [self.healthy_table(), self.sick_table()];
        out.write_all(render(&self.report, &tables).as_bytes())
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_json(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noisy_machine_says_what_it_would_hide() {
        let all = [Trio { p99: 100.0, controls: [100.0, 100.0] }];
        assert_eq!((hidden(&all, None), hidden(&all, Some(49)), hidden(&[], Some(49))), (None, None, None));
        assert!(hidden(&all, Some(50)).is_some_and(|what| what.contains("less than 50.0 ns would not show")));
    }
}
