//! A ring that clears its slots: the last consumer writes what it has handled, before producers do.

use super::{Pair, take};
use ringmain::ring::{Graph, Polled, RingBuilder, SlotPolicy};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};

/// A ring of pairs that clears them to zero.
fn clearing(capacity: usize) -> Graph<Pair> {
    let builder = RingBuilder::new(capacity, Pair::default).expect("a power of two");
    builder.wait(WaitStrategy::BusySpin).slot_policy(SlotPolicy::Clear).graph().expect("memory")
}

#[test]
fn a_producer_finds_a_slot_cleared_when_it_reuses_it() {
    explore("clearing", Bound::Exhaustive, || {
        let mut graph = clearing(1);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let consumer = thread::spawn(move || {
            assert_eq!(poller.poll(1, |event, _, _| assert_eq!(event.get(), 1)), Polled::Events(1));
            poller
        });
        let mut found = None;
        // A full ring is one of the outcomes.
        let _ = producer.try_publish(|event| {
            found = Some(event.get());
            event.set(2);
        });
        let mut poller = consumer.join().expect("the consumer panicked");
        if found.is_some() {
            assert_eq!(take(&mut poller, 1), [2]);
        }
        found
    })
    .saw_exactly([None, Some(0)])
    .in_at_least(4);
}

/// Nothing is cleared that another worker of the group before is still reading, who came when or before.
#[test]
fn what_a_worker_that_joins_is_reading_is_not_cleared() {
    explore("clearing behind a joiner", Bound::Preemptions(2), || {
        let mut graph = clearing(2);
        let (group, mut workers) = graph.worker_pollers(&[], 1).expect("no dependency");
        let (_, mut last) = graph.poller(&[group]).expect("its own ring");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let joiner = thread::spawn(move || {
            let mut joined = ring.join_worker_poller(group).expect("the first worker is there");
            let mut seen = 0;
            joined.poll(1, |event, _, _| seen = event.get());
            (seen, joined, ring)
        });
        let clearing = thread::spawn(move || {
            let mut seen = Vec::new();
            last.poll(2, |event, _, _| seen.push(event.get()));
            (seen.len(), last)
        });
        let mut seen = 0;
        for worker in &mut workers {
            worker.poll(1, |event, _, _| seen = event.get());
        }
        let (seen_by_joiner, _joined, _ring) = joiner.join().expect("the joiner panicked");
        let (cleared, _last) = clearing.join().expect("the last stage panicked");
        (seen, seen_by_joiner, cleared)
    })
    .saw_exactly([(1, 2, 0), (1, 2, 1), (1, 2, 2), (2, 1, 0), (2, 1, 1), (2, 1, 2)])
    .in_at_least(100);
}
