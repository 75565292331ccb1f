//! Edges `CLOSE` and `CLOSE_RING`: what was accepted is consumed before the end, and what was refused never.

use super::{drain, glance, multi, parking, single};
use ringmain::ring::{Polled, PublishError};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::time::Duration;

#[test]
fn a_ring_of_one_producer_loses_nothing_when_it_closes() {
    explore("single close", Bound::Preemptions(3), || {
        let (mut producer, mut poller, ring) = single(2);
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let writer = thread::spawn(move || match producer.publish(|event| event.set(2)) {
            Ok(sequence) => {
                assert_eq!(sequence, 1);
                vec![1, 2]
            }
            Err(reason) => {
                assert_eq!(reason, PublishError::Closed);
                vec![1]
            }
        });
        let closer = thread::spawn(move || ring.close());
        let (mut seen, has_ended) = glance(&mut poller);
        let accepted = writer.join().expect("the writer panicked");
        closer.join().expect("the closer panicked");
        if !has_ended {
            seen.append(&mut drain(&mut poller));
        }
        assert_eq!(seen, accepted, "seen and accepted differ");
        (seen.len(), has_ended)
    })
    .saw_exactly([(1, false), (1, true), (2, false), (2, true)])
    .in_at_least(1_000);
}

#[test]
fn a_ring_of_many_producers_loses_nothing_when_it_closes() {
    explore("multi close", Bound::Preemptions(2), || {
        let (mut producer, mut poller, ring) = multi(2);
        let writer = thread::spawn(move || {
            let accepted = (1..=2).filter(|&value| producer.publish(|event| event.set(value)).is_ok());
            accepted.collect::<Vec<_>>()
        });
        let closer = thread::spawn(move || ring.close());
        let (mut seen, has_ended) = glance(&mut poller);
        let accepted = writer.join().expect("the writer panicked");
        closer.join().expect("the closer panicked");
        if !has_ended {
            seen.append(&mut drain(&mut poller));
        }
        assert_eq!(seen, accepted, "seen and accepted differ");
        (seen.len(), has_ended)
    })
    .saw_exactly([(0, false), (0, true), (1, false), (1, true), (2, false), (2, true)])
    .in_at_least(500);
}

#[test]
fn each_of_two_claims_falls_before_the_close_or_after_it() {
    explore("two producers and a close", Bound::Preemptions(3), || {
        let (producer, mut poller, ring) = multi(2);
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || producer.publish(|event| event.set(value)).is_ok().then_some(value))
        });
        ring.close();
        let order = drain(&mut poller);
        let mut accepted: Vec<u64> =
            writers.into_iter().filter_map(|writer| writer.join().expect("a writer panicked")).collect();
        let mut seen = order.clone();
        seen.sort_unstable();
        accepted.sort_unstable();
        assert_eq!(seen, accepted, "seen and accepted differ");
        order
    })
    .saw_exactly([vec![], vec![1], vec![2], vec![1, 2], vec![2, 1]])
    .in_at_least(500);
}

/// The producer takes a claim back while the consumer, who has seen it, goes to sleep over it.
#[test]
fn a_claim_that_is_taken_back_leaves_no_consumer_asleep() {
    explore("claim taken back", Bound::Preemptions(2), || {
        let mut graph = parking(2);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || producer.publish(|event| event.set(1)).is_ok());
        let reader = thread::spawn(move || {
            let mut seen = 0;
            loop {
                assert!(poller.wait(WaitStrategy::Blocking, Duration::MAX));
                match poller.poll(2, |event, _, _| assert_eq!(event.get(), 1)) {
                    Polled::Events(events) => seen += events,
                    Polled::Empty | Polled::Missed(_) => {}
                    Polled::Finished => return seen,
                }
            }
        });
        ring.close();
        let accepted = writer.join().expect("the writer panicked");
        assert_eq!(reader.join().expect("the reader panicked"), u64::from(accepted));
        accepted
    })
    .saw_exactly([false, true])
    .in_at_least(200);
}

#[test]
fn two_closers_close_as_one() {
    explore("two closers", Bound::Preemptions(2), || {
        let (mut producer, mut poller, ring) = single(1);
        let ring = std::sync::Arc::new(ring);
        let writer = thread::spawn(move || producer.publish(|event| event.set(1)).is_ok());
        let closers = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || ring.close())
        });
        let (mut seen, has_ended) = glance(&mut poller);
        let accepted = writer.join().expect("the writer panicked");
        for closer in closers {
            closer.join().expect("a closer panicked");
        }
        if !has_ended {
            seen.append(&mut drain(&mut poller));
        }
        assert_eq!(seen.len(), usize::from(accepted), "seen and accepted differ");
        (accepted, has_ended)
    })
    .saw_exactly([(false, false), (false, true), (true, false), (true, true)])
    .in_at_least(500);
}
