//! Calls that a poller makes between two polls, for what is kept outside of the ring.

mod ring_support;

use ring_support::LIMIT;
use ringmain::ring::{Call, Called, MultiProducer, Polled, Poller, PublishError, Ring, RingBuilder, Stopped};
use std::time::Duration;

fn ring(capacity: usize) -> (MultiProducer<u64>, Poller<u64>, Ring<u64>) {
    let mut graph = RingBuilder::new(capacity, || 0).expect("a capacity").graph().expect("memory");
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (producer, ring) = graph.build_multi_producer().expect("memory");
    (producer, poller, ring)
}

#[test]
fn a_parked_call_that_does_not_return_leaves_all_that_was_not_released() {
    let (mut producer, mut poller, _ring) = ring(4);
    for value in 0..4 {
        producer.publish(|event| *event = value).expect("room");
    }
    let supervisor = poller.supervisor();
    assert_eq!(poller.poll_leased(1, |_, _, _, _| ()), Polled::Events(1));
    let mut left = Vec::new();
    let called = poller.call_parked(9, 7, || {
        assert_eq!(supervisor.current_call(), Some(Call::Parked { number: 9, delivery: 7 }));
        let Stopped::InCall(call) = supervisor.stop() else { panic!("it is in a call") };
        let takeover = call.take_over().expect("it has not returned");
        assert_eq!((takeover.call(), takeover.sequence()), (Call::Parked { number: 9, delivery: 7 }, 1));
        assert!(takeover.read(0, |_| ()).is_none(), "it was released");
        assert_eq!(
            takeover.for_each(LIMIT, |sequence, event| left.push((sequence, *event))),
            Vec::<u64>::new()
        );
    });
    assert!(matches!(called, Called::TakenOver), "{called:?}");
    assert_eq!(left, [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(poller.poll_leased(9, |_, _, _, _| panic!("its position is lost")), Polled::Finished);
}

#[test]
fn a_stopped_poller_makes_no_parked_call() {
    let (_producer, mut poller, _ring) = ring(1);
    assert!(matches!(poller.supervisor().stop(), Stopped::BetweenCalls));
    let called = poller.call_parked(0, 0, || panic!("it was stopped"));
    assert!(matches!(called, Called::Refused), "{called:?}");
}

#[test]
fn a_parked_call_that_panics_costs_itself_alone() {
    let (mut producer, mut poller, _ring) = ring(1);
    let called = poller.call_parked(0, 0, || panic!("user code"));
    assert!(matches!(called, Called::Returned(Err(_))), "{called:?}");
    assert_eq!(poller.supervisor().current_call(), None);
    producer.publish(|event| *event = 5).expect("room");
    assert!(matches!(poller.call_parked(1, 0, || 6), Called::Returned(Ok(6))));
    assert_eq!(poller.poll(1, |event, _, _| assert_eq!(*event, 5)), Polled::Events(1));
}

#[test]
fn a_parked_call_waits_for_no_room_that_its_own_poller_would_make() {
    let (mut producer, mut poller, _ring) = ring(1);
    producer.publish(|event| *event = 1).expect("room");
    let called =
        poller.call_parked(0, 0, || producer.publish_timeout(Duration::from_secs(3600), |event| *event = 2));
    assert!(matches!(called, Called::Returned(Ok(Err(PublishError::WouldDeadlock)))), "{called:?}");
}
