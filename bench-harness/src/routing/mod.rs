//! `routing`: what it costs to find the subscriptions of a topic among a million patterns, to change the table, and to
//! publish while it changes.
//!
//! The patterns and topics are those of [`patterns`], from a fixed seed. Everything that is compared is measured in turns,
//! round by round, and a comparison is the median of what was found within rounds; a row without a comparison is the median
//! of its rounds. Whatever takes a broker runs on two cores: the publisher alone on the first, and the broker's threads,
//! its reclaimer among them, with whoever changes the table on the second.
//!
//! | section | what it shows |
//! |---|---|
//! | [`publishing`] | a publish to a bound topic and to a cached run-time topic, beside the ring alone |
//! | [`matching`] | matching a topic that no publisher knows; beside a linear scan, and beside a rival |
//! | [`changing`] | subscribing and unsubscribing, one change a swap, and the memory of a pattern |
//! | [`churn`] | publishing at a steady rate while others subscribe and unsubscribe |
//! | [`strangers`] | a publisher to hot topics beside one that makes up new topics without end |

mod changing;
mod churn;
mod context;
mod matching;
mod patterns;
mod publishing;
#[cfg(feature = "rivals")]
mod rival;
mod strangers;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::report::Report;
use context::Context;
use patterns::{Population, SEED};

/// Whether this build has the rival.
const HAS_RIVAL: bool = cfg!(feature = "rivals");
/// The most patterns: some gigabytes.
pub(crate) const MOST_PATTERNS: usize = 10_000_000;

/// How long a broker may take to deliver what it has.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Extent {
    patterns: usize,
    rounds: usize,
    /// Topics that are matched again and again, and how often in a round.
    warm_topics: usize,
    laps: usize,
    /// Topics that are matched once in a round, and in no other.
    cold_topics: usize,
    /// Topics that a linear scan matches too, in each round.
    scanned_topics: usize,
    /// Subscribed and unsubscribed in a round.
    changes: usize,
    /// How long a publisher publishes in each half of a round.
    publishing: Duration,
    /// Topics that are made up while memory is watched.
    strangers: usize,
}

const FULL: Extent = Extent {
    patterns: 1_000_000,
    rounds: 9,
    warm_topics: 256,
    laps: 40,
    cold_topics: 4_000,
    scanned_topics: 200,
    changes: 500,
    publishing: Duration::from_millis(500),
    strangers: 500_000,
};
const QUICK: Extent = Extent {
    patterns: 100_000,
    rounds: 3,
    warm_topics: 256,
    laps: 4,
    cold_topics: 500,
    scanned_topics: 20,
    changes: 100,
    publishing: Duration::from_millis(100),
    strangers: 50_000,
};

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
        crate::complain(
            "this build holds no rival to match against; build with it: cargo run --release -p ringmain-bench \
             --features rivals -- routing",
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
    strangers::measure(&mut context, &population)?;
    context.describe();
    report.judge_bounds(options.check);
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    report.finish();
    Ok(report)
}
