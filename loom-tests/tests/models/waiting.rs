//! Waiting for room from inside of a ring: of those who would wait for each other in a circle one is told so, and the
//! others go on. A model has no time, so two that both wait are a deadlock.

use super::parking;
use ringmain::ring::{MultiProducer, Polled, Poller, PublishError, Ring};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};

use super::Pair;

/// A ring of one slot, which is full.
fn full() -> (MultiProducer<Pair>, Poller<Pair>, Ring<Pair>) {
    let mut graph = parking(1);
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
    producer.publish(|event| event.set(1)).expect("an open ring with room");
    (producer, poller, ring)
}

/// Handles the event of a ring by publishing into another. Returns whether that was refused.
fn pass_on(poller: &mut Poller<Pair>, other: &mut MultiProducer<Pair>) -> bool {
    let mut is_refused = false;
    let polled = poller.poll(1, |_, _, _| match other.publish(|event| event.set(2)) {
        Ok(_) => {}
        Err(PublishError::WouldDeadlock) => is_refused = true,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(polled, Polled::Events(1));
    is_refused
}

#[test]
fn of_two_handlers_that_fill_each_others_rings_one_at_most_is_refused_and_neither_hangs() {
    explore("circle of two", Bound::Preemptions(2), || {
        let (mut left, mut of_left, _left) = full();
        let (mut right, mut of_right, _right) = full();
        let handling = thread::spawn(move || pass_on(&mut of_right, &mut left));
        let refused = pass_on(&mut of_left, &mut right);
        (refused, handling.join().expect("the handler panicked"))
    })
    // Where one handler comes first of all, it waits, and the other, whose own ring it would fill, is refused.
    .saw_exactly([(false, true), (true, false)])
    .in_at_least(20);
}
