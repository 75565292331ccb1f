//! `run`: the main job, everything that a newcomer wants to know of this machine in under a minute.

use std::time::{Duration, Instant};

use ringmain::clock::Clock;
use serde::Serialize;

use super::contest::Contest;
use super::latency::Found;
use super::throughput::{RUNTIME_TOPICS, count_allocations};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::load::options::{Load, Rate};
use crate::load::plan::Plan;
use crate::machine::baseline;
use crate::progress::Progress;
use crate::report::{Comparison, Report};
use crate::units::grouped;

/// The options of the main job.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RunOptions {
    pub(crate) quick: bool,
}

/// The rates at which latency is measured, in messages a second; one more is a part of what this
/// machine manages.
const RATES: [f64; 3] = [10_000.0, 100_000.0, 1_000_000.0];
const PART_OF_MOST: f64 = 0.5;

/// How much is measured.
struct Extent {
    rounds: u32,
    /// How long each case is measured in each round.
    turn: Duration,
    /// No round begins later. The contract allows a minute, or 15 seconds; a round is a twentieth
    /// of it, or a tenth.
    limit: Duration,
}

const FULL: Extent = Extent { rounds: 10, turn: Duration::from_millis(300), limit: Duration::from_secs(45) };
const QUICK: Extent = Extent { rounds: 4, turn: Duration::from_millis(120), limit: Duration::from_secs(9) };

/// A latency at a rate.
struct Paced {
    rate: f64,
    case: String,
    found: Found,
}

/// The main job.
pub(crate) fn run(options: &RunOptions) -> Result<Report, Error> {
    let extent = if options.quick { QUICK } else { FULL };
    let mut report = Report::of_measurement("run", options);
    let clock = Clock::hardware();
    let load = Load::new(Rate::Max, extent.turn);
    let plan = Plan::of(&load);
    let fan_out = Plan::of(&Load { subscribers: 2, ..load });
    let mut baseline = plan.baseline();
    let mut contest = Contest::new(plan.clone(), &clock, baseline.pair());
    contest.engine(plan.with_topics(RUNTIME_TOPICS, true));
    contest.engine(fan_out.clone());
    contest.ring(plan.clone());
    contest.round_trip();
    let turns = contest.turns() + RATES.len() as u32 + 1;
    let round = baseline::ROUND + extent.turn * turns;
    let mut progress = Progress::expecting("the main job", round * extent.rounds);
    let started = Instant::now();
    let mut rates: Vec<Paced> = RATES.into_iter().map(|rate| Paced::new(rate, "")).collect();
    for number in 0..extent.rounds {
        let floor = baseline.round(baseline::ROUND)?;
        if interrupted() || started.elapsed() > extent.limit {
            break;
        }
        contest.round(floor, extent.turn, || progress.tick())?;
        if number == 0
            && let Some(ns) = contest.ns_per_message()
        {
            rates.push(Paced::new(two_digits(PART_OF_MOST * 1e9 / ns), ", half of the most"));
        }
        for paced in &mut rates {
            if !interrupted() {
                paced.found.add(&plan, &clock, Rate::PerSecond(paced.rate), extent.turn)?;
                progress.tick();
            }
        }
    }
    count_allocations(&plan, &clock, extent.turn, &mut report)?;
    report.notes.push(
        "how to read it: latency counts from the moment a message was due to the handler's first \
         instruction; compare p50 with the floor's one way, and the tail with the noise, which is this \
         machine's own"
            .to_owned(),
    );
    report.describe_machine(&baseline);
    describe(contest, rates, &mut report);
    report.notes.push(
        "per message is the median of the rounds, from and to their extremes; a ratio is a time over \
         that of the first line of its kind in the same rounds"
            .to_owned(),
    );
    report.notes.extend(plan.note());
    report.notes.extend(fan_out.note().map(|note| format!("with 2 subscribers {note}")));
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    report.finish();
    Ok(report)
}

impl Paced {
    fn new(rate: f64, remark: &str) -> Self {
        Self { rate, case: format!("latency at {}/s{remark}", grouped(rate as u64)), found: Found::default() }
    }
}

/// Writes what was found into the report.
fn describe(mut contest: Contest, rates: Vec<Paced>, report: &mut Report) {
    let mut ledger = contest.ledger_of_all;
    for paced in &rates {
        ledger.add(paced.found.ledger());
        report.failed_checks.extend_from_slice(paced.found.failures());
        let blame = paced.found.blame(Rate::PerSecond(paced.rate));
        report.notes.extend(blame.into_iter().map(|why| format!("{}: {why}", paced.case)));
        report.results.push(Comparison {
            case: paced.case.clone(),
            contender: "engine".to_owned(),
            latency_ns: paced.found.latency(),
            open_loop: paced.found.open_loop(),
            ..Comparison::default()
        });
    }
    report.results.extend(contest.results());
    report.ns_per_message = contest.ns_per_message();
    report.messages_per_s = report.ns_per_message.map(|ns| 1e9 / ns);
    report.published = Some(ledger.published);
    report.delivered = Some(ledger.delivered);
    report.ledger = Some(ledger);
    report.failed_checks.append(&mut contest.failures);
}

/// A rate, rounded to two digits.
fn two_digits(rate: f64) -> f64 {
    let unit = 10_f64.powf((rate.max(1.0).log10()).floor() - 1.0);
    (rate / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_rounded_to_two_digits() {
        for (rate, rounded) in [(12_345_678.0, 12_000_000.0), (987_654.0, 990_000.0), (15.2, 15.0)] {
            assert_eq!(two_digits(rate), rounded);
        }
    }
}
