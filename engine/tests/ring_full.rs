//! A full ring holds its producers up, refuses them or lets them go on when somebody leaves; and
//! what is only claimed takes no room.

mod ring_support;

use ring_support::{ALL_STRATEGIES, graph, rejecting, take, within_limit};
use ringmain::ring::{BatchError, Overflow, Polled, PublishError, RingBuilder};
use ringmain::wait::WaitStrategy;
use std::thread;
use std::time::{Duration, Instant};

// A full ring.

#[test]
fn a_full_ring_that_rejects_says_so_and_takes_more_once_there_is_room() {
    for capacity in [1, 2, 1024] {
        let mut graph = rejecting(capacity);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
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
        let mut graph = builder.overflow(Overflow::Block { limit: Some(limit) }).graph().expect("memory");
        let (_, _poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
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
            let mut graph = builder.graph().expect("memory");
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_single_producer().expect("no threads");
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
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
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
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
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
    let (mut busy, _ring) = graph.build_multi_producer().expect("no threads");
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
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
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
    let (mut first, _ring) = rejecting(1).build_multi_producer().expect("no threads");
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
            let graph = RingBuilder::new(2, || [0_u64; 8])
                .expect("a power of two")
                .wait(wait)
                .graph()
                .expect("memory");
            let (producer, ring) = graph.build_multi_producer().expect("no threads");
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

// Claims.

#[test]
fn a_claim_that_is_dropped_or_forgotten_was_never_taken() {
    let mut graph = rejecting(1);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    for _ in 0..3 {
        let mut dropped = producer.next_slot().expect("room");
        *dropped = 5;
        assert_eq!(dropped.sequence(), 0);
        let _forgotten = std::mem::ManuallyDrop::new(producer.next_slot().expect("room"));
    }
    assert_eq!(ring.claimed(), 0);
    assert_eq!(poller.poll(1, |_, _, _| panic!("nothing was published")), Polled::Empty);
    let mut claim = producer.next_slot().expect("room");
    *claim += 1;
    assert_eq!(*claim, 6, "what was written before the claim was dropped is still there");
    assert_eq!(claim.publish(), Ok(0));
    assert!(matches!(producer.next_slot(), Err(PublishError::Full)));
    assert_eq!(take(&mut poller, 1), [6]);
}

#[test]
fn a_claim_is_refused_when_the_ring_is_closed_before_it_is_published() {
    let mut graph = graph(2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    let claim = producer.next_slot().expect("room");
    ring.close();
    assert_eq!(claim.publish(), Err(PublishError::Closed));
    assert_eq!(poller.poll(2, |_, _, _| panic!("nothing was published")), Polled::Finished);
}
