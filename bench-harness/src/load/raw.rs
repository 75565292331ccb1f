//! The ring alone: what the engine's throughput is compared with.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use ringmain::clock::{Clock, Timestamp};
use ringmain::ring::{MultiProducer, Ring, RingBuilder};

use super::plan::Plan;
use super::session::{STRIDE, Saturated, longest};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::machine::cores;

/// The words of an event: with the ring's own they fill two cache lines, as the engine's envelope
/// does.
const WORDS: usize = 15;
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

/// Sends events through a ring with as many producers and consumers as the plan has, on the same
/// cores, with the same wait and capacity, as fast as back-pressure allows; and what was found
/// wrong, in words.
pub(crate) fn saturate(
    plan: &Plan,
    clock: &Clock,
    lasting: Duration,
) -> Result<(Saturated, Vec<String>), Error> {
    let (found, findings) = mpsc::channel();
    let producers = plan.load.publishers;
    let mut graph = RingBuilder::new(plan.load.capacity, Event::default)?
        .wait(plan.wait())
        .pinning(plan.pinning())
        .graph()?;
    for number in 0..plan.consumers {
        let mut reader = Reader { next: vec![0; producers], wrong: 0, found: found.clone() };
        graph.consumer(&format!("raw-{number}"), &[], move |event, _sequence, _end| reader.read(event))?;
    }
    drop(found);
    let (producer, mut ring) = graph.build_multi_producer()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::{Load, Rate};

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
}
