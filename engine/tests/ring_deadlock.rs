//! Publishing to a ring from the inside, where a producer that waits for room may wait for itself.

mod ring_support;

use ring_support::{BOTH_LAYOUTS, LIMIT, graph, graph_in, panics, quiet_panic, rest, within_limit};
use ringmain::ring::{
    ConsumerOptions, EventHandler, MultiProducer, Polled, Poller, PublishError, Ring, RingBuilder, Sequence,
};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_publish_from_a_handler_works_while_there_is_room_and_says_so_when_it_would_deadlock() {
    let mut graph = graph(2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
    let mut inner = producer.clone();
    producer.publish(|event| *event = 1).expect("room");
    let polled = poller.poll(1, |_, _, _| {
        assert_eq!(inner.publish(|event| *event = 2), Ok(1));
        let refused = inner.publish(|_| panic!("the ring is full of what is being handled"));
        assert_eq!(refused, Err(PublishError::WouldDeadlock));
        let refused = inner.publish_timeout(LIMIT, |_| panic!("the same"));
        assert_eq!(refused, Err(PublishError::WouldDeadlock));
        assert_eq!(inner.try_publish(|_| panic!("the same")), Err(PublishError::Full));
    });
    assert_eq!(polled, Polled::Events(1));
    assert_eq!(rest(&mut poller).0, [(1, 2)]);
    assert_eq!(inner.publish(|event| *event = 3), Ok(2));
}

#[test]
fn the_only_producer_in_a_handler_of_its_own_ring_does_not_deadlock() {
    within_limit("an only producer in its own handler", || {
        for layout in BOTH_LAYOUTS {
            let mut graph = graph_in(layout, 4);
            let own = Arc::new(Mutex::new(None));
            let (seen, source) = channel();
            let handle: Arc<Mutex<Option<ringmain::ring::SingleProducer<u64>>>> = own.clone();
            let handler = move |event: &u64, _, _| {
                let mut producer = handle.lock().expect("no handler panics with it");
                let producer = producer.as_mut().expect("it is there before the first event");
                let outcome = producer.publish_batch(9, |_, inner| *inner = event + 1);
                seen.send((*event, outcome.map_err(|error| (error.published, error.reason))))
                    .expect("the test listens");
            };
            graph.consumer("inside", &[], handler).expect("no dependency");
            let (producer, ring) = graph.build_single_producer().expect("a thread");
            {
                let mut guard = own.lock().expect("nobody has panicked");
                let mut producer = producer;
                producer.publish(|event| *event = 1).expect("room");
                *guard = Some(producer);
            }
            let first = source.recv_timeout(LIMIT).expect("the first event is handled");
            assert_eq!(first, (1, Err((3, PublishError::WouldDeadlock))));
            ring.halt();
        }
    });
}

#[test]
fn a_publish_from_a_fill_closure_works_while_there_is_room_and_says_so_when_it_would_deadlock() {
    let mut graph = graph(2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
    let mut inner = producer.clone();
    let published = producer.publish(|event| {
        assert_eq!(inner.publish(|event| *event = 2), Ok(1));
        let refused = inner.publish(|_| panic!("one slot is in hand and the other is unread"));
        assert_eq!(refused, Err(PublishError::WouldDeadlock));
        *event = 1;
    });
    assert_eq!(published, Ok(0));
    assert_eq!(rest(&mut poller).0, [(0, 1), (1, 2)]);
}

#[test]
fn a_publish_from_a_fill_closure_of_a_ring_without_consumers_would_deadlock_too() {
    let (mut producer, _ring) = graph(1).build_multi_producer().expect("no threads");
    let mut inner = producer.clone();
    let published = producer.publish(|_| {
        assert_eq!(inner.publish(|_| panic!("the slot is in hand")), Err(PublishError::WouldDeadlock));
    });
    assert_eq!(published, Ok(0));
    assert_eq!(inner.publish(|_| {}), Ok(1));
}

#[test]
fn a_publish_from_the_factory_says_so_when_it_would_deadlock() {
    within_limit("a factory that publishes", || {
        let again: Arc<Mutex<Option<MultiProducer<u64>>>> = Arc::default();
        let (answer, answers) = channel();
        let factory = {
            let again = again.clone();
            move || {
                let inner = again.lock().expect("no factory panics with it").take();
                if let Some(mut inner) = inner {
                    let _ = answer.send(inner.publish(|_| panic!("the only slot is in hand")));
                }
                0
            }
        };
        let mut graph = RingBuilder::new(1, factory).expect("a power of two").graph().expect("memory");
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
        *again.lock().expect("nobody has panicked") = Some(producer.clone());
        // The factory is called for what the closure leaves half-written.
        assert!(panics(|| producer.publish(|_| quiet_panic())));
        assert_eq!(answers.try_recv(), Ok(Err(PublishError::WouldDeadlock)));
        assert_eq!(rest(&mut poller), (vec![], false));
        assert_eq!(producer.publish(|event| *event = 5), Ok(1));
        assert_eq!(rest(&mut poller), (vec![(1, 5)], false));
    });
}

/// A handler that publishes more than there is room for when it is dropped.
struct LastWords {
    producer: MultiProducer<u64>,
    answers: Sender<Result<Sequence, PublishError>>,
}

impl EventHandler<u64> for LastWords {
    fn on_event(&mut self, _event: &u64, _sequence: Sequence, _end_of_batch: bool) {}
}

impl Drop for LastWords {
    fn drop(&mut self) {
        for value in 0..4 {
            let _ = self.answers.send(self.producer.publish(|event| *event = value));
        }
    }
}

#[test]
fn a_publish_from_the_drop_of_a_handler_says_so_when_it_would_deadlock() {
    within_limit("a handler that publishes when it is dropped", || {
        let mut graph = graph(2);
        // One that is not polled keeps the ring full, whether the leaver still counts or not.
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (hand_over, handed_over) = channel();
        let (answers, answered) = channel();
        let make = move || LastWords { producer: handed_over.recv().expect("the test sends it"), answers };
        let id = graph.consumer_with(ConsumerOptions::new("talker"), make).expect("no dependency");
        let (producer, mut ring) = graph.build_multi_producer().expect("a thread");
        hand_over.send(producer).expect("the handler is made");
        ring.leave(id, LIMIT).expect("it does not wait for itself");
        let refused = Err(PublishError::WouldDeadlock);
        assert!(answered.iter().eq([Ok(0), Ok(1), refused, refused]));
        assert_eq!(rest(&mut poller).0, [(0, 0), (1, 1)]);
    });
}

#[test]
fn a_handler_may_wait_for_room_in_another_ring() {
    within_limit("two rings", || {
        let mut first = graph(2);
        let mut second = graph(1);
        let (_, mut sink) = second.poller(&[]).expect("no dependency");
        let (mut onward, _second_ring) = second.build_multi_producer().expect("no threads");
        let handler = move |event: &u64, _, _| {
            onward.publish(|copy| *copy = *event).expect("the other ring is being read");
        };
        first.consumer("bridge", &[], handler).expect("no dependency");
        let (mut producer, _first_ring) = first.build_single_producer().expect("a thread");
        let writer = thread::spawn(move || {
            producer.publish_batch(100, |place, event| *event = place as u64).expect("an open ring");
            producer
        });
        let mut next = 0;
        let started = Instant::now();
        while next < 100 {
            assert!(started.elapsed() < LIMIT, "{next} events came through");
            for (_, event) in rest(&mut sink).0 {
                assert_eq!(event, next);
                next += 1;
            }
            thread::yield_now();
        }
        writer.join().expect("the writer panicked");
    });
}

/// A full ring of one slot.
fn full() -> (MultiProducer<u64>, Poller<u64>, Ring<u64>) {
    let mut graph = graph(1);
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    producer.publish(|event| *event = 1).expect("room");
    (producer, poller, ring)
}

#[test]
fn of_raw_rings_whose_handlers_fill_each_others_one_is_told_and_the_others_go_on() {
    // The machine may take a thread's core away for longer than a circle takes to be seen, but not each time.
    let mut soonest = [Duration::MAX; 2];
    for round in 0..20 {
        let rings = 2 + round % 2;
        soonest[round % 2] = soonest[round % 2].min(within_limit("a circle of rings", move || {
            let (producers, pollers): (Vec<_>, Vec<_>) = (0..rings)
                .map(|_| {
                    let (producer, poller, ring) = full();
                    (producer, (poller, ring))
                })
                .unzip();
            let all_there = Arc::new(Barrier::new(rings));
            let handling: Vec<_> = (0..)
                .zip(pollers)
                .map(|(number, (mut poller, ring))| {
                    let mut onward = producers[(number + 1) % rings].clone();
                    let all_there = all_there.clone();
                    thread::spawn(move || {
                        let mut outcome = None;
                        poller.poll(1, |_, _, _| {
                            all_there.wait();
                            let started = Instant::now();
                            outcome = Some((onward.publish(|event| *event = 2), started.elapsed()));
                        });
                        // Its ring stays open until all have ended.
                        (outcome.expect("there is an event"), poller, ring)
                    })
                })
                .collect();
            let ended: Vec<_> = handling.into_iter().map(|thread| thread.join().expect("no panic")).collect();
            let ends: Vec<_> = ended.iter().map(|(end, _, _)| end).collect();
            let refused: Vec<_> = ends.iter().filter(|(outcome, _)| outcome.is_err()).collect();
            let [(Err(PublishError::WouldDeadlock), waited)] = refused[..] else { panic!("{ends:?}") };
            *waited
        }));
    }
    assert!(soonest.iter().all(|waited| *waited < Duration::from_millis(100)), "{soonest:?}");
}

/// The wait ends in a circle which nobody closes by a wait of his: a third thread fills the ring.
#[test]
fn a_circle_that_is_closed_by_a_ring_filling_up_is_seen_too() {
    within_limit("a circle that closes later", || {
        let (left, mut of_left, _left) = full();
        let mut graph = graph(2);
        let (_, mut of_right) = graph.poller(&[]).expect("no dependency");
        let (_, mut beside) = graph.poller(&[]).expect("no dependency");
        let (mut right, _right) = graph.build_multi_producer().expect("no threads");
        right.publish_batch(2, |place, event| *event = place as u64).expect("room");
        let (mut into_left, mut into_right) = (left, right.clone());
        let (told, ends) = channel();
        let both_there = Arc::new(Barrier::new(3));
        thread::scope(|scope| {
            let (there, tell) = (both_there.clone(), told.clone());
            scope.spawn(move || {
                // Of its two events, it stands at the second.
                of_right.poll(1, |_, _, _| {});
                of_right.poll(1, |_, _, _| {
                    there.wait();
                    tell.send(into_left.publish(|event| *event = 2)).expect("the test listens");
                });
            });
            let (there, tell) = (both_there.clone(), told.clone());
            scope.spawn(move || {
                of_left.poll(1, |_, _, _| {
                    there.wait();
                    tell.send(into_right.publish(|event| *event = 2)).expect("the test listens");
                });
            });
            both_there.wait();
            // While the other consumer is behind, each of them waits: that one could make room.
            assert_eq!(ends.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
            // It makes room for one event, which goes to either. Then it leaves.
            beside.poll(1, |_, _, _| {});
            drop(beside);
            let ends = [(); 2].map(|()| ends.recv_timeout(LIMIT).expect("it ends"));
            assert!(
                ends.iter().all(|end| end.is_ok() || *end == Err(PublishError::WouldDeadlock)),
                "{ends:?}"
            );
        });
        drop(right);
    });
}

#[test]
fn a_handler_waits_for_its_own_ring_while_another_consumer_is_behind() {
    within_limit("a handler in front of another consumer", || {
        let mut graph = graph(2);
        let (_, mut ahead) = graph.poller(&[]).expect("no dependency");
        let (_, mut behind) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
        producer.publish_batch(2, |place, event| *event = place as u64).expect("room");
        ahead.poll(1, |_, _, _| {});
        let follower = thread::spawn(move || {
            thread::park_timeout(Duration::from_millis(50));
            behind.poll(1, |_, _, _| {});
            behind
        });
        let mut outcome = None;
        ahead.poll(1, |_, _, _| outcome = Some(producer.publish(|event| *event = 2)));
        assert_eq!(outcome, Some(Ok(2)));
        drop(follower.join().expect("no panic"));
    });
}
