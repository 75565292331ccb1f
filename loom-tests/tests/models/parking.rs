//! Edge `PARK`: no wake-up is lost. A model has no time, so a thread that nobody wakes is a deadlock.

use super::{parking, take};
use ringmain::ring::Polled;
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::time::Duration;

#[test]
fn a_sleeping_consumer_is_woken_by_a_publication() {
    explore("sleeping consumer", Bound::Preemptions(3), || {
        let mut graph = parking(2);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
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
        let (mut producer, _ring) = graph.multi().expect("no threads to start");
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
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
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
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
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
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let reader = thread::spawn(move || assert_eq!(take(&mut earlier, 1), [1]));
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
        let (mut producer, ring) = graph.exclusive().expect("no threads to start");
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
        let (mut producer, ring) = graph.multi().expect("no threads to start");
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
