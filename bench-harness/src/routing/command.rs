//! The command: its options, and its sections in turn.

use std::time::Instant;

use serde::Serialize;

use super::context::Context;
use super::extent::{Extent, FULL, QUICK};
use super::patterns::{Population, SEED};
use super::{changing, churn, matching, publishing, unique_topics};
use crate::error::Error;
use crate::report::{Report, complain};

/// Whether this build has the rival.
const HAS_RIVAL: bool = cfg!(feature = "rivals");
/// The most patterns: some gigabytes.
pub(crate) const MAX_PATTERNS: usize = 10_000_000;

/// The options of `routing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RoutingOptions {
    /// `None` leaves it to `quick`.
    #[serde(skip)]
    pub(crate) patterns: Option<usize>,
    pub(crate) quick: bool,
    /// A bound that is missed is a failed check.
    pub(crate) check: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<Vec<usize>>,
}

/// The options, and what follows from them.
#[derive(Serialize)]
struct Config<'o> {
    #[serde(flatten)]
    options: &'o RoutingOptions,
    patterns: usize,
    rounds: usize,
    seed: u64,
    rivals: bool,
}

impl RoutingOptions {
    fn extent(&self) -> Extent {
        let extent = if self.quick { QUICK } else { FULL };
        Extent { patterns: self.patterns.unwrap_or(extent.patterns), ..extent }
    }
}

/// Measures all of it.
pub(crate) fn routing(options: &RoutingOptions) -> Result<Report, Error> {
    let extent = options.extent();
    let Extent { patterns, rounds, .. } = extent;
    let config = Config { options, patterns, rounds, seed: SEED, rivals: HAS_RIVAL };
    let mut report = Report::of_measurement("routing", &config);
    let started = Instant::now();
    if !HAS_RIVAL {
        complain(
            "this build holds no rival to match against; build with it: cargo run --release -p \
             ringmain-bench --features rivals -- routing",
        );
        if options.check {
            let note = "the bound that a rival sets was not looked at: this build holds none";
            report.notes.push(note.to_owned());
        }
    }
    let population = Population::new(patterns)?;
    let mut context = Context::new(extent, options.cores.as_deref(), &mut report);
    publishing::measure(&mut context, &population)?;
    {
        let table = changing::build(&mut context, &population)?;
        matching::measure(&mut context, &population, &table)?;
        changing::measure(&mut context, &population, &table)?;
    }
    matching::beside_a_scan(&mut context)?;
    churn::measure(&mut context, &population)?;
    unique_topics::measure(&mut context, &population)?;
    context.describe();
    report.judge_bounds(options.check);
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    report.finish();
    Ok(report)
}
