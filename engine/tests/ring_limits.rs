//! The ends of things: of a consumer's position, of a deadline, and of the sequences.

mod ring_support;

use ring_support::{BOTH_LAYOUTS, LIMIT, graph, graph_in, rest, within_limit};
use ringmain::ring::{
    BuildError, Called, Layout, Overflow, Polled, PublishError, RingBuilder, Sequence, Stopped,
};
use ringmain::wait::WaitStrategy;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

// Positions that are lost, and time that is up.

#[test]
fn a_poller_that_has_lost_its_position_is_ready_to_say_so() {
    let mut graph = graph(4);
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (_producer, _ring) = graph.build_single_producer().expect("no threads");
    let supervisor = poller.supervisor();
    let called = poller.lease().call(0, 0, || {
        let Stopped::InCall(call) = supervisor.stop() else { panic!("this is a call") };
        assert!(call.take_over().is_some(), "it has not returned");
    });
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
    let mut graph = builder.graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
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
    for layout in BOTH_LAYOUTS {
        for (capacity, before) in [(1, 5), (2, 5), (8, 20), (8, 3)] {
            let builder = RingBuilder::new(capacity, || 0_u64).expect("a power of two").layout(layout);
            let mut graph = builder.first_sequence(END - before).graph().expect("memory");
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_single_producer().expect("no threads");
            for sequence in END - before..END {
                assert_eq!(producer.publish(|event| *event = sequence), Ok(sequence), "{layout:?}");
                assert_eq!(rest(&mut poller), (vec![(sequence, sequence)], false));
            }
            for _ in 0..3 {
                let refused = producer.publish(|_| panic!("there are no more sequences"));
                assert_eq!(refused, Err(PublishError::Exhausted));
            }
            assert!(matches!(producer.next_slot(), Err(PublishError::Exhausted)));
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
            let mut graph = builder.first_sequence(END - 100).graph().expect("memory");
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (producer, ring) = graph.build_multi_producer().expect("no threads");
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
    for layout in BOTH_LAYOUTS {
        for first in [0, 1, 2, 7, 8, 9, 1_000_003, (1 << 62) - 200] {
            let builder = RingBuilder::new(8, || 0_u64).expect("a power of two").layout(layout);
            let mut graph = builder.first_sequence(first).graph().expect("memory");
            let (_, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, ring) = graph.build_single_producer().expect("no threads");
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
    assert!(matches!(graph_in(Layout::Dense, 8).build_multi_producer(), Err(BuildError::DenseForMany)));
}
