//! Fill closures that panic.

use super::{drain, glance, multi, single, take};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[test]
fn a_panic_between_two_producers_is_skipped() {
    explore("tombstone", Bound::Preemptions(2), || {
        let (producer, mut poller, _ring) = multi(2);
        let mut panicking = producer.clone();
        let faulty = thread::spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                panicking.publish(|event| {
                    event.set(9);
                    // As a panic, without a report of it.
                    resume_unwind(Box::new("the fill closure gave up"));
                })
            }));
            assert!(outcome.is_err(), "the panic must reach the publisher");
        });
        let mut sound = producer;
        let writer =
            thread::spawn(move || sound.publish(|event| event.set(1)).expect("an open ring with room"));
        assert_eq!(take(&mut poller, 1), [1], "an event that was never published was seen");
        let sequence = writer.join().expect("the writer panicked");
        faulty.join().expect("the faulty producer's thread panicked");
        poller.poll(2, |event, _, _| panic!("{event:?} was never published"));
        assert_eq!(poller.tombstones(), 1);
        sequence
    })
    .saw_exactly([0, 1])
    .in_at_least(200);
}

#[test]
fn a_panic_of_the_only_producer_publishes_nothing_and_leaves_no_hole() {
    explore("single panic", Bound::Preemptions(2), || {
        let (mut producer, mut poller, ring) = single(2);
        let writer = thread::spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                producer.publish_batch(2, |place, event| {
                    event.set(place as u64 + 1);
                    if place == 1 {
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
