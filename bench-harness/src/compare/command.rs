//! The commands: their options, and the report of a tournament.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::cases::{self, Case};
use super::channel::Idle;
use super::tournament::{self, Extent};
use crate::error::Error;
use crate::report::{Report, complain};

/// Whether this build has rivals.
const HAS_RIVALS: bool = cfg!(feature = "rivals");
/// How to get them.
const ADVICE: &str = "this build holds no rivals, so ours is alone with the floor; build with them: \
                      cargo run --release -p ringmain-bench --features rivals -- compare";

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
    hold_tournament("compare", options, cases::compare(options.full, options.cores.as_deref()))
}

/// Graphs of producers and consumers.
pub(crate) fn topology(options: &CompareOptions) -> Result<Report, Error> {
    hold_tournament("topology", options, cases::topology(options.cores.as_deref()))
}

fn hold_tournament(
    scenario: &'static str,
    options: &CompareOptions,
    all: Vec<Case>,
) -> Result<Report, Error> {
    let names = all.iter().map(|case| format!("\n  {}", case.name)).collect::<String>();
    let cases = cases::select(all, &options.only).map_err(|unknown| {
        let advice = if HAS_RIVALS { String::new() } else { format!("\n{ADVICE}") };
        Error::Usage(format!(
            "--only: no case and no contender has '{unknown}' in its name; the cases are{names}{advice}"
        ))
    })?;
    if !HAS_RIVALS {
        complain(ADVICE);
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
        "per message is the median of the rounds, from and to their extremes; a ratio is a contender's \
         time over ours in the same rounds, so above 1 ours is faster; batch is how many events a poll \
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
