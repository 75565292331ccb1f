//! The ring alone: what the engine's throughput and the floor's round trip are compared with.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use ringmain::clock::{Clock, Timestamp};
use ringmain::ring::{BuildError, ExclusiveProducer, MultiProducer, Polled, Poller, Ring, RingBuilder};

use super::load::{STRIDE, Saturated, longest};
use super::plan::Plan;
use crate::cores;
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::stats::median;

/// The words of an event: with the ring's own they fill two cache lines, as the engine's envelope does.
const WORDS: usize = 15;
/// Round trips that are timed together, as the floor's are.
const BLOCK: u64 = 64;
/// The slots of the rings of a round trip.
const ROUND_TRIP_CAPACITY: usize = 1_024;
/// Looks at a ring between two looks at the clock and at the interrupt.
const PATIENCE: u32 = 1 << 14;
/// Tells the answering thread to go.
const STOP: u64 = u64::MAX;
/// How long the ring's threads may take to end.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// The longest warm-up; it ends earlier when the ring has been round twice.
const WARM_UP: Duration = Duration::from_millis(100);

/// An event: its producer's count, its producer, and filling.
#[derive(Clone, Copy, Debug, Default)]
struct Event([u64; WORDS]);

impl Event {
    #[inline]
    fn numbered(producer: u64, number: u64) -> Self {
        let mut words = [number; WORDS];
        words[1] = producer;
        Self(words)
    }

    /// The sum over all words, that all are read.
    #[inline]
    fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, word| sum.wrapping_add(*word))
    }
}

/// A consumer that reads every byte, and hands over what it has found when it ends.
struct Reader {
    next: Vec<u64>,
    wrong: u64,
    found: mpsc::Sender<(Vec<u64>, u64)>,
}

impl Reader {
    #[inline]
    fn read(&mut self, event: &Event) {
        let [number, producer, ..] = event.0;
        let expected = number.wrapping_mul(WORDS as u64 - 1).wrapping_add(producer);
        let is_whole = black_box(event.sum()) == expected;
        match self.next.get_mut(producer as usize) {
            Some(next) if is_whole && *next == number => *next += 1,
            _ => self.wrong += 1,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Nobody waits for it any more when the run was given up.
        let _ = self.found.send((std::mem::take(&mut self.next), self.wrong));
    }
}

/// Sends events through a ring with as many producers and consumers as the plan has, on the same cores, with the same
/// wait and capacity, as fast as back-pressure allows; and what was found wrong, in words.
pub(super) fn saturate(
    plan: &Plan,
    clock: &Clock,
    lasting: Duration,
) -> Result<(Saturated, Vec<String>), Error> {
    let (found, findings) = mpsc::channel();
    let producers = plan.load.publishers;
    let mut graph = RingBuilder::new(plan.load.capacity, Event::default)
        .map_err(unbuilt)?
        .wait(plan.wait())
        .pinning(plan.pinning())
        .graph();
    for number in 0..plan.consumers {
        let mut reader = Reader { next: vec![0; producers], wrong: 0, found: found.clone() };
        graph
            .consumer(&format!("raw-{number}"), &[], move |event, _sequence, _end| reader.read(event))
            .map_err(unbuilt)?;
    }
    drop(found);
    let (producer, mut ring) = graph.multi().map_err(unbuilt)?;
    let sections = produce(plan, clock, &producer, &ring, lasting)?;
    let mut failures = Vec::new();
    if ring.shutdown(SHUTDOWN).is_err() && !interrupted() {
        failures.push("the raw ring's consumers did not end".to_owned());
    }
    let sent: Vec<u64> = sections.iter().map(|section| section.sent_in_all).collect();
    for (received, wrong) in findings.try_iter() {
        if received != sent || wrong > 0 {
            let (received, sent) = (received.iter().sum::<u64>(), sent.iter().sum::<u64>());
            failures.push(format!(
                "a consumer of the raw ring got {received} of {sent} events in order, and {wrong} wrong ones"
            ));
        }
    }
    let saturated = Saturated {
        messages: sections.iter().map(|section| section.sent).sum(),
        elapsed: longest(sections.iter().map(|section| (section.started, section.ended))),
        whole: longest(sections.iter().map(|section| (section.began, section.ended))),
    };
    Ok((saturated, failures))
}

/// What one producer did.
struct Section {
    sent_in_all: u64,
    /// In the part that counts.
    sent: u64,
    began: Timestamp,
    started: Timestamp,
    /// When everything had been consumed.
    ended: Timestamp,
}

fn produce(
    plan: &Plan,
    clock: &Clock,
    producer: &MultiProducer<Event>,
    ring: &Ring<Event>,
    lasting: Duration,
) -> Result<Vec<Section>, Error> {
    let producers = plan.load.publishers;
    let lap = (2 * plan.load.capacity).div_ceil(producers) as u64;
    let (together, are_misplaced) = (&Barrier::new(producers), &AtomicBool::new(false));
    let settled = &AtomicU64::new(0);
    let settle = &|| {
        if together.wait().is_leader() {
            while ring.depth() > 0 && !interrupted() {
                if plan.shares_cores() {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
            settled.store(clock.now().as_nanos(), Ordering::Relaxed);
        }
        // The barriers order the moment.
        together.wait();
        Timestamp::from_nanos(settled.load(Ordering::Relaxed))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|number| {
                let mut producer = producer.clone();
                scope.spawn(move || {
                    let pinned = cores::pin(plan.placed[number]);
                    are_misplaced.fetch_or(pinned.is_err(), Ordering::Relaxed);
                    together.wait();
                    pinned?;
                    if are_misplaced.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                    let mut sent = 0;
                    let began = clock.now();
                    let warm_by = began.after(WARM_UP);
                    flood(&mut producer, number as u64, &mut sent, |sent| {
                        sent < lap && clock.now() < warm_by
                    });
                    settle();
                    let (warmed, started) = (sent, clock.now());
                    let end = started.after(lasting);
                    flood(&mut producer, number as u64, &mut sent, |_| clock.now() < end);
                    let ended = settle();
                    Ok(Some(Section { sent_in_all: sent, sent: sent - warmed, began, started, ended }))
                })
            })
            .collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().expect("a producer does not panic"));
        outcomes.filter_map(Result::transpose).collect()
    })
}

fn flood(
    producer: &mut MultiProducer<Event>,
    number: u64,
    sent: &mut u64,
    mut go_on: impl FnMut(u64) -> bool,
) {
    while !interrupted() && go_on(*sent) {
        for _ in 0..STRIDE {
            let event = Event::numbered(number, *sent);
            // The ring blocks without limit, and is closed only after this.
            if producer.publish(|slot| *slot = event).is_ok() {
                *sent += 1;
            }
        }
    }
}

/// Sends events of 56 bytes there and back through two rings with one producer each, both sides looking without pause,
/// as the floor does with two bare cache lines. Nanoseconds a round trip, the median of blocks; `None` where there
/// is nothing to measure.
pub(super) fn round_trip(
    (first, second): (Option<usize>, Option<usize>),
    lasting: Duration,
) -> Result<Option<f64>, Error> {
    if !cores::run_side_by_side(first, second) {
        return Ok(None);
    }
    let (mut there, mut arriving, _there) = way()?;
    let (mut back, mut returning, _back) = way()?;
    let (both, unpinned) = (&Barrier::new(2), &AtomicBool::new(false));
    let start = |core| {
        let pinned = cores::pin(core);
        unpinned.fetch_or(pinned.is_err(), Ordering::Relaxed);
        both.wait();
        pinned.map(|()| !unpinned.load(Ordering::Relaxed))
    };
    let blocks = std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            if start(second)? {
                answer(&mut arriving, &mut back);
            }
            Ok::<(), Error>(())
        });
        let asking = scope.spawn(|| {
            let blocks = if start(first)? { ask(&mut there, &mut returning, lasting) } else { Vec::new() };
            // The answering thread empties the ring until it gets this.
            let _ = there.publish(|event| *event = [STOP; 7]);
            Ok::<Vec<f64>, Error>(blocks)
        });
        let blocks = asking.join().expect("the asking thread does not panic")?;
        answering.join().expect("the answering thread does not panic")?;
        Ok::<Vec<f64>, Error>(blocks)
    })?;
    Ok(median(&blocks))
}

type Small = [u64; 7];

/// A ring with one producer and one consumer, which it ends with.
type Way = (ExclusiveProducer<Small>, Poller<Small>, Ring<Small>);

fn way() -> Result<Way, Error> {
    let mut graph = RingBuilder::new(ROUND_TRIP_CAPACITY, Small::default).map_err(unbuilt)?.graph();
    let (_id, poller) = graph.poller(&[]).map_err(unbuilt)?;
    let (producer, ring) = graph.exclusive().map_err(unbuilt)?;
    Ok((producer, poller, ring))
}

/// Nanoseconds a round trip of each block; the first one, which warms everything, is left out.
fn ask(there: &mut ExclusiveProducer<Small>, returning: &mut Poller<Small>, lasting: Duration) -> Vec<f64> {
    let mut blocks = Vec::with_capacity((lasting.as_micros() as usize / 4).clamp(16, 1 << 16));
    let started = Instant::now();
    let patience = lasting + Duration::from_secs(1);
    let (mut number, mut is_warm) = (0, false);
    while blocks.len() < blocks.capacity() && (blocks.is_empty() || started.elapsed() < lasting) {
        let block_started = Instant::now();
        for _ in 0..BLOCK {
            number += 1;
            if there.publish(|event| *event = [number; 7]).is_err() {
                return blocks;
            }
            let mut looks = 0_u32;
            while returning.poll(1, |event, _, _| assert_eq!(black_box(*event), [number; 7])) == Polled::Empty
            {
                looks += 1;
                if looks.is_multiple_of(PATIENCE) && (interrupted() || started.elapsed() > patience) {
                    return blocks;
                }
            }
        }
        if is_warm {
            blocks.push(block_started.elapsed().as_nanos() as f64 / BLOCK as f64);
        }
        is_warm = true;
    }
    blocks
}

/// Sends every event back until it is told to stop, which the asking thread does on every path.
fn answer(arriving: &mut Poller<Small>, back: &mut ExclusiveProducer<Small>) {
    let mut is_over = false;
    while !is_over {
        arriving.poll(1, |event, _, _| {
            is_over = event[0] == STOP;
            if !is_over {
                // The asking thread has taken the one before, so there is room.
                is_over = back.try_publish(|slot| *slot = *event).is_err();
            }
        });
    }
}

fn unbuilt(error: BuildError) -> Error {
    match error {
        BuildError::Affinity { reason, .. } => Error::Usage(format!("--cores: {reason}")),
        other => Error::io("build a ring", std::io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Load, Rate};

    fn reader() -> (Reader, mpsc::Receiver<(Vec<u64>, u64)>) {
        let (found, findings) = mpsc::channel();
        (Reader { next: vec![0; 2], wrong: 0, found }, findings)
    }

    #[test]
    fn an_event_that_is_doubled_missing_or_torn_is_found() {
        let (mut reader, findings) = reader();
        for (producer, number) in [(0, 0), (1, 0), (0, 1), (1, 0), (0, 3), (2, 0)] {
            reader.read(&Event::numbered(producer, number));
        }
        let mut torn = Event::numbered(0, 2);
        torn.0[WORDS - 1] += 1;
        reader.read(&torn);
        drop(reader);
        assert_eq!(findings.recv().expect("handed over"), (vec![2, 1], 4));
    }

    #[test]
    fn every_event_of_several_producers_arrives() {
        let load = Load { publishers: 3, subscribers: 2, ..Load::new(Rate::Max, Duration::ZERO) };
        let plan = Plan::of(&load);
        let (saturated, failures) =
            saturate(&plan, &Clock::hardware(), Duration::from_millis(20)).expect("threads and memory");
        assert_eq!(failures, [""; 0]);
        assert!(saturated.ns_per_message().is_some_and(|ns| ns > 0.0), "{saturated:?}");
    }

    #[test]
    fn a_round_trip_through_two_rings_takes_time() {
        let places = cores::place(None, 2);
        // On a machine that is busy otherwise a round may come to nothing.
        for _attempt in 0..20 {
            let found = round_trip((places[0], places[1]), Duration::from_millis(20)).expect("our cores");
            if let Some(ns) = found {
                assert!(ns > 1.0);
                return;
            }
        }
        assert!(!cores::run_side_by_side(places[0], places[1]), "two cores, and no round trip");
    }

    #[test]
    fn one_core_has_no_round_trip() {
        let only = cores::place(None, 1)[0];
        assert!(round_trip((only, only), Duration::from_secs(3_600)).expect("a core of ours").is_none());
    }
}
