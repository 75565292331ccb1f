//! The models, and the mutants that they kill. What they are for stands in the crate's documentation.

mod clearing;
mod closing;
mod dense;
mod dropping;
mod faults;
mod gate;
mod groups;
mod joining;
mod lease;
mod mail;
#[cfg(ringmain_loom)]
mod mutants;
mod parking;
#[cfg(ringmain_loom)]
mod pausing;
mod publish;
#[cfg(ringmain_loom)]
mod queues;
#[cfg(ringmain_loom)]
mod rescue;
mod routing;
mod stages;
#[cfg(ringmain_loom)]
mod takeover;
#[cfg(ringmain_loom)]
mod tokens;
mod waiting;
mod waking;

use ringmain::ring::{
    Graph, MultiProducer, Polled, Poller, Ring, RingBuilder, SingleProducer, Stopped, Supervisor, Takeover,
};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::thread;

/// An event of two words, which are always written alike: one that is read half-written shows.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    left: u64,
    right: u64,
}

impl Pair {
    fn set(&mut self, value: u64) {
        self.left = value;
        self.right = value;
    }

    fn get(&self) -> u64 {
        assert_eq!(self.left, self.right, "an event was seen half-written");
        self.left
    }
}

/// A ring of pairs that spins, so that no fence of the parking protocol stands in for what a model is about.
fn spinning(capacity: usize) -> Graph<Pair> {
    graph(capacity, WaitStrategy::BusySpin)
}

/// A ring of pairs that parks.
fn parking(capacity: usize) -> Graph<Pair> {
    graph(capacity, WaitStrategy::Blocking)
}

fn graph(capacity: usize, wait: WaitStrategy) -> Graph<Pair> {
    RingBuilder::new(capacity, Pair::default).expect("a power of two").wait(wait).graph().expect("memory")
}

fn single(capacity: usize) -> (SingleProducer<Pair>, Poller<Pair>, Ring<Pair>) {
    let mut graph = spinning(capacity);
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (producer, ring) = graph.build_single_producer().expect("no threads to start");
    (producer, poller, ring)
}

fn multi(capacity: usize) -> (MultiProducer<Pair>, Poller<Pair>, Ring<Pair>) {
    let mut graph = spinning(capacity);
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (producer, ring) = graph.build_multi_producer().expect("no threads to start");
    (producer, poller, ring)
}

/// Stops a consumer, and takes its position over if it is in a call.
fn take_over<E>(supervisor: &Supervisor<E>) -> Option<Takeover<E>> {
    match supervisor.stop() {
        Stopped::BetweenCalls => None,
        Stopped::InCall(call) => call.take_over(),
    }
}

/// Polls until `count` events have come.
fn take(poller: &mut Poller<Pair>, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match poller.poll(count as u64, |event, _, _| seen.push(event.get())) {
            Polled::Events(_) => {}
            Polled::Empty | Polled::Missed(_) => thread::yield_now(),
            Polled::Finished => panic!("finished after {seen:?}"),
        }
    }
    seen
}

/// Polls a few times, which is all that a model needs of a consumer that races with others: events, and whether the
/// end was reached. A consumer that spins until then multiplies the executions and adds no interleaving.
fn glance(poller: &mut Poller<Pair>) -> (Vec<u64>, bool) {
    let mut seen = Vec::new();
    let has_ended = (0..2).any(|_| poller.poll(4, |event, _, _| seen.push(event.get())) == Polled::Finished);
    (seen, has_ended)
}

/// Polls until the ring is finished.
fn drain(poller: &mut Poller<Pair>) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        match poller.poll(4, |event, _, _| seen.push(event.get())) {
            Polled::Events(_) => {}
            Polled::Empty | Polled::Missed(_) => thread::yield_now(),
            Polled::Finished => return seen,
        }
    }
}
