//! `floor`: the machine alone, without an engine. Which mode it is in, and how much of a latency is
//! its own.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::interrupt::interrupted;
use crate::json;
use crate::machine::baseline::Baseline;
use crate::machine::cores;
use crate::progress::Progress;
use crate::report::Report;

/// The options of `floor`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FloorOptions {
    #[serde(serialize_with = "json::seconds")]
    pub(crate) duration: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<Vec<usize>>,
}

/// The longest round. Many short ones see a change of mode that one long one would average away.
const MAX_ROUND: Duration = Duration::from_millis(100);

/// Measures floor and noise in turns for the time that was asked for.
pub(crate) fn floor(options: &FloorOptions) -> Result<Report, Error> {
    let mut report = Report::of_measurement("floor", options);
    let mut progress = Progress::expecting("floor and noise", options.duration);
    let named = options.cores.as_deref();
    let mut baseline = Baseline::new(&cores::place(named, named.map_or(2, <[usize]>::len)), 1);
    let started = Instant::now();
    loop {
        let left = options.duration.saturating_sub(started.elapsed());
        if left.is_zero() || interrupted() {
            break;
        }
        baseline.round(left.min(MAX_ROUND))?;
        progress.tick();
    }
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    report.describe_machine(&baseline);
    report.finish();
    Ok(report)
}
