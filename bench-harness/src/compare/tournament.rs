//! The tournament: all contenders of all cases in turns, round by round, so that a change of the
//! machine's mode hits all of them alike; and what came of it, as quotients of figures of the same
//! round.

use std::time::Duration;

use ringmain::clock::Clock;

use super::bounds;
use super::cases::{Case, Measure};
use super::channel::{Idle, Width};
use super::contenders::{Contender, Play};
use super::drive::{Outcome, Task};
use super::event::handler_alone;
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::load::pacer::Tally;
use crate::machine::baseline::Baseline;
use crate::machine::cores;
use crate::machine::floor::FloorRound;
use crate::progress::Progress;
use crate::report::{Bound, Comparison, Report, RoundReport};
use crate::stats::{Spread, median, paired_quotients};

/// How long floor and noise are taken before each round.
const BASELINE: Duration = Duration::from_millis(30);
/// How many times longer a section with more threads than cores is.
const CROWDED: u32 = 4;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) rounds: usize,
    /// How long each contender's section lasts.
    pub(super) section: Duration,
}

/// A contender's figures: for each row of its case one a round, `None` where the round came to
/// nothing.
struct Entry {
    contender: Contender,
    figures: Vec<Vec<Option<f64>>>,
    batches: Vec<f64>,
    lags: Vec<f64>,
    shares: Vec<f64>,
    /// What became of the events that came due in all rounds.
    tally: Option<Tally>,
    /// It lost, doubled or tore events, and is not measured any more.
    has_failed: bool,
}

/// A case and its contenders' figures.
struct Match {
    case: Case,
    entries: Vec<Entry>,
    /// Messages a second that were asked for, where a case asks for some.
    rates: Vec<f64>,
}

/// What a turn found: a figure for each row, and what else is known.
struct Turn {
    figures: Vec<Option<f64>>,
    outcome: Outcome,
}

/// Runs all of it, and writes what was found into the report.
pub(super) fn run(
    cases: Vec<Case>,
    extent: Extent,
    named: Option<&[usize]>,
    report: &mut Report,
) -> Result<(), Error> {
    let clock = Clock::hardware();
    let mut baseline = Baseline::new(&cores::place(named, 2), 1);
    let mut matches: Vec<Match> = cases.into_iter().map(Match::new).collect();
    let turns: u32 = matches.iter().map(Match::turns).sum();
    // Each turn has its threads and its memory to get, and a warm-up.
    let each = extent.section + Duration::from_millis(15);
    let mut progress = Progress::expecting(report.scenario, each * (turns * (extent.rounds as u32 + 1)));
    for one in &mut matches {
        one.check(report, || progress.tick())?;
    }
    for _ in 0..extent.rounds {
        if interrupted() {
            break;
        }
        let floor = baseline.round(BASELINE)?;
        for one in &mut matches {
            one.round(floor, extent.section, &clock, report, || progress.tick())?;
        }
        report.rounds.extend(floor.map(|floor| RoundReport { floor_ns: floor.median, mode: floor.mode() }));
    }
    report.describe_machine(&baseline);
    report.results = matches.iter().flat_map(Match::results).collect();
    report.notes.extend(matches.iter().flat_map(Match::blame));
    report.bounds = matches.iter().flat_map(Match::bounds).collect();
    Ok(())
}

impl Match {
    fn new(case: Case) -> Self {
        let rows = case.rows().len();
        let entry = |&contender: &Contender| Entry {
            contender,
            figures: vec![Vec::new(); rows],
            batches: Vec::new(),
            lags: Vec::new(),
            shares: Vec::new(),
            tally: None,
            has_failed: false,
        };
        let entries = case.contenders.iter().map(entry).collect();
        Self { case, entries, rates: Vec::new() }
    }

    /// Turns that take time, in a round, in lengths of a section.
    fn turns(&self) -> u32 {
        let timed = |entry: &&Entry| !matches!(entry.contender.play, Play::Floor);
        let turns = self.entries.iter().filter(timed).count() + usize::from(self.saturates());
        turns as u32 * self.stretch()
    }

    /// Whether each round begins with finding out what ours manages.
    fn saturates(&self) -> bool {
        matches!(self.case.measure, Measure::Latency { .. })
    }

    /// How many times longer a section lasts where threads take turns on a core, because the
    /// scheduler's slices are long; and where what counts is one call in a thousand.
    fn stretch(&self) -> u32 {
        let is_rare = self.case.measure == Measure::Call;
        let crowded = if is_rare || self.case.setup.idle == Idle::Yield { CROWDED } else { 1 };
        self.case.stretch * crowded
    }

    /// Whether each contender delivers every event once, whole and in order; untimed.
    fn check(&mut self, report: &mut Report, mut after_turn: impl FnMut()) -> Result<(), Error> {
        let setup = &self.case.setup;
        let events = ((2 * setup.capacity + 1_000) / setup.senders) as u64;
        for entry in &mut self.entries {
            if let (Play::Section(play), false) = (entry.contender.play, interrupted()) {
                let outcome = play(setup, &Task::Check { events })?;
                entry.fail(&self.case.name, &outcome.failures, report);
                after_turn();
            }
        }
        Ok(())
    }

    /// Gives each contender a turn.
    fn round(
        &mut self,
        floor: Option<FloorRound>,
        lasting: Duration,
        clock: &Clock,
        report: &mut Report,
        mut after_turn: impl FnMut(),
    ) -> Result<(), Error> {
        let lasting = lasting * self.stretch();
        let Some(task) = self.task(lasting, clock)? else { return Ok(()) };
        if let Task::Paced { rate, .. } = task {
            self.rates.push(rate);
        }
        let setup = &self.case.setup;
        for entry in &mut self.entries {
            if interrupted() || entry.has_failed {
                entry.figures.iter_mut().for_each(|row| row.push(None));
                continue;
            }
            let turn = entry.turn(&self.case, &task, floor, lasting)?;
            entry.fail(&self.case.name, &turn.outcome.failures, report);
            // A turn that an interrupt cut short has no figure.
            let is_whole = !interrupted();
            for (row, figure) in entry.figures.iter_mut().zip(turn.figures) {
                row.push(figure.filter(|_| is_whole));
            }
            entry.batches.extend(turn.outcome.mean_batch);
            entry.lags.extend(turn.outcome.mean_lag);
            if let Some(tally) = &turn.outcome.tally {
                entry.tally.get_or_insert_with(Tally::default).add(tally);
            }
            if setup.senders > 1 {
                entry.shares.extend(turn.outcome.least_share);
            }
            after_turn();
        }
        Ok(())
    }

    /// What this round's turns are for. A rate is a part of what ours manages in this very round,
    /// with the same clock readings on both sides; `None` where that could not be found out.
    fn task(&self, lasting: Duration, clock: &Clock) -> Result<Option<Task>, Error> {
        let Measure::Latency { part } = self.case.measure else { return Ok(Some(Task::Flood { lasting })) };
        let Play::Section(ours) = self.entries[0].contender.play else { return Ok(None) };
        let saturate = Task::Saturate { lasting, clock: clock.clone() };
        let saturated = ours(&self.case.setup, &saturate)?.ns;
        Ok(saturated.map(|ns| Task::Paced { rate: part * 1e9 / ns, lasting, clock: clock.clone() }))
    }

    /// Whether ours keeps to what it is held to, as far as those it is compared with were there.
    fn bounds(&self) -> Vec<Bound> {
        let rows = self.case.rows();
        let in_row = |(row, name): (usize, &String)| {
            let figures: Vec<_> = self
                .entries
                .iter()
                .map(|entry| bounds::Figures {
                    contender: entry.contender.name,
                    ns: &entry.figures[row],
                    shares: &entry.shares,
                })
                .collect();
            let claims = self.case.claims.iter().filter(|claim| claim.is_about(row));
            claims.filter_map(|claim| claim.judge(name, &figures)).collect::<Vec<_>>()
        };
        rows.iter().enumerate().flat_map(in_row).collect()
    }

    /// Says in words whose events were late or omitted, and why; and where nothing was measured.
    fn blame(&self) -> Vec<String> {
        let mut blame = Vec::new();
        if self.saturates() && self.rates.is_empty() {
            let name = &self.case.name;
            blame.push(format!(
                "{name}: nothing was measured, since ours came to nothing at full speed: try longer"
            ));
        }
        for Entry { contender, tally, .. } in &self.entries {
            let Some(tally) = tally else { continue };
            let its = format!("{}, {}", self.case.name, contender.name);
            if tally.is_saturated {
                blame.push(format!("{its}: this rate is beyond its saturation"));
            }
            blame.extend(tally.blame().into_iter().map(|why| format!("{its}: {why}")));
        }
        blame
    }

    /// Everybody's figures, and how they compare in the same rounds.
    fn results(&self) -> Vec<Comparison> {
        let rows = self.case.rows();
        let result = |(row, name): (usize, &String), entry: &Entry| {
            let figures: Vec<f64> = entry.figures[row].iter().copied().flatten().collect();
            let spread = Spread::of(&figures);
            let quotients = paired_quotients(&entry.figures[row], &self.entries[0].figures[row]);
            let ratio_spread = Spread::of(&quotients);
            Comparison {
                case: name.clone(),
                contender: entry.contender.name.to_owned(),
                ns_per_message: spread.map(|spread| spread.median),
                spread,
                ratio: ratio_spread.map(|spread| spread.median),
                ratio_spread,
                mean_batch: median(&entry.batches),
                mean_lag: median(&entry.lags),
                least_share: median(&entry.shares),
                messages_per_s: median(&self.rates),
                open_loop: entry.tally.as_ref().map(|tally| tally.to_report(None)),
                ..Comparison::default()
            }
        };
        let of_row = |row| self.entries.iter().map(move |entry| result(row, entry));
        rows.iter().enumerate().flat_map(of_row).collect()
    }
}

impl Entry {
    fn turn(
        &self,
        case: &Case,
        task: &Task,
        floor: Option<FloorRound>,
        lasting: Duration,
    ) -> Result<Turn, Error> {
        let setup = &case.setup;
        let mut outcome = Outcome::default();
        let figure = match self.contender.play {
            Play::Floor => floor.map(|floor| floor.median),
            Play::HandlerAlone => {
                // Where the first receiver runs.
                let core = setup.places[setup.senders];
                Some(match setup.width {
                    Width::One => handler_alone::<1>(setup.work, core, lasting)?,
                    Width::Eight => handler_alone::<8>(setup.work, core, lasting)?,
                    Width::Fifteen => handler_alone::<15>(setup.work, core, lasting)?,
                })
            }
            Play::RoundTrip(play) => {
                outcome = play(setup, lasting)?;
                outcome.ns
            }
            Play::Section(play) => {
                outcome = play(setup, task)?;
                outcome.ns
            }
        };
        let quantile = |&(_, quantile): &(_, f64)| {
            outcome.latency.as_ref().map(|times| times.value_at_quantile(quantile) as f64)
        };
        let figures = match case.measure.quantiles() {
            [] => vec![figure],
            quantiles => quantiles.iter().map(quantile).collect(),
        };
        Ok(Turn { figures, outcome })
    }

    fn fail(&mut self, case: &str, failures: &[String], report: &mut Report) {
        self.has_failed |= !failures.is_empty();
        let name = self.contender.name;
        report.failed_checks.extend(failures.iter().map(|failure| format!("{case}, {name}: {failure}")));
    }
}
