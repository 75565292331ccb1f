//! Ping-pong: an event goes there through one channel and back through another, and only then the
//! next one.
//!
//! Blocks of round trips are timed together, as the floor's are, because reading a clock costs a
//! good part of one. Ours is played between two managed consumers, each of which publishes to the
//! other's ring; rivals have two threads that poll.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringmain::ring::{ConsumerOptions, EventHandler, RingBuilder, Sequence, SingleProducer};
use ringmain::wait::WaitStrategy;

use super::channel::{SMALL, Setup, Width};
use super::drive::Outcome;
use super::event::event;
use super::ours::{Event, pinning};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::machine::cores;
use crate::stats::median;

/// The words of an event, which with a stamp fill a cache line.
pub(super) const WORDS: usize = 7;
/// Round trips that are timed together.
pub(super) const BLOCK: u64 = 64;
/// How much longer than it should last a section may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Nanoseconds a round trip through two of our rings between the setup's cores, the median of
/// blocks; none where there is nothing to measure, as between a core and itself. A failure where
/// something else came back than was sent.
pub(super) fn ours(setup: &Setup, lasting: Duration) -> Result<Outcome, Error> {
    let (first, second) = (setup.places[0], setup.places[1]);
    if !cores::run_side_by_side(first, second) {
        return Ok(Outcome::default());
    }
    let graph = |core| -> Result<_, Error> {
        let builder = RingBuilder::new(setup.capacity, || [0; WORDS])?.wait(WaitStrategy::BusySpin);
        Ok(builder.pinning(pinning(&[core])).graph()?)
    };
    let (hand_over, sending) = mpsc::channel();
    let (finder, found) = mpsc::channel();
    let mut back = graph(first)?;
    back.consumer_with(ConsumerOptions::new("asking"), move || Asking::new(sending, finder, lasting))?;
    let (mut returning, mut back) = back.build_single_producer()?;
    let mut there = graph(second)?;
    there.consumer("answering", &[], move |event, _sequence, _end_of_batch| {
        // Refused only when the game is over.
        let _ = returning.publish(|slot| *slot = *event);
    })?;
    let (mut sending, mut there) = there.build_single_producer()?;
    let _ = sending.publish(|slot| *slot = event(1));
    let _ = hand_over.send(sending);
    let outcome = match found.recv_timeout(lasting + PATIENCE) {
        Ok(Ok(blocks)) => Outcome { ns: median(&blocks), ..Outcome::default() },
        Ok(Err(failure)) => Outcome { failures: vec![failure], ..Outcome::default() },
        // A machine that is busy otherwise.
        Err(_) => Outcome::default(),
    };
    for ring in [&mut there, &mut back] {
        ring.halt();
        // Its thread does nothing but spin; should it not end, there is nobody to tell.
        let _ = ring.shutdown(PATIENCE);
    }
    Ok(outcome)
}

/// Nanoseconds that an event of 56 bytes takes there and back through two of our rings between
/// these cores; and what came back wrong, in words.
pub(crate) fn between(
    (first, second): (Option<usize>, Option<usize>),
    lasting: Duration,
) -> Result<(Option<f64>, Vec<String>), Error> {
    let mut setup = Setup::new(Width::Eight, SMALL, None);
    setup.places = vec![first, second];
    let outcome = ours(&setup, lasting)?;
    Ok((outcome.ns, outcome.failures))
}

/// The consumer that asks: sends the next event when the last one has come back.
struct Asking {
    /// Through which its producer comes, after the first event was sent.
    handed_over: mpsc::Receiver<SingleProducer<Event<WORDS>>>,
    producer: Option<SingleProducer<Event<WORDS>>>,
    number: u64,
    lasting: Duration,
    started: Instant,
    block_started: Instant,
    blocks: Vec<f64>,
    is_warm: bool,
    found: mpsc::Sender<Result<Vec<f64>, String>>,
}

impl Asking {
    fn new(
        handed_over: mpsc::Receiver<SingleProducer<Event<WORDS>>>,
        found: mpsc::Sender<Result<Vec<f64>, String>>,
        lasting: Duration,
    ) -> Self {
        let (now, blocks) = (Instant::now(), Vec::with_capacity(max_blocks(lasting)));
        Self {
            handed_over,
            producer: None,
            number: 1,
            lasting,
            started: now,
            block_started: now,
            blocks,
            is_warm: false,
            found,
        }
    }

    /// Ends a block; whether there is to be another one.
    fn end_block(&mut self) -> bool {
        let now = Instant::now();
        // The first one warms everything.
        if self.is_warm {
            self.blocks.push((now - self.block_started).as_nanos() as f64 / BLOCK as f64);
        }
        (self.is_warm, self.block_started) = (true, now);
        let is_over = self.blocks.len() == self.blocks.capacity()
            || interrupted()
            || (!self.blocks.is_empty() && now - self.started > self.lasting);
        if is_over {
            let _ = self.found.send(Ok(std::mem::take(&mut self.blocks)));
        }
        !is_over
    }
}

impl EventHandler<Event<WORDS>> for Asking {
    #[inline(always)]
    fn on_event(&mut self, found: &Event<WORDS>, _sequence: Sequence, _end_of_batch: bool) {
        if *found != event(self.number) {
            let _ = self.found.send(Err(format!("event {} came back as {found:?}", self.number)));
            return;
        }
        if self.number.is_multiple_of(BLOCK) && !self.end_block() {
            return;
        }
        self.number += 1;
        if self.producer.is_none() {
            self.producer = self.handed_over.recv().ok();
        }
        if let Some(producer) = &mut self.producer {
            // Refused only when the game is over.
            let _ = producer.publish(|slot| *slot = event(self.number));
        }
    }
}

pub(super) fn max_blocks(lasting: Duration) -> usize {
    (lasting.as_micros() as usize / 4).clamp(16, 1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_through_two_rings_takes_time() {
        let setup = Setup::new(Width::Eight, 1_024, None);
        // On a machine that is busy otherwise a round may come to nothing.
        for _attempt in 0..20 {
            let found = ours(&setup, Duration::from_millis(20)).expect("our cores");
            assert_eq!(found.failures, [""; 0]);
            if let Some(ns) = found.ns {
                assert!(ns > 1.0);
                return;
            }
        }
        assert!(!cores::run_side_by_side(setup.places[0], setup.places[1]), "two cores, and no round trip");
    }

    #[test]
    fn one_core_has_no_round_trip() {
        let only = cores::place(None, 1)[0];
        let mut setup = Setup::new(Width::Eight, 64, None);
        setup.places = vec![only, only];
        let found = ours(&setup, Duration::from_secs(3_600)).expect("our core");
        assert!(found.ns.is_none() && found.failures.is_empty());
    }
}
