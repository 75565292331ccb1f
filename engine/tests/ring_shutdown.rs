//! How a ring ends: closed, halted, shut down or dropped.

mod ring_support;

use ring_support::{ALL_STRATEGIES, LIMIT, drain, eventually, gated, graph, shut_down, within_limit};
use ringmain::ring::{Polled, PublishError, Ring, RingBuilder, ShutdownError};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn what_was_published_before_the_close_is_handled_and_nothing_after_it() {
    within_limit("close", || {
        let mut graph = graph(8);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        producer.publish_batch(3, |place, event| *event = place as u64).expect("room for three");
        ring.close();
        ring.close();
        assert_eq!(producer.publish(|_| panic!("the ring is closed")), Err(PublishError::Closed));
        assert_eq!(producer.try_publish(|_| panic!("the ring is closed")), Err(PublishError::Closed));
        assert!(matches!(producer.next_slot(), Err(PublishError::Closed)));
        let mut seen = Vec::new();
        drain(&mut poller, |event| seen.push(*event));
        assert_eq!(seen, [0, 1, 2]);
        assert!(poller.is_ready(), "the end is something to be told");
    });
}

#[test]
fn a_ring_that_is_closed_before_anything_was_published_ends_at_once() {
    within_limit("an empty ring", || {
        for wait in ALL_STRATEGIES {
            let mut graph =
                RingBuilder::new(4, || 0_u64).expect("a power of two").wait(wait).graph().expect("memory");
            let first =
                graph.consumer("first", &[], |_, _, _| panic!("there is no event")).expect("no dependency");
            graph.consumer("second", &[first], |_, _, _| panic!("there is no event")).expect("its own ring");
            let (mut producer, mut ring) = graph.build_multi_producer().expect("threads");
            let reports = shut_down(&mut ring);
            assert_eq!(reports.iter().map(|report| report.panics).collect::<Vec<_>>(), [0, 0]);
            assert_eq!(shut_down(&mut ring), reports, "a second shutdown says the same");
            assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
        }
    });
}

#[test]
fn closing_frees_a_producer_that_is_blocked_by_a_full_ring() {
    for wait in ALL_STRATEGIES {
        within_limit("a producer of a full ring", move || {
            let mut graph =
                RingBuilder::new(1, || 0_u64).expect("a power of two").wait(wait).graph().expect("memory");
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
            producer.publish(|event| *event = 1).expect("room for one");
            let writer = thread::spawn(move || producer.publish(|_| panic!("the ring stays full")));
            ring.close();
            assert_eq!(writer.join().expect("the writer panicked"), Err(PublishError::Closed));
            let mut seen = 0;
            drain(&mut poller, |event| seen += event);
            assert_eq!(seen, 1);
        });
    }
}

#[test]
fn halting_leaves_the_rest_unread() {
    within_limit("halt", || {
        let mut graph = graph(8);
        let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        producer.publish_batch(4, |_, _| {}).expect("room for four");
        assert_eq!(earlier.poll(1, |_, _, _| {}), Polled::Events(1));
        ring.halt();
        for poller in [&mut earlier, &mut later] {
            assert_eq!(poller.poll(8, |_, _, _| panic!("the ring was halted")), Polled::Finished);
        }
        assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
        drop(earlier);
        assert_eq!(ring.claimed(), 4);
    });
}

#[test]
fn a_halted_consumer_stops_behind_the_event_it_is_at() {
    within_limit("halt during an event", || {
        let mut graph = graph(4);
        let (_, has_entered, gate) = gated(&mut graph, "slow");
        let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
        producer.publish_batch(4, |place, event| *event = place as u64).expect("room for four");
        assert_eq!(has_entered.recv_timeout(LIMIT), Ok(0));
        ring.halt();
        gate.wait();
        shut_down(&mut ring);
        assert_eq!(has_entered.try_recv().ok(), None, "it went on with the rest of the ring");
    });
}

#[test]
fn a_shutdown_that_takes_too_long_names_who_is_still_at_work() {
    within_limit("a slow consumer", || {
        let mut graph = graph(4);
        let (_, has_entered, gate) = gated(&mut graph, "slow");
        graph.consumer("quick", &[], |_, _, _| {}).expect("no dependency");
        let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
        producer.publish(|event| *event = 1).expect("room");
        assert_eq!(has_entered.recv_timeout(LIMIT), Ok(1));
        eventually("the quick consumer has gone through", || ring.lags()[1].1 == 0);
        let limit = Duration::from_millis(20);
        let started = Instant::now();
        // The quick one may need a moment to end; the slow one is there for certain.
        let ShutdownError { still_running } = ring.shutdown(limit).expect_err("the slow one is at work");
        assert!(started.elapsed() >= limit, "it gave up early");
        assert!(still_running.contains(&"slow".to_owned()), "{still_running:?}");
        gate.wait();
        assert_eq!(shut_down(&mut ring).len(), 2);
    });
}

#[test]
fn a_consumer_can_shut_its_own_ring_down() {
    within_limit("a shutdown from inside", || {
        let mut graph = graph(4);
        let own: Arc<Mutex<Option<Ring<u64>>>> = Arc::default();
        let (done, is_done) = channel();
        let handle = own.clone();
        let handler = move |event: &u64, _, _| {
            if *event == 1 {
                let mut ring =
                    handle.lock().expect("unpoisoned").take().expect("the first event finds the ring");
                let outcome = ring.shutdown(LIMIT).map(|reports| reports.len());
                ring.close();
                ring.halt();
                done.send(outcome).expect("the test listens");
            }
        };
        graph.consumer("inside", &[], handler).expect("no dependency");
        graph.consumer("beside", &[], |_, _, _| {}).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("threads");
        *own.lock().expect("unpoisoned") = Some(ring);
        producer.publish(|event| *event = 1).expect("room");
        assert_eq!(is_done.recv_timeout(LIMIT), Ok(Ok(2)));
        assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
    });
}

#[test]
fn dropping_the_ring_closes_it_and_its_threads_drain_and_end() {
    within_limit("a dropped ring", || {
        let mut graph = graph(16);
        let (sink, source) = channel();
        let send = move |event: &u64, _, _| sink.send(*event).expect("the test listens");
        graph.consumer("sink", &[], send).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("a thread");
        producer.publish_batch(10, |place, event| *event = place as u64).expect("room for ten");
        drop(ring);
        assert_eq!(producer.publish(|_| {}), Err(PublishError::Closed));
        // Ends when the thread has dropped its handler.
        assert!(source.iter().eq(0..10));
    });
}
