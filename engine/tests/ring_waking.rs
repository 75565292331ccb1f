//! Many who sleep at one ring: as many are woken as there is work for, each of those who must be, and nobody sleeps on
//! over work that nobody does.

mod ring_support;

use ring_support::{LIMIT, Random, eventually, quiet_panic, rounds, shut_down, within_limit};
use ringmain::ring::{ConsumerId, ConsumerOptions, Graph, Ring, RingBuilder, Sequence};
use ringmain::wait::WaitStrategy;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const SLEEPERS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Raced,
    Keyed,
}

const BOTH: [Kind; 2] = [Kind::Raced, Kind::Keyed];

fn graph(capacity: usize) -> Graph<u64> {
    RingBuilder::new(capacity, || 0)
        .expect("a power of two")
        .wait(WaitStrategy::Blocking)
        .graph()
        .expect("memory for it")
}

/// A group of managed workers, whose events' keys are the events.
fn group<H: FnMut(&u64, Sequence, bool) + 'static>(
    graph: &mut Graph<u64>,
    kind: Kind,
    workers: usize,
    make: impl Fn(usize) -> H + Clone + Send + 'static,
) -> ConsumerId {
    let options = ConsumerOptions::new("worker");
    match kind {
        Kind::Raced => graph.workers(options, workers, make),
        Kind::Keyed => graph.keyed_workers(options, workers, None, |event| *event, make),
    }
    .expect("a group")
}

/// How often each thread of that name has gone to sleep so far, and whether it sleeps: one that would run if it had a
/// core does not.
#[cfg(target_os = "linux")]
fn sleeps(name: &str) -> BTreeMap<String, (u64, bool)> {
    let mut sleeps = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("this process's threads") {
        let path = task.expect("a thread").path();
        // A thread may end meanwhile.
        let Ok(status) = std::fs::read_to_string(path.join("status")) else { continue };
        let field = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).expect("a field of the status");
            line[key.len()..].trim().to_owned()
        };
        if field("Name:").starts_with(name) {
            let count = field("voluntary_ctxt_switches:").parse().expect("a number");
            sleeps.insert(path.display().to_string(), (count, field("State:").starts_with('S')));
        }
    }
    sleeps
}

/// Waits until so many threads of that name sleep and have done so for longer than a nap takes: each is woken by a bell
/// alone.
#[cfg(target_os = "linux")]
fn until_asleep(name: &str, count: usize) -> BTreeMap<String, (u64, bool)> {
    let started = Instant::now();
    let mut before = sleeps(name);
    let mut unchanged_since = Instant::now();
    while before.len() != count || unchanged_since.elapsed() < Duration::from_millis(50) {
        assert!(started.elapsed() < LIMIT, "they do not go to sleep: {before:?}");
        thread::sleep(Duration::from_millis(1));
        let now = sleeps(name);
        if now != before || now.values().any(|(_, is_asleep)| !is_asleep) {
            (before, unchanged_since) = (now, Instant::now());
        }
    }
    before
}

/// How many threads have gone to sleep again since.
#[cfg(target_os = "linux")]
fn woken(name: &str, before: &BTreeMap<String, (u64, bool)>) -> usize {
    let now = sleeps(name);
    before.iter().filter(|(thread, count)| now.get(*thread) != Some(*count)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn one_event_wakes_one_of_many_workers() {
    for kind in BOTH {
        let handled = Arc::new(AtomicU64::new(0));
        let mut graph = graph(64);
        let count = handled.clone();
        let make = move |_| {
            let count = count.clone();
            move |_: &u64, _, _| {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let name = format!("{kind:?}").to_lowercase();
        let options = ConsumerOptions::new(&name);
        match kind {
            Kind::Raced => graph.workers(options, SLEEPERS, make),
            Kind::Keyed => graph.keyed_workers(options, SLEEPERS, None, |event| *event, make),
        }
        .expect("a group");
        let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
        for event in 1..=5 {
            let before = until_asleep(&name, SLEEPERS);
            producer.publish(|slot| *slot = event).expect("room");
            eventually("the event is handled", || handled.load(Ordering::Relaxed) == event);
            until_asleep(&name, SLEEPERS);
            let woken = woken(&name, &before);
            // One is enough. On a busy machine another one may be called while the first is between two looks; and at
            // the first event some may sleep elsewhere, on their way to their place.
            assert!(woken <= 2 || event == 1, "{kind:?}: {woken} of {SLEEPERS} were woken for event {event}");
        }
        shut_down(&mut ring);
    }
}

/// A place where handlers wait until all are there.
#[derive(Default)]
struct Meeting {
    here: Mutex<u64>,
    came: Condvar,
}

impl Meeting {
    /// Waits for so many, and tells whether they came in time.
    fn wait_for(&self, count: u64) -> bool {
        let mut here = self.here.lock().expect("unpoisoned");
        *here += 1;
        self.came.notify_all();
        let limit = LIMIT / 2;
        let (here, _) = self.came.wait_timeout_while(here, limit, |here| *here < count).expect("unpoisoned");
        *here >= count
    }
}

/// Each handler returns only when all of them run at once: so no event may wait for a busy worker while others sleep.
#[test]
fn as_many_workers_are_woken_as_there_are_events() {
    for kind in BOTH {
        for (events, is_batch) in [(1, false), (2, false), (2, true), (8, false), (8, true)] {
            within_limit("the meeting", move || {
                let (meeting, met) = (Arc::new(Meeting::default()), Arc::new(AtomicU64::new(0)));
                let mut graph = graph(256);
                let shared = (meeting, met.clone());
                let make = move |_| {
                    let (meeting, met) = shared.clone();
                    move |_: &u64, _, _| {
                        met.fetch_add(meeting.wait_for(events).into(), Ordering::Relaxed);
                    }
                };
                let workers = match kind {
                    Kind::Raced => group(&mut graph, kind, SLEEPERS, make),
                    // Enough lanes that each of these keys has one of its own.
                    Kind::Keyed => {
                        let key = |event: &u64| LONELY_KEYS[*event as usize];
                        let options = ConsumerOptions::new("worker");
                        graph.keyed_workers(options, SLEEPERS, Some(64), key, make).expect("a group")
                    }
                };
                let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
                if is_batch {
                    let published =
                        producer.publish_batch(events as usize, |place, slot| *slot = place as u64);
                    published.expect("room");
                } else {
                    (0..events).for_each(|event| {
                        producer.publish(|slot| *slot = event).expect("room");
                    });
                }
                eventually("all have met", || met.load(Ordering::Relaxed) == events);
                ring.leave(workers, LIMIT).expect("they leave in time");
            });
        }
    }
}

/// Keys that fall into eight lanes of 64.
const LONELY_KEYS: [u64; 8] = [1, 2, 3, 4, 6, 7, 8, 9];

#[test]
fn an_event_for_all_wakes_everybody() {
    let handled: Arc<Vec<AtomicU64>> = Arc::new((0..SLEEPERS).map(|_| AtomicU64::new(0)).collect());
    let mut graph = graph(64);
    for consumer in 0..SLEEPERS {
        let handled = handled.clone();
        let handler = move |_: &u64, _, _| {
            handled[consumer].fetch_add(1, Ordering::Relaxed);
        };
        graph.consumer("one of many", &[], handler).expect("no dependency");
    }
    let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
    let mut random = Random::seeded();
    for event in 1..=rounds(200) {
        // Some naps are over by then, some not, and some have never begun.
        thread::sleep(Duration::from_micros(random.below(15_000)));
        producer.publish(|slot| *slot = event).expect("room");
        eventually("everybody has it", || handled.iter().all(|count| count.load(Ordering::Relaxed) == event));
    }
    shut_down(&mut ring);
}

/// A consumer whose handler does not return keeps nobody from being woken, although it may have been the one to wake
/// others.
#[test]
fn a_stuck_consumer_leaves_nobody_asleep() {
    let handled = Arc::new(AtomicU64::new(0));
    let meeting = Arc::new(Meeting::default());
    let mut graph = graph(64);
    for _ in 0..16 {
        let (handled, meeting) = (handled.clone(), meeting.clone());
        let handler = move |_: &u64, _, _| {
            handled.fetch_add(meeting.wait_for(16).into(), Ordering::Relaxed);
        };
        graph.consumer("one of many", &[], handler).expect("no dependency");
    }
    let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
    producer.publish(|slot| *slot = 1).expect("room");
    eventually("all are in their handlers at once", || handled.load(Ordering::Relaxed) == 16);
    shut_down(&mut ring);
}

/// Workers of a group come, go and panic, one event in hand or none, and whatever is published to those who sleep is
/// handled within the limit before the next is published.
#[test]
fn no_event_is_slept_over_while_workers_come_and_go() {
    for kind in BOTH {
        within_limit("workers that come and go", move || {
            let handled = Arc::new(AtomicU64::new(0));
            let mut graph = graph(64);
            let make = {
                let handled = handled.clone();
                move |_| {
                    let handled = handled.clone();
                    move |event: &u64, _: Sequence, _: bool| {
                        handled.fetch_add(1, Ordering::Relaxed);
                        if event.is_multiple_of(7) {
                            quiet_panic();
                        }
                    }
                }
            };
            let workers = group(&mut graph, kind, 4, make.clone());
            let (mut producer, mut ring) = graph.build_multi_producer().expect("threads");
            let mut random = Random::seeded();
            let (mut published, mut size) = (0, 4);
            for _ in 0..rounds(2_000) {
                churn(&mut ring, workers, &mut size, &mut random, || make(0));
                let burst = 1 + random.below(4);
                for _ in 0..burst {
                    published += 1;
                    producer.publish(|slot| *slot = published).expect("an open ring");
                }
                eventually("the burst is handled", || handled.load(Ordering::Relaxed) == published);
                thread::sleep(Duration::from_micros(random.below(300)));
            }
            ring.leave(workers, LIMIT).expect("they leave in time");
        });
    }
}

/// Has a worker come, or go unless it is the last, now and then.
fn churn<H: FnMut(&u64, Sequence, bool) + Send + 'static>(
    ring: &mut Ring<u64>,
    group: ConsumerId,
    size: &mut u64,
    random: &mut Random,
    make: impl FnOnce() -> H,
) {
    match random.below(16) {
        0 if *size < 16 => {
            let handler = make();
            ring.join_worker(group, move || handler).expect("a group with workers");
            *size += 1;
        }
        1 if *size > 1 => {
            ring.leave_worker(group, LIMIT).expect("it leaves in time");
            *size -= 1;
        }
        _ => {}
    }
}
