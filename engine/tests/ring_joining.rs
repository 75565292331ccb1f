//! Consumers that come and go beside producers at full speed: those that stay lose nothing, and those that come see a
//! run without a gap from where they start.

mod ring_support;

use ring_support::{LIMIT, Random, gated, rounds, within_limit};
use ringmain::ring::{
    BuildError, ConsumerOptions, Layout, Polled, Poller, Producer, PublishError, Ring, RingBuilder, Sequence,
    Sequencer,
};
use ringmain::wait::WaitStrategy;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

fn builder(capacity: usize) -> RingBuilder<u64> {
    RingBuilder::new(capacity, || u64::MAX).expect("a power of two").wait(WaitStrategy::Blocking)
}

/// Publishes its own sequence, as far as one producer can know it, until told to stop. Returns how many.
fn publish_until<S: Sequencer>(producer: &mut Producer<u64, S>, is_over: &AtomicBool, batch: usize) -> u64 {
    let mut published = 0;
    while !is_over.load(Ordering::Relaxed) {
        producer.publish_batch(batch, |place, event| *event = published + place as u64).expect("open");
        published += batch as u64;
    }
    published
}

/// Takes at least `count` sequences and checks that they follow each other from `start`; `check` sees each event.
fn take_run(
    poller: &mut Poller<u64>,
    start: Sequence,
    count: u64,
    mut check: impl FnMut(u64, Sequence),
) -> u64 {
    let started = Instant::now();
    let mut next = start;
    while next < start + count {
        assert!(started.elapsed() < LIMIT, "only {} of {count} events came", next - start);
        let polled = poller.poll(count, |event, sequence, _| {
            assert_eq!(sequence, next, "a joiner's run has a gap");
            check(*event, sequence);
            next += 1;
        });
        match polled {
            Polled::Events(_) => {}
            Polled::Empty => thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
    next - start
}

fn drain(poller: &mut Poller<u64>, mut check: impl FnMut(u64, Sequence)) -> u64 {
    let started = Instant::now();
    let mut seen = 0;
    loop {
        assert!(started.elapsed() < LIMIT, "the ring does not end");
        let polled = poller.poll(64, |event, sequence, _| {
            assert_eq!(sequence, seen, "one that stays lost an event, or got it twice");
            seen += 1;
            check(*event, sequence);
        });
        match polled {
            Polled::Events(_) => {}
            Polled::Empty => thread::yield_now(),
            Polled::Finished => return seen,
            Polled::Missed(missed) => panic!("{missed:?}"),
        }
    }
}

/// Joins and leaves `times` beside producers that never rest, while one consumer stays.
fn come_and_go<S: Sequencer + 'static>(
    producers: Vec<Producer<u64, S>>,
    ring: Ring<u64>,
    mut stays: Poller<u64>,
    times: u64,
    batch: usize,
    random: &mut Random,
) {
    let is_alone = producers.len() == 1;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let writers: Vec<_> = producers
            .into_iter()
            .map(|mut producer| scope.spawn(move || publish_until(&mut producer, is_over, batch)))
            .collect();
        let staying = scope.spawn(move || {
            drain(&mut stays, |event, sequence| {
                assert!(!is_alone || event == sequence, "torn or overwritten")
            })
        });
        let mut lingering = None;
        for _ in 0..times {
            let before = ring.released();
            let (_, mut poller) = ring.join_poller(&[], LIMIT).expect("an open ring");
            let start = poller.next_sequence();
            // One that was not polled any more, and held the ring up meanwhile, leaves.
            drop(lingering.take());
            assert!(start >= before, "a joiner starts in what was already released");
            take_run(&mut poller, start, 1 + random.below(40), |event, sequence| {
                assert!(!is_alone || event == sequence, "torn or overwritten");
            });
            if random.below(2) == 0 {
                lingering = Some(poller);
            }
        }
        drop(lingering);
        is_over.store(true, Ordering::Relaxed);
        let published: u64 =
            writers.into_iter().map(|writer| writer.join().expect("a writer panicked")).sum();
        ring.close();
        assert_eq!(staying.join().expect("the one that stays panicked"), published);
        assert_eq!(ring.claimed(), published);
    });
}

#[test]
fn a_thousand_consumers_come_and_go_beside_a_single_producer() {
    let mut random = Random::seeded();
    within_limit("coming and going", move || {
        for (layout, capacity) in
            [(Layout::Stamped, 2), (Layout::Stamped, 64), (Layout::Dense, 4), (Layout::Dense, 256)]
        {
            let mut graph = builder(capacity).layout(layout).graph().expect("memory");
            let (_, stays) = graph.poller(&[]).expect("no dependency");
            let (producer, ring) = graph.build_single_producer().expect("no threads");
            come_and_go(vec![producer], ring, stays, rounds(1_000), 3, &mut random);
        }
    });
}

#[test]
fn a_thousand_consumers_come_and_go_beside_several_producers() {
    let mut random = Random::seeded();
    within_limit("coming and going", move || {
        for (capacity, producers) in [(1, 2), (8, 3), (256, 2)] {
            let mut graph = builder(capacity).graph().expect("memory");
            let (_, stays) = graph.poller(&[]).expect("no dependency");
            let (producer, ring) = graph.build_multi_producer().expect("no threads");
            let producers = (0..producers).map(|_| producer.clone()).collect();
            come_and_go(producers, ring, stays, rounds(1_000), 2, &mut random);
        }
    });
}

/// Without anybody who stays, the ring is now with and now without consumers.
#[test]
fn a_joiner_of_a_ring_without_consumers_starts_at_the_cursor_and_holds_the_ring_from_there() {
    let mut random = Random::seeded();
    within_limit("a ring that is mostly alone", move || {
        for capacity in [1, 4, 64] {
            let (mut producer, ring) =
                builder(capacity).graph().expect("memory").build_multi_producer().expect("no threads");
            let mut other = producer.clone();
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                let is_over = &is_over;
                scope.spawn(move || publish_until(&mut producer, is_over, 1));
                scope.spawn(move || publish_until(&mut other, is_over, 5));
                let mut last = 0;
                for _ in 0..rounds(1_000) {
                    let (_, mut poller) = ring.join_poller(&[], LIMIT).expect("an open ring");
                    let start = poller.next_sequence();
                    assert!(start >= last, "a joiner starts before an earlier one has ended");
                    last = start + take_run(&mut poller, start, random.below(20), |_, _| {});
                }
                is_over.store(true, Ordering::Relaxed);
            });
        }
    });
}

#[test]
fn a_later_stage_can_join_and_sees_only_what_the_earlier_has_finished() {
    let mut random = Random::seeded();
    within_limit("a later stage", move || {
        let finished = Arc::new(AtomicU64::new(0));
        let mut graph = builder(32).graph().expect("memory");
        let mark = finished.clone();
        let handler = move |_: &u64, sequence, _| mark.store(sequence + 1, Ordering::Relaxed);
        let first = graph.consumer("first", &[], handler).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("a thread");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let is_over = &is_over;
            scope.spawn(move || publish_until(&mut producer, is_over, 4));
            for _ in 0..rounds(1_000) {
                let (second, mut middle) = ring.join_poller(&[first], LIMIT).expect("an open ring");
                let (_, mut last) = ring.join_poller(&[second], LIMIT).expect("an open ring");
                let start = middle.next_sequence();
                let run = take_run(&mut middle, start, 1 + random.below(15), |event, sequence| {
                    assert_eq!(event, sequence, "torn or overwritten");
                    assert!(finished.load(Ordering::Relaxed) > sequence, "the first stage was passed");
                });
                let reached = start + run;
                last.poll(64, |_, sequence, _| assert!(sequence < reached, "the middle stage was passed"));
            }
            is_over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn managed_consumers_join_and_leave_and_mix_with_pollers() {
    let mut random = Random::seeded();
    within_limit("managed consumers", move || {
        let mut graph = builder(64).graph().expect("memory");
        let (_, mut stays) = graph.poller(&[]).expect("no dependency");
        let kept = Arc::new(AtomicU64::new(0));
        let count = kept.clone();
        let handler = move |_: &u64, sequence, _| {
            assert_eq!(count.fetch_add(1, Ordering::Relaxed), sequence, "the managed one that stays");
        };
        graph.consumer("kept", &[], handler).expect("no dependency");
        let (producer, mut ring) = graph.build_multi_producer().expect("a thread");
        let is_over = AtomicBool::new(false);
        let published = thread::scope(|scope| {
            let is_over = &is_over;
            let writers: Vec<_> = (0..2)
                .map(|_| {
                    let mut producer = producer.clone();
                    scope.spawn(move || publish_until(&mut producer, is_over, 3))
                })
                .collect();
            // The poller needs the ring to end; it is closed once the writers have.
            let staying = scope.spawn(move || drain(&mut stays, |_, _| {}));
            for place in 0..rounds(200) {
                let (first, has_come) = channel();
                let make = move || {
                    let mut next = None;
                    move |_: &u64, sequence: Sequence, _| {
                        if let Some(expected) = next {
                            assert_eq!(sequence, expected, "a joiner's run has a gap");
                        } else {
                            let _ = first.send(sequence);
                        }
                        next = Some(sequence + 1);
                    }
                };
                let name = format!("guest-{place}");
                let guest = ring.join_consumer(ConsumerOptions::new(&name), LIMIT, make).expect("a thread");
                has_come.recv_timeout(LIMIT).expect("the guest sees events");
                if random.below(2) == 0 {
                    let (_, mut poller) = ring.join_poller(&[guest], LIMIT).expect("an open ring");
                    let start = poller.next_sequence();
                    take_run(&mut poller, start, 10, |_, _| {});
                }
                let panics: u64 = ring.reports().iter().map(|report| report.panics).sum();
                assert_eq!(panics, 0);
                ring.leave(guest, LIMIT).expect("it leaves in time");
                assert!(ring.reports().iter().all(|report| report.name != name), "its report goes with it");
                ring.leave(guest, LIMIT).expect("one that is not there has left");
            }
            is_over.store(true, Ordering::Relaxed);
            let published = writers.into_iter().map(|writer| writer.join().expect("a writer panicked"));
            let published: u64 = published.sum();
            ring.close();
            assert_eq!(staying.join().expect("the poller that stays panicked"), published);
            published
        });
        assert_eq!(ring.shutdown(LIMIT).expect("it ends in time").len(), 1);
        assert_eq!(kept.load(Ordering::Relaxed), published);
    });
}

#[test]
fn a_consumer_that_is_slow_to_leave_is_named_and_leaves_when_its_handler_returns() {
    within_limit("a slow leaver", || {
        let mut graph = builder(4).graph().expect("memory");
        let (slow, has_entered, gate) = gated(&mut graph, "slow");
        let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
        producer.publish(|event| *event = 1).expect("room");
        assert_eq!(has_entered.recv_timeout(LIMIT), Ok(1));
        let late = ring.leave(slow, Duration::from_millis(10)).expect_err("its handler has not returned");
        assert_eq!(late.still_running, ["slow"]);
        gate.wait();
        ring.leave(slow, LIMIT).expect("its handler has returned");
        // Nobody is left, so nobody holds the ring up.
        producer.publish_batch(100, |_, _| {}).expect("an open ring");
        assert_eq!(ring.shutdown(LIMIT).expect("nobody is left").len(), 0);
    });
}

#[test]
fn a_consumer_that_leaves_wakes_a_producer_that_it_held_up() {
    for wait in [WaitStrategy::Blocking, WaitStrategy::Yielding] {
        within_limit("a producer held up by a leaver", move || {
            let mut graph = builder(2).wait(wait).graph().expect("memory");
            let (_, poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_single_producer().expect("no threads");
            let (_, guest) = ring.join_poller(&[], LIMIT).expect("an open ring");
            assert_eq!(producer.publish_batch(2, |_, _| {}), Ok(()));
            assert_eq!(producer.try_publish(|_| {}), Err(PublishError::Full));
            let writer = thread::spawn(move || producer.publish_batch(50, |_, _| {}));
            drop(poller);
            drop(guest);
            assert_eq!(writer.join().expect("the writer panicked"), Ok(()));
        });
    }
}

#[test]
fn nobody_joins_a_closed_ring_and_a_join_waits_no_longer_than_told() {
    let (mut producer, ring) =
        builder(4).graph().expect("memory").build_multi_producer().expect("no threads");
    let name = || "poller".to_owned();
    producer
        .publish(|_| {
            let started = Instant::now();
            let limit = Duration::from_millis(10);
            let refused = ring.join_poller(&[], limit).expect_err("an event is in hand");
            assert_eq!(refused, BuildError::TimedOut { name: name() });
            assert!(started.elapsed() >= limit, "it gave up early");
        })
        .expect("room");
    // What has given up holds nobody up.
    producer.publish_batch(20, |_, _| {}).expect("room");
    drop(ring.join_poller(&[], LIMIT).expect("nothing is in hand any more"));
    ring.close();
    let refused = ring.join_poller(&[], LIMIT).expect_err("the ring is closed");
    assert_eq!(refused, BuildError::Closed { name: name() });
}

/// A joiner waits for the fill closure, which must not wait for the joiner.
#[test]
fn a_fill_closure_may_ask_for_statistics_while_somebody_joins() {
    /// Long enough for the joiner to get to where it waits.
    const FILLING: Duration = Duration::from_millis(20);
    within_limit("a statistic in a fill closure", || {
        let (mut producer, ring) =
            builder(4).graph().expect("memory").build_multi_producer().expect("no threads");
        let filling = Barrier::new(2);
        thread::scope(|scope| {
            let joiner = scope.spawn(|| {
                filling.wait();
                let (_, poller) =
                    ring.join_poller(&[], Duration::from_secs(5)).expect("the event gets filled");
                poller.next_sequence()
            });
            let published = producer.publish(|_| {
                filling.wait();
                let started = Instant::now();
                while started.elapsed() < FILLING {
                    assert_eq!((ring.lags(), ring.missed()), (vec![], vec![]), "nobody can have joined yet");
                    thread::yield_now();
                }
            });
            assert_eq!(published, Ok(0));
            assert_eq!(joiner.join().expect("the joiner panicked"), 1);
        });
    });
}

#[test]
fn the_graph_forgets_those_that_have_left() {
    let (mut producer, ring) =
        builder(4).graph().expect("memory").build_single_producer().expect("no threads");
    let (gone, poller) = ring.join_poller(&[], LIMIT).expect("an open ring");
    drop(poller);
    for value in 0..100 {
        let (_, mut poller) = ring.join_poller(&[], LIMIT).expect("an open ring");
        producer.publish(|event| *event = value).expect("room");
        take_run(&mut poller, value, 1, |event, _| assert_eq!(event, value));
        assert_eq!(ring.lags().len(), 1, "only the newest is known");
    }
    assert!(matches!(ring.join_poller(&[gone], LIMIT), Err(BuildError::ForeignConsumer { .. })));
}

#[test]
fn a_joiner_keeps_its_limit_behind_a_joiner_that_waits_for_a_producer() {
    const PATIENCE: Duration = Duration::from_secs(15);
    let graph = builder(8).graph().expect("memory");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
    let (filling, is_filling) = channel();
    let (go_on, may_go_on) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            producer
                .publish(|event| {
                    filling.send(()).expect("somebody waits");
                    let _ = may_go_on.recv_timeout(LIMIT);
                    *event = 1;
                })
                .expect("there is room");
        });
        is_filling.recv_timeout(LIMIT).expect("the producer fills");
        let start = Instant::now();
        let patient = [(); 2].map(|()| scope.spawn(|| ring.join_poller(&[], PATIENCE).map(drop)));
        // Whoever of them is the first to wait for the producer.
        for _ in 0..3 {
            let hurried = ring.join_poller(&[], Duration::from_millis(10)).map(drop);
            assert!(matches!(hurried, Err(BuildError::TimedOut { .. })), "{hurried:?}");
        }
        let took = start.elapsed();
        assert!(took < PATIENCE / 2, "three limits of 10 ms took {took:?}");
        drop(go_on);
        for patient in patient {
            patient.join().expect("no panic").expect("it joins once the producer has filled");
        }
        assert!(start.elapsed() < PATIENCE, "the second was not told that the first had joined");
    });
}
