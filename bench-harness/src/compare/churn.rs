//! Churn: how long a publish takes while consumers join the ring and leave it, a thousand times a
//! second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmain::clock::{Clock, Timestamp};
use ringmain::ring::{Ring, SingleProducer};

use super::channel::{Sender, Setup};
use super::drive::{Outcome, PATIENCE, Task, sending};
use super::managed::{Beside, Consumers};
use super::ours::{Event, builder};
use crate::error::Error;
use crate::machine::cores;
use crate::stats::histogram;

const W: usize = 8;
/// Between two publishes.
const PACE: Duration = Duration::from_micros(1);
/// Between two consumers that come and go.
const PAUSE: Duration = Duration::from_millis(1);

/// A producer that takes the time of its calls.
struct Timing {
    producer: SingleProducer<Event<W>>,
    clock: Clock,
    next: Timestamp,
    /// Calls that only warm up.
    warming: u64,
    times: Histogram<u64>,
    found: mpsc::Sender<Histogram<u64>>,
}

impl Sender<W> for Timing {
    #[inline(always)]
    fn try_send(&mut self, event: Event<W>) -> bool {
        let mut before = self.clock.now();
        while before < self.next {
            before = self.clock.now();
        }
        let is_sent = self.producer.publish(|slot| *slot = event).is_ok();
        let after = self.clock.now();
        self.next = after.after(PACE);
        if self.warming > 0 {
            self.warming -= 1;
        } else {
            self.times.saturating_record(after.since(before).as_nanos() as u64);
        }
        is_sent
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        let _ = self.found.send(std::mem::replace(&mut self.times, histogram()));
    }
}

/// A publisher and a consumer that nobody disturbs.
pub(super) fn alone(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    section(setup, task, None)
}

/// The same while others come and go; their thread runs beside the consumer, so that it takes no
/// time from the publisher.
pub(super) fn churning(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    let (core, refused) = (setup.places[setup.senders], AtomicU64::new(0));
    let churn = |ring: &Ring<Event<W>>, is_over: &AtomicBool| {
        let is_refused = cores::pin(core).is_err();
        refused.fetch_add(u64::from(is_refused), Ordering::Relaxed);
        let mut next = Instant::now();
        while !is_over.load(Ordering::Relaxed) {
            let joined = ring.join_poller(&[], PATIENCE);
            refused.fetch_add(u64::from(joined.is_err()), Ordering::Relaxed);
            drop(joined);
            next += PAUSE;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    };
    let mut outcome = section(setup, task, Some(&churn))?;
    let refused = refused.into_inner();
    if refused > 0 {
        outcome.failures.push(format!("{refused} consumers could not join"));
    }
    Ok(outcome)
}

fn section(setup: &Setup, task: &Task, beside: Option<Beside<'_, Event<W>>>) -> Result<Outcome, Error> {
    let mut graph = builder::<W>(setup)?.graph()?;
    let consumers = Consumers::add(&mut graph, setup, task)?;
    let (producer, ring) = graph.build_single_producer()?;
    let (finder, found) = mpsc::channel();
    let clock = Clock::hardware();
    let next = clock.now();
    let warming = 2 * setup.capacity as u64;
    let timing = Timing { producer, clock, next, warming, times: histogram(), found: finder };
    let mut outcome = consumers.drive(setup, task, vec![sending(timing)], ring, beside)?;
    outcome.latency = found.try_recv().ok().filter(|times| !times.is_empty());
    Ok(outcome)
}
