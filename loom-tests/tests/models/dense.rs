//! Edge `PUBLISH_CURSOR`, and the look at a far stamp: publication told of many events at once.

use super::{Pair, drain, glance, take};
use ringmain::ring::{Layout, Polled, Poller, PublishError, Ring, RingBuilder, SingleProducer};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A run is an eighth of the ring: the smallest capacity at which one look tells of two events.
const TWO_AT_ONCE: usize = 16;

fn one_producer(layout: Layout, capacity: usize) -> (SingleProducer<Pair>, Poller<Pair>, Ring<Pair>) {
    let builder = RingBuilder::new(capacity, Pair::default).expect("a power of two");
    let mut graph = builder.layout(layout).wait(WaitStrategy::BusySpin).graph().expect("memory");
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (producer, ring) = graph.build_single_producer().expect("no threads to start");
    (producer, poller, ring)
}

/// What a few looks find, by the slice, each event with the value that belongs to its sequence.
fn slices(poller: &mut Poller<Pair>, max: u64) -> u64 {
    let mut seen = 0;
    poller.poll_slices(max, |events, first| {
        for (sequence, event) in (first..).zip(events) {
            assert_eq!(event.get(), sequence + 1);
            seen += 1;
        }
    });
    seen
}

#[test]
fn a_dense_batch_is_published_at_once_and_seen_whole() {
    explore("dense batch", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = one_producer(Layout::Dense, TWO_AT_ONCE);
        let writer = thread::spawn(move || {
            producer.publish_batch(3, |place, event| event.set(place as u64 + 1)).expect("room for three");
        });
        let early = slices(&mut poller, 3);
        writer.join().expect("the writer panicked");
        let late = slices(&mut poller, 3);
        assert_eq!(early + late, 3);
        early
    })
    .saw_exactly([0, 3])
    .in_at_least(3);
}

#[test]
fn single_events_of_a_dense_ring_are_seen_in_order() {
    explore("dense singles", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = one_producer(Layout::Dense, TWO_AT_ONCE);
        let writer = thread::spawn(move || {
            for value in 1..=3 {
                producer.publish(|event| event.set(value)).expect("room for three");
            }
        });
        let early = slices(&mut poller, 3);
        writer.join().expect("the writer panicked");
        assert_eq!(early + slices(&mut poller, 3), 3);
        early
    })
    .saw_exactly([0, 1, 2, 3])
    .in_at_least(10);
}

/// Twice round a dense ring of two, with a batch across its seam.
#[test]
fn a_dense_producer_waits_for_what_is_being_read() {
    explore("dense gate", Bound::Preemptions(2), || {
        let (mut producer, mut poller, _ring) = one_producer(Layout::Dense, 2);
        let writer = thread::spawn(move || {
            producer.publish(|event| event.set(1)).expect("an open ring");
            let was_full = producer.try_publish(|event| event.set(2)).is_err();
            assert!(!was_full, "a ring of two has room for two");
            let was_full = producer.try_publish(|event| event.set(3)) == Err(PublishError::Full);
            let left = if was_full { 2 } else { 1 };
            producer
                .publish_batch(left, |place, event| event.set((4 - left + place) as u64 + 1))
                .expect("an open ring");
            was_full
        });
        let mut seen = 0;
        while seen < 4 {
            match slices(&mut poller, 4) {
                0 => thread::yield_now(),
                events => seen += events,
            }
        }
        writer.join().expect("the writer panicked")
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

#[test]
fn what_a_dense_batch_filled_before_it_panicked_is_published_and_nothing_else() {
    explore("dense panic", Bound::Preemptions(2), || {
        let (mut producer, mut poller, ring) = one_producer(Layout::Dense, TWO_AT_ONCE);
        let writer = thread::spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                producer.publish_batch(3, |place, event| {
                    event.set(place as u64 + 1);
                    if place == 1 {
                        // As a panic, without a report of it.
                        resume_unwind(Box::new("the fill closure gave up"));
                    }
                })
            }));
            // The ring may have been closed before anything was claimed.
            let panicked = outcome.is_err();
            (panicked, producer.publish(|event| event.set(3)).is_ok())
        });
        let closer = thread::spawn(move || ring.close());
        let (mut seen, has_ended) = glance(&mut poller);
        let (panicked, accepted) = writer.join().expect("the writer panicked");
        closer.join().expect("the closer panicked");
        if !has_ended {
            seen.append(&mut drain(&mut poller));
        }
        let mut expected = Vec::new();
        if panicked {
            expected.push(1);
        }
        if accepted {
            expected.push(3);
        }
        assert_eq!(seen, expected);
        (panicked, accepted)
    })
    .saw_exactly([(false, false), (true, false), (true, true)])
    .in_at_least(500);
}

/// The look at the second stamp is the only one; the first event is read on the strength of it.
#[test]
fn a_far_stamp_proves_the_events_before_it() {
    explore("far stamp", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = one_producer(Layout::Stamped, TWO_AT_ONCE);
        // One claim, so that no fence of a later claim stands in for the stamps.
        let writer = thread::spawn(move || {
            producer.publish_batch(3, |place, event| event.set(place as u64 + 1)).expect("room for three");
        });
        let mut seen = 0;
        for _ in 0..2 {
            let polled = poller.poll(2, |event, sequence, _| assert_eq!(event.get(), sequence + 1));
            seen += if let Polled::Events(events) = polled { events } else { 0 };
        }
        writer.join().expect("the writer panicked");
        assert_eq!(take(&mut poller, 3 - seen as usize).len() as u64 + seen, 3);
        seen
    })
    .saw_exactly([0, 1, 2, 3])
    .in_at_least(10);
}

/// Two producers stamp in any order, so there a far stamp proves nothing.
#[test]
fn a_far_stamp_of_one_of_many_producers_proves_nothing() {
    explore("far stamp of many", Bound::Preemptions(3), || {
        let mut graph = super::spinning(TWO_AT_ONCE);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (producer, _ring) = graph.build_multi_producer().expect("no threads to start");
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || producer.publish(|event| event.set(value)).expect("room for both"))
        });
        let mut early = Vec::new();
        poller.poll(2, |event, _, _| early.push(event.get()));
        let sequences = writers.map(|writer| writer.join().expect("a writer panicked"));
        let count = early.len();
        early.extend(take(&mut poller, 2 - count));
        assert_eq!(sequences.map(|sequence| early[sequence as usize]), [1, 2]);
        count
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(100);
}
