//! Contenders that take turns, round by round, so that a change of the machine's mode hits all of
//! them alike.

use std::time::Duration;

use ringmain::clock::Clock;

use crate::compare;
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::load::plan::Plan;
use crate::load::raw;
use crate::load::reader::Numbers;
use crate::load::session::Session;
use crate::machine::floor::FloorRound;
use crate::report::{Comparison, Ledger};
use crate::stats::{Spread, median, paired_quotients};
use crate::units::grouped;

/// What a contender does in its turn.
enum Turn {
    /// The engine under this load.
    Engine(Plan),
    /// The ring alone, under a load like this.
    Ring(Plan),
    /// Events through two rings, there and back.
    RoundTrip,
    /// The floor of the round, taken by the baseline.
    Floor,
}

/// A contender, and its figures so far: one a round, `None` where the round came to nothing.
struct Contender {
    case: String,
    name: &'static str,
    turn: Turn,
    /// The place of the contender that it is compared with.
    against: usize,
    figures: Vec<Option<f64>>,
}

/// A contest; the first contender is the engine under the load that was asked for.
pub(super) struct Contest {
    clock: Clock,
    pair: (Option<usize>, Option<usize>),
    contenders: Vec<Contender>,
    /// Of the first contender alone.
    pub(super) ledger: Ledger,
    /// Of all engines.
    pub(super) ledger_of_all: Ledger,
    /// How long the first contender was at work.
    pub(super) elapsed: Duration,
    pub(super) failures: Vec<String>,
}

impl Contest {
    /// A contest of one contender; the round trips are taken between this pair of cores.
    pub(super) fn new(plan: Plan, clock: &Clock, pair: (Option<usize>, Option<usize>)) -> Self {
        let mut contest = Self {
            clock: clock.clone(),
            pair,
            contenders: Vec::new(),
            ledger: Ledger::empty(),
            ledger_of_all: Ledger::empty(),
            elapsed: Duration::ZERO,
            failures: Vec::new(),
        };
        contest.engine(plan);
        contest
    }

    /// Adds the engine under another load.
    pub(super) fn engine(&mut self, plan: Plan) {
        self.add(case(&plan), "engine", Turn::Engine(plan), 0);
    }

    /// Adds the ring alone, if it can do what the plan asks for: a consumer for every subscriber.
    pub(super) fn ring(&mut self, plan: Plan) {
        if plan.consumers == plan.load.subscribers {
            self.add("raw ring multi 128 B".to_owned(), "ring", Turn::Ring(plan), 0);
        }
    }

    /// Adds a round trip through two rings, and the floor beside it.
    pub(super) fn round_trip(&mut self) {
        let ours = self.contenders.len();
        self.add("round trip, 56 B".to_owned(), "ring", Turn::RoundTrip, ours);
        self.add("round trip, 56 B".to_owned(), "floor (two atomics)", Turn::Floor, ours);
    }

    fn add(&mut self, case: String, name: &'static str, turn: Turn, against: usize) {
        self.contenders.push(Contender { case, name, turn, against, figures: Vec::new() });
    }

    /// How many contenders take time.
    pub(super) fn turns(&self) -> u32 {
        self.contenders.iter().filter(|contender| !matches!(contender.turn, Turn::Floor)).count() as u32
    }

    /// Gives every contender a turn. Those whose turn an interrupt cuts short get no figure.
    pub(super) fn round(
        &mut self,
        floor: Option<FloorRound>,
        lasting: Duration,
        mut after_turn: impl FnMut(),
    ) -> Result<(), Error> {
        for (place, contender) in self.contenders.iter_mut().enumerate() {
            let figure = match &contender.turn {
                _ if interrupted() => None,
                Turn::Floor => floor.map(|floor| floor.median),
                Turn::RoundTrip => {
                    let (ns, failures) = compare::round_trip(self.pair, lasting / 2)?;
                    self.failures.extend(failures);
                    ns
                }
                Turn::Ring(plan) => {
                    let (saturated, failures) = raw::saturate(plan, &self.clock, lasting)?;
                    self.failures.extend(failures);
                    saturated.ns_per_message()
                }
                Turn::Engine(plan) => match Session::start(plan, &self.clock, Numbers::Count)? {
                    None => None,
                    Some(mut session) => {
                        let saturated = session.saturate(lasting)?;
                        let ended = session.finish();
                        self.failures.extend(ended.failures);
                        self.ledger_of_all.add(&ended.ledger);
                        if place == 0 {
                            self.ledger.add(&ended.ledger);
                            self.elapsed += saturated.whole;
                        }
                        saturated.ns_per_message()
                    }
                },
            };
            contender.figures.push(figure.filter(|_| !interrupted()));
            after_turn();
        }
        Ok(())
    }

    /// The first contender's nanoseconds a message in the latest round.
    pub(super) fn latest(&self) -> Option<f64> {
        self.contenders[0].figures.last().copied().flatten()
    }

    /// The first contender's nanoseconds a message: the median of the rounds.
    pub(super) fn ns_per_message(&self) -> Option<f64> {
        median(&self.contenders[0].figures.iter().copied().flatten().collect::<Vec<_>>())
    }

    /// Everybody's figures, and how they compare in the same rounds.
    pub(super) fn results(&self) -> Vec<Comparison> {
        let result = |contender: &Contender| {
            let figures: Vec<f64> = contender.figures.iter().copied().flatten().collect();
            let ours = &self.contenders[contender.against].figures;
            let spread = Spread::of(&figures);
            Comparison {
                case: contender.case.clone(),
                contender: contender.name.to_owned(),
                ns_per_message: spread.map(|spread| spread.median),
                spread,
                ratio: paired_ratio(&contender.figures, ours),
                messages_per_s: match contender.turn {
                    Turn::Engine(_) | Turn::Ring(_) => spread.map(|spread| 1e9 / spread.median),
                    Turn::RoundTrip | Turn::Floor => None,
                },
                ..Comparison::default()
            }
        };
        self.contenders.iter().map(result).collect()
    }
}

/// The median of the quotients of figures of the same rounds.
pub(super) fn paired_ratio(figures: &[Option<f64>], ours: &[Option<f64>]) -> Option<f64> {
    median(&paired_quotients(figures, ours))
}

/// The name of an engine's load.
fn case(plan: &Plan) -> String {
    let load = &plan.load;
    let topics = match (load.runtime_topics, load.topics) {
        (false, 1) => "engine bound topic".to_owned(),
        (false, topics) => format!("engine bound topics ({})", grouped(topics as u64)),
        (true, topics) => format!("engine run-time topics ({})", grouped(topics as u64)),
    };
    match load.subscribers {
        _ if plan.by_default => format!("{topics}, default options"),
        1 => topics,
        subscribers => format!("{topics}, {subscribers} subscribers"),
    }
}
