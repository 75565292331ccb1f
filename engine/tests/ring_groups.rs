//! Groups of workers from outside: each event to exactly one of them, in order where events have keys, through panics,
//! coming and going, a halt and a close, on real threads.

mod ring_support;

use ring_support::{
    LIMIT, Random, eventually, eventually_fast_asleep, panics, quiet_panic, rounds, shut_down, within_limit,
};
use ringmain::ring::{
    Batch, BuildError, ConsumerId, ConsumerOptions, EventHandler, Graph, MultiProducer, Overflow, Polled,
    PublishError, Ring, RingBuilder, Sequence, Worker,
};
use ringmain::wait::WaitStrategy;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Whether the events of a group have keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Raced,
    Keyed { lanes: Option<usize> },
}

const BOTH: [Kind; 2] = [Kind::Raced, Kind::Keyed { lanes: None }];

#[derive(Clone, Copy, Debug, Default)]
struct Event {
    producer: u64,
    count: u64,
}

impl Event {
    fn key(&self) -> u64 {
        self.producer * 5 + self.count % 5
    }
}

fn graph(capacity: usize, wait: WaitStrategy) -> Graph<Event> {
    RingBuilder::new(capacity, Event::default).expect("a power of two").wait(wait).graph().expect("memory")
}

/// A group of the given kind, polled by hand.
fn pollers(graph: &mut Graph<Event>, kind: Kind, workers: usize) -> (ConsumerId, Vec<Worker<Event>>) {
    match kind {
        Kind::Raced => graph.worker_pollers(&[], workers),
        Kind::Keyed { lanes } => graph.keyed_worker_pollers(&[], workers, lanes, Event::key),
    }
    .expect("a group")
}

/// A group of the given kind, with threads.
fn managed<H: EventHandler<Event> + 'static>(
    graph: &mut Graph<Event>,
    kind: Kind,
    workers: usize,
    make: impl Fn(usize) -> H + Clone + Send + 'static,
) -> ConsumerId {
    let options = ConsumerOptions::new("worker");
    match kind {
        Kind::Raced => graph.workers(options, workers, make),
        Kind::Keyed { lanes } => graph.keyed_workers(options, workers, lanes, Event::key, make),
    }
    .expect("a group")
}

/// What workers have handled, in the order in which they did.
#[derive(Clone, Debug, Default)]
struct Handled(Arc<Mutex<Vec<(Sequence, Event)>>>);

impl Handled {
    fn note(&self, event: &Event, sequence: Sequence) {
        self.0.lock().expect("unpoisoned").push((sequence, *event));
    }

    fn len(&self) -> usize {
        self.0.lock().expect("unpoisoned").len()
    }

    /// Every event of each producer once, and no other.
    fn is_each_once(&self, producers: u64, events: u64) {
        let mut seen: Vec<_> = self
            .0
            .lock()
            .expect("unpoisoned")
            .iter()
            .map(|(_, event)| (event.producer, event.count))
            .collect();
        seen.sort_unstable();
        let all: Vec<_> =
            (0..producers).flat_map(|producer| (0..events).map(move |count| (producer, count))).collect();
        let missing: Vec<_> = all.iter().filter(|event| seen.binary_search(event).is_err()).collect();
        assert!(missing.is_empty(), "{} events were lost: {missing:?}", missing.len());
        assert_eq!(seen.len(), all.len(), "some events were handled twice, or never published");
    }

    /// The sequences of each key come in order.
    fn is_in_order_of_each_key(&self) {
        let mut last = BTreeMap::new();
        for (sequence, event) in self.0.lock().expect("unpoisoned").iter() {
            if let Some(before) = last.insert(event.key(), *sequence) {
                assert!(before < *sequence, "key {}: {sequence} came after {before}", event.key());
            }
        }
    }

    fn sequences(&self) -> BTreeSet<Sequence> {
        let sequences: Vec<_> =
            self.0.lock().expect("unpoisoned").iter().map(|(sequence, _)| *sequence).collect();
        let set: BTreeSet<_> = sequences.iter().copied().collect();
        assert_eq!(set.len(), sequences.len(), "some events were handled twice");
        set
    }
}

/// Has `producers` threads publish `events` each, some fill closures panicking if `faulty`, and waits for them.
fn publish(producer: &MultiProducer<Event>, producers: u64, events: u64, faulty: bool) {
    let writers: Vec<_> = (0..producers)
        .map(|id| {
            let mut producer = producer.clone();
            thread::spawn(move || {
                for count in 0..events {
                    if faulty && count % 7 == 3 {
                        let fill = || producer.publish(|_| quiet_panic());
                        assert!(panics(fill));
                    }
                    producer.publish(|event| *event = Event { producer: id, count }).expect("an open ring");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer panicked");
    }
}

/// The panics of all workers until they have ended.
fn panics_until_the_end<E: Send + Sync + 'static>(ring: &mut Ring<E>) -> u64 {
    shut_down(ring).iter().map(|report| report.panics).sum()
}

// Exactly once.

#[test]
fn each_event_goes_to_exactly_one_worker() {
    for kind in [Kind::Raced, Kind::Keyed { lanes: None }, Kind::Keyed { lanes: Some(1) }] {
        for (capacity, wait) in [
            (1, WaitStrategy::Blocking),
            (2, WaitStrategy::Yielding),
            (4, WaitStrategy::Blocking),
            (64, WaitStrategy::Blocking),
            (1_024, WaitStrategy::Backoff),
        ] {
            for (workers, producers) in [(1, 1), (2, 1), (2, 2), (4, 3)] {
                within_limit("a group under load", move || {
                    let events = rounds(if capacity < 8 { 300 } else { 1_500 });
                    let handled = Handled::default();
                    let mut graph = graph(capacity, wait);
                    let notes = handled.clone();
                    managed(&mut graph, kind, workers, move |_| {
                        let notes = notes.clone();
                        move |event: &Event, sequence, _| notes.note(event, sequence)
                    });
                    let (producer, mut ring) = graph.build_multi_producer().expect("threads");
                    publish(&producer, producers, events, true);
                    assert_eq!(panics_until_the_end(&mut ring), 0);
                    handled.is_each_once(producers, events);
                    if kind != Kind::Raced {
                        handled.is_in_order_of_each_key();
                    }
                });
            }
        }
    }
}

#[test]
fn a_ring_of_one_producer_has_workers_too() {
    for kind in BOTH {
        for layout in [ringmain::ring::Layout::Stamped, ringmain::ring::Layout::Dense] {
            within_limit("a group behind one producer", move || {
                let handled = Handled::default();
                let mut graph = RingBuilder::new(32, Event::default)
                    .expect("a power of two")
                    .layout(layout)
                    .graph()
                    .expect("memory");
                let notes = handled.clone();
                managed(&mut graph, kind, 3, move |_| {
                    let notes = notes.clone();
                    move |event: &Event, sequence, _| notes.note(event, sequence)
                });
                let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
                for count in 0..5_000 {
                    producer.publish(|event| *event = Event { producer: 0, count }).expect("an open ring");
                }
                shut_down(&mut ring);
                handled.is_each_once(1, 5_000);
                if kind != Kind::Raced {
                    handled.is_in_order_of_each_key();
                }
            });
        }
    }
}

#[test]
fn a_panicking_handler_costs_its_own_event_only() {
    for kind in BOTH {
        within_limit("workers that panic", move || {
            let handled = Handled::default();
            let mut graph = graph(64, WaitStrategy::Blocking);
            let notes = handled.clone();
            managed(&mut graph, kind, 3, move |_| {
                let notes = notes.clone();
                move |event: &Event, sequence, _| {
                    notes.note(event, sequence);
                    if event.count.is_multiple_of(3) {
                        quiet_panic();
                    }
                }
            });
            let (producer, mut ring) = graph.build_multi_producer().expect("threads");
            publish(&producer, 2, 3_000, false);
            assert_eq!(panics_until_the_end(&mut ring), 2_000);
            handled.is_each_once(2, 3_000);
        });
    }
}

// Coming and going.

/// A worker's life on a thread of its own: until the ring is finished, or for so many polls; sometimes with a handler
/// that panics, after which it may go and leave behind what it has claimed.
fn live(mut worker: Worker<Event>, handled: &Handled, polls: u64, mut random: Random) {
    for _ in 0..polls {
        let may_panic = random.below(4) == 0;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            worker.poll(1 + random.below(20), |event, sequence, _| {
                handled.note(event, sequence);
                if may_panic && sequence.is_multiple_of(5) {
                    quiet_panic();
                }
            })
        }));
        match polled {
            Ok(Polled::Finished) => return,
            Ok(Polled::Empty) => drop(worker.wait(WaitStrategy::Backoff, Duration::from_millis(1))),
            Ok(_) => {}
            Err(_) if random.below(2) == 0 => return,
            Err(_) => {}
        }
    }
}

#[test]
fn workers_come_and_go_while_events_flow() {
    let mut random = Random::seeded();
    for kind in BOTH {
        let mut random = random.fork();
        within_limit("a group with coming and going", move || {
            for _ in 0..rounds(8) {
                let (producers, events) = (1 + random.below(3), 2_000);
                let handled = Handled::default();
                let mut graph = graph(1 << random.below(8), WaitStrategy::Blocking);
                let (group, mut first) = pollers(&mut graph, kind, 1);
                let (producer, ring) = graph.build_multi_producer().expect("no threads");
                // One that stays: a group whose last worker leaves is at its end.
                let stays = {
                    let (worker, handled) = (first.pop().expect("one worker"), handled.clone());
                    let random = random.fork();
                    thread::spawn(move || stay(worker, &handled, random))
                };
                let is_done = Arc::new(AtomicBool::new(false));
                let writers = {
                    let is_done = is_done.clone();
                    thread::spawn(move || {
                        publish(&producer, producers, events, true);
                        is_done.store(true, Ordering::Relaxed);
                    })
                };
                let mut others = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    let worker = ring.join_worker_poller(group).expect("a group with a worker");
                    let (handled, polls) = (handled.clone(), random.below(40));
                    let random = random.fork();
                    others.push(thread::spawn(move || live(worker, &handled, polls, random)));
                    if others.len() == 3 {
                        others.remove(0).join().expect("a worker panicked");
                    }
                }
                writers.join().expect("a writer panicked");
                ring.close();
                for other in others {
                    other.join().expect("a worker panicked");
                }
                stays.join().expect("a worker panicked");
                handled.is_each_once(producers, events);
                if kind != Kind::Raced {
                    handled.is_in_order_of_each_key();
                }
            }
        });
    }
}

/// As `live`, to the end.
fn stay(mut worker: Worker<Event>, handled: &Handled, mut random: Random) {
    loop {
        let max = 1 + random.below(20);
        match worker.poll(max, |event, sequence, _| handled.note(event, sequence)) {
            Polled::Finished => return,
            Polled::Empty => drop(worker.wait(WaitStrategy::Blocking, LIMIT)),
            _ => {}
        }
    }
}

#[test]
fn managed_workers_come_and_go_by_name() {
    for kind in BOTH {
        within_limit("managed workers", move || {
            let handled = Handled::default();
            let mut graph = graph(16, WaitStrategy::Blocking);
            let notes = handled.clone();
            let make = move |_| {
                let notes = notes.clone();
                move |event: &Event, sequence, _: bool| notes.note(event, sequence)
            };
            let group = managed(&mut graph, kind, 2, make.clone());
            let (mut producer, mut ring) = graph.build_multi_producer().expect("threads");
            let mut publish = |counts: std::ops::Range<u64>| {
                for count in counts {
                    producer.publish(|event| *event = Event { producer: 0, count }).expect("an open ring");
                }
            };
            let names =
                |ring: &Ring<_>| ring.reports().into_iter().map(|report| report.name).collect::<Vec<_>>();
            publish(0..500);
            let handler = make(2);
            ring.join_worker(group, move || handler).expect("an open ring");
            assert_eq!(names(&ring), ["worker-0", "worker-1", "worker-2"]);
            publish(500..1_000);
            ring.leave_worker(group, LIMIT).expect("it leaves in time");
            ring.leave_worker(group, LIMIT).expect("it leaves in time");
            assert_eq!(names(&ring), ["worker-0"]);
            publish(1_000..1_500);
            shut_down(&mut ring);
            handled.is_each_once(1, 1_500);
        });
    }
}

#[test]
fn the_last_worker_that_leaves_takes_the_group_off_the_gate_and_ends_it() {
    for kind in BOTH {
        let mut graph = graph(2, WaitStrategy::Blocking);
        let (group, workers) = pollers(&mut graph, kind, 2);
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        for _ in 0..2 {
            producer.publish(|_| {}).expect("there is room");
        }
        assert_eq!(producer.try_publish(|_| {}), Err(PublishError::Full));
        let mut workers = workers.into_iter();
        drop(workers.next());
        assert_eq!(producer.try_publish(|_| {}), Err(PublishError::Full), "one worker is still there");
        drop(workers);
        for _ in 0..5 {
            producer.try_publish(|_| {}).expect("nobody holds the ring up");
        }
        assert_eq!(ring.join_worker_poller(group).map(drop), Err(BuildError::NoSuchGroup));
    }
}

#[test]
fn leave_has_all_managed_workers_of_a_group_leave() {
    for kind in BOTH {
        within_limit("leaving", move || {
            let mut graph = graph(2, WaitStrategy::Blocking);
            let group = managed(&mut graph, kind, 3, |_| |_: &Event, _, _| {});
            let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
            producer.publish(|_| {}).expect("an open ring");
            ring.leave(group, LIMIT).expect("they leave in time");
            assert!(ring.reports().is_empty());
            for _ in 0..5 {
                producer.try_publish(|_| {}).expect("nobody holds the ring up");
            }
        });
    }
}

#[test]
fn an_idle_worker_holds_nobody_up() {
    for kind in BOTH {
        let mut graph = graph(4, WaitStrategy::Blocking);
        let (_, mut workers) = pollers(&mut graph, kind, 2);
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
        for count in 0..50 {
            producer.try_publish(|event| event.count = count).expect("the other worker keeps up");
            assert_eq!(workers[1].poll(4, |event, _, _| assert_eq!(event.count, count)), Polled::Events(1));
            if count == 20 {
                assert_eq!(workers[0].poll(4, |_, _, _| panic!("nothing is left")), Polled::Empty);
            }
        }
    }
}

// What is claimed and not handled.

/// Eight events are published; one of two workers claims two of them and panics over the first.
fn with_one_in_hand(handled: &Handled) -> (MultiProducer<Event>, Ring<Event>, Vec<Worker<Event>>) {
    let mut graph = graph(8, WaitStrategy::Blocking);
    let (_, mut workers) = pollers(&mut graph, Kind::Raced, 2);
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    for count in 0..8 {
        producer.publish(|event| event.count = count).expect("there is room");
    }
    let poll = || {
        workers[0].poll(8, |event, sequence, _| {
            handled.note(event, sequence);
            quiet_panic();
        })
    };
    assert!(panics(poll));
    assert_eq!(handled.sequences(), BTreeSet::from([0]));
    (producer, ring, workers)
}

#[test]
fn what_a_worker_had_claimed_when_it_panicked_it_handles_next() {
    let handled = Handled::default();
    let (mut producer, ring, mut workers) = with_one_in_hand(&handled);
    let rest = workers[1].poll(100, |event, sequence, _| handled.note(event, sequence));
    assert_eq!(rest, Polled::Events(6), "all but the two that the other has claimed");
    assert_eq!(ring.released(), 1, "the second is in hand");
    assert_eq!(producer.try_publish(|_| {}), Ok(8));
    assert_eq!(producer.try_publish(|_| {}), Err(PublishError::Full));
    ring.close();
    assert_eq!(workers[1].poll(100, |_, _, _| {}), Polled::Events(1));
    assert_eq!(workers[1].poll(100, |_, _, _| {}), Polled::Empty, "the other has not finished");
    assert!(workers[0].is_ready());
    assert_eq!(workers[0].poll(1, |event, sequence, _| handled.note(event, sequence)), Polled::Events(1));
    for worker in &mut workers {
        assert_eq!(worker.poll(1, |_, _, _| {}), Polled::Finished);
    }
    handled.is_each_once(1, 8);
}

#[test]
fn what_a_worker_leaves_behind_another_handles() {
    let handled = Handled::default();
    let (_producer, ring, mut workers) = with_one_in_hand(&handled);
    drop(workers.remove(0));
    assert_eq!(ring.released(), 1, "it is still held");
    assert!(workers[0].is_ready());
    assert_eq!(workers[0].poll(100, |event, sequence, _| handled.note(event, sequence)), Polled::Events(7));
    assert_eq!(ring.released(), 8);
    handled.is_each_once(1, 8);
}

#[test]
fn what_is_claimed_is_handled_after_a_halt() {
    let handled = Handled::default();
    let (_producer, ring, mut workers) = with_one_in_hand(&handled);
    ring.halt();
    assert_eq!(workers[1].poll(100, |_, _, _| panic!("the ring was halted")), Polled::Finished);
    assert_eq!(workers[0].poll(100, |event, sequence, _| handled.note(event, sequence)), Polled::Events(1));
    assert_eq!(workers[0].poll(100, |_, _, _| panic!("the ring was halted")), Polled::Finished);
    drop(workers);
    assert_eq!(handled.sequences(), BTreeSet::from([0, 1]));
    assert_eq!(ring.released(), 2, "what was not handled is accounted for");
}

#[test]
fn a_halt_loses_nothing_silently() {
    for kind in BOTH {
        for _ in 0..10 {
            within_limit("a halt", move || {
                let handled = Handled::default();
                let mut graph = graph(64, WaitStrategy::Blocking);
                let notes = handled.clone();
                managed(&mut graph, kind, 3, move |_| {
                    let notes = notes.clone();
                    move |event: &Event, sequence, _| notes.note(event, sequence)
                });
                let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
                let writer = thread::spawn(move || while producer.publish(|_| {}).is_ok() {});
                eventually("some were handled", || handled.len() > 500);
                ring.halt();
                writer.join().expect("the writer panicked");
                shut_down(&mut ring);
                let sequences = handled.sequences();
                let released = ring.released();
                let below = sequences.range(..released).count() as u64;
                assert_eq!(below, released, "all below what was released was handled");
                if kind == Kind::Raced {
                    assert_eq!(sequences.len() as u64, released, "and nothing else was claimed");
                }
            });
        }
    }
}

// Stages.

#[derive(Debug, Default)]
struct Marked {
    value: u64,
    marks: AtomicU64,
}

#[test]
fn a_later_stage_sees_what_the_group_has_finished_and_nothing_else() {
    for is_keyed in [false, true] {
        within_limit("a stage behind a group", move || {
            let mut graph =
                RingBuilder::new(16, Marked::default).expect("a power of two").graph().expect("memory");
            let make = |_| {
                |event: &Marked, _: Sequence, _: bool| {
                    // Not always at the same speed.
                    for _ in 0..event.value % 3 {
                        thread::yield_now();
                    }
                    event.marks.fetch_add(1, Ordering::Relaxed);
                }
            };
            let options = ConsumerOptions::new("marking");
            let group = if is_keyed {
                graph.keyed_workers(options, 3, Some(5), |event| event.value % 11, make)
            } else {
                graph.workers(options, 3, make)
            };
            let seen = Arc::new(AtomicU64::new(0));
            let (count, wrong) = (seen.clone(), Arc::new(AtomicU64::new(0)));
            let unmarked = wrong.clone();
            graph
                .consumer("last", &[group.expect("a group")], move |event: &Marked, sequence, _| {
                    if event.marks.load(Ordering::Relaxed) != 1 || event.value != sequence {
                        unmarked.fetch_add(1, Ordering::Relaxed);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                })
                .expect("its own ring");
            let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
            for value in 0..5_000 {
                let fill = |event: &mut Marked| *event = Marked { value, marks: AtomicU64::new(0) };
                producer.publish(fill).expect("an open ring");
            }
            shut_down(&mut ring);
            assert_eq!(seen.load(Ordering::Relaxed), 5_000);
            assert_eq!(wrong.load(Ordering::Relaxed), 0, "not marked exactly once");
        });
    }
}

#[test]
fn a_group_comes_after_what_it_depends_on() {
    within_limit("a group behind a stage", || {
        let mut graph =
            RingBuilder::new(16, Marked::default).expect("a power of two").graph().expect("memory");
        let (first, mut doubling) = graph.mut_poller(&[]).expect("alone");
        let (group, mut workers) = graph.worker_pollers(&[first], 2).expect("its own ring");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        for value in 1..=8 {
            producer.publish(|event| event.value = value).expect("there is room");
        }
        assert_eq!(workers[0].poll(8, |_, _, _| {}), Polled::Empty);
        doubling.poll(3, |event, _, _| event.value *= 2);
        workers.push(ring.join_worker_poller(group).expect("a group with workers"));
        let mut seen = Vec::new();
        for worker in workers.iter_mut().rev() {
            worker.poll(2, |event, _, _| seen.push(event.value));
        }
        assert_eq!(seen, [2, 4, 6]);
    });
}

// Keys.

#[test]
fn a_slow_key_holds_up_only_its_own_lane() {
    within_limit("a slow key", || {
        let handled = Handled::default();
        let mut graph = graph(64, WaitStrategy::Blocking);
        let (go_on, may_go_on) = channel::<()>();
        let (notes, may_go_on) = (handled.clone(), Arc::new(Mutex::new(may_go_on)));
        let make = move |_| {
            let (notes, may_go_on) = (notes.clone(), may_go_on.clone());
            move |event: &Event, sequence, _: bool| {
                if event.count == 0 {
                    let _ = may_go_on.lock().expect("unpoisoned").recv_timeout(LIMIT);
                }
                notes.note(event, sequence);
            }
        };
        let key = |event: &Event| event.count;
        let options = ConsumerOptions::new("worker");
        graph.keyed_workers(options, 2, Some(64), key, make).expect("a group");
        let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
        for count in 0..40 {
            producer.publish(|event| event.count = count).expect("there is room");
        }
        eventually("most others are handled", || handled.len() > 30);
        assert!(!handled.sequences().contains(&0));
        assert_eq!(ring.released(), 0);
        go_on.send(()).expect("the handler waits");
        shut_down(&mut ring);
        handled.is_each_once(1, 40);
    });
}

#[test]
fn an_event_whose_key_panics_is_passed_once_in_each_lane_and_goes_to_no_worker() {
    within_limit("a panicking key", || {
        let handled = Handled::default();
        let mut graph = graph(64, WaitStrategy::Blocking);
        let notes = handled.clone();
        let make = move |_| {
            let notes = notes.clone();
            move |event: &Event, sequence, _: bool| notes.note(event, sequence)
        };
        let key = |event: &Event| if event.producer == 1 { quiet_panic() } else { event.count };
        let options = ConsumerOptions::new("worker");
        graph.keyed_workers(options, 2, Some(4), key, make).expect("a group");
        let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
        for count in 0..100 {
            let filled = Event { producer: 0, count };
            producer.publish(|event| *event = filled).expect("an open ring");
            if count % 10 == 5 {
                producer.publish(|event| event.producer = 1).expect("an open ring");
            }
        }
        assert_eq!(panics_until_the_end(&mut ring), 10 * 4);
        handled.is_each_once(1, 100);
    });
}

// Hooks and errors.

/// Counts the hooks' calls, and checks them.
struct Hooks {
    sizes: Arc<AtomicU64>,
    batches: Arc<AtomicU64>,
    in_batch: bool,
    has_ended: bool,
}

impl EventHandler<Event> for Hooks {
    fn on_event(&mut self, _: &Event, _: Sequence, end_of_batch: bool) {
        assert!(self.in_batch && !self.has_ended);
        self.has_ended = end_of_batch;
    }

    fn on_batch_start(&mut self, batch: Batch<'_>) {
        assert!(!self.in_batch && batch.size() >= 1 && batch.depth() >= batch.size());
        (self.in_batch, self.has_ended) = (true, false);
        self.sizes.fetch_add(batch.size(), Ordering::Relaxed);
    }

    fn on_batch_end(&mut self) {
        assert!(self.in_batch && self.has_ended, "the last event was not said to be the last");
        self.in_batch = false;
        self.batches.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn hooks_are_called_round_each_batch() {
    for kind in BOTH {
        within_limit("workers with hooks", move || {
            let (sizes, batches) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let mut graph = graph(64, WaitStrategy::Blocking);
            let counts = (sizes.clone(), batches.clone());
            managed(&mut graph, kind, 2, move |_| {
                let (sizes, batches) = counts.clone();
                Hooks { sizes, batches, in_batch: false, has_ended: false }
            });
            let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
            for _ in 0..1_000 {
                producer.publish(|_| {}).expect("an open ring");
            }
            assert_eq!(panics_until_the_end(&mut ring), 0, "a hook found something wrong");
            assert!(sizes.load(Ordering::Relaxed) >= 1_000);
            assert!((1_000 / 16..=1_000).contains(&batches.load(Ordering::Relaxed)) || kind != Kind::Raced);
        });
    }
}

#[test]
fn a_start_hook_that_panics_costs_no_event() {
    struct Faulty(Handled);
    impl EventHandler<Event> for Faulty {
        fn on_event(&mut self, event: &Event, sequence: Sequence, _: bool) {
            self.0.note(event, sequence);
        }

        fn on_batch_start(&mut self, _: Batch<'_>) {
            quiet_panic();
        }
    }
    for kind in BOTH {
        within_limit("a start hook that panics", move || {
            let handled = Handled::default();
            let mut graph = graph(64, WaitStrategy::Blocking);
            let notes = handled.clone();
            managed(&mut graph, kind, 2, move |_| Faulty(notes.clone()));
            let (producer, mut ring) = graph.build_multi_producer().expect("threads");
            publish(&producer, 1, 300, false);
            assert!(panics_until_the_end(&mut ring) > 0);
            handled.is_each_once(1, 300);
        });
    }
}

#[test]
fn a_handler_that_would_wait_for_itself_is_told_so() {
    for kind in BOTH {
        within_limit("a handler that publishes", move || {
            let mut graph = graph(1, WaitStrategy::Blocking);
            let (_, mut workers) = pollers(&mut graph, kind, 1);
            let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
            producer.publish(|_| {}).expect("there is room");
            let mut inner = producer.clone();
            let mut outcome = Ok(0);
            workers[0].poll(1, |_, _, _| outcome = inner.publish(|_| {}));
            assert_eq!(outcome, Err(PublishError::WouldDeadlock));
        });
    }
}

#[test]
fn groups_that_cannot_be_are_refused() {
    let dropping =
        RingBuilder::new(8, Event::default).expect("a power of two").overflow(Overflow::DropOldest);
    let mut dropping = dropping.graph().expect("memory");
    let refused = |outcome: Result<_, BuildError>| outcome.map(drop).expect_err("it cannot be");
    assert!(matches!(refused(dropping.worker_pollers(&[], 2)), BuildError::WorkersThatDrop { .. }));
    let keyed = dropping.keyed_worker_pollers(&[], 2, None, Event::key);
    assert!(matches!(refused(keyed), BuildError::WorkersThatDrop { .. }));

    let mut graph = graph(8, WaitStrategy::Blocking);
    assert!(matches!(refused(graph.worker_pollers(&[], 0)), BuildError::NoWorkers { .. }));
    for lanes in [0, 65] {
        let keyed = graph.keyed_worker_pollers(&[], 2, Some(lanes), Event::key);
        assert_eq!(refused(keyed), BuildError::Lanes { name: "keyed workers".to_owned(), lanes });
    }
    let (consumer, _poller) = graph.poller(&[]).expect("a consumer");
    let (group, _workers) = graph.worker_pollers(&[], 1).expect("a group");
    let (_producer, ring) = graph.build_single_producer().expect("no threads");
    assert_eq!(ring.join_worker_poller(consumer).map(drop), Err(BuildError::NoSuchGroup));
    ring.close();
    assert!(matches!(ring.join_worker_poller(group).map(drop), Err(BuildError::Closed { .. })));
}

/// What does not go before its door is dropped.
struct Clings(Receiver<()>);

impl Drop for Clings {
    fn drop(&mut self) {
        let _ = self.0.recv_timeout(LIMIT);
    }
}

/// A worker handles an event of a lane, and another event of that lane waits for it. It panics, and what the panic
/// carries does not go: the other worker, which sleeps, is woken for the event.
#[cfg(target_os = "linux")]
#[test]
fn an_event_does_not_wait_for_the_drop_of_what_a_panic_carries() {
    let mut graph = graph(64, WaitStrategy::Blocking);
    let (handled, events) = channel();
    let (open, door) = channel::<()>();
    let (let_go, held) = channel::<()>();
    let once = Arc::new(Mutex::new(Some((door, held))));
    let make = move |_| {
        let (handled, once) = (handled.clone(), once.clone());
        move |event: &Event, _, _| {
            handled.send(event.count).expect("the test waits");
            let first = once.lock().expect("unpoisoned").take();
            if let Some((door, held)) = first {
                let _ = door.recv();
                std::panic::resume_unwind(Box::new(Clings(held)));
            }
        }
    };
    graph.keyed_workers(ConsumerOptions::new("clings"), 2, None, |_| 7, make).expect("a group");
    let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
    for count in 1..=2 {
        ["clings-0", "clings-1"].iter().for_each(|name| eventually_fast_asleep(name));
        producer.publish(|event| event.count = count).expect("room");
        if count == 1 {
            assert_eq!(events.recv_timeout(LIMIT), Ok(1));
        }
    }
    ["clings-0", "clings-1"].iter().for_each(|name| eventually_fast_asleep(name));
    drop(open);
    assert_eq!(events.recv_timeout(LIMIT / 2), Ok(2), "it waits for the drop of a panic's payload");
    drop(let_go);
    shut_down(&mut ring);
}

/// A worker that leaves has an event of a lane behind it, and what its handler captured does not go: the other worker,
/// which sleeps, is woken for the event.
#[cfg(target_os = "linux")]
#[test]
fn an_event_does_not_wait_for_the_drop_of_a_handler_that_leaves() {
    let mut graph = graph(64, WaitStrategy::Blocking);
    let (handled, events) = channel();
    let (busy_until, released) = channel::<()>();
    let (stays, released) = (handled.clone(), Arc::new(Mutex::new(released)));
    let make = move |_| {
        let (stays, released) = (stays.clone(), released.clone());
        move |event: &Event, _, _| {
            stays.send(("stays", event.count)).expect("the test waits");
            if event.count == 0 {
                let _ = released.lock().expect("unpoisoned").recv();
            }
        }
    };
    let options = ConsumerOptions::new("leaves");
    let group = graph.keyed_workers(options, 1, Some(4), |event| event.producer, make).expect("a group");
    let (mut producer, mut ring) = graph.build_multi_producer().expect("threads");
    let mut publish = |lane, count| {
        producer.publish(|event| *event = Event { producer: lane, count }).expect("room");
    };
    // The first worker is busy with another lane, so that the newcomer takes what comes next.
    publish(0, 0);
    assert_eq!(events.recv_timeout(LIMIT), Ok(("stays", 0)));
    let (open, door) = channel::<()>();
    let (let_go, held) = channel::<()>();
    let clings = Clings(held);
    let leaves = move |event: &Event, _, _| {
        let _captured = &clings;
        handled.send(("leaves", event.count)).expect("the test waits");
        let _ = door.recv();
    };
    ring.join_worker(group, move || leaves).expect("a worker joins");
    publish(1, 1);
    assert_eq!(events.recv_timeout(LIMIT), Ok(("leaves", 1)));
    publish(1, 2);
    drop(busy_until);
    ring.leave_worker(group, Duration::from_millis(1)).expect_err("it is in its handler");
    // Which has woken them as well.
    ["leaves-0", "leaves-1"].iter().for_each(|name| eventually_fast_asleep(name));
    drop(open);
    assert_eq!(events.recv_timeout(LIMIT / 2), Ok(("stays", 2)), "it waits for the drop of a handler");
    drop(let_go);
    shut_down(&mut ring);
}
