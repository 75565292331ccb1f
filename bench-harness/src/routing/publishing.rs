//! Publishing while the table stands still: to a bound topic, and to run-time topics that the
//! publisher remembers.
//!
//! Here the publisher alone is timed: the consumer is held up in its handler by a [`Gate`] while a
//! block of messages is published, and drains the ring between two blocks. So the ring has room,
//! nobody fights for its lines, and what stands there beside the ring alone is the work of the
//! broker: envelope, ledger and routing. How many instructions that is, is counted by
//! `scripts/instructions.sh`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ringmain::affinity::Pinning;
use ringmain::ring::RingBuilder;
use ringmain::wait::WaitStrategy;

use super::context::{Context, PATIENCE};
use super::patterns::Population;
use crate::error::Error;
use crate::interrupt;
use crate::machine::cores;
use crate::report::Side;
use crate::stats::median;

/// What is published: 64 bytes.
type Body = [u64; 8];

const CAPACITY: usize = 4_096;
/// Messages that are timed together.
const BLOCK: usize = 1_024;
/// Blocks of each contender in a round, the first of which warms up.
const BLOCKS: usize = 50;
/// Run-time topics that the publisher remembers.
const FEW: usize = 100;
const MANY: usize = 1_000;
/// Looks at the gate before the core is offered to others.
const SPINS: u32 = 1 << 12;
/// Nanoseconds that a remembered topic may add to a bound one.
const MAX_ADDED: f64 = 60.0;

/// Holds a consumer up in its handler.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    // Nothing is handed over by the gate, so relaxed is enough.
    fn shut(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn open(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn pass(&self) {
        let mut looks = 0_u32;
        while self.0.load(Ordering::Relaxed) {
            looks += 1;
            match looks % SPINS {
                0 => std::thread::yield_now(),
                _ => std::hint::spin_loop(),
            }
        }
    }
}

/// Nanoseconds a message of the block in the middle. `publish` takes a message's number, `drain`
/// waits until the ring is empty.
fn time(
    gate: &Gate,
    mut publish: impl FnMut(usize) -> bool,
    mut drain: impl FnMut() -> bool,
) -> Result<f64, Error> {
    let mut blocks = Vec::with_capacity(BLOCKS);
    for block in 0..BLOCKS {
        interrupt::check()?;
        gate.shut();
        let started = Instant::now();
        let are_published = (0..BLOCK).all(|number| publish(block * BLOCK + number));
        let took = started.elapsed();
        gate.open();
        assert!(are_published && drain(), "an open ring with room takes all, and its consumer all of that");
        if block > 0 {
            blocks.push(took.as_nanos() as f64 / BLOCK as f64);
        }
    }
    Ok(median(&blocks).expect("more than one block"))
}

pub(super) fn measure(context: &mut Context<'_>, population: &Population) -> Result<(), Error> {
    let gate = Gate::default();
    let mut ring = {
        let pinning = context.others_core.map_or(Pinning::Unpinned, |core| Pinning::Cores(vec![core]));
        let gate = gate.clone();
        let mut graph = RingBuilder::new(CAPACITY, Body::default)?
            .wait(WaitStrategy::Yielding)
            .pinning(pinning)
            .graph()?;
        graph.consumer("routing", &[], move |_event, _sequence, _end| gate.pass())?;
        graph.build_multi_producer()?
    };
    let broker = context.broker::<Body>(&["routing"], CAPACITY)?;
    let subscription = {
        let gate = gate.clone();
        broker.subscribe("#", move |_message| gate.pass()).expect("a valid pattern, an open broker")
    };
    let topics = population.topics(MANY);
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..context.extent.rounds {
        context.begin_round()?;
        // On a thread of its own, because pinning is for its life.
        let figures = std::thread::scope(|scope| {
            let (producer, ring) = (&mut ring.0, &ring.1);
            let (broker, gate, topics, core) = (&broker, &gate, &topics, context.publishers_core);
            let publishing = scope.spawn(move || {
                cores::pin(core)?;
                let body = std::hint::black_box([1; 8]);
                let drain_ring = || {
                    while ring.depth() > 0 {
                        std::thread::yield_now();
                    }
                    true
                };
                let drain = || broker.drain(PATIENCE).is_ok();
                let mut bound = broker.publisher(topics[0].as_str()).expect("a valid topic");
                let mut remembering = broker.any_topic_publisher();
                let mut at_run_time = |topics: &[_]| {
                    let topic =
                        |number: usize| ringmain::topic::Topic::as_str(&topics[number % topics.len()]);
                    time(gate, |number| remembering.publish(topic(number), body).is_ok(), drain)
                };
                Ok::<_, Error>([
                    time(gate, |_| producer.publish(|slot| *slot = body).is_ok(), drain_ring)?,
                    time(gate, |_| bound.publish(body).is_ok(), drain)?,
                    at_run_time(&topics[..FEW])?,
                    at_run_time(topics)?,
                ])
            });
            publishing.join().expect("a publisher does not panic")
        })?;
        for (rounds, figure) in rounds.iter_mut().zip(figures) {
            rounds.push(figure);
        }
    }
    subscription.detach();
    context.end(&broker);
    let [alone, bound, few, many] = &rounds;
    let (of_few, of_many) =
        (format!("remembered topic, 1 of {FEW}"), format!("remembered topic, 1 of {}", topics.len()));
    context.contest(
        "publish call 64 B",
        &[("bound topic", bound), ("ring alone", alone), (&of_few, few), (&of_many, many)],
    );
    // Between distant cores the lines of the ring's slots take longer, of which nothing is due to
    // routing.
    let limit = (context.mode() == Some("near")).then_some((Side::AtMost, MAX_ADDED));
    context.row("publish: a bound topic adds to the ring alone", &added(bound, alone), "ns", None);
    context.row(format!("publish: a {of_few}, adds to a bound one"), &added(few, bound), "ns", limit);
    context.row(format!("publish: a {of_many}, adds to a bound one"), &added(many, bound), "ns", None);
    Ok(())
}

/// What figures are above others of the same rounds.
fn added(figures: &[f64], to: &[f64]) -> Vec<f64> {
    figures.iter().zip(to).map(|(figure, to)| figure - to).collect()
}
