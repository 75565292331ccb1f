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
use crate::load::pacer::Tally;
use crate::load::plan::Plan;
use crate::machine::baseline;
use crate::progress::Progress;
use crate::report::{Comparison, Report, latency_sentence};
use crate::stats::median;
use crate::units::{grouped, time};

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

/// The options, and how the first of the loads is run.
#[derive(Serialize)]
struct Config<'r> {
    #[serde(flatten)]
    options: &'r RunOptions,
    #[serde(flatten)]
    plan: &'r Plan,
}

/// A latency at a rate.
struct Paced {
    /// `None` for a part of what goes through in the same round.
    rate: Option<f64>,
    plan: Plan,
    /// The rates of the rounds.
    rates: Vec<f64>,
    found: Found,
}

/// The main job.
pub(crate) fn run(options: &RunOptions) -> Result<Report, Error> {
    let extent = if options.quick { QUICK } else { FULL };
    let clock = Clock::hardware();
    let load = Load::new(Rate::Max, extent.turn);
    let plan = Plan::of(&load);
    let mut report = Report::of_measurement("run", &Config { options, plan: &plan });
    report.setup = Some(plan.setup());
    let fan_out = Plan::of(&Load { subscribers: 2, ..load.clone() });
    let by_default = Plan::on_default_broker(&load);
    let mut baseline = plan.baseline();
    let mut contest = Contest::new(plan.clone(), &clock, baseline.pair());
    contest.engine(by_default.clone());
    contest.engine(plan.with_topics(RUNTIME_TOPICS, true));
    contest.engine(fan_out.clone());
    contest.ring(plan.clone());
    contest.round_trip();
    let mut paced: Vec<Paced> = RATES.map(|rate| Paced::new(Some(rate), &plan)).into();
    paced.push(Paced::new(None, &plan));
    paced.push(Paced::new(Some(RATES[0]), &by_default));
    let turns = contest.turns() + paced.len() as u32;
    let round = baseline::ROUND + extent.turn * turns;
    let mut progress = Progress::expecting("the main job", round * extent.rounds);
    let started = Instant::now();
    for _ in 0..extent.rounds {
        let floor = baseline.round(baseline::ROUND)?;
        if interrupted() || started.elapsed() > extent.limit {
            break;
        }
        contest.round(floor, extent.turn, || progress.tick())?;
        // The machine may be in another mode in another round, and what is half of the most there is
        // more than all of it here.
        let part_of_most = contest.latest().map(|ns| PART_OF_MOST * 1e9 / ns);
        for one in &mut paced {
            if let Some(rate) = one.rate.or(part_of_most).filter(|_| !interrupted()) {
                one.rates.push(rate);
                one.found.add(&one.plan, &clock, Rate::PerSecond(rate), extent.turn)?;
                progress.tick();
            }
        }
    }
    count_allocations(&plan, &clock, extent.turn, &mut report)?;
    report.notes.push(
        "how to read it: latency counts from the moment a message was due to the handler's first \
         instruction; compare p50 with the floor's one way, and the tail with the publishers' own \
         lateness, which is this machine's; the noise is too, but is taken between the loads"
            .to_owned(),
    );
    report.describe_machine(&baseline);
    describe(contest, paced, &mut report);
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
    fn new(rate: Option<f64>, plan: &Plan) -> Self {
        Self { rate, plan: plan.clone(), rates: Vec::new(), found: Found::default() }
    }

    fn case(&self, rate: f64) -> String {
        let remark = match self.rate {
            _ if self.plan.by_default => ", default options",
            None => ", half of the most",
            Some(_) => "",
        };
        format!("latency at {}/s{remark}", grouped(two_digits(rate) as u64))
    }
}

/// Writes what was found into the report.
fn describe(mut contest: Contest, all: Vec<Paced>, report: &mut Report) {
    let (mut ledger, mut tally) = (contest.ledger_of_all, Tally::default());
    for paced in &all {
        // There is none where the run was stopped before.
        let Some(rate) = median(&paced.rates) else { continue };
        let case = paced.case(rate);
        ledger.add(paced.found.ledger());
        report.failed_checks.extend_from_slice(paced.found.failures());
        if let Some(its) = paced.found.tally() {
            tally.add(its);
        }
        let saturation = paced.found.saturation(rate);
        report.notes.extend(saturation.map(|why| format!("{case}: {why}")));
        report.results.push(Comparison {
            case,
            contender: "engine".to_owned(),
            rate: Some(rate),
            latency_ns: paced.found.latency(),
            open_loop: paced.found.open_loop(),
            ..Comparison::default()
        });
    }
    report.notes.extend(tally.blame().into_iter().map(|why| format!("all latencies: {why}")));
    report.verdict = verdict(&all, contest.ns_per_message(), report);
    report.results.extend(contest.results());
    report.ns_per_message = contest.ns_per_message();
    report.messages_per_s = report.ns_per_message.map(|ns| 1e9 / ns);
    report.published = Some(ledger.published);
    report.delivered = Some(ledger.delivered);
    report.ledger = Some(ledger);
    report.failed_checks.append(&mut contest.failures);
}

/// What a newcomer wants to know, in one sentence.
fn verdict(all: &[Paced], ns_per_message: Option<f64>, report: &Report) -> Option<String> {
    let of = |rate: f64, by_default: bool| {
        let found =
            all.iter().find(|paced| paced.rate == Some(rate) && paced.plan.by_default == by_default)?;
        Some((found.found.latency()?, found.found.open_loop()))
    };
    let (latency, open_loop) = of(RATES[1], false)?;
    let mut verdict = format!(
        "at {} messages a second {}",
        grouped(RATES[1] as u64),
        latency_sentence(&latency, open_loop.as_ref(), report.floor_ns.as_ref())
    );
    if let Some(ns) = ns_per_message {
        let rate = grouped(two_digits(1e9 / ns) as u64);
        verdict += &format!("; at full speed one takes {}, {rate} a second", time(ns));
    }
    if let Some((latency, _)) = of(RATES[0], true) {
        let (p50, rate) = (time(latency.p50 as f64), grouped(RATES[0] as u64));
        verdict += &format!("; a broker with default options has a p50 of {p50} at {rate} a second");
    }
    Some(verdict)
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
