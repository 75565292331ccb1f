//! The dropping policies from outside: every event that was offered is counted exactly once, whoever loses it.

mod ring_support;

use ring_support::LIMIT;
use ringmain::ring::{
    BuildError, Called, ConsumerOptions, EventHandler, Graph, Layout, Missed, Overflow, Polled, Poller,
    PublishError, RingBuilder, Sequence, Stopped,
};
use ringmain::wait::WaitStrategy;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

fn dropping(capacity: usize, overflow: Overflow) -> Graph<u64> {
    RingBuilder::new(capacity, || u64::MAX)
        .expect("a power of two")
        .overflow(overflow)
        .graph()
        .expect("memory")
}

/// What a consumer has gone through: it checks that nothing comes twice and that no sequence is left out.
#[derive(Debug, Default)]
struct Tiles {
    next: Sequence,
    seen: u64,
    missed: u64,
}

impl Tiles {
    fn see(&mut self, sequence: Sequence) {
        assert_eq!(sequence, self.next, "a gap, or an event that came twice");
        self.next += 1;
        self.seen += 1;
    }

    fn miss(&mut self, missed: Missed) {
        assert_eq!(missed.from, self.next, "what was missed does not follow what was seen");
        assert!(missed.to > missed.from, "nothing was missed");
        self.next = missed.to;
        self.missed += missed.to - missed.from;
    }

    fn drain(&mut self, poller: &mut Poller<u64>, mut check: impl FnMut(u64, Sequence)) {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < LIMIT, "the ring does not end");
            let polled = poller.poll(64, |event, sequence, _| {
                self.see(sequence);
                check(*event, sequence);
            });
            match polled {
                Polled::Events(_) => {}
                Polled::Missed(missed) => self.miss(missed),
                Polled::Empty => thread::yield_now(),
                Polled::Finished => return,
            }
        }
    }
}

#[test]
fn drop_newest_counts_what_it_refuses_and_keeps_what_it_has() {
    for capacity in [1, 2, 16] {
        let mut graph = dropping(capacity, Overflow::DropNewest);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        let capacity = capacity as u64;
        for value in 0..capacity {
            assert_eq!(producer.publish(|event| *event = value), Ok(value));
        }
        for dropped in 0..5 {
            assert_eq!(ring.dropped(), dropped);
            assert_eq!(producer.publish(|_| panic!("it is dropped unfilled")), Err(PublishError::Dropped));
        }
        assert_eq!(producer.try_publish(|_| panic!("the ring is full")), Err(PublishError::Full));
        assert_eq!(ring.dropped(), 5, "what was only tried is not dropped");
        ring.close();
        let mut tiles = Tiles::default();
        tiles.drain(&mut poller, |event, sequence| assert_eq!(event, sequence));
        assert_eq!((tiles.seen, tiles.missed), (capacity, 0));
    }
}

#[test]
fn the_rest_of_a_batch_that_does_not_fit_is_dropped_and_counted() {
    let mut graph = dropping(4, Overflow::DropNewest);
    let (_, _poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    let error = producer.publish_batch(7, |_, _| {}).expect_err("the ring has room for four");
    assert_eq!((error.published, error.reason), (4, PublishError::Dropped));
    assert_eq!(ring.dropped(), 3);
}

#[test]
fn drop_oldest_keeps_the_newest_and_says_what_was_missed() {
    for layout in [Layout::Stamped, Layout::Dense] {
        for capacity in [1, 2, 16_u64] {
            let builder = RingBuilder::new(capacity as usize, || 0_u64).expect("a power of two");
            let mut graph = builder.layout(layout).overflow(Overflow::DropOldest).graph().expect("memory");
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_single_producer().expect("no threads");
            for value in 0..capacity + 5 {
                assert_eq!(producer.publish(|event| *event = value), Ok(value));
            }
            assert!(poller.is_ready(), "that some were missed is news");
            assert_eq!(
                poller.poll(64, |_, _, _| panic!("first comes what was missed")),
                Polled::Missed(Missed { from: 0, to: 5 })
            );
            ring.close();
            let mut tiles = Tiles { next: 5, ..Tiles::default() };
            tiles.drain(&mut poller, |event, sequence| assert_eq!(event, sequence));
            assert_eq!((tiles.seen, tiles.missed), (capacity, 0));
            assert_eq!((poller.missed(), ring.dropped()), (5, 0));
            assert_eq!(ring.missed(), [("poller".to_owned(), 5)]);
        }
    }
}

#[test]
fn a_batch_longer_than_the_ring_leaves_its_end_there() {
    let mut graph = dropping(4, Overflow::DropOldest);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    assert_eq!(producer.publish_batch(10, |place, event| *event = place as u64), Ok(()));
    ring.close();
    let mut tiles = Tiles::default();
    tiles.drain(&mut poller, |event, sequence| assert_eq!(event, sequence));
    assert_eq!((tiles.seen, tiles.missed), (4, 6));
}

#[test]
fn what_a_consumer_holds_is_not_taken_from_it_and_the_newest_is_dropped() {
    let mut graph = dropping(8, Overflow::DropOldest);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    producer.publish_batch(8, |place, event| *event = place as u64).expect("room for eight");
    let mut handled = Vec::new();
    let polled = poller.poll(2, |event, _, _| {
        handled.push(*event);
        assert_eq!(producer.publish(|_| panic!("the oldest is held")), Err(PublishError::Dropped));
    });
    assert_eq!((polled, handled), (Polled::Events(2), vec![0, 1]));
    assert_eq!(ring.dropped(), 2);
    // Not held any more: two are free, and the third takes the oldest away.
    for value in 8..11 {
        assert_eq!(producer.publish(|event| *event = value), Ok(value));
    }
    assert_eq!(poller.poll(1, |_, _, _| {}), Polled::Missed(Missed { from: 2, to: 3 }));
}

#[test]
fn what_another_fill_closure_has_in_hand_is_not_taken_away() {
    let mut graph = dropping(1, Overflow::DropOldest);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    let mut other = producer.clone();
    let published = producer.publish(|event| {
        assert_eq!(other.publish(|_| panic!("the only slot is in hand")), Err(PublishError::Dropped));
        *event = 1;
    });
    assert_eq!((published, ring.dropped()), (Ok(0), 1));
    assert_eq!(other.publish(|event| *event = 2), Ok(1));
    assert_eq!(poller.poll(1, |_, _, _| {}), Polled::Missed(Missed { from: 0, to: 1 }));
    assert_eq!(poller.poll(1, |event, _, _| assert_eq!(*event, 2)), Polled::Events(1));
}

#[test]
fn the_oldest_event_is_taken_from_all_consumers_or_from_none() {
    for holds_first in [true, false] {
        let mut graph = dropping(4, Overflow::DropOldest);
        let mut pollers = [(); 2].map(|()| graph.poller(&[]).expect("no dependency").1);
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
        producer.publish_batch(4, |place, event| *event = place as u64).expect("room for four");
        if holds_first {
            pollers.reverse();
        }
        let [free, holding] = &mut pollers;
        let polled = holding.poll(1, |_, _, _| {
            assert_eq!(producer.publish(|_| panic!("the oldest is held")), Err(PublishError::Dropped));
        });
        assert_eq!((polled, ring.dropped()), (Polled::Events(1), 1));
        let mut tiles = Tiles::default();
        ring.close();
        tiles.drain(free, |event, sequence| assert_eq!(event, sequence));
        assert_eq!((tiles.seen, free.missed()), (4, 0), "one event was lost, and none came in its place");
    }
}

/// A call outside of a poll holds no event, until somebody takes the position over.
#[test]
fn what_remains_of_a_call_outside_a_poll_is_not_taken_away() {
    for taken_before in [0, 1, 3] {
        let mut graph = dropping(4, Overflow::DropOldest);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads");
        let supervisor = poller.supervisor();
        let (mut published, mut taken, mut seen) = (Vec::new(), None, Vec::new());
        // A panic in a call that was taken over would go unseen.
        let called = poller.lease().call(0, 7, || {
            published.extend((0..4 + taken_before).map(|value| producer.publish(|event| *event = value)));
            let Stopped::InCall(call) = supervisor.stop() else { return };
            let takeover = call.take_over().expect("it has not returned");
            let in_hand = takeover.for_each(Duration::ZERO, |sequence, event| {
                // It would overwrite what is being read.
                seen.push((sequence, *event, producer.publish(|event| *event = u64::MAX)));
            });
            taken = Some((takeover.sequence(), takeover.call().delivery(), in_hand));
        });
        assert_eq!(published, (0..4 + taken_before).map(Ok).collect::<Vec<_>>());
        assert_eq!(taken, Some((0, Some(7), vec![])));
        let remain = (taken_before..4 + taken_before).map(|value| (value, value, Err(PublishError::Dropped)));
        assert_eq!(seen, remain.collect::<Vec<_>>());
        assert!(matches!(called, Called::TakenOver), "{called:?}");
        assert_eq!(poller.poll(1, |_, _, _| panic!("its position is lost")), Polled::Finished);
        assert_eq!((ring.claimed(), ring.dropped()), (4 + taken_before, 4));
    }
}

#[test]
fn a_consumer_holds_a_quarter_of_the_ring_at_most() {
    let mut graph = dropping(16, Overflow::DropOldest);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(16, |_, _| {}).expect("room for sixteen");
    let mut taken = Vec::new();
    assert_eq!(poller.poll(8, |_, _, _| taken.push(producer.publish(|_| {}).is_ok())), Polled::Events(8));
    // A quarter is in hand; once it is released, there is room for as many.
    assert_eq!(taken, [false, false, false, false, true, true, true, true]);
}

#[test]
fn a_handler_that_panics_lets_go_of_what_it_held() {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    let mut graph = dropping(8, Overflow::DropOldest);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(8, |_, _| {}).expect("room for eight");
    let panicking = || poller.poll(2, |_, _, _| resume_unwind(Box::new("on purpose")));
    assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
    for value in 8..10 {
        assert_eq!(producer.publish(|event| *event = value), Ok(value));
    }
    assert_eq!(poller.poll(2, |_, _, _| {}), Polled::Missed(Missed { from: 1, to: 2 }));
    assert_eq!(ring.dropped(), 0);
}

#[test]
fn a_ring_that_drops_its_oldest_has_one_stage() {
    let mut graph = dropping(8, Overflow::DropOldest);
    let (first, _poller) = graph.poller(&[]).expect("no dependency");
    assert!(matches!(graph.poller(&[first]), Err(BuildError::StagesThatDrop { .. })));
    let (_producer, ring) = graph.build_single_producer().expect("no threads");
    assert!(matches!(ring.join_poller(&[first], LIMIT), Err(BuildError::StagesThatDrop { .. })));
}

#[test]
fn a_tombstone_can_be_missed_as_well() {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    let mut graph = dropping(2, Overflow::DropOldest);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    for round in 0..6 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            producer.publish(|event| {
                *event = round;
                if round % 2 == 0 {
                    resume_unwind(Box::new("on purpose"));
                }
            })
        }));
        assert_eq!(outcome.is_err(), round % 2 == 0);
    }
    ring.close();
    let mut tiles = Tiles { next: 4, ..Tiles::default() };
    assert_eq!(poller.poll(8, |_, _, _| {}), Polled::Missed(Missed { from: 0, to: 4 }));
    let mut seen = Vec::new();
    while poller.poll(8, |event, sequence, _| seen.push((*event, sequence))) != Polled::Finished {}
    tiles.next += 2;
    assert_eq!(seen, [(5, 5)]);
    assert_eq!((poller.tombstones(), tiles.next), (1, ring.claimed()));
}

/// A handler that tells what it sees and what it misses.
struct Telling {
    tiles: Tiles,
    sum: Sender<Tiles>,
}

impl EventHandler<u64> for Telling {
    fn on_event(&mut self, event: &u64, sequence: Sequence, _end_of_batch: bool) {
        assert!(*event != u64::MAX, "an event that was never filled");
        self.tiles.see(sequence);
        if sequence.is_multiple_of(17) {
            thread::yield_now();
        }
    }

    fn on_missed(&mut self, missed: Missed) {
        self.tiles.miss(missed);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let _ = self.sum.send(std::mem::take(&mut self.tiles));
    }
}

/// Several producers at full speed, consumers that cannot keep up, and all sums come out.
fn all_is_counted(overflow: Overflow, wait: WaitStrategy, capacity: usize, producers: u64, consumers: usize) {
    const EACH: u64 = 10_000;
    let builder = RingBuilder::new(capacity, || u64::MAX).expect("a power of two");
    let mut graph = builder.overflow(overflow).wait(wait).graph().expect("memory");
    let (sum, sums) = channel();
    for place in 0..consumers {
        let sum = sum.clone();
        let make = move || Telling { tiles: Tiles::default(), sum };
        graph.consumer_with(ConsumerOptions::new(&format!("teller-{place}")), make).expect("no dependency");
    }
    drop(sum);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (producer, mut ring) = graph.build_multi_producer().expect("threads");
    let (published, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut polled = Tiles::default();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..producers)
            .map(|id| {
                let mut producer = producer.clone();
                let (published, dropped) = (&published, &dropped);
                scope.spawn(move || {
                    for count in 0..EACH {
                        let outcome = producer.publish(|event| *event = id * EACH + count);
                        match outcome {
                            Ok(_) => published.fetch_add(1, Ordering::Relaxed),
                            Err(PublishError::Dropped) => dropped.fetch_add(1, Ordering::Relaxed),
                            Err(reason) => panic!("{reason}"),
                        };
                    }
                })
            })
            .collect();
        let ring = &ring;
        scope.spawn(move || {
            for writer in writers {
                writer.join().expect("a writer panicked");
            }
            ring.close();
        });
        let mut next = vec![0; producers as usize];
        polled.drain(&mut poller, |event, _| {
            let next = &mut next[(event / EACH) as usize];
            assert!(event % EACH >= *next, "a producer's events are out of order");
            *next = event % EACH + 1;
        });
    });
    let reports = ring.shutdown(LIMIT).expect("the consumers end in time");
    assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
    let (published, dropped) = (published.into_inner(), dropped.into_inner());
    assert_eq!(published + dropped, producers * EACH, "{overflow:?}");
    assert_eq!((published, dropped), (ring.claimed(), ring.dropped()));
    let sums: Vec<Tiles> = sums.iter().collect();
    assert_eq!(sums.len(), consumers);
    for tiles in sums.iter().chain([&polled]) {
        assert_eq!((tiles.next, tiles.seen + tiles.missed), (published, published), "{overflow:?}");
        assert!(overflow == Overflow::DropOldest || tiles.missed == 0);
    }
    let noticed: u64 = ring.missed().iter().map(|(_, missed)| missed).sum();
    assert_eq!(noticed, sums.iter().map(|tiles| tiles.missed).sum::<u64>() + polled.missed);
}

#[test]
fn all_that_is_offered_is_counted_exactly_once() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        for (capacity, producers, consumers) in [(1, 2, 1), (2, 3, 0), (16, 2, 2), (256, 3, 1)] {
            all_is_counted(overflow, WaitStrategy::Blocking, capacity, producers, consumers);
        }
        all_is_counted(overflow, WaitStrategy::Yielding, 4, 2, 1);
    }
}

/// Whatever one producer does, its events are dropped in order and the last ones stay.
#[test]
fn a_consumer_that_comes_late_to_a_dense_ring_finds_the_newest_by_the_slice() {
    let builder = RingBuilder::new(64, || 0_u64).expect("a power of two").layout(Layout::Dense);
    let mut graph = builder.overflow(Overflow::DropOldest).graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(1_000, |place, event| *event = place as u64).expect("an open ring");
    ring.close();
    let mut seen = Vec::new();
    loop {
        match poller.poll_slices(64, |events, _| seen.extend_from_slice(events)) {
            Polled::Missed(missed) => assert_eq!(missed, Missed { from: 0, to: 936 }),
            Polled::Finished => break,
            _ => {}
        }
    }
    assert!(seen.into_iter().eq(936..1_000));
}
