//! Edge `FINISH_STAGE`, and consumers side by side.

use super::{single, spinning, take};
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
        .expect("memory")
}

/// Marks `count` events, or those that come before the ring is finished.
fn mark(poller: &mut Poller<Marked>, count: u64) -> u64 {
    let mut done = 0;
    while done < count {
        match poller.poll(1, |event, _, _| event.mark.store(event.value, Ordering::Relaxed)) {
            Polled::Events(events) => done += events,
            Polled::Empty | Polled::Missed(_) => thread::yield_now(),
            Polled::Finished => break,
        }
    }
    done
}

#[test]
fn a_producer_waits_for_both_of_two_consumers() {
    explore("fan-out", Bound::Preemptions(3), || {
        let mut graph = spinning(1);
        let (_, one) = graph.poller(&[]).expect("no dependency");
        let (_, other) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        // An overwritten event would be a race that the model sees.
        let readers = [one, other].map(|mut poller| {
            thread::spawn(move || {
                assert_eq!(take(&mut poller, 1), [1]);
                poller
            })
        });
        let had_room = producer.try_publish(|event| event.set(2)).is_ok();
        let pollers = readers.map(|reader| reader.join().expect("a reader panicked"));
        if !had_room {
            producer.try_publish(|event| event.set(2)).expect("both consumers are done with the only slot");
        }
        for mut poller in pollers {
            assert_eq!(take(&mut poller, 1), [2]);
        }
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(50);
}

#[test]
fn a_later_stage_sees_what_an_earlier_one_did() {
    explore("pipeline", Bound::Exhaustive, || {
        let mut graph = marked(2);
        let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.fill(value)).expect("an open ring with room");
        }
        let marker = thread::spawn(move || mark(&mut earlier, 2));
        let mut seen = Vec::new();
        let mut early = None;
        while seen.len() < 2 {
            let polled = later.poll(2, |event, _, _| {
                assert_eq!(
                    event.mark.load(Ordering::Relaxed),
                    event.value,
                    "the earlier stage had not finished"
                );
                seen.push(event.value);
            });
            early.get_or_insert(seen.len());
            if polled == Polled::Empty {
                thread::yield_now();
            }
        }
        assert_eq!(seen, [1, 2]);
        assert_eq!(marker.join().expect("the earlier stage panicked"), 2);
        early
    })
    .saw_exactly([Some(0), Some(1), Some(2)])
    .in_at_least(50);
}

/// The producer laps what the last stage has released, and not what the first has.
#[test]
fn a_producer_waits_for_the_last_stage() {
    explore("pipeline gate", Bound::Preemptions(3), || {
        let mut graph = marked(1);
        let (first, mut earlier) = graph.poller(&[]).expect("no dependency");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.fill(1)).expect("an open ring with room");
        let marker = thread::spawn(move || mark(&mut earlier, 1));
        let reader = thread::spawn(move || {
            let mut seen = 0;
            later.poll(1, |event, _, _| seen = event.value);
            (seen, later)
        });
        let had_room = producer.try_publish(|event| event.fill(2)).is_ok();
        assert_eq!(marker.join().expect("the earlier stage panicked"), 1);
        let (seen, _later) = reader.join().expect("the later stage panicked");
        assert!(seen == 1 || !had_room, "a slot was reused before the last stage had read it");
        (seen, had_room)
    })
    .saw_exactly([(0, false), (1, false), (1, true)])
    .in_at_least(50);
}

/// Its writes are seen whole by the stage behind it and by the producer that uses the slot again.
#[test]
fn what_a_mutating_consumer_makes_of_an_event_is_seen_by_all_who_come_after() {
    explore("mutating consumer", Bound::Exhaustive, || {
        let mut graph = spinning(1);
        let (first, mut mutating) = graph.mut_poller(&[]).expect("alone");
        let (_, mut later) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let changer = thread::spawn(move || {
            mutating.poll(1, |event, _, _| event.set(event.get() + 10));
            mutating
        });
        let reader = thread::spawn(move || {
            let mut seen = None;
            later.poll(1, |event, _, _| seen = Some(event.get()));
            (seen, later)
        });
        let mut found = None;
        // A full ring is one of the outcomes.
        let _ = producer.try_publish(|event| found = Some(event.get()));
        let _mutating = changer.join().expect("the mutating consumer panicked");
        let (seen, _later) = reader.join().expect("the later stage panicked");
        (seen, found)
    })
    .saw_exactly([(None, None), (Some(11), None), (Some(11), Some(11))])
    .in_at_least(50);
}

#[test]
fn a_stage_that_leaves_opens_no_way_past_the_one_before_it() {
    explore("middle stage leaves", Bound::Preemptions(3), || {
        let mut graph = marked(2);
        let (first, mut earliest) = graph.poller(&[]).expect("no dependency");
        let (second, middle) = graph.poller(&[first]).expect("its own ring");
        let (_, mut last) = graph.poller(&[second]).expect("its own ring");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
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
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.fill(value)).expect("an open ring with room");
        }
        let halter = thread::spawn(move || {
            assert_eq!(mark(&mut earlier, 1), 1);
            ring.halt();
            assert_eq!(earlier.poll(1, |_, _, _| panic!("the ring was halted")), Polled::Finished);
            drop(earlier);
        });
        let mut seen = 0;
        let polled = later.poll(2, |event, _, _| {
            assert_eq!(event.mark.load(Ordering::Relaxed), event.value, "the later stage passed the earlier");
            seen += 1;
        });
        halter.join().expect("the earlier stage panicked");
        assert_eq!(later.poll(2, |_, _, _| panic!("the ring was halted")), Polled::Finished);
        (seen, polled == Polled::Finished)
    })
    .saw_exactly([(0, false), (0, true), (1, false)])
    .in_at_least(50);
}

#[test]
fn a_consumer_that_has_done_everything_finds_the_end() {
    explore("end of one", Bound::Exhaustive, || {
        let (mut producer, mut poller, ring) = single(2);
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
