//! Edges `CLAIM_IN_GROUP` and `LEASE_LANE`: workers that share a stage.

use super::{Pair, parking, spinning};
use ringmain::ring::{BuildError, Graph, Polled, RingBuilder, Worker};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::atomic::{AtomicU64, Ordering};
use ringmain_loom_tests::sync::{UnsafeCell, thread};
use ringmain_loom_tests::{Bound, explore};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// A step that another thread's next look may come before or after, and that orders nothing.
///
/// loom tries an order of two accesses only if the first was the last to its word before the
/// second. A worker reads its group's claim word, or its lane's flag, right before it swaps it,
/// which hides the swap from whoever has read the word before. A step in the worker's handler and a
/// look before the other thread's brings those orders back.
#[derive(Clone, Default)]
pub(super) struct Step(Arc<AtomicU64>);

impl Step {
    pub(super) fn take(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    pub(super) fn look(&self) {
        self.0.load(Ordering::Relaxed);
    }
}

/// Polls once, with a step at each event and one at the end, and tells what came.
pub(super) fn poll_in_steps(worker: &mut Worker<Pair>, max: u64, step: &Step) -> Vec<u64> {
    let mut seen = Vec::new();
    worker.poll(max, |event, _, _| {
        step.take();
        seen.push(event.get());
    });
    step.take();
    seen
}

/// Polls once, and tells what came.
fn poll(worker: &mut Worker<Pair>, max: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    worker.poll(max, |event, _, _| seen.push(event.get()));
    seen
}

fn two(graph: &mut Graph<Pair>) -> [Worker<Pair>; 2] {
    let (_, workers) = graph.worker_pollers(&[], 2).expect("no dependency");
    workers.try_into().expect("two of them")
}

/// Lets each worker poll once on a thread of its own, for so many events.
fn race(
    workers: [Worker<Pair>; 2],
    max: u64,
    step: &Step,
) -> [thread::JoinHandle<(Vec<u64>, Worker<Pair>)>; 2] {
    workers.map(|mut worker| {
        let step = step.clone();
        thread::spawn(move || (poll_in_steps(&mut worker, max, &step), worker))
    })
}

#[test]
fn a_producer_waits_for_what_a_worker_has_in_hand() {
    explore("worker gate", Bound::Exhaustive, || {
        let mut graph = spinning(1);
        let (_, mut workers) = graph.worker_pollers(&[], 1).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let mut worker = workers.pop().expect("one worker");
        let step = Step::default();
        let taken = step.clone();
        // An overwritten event would be a race that the model sees.
        let worker = thread::spawn(move || (poll_in_steps(&mut worker, 1, &taken), worker));
        step.look();
        let had_room = producer.try_publish(|event| event.set(2)).is_ok();
        let (seen, mut worker) = worker.join().expect("the worker panicked");
        assert_eq!(seen, [1]);
        assert_eq!(producer.try_publish(|event| event.set(3)).is_ok(), !had_room);
        assert_eq!(poll(&mut worker, 1).len(), 1);
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_worker_that_joins_is_at_the_gate_before_it_claims() {
    explore("worker joins", Bound::Preemptions(3), || {
        let mut graph = spinning(1);
        let (group, workers) = graph.worker_pollers(&[], 1).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let step = Step::default();
        let taken = step.clone();
        let joiner = thread::spawn(move || {
            let mut worker = ring.join_worker_poller(group).expect("a group with a worker");
            let seen = poll_in_steps(&mut worker, 1, &taken);
            (seen, ring)
        });
        step.look();
        let had_room = producer.try_publish(|event| event.set(2)).is_ok();
        let (seen, _ring) = joiner.join().expect("the joiner panicked");
        assert_eq!(seen, [1]);
        // It has left, and the other one has nothing in hand.
        assert_eq!(producer.try_publish(|event| event.set(3)).is_ok(), !had_room);
        drop(workers);
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn each_event_goes_to_one_of_two_workers_and_neither_holds_on() {
    explore("two workers", Bound::Preemptions(3), || {
        let mut graph = spinning(2);
        let workers = two(&mut graph);
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let [(one, _first), (other, _second)] =
            race(workers, 2, &Step::default()).map(|worker| worker.join().expect("a worker panicked"));
        for value in 3..=4 {
            producer.try_publish(|event| event.set(value)).expect("nobody has anything in hand");
        }
        (one, other)
    })
    .saw_exactly([(vec![1, 2], vec![]), (vec![1], vec![2]), (vec![2], vec![1]), (vec![], vec![1, 2])])
    .in_at_least(50);
}

/// What a worker announces and does not claim can be what a producer goes to sleep over.
#[test]
fn a_producer_that_slept_over_an_announcement_is_woken() {
    explore("outdated announcement", Bound::Preemptions(2), || {
        let mut graph = parking(1);
        let workers = two(&mut graph);
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let workers = race(workers, 1, &Step::default());
        producer.publish(|event| event.set(2)).expect("an open ring");
        let [(one, _first), (other, _second)] =
            workers.map(|worker| worker.join().expect("a worker panicked"));
        (one, other)
    })
    .saw_exactly([(vec![1], vec![]), (vec![], vec![1]), (vec![1], vec![2]), (vec![2], vec![1])])
    .in_at_least(100);
}

/// There is something to claim at every moment: two events, and where one of them is handled a
/// third comes in its place. A place that was read too early looks empty then.
#[test]
fn a_worker_that_is_outrun_still_finds_what_is_there() {
    explore("outrun worker", Bound::Preemptions(3), || {
        let mut graph = spinning(2);
        let [mut quick, mut outrun] = two(&mut graph);
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let step = Step::default();
        let taken = step.clone();
        let quick = thread::spawn(move || {
            let seen = poll_in_steps(&mut quick, 1, &taken);
            let has_published = producer.try_publish(|event| event.set(3)).is_ok();
            taken.take();
            (seen, has_published, quick, producer)
        });
        step.look();
        assert!(outrun.is_ready(), "it found nothing, and there was something all the time");
        let outruns = poll_in_steps(&mut outrun, 1, &Step::default());
        let (seen, has_published, _quick, _producer) = quick.join().expect("the quick worker panicked");
        assert_eq!(outruns.len(), 1, "it took nothing, and there was something all the time");
        (seen[0], outruns[0], has_published)
    })
    .saw_exactly([(1, 2, false), (1, 2, true), (2, 1, false), (2, 1, true)])
    .in_at_least(20);
}

#[test]
fn only_what_is_published_is_claimed() {
    explore("claim of what is published", Bound::Exhaustive, || {
        let mut graph = spinning(1);
        let (_, mut workers) = graph.worker_pollers(&[], 1).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        let mut worker = workers.pop().expect("one worker");
        let worker = thread::spawn(move || (poll(&mut worker, 1), worker));
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let (mut seen, mut worker) = worker.join().expect("the worker panicked");
        let early = seen.len();
        seen.append(&mut poll(&mut worker, 1));
        assert_eq!(seen, [1]);
        early
    })
    .saw_exactly([0, 1])
    .in_at_least(5);
}

#[test]
fn the_last_worker_that_leaves_has_stopped_reading() {
    explore("last worker leaves", Bound::Preemptions(3), || {
        let mut graph = spinning(1);
        let workers = two(&mut graph);
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let leavers = workers.map(|mut worker| thread::spawn(move || poll(&mut worker, 1)));
        let had_room = producer.try_publish(|event| event.set(2)).is_ok();
        let seen = leavers.map(|leaver| leaver.join().expect("a worker panicked"));
        producer.try_publish(|event| event.set(3)).expect("nobody is there");
        (seen.concat(), had_room)
    })
    .saw_exactly([(vec![1], false), (vec![1], true), (vec![1, 2], true), (vec![2, 1], true)])
    .in_at_least(50);
}

#[test]
fn a_group_loses_nothing_when_the_ring_closes() {
    explore("group closes", Bound::Preemptions(2), || {
        let mut graph = spinning(2);
        let workers = two(&mut graph);
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        let workers = workers.map(|mut worker| {
            thread::spawn(move || {
                let mut seen = Vec::new();
                let polled = worker.poll(1, |event, _, _| seen.push(event.get()));
                (seen, polled == Polled::Finished, worker)
            })
        });
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        ring.close();
        let [(mut seen, first_has_ended, mut first), (more, second_has_ended, mut second)] =
            workers.map(|worker| worker.join().expect("a worker panicked"));
        seen.extend(more);
        let early = seen.len();
        assert!(early == 1 || !(first_has_ended || second_has_ended), "finished before all was handled");
        seen.append(&mut poll(&mut first, 1));
        assert_eq!(seen, [1]);
        for worker in [&mut first, &mut second] {
            assert_eq!(worker.poll(1, |_, _, _| panic!("there was one event")), Polled::Finished);
        }
        (early, first_has_ended || second_has_ended)
    })
    .saw_exactly([(0, false), (1, false), (1, true)])
    .in_at_least(50);
}

/// A worker has one event of two in hand when it panics, and leaves. The producer has no room
/// behind the other one until whoever adopts it has handled it.
#[test]
fn what_a_worker_leaves_behind_is_handled_once_and_not_overwritten() {
    explore("adoption", Bound::Preemptions(3), || {
        let mut graph = spinning(4);
        let (group, workers) = graph.worker_pollers(&[], 1).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=4 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let [mut leaver] = <[_; 1]>::try_from(workers).expect("one worker");
        let give_up = || leaver.poll(4, |_, _, _| resume_unwind(Box::new("the handler gave up")));
        assert!(catch_unwind(AssertUnwindSafe(give_up)).is_err(), "the panic must reach the worker");
        let mut adopter = ring.join_worker_poller(group).expect("a group with a worker");
        let leaver = thread::spawn(move || drop(leaver));
        let step = Step::default();
        let taken = step.clone();
        let adopter = thread::spawn(move || (poll_in_steps(&mut adopter, 1, &taken), adopter));
        step.look();
        // There is room for one at once. An overwritten event would be a race that the model sees.
        let published = (5..=6).take_while(|&value| producer.try_publish(|event| event.set(value)).is_ok());
        let published = published.count() as u64;
        leaver.join().expect("the leaver panicked");
        let (mut seen, mut adopter) = adopter.join().expect("the adopter panicked");
        let first = seen[0];
        seen.append(&mut poll(&mut adopter, 8));
        seen.sort_unstable();
        assert_eq!(seen, (2..=4 + published).collect::<Vec<_>>());
        (first, published)
    })
    .saw_exactly([(2, 1), (2, 2), (3, 1)])
    .in_at_least(100);
}

/// An event that a worker marks, by a store that orders nothing.
#[derive(Debug, Default)]
struct Marked {
    mark: AtomicU64,
}

#[test]
fn a_stage_behind_a_group_sees_what_each_worker_did() {
    explore("stage behind a group", Bound::Preemptions(2), || {
        let graph = RingBuilder::new(2, Marked::default).expect("a power of two");
        let mut graph = graph.wait(WaitStrategy::BusySpin).graph().expect("memory");
        let (group, workers) = graph.worker_pollers(&[], 2).expect("no dependency");
        let (_, mut later) = graph.poller(&[group]).expect("its own ring");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        for _ in 0..2 {
            producer.publish(|_| {}).expect("an open ring with room");
        }
        let step = Step::default();
        let workers = workers.into_iter().map(|mut worker| {
            let step = step.clone();
            thread::spawn(move || {
                worker.poll(1, |event, _, _| event.mark.store(1, Ordering::Relaxed));
                step.take();
                worker
            })
        });
        let workers: Vec<_> = workers.collect();
        step.look();
        let mut seen = 0;
        later.poll(2, |event, _, _| {
            assert_eq!(event.mark.load(Ordering::Relaxed), 1, "the worker had not finished");
            seen += 1;
        });
        for worker in workers {
            worker.join().expect("a worker panicked");
        }
        seen
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(100);
}

/// What workers write down without a lock while they have the only lane.
struct Notes(UnsafeCell<Vec<u64>>);

// SAFETY: only who has the lane writes, and the model sees whether that is so.
unsafe impl Sync for Notes {}
// SAFETY: as above.
unsafe impl Send for Notes {}

impl Notes {
    fn add(&self, value: u64) {
        // SAFETY: the caller has the lane.
        self.0.with_mut(|notes| unsafe { (*notes).push(value) });
    }
}

#[test]
fn a_lane_hands_over_where_it_stands_and_what_was_done_there() {
    explore("lane", Bound::Preemptions(3), || {
        let mut graph = spinning(2);
        let keyed = graph.keyed_worker_pollers(&[], 2, Some(1), |_| 0);
        let (_, workers) = keyed.expect("no dependency");
        let workers: [_; 2] = workers.try_into().expect("two workers");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let notes = Arc::new(Notes(UnsafeCell::new(Vec::new())));
        let workers = workers.map(|mut worker| {
            let notes = notes.clone();
            thread::spawn(move || {
                let mut handled = 0;
                worker.poll(1, |event, _, _| {
                    notes.add(event.get());
                    handled += 1;
                });
                (handled, worker)
            })
        });
        let [(one, mut worker), (other, _)] = workers.map(|worker| worker.join().expect("a worker panicked"));
        while let Polled::Events(_) = worker.poll(1, |event, _, _| notes.add(event.get())) {}
        // SAFETY: the others have ended.
        let order = notes.0.with(|notes| unsafe { (*notes).clone() });
        assert_eq!(order, [1, 2]);
        (one, other)
    })
    .saw_exactly([(0, 1), (1, 0), (1, 1)])
    .in_at_least(50);
}

/// A worker joins keyed lanes while the only other one leaves them.
#[test]
fn who_joins_keyed_lanes_goes_on_where_they_stand_or_is_refused() {
    explore("join of lanes", Bound::Preemptions(3), || {
        let mut graph = spinning(2);
        let keyed = graph.keyed_worker_pollers(&[], 1, Some(1), |_| 0);
        let (group, workers) = keyed.expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=2 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let [mut leaver] = <[_; 1]>::try_from(workers).expect("one worker");
        let notes = Arc::new(Notes(UnsafeCell::new(Vec::new())));
        let noted = notes.clone();
        let leaver = thread::spawn(move || {
            leaver.poll(1, |event, _, _| noted.add(event.get()));
        });
        let joined = match ring.join_worker_poller(group) {
            Ok(mut worker) => {
                let mut early = 0;
                worker.poll(1, |event, _, _| {
                    notes.add(event.get());
                    early += 1;
                });
                Some((worker, early))
            }
            Err(BuildError::NoSuchGroup) => None,
            Err(reason) => panic!("{reason}"),
        };
        leaver.join().expect("the leaver panicked");
        let early = joined.map(|(mut worker, early)| {
            while let Polled::Events(_) = worker.poll(1, |event, _, _| notes.add(event.get())) {}
            early
        });
        // SAFETY: the other has ended.
        let order = notes.0.with(|notes| unsafe { (*notes).clone() });
        assert_eq!(order, if early.is_some() { vec![1, 2] } else { vec![1] });
        for value in 3..=4 {
            producer.try_publish(|event| event.set(value)).expect("nobody has anything left to do");
        }
        early
    })
    .saw_exactly([None, Some(0), Some(1)])
    .in_at_least(50);
}

#[test]
fn a_producer_waits_for_all_lanes() {
    explore("lanes gate", Bound::Preemptions(3), || {
        let mut graph = spinning(1);
        let keyed = graph.keyed_worker_pollers(&[], 2, Some(2), |_| 0);
        let (_, workers) = keyed.expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        let workers: [Worker<Pair>; 2] = workers.try_into().expect("two workers");
        let step = Step::default();
        let workers = race(workers, 1, &step);
        step.look();
        let had_room = producer.try_publish(|event| event.set(2)).is_ok();
        let polled = workers.map(|worker| worker.join().expect("a worker panicked"));
        let [(mut seen, mut first), (more, _second)] = polled;
        seen.extend(more);
        seen.append(&mut poll(&mut first, 4));
        seen.sort_unstable();
        assert_eq!(seen, if had_room { vec![1, 2] } else { vec![1] });
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(50);
}

/// Two workers have each an event in hand when they panic, and leave. Whoever is left finds both,
/// and comes to the end.
#[test]
fn what_two_workers_leave_behind_is_all_handled() {
    explore("two adoptions", Bound::Preemptions(2), || {
        let mut graph = spinning(8);
        let (group, mut workers) = graph.worker_pollers(&[], 2).expect("no dependency");
        let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
        for value in 1..=8 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        // The look of a ring of many producers tells exactly how much there is, so that each claims
        // two.
        for leaver in &mut workers {
            let give_up = || leaver.poll(8, |_, _, _| resume_unwind(Box::new("the handler gave up")));
            assert!(catch_unwind(AssertUnwindSafe(give_up)).is_err(), "the panic must reach the worker");
        }
        let mut heir = ring.join_worker_poller(group).expect("a group with workers");
        let leavers = workers.into_iter().map(|leaver| thread::spawn(move || drop(leaver)));
        let leavers: Vec<_> = leavers.collect();
        let mut seen = poll(&mut heir, 8);
        let early = seen.len();
        for leaver in leavers {
            leaver.join().expect("a leaver panicked");
        }
        ring.close();
        let mut polled = Polled::Empty;
        for _ in 0..3 {
            polled = heir.poll(8, |event, _, _| seen.push(event.get()));
        }
        assert_eq!(polled, Polled::Finished, "something was left behind for good");
        seen.sort_unstable();
        assert_eq!(seen, [2, 4, 5, 6, 7, 8]);
        early
    })
    .saw_exactly([4, 5, 6])
    .in_at_least(20);
}
