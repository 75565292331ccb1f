//! What is published is seen: by every consumer, once, in order and completely, on real threads.

mod ring_support;

use ring_support::{ALL_STRATEGIES, Random, eventually, graph, quiet_panic, shut_down, within_limit};
use ringmain::ring::{Polled, PublishError, RingBuilder};
use ringmain::wait::WaitStrategy;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Publishes from several threads through a managed consumer and checks what came, producer by producer.
fn all_come_in_order(capacity: usize, producers: u64, wait: WaitStrategy, events: u64) {
    let graph = RingBuilder::new(capacity, || (0_u64, 0_u64)).expect("a power of two").wait(wait);
    let mut graph = graph.graph().expect("memory");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let mut expected_sequence = 0;
    graph
        .consumer("sink", &[], move |event, sequence, _| {
            assert_eq!(sequence, expected_sequence, "sequences come without gap");
            expected_sequence += 1;
            sink.lock().expect("no handler panics with the lock").push(*event);
        })
        .expect("no dependency");
    let (producer, mut ring) = graph.build_multi_producer().expect("a thread");
    thread::scope(|scope| {
        for id in 0..producers {
            let mut producer = producer.clone();
            scope.spawn(move || {
                for count in 0..events {
                    producer.publish(|event| *event = (id, count)).expect("an open ring");
                }
            });
        }
    });
    let reports = shut_down(&mut ring);
    assert_eq!(reports[0].panics, 0, "the handler's own checks failed");
    let mut next: BTreeMap<u64, u64> = (0..producers).map(|id| (id, 0)).collect();
    for (id, count) in seen.lock().expect("unpoisoned").iter() {
        let next = next.get_mut(id).expect("a known producer");
        assert_eq!(count, next, "producer {id}'s events are in order, once each");
        *next += 1;
    }
    assert!(next.values().all(|&count| count == events), "events are missing: {next:?}");
}

#[test]
fn each_of_many_producers_is_heard_in_order_and_completely() {
    for producers in 1..=4 {
        for capacity in [1, 2, 1024] {
            within_limit("many producers", move || {
                all_come_in_order(capacity, producers, WaitStrategy::Blocking, 2_000);
            });
        }
    }
}

#[test]
fn many_producers_are_heard_whatever_the_wait_strategy() {
    for wait in ALL_STRATEGIES {
        // Threads that spin need cores: the fewer of them, the faster this ends where cores are few.
        let events = if wait == WaitStrategy::BusySpin { 200 } else { 2_000 };
        within_limit("a wait strategy", move || all_come_in_order(8, 2, wait, events));
    }
}

#[test]
fn a_single_producer_is_heard_in_order_and_completely() {
    for wait in ALL_STRATEGIES {
        for capacity in [1, 2, 1024] {
            within_limit("a single producer", move || {
                let events = if wait == WaitStrategy::BusySpin && capacity < 8 { 200 } else { 5_000 };
                let builder = RingBuilder::new(capacity, || 0_u64).expect("a power of two").wait(wait);
                let mut graph = builder.graph().expect("memory");
                let (sink, source) = channel();
                let send = move |event: &u64, _, _| sink.send(*event).expect("the test listens");
                graph.consumer("sink", &[], send).expect("no dependency");
                let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
                for value in 0..events {
                    assert_eq!(producer.publish(|event| *event = value), Ok(value));
                }
                shut_down(&mut ring);
                assert!(source.iter().eq(0..events), "{wait}, capacity {capacity}");
            });
        }
    }
}

#[test]
fn every_consumer_of_a_fan_out_sees_every_event() {
    within_limit("fan-out", || {
        let mut graph = graph(4);
        let sums: Vec<Arc<AtomicU64>> = (0..3).map(|_| Arc::default()).collect();
        for (place, sum) in sums.iter().cloned().enumerate() {
            let add = move |event: &u64, _, _| {
                sum.fetch_add(*event, Ordering::Relaxed);
            };
            graph.consumer(&format!("sum-{place}"), &[], add).expect("no dependency");
        }
        let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
        for value in 1..=1_000 {
            producer.publish(|event| *event = value).expect("an open ring");
        }
        shut_down(&mut ring);
        assert!(sums.iter().all(|sum| sum.load(Ordering::Relaxed) == 500_500), "{sums:?}");
    });
}

#[test]
fn the_last_event_of_each_look_says_so() {
    let mut graph = graph(16);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(4, |place, event| *event = place as u64).expect("room for four");
    let mut ends = Vec::new();
    assert_eq!(
        poller.poll(16, |event, sequence, is_last| ends.push((*event, sequence, is_last))),
        Polled::Events(4)
    );
    // A ring of sixteen is looked at in runs of two.
    assert_eq!(ends, [(0, 0, false), (1, 1, true), (2, 2, false), (3, 3, true)]);
}

#[test]
fn a_poll_takes_no_more_than_it_was_asked_for() {
    let mut graph = graph(16);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(5, |place, event| *event = place as u64).expect("room for five");
    assert_eq!(poller.poll(0, |_, _, _| panic!("nothing was asked for")), Polled::Empty);
    assert_eq!(poller.poll(3, |_, _, _| {}), Polled::Events(3));
    assert_eq!(poller.next_sequence(), 3);
    assert_eq!(poller.lag(), 2);
    assert_eq!(poller.poll(3, |_, _, _| {}), Polled::Events(2));
    assert_eq!(poller.poll(3, |_, _, _| {}), Polled::Empty);
}

// Stress.

/// Random rings with random producers, some of which panic, and a close at a random moment: what was accepted is seen
/// by all consumers, once and in order, and nothing else.
fn a_random_ring(random: &mut Random) {
    let capacity = 1 << random.below(6);
    let wait =
        [WaitStrategy::Yielding, WaitStrategy::Backoff, WaitStrategy::Blocking][random.below(3) as usize];
    let producers = 1 + random.below(4);
    let events = 1 + random.below(400);
    let close_after = random.below(producers * events + 1);
    let panics_every = 2 + random.below(50);

    let mut graph = RingBuilder::new(capacity, || (0_u64, 0_u64))
        .expect("a power of two")
        .wait(wait)
        .graph()
        .expect("memory");
    let consumers = 1 + random.below(3);
    let mut sinks = Vec::new();
    let mut after = Vec::new();
    for place in 0..consumers {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let handler = move |event: &(u64, u64), _, _| sink.lock().expect("unpoisoned").push(*event);
        let id = graph.consumer(&format!("sink-{place}"), &after, handler).expect("its own ring");
        if random.below(2) == 0 {
            after = vec![id];
        }
        sinks.push(seen);
    }
    let (producer, mut ring) = graph.build_multi_producer().expect("threads");

    let published = AtomicU64::new(0);
    let accepted: Vec<Vec<u64>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..producers)
            .map(|id| {
                let mut producer = producer.clone();
                let published = &published;
                scope.spawn(move || {
                    let mut accepted = Vec::new();
                    for count in 0..events {
                        let outcome = catch_unwind(AssertUnwindSafe(|| {
                            producer.publish(|event| {
                                *event = (id, count);
                                if count % panics_every == panics_every - 1 {
                                    quiet_panic();
                                }
                            })
                        }));
                        published.fetch_add(1, Ordering::Relaxed);
                        match outcome {
                            Ok(Ok(_)) => accepted.push(count),
                            Ok(Err(reason)) => assert_eq!(reason, PublishError::Closed),
                            Err(_) => {}
                        }
                    }
                    accepted
                })
            })
            .collect();
        eventually("enough was published", || published.load(Ordering::Relaxed) >= close_after);
        ring.close();
        writers.into_iter().map(|writer| writer.join().expect("a writer panicked")).collect()
    });
    shut_down(&mut ring);
    for seen in sinks {
        let mut by_producer = vec![Vec::new(); producers as usize];
        for &(id, count) in seen.lock().expect("unpoisoned").iter() {
            by_producer[id as usize].push(count);
        }
        assert_eq!(by_producer, accepted);
    }
}

#[test]
fn random_rings_lose_nothing_and_invent_nothing() {
    let mut random = Random::seeded();
    within_limit("a random ring", move || {
        let started = Instant::now();
        for round in 0..100 {
            println!("round {round}");
            a_random_ring(&mut random);
            if started.elapsed() > Duration::from_secs(5) {
                break;
            }
        }
    });
}
