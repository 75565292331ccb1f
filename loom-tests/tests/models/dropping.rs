//! Edge `SKIP_OLDEST`: producer and consumer fight for the oldest event of a full ring, and one of them gets it.

use super::{Pair, take_over};
use ringmain::ring::{
    Called, Graph, Missed, Overflow, Polled, Poller, Producer, PublishError, RingBuilder, Sequencer,
};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::time::Duration;

fn dropping(capacity: usize, wait: WaitStrategy) -> Graph<Pair> {
    let builder = RingBuilder::new(capacity, Pair::default).expect("a power of two");
    builder.overflow(Overflow::DropOldest).wait(wait).graph().expect("memory")
}

/// Publishes a value; whether it was taken or dropped.
fn offer<S: Sequencer>(producer: &mut Producer<Pair, S>, value: u64) -> Option<u64> {
    match producer.publish(|event| event.set(value)) {
        Ok(sequence) => Some(sequence),
        Err(PublishError::Dropped) => None,
        Err(reason) => panic!("{reason}"),
    }
}

/// What a consumer went through, sequence by sequence: the value of the event, or `None` where it missed it.
#[derive(Debug, Default)]
struct Log(Vec<Option<u64>>);

impl Log {
    /// One poll. Whether it found anything.
    fn poll(&mut self, poller: &mut Poller<Pair>, max: u64) -> bool {
        let log = &mut self.0;
        let polled = poller.poll(max, |event, sequence, _| {
            assert_eq!(sequence, log.len() as u64, "an event came twice, or too early");
            log.push(Some(event.get()));
        });
        if let Polled::Missed(Missed { from, to }) = polled {
            assert_eq!(from, log.len() as u64, "what was missed does not follow what was seen");
            assert!(from < to, "nothing was missed");
            log.resize(to as usize, None);
        }
        !matches!(polled, Polled::Empty | Polled::Finished)
    }

    /// Everything up to the end of what is published.
    fn poll_all(&mut self, poller: &mut Poller<Pair>) {
        while self.poll(poller, 4) {}
        assert_eq!(poller.missed(), self.0.iter().filter(|value| value.is_none()).count() as u64);
    }
}

#[test]
fn consumer_and_producer_never_both_get_the_oldest_event() {
    explore("oldest event", Bound::Preemptions(3), || {
        let mut graph = dropping(1, WaitStrategy::BusySpin);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || {
            let offered = [1, 2].map(|value| offer(&mut producer, value));
            assert_eq!(ring.dropped(), offered.iter().filter(|taken| taken.is_none()).count() as u64);
            (offered, ring)
        });
        let mut log = Log::default();
        log.poll(&mut poller, 1);
        let (offered, ring) = writer.join().expect("the writer panicked");
        log.poll_all(&mut poller);
        assert_eq!(log.0.len() as u64, ring.claimed(), "an event was neither seen nor missed");
        (offered, log.0)
    })
    .saw_exactly([
        // The consumer holds the first event when the second comes.
        ([Some(0), None], vec![Some(1)]),
        ([Some(0), Some(1)], vec![Some(1), Some(2)]),
        ([Some(0), Some(1)], vec![None, Some(2)]),
    ])
    .in_at_least(20);
}

#[test]
fn two_consumers_each_lose_their_own() {
    explore("two that miss", Bound::Preemptions(3), || {
        let mut graph = dropping(1, WaitStrategy::BusySpin);
        let (_, mut one) = graph.poller(&[]).expect("no dependency");
        let (_, mut other) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("room for one");
        let reader = thread::spawn(move || {
            let mut log = Log::default();
            log.poll(&mut other, 1);
            (log, other)
        });
        let writer = thread::spawn(move || offer(&mut producer, 2));
        let mut log = Log::default();
        thread::yield_now();
        log.poll(&mut one, 1);
        let (mut other_log, mut other) = reader.join().expect("the reader panicked");
        let offered = writer.join().expect("the writer panicked");
        log.poll_all(&mut one);
        other_log.poll_all(&mut other);
        for log in [&log, &other_log] {
            assert_eq!(log.0.len() as u64, ring.claimed(), "an event was neither seen nor missed");
            assert_eq!(log.0.get(1).copied().flatten(), offered.map(|_| 2));
        }
        [log.0[0].is_some(), other_log.0[0].is_some(), offered.is_some()]
    })
    .saw_exactly([
        [false, false, true],
        [false, true, true],
        [true, false, true],
        [true, true, true],
        // The second held it, and the first one has lost it all the same.
        [false, true, false],
        [true, true, false],
    ])
    .in_at_least(100);
}

/// What one of two producers has claimed and not yet published is not to be skipped: both would write one slot.
#[test]
fn what_another_producer_has_in_hand_is_not_skipped() {
    explore("in hand", Bound::Preemptions(3), || {
        let mut graph = dropping(1, WaitStrategy::BusySpin);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (producer, ring) = graph.build_multi_producer().expect("no threads to start");
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || offer(&mut producer, value))
        });
        let offered = writers.map(|writer| writer.join().expect("a writer panicked"));
        let mut log = Log::default();
        log.poll_all(&mut poller);
        let taken = offered.iter().flatten().count() as u64;
        assert_eq!((taken, log.0.len() as u64), (ring.claimed(), ring.claimed()));
        assert_eq!(ring.dropped(), 2 - taken);
        assert_eq!(poller.missed(), taken - 1);
        offered
    })
    .saw_exactly([[Some(0), Some(1)], [Some(1), Some(0)], [Some(0), None], [None, Some(0)]])
    .in_at_least(100);
}

/// One producer wrote the oldest event, a second one takes it away, and a third one, which is the
/// consumer's own thread, writes the slot anew on the strength of what the consumer has released.
#[test]
fn who_reuses_a_skipped_slot_comes_after_its_last_producer() {
    explore("skipped slot", Bound::Preemptions(3), || {
        let mut graph = dropping(2, WaitStrategy::BusySpin);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        let (mut first, mut second) = (producer.clone(), producer.clone());
        let first = thread::spawn(move || offer(&mut first, 1));
        thread::yield_now();
        let mut taken = u64::from(offer(&mut producer, 3).is_some());
        let second = thread::spawn(move || offer(&mut second, 2));
        thread::yield_now();
        let mut log = Log::default();
        log.poll(&mut poller, 1);
        log.poll(&mut poller, 1);
        let missed_early = poller.missed();
        taken += u64::from(offer(&mut producer, 4).is_some());
        for writer in [first, second] {
            taken += u64::from(writer.join().expect("a writer panicked").is_some());
        }
        log.poll_all(&mut poller);
        assert_eq!((taken, log.0.len() as u64), (ring.claimed(), ring.claimed()));
        assert_eq!(taken + ring.dropped(), 4);
        missed_early
    })
    .saw_exactly([0, 1])
    .in_at_least(1_000);
}

/// A consumer that joins is moved on before it has taken its first look.
#[test]
fn a_joiner_that_is_moved_on_starts_there() {
    explore("joiner moved on", Bound::Preemptions(3), || {
        let (mut producer, ring) =
            dropping(1, WaitStrategy::BusySpin).build_multi_producer().expect("no threads to start");
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || offer(&mut producer, value))
        });
        let (_, mut poller) = ring.join_poller(&[], Duration::MAX).expect("an open ring");
        let start = poller.next_sequence();
        let mut taken = u64::from(offer(&mut producer, 3).is_some());
        let offered = writers.map(|writer| writer.join().expect("a writer panicked"));
        taken += offered.iter().flatten().count() as u64;
        let mut log = Log(vec![None; start as usize]);
        while log.poll(&mut poller, 4) {}
        assert_eq!((taken, log.0.len() as u64), (ring.claimed(), ring.claimed()));
        start
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(1_000);
}

/// A consumer comes in between a producer's two looks, at a place that another producer has in
/// hand.
#[test]
fn a_joiner_is_not_moved_on_past_what_a_producer_has_in_hand() {
    explore("joiner between two looks", Bound::Preemptions(2), || {
        let (producer, ring) =
            dropping(1, WaitStrategy::BusySpin).build_multi_producer().expect("no threads to start");
        let joiner = thread::spawn(move || {
            let (_, poller) = ring.join_poller(&[], Duration::MAX).expect("an open ring");
            (poller, ring)
        });
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            // Two who write one slot at once are a race that the model sees.
            thread::spawn(move || offer(&mut producer, value))
        });
        let (mut poller, ring) = joiner.join().expect("the joiner panicked");
        let start = poller.next_sequence();
        let offered = writers.map(|writer| writer.join().expect("a writer panicked"));
        let mut log = Log(vec![None; start as usize]);
        while log.poll(&mut poller, 4) {}
        let taken = offered.iter().flatten().count() as u64;
        assert_eq!((taken, log.0.len() as u64), (ring.claimed(), ring.claimed()));
        (start, taken)
    })
    .saw_exactly([(0, 1), (0, 2), (1, 1), (1, 2), (2, 2)])
    .in_at_least(1_000);
}

#[test]
fn a_sleeping_consumer_that_is_moved_on_wakes_and_misses_no_news() {
    explore("sleeper moved on", Bound::Preemptions(3), || {
        let mut graph = dropping(1, WaitStrategy::Blocking);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || [1, 2].map(|value| offer(&mut producer, value).is_some()));
        let mut log = Log::default();
        assert!(poller.wait(WaitStrategy::Blocking, Duration::MAX));
        assert!(log.poll(&mut poller, 1), "it was woken for nothing");
        let offered = writer.join().expect("the writer panicked");
        log.poll_all(&mut poller);
        assert_eq!(log.0.len(), offered.iter().filter(|taken| **taken).count());
        (offered, log.0[0].is_none())
    })
    .saw_exactly([([true, false], false), ([true, true], false), ([true, true], true)])
    .in_at_least(25);
}

/// A call outside of a poll holds no event. Who takes the position over in such a call holds all
/// that is left there, and what producers took away before is not among it.
#[test]
fn what_remains_is_not_taken_away() {
    explore("takeover of a call that held nothing", Bound::Preemptions(3), || {
        let mut graph = dropping(2, WaitStrategy::BusySpin);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("room for two");
        }
        let supervisor = poller.supervisor();
        let consumer = thread::spawn(move || {
            let is_taken_over = matches!(poller.lease().call(0, 7, || ()), Called::TakenOver);
            if is_taken_over {
                assert_eq!(poller.poll(1, |_, _, _| panic!("the position is lost")), Polled::Finished);
            }
            (is_taken_over, poller)
        });
        let writer = thread::spawn(move || [3, 4].map(|value| offer(&mut producer, value).is_some()));
        let takeover = take_over(&supervisor).map(|takeover| {
            let mut read = Vec::new();
            let look = |sequence, event: &Pair| {
                assert_eq!(event.get(), sequence + 1, "what remained was overwritten");
                read.push(sequence);
            };
            takeover.for_each(Duration::ZERO, look);
            read
        });
        let (is_taken_over, _poller) = consumer.join().expect("the consumer panicked");
        assert_eq!(is_taken_over, takeover.is_some(), "a call was settled and in doubt, or neither");
        let taken = writer.join().expect("the writer panicked");
        assert_eq!(ring.dropped(), taken.iter().filter(|taken| !**taken).count() as u64);
        (takeover, taken)
    })
    .saw_exactly([
        (None, [true, true]),
        // Everything was still there, and stays.
        (Some(vec![0, 1]), [false, false]),
        // One event was taken away first, and what took its place may still be in hand.
        (Some(vec![1]), [true, false]),
        (Some(vec![1, 2]), [true, false]),
        (Some(vec![2]), [true, true]),
        (Some(vec![2, 3]), [true, true]),
    ])
    .in_at_least(500);
}
