//! `degrade`: a subscriber that fails more and more of its messages, beside a healthy one.
//!
//! What is claimed is that a sick subscriber does no harm to a healthy one, that its breaker leaves it
//! alone when it should and no longer, and that no message is lost meanwhile. So in each round, at each
//! share of failures from none to all, three sections take turns: the healthy one beside a well one, which
//! is the control; beside a sick one with a dispatcher of its own, which is what users are advised to do
//! and what is judged; and beside one on the healthy one's own dispatcher, which is shown, because there a
//! handler's time is its neighbours' time by design. The control has a neighbour too, with the same contract
//! and as many messages, so that what is compared differs in nothing but failures: what a second thread and
//! a second ring cost, on a machine of few cores above all, is no harm that the sick one does. What that is
//! is shown too: the healthy one alone, once a round.
//!
//! Messages come due at a fixed rate, and latency counts from when each was due. What is to become of
//! the breaker is computed from its options and the outcomes of the calls by a machine that is not the
//! engine's ([`expected`]); where each message went is counted by the handlers, and compared with the
//! ledger to the message ([`account`]).

mod account;
mod contract;
mod expected;
mod options;
mod report;
mod rounds;
mod section;
mod sick;
mod verdict;

use std::time::{Duration, Instant};

use ringmain::clock::Clock;

use crate::error::Error;
use crate::interrupt::interrupted;
use crate::progress::Progress;
use crate::report::Report;
use contract::Share;
pub(crate) use options::{DegradeOptions, Fault};
use options::{Extent, Place};
use report::DegradeAnswer;
use rounds::Rounds;
use section::{Beside, Stage};

/// How long floor and noise are taken before each share.
const BASELINE: Duration = Duration::from_millis(30);

/// What the help tells of it beside the options.
pub(crate) const HELP: &str = include_str!("help.txt").trim_ascii_end();

/// Runs all rounds.
pub(crate) fn degrade(options: &DegradeOptions) -> Result<DegradeAnswer, Error> {
    let extent = Extent::of(options);
    let stage = Stage::new(extent.clone(), Clock::hardware());
    let mut report = Report::of_measurement("degrade", &stage.config());
    report.setup = Some(stage.plan.setup());
    let mut baseline = stage.plan.baseline();
    let mut progress = Progress::expecting("degrade", extent.expected());
    let shares: Vec<Share> = Share::all(extent.steps).collect();
    let mut rounds = Rounds::new(&shares);
    let well = Beside::One(Place::Own, Share::NONE);
    let started = Instant::now();
    for _ in 0..extent.rounds {
        rounds.alone(&stage.run(Beside::Nobody)?);
        let mut control = rounds.control(&stage.run(well)?);
        for (number, &share) in shares.iter().enumerate() {
            baseline.round(BASELINE)?;
            let own = stage.run(Beside::One(Place::Own, share))?;
            progress.tick();
            let next = rounds.control(&stage.run(well)?);
            progress.tick();
            let same = stage.run(Beside::One(Place::Same, share))?;
            rounds.add(number, [control, next], &own, &same);
            control = next;
            progress.tick();
            if interrupted() || rounds.has_failed() {
                break;
            }
        }
        // Whatever was lost once is lost: more rounds would say no more.
        if interrupted() || rounds.has_failed() {
            break;
        }
    }
    report.describe_machine(&baseline);
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    report.notes.extend(stage.plan.note());
    Ok(DegradeAnswer::new(report, &extent, rounds))
}

#[cfg(test)]
mod tests {
    use super::HELP;
    use super::contract::CONTRACT;
    use super::verdict::LIMIT;

    #[test]
    fn the_help_states_the_contract_that_holds() {
        let [delay, open, longest] =
            [CONTRACT.delay, CONTRACT.open, CONTRACT.longest_open].map(|time| time.as_millis());
        let parts = [
            format!("{} attempts {delay} ms apart", CONTRACT.attempts),
            format!("half of its last {} calls have failed, for {open} to {longest} ms", CONTRACT.window),
            format!("a backlog of {} messages", CONTRACT.backlog),
            format!("within {LIMIT} times the control's"),
        ];
        for part in parts {
            assert!(HELP.contains(&part), "'{part}' is not in: {HELP}");
        }
        assert!((CONTRACT.rate - 0.5).abs() < f64::EPSILON, "half");
    }
}
