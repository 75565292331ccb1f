//! Rings that clear their slots: when and where values are dropped, who clears, and what is left alone.

#![cfg(not(ringmain_loom))]

mod ring_support;

use ring_support::{BOTH_LAYOUTS, LIMIT, within_limit};
use ringmain::ring::{
    BuildError, Call, Called, ConsumerOptions, Graph, Layout, Missed, Overflow, Polled, Poller, RingBuilder,
    SlotPolicy, Stopped, Supervisor,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

/// Where values go when they are dropped: their numbers, and on which thread.
#[derive(Clone, Default)]
struct Grave(Arc<Mutex<Vec<(u64, ThreadId)>>>);

impl Grave {
    fn bury(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((number, thread::current().id()));
    }

    fn numbers(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(number, _)| *number).collect()
    }

    fn threads(&self) -> Vec<ThreadId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, thread)| *thread).collect()
    }

    fn value(&self, number: u64) -> Option<Value> {
        Some(Value { number, grave: self.clone(), then: None })
    }
}

/// A value that is counted when it is dropped.
struct Value {
    number: u64,
    grave: Grave,
    /// What else its drop does.
    then: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Drop for Value {
    fn drop(&mut self) {
        self.grave.bury(self.number);
        if let Some(then) = self.then.take() {
            then();
        }
    }
}

/// What slots hold: a value, or when they are fresh none.
type Event = Option<Value>;

fn clearing(layout: Layout, capacity: usize) -> Graph<Event> {
    let builder = RingBuilder::new(capacity, || None).expect("a power of two");
    builder.layout(layout).slot_policy(SlotPolicy::Clear).graph().expect("memory")
}

fn number(event: &Event) -> u64 {
    event.as_ref().expect("it is not cleared yet").number
}

/// A way to handle what is there: gets the poller, and is called with each event.
type Way = fn(&mut Poller<Event>, &mut dyn FnMut(&Event)) -> Polled;

#[test]
fn a_value_is_dropped_once_right_after_it_was_handled_and_on_the_consumers_thread() {
    const WAYS: [Way; 3] = [
        |poller, handler| poller.poll(100, |event, _, _| handler(event)),
        |poller, handler| poller.poll_leased(100, |event, _, _, _| handler(event)),
        |poller, handler| poller.poll_slices(100, |events, _| events.iter().for_each(&mut *handler)),
    ];
    for layout in BOTH_LAYOUTS {
        for (way, handle) in WAYS.into_iter().enumerate() {
            let mut graph = clearing(layout, 16);
            let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_single_producer().expect("no threads");
            let (grave, in_slices) = (Grave::default(), way == 2 && layout == Layout::Dense);
            let mut next = 0;
            for _lap in 0..5 {
                let first = next;
                for number in next..next + 6 {
                    producer
                        .publish(|event| {
                            assert!(event.is_none(), "the slot was not cleared");
                            *event = grave.value(number);
                        })
                        .expect("room");
                }
                // Its thread alone may see a value die.
                let consumed = grave.clone();
                thread::scope(|scope| {
                    let consumer = scope.spawn(|| {
                        let mut polled = 0;
                        while polled < 6 {
                            let mut handler = |event: &Event| {
                                assert_eq!(number(event), next);
                                if !in_slices {
                                    let dead: Vec<_> = (0..next).collect();
                                    assert_eq!(consumed.numbers(), dead, "before {next} is handled");
                                }
                                next += 1;
                            };
                            let Polled::Events(events) = handle(&mut poller, &mut handler) else { break };
                            polled += events;
                        }
                        thread::current().id()
                    });
                    let consumer = consumer.join().expect("no panic");
                    assert!(grave.threads()[first as usize..].iter().all(|&thread| thread == consumer));
                });
                assert_eq!(grave.numbers(), (0..next).collect::<Vec<_>>());
            }
            drop((producer, poller, ring));
            assert_eq!(grave.numbers(), (0..30).collect::<Vec<_>>(), "nothing is dropped twice");
        }
    }
}

#[test]
fn every_stage_sees_values_that_only_the_last_one_clears() {
    for layout in BOTH_LAYOUTS {
        within_limit("stages", move || {
            let seen: [Arc<AtomicU64>; 4] = Default::default();
            let grave = Grave::default();
            let mut graph = clearing(layout, 8);
            let adding = |seen: &Arc<AtomicU64>| {
                let seen = seen.clone();
                move |event: &Event, _, _| {
                    seen.fetch_add(number(event), Ordering::Relaxed);
                }
            };
            let first = graph.consumer("first", &[], adding(&seen[0])).expect("no dependency");
            let one = graph.consumer("one", &[first], adding(&seen[1])).expect("its own ring");
            let shared = seen[2].clone();
            let make = move |_worker| {
                let seen = shared.clone();
                move |event: &Event, _, _| {
                    seen.fetch_add(number(event), Ordering::Relaxed);
                }
            };
            let after = [first];
            let group = ConsumerOptions::new("group").after(&after);
            let group = graph.workers(group, 2, make).expect("its own ring");
            graph.consumer("last", &[one, group], adding(&seen[3])).expect("its own ring");
            let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
            for number in 1..=1_000 {
                producer
                    .publish(|event| {
                        assert!(event.is_none(), "the slot was not cleared");
                        *event = grave.value(number);
                    })
                    .expect("room");
            }
            let reports = ring.shutdown(LIMIT).expect("all drained");
            assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
            for sum in seen {
                assert_eq!(sum.load(Ordering::Relaxed), 500_500);
            }
            assert_eq!(grave.numbers(), (1..=1_000).collect::<Vec<_>>());
        });
    }
}

#[test]
fn a_mutating_consumer_may_be_the_last_and_clears_what_it_leaves() {
    for layout in BOTH_LAYOUTS {
        let grave = Grave::default();
        let mut graph = clearing(layout, 4);
        let (_id, mut poller) = graph.mut_poller(&[]).expect("alone");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        producer.publish_batch(2, |place, event| *event = grave.value(place as u64)).expect("room");
        let mut kept = None;
        while let Polled::Events(_) = poller.poll(2, |event, sequence, _| {
            if sequence == 0 {
                kept = event.take();
            }
        }) {}
        assert_eq!(grave.numbers(), [1], "the first was taken out");
        drop(kept);
        drop((producer, poller, ring));
        assert_eq!(grave.numbers(), [1, 0]);
    }
}

#[test]
fn a_ring_that_clears_needs_one_last_consumer() {
    let refused = |add: fn(&mut Graph<Event>)| {
        let mut graph = clearing(Layout::Stamped, 8);
        add(&mut graph);
        match graph.build_multi_producer().map(drop) {
            Err(BuildError::NoSoleLast { last }) => last,
            other => panic!("not refused: {other:?}"),
        }
    };
    assert!(refused(|_| ()).is_empty());
    let beside = refused(|graph| {
        graph.consumer("one", &[], |_, _, _| ()).expect("no dependency");
        graph.consumer("other", &[], |_, _, _| ()).expect("no dependency");
    });
    assert_eq!(beside, ["one", "other"]);
    let workers = refused(|graph| {
        let make = |_| |_: &Event, _, _| ();
        graph.workers(ConsumerOptions::new("group"), 2, make).expect("no dependency");
    });
    assert_eq!(workers, ["group"]);
    let keyed = refused(|graph| {
        let make = |_| |_: &Event, _, _| ();
        graph.keyed_workers(ConsumerOptions::new("lanes"), 2, None, number, make).expect("no dependency");
    });
    assert_eq!(keyed, ["lanes"]);
    // One behind them is the cure; and one that has left before the start is not there.
    let mut graph = clearing(Layout::Stamped, 8);
    let (one, _first) = graph.poller(&[]).expect("no dependency");
    let (other, _second) = graph.poller(&[]).expect("no dependency");
    drop(graph.poller(&[]).expect("no dependency"));
    let (_, _last) = graph.poller(&[one, other]).expect("its own ring");
    graph.build_multi_producer().map(drop).expect("one is behind all others");
}

#[test]
fn nobody_joins_beside_or_behind_the_one_that_clears_until_it_has_left() {
    let mut graph = clearing(Layout::Stamped, 8);
    let (group, workers) = graph.worker_pollers(&[], 1).expect("no dependency");
    let (last, poller) = graph.poller(&[group]).expect("its own ring");
    let (mut producer, ring) = graph.build_multi_producer().expect("one is last");
    for after in [&[][..], &[group], &[last]] {
        let refused = ring.join_poller(after, LIMIT).map(drop);
        assert!(matches!(refused, Err(BuildError::BesideLast { .. })), "{refused:?}");
    }
    // A worker comes before it.
    let joined = ring.join_worker_poller(group).expect("the group is there");
    drop(poller);
    let (_id, mut late) = ring.join_poller(&[], LIMIT).expect("nobody clears any more");
    let grave = Grave::default();
    producer.publish(|event| *event = grave.value(1)).expect("room");
    assert_eq!(late.poll(1, |event, _, _| assert_eq!(number(event), 1)), Polled::Events(1));
    assert!(grave.numbers().is_empty());
    drop((workers, joined));
}

#[test]
fn a_drop_that_panics_costs_nothing_else() {
    for layout in BOTH_LAYOUTS {
        let grave = Grave::default();
        let mut graph = clearing(layout, 8);
        let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        for lap in 0..4 {
            for number in 4 * lap..4 * lap + 4 {
                producer
                    .publish(|event| {
                        assert!(event.is_none(), "the slot was not cleared");
                        let then = (number % 2 == 0).then(|| -> Box<dyn FnOnce() + Send + Sync> {
                            Box::new(|| resume_unwind(Box::new("on purpose")))
                        });
                        *event = Some(Value { number, grave: grave.clone(), then });
                    })
                    .expect("room");
            }
            while let Polled::Events(_) = poller.poll(4, |event, _, _| assert!(event.is_some())) {}
        }
        drop((producer, poller, ring));
        assert_eq!(grave.numbers(), (0..16).collect::<Vec<_>>());
    }
}

#[test]
fn where_the_factory_panics_the_value_stays_until_it_is_overwritten() {
    let panics = Arc::new(AtomicBool::new(false));
    let in_factory = panics.clone();
    let factory = move || -> Event {
        if in_factory.load(Ordering::Relaxed) {
            resume_unwind(Box::new("on purpose"));
        }
        None
    };
    let builder = RingBuilder::new(1, factory).expect("a power of two").slot_policy(SlotPolicy::Clear);
    let mut graph = builder.graph().expect("memory");
    let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    let grave = Grave::default();
    panics.store(true, Ordering::Relaxed);
    producer.publish(|event| *event = grave.value(0)).expect("room");
    assert_eq!(poller.poll(1, |_, _, _| ()), Polled::Events(1));
    assert!(grave.numbers().is_empty());
    panics.store(false, Ordering::Relaxed);
    producer.publish(|event| *event = grave.value(1)).expect("the slot was released");
    assert_eq!(grave.numbers(), [0]);
    assert_eq!(poller.poll(1, |_, _, _| ()), Polled::Events(1));
    assert_eq!(grave.numbers(), [0, 1]);
}

#[test]
fn the_event_of_a_handler_that_panics_is_cleared_too() {
    for layout in BOTH_LAYOUTS {
        let grave = Grave::default();
        let mut graph = clearing(layout, 32);
        let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
        producer.publish_batch(4, |place, event| *event = grave.value(place as u64)).expect("room");
        let panicking = || {
            poller.poll(4, |event, _, _| {
                if number(event) == 1 {
                    resume_unwind(Box::new("on purpose"));
                }
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
        assert_eq!(grave.numbers(), [0, 1]);
        assert_eq!(poller.poll(4, |event, _, _| assert!(number(event) > 1)), Polled::Events(2));
        assert_eq!(grave.numbers(), [0, 1, 2, 3]);
    }
}

#[test]
fn what_was_not_handled_is_dropped_with_the_ring() {
    let grave = Grave::default();
    let mut graph = clearing(Layout::Stamped, 32);
    let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    producer.publish_batch(4, |place, event| *event = grave.value(place as u64)).expect("room");
    assert_eq!(poller.poll(1, |_, _, _| ()), Polled::Events(1));
    ring.halt();
    assert_eq!(poller.poll(4, |_, _, _| panic!("the ring was halted")), Polled::Finished);
    assert_eq!(grave.numbers(), [0]);
    drop((producer, poller, ring));
    assert_eq!(grave.numbers(), [0, 1, 2, 3]);
}

#[test]
fn a_tombstone_is_passed_over_and_what_it_held_was_dropped_by_its_producer() {
    let grave = Grave::default();
    let mut graph = clearing(Layout::Stamped, 32);
    let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
    for number in 0..4 {
        let fill = || {
            producer.publish(|event| {
                *event = grave.value(number);
                if number == 1 {
                    resume_unwind(Box::new("on purpose"));
                }
            })
        };
        assert_eq!(catch_unwind(AssertUnwindSafe(fill)).is_err(), number == 1);
    }
    assert_eq!(grave.numbers(), [1]);
    while let Polled::Events(_) = poller.poll(4, |event, _, _| assert_ne!(number(event), 1)) {}
    assert_eq!(grave.numbers(), [1, 0, 2, 3]);
}

#[test]
fn what_a_ring_drops_for_newer_events_is_overwritten_and_the_rest_is_cleared() {
    let grave = Grave::default();
    let builder = RingBuilder::new(4, || None).expect("a power of two").slot_policy(SlotPolicy::Clear);
    let mut graph = builder.overflow(Overflow::DropOldest).graph().expect("memory");
    let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    for number in 0..6 {
        producer.publish(|event| *event = grave.value(number)).expect("the oldest is dropped");
    }
    assert_eq!(grave.numbers(), [0, 1]);
    assert_eq!(poller.poll(9, |_, _, _| ()), Polled::Missed(Missed { from: 0, to: 2 }));
    while let Polled::Events(_) = poller.poll(9, |event, _, _| assert!(number(event) > 1)) {}
    assert_eq!(grave.numbers(), [0, 1, 2, 3, 4, 5]);
}

/// A ring of three values, of which the drop of the first does something.
fn with_a_drop_that(then: impl FnOnce(&Supervisor<Event>) + Send + Sync + 'static) -> (Grave, Poller<Event>) {
    let grave = Grave::default();
    let mut graph = clearing(Layout::Stamped, 32);
    let (_id, poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
    let supervisor = poller.supervisor();
    let then: Box<dyn FnOnce() + Send + Sync> = Box::new(move || then(&supervisor));
    producer
        .publish(|event| *event = Some(Value { number: 0, grave: grave.clone(), then: Some(then) }))
        .expect("room");
    for number in 1..3 {
        producer.publish(|event| *event = grave.value(number)).expect("room");
    }
    (grave, poller)
}

/// A drop that does not return is taken over as a handler is: what was handled is not handed over, nor touched.
#[test]
fn who_takes_over_a_consumer_that_clears_gets_what_it_has_not_handled() {
    let (grave, mut poller) = with_a_drop_that(|supervisor| {
        assert_eq!(supervisor.current_call(), Some(Call::Clearing { sequence: 0 }), "this is no delivery");
        let Stopped::InCall(call) = supervisor.stop() else { panic!("a drop is a call") };
        let takeover = call.take_over().expect("it has not returned");
        assert_eq!(takeover.call(), Call::Clearing { sequence: 0 });
        assert_eq!(takeover.sequence(), 1);
        assert!(takeover.read(0, |_| ()).is_none(), "its slot belongs to the drop");
        let mut rest = Vec::new();
        let in_hand = takeover.for_each(LIMIT, |sequence, event| rest.push((sequence, number(event))));
        assert_eq!((in_hand, rest), (vec![], vec![(1, 1), (2, 2)]));
    });
    let mut handled = 0;
    let polled = poller.poll_leased(9, |_, sequence, _, lease| {
        assert!(matches!(lease.call(sequence, 7, || handled += 1), Called::Returned(Ok(()))));
    });
    assert_eq!((polled, handled), (Polled::Finished, 1));
    assert_eq!(grave.numbers(), [0]);
    drop(poller);
    assert_eq!(grave.numbers(), [0, 1, 2]);
}

/// It may have passed stages that still read.
#[test]
fn a_consumer_that_was_stopped_clears_nothing() {
    let (grave, mut poller) = with_a_drop_that(|supervisor| {
        assert!(matches!(supervisor.stop(), Stopped::InCall(_)), "a drop is a call");
    });
    let mut refused = 0;
    let polled = poller.poll_leased(9, |_, sequence, _, lease| {
        refused += u32::from(matches!(lease.call(sequence, 7, || ()), Called::Refused));
    });
    assert_eq!((polled, refused), (Polled::Events(3), 2));
    assert_eq!(grave.numbers(), [0]);
}

/// Its drop is user code on the consumer's thread: to wait for room would be to wait for itself.
#[test]
fn a_drop_that_publishes_into_its_own_full_ring_is_refused() {
    within_limit("a drop that publishes", || {
        let grave = Grave::default();
        let mut graph = clearing(Layout::Stamped, 1);
        let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
        let (inner, outcome) = (Mutex::new(producer.clone()), Arc::new(Mutex::new(None)));
        let shared = outcome.clone();
        let then: Box<dyn FnOnce() + Send + Sync> = Box::new(move || {
            let refused = inner.lock().expect("unpoisoned").publish(|_| ());
            *shared.lock().expect("unpoisoned") = Some(refused);
        });
        producer
            .publish(|event| *event = Some(Value { number: 0, grave: grave.clone(), then: Some(then) }))
            .expect("room");
        assert_eq!(poller.poll(1, |_, _, _| ()), Polled::Events(1));
        let outcome = outcome.lock().expect("unpoisoned").take();
        assert_eq!(outcome, Some(Err(ringmain::ring::PublishError::WouldDeadlock)));
    });
}

/// Plain bytes, of which nothing is left.
#[test]
fn a_secret_is_overwritten_where_it_lay() {
    const SECRET: [u8; 40] = *b"a secret that nobody else is to find out";
    for layout in BOTH_LAYOUTS {
        let builder = RingBuilder::new(2, || [0_u8; 40]).expect("a power of two").layout(layout);
        let mut graph = builder.slot_policy(SlotPolicy::Clear).graph().expect("memory");
        let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
        for _ in 0..6 {
            producer
                .publish(|event| {
                    assert_eq!(*event, [0; 40], "what was there before can still be read");
                    *event = SECRET;
                })
                .expect("room");
            assert_eq!(poller.poll(1, |event, _, _| assert_eq!(*event, SECRET)), Polled::Events(1));
        }
    }
}

/// Several producers, workers, and a last stage, at full speed.
#[test]
fn under_load_each_value_is_dropped_exactly_once() {
    const PRODUCERS: u64 = 3;
    let each = ring_support::rounds(5_000);
    within_limit("a ring under load", move || {
        let dropped: Arc<Vec<AtomicU64>> =
            Arc::new((0..PRODUCERS * each).map(|_| AtomicU64::new(0)).collect());
        struct Counted(u64, Arc<Vec<AtomicU64>>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.1[self.0 as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
        let builder = RingBuilder::new(16, || None::<Counted>).expect("a power of two");
        let mut graph = builder.slot_policy(SlotPolicy::Clear).graph().expect("memory");
        let alive = |event: &Option<Counted>| {
            let Counted(number, dropped) = event.as_ref().expect("it is not cleared yet");
            assert_eq!(dropped[*number as usize].load(Ordering::Relaxed), 0, "{number} is dead already");
        };
        let make = move |_| move |event: &Option<Counted>, _, _| alive(event);
        let group = graph.workers(ConsumerOptions::new("group"), 2, make).expect("no dependency");
        graph.consumer("last", &[group], move |event, _, _| alive(event)).expect("its own ring");
        let (producer, mut ring) = graph.build_multi_producer().expect("threads");
        let producers = (0..PRODUCERS).map(|number| {
            let (mut producer, dropped) = (producer.clone(), dropped.clone());
            thread::spawn(move || {
                for value in number * each..(number + 1) * each {
                    let counted = Counted(value, dropped.clone());
                    producer.publish(|event| *event = Some(counted)).expect("room");
                }
            })
        });
        for producer in producers.collect::<Vec<_>>() {
            producer.join().expect("no panic");
        }
        let reports = ring.shutdown(LIMIT).expect("all drained");
        assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
        assert!(dropped.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    });
}
