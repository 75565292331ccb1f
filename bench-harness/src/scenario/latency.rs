//! `latency`: from the time for which a message was intended to its handler, at a rate that nothing
//! slows down.

use std::time::Duration;

use ringmain::clock::Clock;

use crate::error::Error;
use crate::interrupt::interrupted;
use crate::load::options::{Load, Rate};
use crate::load::pacer::Tally;
use crate::load::plan::Plan;
use crate::load::reader::Numbers;
use crate::load::session::Session;
use crate::machine::baseline;
use crate::progress::Progress;
use crate::report::{Ledger, OpenLoop, Report, Switches, latency_sentence};
use crate::stats::{LatencyNs, histogram};
use crate::units::grouped;

/// The load is divided into parts, so that floor and noise can be taken between them: the shortest,
/// in time and in messages, and the most of them.
const MIN_SECTION: Duration = Duration::from_millis(500);
const MIN_MESSAGES: f64 = 1_000.0;
const MAX_SECTIONS: f64 = 64.0;
/// The part of each section that warms up, and the longest that may take.
const WARM_UP_DIVISOR: u32 = 10;
const MAX_WARM_UP: Duration = Duration::from_millis(100);

/// Open-loop latency, or closed-loop where the rate is `max`.
pub(crate) fn latency(load: &Load) -> Result<Report, Error> {
    let mut plan = Plan::of(load);
    let mut report = Report::of_measurement("latency", &plan);
    let sections = sections(load);
    let section = load.duration / sections;
    let mut progress = Progress::expecting("latency", load.duration + baseline::ROUND * (sections + 1));
    let clock = Clock::hardware();
    let mut baseline = plan.baseline();
    let mut found = Found::default();
    for _ in 0..sections {
        baseline.round(baseline::ROUND)?;
        progress.tick();
        if interrupted() {
            break;
        }
        found.add(&plan, &clock, load.rate, section)?;
        plan.load.planted_stall = None;
        progress.tick();
    }
    baseline.round(baseline::ROUND)?;
    report.describe_machine(&baseline);
    report.setup = Some(plan.setup());
    found.describe(load.rate, &mut report);
    report.notes.extend(plan.note());
    report.finish();
    Ok(report)
}

/// How many parts a load is divided into.
fn sections(load: &Load) -> u32 {
    let by_time = load.duration.as_secs_f64() / MIN_SECTION.as_secs_f64();
    let by_messages = match load.rate {
        Rate::PerSecond(rate) => load.duration.as_secs_f64() * rate / MIN_MESSAGES,
        Rate::Max => f64::INFINITY,
    };
    by_time.min(by_messages).clamp(1.0, MAX_SECTIONS) as u32
}

/// How long a section takes to warm up. One of few messages does without: too little would be left.
fn warm_up(rate: Rate, section: Duration) -> Duration {
    match rate {
        Rate::PerSecond(rate) if rate * section.as_secs_f64() < MIN_MESSAGES / 2.0 => Duration::ZERO,
        _ => (section / WARM_UP_DIVISOR).min(MAX_WARM_UP),
    }
}

/// What the sections of a load have found so far.
pub(super) struct Found {
    latency: hdrhistogram::Histogram<u64>,
    /// What became of the messages that came due; nothing where there was no rate to keep.
    tally: Option<Tally>,
    elapsed: Duration,
    switches: Option<Switches>,
    ledger: Ledger,
    failures: Vec<String>,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            latency: histogram(),
            tally: None,
            elapsed: Duration::ZERO,
            switches: None,
            ledger: Ledger::empty(),
            failures: Vec::new(),
        }
    }
}

impl Found {
    /// Runs one section on an engine of its own.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        clock: &Clock,
        rate: Rate,
        lasting: Duration,
    ) -> Result<(), Error> {
        let Some(mut session) = Session::start(plan, clock, Numbers::Intended)? else { return Ok(()) };
        let paced = session.pace(rate, lasting, warm_up(rate, lasting))?;
        let ended = session.finish();
        self.latency.add(ended.latency).expect("histograms of the same bounds");
        // None of the subscribers got what was not sent.
        for _ in 0..plan.load.subscribers {
            self.latency.add(&paced.omitted).expect("histograms of the same bounds");
        }
        if let Some(tally) = paced.tally {
            self.tally.get_or_insert_with(Tally::default).add(&tally);
        }
        if let Some((publishers, consumers)) = paced.involuntary_switches.zip(ended.involuntary_switches) {
            let all = self.switches.get_or_insert(Switches { publishers: 0, consumers: 0 });
            all.publishers += publishers;
            all.consumers += consumers;
        }
        self.elapsed += paced.elapsed;
        self.ledger.add(&ended.ledger);
        self.failures.extend(ended.failures);
        Ok(())
    }

    /// The percentiles; `None` when no message was recorded.
    pub(super) fn latency(&self) -> Option<LatencyNs> {
        LatencyNs::of(&self.latency)
    }

    /// Messages a second that were sent and delivered.
    pub(super) fn messages_per_s(&self) -> Option<f64> {
        (!self.elapsed.is_zero()).then(|| self.ledger.published as f64 / self.elapsed.as_secs_f64())
    }

    /// What became of the messages that came due; `None` where there was no rate to keep.
    pub(super) fn open_loop(&self) -> Option<OpenLoop> {
        self.tally.as_ref().map(|tally| tally.to_report(self.switches))
    }

    /// What became of the messages that came due, with all that was recorded.
    pub(super) fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// Says in words that a rate was beyond saturation, if it was.
    pub(super) fn saturation(&self, asked: f64) -> Option<String> {
        self.tally.as_ref().filter(|tally| tally.is_saturated).map(|_| {
            format!(
                "{} messages/s were asked for and {} reached: beyond saturation latency only tells how \
                 long the overload lasted",
                grouped(asked.round() as u64),
                grouped(self.messages_per_s().unwrap_or(0.0).round() as u64)
            )
        })
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Writes all of it into a report.
    fn describe(self, rate: Rate, report: &mut Report) {
        report.latency_ns = self.latency();
        report.open_loop = self.open_loop();
        report.verdict = report
            .latency_ns
            .map(|latency| latency_sentence(&latency, report.open_loop.as_ref(), report.floor_ns.as_ref()));
        report.published = Some(self.ledger.published);
        report.delivered = Some(self.ledger.delivered);
        report.elapsed_s = Some(self.elapsed.as_secs_f64());
        report.messages_per_s = self.messages_per_s();
        report.ns_per_message = match rate {
            Rate::Max => self.messages_per_s().filter(|rate| *rate > 0.0).map(|rate| 1e9 / rate),
            Rate::PerSecond(_) => None,
        };
        let explanation = match rate {
            Rate::PerSecond(_) => "latency counts from the moment a message was due to the handler's first \
                instruction; compare p50 with the floor's one way, and the tail with the noise"
                .to_owned(),
            Rate::Max => {
                "latency counts from the start of the publish to the handler's first instruction; with \
                publishers as fast as back-pressure allows it is the time spent in a full ring"
                    .to_owned()
            }
        };
        report.notes.push(explanation);
        if let (Rate::PerSecond(asked), Some(tally)) = (rate, &self.tally) {
            report.notes.extend(tally.blame());
            report.notes.extend(self.saturation(asked));
        }
        report.ledger = Some(self.ledger);
        report.failed_checks.extend(self.failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate: Rate, seconds: u64) -> Load {
        Load::new(rate, Duration::from_secs(seconds))
    }

    #[test]
    fn slow_rates_are_divided_into_fewer_sections() {
        assert_eq!(sections(&load(Rate::Max, 5)), 10);
        assert_eq!(sections(&load(Rate::PerSecond(1e5), 5)), 10);
        assert_eq!(sections(&load(Rate::PerSecond(400.0), 5)), 2);
        assert_eq!(sections(&load(Rate::PerSecond(0.1), 5)), 1);
        assert_eq!(sections(&load(Rate::Max, 604_800)), 64);
    }

    #[test]
    fn the_few_messages_of_a_slow_rate_are_all_recorded() {
        assert_eq!(warm_up(Rate::PerSecond(1.0), Duration::from_secs(5)), Duration::ZERO);
        assert_eq!(warm_up(Rate::PerSecond(1e5), Duration::from_millis(500)), Duration::from_millis(50));
        assert_eq!(warm_up(Rate::Max, Duration::from_secs(60)), MAX_WARM_UP);
    }
}
