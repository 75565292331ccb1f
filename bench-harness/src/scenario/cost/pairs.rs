//! Pairs: a batch with the feature and one without, in turns.

use std::hint::black_box;
use std::time::Instant;

use ringmain::broker::simulation::Simulation;
use ringmain::broker::{Broker, Dispatcher, PublishOptions, Publisher};

use super::cases::{Arm, Case, Event};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::machine::instructions::Counter;
use crate::report::Ledger;

/// Messages that are published, and then delivered, at once: their slots fit a first-level cache's bigger
/// brother.
pub(super) const BATCH: usize = 512;
/// Slots of the ring.
const CAPACITY: usize = 1_024;
/// Pairs on the same two brokers.
pub(super) const PAIRS_OF_A_BLOCK: usize = 50;
/// Pairs before those that count: the ring goes round, and what is allocated once is allocated.
const WARM_UP: usize = 4;
/// Pairs of a block whose instructions are counted.
const COUNTED: usize = 4;

const TOPIC: &str = "prices.eurusd.spot";

/// A figure of both sides, pair by pair, a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Sides {
    pub(super) off: Vec<f64>,
    pub(super) on: Vec<f64>,
}

impl Sides {
    fn push(&mut self, off: f64, on: f64) {
        self.off.push(off);
        self.on.push(on);
    }

    /// What the feature adds, pair by pair.
    pub(super) fn differences(&self) -> Vec<f64> {
        self.off.iter().zip(&self.on).map(|(off, on)| on - off).collect()
    }
}

/// What was found of one case.
pub(super) struct Measured {
    /// In nanoseconds.
    pub(super) deliver: Sides,
    pub(super) publish: Sides,
    /// Empty where they cannot be counted.
    pub(super) deliver_instructions: Sides,
    pub(super) publish_instructions: Sides,
    pub(super) ledger: Ledger,
    /// Deliveries that should have been, and that handlers saw.
    pub(super) expected: u64,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            deliver: Sides::default(),
            publish: Sides::default(),
            deliver_instructions: Sides::default(),
            publish_instructions: Sides::default(),
            ledger: Ledger::empty(),
            expected: 0,
        }
    }
}

/// What publishing a batch and delivering it took, a message.
#[derive(Clone, Copy, Debug)]
struct Batch {
    publish: f64,
    deliver: f64,
}

impl Batch {
    fn of(publish: u64, deliver: u64) -> Self {
        let each = |all: u64| all as f64 / BATCH as f64;
        Self { publish: each(publish), deliver: each(deliver) }
    }
}

/// A broker with one side's set-up.
struct Bench {
    simulation: Simulation<Event>,
    publisher: Publisher<Event>,
    options: Option<PublishOptions>,
    subscriptions: u64,
    published: u64,
}

impl Bench {
    fn new(arm: &Arm) -> Result<Self, Error> {
        let dispatcher = Dispatcher::new("cost").capacity(CAPACITY);
        let dispatcher = if arm.rescuable { dispatcher.rescuable() } else { dispatcher };
        let mut builder = Broker::of::<Event>().dispatcher(dispatcher);
        if let Some(options) = arm.dead_letters {
            builder = builder.dead_letters(options());
        }
        let mut simulation = builder.simulate()?;
        let broker = simulation.broker();
        for _ in 0..arm.subscriptions {
            let builder = (arm.told)(broker.subscription().pattern(TOPIC));
            let subscription = builder.subscribe(|message| {
                black_box(message[0]);
            });
            subscription
                .map_err(|error| Error::Usage(format!("the engine refused a subscription: {error}")))?
                .detach();
        }
        simulation.run();
        let publisher = broker.publisher(TOPIC).expect("a topic of three words");
        let options = arm.published.map(|options| options());
        let subscriptions = arm.subscriptions as u64;
        Ok(Self { simulation, publisher, options, subscriptions, published: 0 })
    }

    /// Publishes a batch.
    fn publish(&mut self) {
        for _ in 0..BATCH {
            let payload = black_box([self.published; 7]);
            let outcome = match &self.options {
                None => self.publisher.publish(payload),
                Some(options) => self.publisher.publish_with(payload, options),
            };
            self.published += u64::from(outcome.is_ok());
        }
    }

    /// Publishes a batch and has it delivered, in nanoseconds.
    fn timed(&mut self) -> Batch {
        let begun = Instant::now();
        self.publish();
        let filled = Instant::now();
        self.simulation.run();
        let emptied = Instant::now();
        Batch::of((filled - begun).as_nanos() as u64, (emptied - filled).as_nanos() as u64)
    }

    /// Does the same, in instructions; `None` where they are not counted.
    fn counted(&mut self, counter: &mut Counter) -> Option<Batch> {
        let publish = counter.count(|| self.publish());
        let deliver = counter.count(|| self.simulation.run());
        publish.zip(deliver).map(|(publish, deliver)| Batch::of(publish, deliver))
    }

    /// Ends it and adds its account.
    fn end(self, batches: u64, measured: &mut Measured) {
        let Self { simulation, publisher, subscriptions, .. } = self;
        drop(publisher);
        measured.ledger.add(&Ledger::of(&simulation.shutdown().ledger));
        measured.expected += batches * BATCH as u64 * subscriptions;
    }
}

/// Measures some pairs of one case, on new brokers.
pub(super) fn block(
    case: &Case,
    pairs: usize,
    counter: &mut Counter,
    measured: &mut Measured,
) -> Result<(), Error> {
    let (mut off, mut on) = (Bench::new(&case.off)?, Bench::new(&case.on)?);
    let mut batches = 0;
    for pair in 0..WARM_UP + pairs {
        if interrupted() {
            break;
        }
        // A B B A: neither always comes after the other.
        let (of_off, of_on) = if pair % 2 == 0 {
            let of_off = off.timed();
            (of_off, on.timed())
        } else {
            let of_on = on.timed();
            (off.timed(), of_on)
        };
        batches += 1;
        if pair >= WARM_UP {
            measured.deliver.push(of_off.deliver, of_on.deliver);
            measured.publish.push(of_off.publish, of_on.publish);
        }
    }
    // Apart from what is timed: to start and to stop a counter takes a system call.
    if counter.unavailable().is_none() {
        for _ in 0..COUNTED {
            let both = off.counted(counter).zip(on.counted(counter));
            batches += 1;
            if let Some((of_off, of_on)) = both {
                measured.deliver_instructions.push(of_off.deliver, of_on.deliver);
                measured.publish_instructions.push(of_off.publish, of_on.publish);
            }
        }
    }
    off.end(batches, measured);
    on.end(batches, measured);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::cases;
    use super::*;

    #[test]
    fn each_case_delivers_all_that_it_publishes_on_both_sides() {
        for case in cases::all() {
            let mut measured = Measured::default();
            block(&case, 2, &mut Counter::open(), &mut measured).expect("valid set-ups");
            assert!(measured.ledger.balanced, "{}", case.name);
            assert_eq!(measured.ledger.delivered, measured.expected, "{}", case.name);
            assert_eq!((measured.deliver.off.len(), measured.publish.on.len()), (2, 2), "{}", case.name);
        }
    }
}
