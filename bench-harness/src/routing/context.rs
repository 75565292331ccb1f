//! What the sections share: the machine in each round, brokers that keep off the publisher's core,
//! and the rows of the report.

use std::time::Duration;

use ringmain::affinity::Pinning;
use ringmain::broker::{Broker, Dispatcher};
use ringmain::clock::Clock;
use ringmain::wait::WaitStrategy;

use super::extent::Extent;
use crate::error::Error;
use crate::interrupt::{self, interrupted};
use crate::machine::baseline::Baseline;
use crate::machine::cores;
use crate::progress::Progress;
use crate::report::{Bound, Comparison, Figure, Ledger, Report, Side};
use crate::stats::{Spread, paired_quotients};

/// How long floor and noise are taken before each round.
const BASELINE: Duration = Duration::from_millis(30);
/// Sections that begin rounds; the progress bar goes by them.
const SECTIONS: usize = 7;
/// How long a broker may take to deliver what it has.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a broker may take to stop; and when somebody waits for the program to end.
const SHUTDOWN: Duration = Duration::from_secs(10);
const HASTY_SHUTDOWN: Duration = Duration::from_millis(500);

pub(super) struct Context<'r> {
    pub(super) extent: Extent,
    pub(super) clock: Clock,
    /// Where the publisher runs.
    pub(super) publishers_core: Option<usize>,
    /// Where everybody else does.
    pub(super) others_core: Option<usize>,
    pub(super) report: &'r mut Report,
    baseline: Baseline,
    progress: Progress,
    rounds_begun: usize,
    ledger: Ledger,
}

impl<'r> Context<'r> {
    pub(super) fn new(extent: Extent, named: Option<&[usize]>, report: &'r mut Report) -> Self {
        let places = cores::place(named, 2);
        Self {
            extent,
            clock: Clock::hardware(),
            publishers_core: places[0],
            others_core: places[1],
            report,
            baseline: Baseline::new(&places, 1),
            progress: Progress::of_unknown_length("routing"),
            rounds_begun: 0,
            ledger: Ledger::empty(),
        }
    }

    /// Takes floor and noise; an error once the run was asked to stop.
    pub(super) fn begin_round(&mut self) -> Result<(), Error> {
        interrupt::check()?;
        self.progress.set(self.rounds_begun as f64 / (SECTIONS * self.extent.rounds) as f64);
        self.rounds_begun += 1;
        self.baseline.round(BASELINE)?;
        interrupt::check()
    }

    /// Whether a publisher has a core that it need not share.
    pub(super) fn has_cores(&self) -> bool {
        cores::run_side_by_side(self.publishers_core, self.others_core)
    }

    /// Near, far or mixed, so far.
    pub(super) fn mode(&self) -> Option<&'static str> {
        self.baseline.mode()
    }

    /// A broker of which all threads run beside the publisher. Its consumers yield, because others
    /// run where they do.
    pub(super) fn broker<P>(&self, dispatchers: &[&str], capacity: usize) -> Result<Broker<P>, Error>
    where
        P: Clone + Default + Send + Sync + 'static,
    {
        let core = self.others_core;
        let pinning = core.map_or(Pinning::Unpinned, |core| Pinning::Cores(vec![core]));
        let dispatcher = |name: &&str| {
            let dispatcher = Dispatcher::new(name).capacity(capacity).wait(WaitStrategy::Yielding);
            dispatcher.pinning(pinning.clone())
        };
        let builder = dispatchers
            .iter()
            .map(dispatcher)
            .fold(Broker::of(), |builder, dispatcher| builder.dispatcher(dispatcher));
        // The reclaimer inherits its place from the thread that builds the broker.
        std::thread::scope(|scope| {
            let building = scope.spawn(|| {
                cores::pin(core)?;
                Ok(builder.build()?)
            });
            building.join().expect("a broker is built or refused")
        })
    }

    /// Shuts a broker down and adds its account.
    pub(super) fn end<P>(&mut self, broker: &Broker<P>)
    where
        P: Clone + Default + Send + Sync + 'static,
    {
        let limit = if interrupted() { HASTY_SHUTDOWN } else { SHUTDOWN };
        let shutdown = broker.shutdown(limit).expect("no thread that fills a slot shuts down");
        self.ledger.add(&Ledger::of(&shutdown.ledger));
        for stuck in &shutdown.abandoned {
            let failure = format!("{} did not come back from {}", stuck.thread, stuck.subscription);
            self.report.failed_checks.push(failure);
        }
    }

    /// A row: the median of the rounds, and what it may be.
    pub(super) fn row(
        &mut self,
        case: impl Into<String>,
        rounds: &[f64],
        unit: &'static str,
        limit: Option<(Side, f64)>,
    ) {
        let Some(spread) = Spread::of(rounds) else { return };
        let (case, value) = (case.into(), spread.median);
        if let Some((side, bound)) = limit {
            self.report.bounds.push(Bound::new(case.clone(), side, bound, value, unit));
        }
        self.report.figures.push(Figure { case, value, unit, spread });
    }

    /// Contenders that took turns, in nanoseconds a round; all are compared with the first.
    pub(super) fn contest(&mut self, case: &str, contenders: &[(&str, &[f64])]) {
        let Some((_, first)) = contenders.first() else { return };
        for (contender, rounds) in contenders {
            let (spread, ratio_spread) = (Spread::of(rounds), Spread::of(&quotients(rounds, first)));
            self.report.results.push(Comparison {
                case: case.to_owned(),
                contender: (*contender).to_owned(),
                ns_per_message: spread.map(|spread| spread.median),
                spread,
                ratio: ratio_spread.map(|spread| spread.median),
                ratio_spread,
                ..Comparison::default()
            });
        }
    }

    /// Writes what all rounds have found of the machine and of the messages into the report.
    pub(super) fn describe(self) {
        self.report.describe_machine(&self.baseline);
        self.report.published = Some(self.ledger.published);
        self.report.delivered = Some(self.ledger.delivered);
        self.report.ledger = Some(self.ledger);
        self.report.notes.push(
            "a figure is the median of its rounds, from and to their extremes; where contenders took \
             turns, per message is that median too, and a ratio is a contender's time over that of the \
             first one in the same rounds"
                .to_owned(),
        );
    }
}

/// The quotients of figures of the same rounds.
pub(super) fn quotients(figures: &[f64], of: &[f64]) -> Vec<f64> {
    let all = |figures: &[f64]| figures.iter().copied().map(Some).collect::<Vec<_>>();
    paired_quotients(&all(figures), &all(of))
}
