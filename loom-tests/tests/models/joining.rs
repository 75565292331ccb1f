//! Edge `JOIN`: a consumer comes in beside producers that publish.

use super::{Pair, drain, parking, spinning, take};
use ringmain::ring::{BuildError, Polled, Poller, Producer, PublishError, Ring, Sequencer};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;
use std::time::Duration;

/// Joins, however long the producers take. Has them go first: a model misses interleavings with a
/// store whose thread has just loaded that word, where the reader came first.
fn join(ring: &Ring<Pair>) -> Poller<Pair> {
    thread::yield_now();
    ring.join_poller(&[], Duration::MAX).expect("an open ring").1
}

/// The sequences and values of all that is there.
fn all(poller: &mut Poller<Pair>) -> Vec<(u64, u64)> {
    let mut seen = Vec::new();
    while let Polled::Events(_) = poller.poll(4, |event, sequence, _| seen.push((sequence, event.get()))) {}
    seen
}

/// Publishes values in order for as long as there is room.
macro_rules! publish_while_room {
    ($producer:ident, $values:expr) => {
        $values.take_while(|&value| $producer.try_publish(|event| event.set(value)).is_ok()).count() as u64
    };
}

/// An event that is overwritten before the joiner has read it is a gap, or a race that the model sees.
#[test]
fn nothing_is_overwritten_that_a_joiner_of_a_ring_of_one_producer_is_to_see() {
    explore("join single", Bound::Exhaustive, || {
        let (mut producer, ring) = spinning(1).build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || publish_while_room!(producer, 1..=3));
        let mut poller = join(&ring);
        let start = poller.next_sequence();
        let mut seen = all(&mut poller);
        let published = writer.join().expect("the writer panicked");
        seen.append(&mut all(&mut poller));
        assert_eq!(seen, (start..published).map(|sequence| (sequence, sequence + 1)).collect::<Vec<_>>());
        start
    })
    .saw_exactly(0..=3)
    .in_at_least(200);
}

/// The same without the fences that a single producer's claims have in a model.
#[test]
fn nothing_is_overwritten_that_a_joiner_is_to_see() {
    explore("join multi", Bound::Exhaustive, || {
        let (mut producer, ring) = spinning(1).build_multi_producer().expect("no threads to start");
        let writer = thread::spawn(move || publish_while_room!(producer, 1..=3));
        let mut poller = join(&ring);
        let start = poller.next_sequence();
        let mut seen = all(&mut poller);
        let published = writer.join().expect("the writer panicked");
        seen.append(&mut all(&mut poller));
        assert_eq!(seen, (start..published).map(|sequence| (sequence, sequence + 1)).collect::<Vec<_>>());
        start
    })
    .saw_exactly(0..=3)
    .in_at_least(200);
}

#[test]
fn a_joiner_sees_two_producers_events_without_gap_from_its_start() {
    explore("join two producers", Bound::Preemptions(3), || {
        let (producer, ring) = spinning(2).build_multi_producer().expect("no threads to start");
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || producer.publish(|event| event.set(value)).expect("room for both"))
        });
        let mut poller = join(&ring);
        let start = poller.next_sequence();
        let mut seen = all(&mut poller);
        let sequences = writers.map(|writer| writer.join().expect("a writer panicked"));
        seen.append(&mut all(&mut poller));
        let mut expected = vec![(sequences[0], 1), (sequences[1], 2)];
        expected.retain(|(sequence, _)| *sequence >= start);
        expected.sort_unstable();
        assert_eq!(seen, expected);
        (start, sequences)
    })
    .saw_exactly((0..=2).flat_map(|start| [(start, [0, 1]), (start, [1, 0])]))
    .in_at_least(200);
}

/// A producer reads the cursor, and then the list of consumers, and stalls. Meanwhile another one
/// publishes, a consumer joins behind that, and one more event comes. What the stalled producer
/// then reads of the consumer that its list has lies past the joiner's start, which its list does
/// not have.
#[test]
fn a_stalled_producer_with_an_old_list_does_not_overrun_a_joiner() {
    explore("join beside a stalled producer", Bound::Preemptions(3), || {
        let mut graph = spinning(1);
        let (_, mut stays) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        let mut stalled = producer.clone();
        let stalled = thread::spawn(move || stalled.try_publish(|event| event.set(7)).ok());
        let mut published = Vec::new();
        let mut publish = |value| {
            published.extend(producer.try_publish(|event| event.set(value)).ok().map(|at| (at, value)));
        };
        publish(1);
        all(&mut stays);
        // Without a yield, which would let the stalled producer run to its end.
        let (_, mut poller) = ring.join_poller(&[], Duration::MAX).expect("an open ring");
        publish(2);
        all(&mut stays);
        let stalled = stalled.join().expect("the stalled producer panicked");
        published.extend(stalled.map(|at| (at, 7)));
        let start = poller.next_sequence();
        published.retain(|&(at, _)| at >= start);
        published.sort_unstable();
        assert_eq!(all(&mut poller), published, "what the joiner was to see was overwritten");
        (start, stalled)
    })
    .saw_exactly([(1, None), (1, Some(0)), (1, Some(1)), (2, Some(1))])
    .in_at_least(40);
}

/// One producer has an event in hand while a consumer joins and the other consumer leaves. What the gate then leaves
/// behind is below the joiner's start, and another producer takes it to be free.
#[test]
fn a_joiner_starts_where_no_producer_has_anything_in_hand() {
    explore("join beside an event in hand", Bound::Exhaustive, || {
        let mut graph = spinning(1);
        let (_, leaver) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        let mut slow = producer.clone();
        let writer = thread::spawn(move || slow.try_publish(|event| event.set(1)));
        let mut poller = join(&ring);
        drop(leaver);
        let second = producer.try_publish(|event| event.set(2));
        let first = writer.join().expect("the writer panicked");
        let start = poller.next_sequence();
        let seen = all(&mut poller);
        let mut published: Vec<_> = [(first, 1), (second, 2)]
            .into_iter()
            .filter_map(|(outcome, value)| match outcome {
                Ok(sequence) => Some((sequence, value)),
                Err(PublishError::Full) => None,
                Err(reason) => panic!("{reason}"),
            })
            .collect();
        published.retain(|(sequence, _)| *sequence >= start);
        assert_eq!(seen, published);
        (start, first.ok(), second.ok())
    })
    .saw_exactly([(0, Some(0), None), (0, None, Some(0)), (1, Some(0), Some(1))])
    .in_at_least(15);
}

/// Before it knows where to start, a joiner may hold a producer up that has got a ring ahead meanwhile.
#[test]
fn a_joiner_wakes_the_producer_that_it_held_up() {
    explore("join wakes", Bound::Preemptions(2), || {
        let (mut producer, ring) = parking(1).build_multi_producer().expect("no threads to start");
        let writer = thread::spawn(move || {
            for value in 1..=2 {
                producer.publish(|event| event.set(value)).expect("an open ring");
            }
        });
        let mut poller = join(&ring);
        let start = poller.next_sequence();
        assert_eq!(take(&mut poller, 2 - start as usize), [1, 2][start as usize..]);
        writer.join().expect("the writer panicked");
        start
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(50);
}

/// Consumers come and go while another one stays: its gate holds.
#[test]
fn one_that_stays_loses_nothing_to_one_that_joins_and_leaves() {
    explore("join and leave", Bound::Preemptions(2), || {
        let mut graph = spinning(1);
        let (_, mut stays) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || publish_while_room!(producer, 1..=2));
        let visitor = thread::spawn(move || {
            let mut poller = join(&ring);
            let start = poller.next_sequence();
            let seen = all(&mut poller);
            assert!(seen.iter().enumerate().all(|(place, (sequence, value))| {
                *sequence == start + place as u64 && *value == sequence + 1
            }));
            (start, ring)
        });
        let mut seen = all(&mut stays);
        let published = writer.join().expect("the writer panicked");
        let (start, _ring) = visitor.join().expect("the visitor panicked");
        seen.append(&mut all(&mut stays));
        assert_eq!(seen, (0..published).map(|sequence| (sequence, sequence + 1)).collect::<Vec<_>>());
        start
    })
    .saw_exactly(0..=2)
    .in_at_least(100);
}

/// What a joiner holds up before it gives up goes on after it. Its time is up from the start: a model has no other.
#[test]
fn a_join_that_gives_up_holds_nobody_up() {
    explore("join in vain", Bound::Preemptions(3), || {
        let (producer, ring) = parking(1).build_multi_producer().expect("no threads to start");
        let writers = [1, 2].map(|value| {
            let mut producer = producer.clone();
            thread::spawn(move || producer.publish(|event| event.set(value)).expect("an open ring"))
        });
        let start = match ring.join_poller(&[], Duration::ZERO) {
            Ok((_, poller)) => Some(poller.next_sequence()),
            Err(BuildError::TimedOut { .. }) => None,
            Err(reason) => panic!("{reason}"),
        };
        for writer in writers {
            writer.join().expect("a writer panicked");
        }
        start
    })
    .saw_exactly([None, Some(0), Some(1), Some(2)])
    .in_at_least(1_000);
}

/// The place of a joiner can be all that a producer sleeps over: the other consumer leaves, another
/// producer takes what that one held up and has it in hand when the joiner gives up. The producer
/// sleeps before the joiner comes, since one that spins first lets all others run to their ends.
#[test]
fn a_join_that_gives_up_wakes_who_slept_over_it() {
    explore("join in vain beside a sleeper", Bound::Preemptions(2), || {
        let mut graph = parking(1);
        let (_, leaver) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let mut sleeper = producer.clone();
        let sleeper = thread::spawn(move || sleeper.publish(|event| event.set(2)).expect("an open ring"));
        thread::yield_now();
        let writer = thread::spawn(move || {
            drop(leaver);
            let in_hand = |event: &mut Pair| {
                thread::yield_now();
                event.set(3);
            };
            producer.try_publish(in_hand).is_ok()
        });
        let start = match ring.join_poller(&[], Duration::ZERO) {
            Ok((_, poller)) => Some(poller.next_sequence()),
            Err(BuildError::TimedOut { .. }) => None,
            Err(reason) => panic!("{reason}"),
        };
        let has_published = writer.join().expect("the writer panicked");
        sleeper.join().expect("the sleeper panicked");
        (start, has_published)
    })
    .saw_exactly([
        (None, false),
        (None, true),
        (Some(1), false),
        (Some(1), true),
        (Some(2), false),
        (Some(2), true),
        (Some(3), true),
    ])
    .in_at_least(1_000);
}

/// The same of a joiner who does not give up, and comes in where the producer may go on.
#[test]
fn a_joiner_wakes_who_slept_over_its_first_place() {
    explore("join beside a sleeper", Bound::Preemptions(2), || {
        let mut graph = parking(1);
        let (_, leaver) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let mut sleeper = producer.clone();
        let sleeper = thread::spawn(move || sleeper.publish(|event| event.set(2)).expect("an open ring"));
        thread::yield_now();
        let writer = thread::spawn(move || {
            drop(leaver);
            producer.try_publish(|event| event.set(3)).is_ok()
        });
        let (_, poller) = ring.join_poller(&[], Duration::MAX).expect("an open ring");
        let start = poller.next_sequence();
        // One that is a place behind holds the other two up, and there is nothing to learn from
        // that.
        let _stays = (start > 1).then_some(poller);
        let has_published = writer.join().expect("the writer panicked");
        sleeper.join().expect("the sleeper panicked");
        (start, has_published)
    })
    .saw_exactly([(1, false), (1, true), (2, false), (2, true), (3, true)])
    .in_at_least(500);
}

/// Joins a ring while it is filled and closed. Who has joined comes to the ring's end, and sees what was accepted from
/// its start on, which is returned.
fn join_a_closing_ring<S: Sequencer + 'static>(
    (mut producer, ring): (Producer<Pair, S>, Ring<Pair>),
) -> Option<u64> {
    let ring = Arc::new(ring);
    let writer = thread::spawn(move || producer.publish(|event| event.set(1)).is_ok());
    let closer = {
        let ring = ring.clone();
        thread::spawn(move || ring.close())
    };
    thread::yield_now();
    let joined = match ring.join_poller(&[], Duration::MAX) {
        Ok((_, mut poller)) => Some((poller.next_sequence(), drain(&mut poller))),
        Err(BuildError::Closed { .. }) => None,
        Err(reason) => panic!("{reason}"),
    };
    let accepted = writer.join().expect("the writer panicked");
    closer.join().expect("the closer panicked");
    joined.map(|(start, seen)| {
        assert_eq!(start + seen.len() as u64, u64::from(accepted), "the joiner and the ring end apart");
        start
    })
}

#[test]
fn a_join_falls_before_a_close_or_after_it() {
    explore("join and close", Bound::Preemptions(3), || {
        join_a_closing_ring(spinning(2).build_multi_producer().expect("no threads to start"))
    })
    .saw_exactly([None, Some(0), Some(1)])
    .in_at_least(1_000);
}

/// The only producer takes its claim back when it finds the ring closing.
#[test]
fn a_join_waits_for_no_claim_that_is_taken_back() {
    explore("join and close single", Bound::Preemptions(3), || {
        join_a_closing_ring(spinning(2).build_single_producer().expect("no threads to start"))
    })
    .saw_exactly([None, Some(0), Some(1)])
    .in_at_least(1_000);
}
