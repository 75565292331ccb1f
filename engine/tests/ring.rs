//! The ring from outside: order, completeness, faults, back-pressure and its end, on real threads.

use ringmain::affinity::{AffinityError, Pinning};
use ringmain::ring::{
    BatchError, BuildError, Graph, Overflow, Polled, Poller, PublishError, Ring, RingBuilder, ShutdownError,
};
use ringmain::wait::WaitStrategy;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for the slowest machine; reached only where something hangs.
const LIMIT: Duration = Duration::from_secs(30);

const ALL_STRATEGIES: [WaitStrategy; 4] =
    [WaitStrategy::BusySpin, WaitStrategy::Yielding, WaitStrategy::Backoff, WaitStrategy::Blocking];

fn graph(capacity: usize) -> Graph<u64> {
    RingBuilder::new(capacity, || 0_u64).expect("a power of two").graph()
}

fn rejecting(capacity: usize) -> Graph<u64> {
    RingBuilder::new(capacity, || 0_u64).expect("a power of two").overflow(Overflow::Reject).graph()
}

/// Takes exactly `count` events.
fn take(poller: &mut Poller<u64>, count: usize) -> Vec<u64> {
    let started = Instant::now();
    let mut seen = Vec::with_capacity(count);
    while seen.len() < count {
        assert!(started.elapsed() < LIMIT, "{} of {count} events came", seen.len());
        let polled = poller.poll((count - seen.len()) as u64, |event, _, _| seen.push(*event));
        assert_ne!(polled, Polled::Finished, "finished after {} of {count} events", seen.len());
        if polled == Polled::Empty {
            thread::yield_now();
        }
    }
    seen
}

/// Takes all there is until the end.
fn drain<E>(poller: &mut Poller<E>, mut handler: impl FnMut(&E)) {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < LIMIT, "the ring does not end");
        match poller.poll(64, |event, _, _| handler(event)) {
            Polled::Events(_) => {}
            Polled::Empty | Polled::Missed(_) => thread::yield_now(),
            Polled::Finished => return,
        }
    }
}

/// Runs `body` on a thread of its own and fails if it hangs.
fn within_limit<R: Send + 'static>(what: &str, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, is_done) = channel();
    let thread = thread::spawn(move || {
        let result = body();
        let _ = done.send(());
        result
    });
    if is_done.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("{what} hangs");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Waits until `condition` holds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "it never came to: {what}");
        thread::yield_now();
    }
}

fn shut_down<E>(ring: &mut Ring<E>) -> Vec<ringmain::ring::ConsumerReport> {
    ring.shutdown(LIMIT).expect("the consumers end in time")
}

// Order and completeness.

/// Publishes from several threads through a managed consumer and checks what came, producer by producer.
fn all_come_in_order(capacity: usize, producers: u64, wait: WaitStrategy, events: u64) {
    let graph = RingBuilder::new(capacity, || (0_u64, 0_u64)).expect("a power of two").wait(wait);
    let mut graph = graph.graph();
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
    let (producer, mut ring) = graph.multi().expect("a thread");
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
fn an_exclusive_producer_is_heard_in_order_and_completely() {
    for wait in ALL_STRATEGIES {
        for capacity in [1, 2, 1024] {
            within_limit("an exclusive producer", move || {
                let events = if wait == WaitStrategy::BusySpin && capacity < 8 { 200 } else { 5_000 };
                let builder = RingBuilder::new(capacity, || 0_u64).expect("a power of two").wait(wait);
                let mut graph = builder.graph();
                let (sink, source) = channel();
                let send = move |event: &u64, _, _| sink.send(*event).expect("the test listens");
                graph.consumer("sink", &[], send).expect("no dependency");
                let (mut producer, mut ring) = graph.exclusive().expect("a thread");
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
        let (mut producer, mut ring) = graph.exclusive().expect("threads");
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
    let (mut producer, _ring) = graph.exclusive().expect("no threads");
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
    let (mut producer, _ring) = graph.exclusive().expect("no threads");
    producer.publish_batch(5, |place, event| *event = place as u64).expect("room for five");
    assert_eq!(poller.poll(0, |_, _, _| panic!("nothing was asked for")), Polled::Empty);
    assert_eq!(poller.poll(3, |_, _, _| {}), Polled::Events(3));
    assert_eq!(poller.next_sequence(), 3);
    assert_eq!(poller.lag(), 2);
    assert_eq!(poller.poll(3, |_, _, _| {}), Polled::Events(2));
    assert_eq!(poller.poll(3, |_, _, _| {}), Polled::Empty);
}

// Graphs.

/// An event with the number of stages that have seen it.
#[derive(Default)]
struct Staged {
    stages: AtomicUsize,
}

#[test]
fn a_later_stage_never_sees_an_event_before_the_earlier_has_finished() {
    for wait in [WaitStrategy::Blocking, WaitStrategy::Backoff] {
        within_limit("pipeline", move || {
            let builder = RingBuilder::new(8, Staged::default).expect("a power of two").wait(wait);
            let mut graph = builder.graph();
            let mut after = Vec::new();
            for stage in 0..3 {
                let handler = move |event: &Staged, _, _| {
                    assert_eq!(
                        event.stages.load(Ordering::Relaxed),
                        stage,
                        "stage {stage} came too early or late"
                    );
                    event.stages.store(stage + 1, Ordering::Relaxed);
                };
                let id = graph.consumer(&format!("stage-{stage}"), &after, handler).expect("its own ring");
                after = vec![id];
            }
            let (mut producer, mut ring) = graph.exclusive().expect("threads");
            for _ in 0..5_000 {
                producer
                    .publish(|event| {
                        assert!(
                            [0, 3].contains(event.stages.get_mut()),
                            "a slot was reused before the last stage"
                        );
                        *event.stages.get_mut() = 0;
                    })
                    .expect("an open ring");
            }
            let reports = shut_down(&mut ring);
            assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
        });
    }
}

#[test]
fn the_join_of_a_diamond_waits_for_both_sides() {
    within_limit("diamond", || {
        let builder = RingBuilder::new(4, || [const { AtomicU64::new(0) }; 2]).expect("a power of two");
        let mut graph = builder.graph();
        let source = graph.consumer("source", &[], |_, _, _| {}).expect("no dependency");
        let sides = [0, 1].map(|side| {
            let handler = move |event: &[AtomicU64; 2], sequence, _| {
                event[side].store(sequence + 1, Ordering::Relaxed);
            };
            graph.consumer(&format!("side-{side}"), &[source], handler).expect("its own ring")
        });
        let joined = Arc::new(AtomicU64::new(0));
        let count = joined.clone();
        let join = move |event: &[AtomicU64; 2], sequence, _| {
            assert!(
                event.iter().all(|side| side.load(Ordering::Relaxed) == sequence + 1),
                "a side was not waited for"
            );
            count.fetch_add(1, Ordering::Relaxed);
        };
        graph.consumer("join", &sides, join).expect("its own ring");
        let (mut producer, mut ring) = graph.multi().expect("threads");
        for _ in 0..3_000 {
            producer.publish(|_| {}).expect("an open ring");
        }
        let reports = shut_down(&mut ring);
        assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
        assert_eq!(joined.load(Ordering::Relaxed), 3_000);
    });
}

#[test]
fn a_consumer_of_another_ring_is_no_dependency() {
    let mut other = graph(2);
    let (foreign, _poller) = other.poller(&[]).expect("no dependency");
    let mut graph = graph(2);
    let (own, _own_poller) = graph.poller(&[]).expect("no dependency");
    assert!(matches!(graph.poller(&[foreign]), Err(BuildError::ForeignConsumer { .. })));
    let error = graph.consumer("late", &[own, foreign], |_, _, _| {}).expect_err("a foreign consumer");
    assert_eq!(error, BuildError::ForeignConsumer { name: "late".to_owned() });
}

#[test]
fn a_consumer_of_a_ring_that_is_gone_is_no_dependency() {
    for _ in 0..64 {
        // The next graph may well lie where this one lay.
        let stale = graph(2).poller(&[]).expect("no dependency").0;
        assert!(matches!(graph(2).poller(&[stale]), Err(BuildError::ForeignConsumer { .. })));
    }
}

#[test]
fn a_middle_stage_that_leaves_does_not_open_the_way_past_the_first() {
    let mut graph = graph(8);
    let (first, mut earliest) = graph.poller(&[]).expect("no dependency");
    let (second, middle) = graph.poller(&[first]).expect("its own ring");
    let (_, mut last) = graph.poller(&[second]).expect("its own ring");
    let (mut producer, _ring) = graph.exclusive().expect("no threads");
    producer.publish_batch(3, |place, event| *event = place as u64).expect("room for three");
    drop(middle);
    assert_eq!(last.poll(8, |_, _, _| panic!("the first stage has seen nothing yet")), Polled::Empty);
    assert_eq!(take(&mut earliest, 2), [0, 1]);
    assert_eq!(take(&mut last, 2), [0, 1]);
    assert_eq!(last.poll(8, |_, _, _| panic!("the first stage has seen two")), Polled::Empty);
}

// Capacity and construction.

#[test]
fn a_capacity_that_is_no_power_of_two_names_the_next_that_is() {
    for (capacity, next) in [(0, 1), (3, 4), (1000, 1024), ((1 << 30) + 1, 1 << 30), (usize::MAX, 1 << 30)] {
        let error = RingBuilder::new(capacity, || ()).expect_err("not a power of two in range");
        assert_eq!(error, BuildError::Capacity { capacity, next });
        assert!(error.to_string().contains(&next.to_string()), "{error}");
    }
}

/// The threads of this process whose names start so.
#[cfg(target_os = "linux")]
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
#[cfg(target_os = "linux")]
fn a_core_that_does_not_exist_is_an_error_and_leaves_no_thread_running() {
    let builder = RingBuilder::new(4, || 0_u64).expect("a power of two");
    let mut graph = builder.pinning(Pinning::Cores(vec![0, 999])).graph();
    let witness = Arc::new(());
    for place in 0..2 {
        let witness = witness.clone();
        let handler = move |_: &u64, _, _| {
            let _ = &witness;
        };
        graph.consumer(&format!("nocore-{place}"), &[], handler).expect("no dependency");
    }
    let error = graph.exclusive().expect_err("there is no core 999");
    assert!(
        matches!(&error, BuildError::Affinity { reason: AffinityError::NoSuchCore { core: 999, .. }, .. }),
        "{error}"
    );
    assert_eq!(threads_named("nocore-"), 0);
    assert_eq!(Arc::strong_count(&witness), 1, "a handler was left behind");
}

#[test]
fn an_empty_list_of_cores_is_an_error() {
    let mut graph =
        RingBuilder::new(4, || 0_u64).expect("a power of two").pinning(Pinning::Cores(vec![])).graph();
    graph.consumer("nowhere", &[], |_, _, _| {}).expect("no dependency");
    assert!(matches!(graph.multi(), Err(BuildError::Affinity { reason: AffinityError::NoCores, .. })));
}

// A full ring.

#[test]
fn a_full_ring_that_rejects_says_so_and_takes_more_once_there_is_room() {
    for capacity in [1, 2, 1024] {
        let mut graph = rejecting(capacity);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.multi().expect("no threads");
        for value in 0..capacity as u64 {
            producer.publish(|event| *event = value).expect("room");
        }
        assert_eq!(ring.remaining_capacity(), 0);
        assert_eq!(producer.publish(|_| panic!("nothing is to be filled")), Err(PublishError::Full));
        assert_eq!(producer.try_publish(|_| panic!("nothing is to be filled")), Err(PublishError::Full));
        let limit = Duration::from_millis(5);
        let refused = producer.publish_timeout(limit, |_| panic!("nothing is to be filled"));
        assert_eq!(refused, Err(PublishError::TimedOut));
        assert_eq!(take(&mut poller, 1), [0]);
        assert_eq!(producer.publish(|event| *event = 7), Ok(capacity as u64));
        assert_eq!(ring.depth(), capacity as u64);
    }
}

#[test]
fn a_blocked_publish_gives_up_at_its_limit_and_not_before() {
    for wait in ALL_STRATEGIES {
        let limit = Duration::from_millis(20);
        let builder = RingBuilder::new(2, || 0_u64).expect("a power of two").wait(wait);
        let mut graph = builder.overflow(Overflow::Block { limit: Some(limit) }).graph();
        let (_, _poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.exclusive().expect("no threads");
        assert_eq!(producer.publish_batch(2, |_, _| {}), Ok(()));
        let started = Instant::now();
        assert_eq!(producer.publish(|_| panic!("nothing is to be filled")), Err(PublishError::TimedOut));
        assert!(started.elapsed() >= limit, "{wait} gave up early");
        assert_eq!(producer.try_publish(|_| {}), Err(PublishError::Full));
    }
}

#[test]
fn a_blocked_publish_goes_on_when_a_slot_is_released() {
    for wait in ALL_STRATEGIES {
        within_limit("a blocked publish", move || {
            let builder = RingBuilder::new(1, || 0_u64).expect("a power of two").wait(wait);
            let mut graph = builder.graph();
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.exclusive().expect("no threads");
            producer.publish(|event| *event = 1).expect("room for one");
            let writer = thread::spawn(move || producer.publish(|event| *event = 2));
            assert_eq!(take(&mut poller, 2), [1, 2]);
            assert_eq!(writer.join().expect("the writer panicked"), Ok(1));
            assert_eq!(ring.claimed(), 2);
        });
    }
}

#[test]
fn a_batch_says_how_much_of_it_was_published() {
    let mut graph = rejecting(4);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.multi().expect("no threads");
    assert_eq!(producer.publish_batch(0, |_, _| panic!("an empty batch")), Ok(()));
    assert_eq!(producer.publish_batch(3, |place, event| *event = place as u64), Ok(()));
    let refused = producer.publish_batch(3, |place, event| *event = 10 + place as u64);
    assert_eq!(refused, Err(BatchError { published: 1, reason: PublishError::Full }));
    assert_eq!(take(&mut poller, 4), [0, 1, 2, 10]);
    ring.close();
    let refused = producer.publish_batch(2, |_, _| panic!("the ring is closed"));
    assert_eq!(refused, Err(BatchError { published: 0, reason: PublishError::Closed }));
}

#[test]
fn a_batch_longer_than_the_ring_comes_through() {
    within_limit("a long batch", || {
        let mut graph = graph(4);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.exclusive().expect("no threads");
        let writer =
            thread::spawn(move || producer.publish_batch(1_000, |place, event| *event = place as u64));
        assert!(take(&mut poller, 1_000).into_iter().eq(0..1_000));
        assert_eq!(writer.join().expect("the writer panicked"), Ok(()));
    });
}

/// A producer that has not published for several laps knows an old gate only.
#[test]
fn a_producer_that_was_idle_for_many_laps_overruns_nobody() {
    let mut graph = rejecting(4);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut busy, _ring) = graph.multi().expect("no threads");
    let mut idle = busy.clone();
    for value in 0..20 {
        busy.publish(|event| *event = value).expect("room");
        assert_eq!(take(&mut poller, 1), [value]);
    }
    for value in 20..24 {
        busy.publish(|event| *event = value).expect("room");
    }
    assert_eq!(idle.publish(|_| panic!("the ring is full")), Err(PublishError::Full));
    assert_eq!(take(&mut poller, 4), [20, 21, 22, 23]);
    assert_eq!(idle.publish_batch(5, |_, event| *event = 9).map_err(|error| error.published), Err(4));
}

// Leaving.

#[test]
fn a_poller_that_is_dropped_lets_producers_go_on() {
    within_limit("a dropped poller", || {
        let mut graph = graph(2);
        let (_, poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.exclusive().expect("no threads");
        assert_eq!(producer.publish_batch(2, |_, _| {}), Ok(()));
        assert_eq!(producer.try_publish(|_| {}), Err(PublishError::Full));
        let writer = thread::spawn(move || producer.publish_batch(100, |_, _| {}));
        drop(poller);
        assert_eq!(writer.join().expect("the writer panicked"), Ok(()));
        assert_eq!(ring.claimed(), 102);
        assert_eq!(ring.depth(), 0, "without consumers nothing waits");
        assert_eq!(ring.lags(), [("poller".to_owned(), 0)]);
    });
}

/// Both write the same slot only if one of them overtakes the other, which would be a data race.
#[test]
fn without_consumers_a_slot_in_hand_is_not_given_to_a_second_producer() {
    let (mut first, _ring) = rejecting(1).multi().expect("no threads");
    let mut second = first.clone();
    let published = first.publish(|event| {
        *event = 1;
        assert_eq!(second.try_publish(|event| *event = 2), Err(PublishError::Full));
        assert_eq!(*event, 1);
    });
    assert_eq!(published, Ok(0));
    assert_eq!(second.try_publish(|event| *event = 2), Ok(1));
}

#[test]
fn many_producers_without_consumers_go_on_for_ever() {
    for wait in [WaitStrategy::Blocking, WaitStrategy::Yielding] {
        within_limit("no consumers", move || {
            let graph = RingBuilder::new(2, || [0_u64; 8]).expect("a power of two").wait(wait).graph();
            let (producer, ring) = graph.multi().expect("no threads");
            thread::scope(|scope| {
                for id in 1..=3 {
                    let mut producer = producer.clone();
                    scope.spawn(move || {
                        for _ in 0..2_000 {
                            let fill = |event: &mut [u64; 8]| {
                                assert!(
                                    event.iter().all(|word| *word == event[0]),
                                    "two producers hold one slot"
                                );
                                event.iter_mut().for_each(|word| *word = id);
                            };
                            producer.publish(fill).expect("an open ring");
                        }
                    });
                }
            });
            assert_eq!(ring.claimed(), 6_000);
        });
    }
}

// Panics.

/// A panic without a report on standard error.
fn quiet_panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

#[test]
fn a_fill_closure_of_the_only_producer_that_panics_publishes_nothing_and_the_event_is_made_anew() {
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    let factory = move || count.fetch_add(1, Ordering::Relaxed);
    let mut graph = RingBuilder::new(2, factory).expect("a power of two").graph();
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.exclusive().expect("no threads");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        producer.publish(|event| {
            *event = 77;
            quiet_panic()
        })
    }));
    assert!(outcome.is_err(), "the panic goes on to the publisher");
    assert_eq!(made.load(Ordering::Relaxed), 3);
    assert_eq!(ring.claimed(), 0);
    assert_eq!(poller.poll(2, |_, _, _| panic!("nothing was published")), Polled::Empty);
    let mut found = 0;
    assert_eq!(producer.publish(|event| found = std::mem::replace(event, 5)), Ok(0));
    assert_eq!(found, 2, "the event that was half-written is gone");
    assert_eq!(take(&mut poller, 1), [5]);
    assert_eq!(poller.tombstones(), 0);
}

#[test]
fn a_fill_closure_of_one_of_many_producers_that_panics_leaves_a_tombstone_which_is_skipped() {
    let mut graph = graph(4);
    let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
    let (_, mut later) = graph.poller(&[first]).expect("its own ring");
    let (mut producer, ring) = graph.multi().expect("no threads");
    producer.publish(|event| *event = 1).expect("room");
    let outcome = catch_unwind(AssertUnwindSafe(|| producer.publish(|_| quiet_panic())));
    assert!(outcome.is_err(), "the panic goes on to the publisher");
    producer.publish(|event| *event = 3).expect("room");
    assert_eq!(ring.claimed(), 3);
    for poller in [&mut earlier, &mut later] {
        let mut seen = Vec::new();
        let mut polled = 0;
        while let Polled::Events(events) = poller.poll(4, |event, sequence, _| seen.push((*event, sequence)))
        {
            polled += events;
        }
        assert_eq!(polled, 3, "a tombstone is gone through as well");
        assert_eq!(seen, [(1, 0), (3, 2)]);
        assert_eq!(poller.tombstones(), 1);
    }
}

#[test]
fn a_batch_that_panics_half_way_keeps_what_was_published_before() {
    fn half<S: ringmain::ring::Sequencer>(producer: &mut ringmain::ring::Producer<u64, S>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            producer.publish_batch(4, |place, event| {
                if place == 2 {
                    quiet_panic();
                }
                *event = place as u64;
            })
        }));
        assert!(outcome.is_err(), "the panic goes on to the publisher");
        producer.publish(|event| *event = 9).expect("room");
    }

    let mut one = graph(8);
    let (_, mut poller) = one.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = one.exclusive().expect("no threads");
    half(&mut producer);
    assert_eq!(take(&mut poller, 3), [0, 1, 9]);
    assert_eq!(poller.tombstones(), 0);

    let mut many = graph(8);
    let (_, mut poller) = many.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = many.multi().expect("no threads");
    half(&mut producer);
    assert_eq!(take(&mut poller, 3), [0, 1, 9]);
    assert_eq!(poller.tombstones(), 2);
}

/// The second panic's payload panics once more when it is dropped, during the first one's unwinding.
#[test]
fn a_factory_that_panics_while_a_fill_closure_does_is_survived() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            quiet_panic();
        }
    }
    let built = AtomicU64::new(0);
    let factory = move || {
        if built.fetch_add(1, Ordering::Relaxed) >= 2 {
            resume_unwind(Box::new(Bomb));
        }
        0_u64
    };
    let mut graph = RingBuilder::new(2, factory).expect("a power of two").graph();
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.multi().expect("no threads");
    assert!(catch_unwind(AssertUnwindSafe(|| producer.publish(|_| quiet_panic()))).is_err());
    producer.publish(|event| *event = 4).expect("room");
    assert_eq!(take(&mut poller, 1), [4]);
}

#[test]
fn a_handler_that_panics_costs_its_event_and_nothing_else() {
    within_limit("panicking handlers", || {
        let mut graph = graph(4);
        let (sink, source) = channel();
        let handler = move |event: &u64, _, _| {
            if event.is_multiple_of(3) {
                quiet_panic();
            }
            sink.send(*event).expect("the test listens");
        };
        graph.consumer("shaky", &[], handler).expect("no dependency");
        let (mut producer, mut ring) = graph.exclusive().expect("a thread");
        for value in 0..30 {
            producer.publish(|event| *event = value).expect("an open ring");
        }
        let reports = shut_down(&mut ring);
        assert_eq!((reports[0].name.as_str(), reports[0].panics), ("shaky", 10));
        assert!(source.iter().eq((0..30).filter(|value| value % 3 != 0)));
    });
}

#[test]
fn a_poll_after_a_panic_starts_behind_it() {
    let mut graph = rejecting(2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.exclusive().expect("no threads");
    producer.publish_batch(2, |place, event| *event = place as u64).expect("room for two");
    assert!(catch_unwind(AssertUnwindSafe(|| poller.poll(2, |_, _, _| quiet_panic()))).is_err());
    assert_eq!(producer.publish(|event| *event = 2), Ok(2), "the event that panicked was released");
    assert_eq!(take(&mut poller, 2), [1, 2]);
}

#[test]
fn a_handler_that_panics_when_it_is_dropped_does_not_hold_up_the_shutdown() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            quiet_panic();
        }
    }
    within_limit("a panicking drop", || {
        let mut graph = graph(2);
        let bomb = Bomb;
        let handler = move |_: &u64, _, _| {
            let _ = &bomb;
        };
        graph.consumer("bomb", &[], handler).expect("no dependency");
        let (_producer, mut ring) = graph.exclusive().expect("a thread");
        assert_eq!(shut_down(&mut ring)[0].panics, 1);
    });
}

// The end.

#[test]
fn what_was_published_before_the_close_is_handled_and_nothing_after_it() {
    within_limit("close", || {
        let mut graph = graph(8);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.exclusive().expect("no threads");
        producer.publish_batch(3, |place, event| *event = place as u64).expect("room for three");
        ring.close();
        ring.close();
        assert_eq!(producer.publish(|_| panic!("the ring is closed")), Err(PublishError::Closed));
        assert_eq!(producer.try_publish(|_| panic!("the ring is closed")), Err(PublishError::Closed));
        assert!(matches!(producer.claim(), Err(PublishError::Closed)));
        let mut seen = Vec::new();
        drain(&mut poller, |event| seen.push(*event));
        assert_eq!(seen, [0, 1, 2]);
        assert!(poller.is_ready(), "the end is something to be told");
    });
}

#[test]
fn a_ring_that_is_closed_before_anything_was_published_ends_at_once() {
    within_limit("an empty ring", || {
        for wait in ALL_STRATEGIES {
            let mut graph = RingBuilder::new(4, || 0_u64).expect("a power of two").wait(wait).graph();
            let first =
                graph.consumer("first", &[], |_, _, _| panic!("there is no event")).expect("no dependency");
            graph.consumer("second", &[first], |_, _, _| panic!("there is no event")).expect("its own ring");
            let (mut producer, mut ring) = graph.multi().expect("threads");
            let reports = shut_down(&mut ring);
            assert_eq!(reports.iter().map(|report| report.panics).collect::<Vec<_>>(), [0, 0]);
            assert_eq!(shut_down(&mut ring), reports, "a second shutdown says the same");
            assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
        }
    });
}

#[test]
fn closing_frees_a_producer_that_is_blocked_by_a_full_ring() {
    for wait in ALL_STRATEGIES {
        within_limit("a producer of a full ring", move || {
            let mut graph = RingBuilder::new(1, || 0_u64).expect("a power of two").wait(wait).graph();
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.multi().expect("no threads");
            producer.publish(|event| *event = 1).expect("room for one");
            let writer = thread::spawn(move || producer.publish(|_| panic!("the ring stays full")));
            ring.close();
            assert_eq!(writer.join().expect("the writer panicked"), Err(PublishError::Closed));
            let mut seen = 0;
            drain(&mut poller, |event| seen += event);
            assert_eq!(seen, 1);
        });
    }
}

#[test]
fn halting_leaves_the_rest_unread() {
    within_limit("halt", || {
        let mut graph = graph(8);
        let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, ring) = graph.exclusive().expect("no threads");
        producer.publish_batch(4, |_, _| {}).expect("room for four");
        assert_eq!(earlier.poll(1, |_, _, _| {}), Polled::Events(1));
        ring.halt();
        for poller in [&mut earlier, &mut later] {
            assert_eq!(poller.poll(8, |_, _, _| panic!("the ring was halted")), Polled::Finished);
        }
        assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
        drop(earlier);
        assert_eq!(ring.claimed(), 4);
    });
}

/// A handler that stops at a gate, and how to open it.
fn gated(graph: &mut Graph<u64>, name: &str) -> (Receiver<u64>, Arc<Barrier>) {
    let (entered, has_entered) = channel();
    let gate = Arc::new(Barrier::new(2));
    let inner = gate.clone();
    let handler = move |event: &u64, _, _| {
        entered.send(*event).expect("the test listens");
        inner.wait();
    };
    graph.consumer(name, &[], handler).expect("no dependency");
    (has_entered, gate)
}

#[test]
fn a_halted_consumer_stops_behind_the_event_it_is_at() {
    within_limit("halt during an event", || {
        let mut graph = graph(4);
        let (has_entered, gate) = gated(&mut graph, "slow");
        let (mut producer, mut ring) = graph.exclusive().expect("a thread");
        producer.publish_batch(4, |place, event| *event = place as u64).expect("room for four");
        assert_eq!(has_entered.recv_timeout(LIMIT), Ok(0));
        ring.halt();
        gate.wait();
        shut_down(&mut ring);
        assert_eq!(has_entered.try_recv().ok(), None, "it went on with the rest of the ring");
    });
}

#[test]
fn a_shutdown_that_takes_too_long_names_who_is_still_at_work() {
    within_limit("a slow consumer", || {
        let mut graph = graph(4);
        let (has_entered, gate) = gated(&mut graph, "slow");
        graph.consumer("quick", &[], |_, _, _| {}).expect("no dependency");
        let (mut producer, mut ring) = graph.exclusive().expect("threads");
        producer.publish(|event| *event = 1).expect("room");
        assert_eq!(has_entered.recv_timeout(LIMIT), Ok(1));
        eventually("the quick consumer has gone through", || ring.lags()[1].1 == 0);
        let limit = Duration::from_millis(20);
        let started = Instant::now();
        // The quick one may need a moment to end; the slow one is there for certain.
        let ShutdownError { still_running } = ring.shutdown(limit).expect_err("the slow one is at work");
        assert!(started.elapsed() >= limit, "it gave up early");
        assert!(still_running.contains(&"slow".to_owned()), "{still_running:?}");
        gate.wait();
        assert_eq!(shut_down(&mut ring).len(), 2);
    });
}

#[test]
fn a_consumer_can_shut_its_own_ring_down() {
    within_limit("a shutdown from inside", || {
        let mut graph = graph(4);
        let own: Arc<Mutex<Option<Ring<u64>>>> = Arc::default();
        let (done, is_done) = channel();
        let handle = own.clone();
        let handler = move |event: &u64, _, _| {
            if *event == 1 {
                let mut ring =
                    handle.lock().expect("unpoisoned").take().expect("the first event finds the ring");
                let outcome = ring.shutdown(LIMIT).map(|reports| reports.len());
                ring.close();
                ring.halt();
                done.send(outcome).expect("the test listens");
            }
        };
        graph.consumer("inside", &[], handler).expect("no dependency");
        graph.consumer("beside", &[], |_, _, _| {}).expect("no dependency");
        let (mut producer, ring) = graph.exclusive().expect("threads");
        *own.lock().expect("unpoisoned") = Some(ring);
        producer.publish(|event| *event = 1).expect("room");
        assert_eq!(is_done.recv_timeout(LIMIT), Ok(Ok(2)));
        assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
    });
}

#[test]
fn dropping_the_ring_closes_it_and_its_threads_drain_and_end() {
    within_limit("a dropped ring", || {
        let mut graph = graph(16);
        let (sink, source) = channel();
        let send = move |event: &u64, _, _| sink.send(*event).expect("the test listens");
        graph.consumer("sink", &[], send).expect("no dependency");
        let (mut producer, ring) = graph.multi().expect("a thread");
        producer.publish_batch(10, |place, event| *event = place as u64).expect("room for ten");
        drop(ring);
        assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
        // Ends when the thread has dropped its handler.
        assert!(source.iter().eq(0..10));
    });
}

// Claims.

#[test]
fn a_claim_that_is_dropped_or_forgotten_was_never_taken() {
    let mut graph = rejecting(1);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.exclusive().expect("no threads");
    for _ in 0..3 {
        let mut dropped = producer.claim().expect("room");
        *dropped = 5;
        assert_eq!(dropped.sequence(), 0);
        let _forgotten = std::mem::ManuallyDrop::new(producer.claim().expect("room"));
    }
    assert_eq!(ring.claimed(), 0);
    assert_eq!(poller.poll(1, |_, _, _| panic!("nothing was published")), Polled::Empty);
    let mut claim = producer.claim().expect("room");
    *claim += 1;
    assert_eq!(*claim, 6, "what was written before the claim was dropped is still there");
    assert_eq!(claim.publish(), Ok(0));
    assert!(matches!(producer.claim(), Err(PublishError::Full)));
    assert_eq!(take(&mut poller, 1), [6]);
}

#[test]
fn a_claim_is_refused_when_the_ring_is_closed_before_it_is_published() {
    let mut graph = graph(2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.exclusive().expect("no threads");
    let claim = producer.claim().expect("room");
    ring.close();
    assert_eq!(claim.publish(), Err(PublishError::Closed));
    assert_eq!(poller.poll(2, |_, _, _| panic!("nothing was published")), Polled::Finished);
}

// Events of all sizes.

#[test]
fn events_without_a_size_come_through() {
    let mut graph = RingBuilder::new(4, || ()).expect("a power of two").graph();
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.exclusive().expect("no threads");
    producer.publish_batch(3, |_, ()| {}).expect("room for three");
    ring.close();
    let mut count = 0;
    drain(&mut poller, |()| count += 1);
    assert_eq!(count, 3);
}

#[test]
fn events_of_a_page_come_through_untorn() {
    within_limit("pages", || {
        let mut graph = RingBuilder::new(2, || [0_u64; 512]).expect("a power of two").graph();
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.exclusive().expect("no threads");
        let writer = thread::spawn(move || {
            for value in 1..=500 {
                producer.publish(|event| event.fill(value)).expect("an open ring");
            }
            ring.close();
        });
        let mut next = 1;
        drain(&mut poller, |event| {
            assert!(event.iter().all(|&word| word == next), "torn");
            next += 1;
        });
        assert_eq!(next, 501);
        writer.join().expect("the writer panicked");
    });
}

#[test]
fn over_aligned_events_come_through_aligned() {
    #[repr(align(512))]
    struct Wide(u8);
    let mut graph = RingBuilder::new(4, || Wide(0)).expect("a power of two").graph();
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.multi().expect("no threads");
    for value in 0..4 {
        producer
            .publish(|event| {
                assert!(std::ptr::from_ref(event).is_aligned());
                event.0 = value;
            })
            .expect("room");
    }
    ring.close();
    let mut seen = Vec::new();
    drain(&mut poller, |event| {
        assert_eq!(std::ptr::from_ref(event).addr() % 512, 0);
        seen.push(event.0);
    });
    assert_eq!(seen, [0, 1, 2, 3]);
}

/// Counts the makes and drops of events.
#[derive(Default)]
struct Census {
    made: AtomicU64,
    dropped: AtomicU64,
}

struct Citizen(Arc<Census>);

impl Citizen {
    fn new(census: &Arc<Census>) -> Self {
        census.made.fetch_add(1, Ordering::Relaxed);
        Self(census.clone())
    }
}

impl Drop for Citizen {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_event_is_dropped_exactly_once() {
    let census = Arc::new(Census::default());
    let in_factory = census.clone();
    let mut graph = RingBuilder::new(8, move || Citizen::new(&in_factory)).expect("a power of two").graph();
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.multi().expect("no threads");
    assert_eq!(census.made.load(Ordering::Relaxed), 8);
    for _ in 0..20 {
        producer.publish(|event| *event = Citizen::new(&event.0)).expect("room");
        assert_eq!(poller.poll(1, |_, _, _| {}), Polled::Events(1));
    }
    // One is made anew by the ring, and some are left unread.
    assert!(catch_unwind(AssertUnwindSafe(|| producer.publish(|_| quiet_panic()))).is_err());
    producer.publish_batch(3, |_, _| {}).expect("room for three");
    assert_eq!(census.made.load(Ordering::Relaxed), 29);
    assert_eq!(census.dropped.load(Ordering::Relaxed), 21);
    drop((producer, ring));
    assert_eq!(census.dropped.load(Ordering::Relaxed), 21, "the poller still keeps the ring");
    drop(poller);
    assert_eq!(census.dropped.load(Ordering::Relaxed), 29);
}

// Stress.

/// A small generator of pseudo-random numbers: xorshift64*, Vigna 2016.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end
    }
}

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

    let mut graph = RingBuilder::new(capacity, || (0_u64, 0_u64)).expect("a power of two").wait(wait).graph();
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
    let (producer, mut ring) = graph.multi().expect("threads");

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
    let seed = std::env::var("RINGMAIN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("after 1970").as_nanos() as u64 | 1
    });
    println!("to repeat: RINGMAIN_SEED={seed}");
    within_limit("a random ring", move || {
        let mut random = Random(seed);
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
