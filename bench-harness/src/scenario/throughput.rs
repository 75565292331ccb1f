//! `throughput`: how many messages go through when publishers are held up by nothing but
//! back-pressure.

use std::time::{Duration, Instant};

use ringmain::clock::Clock;

use super::contest::{Contest, paired_ratio};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::load::options::Load;
use crate::load::plan::Plan;
use crate::load::reader::Numbers;
use crate::load::session::Session;
use crate::machine::baseline;
use crate::progress::Progress;
use crate::report::Report;
use crate::units::{grouped, time};

/// The topics of the case in which topics are known only at run time.
pub(super) const RUNTIME_TOPICS: usize = 1_000;
/// A turn of a contender lasts about so long, in as many rounds as fit, within bounds.
const TURN: f64 = 0.1;
const ROUNDS: (f64, f64) = (3.0, 25.0);
/// The longest section in which allocations are counted.
const MAX_COUNT: Duration = Duration::from_millis(200);

/// Messages per second: floor, engine and ring in turns.
pub(crate) fn throughput(load: &Load) -> Result<Report, Error> {
    let plan = Plan::of(load);
    let mut report = Report::of_measurement("throughput", &plan);
    let clock = Clock::hardware();
    let mut baseline = plan.baseline();
    let mut contest = Contest::new(plan.clone(), &clock, baseline.pair());
    contest.engine(if load.runtime_topics {
        plan.with_topics(1, false)
    } else {
        plan.with_topics(RUNTIME_TOPICS, true)
    });
    contest.ring(plan.clone());
    contest.round_trip();
    let turns = contest.turns();
    let rounds = (load.duration.as_secs_f64() / (TURN * f64::from(turns))).clamp(ROUNDS.0, ROUNDS.1) as u32;
    let turn = load.duration / (rounds * turns);
    let mut progress = Progress::expecting("throughput", load.duration + baseline::ROUND * rounds);
    // Building an engine with very many topics takes longer than its turn.
    let (started, limit) = (Instant::now(), 2 * load.duration + Duration::from_secs(10));
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let floor = baseline.round(baseline::ROUND)?;
        if interrupted() || started.elapsed() > limit {
            break;
        }
        contest.round(floor, turn, || progress.tick())?;
        floors.push(floor.map(|floor| floor.median));
        ours.push(contest.latest());
    }
    report.describe_machine(&baseline);
    report.time_over_floor = paired_ratio(&ours, &floors);
    count_allocations(&plan, &clock, turn, &mut report)?;
    report.ns_per_message = contest.ns_per_message();
    report.messages_per_s = report.ns_per_message.map(|ns| 1e9 / ns);
    report.setup = Some(plan.setup());
    report.verdict = report.ns_per_message.map(|ns| {
        let over_floor = report.time_over_floor.map_or_else(String::new, |part| {
            format!(", {part:.2} of the floor's round trip in the same rounds")
        });
        format!("a message takes {}{over_floor}: {} a second", time(ns), grouped((1e9 / ns) as u64))
    });
    report.elapsed_s = Some(contest.elapsed.as_secs_f64());
    report.published = Some(contest.ledger.published);
    report.delivered = Some(contest.ledger.delivered);
    report.results = contest.results();
    report.ledger = Some(contest.ledger);
    report.failed_checks.append(&mut contest.failures);
    report.notes.push(
        "time per message is the median of the rounds, from and to their extremes; a ratio is a \
         contender's time over that of the first line of its kind in the same rounds, so above 1 the \
         first line is faster"
            .to_owned(),
    );
    report.notes.extend(plan.note());
    report.finish();
    Ok(report)
}

/// Counts what the engine allocates and frees in its steady state, and writes it into the report.
pub(super) fn count_allocations(
    plan: &Plan,
    clock: &Clock,
    lasting: Duration,
    report: &mut Report,
) -> Result<(), Error> {
    if interrupted() {
        return Ok(());
    }
    let Some(mut session) = Session::start(plan, clock, Numbers::Count)? else { return Ok(()) };
    let (allocations, messages) = session.count_allocations(lasting.min(MAX_COUNT))?;
    report.failed_checks.extend(session.finish().failures);
    if messages > 0 {
        report.allocations_per_message = Some(allocations.allocated as f64 / messages as f64);
        report.frees_per_message = Some(allocations.freed as f64 / messages as f64);
    }
    Ok(())
}
