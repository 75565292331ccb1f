//! Edge `PUBLISH_SLOT`, and claims.

use super::{multi, single, take};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};

#[test]
fn a_single_producers_event_is_seen_whole() {
    explore("publication by one producer", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = single(2);
        let writer = thread::spawn(move || {
            for value in 1..=2 {
                producer.publish(|event| event.set(value)).expect("an open ring with room");
            }
        });
        let mut early = Vec::new();
        poller.poll(2, |event, _, _| early.push(event.get()));
        let late = take(&mut poller, 2 - early.len());
        writer.join().expect("the writer panicked");
        assert_eq!([&early[..], &late].concat(), [1, 2]);
        early.len()
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(10);
}

#[test]
fn one_of_many_producers_events_is_seen_whole() {
    explore("multi publication", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = multi(2);
        let writer = thread::spawn(move || {
            for value in 1..=2 {
                producer.publish(|event| event.set(value)).expect("an open ring with room");
            }
        });
        let mut early = Vec::new();
        poller.poll(2, |event, _, _| early.push(event.get()));
        let late = take(&mut poller, 2 - early.len());
        writer.join().expect("the writer panicked");
        assert_eq!([&early[..], &late].concat(), [1, 2]);
        early.len()
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(10);
}

#[test]
fn a_batch_is_seen_in_order_and_from_its_start() {
    explore("batch", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = single(2);
        let writer = thread::spawn(move || {
            // Longer than the ring: the second half waits for room.
            producer.publish_batch(3, |place, event| event.set(place as u64 + 1)).expect("an open ring");
        });
        let mut early = 0;
        poller.poll(3, |event, _, _| {
            early += 1;
            assert_eq!(event.get(), early);
        });
        let late = take(&mut poller, 3 - early as usize);
        writer.join().expect("the writer panicked");
        assert_eq!(late, (early + 1..=3).collect::<Vec<_>>());
        early
    })
    .saw_exactly([0, 1, 2, 3])
    .in_at_least(20);
}

#[test]
fn two_producers_claim_distinct_sequences() {
    explore("two producers", Bound::Preemptions(3), || {
        let (producer, mut poller, _ring) = multi(2);
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || producer.publish(|event| event.set(value)).expect("an open ring with room"))
        });
        let seen = take(&mut poller, 2);
        let sequences = writers.map(|writer| writer.join().expect("a writer panicked"));
        assert_eq!(seen[sequences[0] as usize], 1);
        assert_eq!(seen[sequences[1] as usize], 2);
        seen
    })
    .saw_exactly([vec![1, 2], vec![2, 1]])
    .in_at_least(500);
}
