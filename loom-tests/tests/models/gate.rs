//! Edges `RELEASE_SLOT` and `SWAP_LIST`: who may write a slot anew.

use super::{multi, single, take};
use ringmain::ring::PublishError;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};

#[test]
fn a_single_producer_waits_for_a_ring_of_one() {
    explore("one producer, capacity 1", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = single(1);
        let writer = thread::spawn(move || {
            producer.publish(|event| event.set(1)).expect("an open ring");
            let was_full = producer.try_publish(|event| event.set(2)) == Err(PublishError::Full);
            if was_full {
                producer.publish(|event| event.set(2)).expect("an open ring");
            }
            was_full
        });
        assert_eq!(take(&mut poller, 2), [1, 2]);
        writer.join().expect("the writer panicked")
    })
    .saw_exactly([false, true])
    .in_at_least(10);
}

#[test]
fn a_single_producer_waits_for_a_ring_of_two() {
    explore("one producer, capacity 2", Bound::Preemptions(3), || {
        let (mut producer, mut poller, _ring) = single(2);
        let writer = thread::spawn(move || {
            let mut times_full = 0;
            for value in 1..=4 {
                if producer.try_publish(|event| event.set(value)) == Err(PublishError::Full) {
                    times_full += 1;
                    producer.publish(|event| event.set(value)).expect("an open ring");
                }
            }
            times_full
        });
        assert_eq!(take(&mut poller, 4), [1, 2, 3, 4]);
        writer.join().expect("the writer panicked")
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(200);
}

#[test]
fn two_producers_share_a_ring_of_one() {
    explore("two producers, capacity 1", Bound::Preemptions(2), || {
        let (producer, mut poller, _ring) = multi(1);
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || producer.publish(|event| event.set(value)).expect("an open ring"))
        });
        let seen = take(&mut poller, 2);
        for writer in writers {
            writer.join().expect("a writer panicked");
        }
        seen
    })
    .saw_exactly([vec![1, 2], vec![2, 1]])
    .in_at_least(100);
}

/// One producer learns of releases only by the other's claims: its own copy of the gate is more than a ring behind.
#[test]
fn a_producer_with_an_old_gate_does_not_overrun() {
    explore("old gate", Bound::Preemptions(3), || {
        let (mut producer, mut poller, _ring) = multi(1);
        let mut late = producer.clone();
        producer.publish(|event| event.set(1)).expect("an open ring");
        assert_eq!(take(&mut poller, 1), [1]);
        producer.publish(|event| event.set(2)).expect("an open ring");
        let writer = thread::spawn(move || {
            let was_full = late.try_publish(|event| event.set(3)) == Err(PublishError::Full);
            if was_full {
                late.publish(|event| event.set(3)).expect("an open ring");
            }
            was_full
        });
        assert_eq!(take(&mut poller, 2), [2, 3]);
        writer.join().expect("the writer panicked")
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_consumer_that_leaves_has_stopped_reading() {
    explore("consumer leaves", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = multi(1);
        producer.publish(|event| event.set(1)).expect("an open ring");
        let reader = thread::spawn(move || {
            let mut seen = 0;
            poller.poll(1, |event, _, _| seen = event.get());
            drop(poller);
            seen
        });
        let mut times_full = false;
        if producer.try_publish(|event| event.set(2)) == Err(PublishError::Full) {
            times_full = true;
            producer.publish(|event| event.set(2)).expect("a consumer that has left holds nobody up");
        }
        // Now there is room whatever happens.
        producer.publish(|event| event.set(3)).expect("an open ring");
        assert_eq!(producer.try_publish(|event| event.set(4)), Ok(3));
        let seen = reader.join().expect("the reader panicked");
        assert!((1..=3).contains(&seen));
        (times_full, seen)
    })
    .saw_exactly([(false, 1), (true, 1)])
    .in_at_least(10);
}

#[test]
fn without_consumers_no_two_producers_hold_one_slot() {
    explore("no consumers", Bound::Preemptions(3), || {
        let (producer, poller, _ring) = multi(1);
        drop(poller);
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || {
                let was_refused = producer.try_publish(|event| event.set(value)) == Err(PublishError::Full);
                if was_refused {
                    producer.publish(|event| event.set(value)).expect("nobody holds it for ever");
                }
                was_refused
            })
        });
        writers.map(|writer| writer.join().expect("a writer panicked"))
    })
    .saw_exactly([[false, false], [false, true], [true, false]])
    .in_at_least(100);
}

/// A producer has the only slot in hand while the last consumer leaves: nobody will ring for the other producer.
#[test]
fn a_blocked_producer_survives_the_last_consumer() {
    explore("last consumer leaves", Bound::Preemptions(2), || {
        let mut graph = super::parking(1);
        let (_, poller) = graph.poller(&[]).expect("no dependency");
        let (producer, _ring) = graph.build_multi_producer().expect("no threads to start");
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || producer.publish(|event| event.set(value)).expect("an open ring"))
        });
        drop(poller);
        writers.map(|writer| writer.join().expect("a writer panicked"))
    })
    .saw_exactly([[0, 1], [1, 0]])
    .in_at_least(100);
}
