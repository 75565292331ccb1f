//! Faults of the ring's users: closures, handlers, hooks and threads that panic or die, and publishing from the inside.

use ringmain::ring::{
    Batch, BuildError, Called, ConsumerOptions, EventHandler, Graph, Layout, MultiProducer, Overflow, Polled,
    Poller, PublishError, RingBuilder, Sequence, Stopped,
};
use ringmain::wait::WaitStrategy;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for the slowest machine; reached only where something hangs.
const LIMIT: Duration = Duration::from_secs(30);

const BOTH: [Layout; 2] = [Layout::Stamped, Layout::Dense];

fn graph(layout: Layout, capacity: usize) -> Graph<u64> {
    RingBuilder::new(capacity, || 0_u64).expect("a power of two").layout(layout).graph()
}

/// A panic without a report on standard error.
fn quiet_panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

fn panics<R>(f: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

/// Runs `body` on a thread of its own and fails if it hangs.
fn within_limit<R: Send + 'static>(what: &str, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, is_done) = channel();
    let thread = thread::spawn(move || {
        let result = body();
        let _ = done.send(());
        result
    });
    assert_ne!(is_done.recv_timeout(LIMIT), Err(RecvTimeoutError::Timeout), "{what} hangs");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// All that is there, and whether the ring has ended.
fn rest(poller: &mut Poller<u64>) -> (Vec<(Sequence, u64)>, bool) {
    let started = Instant::now();
    let mut seen = Vec::new();
    loop {
        assert!(started.elapsed() < LIMIT, "the ring does not run empty");
        match poller.poll(16, |event, sequence, _| seen.push((sequence, *event))) {
            Polled::Events(_) | Polled::Missed(_) => {}
            Polled::Empty => return (seen, false),
            Polled::Finished => return (seen, true),
        }
    }
}

// Fill closures.

#[test]
fn a_panic_in_the_middle_of_a_batch_publishes_what_was_filled_before_and_leaves_no_hole() {
    for layout in BOTH {
        for panics_at in 0..5 {
            let mut graph = graph(layout, 8);
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.exclusive().expect("no threads");
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
    for layout in BOTH {
        let mut graph = graph(layout, 4);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.exclusive().expect("no threads");
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
        let mut graph = graph(Layout::Stamped, capacity);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.multi().expect("no threads");
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
    let mut graph = graph(Layout::Stamped, 16);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.multi().expect("no threads");
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
        let mut graph = graph(Layout::Stamped, 64);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (_, mut leased) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.multi().expect("no threads");
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
        let mut graph = graph(Layout::Stamped, 64);
        let (_, raced) = graph.worker_pollers(&[], 1).expect("no dependency");
        let (_, keyed) = graph.keyed_worker_pollers(&[], 1, Some(1), |_| 0).expect("no dependency");
        let (mut producer, _ring) = graph.multi().expect("no threads");
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
    for layout in BOTH {
        let mut graph = graph(layout, 2);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.exclusive().expect("no threads");
        for value in 0..6 {
            *producer.claim().expect("room") = 77;
            let _leaked = std::mem::ManuallyDrop::new(producer.claim().expect("room"));
            assert_eq!(ring.claimed(), value);
            let mut claim = producer.claim().expect("room");
            *claim = value;
            assert_eq!(claim.publish(), Ok(value));
            assert_eq!(rest(&mut poller).0, [(value, value)]);
        }
    }
}

// Threads that die.

#[test]
fn a_producer_thread_that_dies_takes_nobody_with_it() {
    within_limit("a ring whose producer died", || {
        let mut graph = graph(Layout::Stamped, 4);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (producer, ring) = graph.multi().expect("no threads");
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
    for layout in BOTH {
        within_limit("a ring whose only producer died", move || {
            let mut graph = graph(layout, 8);
            let (sink, source) = channel();
            let send = move |event: &u64, _, _| sink.send(*event).expect("the test listens");
            graph.consumer("sink", &[], send).expect("no dependency");
            let (mut producer, mut ring) = graph.exclusive().expect("a thread");
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
    for layout in BOTH {
        // Each call panics, or every second or third.
        for every in 1..=3 {
            within_limit("shaky handlers", move || {
                let mut graph = graph(layout, 16);
                let (seen, source) = channel();
                let starts: Arc<AtomicU64> = Arc::default();
                let make = {
                    let starts = starts.clone();
                    move || Shaky { calls: 0, every, seen, starts, own: std::rc::Rc::new(()) }
                };
                graph.consumer_with(ConsumerOptions::new("shaky"), make).expect("no dependency");
                let (mut producer, mut ring) = graph.exclusive().expect("a thread");
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
        let mut graph = graph(Layout::Stamped, 2);
        let make = || -> Shaky { quiet_panic() };
        graph.consumer_with(ConsumerOptions::new("unmade"), make).expect("no dependency");
        let (mut producer, mut ring) = graph.exclusive().expect("a thread");
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
fn batch_hooks_tell_size_and_depth_and_keep_to_the_longest_batch() {
    for (layout, longest) in [(Layout::Stamped, 3), (Layout::Dense, 3), (Layout::Stamped, u64::MAX)] {
        within_limit("batches", move || {
            let mut graph = graph(layout, 64);
            let (sizes, source) = channel();
            let (open, gate) = channel();
            let make = move || Batches { sizes, current: (0, 0, 0, 0), gate: Some(gate) };
            let options = ConsumerOptions::new("batches").longest_batch(longest);
            graph.consumer_with(options, make).expect("no dependency");
            let (mut producer, mut ring) = graph.exclusive().expect("a thread");
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

// Publishing from the inside.

#[test]
fn a_publish_from_a_handler_works_while_there_is_room_and_says_so_when_it_would_deadlock() {
    let mut graph = graph(Layout::Stamped, 2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.multi().expect("no threads");
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
        for layout in BOTH {
            let mut graph = graph(layout, 4);
            let own = Arc::new(Mutex::new(None));
            let (seen, source) = channel();
            let handle: Arc<Mutex<Option<ringmain::ring::ExclusiveProducer<u64>>>> = own.clone();
            let handler = move |event: &u64, _, _| {
                let mut producer = handle.lock().expect("no handler panics with it");
                let producer = producer.as_mut().expect("it is there before the first event");
                let outcome = producer.publish_batch(9, |_, inner| *inner = event + 1);
                seen.send((*event, outcome.map_err(|error| (error.published, error.reason))))
                    .expect("the test listens");
            };
            graph.consumer("inside", &[], handler).expect("no dependency");
            let (producer, ring) = graph.exclusive().expect("a thread");
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
    let mut graph = graph(Layout::Stamped, 2);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.multi().expect("no threads");
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
    let (mut producer, _ring) = graph(Layout::Stamped, 1).multi().expect("no threads");
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
        let mut graph = RingBuilder::new(1, factory).expect("a power of two").graph();
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.multi().expect("no threads");
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
        let mut graph = graph(Layout::Stamped, 2);
        // One that is not polled keeps the ring full, whether the leaver still counts or not.
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (hand_over, handed_over) = channel();
        let (answers, answered) = channel();
        let make = move || LastWords { producer: handed_over.recv().expect("the test sends it"), answers };
        let id = graph.consumer_with(ConsumerOptions::new("talker"), make).expect("no dependency");
        let (producer, mut ring) = graph.multi().expect("a thread");
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
        let mut first = graph(Layout::Stamped, 2);
        let mut second = graph(Layout::Stamped, 1);
        let (_, mut sink) = second.poller(&[]).expect("no dependency");
        let (mut onward, _second_ring) = second.multi().expect("no threads");
        let handler = move |event: &u64, _, _| {
            onward.publish(|copy| *copy = *event).expect("the other ring is being read");
        };
        first.consumer("bridge", &[], handler).expect("no dependency");
        let (mut producer, _first_ring) = first.exclusive().expect("a thread");
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

// Positions that are lost, and time that is up.

#[test]
fn a_poller_that_has_lost_its_position_is_ready_to_say_so() {
    let mut graph = graph(Layout::Stamped, 4);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (_producer, _ring) = graph.exclusive().expect("no threads");
    let overseer = poller.overseer();
    let called = poller.lease().call(0, 0, || assert!(matches!(overseer.stop(), Stopped::InCall(_))));
    assert!(matches!(called, Called::TakenOver), "{called:?}");
    assert!(poller.is_ready(), "a poll has something to tell");
    assert!(poller.wait(WaitStrategy::Blocking, LIMIT), "a wait for it is over at once");
    assert_eq!(poller.poll(1, |_, _, _| panic!("its position is lost")), Polled::Finished);
}

/// A producer that waits holds out for more than a single free slot, though not beyond its deadline.
#[test]
fn a_publish_that_waits_takes_any_room_there_is_at_its_deadline() {
    /// Shorter than a producer holds out.
    const WAITS: Duration = Duration::from_micros(4);
    const CAPACITY: usize = 64;
    /// The consumer lets one slot go, and notes when, in each of so many rounds.
    const ROUNDS: u64 = 2_000;
    /// Enough rounds in which the slot was free in time, on a machine that has threads run side by side.
    const ENOUGH: u64 = 200;

    fn spin_until(mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        let mut looks = 0_u32;
        while !is_so() {
            looks += 1;
            if looks.is_multiple_of(1_000) {
                assert!(started.elapsed() < LIMIT, "the other thread does not come");
                thread::yield_now();
            }
        }
    }

    let builder = RingBuilder::new(CAPACITY, || 0_u64).expect("a power of two").wait(WaitStrategy::BusySpin);
    let mut graph = builder.graph();
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.exclusive().expect("no threads");
    producer.publish_batch(CAPACITY, |_, _| {}).expect("room for all");
    let epoch = Instant::now();
    let now = || epoch.elapsed().as_nanos() as u64;
    let (begun, freed, freed_at) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                spin_until(|| begun.load(Ordering::Acquire) >= round);
                if begun.load(Ordering::Relaxed) > ROUNDS {
                    return;
                }
                assert_eq!(poller.poll(1, |_, _, _| {}), Polled::Events(1));
                // The slot is free for all to see before the clock is read.
                fence(Ordering::SeqCst);
                freed_at.store(now(), Ordering::Relaxed);
                freed.store(round, Ordering::Release);
            }
        });
        let mut in_time = 0;
        for round in 1..=ROUNDS {
            begun.store(round, Ordering::Release);
            let until = now() + WAITS.as_nanos() as u64;
            let outcome = producer.publish_timeout(WAITS, |_| {});
            spin_until(|| freed.load(Ordering::Acquire) == round);
            if freed_at.load(Ordering::Relaxed) < until {
                in_time += 1;
                outcome.expect("there was room before the deadline");
            } else if outcome.is_err() {
                producer.try_publish(|_| {}).expect("there is room now");
            }
            if in_time == ENOUGH {
                break;
            }
        }
        println!("{in_time} rounds were in time");
        begun.store(u64::MAX, Ordering::Release);
    });
}

// The ends of the numbers.

#[test]
fn sequences_end_where_they_end_and_not_before() {
    const END: Sequence = 1 << 62;
    for layout in BOTH {
        for (capacity, before) in [(1, 5), (2, 5), (8, 20), (8, 3)] {
            let builder = RingBuilder::new(capacity, || 0_u64).expect("a power of two").layout(layout);
            let mut graph = builder.first_sequence(END - before).graph();
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.exclusive().expect("no threads");
            for sequence in END - before..END {
                assert_eq!(producer.publish(|event| *event = sequence), Ok(sequence), "{layout:?}");
                assert_eq!(rest(&mut poller), (vec![(sequence, sequence)], false));
            }
            for _ in 0..3 {
                let refused = producer.publish(|_| panic!("there are no more sequences"));
                assert_eq!(refused, Err(PublishError::Exhausted));
            }
            assert!(matches!(producer.claim(), Err(PublishError::Exhausted)));
            ring.close();
            assert_eq!(rest(&mut poller), (vec![], true));
        }
    }
}

#[test]
fn many_producers_use_up_all_sequences_and_no_more() {
    const END: Sequence = 1 << 62;
    for overflow in [Overflow::default(), Overflow::Reject, Overflow::DropNewest, Overflow::DropOldest] {
        within_limit("the last sequences", move || {
            let builder = RingBuilder::new(8, || 0_u64).expect("a power of two").overflow(overflow);
            let mut graph = builder.first_sequence(END - 100).graph();
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (producer, ring) = graph.multi().expect("no threads");
            let writers: Vec<_> = (0..3)
                .map(|_| {
                    let mut producer = producer.clone();
                    thread::spawn(move || {
                        let mut published = 0;
                        let started = Instant::now();
                        loop {
                            assert!(started.elapsed() < LIMIT, "sequences do not end");
                            match producer.publish(|_| {}) {
                                Ok(_) => published += 1,
                                Err(PublishError::Exhausted) => return published,
                                Err(PublishError::Full | PublishError::Dropped) => thread::yield_now(),
                                Err(reason) => panic!("{reason}"),
                            }
                        }
                    })
                })
                .collect();
            let mut next = END - 100;
            let started = Instant::now();
            while next < END {
                assert!(started.elapsed() < LIMIT, "the last events do not come");
                match poller.poll(8, |_, sequence, _| {
                    assert_eq!(sequence, next);
                    next += 1;
                }) {
                    Polled::Missed(missed) => next = missed.to,
                    Polled::Empty => thread::yield_now(),
                    Polled::Events(_) => {}
                    Polled::Finished => panic!("nobody has closed it"),
                }
            }
            let published: u64 = writers.into_iter().map(|writer| writer.join().expect("it ends")).sum();
            assert_eq!((published, ring.claimed()), (100, END), "{overflow:?}");
        });
    }
}

#[test]
fn a_ring_may_start_anywhere() {
    for layout in BOTH {
        for first in [0, 1, 2, 7, 8, 9, 1_000_003, (1 << 62) - 200] {
            let builder = RingBuilder::new(8, || 0_u64).expect("a power of two").layout(layout);
            let mut graph = builder.first_sequence(first).graph();
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.exclusive().expect("no threads");
            assert_eq!(rest(&mut poller), (vec![], false), "nothing is there before the first event");
            assert_eq!((ring.claimed(), ring.released(), ring.depth()), (first, first, 0));
            for lap in 0..5 {
                producer.publish_batch(7, |place, event| *event = place as u64).expect("room for seven");
                let start = first + 7 * lap;
                let expected: Vec<_> = (0..7).map(|place| (start + place, place)).collect();
                assert_eq!(rest(&mut poller).0, expected);
            }
        }
    }
}

#[test]
fn a_dense_ring_is_for_one_producer() {
    assert!(matches!(graph(Layout::Dense, 8).multi(), Err(BuildError::DenseForMany)));
}
