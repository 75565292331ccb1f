//! Edge `PARK`: no wake-up is lost. A model has no time, so a thread that nobody wakes is a deadlock.

use super::{graph, parking, take};
use ringmain::ring::Polled;
use ringmain::wait::{Deadline, Parking, SharedStrategy, WaitStrategy, Waiter};
use ringmain_loom_tests::sync::atomic::{AtomicBool, Ordering};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_sleeping_consumer_is_woken_by_a_publication() {
    explore("sleeping consumer", Bound::Preemptions(3), || {
        let mut graph = parking(2);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || {
            producer.publish(|event| event.set(1)).expect("an open ring with room");
        });
        let was_ready = poller.is_ready();
        assert!(poller.wait(WaitStrategy::Blocking, Duration::MAX));
        assert_eq!(take(&mut poller, 1), [1]);
        writer.join().expect("the writer panicked");
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn two_sleeping_consumers_are_both_woken() {
    explore("two sleeping consumers", Bound::Preemptions(2), || {
        let mut graph = parking(2);
        let (_, mut one) = graph.poller(&[]).expect("no dependency");
        let (_, mut other) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads to start");
        let writer = thread::spawn(move || {
            producer.publish(|event| event.set(1)).expect("an open ring with room");
        });
        let reader = thread::spawn(move || {
            let was_ready = other.is_ready();
            assert!(other.wait(WaitStrategy::Blocking, Duration::MAX));
            assert_eq!(take(&mut other, 1), [1]);
            was_ready
        });
        let was_ready = one.is_ready();
        assert!(one.wait(WaitStrategy::Blocking, Duration::MAX));
        assert_eq!(take(&mut one, 1), [1]);
        writer.join().expect("the writer panicked");
        (was_ready, reader.join().expect("the reader panicked"))
    })
    .saw_exactly([(false, false), (false, true), (true, false), (true, true)])
    .in_at_least(200);
}

#[test]
fn a_sleeping_producer_is_woken_by_a_release() {
    explore("sleeping producer", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        // The reader comes first: the one that stores is what the other one waits for.
        let reader = thread::spawn(move || {
            assert_eq!(take(&mut poller, 1), [1]);
            poller
        });
        let had_room = producer.try_publish(|event| event.set(2)).is_ok();
        if !had_room {
            producer.publish(|event| event.set(2)).expect("an open ring");
        }
        let mut poller = reader.join().expect("the reader panicked");
        assert_eq!(take(&mut poller, 1), [2]);
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_sleeping_producer_is_woken_by_a_consumer_that_leaves() {
    explore("consumer leaves a sleeping producer", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (_, poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let leaver = thread::spawn(move || drop(poller));
        let had_room = producer.try_publish(|event| event.set(2)).is_ok();
        if !had_room {
            producer.publish(|event| event.set(2)).expect("an open ring");
        }
        leaver.join().expect("the leaving consumer panicked");
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_sleeping_later_stage_is_woken_by_the_earlier_one() {
    explore("sleeping stage", Bound::Preemptions(3), || {
        let mut graph = parking(2);
        let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let reader = thread::spawn(move || {
            assert_eq!(take(&mut earlier, 1), [1]);
            // It stays: who leaves rings too.
            earlier
        });
        let was_ready = later.is_ready();
        assert!(later.wait(WaitStrategy::Blocking, Duration::MAX));
        assert_eq!(take(&mut later, 1), [1]);
        reader.join().expect("the earlier stage panicked");
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn closing_wakes_a_sleeping_consumer_and_a_sleeping_producer() {
    explore("close wakes", Bound::Preemptions(2), || {
        let mut graph = parking(1);
        let (_, mut full) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        assert_eq!(take(&mut full, 1), [1]);
        let closer = thread::spawn(move || ring.close());
        let sleeper = thread::spawn(move || {
            loop {
                assert!(full.wait(WaitStrategy::Blocking, Duration::MAX));
                // Empty where the producer's claim, seen by the second look, is taken back.
                let polled = full.poll(1, |event, _, _| assert_eq!(event.get(), 2));
                if polled != Polled::Empty {
                    return (polled, full);
                }
            }
        });
        let first = producer.publish(|event| event.set(2)).is_ok();
        closer.join().expect("the closer panicked");
        let (polled, _full) = sleeper.join().expect("the sleeper panicked");
        assert_eq!(polled, if first { Polled::Events(1) } else { Polled::Finished });
        first
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

#[test]
fn closing_wakes_a_producer_that_sleeps_over_a_full_ring() {
    explore("close wakes a producer", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (_, _poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let closer = thread::spawn(move || ring.close());
        let first = producer.try_publish(|event| event.set(2)).expect_err("the ring is full or closed");
        let second = producer.publish(|event| event.set(2)).expect_err("the ring is full until it is closed");
        closer.join().expect("the closer panicked");
        (first.to_string().contains("full"), second.to_string().contains("closed"))
    })
    .saw_exactly([(false, true), (true, true)])
    .in_at_least(10);
}

#[test]
fn an_adaptive_consumer_is_woken_by_a_publication() {
    explore("adaptive consumer", Bound::Preemptions(3), || {
        let mut graph = graph(2, WaitStrategy::Adaptive);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || {
            producer.publish(|event| event.set(1)).expect("an open ring with room");
        });
        let was_ready = poller.is_ready();
        assert!(poller.wait(WaitStrategy::Adaptive, Duration::MAX));
        assert_eq!(take(&mut poller, 1), [1]);
        writer.join().expect("the writer panicked");
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// What the sleeper waits for comes without a wake-up, as it may where nobody sleeps any more: only a thread that has
/// noticed the switch, and spins, sees it.
#[test]
fn a_sleeper_notices_that_its_strategy_was_switched() {
    explore("switched while asleep", Bound::Preemptions(3), || {
        let strategy = Arc::new(SharedStrategy::new(WaitStrategy::Blocking));
        let spot = Arc::new(Parking::new(strategy.may_park()));
        let is_ready = Arc::new(AtomicBool::new(false));
        let switcher = {
            let (strategy, spot, is_ready) = (strategy.clone(), spot.clone(), is_ready.clone());
            thread::spawn(move || {
                strategy.set(WaitStrategy::BusySpin).expect("it does not park");
                spot.wake_all();
                is_ready.store(true, Ordering::Relaxed);
            })
        };
        let was_switched = strategy.get() == WaitStrategy::BusySpin;
        let found = Waiter::new().wait_until(
            || strategy.get(),
            &spot,
            Deadline::NEVER,
            || is_ready.load(Ordering::Relaxed).then_some(()),
        );
        assert_eq!(found, Some(()));
        switcher.join().expect("the switcher panicked");
        was_switched
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// The other way round: a thread that spins is switched to sleep, and what it waits for rings.
#[test]
fn a_thread_that_is_switched_to_sleep_is_woken() {
    explore("switched to sleep", Bound::Preemptions(3), || {
        let strategy = Arc::new(SharedStrategy::parkable(WaitStrategy::BusySpin));
        let spot = Arc::new(Parking::new(strategy.may_park()));
        let is_ready = Arc::new(AtomicBool::new(false));
        let switcher = {
            let (strategy, spot, is_ready) = (strategy.clone(), spot.clone(), is_ready.clone());
            thread::spawn(move || {
                strategy.set(WaitStrategy::Blocking).expect("it may park");
                spot.wake_all();
                is_ready.store(true, Ordering::Relaxed);
                spot.wake_all();
            })
        };
        let was_switched = strategy.get() == WaitStrategy::Blocking;
        let found = Waiter::new().wait_until(
            || strategy.get(),
            &spot,
            Deadline::NEVER,
            || is_ready.load(Ordering::Relaxed).then_some(()),
        );
        assert_eq!(found, Some(()));
        switcher.join().expect("the switcher panicked");
        was_switched
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// One of two threads that wake finds the word cleared by the other and leaves the notification to it.
#[test]
fn two_wakers_wake_a_sleeper_that_waits_for_both() {
    explore("two wakers", Bound::Preemptions(2), || {
        let spot = Arc::new(Parking::new(true));
        let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let wakers: Vec<_> = (0..2)
            .map(|which| {
                let (spot, flags) = (spot.clone(), flags.clone());
                thread::spawn(move || {
                    flags[which].store(true, Ordering::Relaxed);
                    spot.wake_all();
                })
            })
            .collect();
        let ready = || flags.iter().filter(|flag| flag.load(Ordering::Relaxed)).count();
        let were_ready = ready();
        let found = Waiter::new().wait_until(
            || WaitStrategy::Blocking,
            &spot,
            Deadline::NEVER,
            || (ready() == 2).then_some(()),
        );
        assert_eq!(found, Some(()));
        for waker in wakers {
            waker.join().expect("a waker panicked");
        }
        were_ready
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(100);
}
