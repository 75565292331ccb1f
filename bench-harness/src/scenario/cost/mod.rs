//! `cost`: what each feature adds to a message, on minus off.
//!
//! A case is two subscriptions' set-ups that differ in one feature ([`cases`]); a new feature is one entry
//! there. Both are driven on brokers of [`ringmain::broker::simulation`], which have no threads: what is
//! measured is the code of a publish and of a delivery, and no hand-over between cores. Their batches take
//! turns, so that whatever the machine does it does to both ([`pairs`]).

mod cases;
mod pairs;
mod report;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::interrupt::interrupted;
use crate::machine::instructions::Counter;
use crate::progress::Progress;
use crate::report::Report;
use cases::Case;
use pairs::{BATCH, Measured, PAIRS_OF_A_BLOCK};
use report::CostAnswer;

/// What the help tells of it beside the options.
pub(crate) const HELP: &str = include_str!("help.txt").trim_ascii_end();

/// Pairs of batches for each case.
const PAIRS: (usize, usize) = (10_000, 2_000);
/// What a pair takes, about: to tell progress by.
const PAIR: Duration = Duration::from_micros(50);

/// The options of `cost`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CostOptions {
    /// `None` leaves it to `quick`.
    pub(crate) pairs: Option<usize>,
    pub(crate) quick: bool,
}

/// The options, and what follows from them.
#[derive(Serialize)]
struct Config {
    pairs: usize,
    quick: bool,
    batch: usize,
    cases: Vec<&'static str>,
}

/// Measures all cases.
pub(crate) fn cost(options: &CostOptions) -> Result<CostAnswer, Error> {
    let cases = cases::all();
    let pairs = options.pairs.unwrap_or(if options.quick { PAIRS.1 } else { PAIRS.0 });
    let names = cases.iter().map(|case| case.name).collect();
    let config = Config { pairs, quick: options.quick, batch: BATCH, cases: names };
    let mut report = Report::of_measurement("cost", &config);
    let mut counter = Counter::open();
    let mut measured: Vec<(Case, Measured)> =
        cases.into_iter().map(|case| (case, Measured::default())).collect();
    let mut progress = Progress::expecting("cost", PAIR.saturating_mul((pairs * measured.len()) as u32));
    let started = Instant::now();
    let mut left = pairs;
    // Blocks of all cases take turns, each on new brokers: where in memory one lies makes a difference too.
    while left > 0 && !interrupted() {
        let block = left.min(PAIRS_OF_A_BLOCK);
        left -= block;
        for (case, measured) in &mut measured {
            pairs::block(case, block, &mut counter, measured)?;
            progress.tick();
        }
    }
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    Ok(CostAnswer::new(report, measured, counter.unavailable()))
}
