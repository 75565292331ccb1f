//! Edge `FINISH_STAGE`, and consumers side by side.

use super::{exclusive, spinning, take};
use ringmain::ring::{Graph, Polled, Poller, RingBuilder};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::atomic::{AtomicU64, Ordering};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};

/// An event that an earlier stage marks, by a store that orders nothing.
#[derive(Debug)]
struct Marked {
    value: u64,
    mark: AtomicU64,
}

impl Marked {
    fn fill(&mut self, value: u64) {
        self.value = value;
        self.mark.store(0, Ordering::Relaxed);
    }
}

fn marked(capacity: usize) -> Graph<Marked> {
    RingBuilder::new(capacity, || Marked { value: 0, mark: AtomicU64::new(0) })
        .expect("a power of two")
        .wait(WaitStrategy::BusySpin)
        .graph()
}

/// Marks `count` events, or those that come before the ring is finished.
fn mark(poller: &mut Poller<Marked>, count: u64) -> u64 {
    let mut done = 0;
    while done < count {
        match poller.poll(1, |event, _, _| event.mark.store(event.value, Ordering::Relaxed)) {
            Polled::Events(events) => done += events,
            Polled::Empty => thread::yield_now(),
            Polled::Finished => break,
        }
    }
    done
}

#[test]
fn both_of_two_consumers_see_every_event() {
    explore("fan-out", Bound::Preemptions(2), || {
        let mut graph = spinning(1);
        let (_, mut one) = graph.poller(&[]).expect("no dependency");
        let (_, mut other) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
        let writer = thread::spawn(move || {
            for value in 1..=2 {
                producer.publish(|event| event.set(value)).expect("an open ring");
            }
        });
        let reader = thread::spawn(move || take(&mut other, 2));
        let mut early = 0;
        one.poll(1, |event, _, _| early = event.get());
        let late = take(&mut one, if early == 0 { 2 } else { 1 });
        assert_eq!(late.last(), Some(&2));
        assert_eq!(reader.join().expect("the reader panicked"), [1, 2]);
        writer.join().expect("the writer panicked");
        early
    })
    .saw_exactly([0, 1])
    .in_at_least(500);
}

#[test]
fn a_later_stage_sees_what_an_earlier_one_did() {
    explore("pipeline", Bound::Preemptions(2), || {
        let mut graph = marked(1);
        let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
        let writer = thread::spawn(move || {
            for value in 1..=2 {
                producer.publish(|event| event.fill(value)).expect("an open ring");
            }
        });
        let marker = thread::spawn(move || mark(&mut earlier, 2));
        let mut seen = Vec::new();
        let mut early = None;
        while seen.len() < 2 {
            let polled = later.poll(2, |event, _, _| {
                assert_eq!(event.mark.load(Ordering::Relaxed), event.value, "the earlier stage had not finished");
                seen.push(event.value);
            });
            early.get_or_insert(seen.len());
            if polled == Polled::Empty {
                thread::yield_now();
            }
        }
        assert_eq!(seen, [1, 2]);
        assert_eq!(marker.join().expect("the earlier stage panicked"), 2);
        writer.join().expect("the writer panicked");
        early
    })
    .saw_exactly([Some(0), Some(1), Some(2)])
    .in_at_least(500);
}

#[test]
fn a_stage_that_leaves_opens_no_way_past_the_one_before_it() {
    explore("middle stage leaves", Bound::Preemptions(3), || {
        let mut graph = marked(2);
        let (first, mut earliest) = graph.poller(&[]).expect("no dependency");
        let (second, middle) = graph.poller(&[first]).expect("its own ring");
        let (_, mut last) = graph.poller(&[second]).expect("its own ring");
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.fill(value)).expect("an open ring with room");
        }
        let marker = thread::spawn(move || mark(&mut earliest, 2));
        let leaver = thread::spawn(move || drop(middle));
        let mut seen = 0;
        last.poll(2, |event, _, _| {
            assert_eq!(event.mark.load(Ordering::Relaxed), event.value, "the way past the earliest was open");
            seen += 1;
        });
        leaver.join().expect("the leaving stage panicked");
        assert_eq!(marker.join().expect("the earliest stage panicked"), 2);
        seen
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(50);
}

#[test]
fn nothing_passes_a_halted_stage() {
    explore("halted stage", Bound::Preemptions(3), || {
        let mut graph = marked(2);
        let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, ring) = graph.exclusive().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.fill(value)).expect("an open ring with room");
        }
        let marker = thread::spawn(move || mark(&mut earlier, 2));
        let reader = thread::spawn(move || {
            let mut seen = 0;
            for _ in 0..2 {
                later.poll(2, |event, _, _| {
                    assert_eq!(event.mark.load(Ordering::Relaxed), event.value, "the later stage passed the earlier");
                    seen += 1;
                });
            }
            seen
        });
        ring.halt();
        let marked = marker.join().expect("the earlier stage panicked");
        let seen = reader.join().expect("the later stage panicked");
        assert!(seen <= marked);
        (marked, seen)
    })
    .saw_exactly([(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
    .in_at_least(500);
}

#[test]
fn a_poller_that_finished_every_event_is_told_the_end_with_the_last_stage() {
    explore("end of one", Bound::Exhaustive, || {
        let (mut producer, mut poller, ring) = exclusive(2);
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let closer = thread::spawn(move || ring.close());
        let early = poller.poll(1, |event, _, _| assert_eq!(event.get(), 1));
        assert_eq!(early, Polled::Events(1));
        let end = poller.poll(1, |_, _, _| panic!("there was one event"));
        closer.join().expect("the closer panicked");
        assert_eq!(poller.poll(1, |_, _, _| panic!("there was one event")), Polled::Finished);
        end == Polled::Finished
    })
    .saw_exactly([false, true])
    .in_at_least(3);
}
