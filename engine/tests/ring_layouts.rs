//! Events of all shapes in both layouts, slices, and consumers that change events or mix with others.

mod ring_support;

use ring_support::{BOTH_LAYOUTS, LIMIT, drain, quiet_panic, within_limit};
use ringmain::ring::{BuildError, ConsumerOptions, Layout, Polled, RingBuilder};
use ringmain::wait::WaitStrategy;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// An event that can tell whether it is whole, aligned, and which value it was filled with.
trait Event: Send + Sync + 'static {
    fn empty() -> Self;
    fn fill(&mut self, value: u64);
    fn check(&self, value: u64);
}

impl Event for () {
    fn empty() {}
    fn fill(&mut self, _value: u64) {}
    fn check(&self, _value: u64) {}
}

impl Event for u8 {
    fn empty() -> Self {
        0
    }
    fn fill(&mut self, value: u64) {
        *self = value as Self;
    }
    fn check(&self, value: u64) {
        assert_eq!(*self, value as Self);
    }
}

/// Of a size that divides no line.
impl Event for [u8; 23] {
    fn empty() -> Self {
        [0; 23]
    }
    fn fill(&mut self, value: u64) {
        self.as_mut_slice().fill(value as u8);
    }
    fn check(&self, value: u64) {
        assert!(self.iter().all(|byte| *byte == value as u8), "torn");
    }
}

/// A page.
impl Event for [u64; 512] {
    fn empty() -> Self {
        [0; 512]
    }
    fn fill(&mut self, value: u64) {
        self.as_mut_slice().fill(value);
    }
    fn check(&self, value: u64) {
        assert!(self.iter().all(|word| *word == value), "torn");
    }
}

#[repr(align(256))]
struct Wide(u64);

impl Event for Wide {
    fn empty() -> Self {
        Self(0)
    }
    fn fill(&mut self, value: u64) {
        assert_eq!(std::ptr::from_ref(self).addr() % 256, 0);
        self.0 = value;
    }
    fn check(&self, value: u64) {
        assert_eq!(std::ptr::from_ref(self).addr() % 256, 0);
        assert_eq!(self.0, value);
    }
}

#[repr(align(4096))]
struct Nothing;

impl Event for Nothing {
    fn empty() -> Self {
        Self
    }
    fn fill(&mut self, _value: u64) {
        assert_eq!(std::ptr::from_ref(self).addr() % 4096, 0);
    }
    fn check(&self, _value: u64) {
        assert_eq!(std::ptr::from_ref(self).addr() % 4096, 0);
    }
}

/// One thread publishes, singly and in batches, and two others read, event by event and by the slice.
fn come_through<E: Event>(layout: Layout, capacity: usize) {
    const EVENTS: u64 = 500;
    let builder = RingBuilder::new(capacity, E::empty).expect("a power of two");
    let mut graph = builder.layout(layout).wait(WaitStrategy::Yielding).graph().expect("memory");
    let (_, mut singly) = graph.poller(&[]).expect("no dependency");
    let (_, mut sliced) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut value = 0;
            while value < EVENTS {
                let batch = (value % 7 + 1).min(EVENTS - value);
                let fill = |place, event: &mut E| event.fill(value + place as u64);
                producer.publish_batch(batch as usize, fill).expect("an open ring");
                value += batch;
            }
            ring.close();
        });
        scope.spawn(move || {
            let started = Instant::now();
            let mut next = 0;
            loop {
                assert!(started.elapsed() < LIMIT, "{next} events came");
                let polled = sliced.poll_slices(64, |events, first| {
                    assert_eq!(first, next, "slices follow each other");
                    assert!(layout == Layout::Dense || events.len() == 1);
                    assert!(
                        first % capacity as u64 + events.len() as u64 <= capacity as u64,
                        "over the seam"
                    );
                    for event in events {
                        event.check(next);
                        next += 1;
                    }
                });
                match polled {
                    Polled::Finished => break,
                    Polled::Empty => thread::yield_now(),
                    _ => {}
                }
            }
            assert_eq!(next, EVENTS);
        });
        let started = Instant::now();
        let mut next = 0;
        loop {
            assert!(started.elapsed() < LIMIT, "{next} events came");
            match singly.poll(64, |event, sequence, _| {
                assert_eq!(sequence, next);
                event.check(next);
                next += 1;
            }) {
                Polled::Finished => break,
                Polled::Empty => thread::yield_now(),
                _ => {}
            }
        }
        assert_eq!(next, EVENTS);
    });
}

#[test]
fn events_of_all_shapes_come_through_whole_in_both_layouts() {
    for layout in BOTH_LAYOUTS {
        for capacity in [1, 2, 64] {
            come_through::<()>(layout, capacity);
            come_through::<u8>(layout, capacity);
            come_through::<[u8; 23]>(layout, capacity);
            come_through::<[u64; 512]>(layout, capacity);
            come_through::<Wide>(layout, capacity);
            come_through::<Nothing>(layout, capacity);
        }
    }
}

#[test]
fn a_slice_ends_at_the_seam_of_the_ring_and_the_next_one_begins_there() {
    let mut graph = RingBuilder::new(64, || 0_u64)
        .expect("a power of two")
        .layout(Layout::Dense)
        .graph()
        .expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(60, |place, event| *event = place as u64).expect("room");
    while let Polled::Events(_) = poller.poll(64, |_, _, _| {}) {}
    producer.publish_batch(10, |place, event| *event = 60 + place as u64).expect("room");
    let mut slices = Vec::new();
    while let Polled::Events(_) =
        poller.poll_slices(64, |events, first| slices.push((first, events.to_vec())))
    {}
    assert_eq!(slices.iter().map(|(first, events)| (*first, events.len())).next(), Some((60, 4)));
    let mut next = 60;
    for (first, events) in slices {
        assert_eq!(first, next);
        assert!(events.iter().copied().eq(next..next + events.len() as u64));
        next += events.len() as u64;
    }
    assert_eq!(next, 70);
}

#[test]
fn a_slice_is_as_long_as_asked_for_at_most_and_one_that_panics_is_past() {
    let mut graph = RingBuilder::new(64, || 0_u64)
        .expect("a power of two")
        .layout(Layout::Dense)
        .graph()
        .expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(20, |place, event| *event = place as u64).expect("room");
    assert_eq!(
        poller.poll_slices(3, |events, first| assert_eq!((events.len(), first), (3, 0))),
        Polled::Events(3)
    );
    let panicking = || poller.poll_slices(4, |_, _| quiet_panic());
    assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
    assert_eq!(poller.next_sequence(), 7);
    assert_eq!(
        poller.poll_slices(1, |events, first| assert_eq!((events, first), (&[7][..], 7))),
        Polled::Events(1)
    );
}

/// Counts the makes and drops of events.
#[derive(Default)]
struct Census {
    made: AtomicU64,
    dropped: AtomicU64,
}

struct Citizen(Arc<Census>);

impl Citizen {
    fn new(census: &Arc<Census>) -> Self {
        census.made.fetch_add(1, Ordering::Relaxed);
        Self(census.clone())
    }
}

impl Drop for Citizen {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_event_is_dropped_exactly_once_in_both_layouts() {
    for layout in BOTH_LAYOUTS {
        let census = Arc::new(Census::default());
        let in_factory = census.clone();
        let builder = RingBuilder::new(8, move || Citizen::new(&in_factory)).expect("a power of two");
        let mut graph = builder.layout(layout).graph().expect("memory");
        let (_, mut poller) = graph.mut_poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        for _ in 0..20 {
            producer.publish(|event| *event = Citizen::new(&event.0)).expect("room");
            // Both sides may replace an event.
            assert_eq!(poller.poll(1, |event, _, _| *event = Citizen::new(&event.0)), Polled::Events(1));
        }
        let panicking = || {
            producer.publish_batch(4, |place, event| {
                *event = Citizen::new(&event.0);
                if place == 1 {
                    quiet_panic();
                }
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
        // Some are left unread.
        producer.publish_batch(3, |_, _| {}).expect("room for three");
        drop((producer, ring, poller));
        let (made, dropped) = (census.made.load(Ordering::Relaxed), census.dropped.load(Ordering::Relaxed));
        assert_eq!(made, dropped, "{layout:?}");
        assert!(made >= 8 + 40 + 2);
    }
}

#[test]
fn events_without_a_size_come_through() {
    let mut graph = RingBuilder::new(4, || ()).expect("a power of two").graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(3, |_, ()| {}).expect("room for three");
    ring.close();
    let mut count = 0;
    drain(&mut poller, |()| count += 1);
    assert_eq!(count, 3);
}

#[test]
fn events_of_a_page_come_through_untorn() {
    within_limit("pages", || {
        let mut graph =
            RingBuilder::new(2, || [0_u64; 512]).expect("a power of two").graph().expect("memory");
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        let writer = thread::spawn(move || {
            for value in 1..=500 {
                producer.publish(|event| event.fill(value)).expect("an open ring");
            }
            ring.close();
        });
        let mut next = 1;
        drain(&mut poller, |event| {
            assert!(event.iter().all(|&word| word == next), "torn");
            next += 1;
        });
        assert_eq!(next, 501);
        writer.join().expect("the writer panicked");
    });
}

#[test]
fn over_aligned_events_come_through_aligned() {
    #[repr(align(512))]
    struct Wide(u8);
    let mut graph = RingBuilder::new(4, || Wide(0)).expect("a power of two").graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    for value in 0..4 {
        producer
            .publish(|event| {
                assert!(std::ptr::from_ref(event).is_aligned());
                event.0 = value;
            })
            .expect("room");
    }
    ring.close();
    let mut seen = Vec::new();
    drain(&mut poller, |event| {
        assert_eq!(std::ptr::from_ref(event).addr() % 512, 0);
        seen.push(event.0);
    });
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[test]
fn every_event_is_dropped_exactly_once() {
    let census = Arc::new(Census::default());
    let in_factory = census.clone();
    let mut graph = RingBuilder::new(8, move || Citizen::new(&in_factory))
        .expect("a power of two")
        .graph()
        .expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    assert_eq!(census.made.load(Ordering::Relaxed), 8);
    for _ in 0..20 {
        producer.publish(|event| *event = Citizen::new(&event.0)).expect("room");
        assert_eq!(poller.poll(1, |_, _, _| {}), Polled::Events(1));
    }
    // One is made anew by the ring, and some are left unread.
    assert!(catch_unwind(AssertUnwindSafe(|| producer.publish(|_| quiet_panic()))).is_err());
    producer.publish_batch(3, |_, _| {}).expect("room for three");
    assert_eq!(census.made.load(Ordering::Relaxed), 29);
    assert_eq!(census.dropped.load(Ordering::Relaxed), 21);
    drop((producer, ring));
    assert_eq!(census.dropped.load(Ordering::Relaxed), 21, "the poller still keeps the ring");
    drop(poller);
    assert_eq!(census.dropped.load(Ordering::Relaxed), 29);
}

// Consumers that change events.

#[test]
fn a_mutating_consumer_stands_alone_at_its_stage() {
    let mut graph = RingBuilder::new(8, || 0_u64).expect("a power of two").graph().expect("memory");
    let (mutating, _poller) = graph.mut_poller(&[]).expect("the first consumer");
    let beside = graph.poller(&[]).expect_err("beside one that changes events");
    assert_eq!(beside, BuildError::NotAlone { name: "poller".into(), other: "mut poller".into() });
    assert!(matches!(graph.mut_poller(&[]), Err(BuildError::NotAlone { .. })));
    let (left, _left) = graph.poller(&[mutating]).expect("behind it");
    let (right, _right) = graph.poller(&[mutating]).expect("behind it");
    assert!(matches!(graph.mut_poller(&[left]), Err(BuildError::NotAlone { .. })), "beside the right one");
    graph.mut_consumer("last", &[left, right], |_, _, _| {}).expect("behind both");
    let (_producer, ring) = graph.build_single_producer().expect("a thread");
    assert!(matches!(ring.join_poller(&[mutating], LIMIT), Err(BuildError::NotAlone { .. })));
    assert!(matches!(ring.join_poller(&[], LIMIT), Err(BuildError::NotAlone { .. })));
}

/// source, changed by a mutating consumer, read by two sides of which one is polled, joined by another such one.
#[test]
fn a_diamond_of_mutating_managed_and_polled_consumers_hands_events_on() {
    for layout in BOTH_LAYOUTS {
        let builder = RingBuilder::new(16, || [0_u64; 4]).expect("a power of two").layout(layout);
        let mut graph = builder.wait(WaitStrategy::Blocking).graph().expect("memory");
        let square = |event: &mut [u64; 4], _, _| event[1] = event[0] * event[0];
        let source = graph.mut_consumer("square", &[], square).expect("no dependency");
        let check = |event: &[u64; 4], sequence: u64, _| {
            assert_eq!(*event, [sequence, sequence * sequence, 0, 0]);
        };
        let left = graph.consumer_with(ConsumerOptions::new("left").after(&[source]), move || check);
        let (right, mut polled) = graph.poller(&[source]).expect("behind the source");
        let join = [left.expect("behind the source"), right];
        let (end, mut last) = graph.mut_poller(&join).expect("behind both sides");
        let sum = Arc::new(AtomicU64::new(0));
        let total = sum.clone();
        let add = move |event: &[u64; 4], _, _| {
            total.fetch_add(event[3], Ordering::Relaxed);
        };
        graph.consumer("sum", &[end], add).expect("behind the end");
        let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
        let writer = thread::spawn(move || {
            producer.publish_batch(2_000, |place, event| *event = [place as u64, 0, 0, 0]).expect("open");
        });
        let started = Instant::now();
        let (mut read, mut written) = (0, 0);
        while written < 2_000 {
            assert!(started.elapsed() < LIMIT, "{read} and {written} events came");
            if let Polled::Events(events) = polled.poll(8, |event, sequence, _| check(event, sequence, false))
            {
                read += events;
            }
            let polled = last.poll(8, |event, sequence, _| {
                assert!(sequence < read, "a side was not waited for");
                event[3] = event[1] + 1;
            });
            match polled {
                Polled::Events(events) => written += events,
                _ => thread::yield_now(),
            }
        }
        writer.join().expect("the writer panicked");
        let reports = ring.shutdown(LIMIT).expect("it ends in time");
        assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
        assert_eq!(sum.load(Ordering::Relaxed), (0..2_000).map(|value| value * value + 1).sum::<u64>());
    }
}

#[test]
fn a_mut_poller_that_leaves_lets_those_behind_it_pass() {
    let mut graph = RingBuilder::new(4, || 0_u64).expect("a power of two").graph().expect("memory");
    let (first, mut mutating) = graph.mut_poller(&[]).expect("no dependency");
    let (_, mut last) = graph.poller(&[first]).expect("behind it");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
    producer.publish_batch(4, |_, event| *event = 1).expect("room for four");
    assert_eq!(mutating.poll(2, |event, _, _| *event = 2), Polled::Events(2));
    assert_eq!((mutating.next_sequence(), mutating.lag()), (2, 2));
    drop(mutating);
    let mut seen = Vec::new();
    while let Polled::Events(_) = last.poll(8, |event, _, _| seen.push(*event)) {}
    assert_eq!(seen, [2, 2, 1, 1]);
}
