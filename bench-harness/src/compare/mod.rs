//! `compare` and `topology`: our ring beside its rivals, interleaved in one run.
//!
//! Figures of two runs cannot be compared, and not those of two programs either: the machine's mode, the handler, the way
//! to wait and the place of each thread decide more than the ring does. So all contenders run here, in turns, with the
//! same of all these; each is checked for lost, doubled, torn and reordered events before it is timed, and adds up every
//! byte while it is; and a ratio is the median of quotients taken within a round.
//!
//! `mean_batch` and `mean_lag` stand beside each time, because they tell the regime: a receiver on its sender's heels
//! fights it for every cache line, one that trails finds whole lines at leisure, and the same code does either.
//!
//! A contender is a [`duct::Duct`], or a function that runs a section by itself as ours do; a discipline is a list in
//! [`contenders`], a case a line in [`cases`], and what ours is held to stands in [`bounds`].

mod bounds;
mod cases;
mod churn;
mod contenders;
mod drive;
mod duct;
mod event;
mod managed;
mod ours;
mod ping_pong;
mod pool;
#[cfg(feature = "rivals")]
mod rivals;
mod tournament;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::report::Report;
use cases::Case;
use duct::{Idle, Setup, Width};
use tournament::Extent;

/// Whether this build has rivals.
const HAS_RIVALS: bool = cfg!(feature = "rivals");
/// How to get them.
const ADVICE: &str = "this build holds no rivals, so ours is alone with the floor; build with them: cargo run --release \
                      -p ringmain-bench --features rivals -- compare";

/// The options of `compare` and `topology`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CompareOptions {
    /// Words that select cases and contenders; all where there is none.
    pub(crate) only: Vec<String>,
    /// `None` leaves it to `quick`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rounds: Option<usize>,
    pub(crate) quick: bool,
    /// Every handler with every size.
    pub(crate) full: bool,
    /// A bound that is missed is a failed check.
    pub(crate) check: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<Vec<usize>>,
}

/// The options, and what follows from them.
#[derive(Serialize)]
struct Config<'o> {
    #[serde(flatten)]
    options: &'o CompareOptions,
    rounds: usize,
    section_s: f64,
    rivals: bool,
    cases: Vec<&'o str>,
}

impl CompareOptions {
    fn extent(&self) -> Extent {
        let (rounds, section) = if self.quick { (3, 20) } else { (7, 60) };
        Extent { rounds: self.rounds.unwrap_or(rounds), section: Duration::from_millis(section) }
    }
}

/// Ours beside its rivals.
pub(crate) fn compare(options: &CompareOptions) -> Result<Report, Error> {
    hold("compare", options, cases::compare(options.full, options.cores.as_deref()))
}

/// Graphs of producers and consumers.
pub(crate) fn topology(options: &CompareOptions) -> Result<Report, Error> {
    hold("topology", options, cases::topology(options.cores.as_deref()))
}

/// Nanoseconds that an event of 56 bytes takes there and back through two of our rings between these cores; and what
/// came back wrong, in words.
pub(crate) fn round_trip(
    (first, second): (Option<usize>, Option<usize>),
    lasting: Duration,
) -> Result<(Option<f64>, Vec<String>), Error> {
    let mut setup = Setup::new(Width::Eight, cases::SMALL, None);
    setup.places = vec![first, second];
    let outcome = ping_pong::ours(&setup, lasting)?;
    Ok((outcome.ns, outcome.failures))
}

fn hold(scenario: &'static str, options: &CompareOptions, all: Vec<Case>) -> Result<Report, Error> {
    let names = all.iter().map(|case| format!("\n  {}", case.name)).collect::<String>();
    let cases = cases::select(all, &options.only).map_err(|unknown| {
        let advice = if HAS_RIVALS { String::new() } else { format!("\n{ADVICE}") };
        Error::Usage(format!(
            "--only: no case and no contender has '{unknown}' in its name; the cases are{names}{advice}"
        ))
    })?;
    if !HAS_RIVALS {
        crate::complain(ADVICE);
    }
    let (extent, started) = (options.extent(), Instant::now());
    let config = Config {
        options,
        rounds: extent.rounds,
        section_s: extent.section.as_secs_f64(),
        rivals: HAS_RIVALS,
        cases: cases.iter().map(|case| case.name.as_str()).collect(),
    };
    let mut report = Report::of_measurement(scenario, &config);
    let crowded: Vec<_> =
        cases.iter().filter(|case| case.setup.idle == Idle::Yield).map(|case| case.name.as_str()).collect();
    if !crowded.is_empty() {
        report.notes.push(format!(
            "more threads than cores, so that all contenders yield and the scheduler decides much: {}",
            crowded.join("; ")
        ));
    }
    tournament::run(cases, extent, options.cores.as_deref(), &mut report)?;
    report.notes.push(
        "per message is the median of the rounds, from and to their extremes; a ratio is a contender's time over ours in \
         the same rounds, so above 1 ours is faster; batch is how many events a poll \
         found, or a handler of ours was given at once, lag how many waited"
            .to_owned(),
    );
    if options.check && !HAS_RIVALS && scenario == "compare" {
        report.notes.push("bounds that rivals set were not looked at: this build holds none".to_owned());
    }
    report.judge_bounds(options.check);
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    report.finish();
    Ok(report)
}
