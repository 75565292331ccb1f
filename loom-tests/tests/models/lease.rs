//! Edges `LEASE`, `LEASE_RETURN` and `LEASE_CALL`: a consumer is stopped while it may be in a call.

use super::{Pair, single, spinning, take_over};
use ringmain::ring::{Call, Called, Polled, Poller, Stopped, Supervisor};
use ringmain_loom_tests::sync::atomic::{AtomicBool, Ordering};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;
use std::time::Duration;

/// What became of one event's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Settled,
    Refused,
    TakenOver,
}

/// A delivery that no other event has, and that the words do not start with.
const fn delivery(sequence: u64) -> u64 {
    sequence + 7
}

/// The number of what is parked.
const PARKED: u64 = 5;

/// Goes through all events that are there, each with one call.
fn work(poller: &mut Poller<Pair>, is_stopped: &AtomicBool) -> Vec<Fate> {
    let mut fates = Vec::new();
    poller.poll_leased(2, |_, sequence, _, lease| {
        let called = lease.call(sequence, delivery(sequence), || {
            assert!(
                !is_stopped.load(Ordering::Relaxed),
                "a call was running after the consumer had been stopped"
            );
        });
        fates.push(match called {
            Called::Returned(Ok(())) => Fate::Settled,
            Called::Returned(Err(panic)) => std::panic::resume_unwind(panic),
            Called::Refused => Fate::Refused,
            Called::TakenOver => Fate::TakenOver,
        });
    });
    fates
}

#[test]
fn a_call_is_settled_or_in_doubt_and_never_both() {
    explore("lease", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = single(2);
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let supervisor = poller.supervisor();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let consumer = {
            let is_stopped = is_stopped.clone();
            thread::spawn(move || (work(&mut poller, &is_stopped), poller))
        };
        let (was_in_call, takeover) = match supervisor.stop() {
            Stopped::BetweenCalls => (false, None),
            Stopped::InCall(call) => (true, call.take_over()),
        };
        if takeover.is_none() {
            is_stopped.store(true, Ordering::Relaxed);
        }
        let in_doubt = takeover.map(|takeover| {
            let sequence = takeover.sequence();
            let expected = Call::Event { sequence, delivery: delivery(sequence) };
            assert_eq!(takeover.call(), expected, "another delivery was held in doubt");
            sequence
        });
        let (fates, poller) = consumer.join().expect("the consumer panicked");
        assert_eq!(supervisor.is_taken_over(), in_doubt.is_some());
        let taken_over = fates.iter().position(|&fate| fate == Fate::TakenOver).map(|index| index as u64);
        assert_eq!(taken_over, in_doubt, "a call was settled and in doubt, or neither");
        if in_doubt.is_some() {
            assert_eq!(fates.last(), Some(&Fate::TakenOver), "a consumer that was taken over went on");
        }
        drop(poller);
        (fates, was_in_call, in_doubt)
    })
    .saw_exactly([
        (vec![Fate::Settled, Fate::Settled], false, None),
        (vec![Fate::Settled, Fate::Refused], false, None),
        (vec![Fate::Refused, Fate::Refused], false, None),
        // The call returned, or was refused, before the position was taken over.
        (vec![Fate::Settled, Fate::Settled], true, None),
        (vec![Fate::Settled, Fate::Refused], true, None),
        (vec![Fate::Refused, Fate::Refused], true, None),
        (vec![Fate::TakenOver], true, Some(0)),
        (vec![Fate::Settled, Fate::TakenOver], true, Some(1)),
    ])
    .in_at_least(50);
}

/// Between two polls the consumer handles what is parked. Who takes that call over has no event in
/// doubt: one that was handled before is not seen again, and none is left out.
#[test]
fn a_parked_call_is_settled_or_in_doubt_and_leaves_every_event_to_one_side() {
    explore("parked", Bound::Exhaustive, || {
        let (mut producer, mut poller, _ring) = single(2);
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let supervisor = poller.supervisor();
        let consumer = thread::spawn(move || {
            let mut handled = Vec::new();
            let mut poll = |poller: &mut Poller<Pair>| {
                poller.poll_leased(1, |_, sequence, _, lease| {
                    if let Called::Returned(Ok(())) = lease.call(sequence, delivery(sequence), || ()) {
                        handled.push(sequence);
                    }
                })
            };
            if poll(&mut poller) == Polled::Finished {
                // The event's call was taken over, and this consumer goes no further.
                return (handled, None, poller);
            }
            let parked = Some(match poller.call_parked(PARKED, delivery(PARKED), || ()) {
                Called::Returned(Ok(())) => Fate::Settled,
                Called::Returned(Err(panic)) => std::panic::resume_unwind(panic),
                Called::Refused => Fate::Refused,
                Called::TakenOver => Fate::TakenOver,
            });
            poll(&mut poller);
            (handled, parked, poller)
        });
        let rest = take_over(&supervisor).map(|takeover| {
            let mut rest = Vec::new();
            takeover.for_each(Duration::ZERO, |sequence, _| rest.push(sequence));
            let doubt = match takeover.call() {
                Call::Event { sequence, delivery: of } => {
                    assert_eq!((of, rest.first()), (delivery(sequence), Some(&sequence)));
                    rest.remove(0);
                    Some(sequence)
                }
                Call::Parked { number, delivery: of } => {
                    assert_eq!((number, of), (PARKED, delivery(PARKED)));
                    None
                }
                other => panic!("nothing is cleared: {other:?}"),
            };
            (doubt, rest)
        });
        let (handled, parked, _poller) = consumer.join().expect("the consumer panicked");
        match &rest {
            Some((doubt, rest)) => {
                let was_parked = parked == Some(Fate::TakenOver);
                assert_eq!(doubt.is_none(), was_parked, "settled and in doubt, or neither");
                let all: Vec<_> = handled.iter().chain(doubt).chain(rest).copied().collect();
                assert_eq!(all, [0, 1], "an event was seen twice, or left out");
            }
            None => assert_ne!(parked, Some(Fate::TakenOver), "nobody has taken it over"),
        }
        (handled, parked, rest)
    })
    .saw_exactly([
        (vec![], Some(Fate::Refused), None),
        (vec![0], Some(Fate::Refused), None),
        (vec![0], Some(Fate::Settled), None),
        (vec![0, 1], Some(Fate::Settled), None),
        (vec![], None, Some((Some(0), vec![1]))),
        (vec![0], Some(Fate::TakenOver), Some((None, vec![1]))),
        (vec![0], Some(Fate::Settled), Some((Some(1), vec![]))),
    ])
    .in_at_least(50);
}

/// A producer goes on publishing while the position is taken over: it may fill what is free, and no more.
#[test]
fn what_remains_is_not_overwritten() {
    explore("takeover", Bound::Preemptions(2), || {
        let (mut producer, mut poller, _ring) = single(2);
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let supervisor = poller.supervisor();
        let consumer = thread::spawn(move || (work(&mut poller, &AtomicBool::new(false)), poller));
        let writer = thread::spawn(move || {
            // A slow machine must not make this wait for ever: a consumer that was taken over never makes room.
            (3..=4).take_while(|&value| producer.try_publish(|event| event.set(value)).is_ok()).count()
        });
        let mut read = Vec::new();
        if let Some(takeover) = take_over(&supervisor) {
            takeover.for_each(Duration::ZERO, |sequence, event| {
                assert_eq!(event.get(), sequence + 1, "a slot was overwritten");
                read.push(sequence);
            });
        }
        consumer.join().expect("the consumer panicked");
        let published = writer.join().expect("the writer panicked");
        (read, published)
    })
    .saw_exactly([
        (vec![], 0),
        (vec![], 1),
        (vec![], 2),
        (vec![0, 1], 0),
        (vec![1], 0),
        (vec![1], 1),
        (vec![1, 2], 1),
    ])
    .in_at_least(500);
}

/// An earlier stage is changing an event, in its place, while the position of a later one is taken
/// over: what that stage has not finished is passed over.
#[test]
fn what_an_earlier_stage_is_changing_is_not_read() {
    explore("remains beside a writer", Bound::Preemptions(3), || {
        let mut graph = spinning(2);
        let (first, mut sole) = graph.mut_poller(&[]).expect("alone");
        let (_, mut poller) = graph.poller(&[first]).expect("its own ring");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        sole.poll(1, |event, _, _| event.set(11));
        let supervisor = poller.supervisor();
        let consumer = thread::spawn(move || (work(&mut poller, &AtomicBool::new(false)), poller));
        // A reference to what is being changed would be a race that the model sees.
        let changer = thread::spawn(move || {
            sole.poll(1, |event, _, _| event.set(12));
            sole
        });
        let read = take_over(&supervisor).map(|takeover| {
            let mut read = Vec::new();
            let passed_over = takeover.for_each(Duration::ZERO, |_, event| read.push(event.get()));
            (read, passed_over)
        });
        consumer.join().expect("the consumer panicked");
        changer.join().expect("the earlier stage panicked");
        read
    })
    .saw_exactly([None, Some((vec![11], vec![1])), Some((vec![11, 12], vec![])), Some((vec![12], vec![]))])
    .in_at_least(100);
}

#[test]
fn only_the_first_of_two_stops_owns_the_position() {
    explore("two stops", Bound::Preemptions(3), || {
        let (mut producer, mut poller, _ring) = single(1);
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let supervisor: Supervisor<Pair> = poller.supervisor();
        let consumer = thread::spawn(move || (work(&mut poller, &AtomicBool::new(false)), poller));
        let first = supervisor.stop();
        let second = take_over(&supervisor).is_some();
        let first = match first {
            Stopped::BetweenCalls => false,
            Stopped::InCall(call) => call.take_over().is_some(),
        };
        assert!(!second, "the consumer was promised to the first");
        let (fates, _poller) = consumer.join().expect("the consumer panicked");
        (fates, first)
    })
    .saw_exactly([(vec![Fate::Settled], false), (vec![Fate::Refused], false), (vec![Fate::TakenOver], true)])
    .in_at_least(20);
}

/// What became of a parked call.
fn parked(poller: &mut Poller<Pair>, number: u64) -> Fate {
    match poller.call_parked(number, delivery(number), || ()) {
        Called::Returned(Ok(())) => Fate::Settled,
        Called::Returned(Err(panic)) => std::panic::resume_unwind(panic),
        Called::Refused => Fate::Refused,
        Called::TakenOver => Fate::TakenOver,
    }
}

/// Handles the events that are there, and returns their sequences.
fn handle(poller: &mut Poller<Pair>) -> Vec<u64> {
    let mut handled = Vec::new();
    poller.poll_leased(2, |event, sequence, _, _| {
        assert_eq!(event.get(), sequence + 1, "a slot was overwritten");
        handled.push(sequence);
    });
    handled
}

/// Somebody wants to put another consumer in the place of one that is between two polls, while a producer publishes
/// as fast as there is room. Either the call is settled and its consumer goes on, or it is in doubt and the other does.
#[test]
fn a_consumer_goes_on_or_another_in_its_place_and_never_both() {
    explore("replaced", Bound::Preemptions(3), || {
        let (mut producer, mut poller, _ring) = single(1);
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let supervisor = poller.supervisor();
        let consumer = thread::spawn(move || {
            let mut handled = handle(&mut poller);
            let fate = parked(&mut poller, PARKED);
            handled.append(&mut handle(&mut poller));
            (handled, fate, poller)
        });
        let writer = thread::spawn(move || producer.try_publish(|event| event.set(2)).is_ok());
        let mut other = supervisor.replace(PARKED);
        let mut by_other = other.as_mut().map(handle);
        let (handled, fate, first) = consumer.join().expect("the consumer panicked");
        let has_two = writer.join().expect("the writer panicked");
        assert_eq!(other.is_some(), fate == Fate::TakenOver, "settled and in doubt, or neither");
        if let (Some(other), Some(by_other)) = (&mut other, &mut by_other) {
            by_other.append(&mut handle(other));
        }
        let mut last = other.unwrap_or(first);
        let rest = handle(&mut last);
        let all: Vec<_> = handled.iter().chain(by_other.iter().flatten()).chain(&rest).copied().collect();
        let expected: &[u64] = if has_two { &[0, 1] } else { &[0] };
        assert_eq!(all, expected, "an event was handled twice, or left out");
        (fate, by_other.is_some_and(|by_other| !by_other.is_empty()))
    })
    .saw_exactly([(Fate::Settled, false), (Fate::TakenOver, false), (Fate::TakenOver, true)])
    .in_at_least(100);
}

/// An attempt that comes too late leaves nothing behind that decides on the next call.
#[test]
fn a_consumer_that_was_not_replaced_can_be_in_its_next_call() {
    explore("replaced later", Bound::Preemptions(3), || {
        let (_producer, mut poller, _ring) = single(1);
        let supervisor = poller.supervisor();
        let consumer = thread::spawn(move || {
            let first = parked(&mut poller, PARKED);
            let second = (first == Fate::Settled).then(|| parked(&mut poller, PARKED + 1));
            (first, second, poller)
        });
        let first = supervisor.replace(PARKED);
        let second = first.is_none().then(|| supervisor.replace(PARKED + 1)).flatten();
        let (fate, next, _poller) = consumer.join().expect("the consumer panicked");
        assert_eq!(first.is_some(), fate == Fate::TakenOver, "the first call: {fate:?} {next:?}");
        assert_eq!(second.is_some(), next == Some(Fate::TakenOver), "the second call: {fate:?} {next:?}");
        (fate, next)
    })
    .saw_exactly([
        (Fate::Settled, Some(Fate::Settled)),
        (Fate::Settled, Some(Fate::TakenOver)),
        (Fate::TakenOver, None),
    ])
    .in_at_least(50);
}

/// One wants to stop a consumer and to take it over, another to put a fresh one in its place.
#[test]
fn a_position_is_taken_over_or_goes_on_and_never_both() {
    explore("replaced beside a stop", Bound::Preemptions(3), || {
        let (_producer, mut poller, _ring) = single(1);
        let (stopping, replacing) = (poller.supervisor(), poller.supervisor());
        let consumer = thread::spawn(move || (parked(&mut poller, PARKED), poller));
        let stopper = thread::spawn(move || take_over(&stopping).is_some());
        let is_replaced = replacing.replace(PARKED).is_some();
        let is_taken_over = stopper.join().expect("the stopper panicked");
        let (fate, _poller) = consumer.join().expect("the consumer panicked");
        assert!(!(is_taken_over && is_replaced), "two have the position");
        assert_eq!(is_taken_over || is_replaced, fate == Fate::TakenOver, "settled and in doubt, or neither");
        (fate, is_taken_over, is_replaced)
    })
    .saw_exactly([
        (Fate::Settled, false, false),
        (Fate::Refused, false, false),
        (Fate::TakenOver, true, false),
        (Fate::TakenOver, false, true),
    ])
    .in_at_least(50);
}
