//! Faults of the ring's users: closures, handlers, hooks and threads that panic or die.

mod ring_support;

use ring_support::{
    BOTH_LAYOUTS, Bomb, LIMIT, eventually_fast_asleep, graph, graph_in, panics, quiet_panic, rejecting, rest,
    shut_down, take, within_limit,
};
use ringmain::ring::{
    Batch, Called, ConsumerOptions, EventHandler, Layout, MultiProducer, Polled, PublishError, RingBuilder,
    Sequence, Stopped,
};
use ringmain::wait::WaitStrategy;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

// Fill closures.

#[test]
fn a_panic_in_the_middle_of_a_batch_publishes_what_was_filled_before_and_leaves_no_hole() {
    for layout in BOTH_LAYOUTS {
        for panics_at in 0..5 {
            let mut graph = graph_in(layout, 8);
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_single_producer().expect("no threads");
            assert!(panics(|| producer.publish_batch(5, |place, event| {
                *event = place as u64;
                if place == panics_at {
                    quiet_panic();
                }
            })));
            assert_eq!(ring.claimed(), panics_at as u64);
            let expected: Vec<_> = (0..panics_at as u64).map(|value| (value, value)).collect();
            assert_eq!(rest(&mut poller), (expected, false), "{layout:?}");
            let next = panics_at as u64;
            assert_eq!(
                producer.publish(|event| {
                    assert_eq!(*event, 0, "the event that was half-written was made anew");
                    *event = 9;
                }),
                Ok(next)
            );
            ring.close();
            assert_eq!(rest(&mut poller), (vec![(next, 9)], true));
        }
    }
}

#[test]
fn a_batch_that_panics_after_a_lap_leaves_nothing_of_an_older_lap_behind() {
    for layout in BOTH_LAYOUTS {
        let mut graph = graph_in(layout, 4);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
        for lap in 0..10 {
            assert!(panics(|| producer.publish_batch(4, |place, event| {
                if place == 2 {
                    quiet_panic();
                }
                *event = lap;
            })));
            assert_eq!(rest(&mut poller).0, [(2 * lap, lap), (2 * lap + 1, lap)]);
        }
    }
}

#[test]
fn tombstones_of_many_producers_fill_no_ring_and_stop_no_one() {
    for capacity in [1, 2, 4] {
        let mut graph = graph(capacity);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
        for _ in 0..capacity {
            assert!(panics(|| producer.try_publish(|_| quiet_panic())));
        }
        assert_eq!(producer.try_publish(|_| {}), Err(PublishError::Full), "a tombstone takes a slot");
        assert_eq!(rest(&mut poller), (vec![], false));
        assert_eq!(poller.tombstones(), capacity as u64);
        assert_eq!(producer.try_publish(|event| *event = 5), Ok(capacity as u64));
        ring.close();
        assert_eq!(rest(&mut poller), (vec![(capacity as u64, 5)], true));
    }
}

#[test]
fn a_slice_never_holds_a_tombstone() {
    let mut graph = graph(16);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
    for value in 0..6 {
        let outcome = panics(|| {
            producer.publish(|event| {
                *event = value;
                if value % 3 == 1 {
                    quiet_panic();
                }
            })
        });
        assert_eq!(outcome, value % 3 == 1);
    }
    let mut seen = Vec::new();
    while let Polled::Events(_) = poller.poll_slices(16, |events, first| seen.push((first, events.to_vec())))
    {
    }
    assert_eq!(seen, [(0, vec![0]), (2, vec![2]), (3, vec![3]), (5, vec![5])]);
    assert_eq!(poller.tombstones(), 2);
}

/// Publishes an event for each of the lowest eight bits of `events` that is set, and leaves a tombstone for each other.
fn publish_between_tombstones(producer: &mut MultiProducer<u64>, events: u64) {
    for place in 0..8 {
        let is_event = events >> place & 1 == 1;
        let panicked = panics(|| {
            producer.publish(|_| {
                if !is_event {
                    quiet_panic();
                }
            })
        });
        assert_eq!(panicked, !is_event);
    }
}

#[test]
fn the_last_event_before_tombstones_is_told_that_its_batch_ends() {
    for events in 1_u64..256 {
        // All eight are one run of a ring of this size.
        let mut graph = graph(64);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (_, mut leased) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
        publish_between_tombstones(&mut producer, events);
        let last = Sequence::from(events.ilog2());
        let expected: Vec<_> =
            (0..8).filter(|place| events >> place & 1 == 1).map(|place| (place, place == last)).collect();
        let mut seen = Vec::new();
        assert_eq!(poller.poll(8, |_, sequence, is_end| seen.push((sequence, is_end))), Polled::Events(8));
        assert_eq!(seen, expected);
        seen.clear();
        let polled = leased.poll_leased(8, |_, sequence, is_end, _| seen.push((sequence, is_end)));
        assert_eq!((polled, &seen), (Polled::Events(8), &expected));
    }
}

#[test]
fn a_workers_last_event_before_tombstones_is_told_that_its_batch_ends() {
    for events in 1_u64..256 {
        let mut graph = graph(64);
        let (_, raced) = graph.worker_pollers(&[], 1).expect("no dependency");
        let (_, keyed) = graph.keyed_worker_pollers(&[], 1, Some(1), |_| 0).expect("no dependency");
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
        publish_between_tombstones(&mut producer, events);
        for mut worker in raced.into_iter().chain(keyed) {
            let mut seen = Vec::new();
            assert!(matches!(
                worker.poll(8, |_, sequence, is_end| seen.push((sequence, is_end))),
                Polled::Events(_)
            ));
            let places: Vec<_> = seen.iter().map(|(sequence, _)| *sequence).collect();
            let expected: Vec<_> = (0..8).filter(|place| events >> place & 1 == 1).collect();
            assert_eq!(places, expected);
            // A worker's batches may be shorter, and yet the last one ends with its last event.
            assert_eq!(
                seen.last(),
                Some(&(Sequence::from(events.ilog2()), true)),
                "{worker:?} of {events:b}"
            );
        }
    }
}

#[test]
fn a_claim_that_is_dropped_or_leaked_takes_nothing_in_any_layout() {
    for layout in BOTH_LAYOUTS {
        let mut graph = graph_in(layout, 2);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        for value in 0..6 {
            *producer.next_slot().expect("room") = 77;
            let _leaked = std::mem::ManuallyDrop::new(producer.next_slot().expect("room"));
            assert_eq!(ring.claimed(), value);
            let mut claim = producer.next_slot().expect("room");
            *claim = value;
            assert_eq!(claim.publish(), Ok(value));
            assert_eq!(rest(&mut poller).0, [(value, value)]);
        }
    }
}

#[test]
fn a_fill_closure_of_the_only_producer_that_panics_publishes_nothing_and_the_event_is_made_anew() {
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    let factory = move || count.fetch_add(1, Ordering::Relaxed);
    let mut graph = RingBuilder::new(2, factory).expect("a power of two").graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        producer.publish(|event| {
            *event = 77;
            quiet_panic()
        })
    }));
    assert!(outcome.is_err(), "the panic goes on to the publisher");
    assert_eq!(made.load(Ordering::Relaxed), 3);
    assert_eq!(ring.claimed(), 0);
    assert_eq!(poller.poll(2, |_, _, _| panic!("nothing was published")), Polled::Empty);
    let mut found = 0;
    assert_eq!(producer.publish(|event| found = std::mem::replace(event, 5)), Ok(0));
    assert_eq!(found, 2, "the event that was half-written is gone");
    assert_eq!(take(&mut poller, 1), [5]);
    assert_eq!(poller.tombstones(), 0);
}

#[test]
fn a_fill_closure_of_one_of_many_producers_that_panics_leaves_a_tombstone_which_is_skipped() {
    let mut graph = graph(4);
    let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
    let (_, mut later) = graph.poller(&[first]).expect("its own ring");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    producer.publish(|event| *event = 1).expect("room");
    let outcome = catch_unwind(AssertUnwindSafe(|| producer.publish(|_| quiet_panic())));
    assert!(outcome.is_err(), "the panic goes on to the publisher");
    producer.publish(|event| *event = 3).expect("room");
    assert_eq!(ring.claimed(), 3);
    for poller in [&mut earlier, &mut later] {
        let mut seen = Vec::new();
        let mut polled = 0;
        while let Polled::Events(events) = poller.poll(4, |event, sequence, _| seen.push((*event, sequence)))
        {
            polled += events;
        }
        assert_eq!(polled, 3, "a tombstone is gone through as well");
        assert_eq!(seen, [(1, 0), (3, 2)]);
        assert_eq!(poller.tombstones(), 1);
    }
}

/// The wake-up that is called `wake-after-tombstone`. A model cannot hold it: there threads share
/// one count of panics, so that a lock which one of them gives up while another unwinds is
/// poisoned.
#[test]
fn a_tombstone_wakes_who_is_fast_asleep_over_it() {
    let builder = RingBuilder::new(4, || 0_u64).expect("a power of two");
    let mut graph = builder.wait(WaitStrategy::Blocking).graph().expect("memory");
    let (saw, has_seen) = channel();
    let handler = move |event: &u64, _, _| saw.send(*event).expect("the test listens");
    graph.consumer("sleeper", &[], handler).expect("no dependency");
    let (mut producer, mut ring) = graph.build_multi_producer().expect("a thread");
    let (claimed, has_claimed) = channel();
    let (give_up, may_give_up) = channel::<()>();
    let mut panicking = producer.clone();
    let faulty = thread::spawn(move || {
        let fill = |_: &mut u64| {
            claimed.send(()).expect("the test listens");
            may_give_up.recv_timeout(LIMIT).expect("the test lets it");
            quiet_panic();
        };
        assert!(panics(|| panicking.publish(fill)), "the panic must reach the publisher");
    });
    has_claimed.recv_timeout(LIMIT).expect("it claims");
    // It wakes the consumer for nothing: what comes before it is still to be filled.
    producer.publish(|event| *event = 7).expect("room");
    eventually_fast_asleep("sleeper");
    give_up.send(()).expect("it waits for that");
    faulty.join().expect("the panic was caught");
    assert_eq!(has_seen.recv_timeout(Duration::from_secs(20)), Ok(7), "the consumer sleeps on");
    shut_down(&mut ring);
}

#[test]
fn a_batch_that_panics_half_way_keeps_what_was_published_before() {
    fn half<S: ringmain::ring::Sequencer>(producer: &mut ringmain::ring::Producer<u64, S>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            producer.publish_batch(4, |place, event| {
                if place == 2 {
                    quiet_panic();
                }
                *event = place as u64;
            })
        }));
        assert!(outcome.is_err(), "the panic goes on to the publisher");
        producer.publish(|event| *event = 9).expect("room");
    }

    let mut one = graph(8);
    let (_, mut poller) = one.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = one.build_single_producer().expect("no threads");
    half(&mut producer);
    assert_eq!(take(&mut poller, 3), [0, 1, 9]);
    assert_eq!(poller.tombstones(), 0);

    let mut many = graph(8);
    let (_, mut poller) = many.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = many.build_multi_producer().expect("no threads");
    half(&mut producer);
    assert_eq!(take(&mut poller, 3), [0, 1, 9]);
    assert_eq!(poller.tombstones(), 2);
}

/// The second panic's payload panics once more when it is dropped, during the first one's unwinding.
#[test]
fn a_factory_that_panics_while_a_fill_closure_does_is_survived() {
    let built = AtomicU64::new(0);
    let factory = move || {
        if built.fetch_add(1, Ordering::Relaxed) >= 2 {
            resume_unwind(Box::new(Bomb));
        }
        0_u64
    };
    let mut graph = RingBuilder::new(2, factory).expect("a power of two").graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
    assert!(catch_unwind(AssertUnwindSafe(|| producer.publish(|_| quiet_panic()))).is_err());
    producer.publish(|event| *event = 4).expect("room");
    assert_eq!(take(&mut poller, 1), [4]);
}

// Threads that die.

#[test]
fn a_producer_thread_that_dies_takes_nobody_with_it() {
    within_limit("a ring whose producer died", || {
        let mut graph = graph(4);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (producer, ring) = graph.build_multi_producer().expect("no threads");
        let mut doomed = producer.clone();
        let death = thread::spawn(move || {
            doomed.publish(|event| *event = 1).expect("room");
            doomed.publish(|_| quiet_panic()).expect("it panics before");
        });
        assert!(death.join().is_err());
        let mut sound = producer;
        sound.publish(|event| *event = 3).expect("room");
        ring.close();
        assert_eq!(rest(&mut poller), (vec![(0, 1), (2, 3)], true));
    });
}

#[test]
fn the_only_producer_may_die_in_a_batch_and_the_ring_still_ends() {
    for layout in BOTH_LAYOUTS {
        within_limit("a ring whose only producer died", move || {
            let mut graph = graph_in(layout, 8);
            let (sink, source) = channel();
            let send = move |event: &u64, _, _| sink.send(*event).expect("the test listens");
            graph.consumer("sink", &[], send).expect("no dependency");
            let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
            let death = thread::spawn(move || {
                producer.publish_batch(100, |place, event| {
                    *event = place as u64;
                    if place == 50 {
                        quiet_panic();
                    }
                })
            });
            assert!(death.join().is_err());
            assert_eq!(ring.shutdown(LIMIT).expect("it ends in time")[0].panics, 0);
            assert!(source.iter().eq(0..50), "{layout:?}");
        });
    }
}

// Handlers and hooks.

/// A handler whose every call panics once in so many, and which tells what got through.
struct Shaky {
    calls: u64,
    every: u64,
    seen: Sender<(Sequence, u64)>,
    starts: Arc<AtomicU64>,
    /// Not `Send`.
    own: std::rc::Rc<()>,
}

impl Shaky {
    fn may_panic(&mut self) {
        let _ = &self.own;
        self.calls += 1;
        if self.calls.is_multiple_of(self.every) {
            quiet_panic();
        }
    }
}

impl EventHandler<u64> for Shaky {
    fn on_event(&mut self, event: &u64, sequence: Sequence, _end_of_batch: bool) {
        self.seen.send((sequence, *event)).expect("the test listens");
        self.may_panic();
    }

    fn on_batch_start(&mut self, _batch: Batch<'_>) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.may_panic();
    }

    fn on_batch_end(&mut self) {
        self.may_panic();
    }
}

#[test]
fn handlers_and_hooks_that_panic_lose_no_event_and_stop_no_ring() {
    for layout in BOTH_LAYOUTS {
        // Each call panics, or every second or third.
        for every in 1..=3 {
            within_limit("shaky handlers", move || {
                let mut graph = graph_in(layout, 16);
                let (seen, source) = channel();
                let starts: Arc<AtomicU64> = Arc::default();
                let make = {
                    let starts = starts.clone();
                    move || Shaky { calls: 0, every, seen, starts, own: std::rc::Rc::new(()) }
                };
                graph.consumer_with(ConsumerOptions::new("shaky"), make).expect("no dependency");
                let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
                for value in 0..200 {
                    producer.publish(|event| *event = value).expect("an open ring");
                }
                let reports = ring.shutdown(LIMIT).expect("it ends in time");
                assert!(reports[0].panics >= 200 / every, "{reports:?}");
                assert!(starts.load(Ordering::Relaxed) >= 1);
                assert!(source.iter().eq((0..200).map(|value| (value, value))), "{layout:?}, {every}");
            });
        }
    }
}

#[test]
fn a_handler_that_cannot_be_made_leaves_the_ring() {
    within_limit("a ring without its handler", || {
        let mut graph = graph(2);
        let make = || -> Shaky { quiet_panic() };
        graph.consumer_with(ConsumerOptions::new("unmade"), make).expect("no dependency");
        let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
        producer.publish_batch(100, |_, _| {}).expect("nobody holds it up");
        assert_eq!(ring.shutdown(LIMIT).expect("it ends in time")[0].panics, 1);
    });
}

/// What batches look like to a handler.
struct Batches {
    sizes: Sender<(Sequence, u64, u64, u64)>,
    current: (Sequence, u64, u64, u64),
    gate: Option<Receiver<()>>,
}

impl EventHandler<u64> for Batches {
    fn on_event(&mut self, _event: &u64, sequence: Sequence, end_of_batch: bool) {
        assert_eq!(sequence, self.current.0 + self.current.3);
        self.current.3 += 1;
        assert_eq!(end_of_batch, self.current.3 == self.current.1);
    }

    fn on_batch_start(&mut self, batch: Batch<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.recv_timeout(LIMIT).expect("the test opens it");
        }
        self.current = (batch.first(), batch.size(), batch.depth(), 0);
    }

    fn on_batch_end(&mut self) {
        self.sizes.send(self.current).expect("the test listens");
    }
}

#[test]
fn batch_hooks_tell_size_and_depth_and_keep_to_the_max_batch() {
    for (layout, longest) in [(Layout::Stamped, 3), (Layout::Dense, 3), (Layout::Stamped, u64::MAX)] {
        within_limit("batches", move || {
            let mut graph = graph_in(layout, 64);
            let (sizes, source) = channel();
            let (open, gate) = channel();
            let make = move || Batches { sizes, current: (0, 0, 0, 0), gate: Some(gate) };
            let options = ConsumerOptions::new("batches").max_batch(longest);
            graph.consumer_with(options, make).expect("no dependency");
            let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
            producer.publish_batch(64, |_, _| {}).expect("room for all");
            open.send(()).expect("the handler listens");
            ring.shutdown(LIMIT).expect("it ends in time");
            let mut next = 0;
            for (first, size, depth, events) in source.iter() {
                assert_eq!((first, events), (next, size));
                // An eighth of the ring is the other limit.
                assert!(size <= longest.min(8), "a batch of {size}");
                assert!(depth >= size && depth == 64 - first, "a depth of {depth} at {first}");
                next += size;
            }
            assert_eq!(next, 64);
        });
    }
}

#[test]
fn a_handler_that_panics_costs_its_event_and_nothing_else() {
    within_limit("panicking handlers", || {
        let mut graph = graph(4);
        let (sink, source) = channel();
        let handler = move |event: &u64, _, _| {
            if event.is_multiple_of(3) {
                quiet_panic();
            }
            sink.send(*event).expect("the test listens");
        };
        graph.consumer("shaky", &[], handler).expect("no dependency");
        let (mut producer, mut ring) = graph.build_single_producer().expect("a thread");
        for value in 0..30 {
            producer.publish(|event| *event = value).expect("an open ring");
        }
        let reports = shut_down(&mut ring);
        assert_eq!((reports[0].name.as_str(), reports[0].panics), ("shaky", 10));
        assert!(source.iter().eq((0..30).filter(|value| value % 3 != 0)));
    });
}

#[test]
fn a_poll_after_a_panic_starts_behind_it() {
    let mut graph = rejecting(2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(2, |place, event| *event = place as u64).expect("room for two");
    assert!(catch_unwind(AssertUnwindSafe(|| poller.poll(2, |_, _, _| quiet_panic()))).is_err());
    assert_eq!(producer.publish(|event| *event = 2), Ok(2), "the event that panicked was released");
    assert_eq!(take(&mut poller, 2), [1, 2]);
}

#[test]
fn a_poll_after_a_panic_takes_no_more_than_it_is_asked_for() {
    let mut graph = rejecting(64);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(8, |_, _| {}).expect("room for eight");
    assert!(panics(|| _ = poller.poll(8, |_, _, _| quiet_panic())));
    // It has seen all of them.
    let mut seen = Vec::new();
    assert_eq!(poller.poll(1, |_, sequence, is_last| seen.push((sequence, is_last))), Polled::Events(1));
    assert_eq!(seen, [(1, true)]);
}

#[test]
fn a_handler_that_panics_when_it_is_dropped_does_not_hold_up_the_shutdown() {
    within_limit("a panicking drop", || {
        let mut graph = graph(2);
        let bomb = Bomb;
        let handler = move |_: &u64, _, _| {
            let _ = &bomb;
        };
        graph.consumer("bomb", &[], handler).expect("no dependency");
        let (_producer, mut ring) = graph.build_single_producer().expect("a thread");
        assert_eq!(shut_down(&mut ring)[0].panics, 1);
    });
}

#[test]
fn a_stopped_poller_does_not_overtake_the_stage_before_it() {
    let mut graph = RingBuilder::new(8, || 0_u64).expect("a power of two").graph().expect("memory");
    let (first, mut before) = graph.poller(&[]).expect("a first stage");
    let (_, mut after) = graph.poller(&[first]).expect("a second stage");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
    producer.publish(|event| *event = 7).expect("there is room");
    assert!(matches!(after.supervisor().stop(), Stopped::BetweenCalls));
    assert!(!after.is_ready());
    assert_eq!(after.poll(8, |_, _, _| panic!("the stage before has not finished")), Polled::Empty);
    assert_eq!(after.poll_slices(8, |_, _| panic!("the stage before has not finished")), Polled::Empty);
    assert_eq!(before.poll(8, |_, _, _| {}), Polled::Events(1));
    assert!(after.is_ready());
    let mut seen = 0;
    assert_eq!(after.poll(8, |event, _, _| seen = *event), Polled::Events(1));
    assert_eq!(seen, 7);
}

#[test]
fn neither_a_tombstone_nor_what_is_in_hand_is_taken_over() {
    let mut graph = graph(8);
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads to start");
    for value in 0..4 {
        let fill = |event: &mut u64| if value == 2 { quiet_panic() } else { *event = value };
        assert_eq!(panics(|| _ = producer.publish(fill)), value == 2);
    }
    let (supervisor, mut seen, mut in_hand) = (poller.supervisor(), Vec::new(), None);
    // A panic in a call that was taken over would go unseen.
    let called = poller.lease().call(0, 7, || {
        let Stopped::InCall(call) = supervisor.stop() else { return };
        let takeover = call.take_over().expect("it has not returned");
        let mut look =
            || in_hand = Some(takeover.for_each(Duration::ZERO, |at, event| seen.push((at, *event))));
        producer.publish(|_| look()).expect("there is room");
    });
    assert!(matches!(called, Called::TakenOver), "{called:?}");
    assert_eq!((seen, in_hand), (vec![(0, 0), (1, 1), (3, 3)], Some(vec![4])));
}

/// A value that panics when it is dropped, if it is told to.
struct Counted {
    explodes: bool,
    dropped: Arc<AtomicU64>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if self.explodes {
            quiet_panic();
        }
    }
}

#[test]
fn a_value_whose_drop_panics_keeps_no_other_from_being_dropped_with_the_ring() {
    for layout in BOTH_LAYOUTS {
        let dropped = Arc::new(AtomicU64::new(0));
        let builder = RingBuilder::new(8, || None).expect("a capacity").layout(layout);
        let mut graph = builder.graph().expect("memory");
        let (_, poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        for number in 0..8 {
            let value = Counted { explodes: number % 3 == 0, dropped: dropped.clone() };
            producer.publish(|event| *event = Some(value)).expect("room");
        }
        // The last of them drops the events.
        drop((poller, producer, ring));
        assert_eq!(dropped.load(Ordering::Relaxed), 8, "{layout:?}");
    }
}
