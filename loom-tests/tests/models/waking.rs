//! Wake-ups by name: who sleeps over what has been done is rung for there. A model has no time, so
//! a thread that nobody wakes is a deadlock. `parking.rs` has the handshake itself.

use super::groups::{Step, poll_in_steps};
use super::{Pair, parking, take};
use ringmain::ring::{ConsumerId, Graph, MultiProducer, Polled, Poller, Ring, Stopped, Worker};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Sleeps until there is something to poll. Whether there was at once.
fn sleep(poller: &Poller<Pair>) -> bool {
    let was_ready = poller.is_ready();
    assert!(poller.wait(WaitStrategy::Blocking, Duration::MAX));
    was_ready
}

/// Lets a thread that finds nothing to do spin, nap and go to sleep, which a model tries last where
/// nobody asks for it.
fn have_it_sleep() {
    for _ in 0..3 {
        thread::yield_now();
    }
}

/// A ring of one that parks, and whose only event is published.
fn full(graph: Graph<Pair>) -> (MultiProducer<Pair>, Ring<Pair>) {
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");
    producer.publish(|event| event.set(1)).expect("an open ring with room");
    (producer, ring)
}

/// Publishes a second event. Whether there was room at once.
fn publish_asleep(producer: &mut MultiProducer<Pair>) -> bool {
    let had_room = producer.try_publish(|event| event.set(2)).is_ok();
    if !had_room {
        producer.publish(|event| event.set(2)).expect("an open ring");
    }
    had_room
}

fn workers<const N: usize>(graph: &mut Graph<Pair>) -> (ConsumerId, [Worker<Pair>; N]) {
    let (group, workers) = graph.worker_pollers(&[], N).expect("no dependency");
    (group, workers.try_into().expect("as many as were asked for"))
}

#[test]
fn a_consumer_is_woken_by_a_batch() {
    explore("batch wakes", Bound::Preemptions(3), || {
        let mut graph = parking(2);
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        let writer = thread::spawn(move || {
            producer.publish_batch(2, |place, event| event.set(place as u64 + 1)).expect("room for both");
        });
        let was_ready = sleep(&poller);
        assert_eq!(take(&mut poller, 2), [1, 2]);
        writer.join().expect("the writer panicked");
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// A consumer that nothing comes for is asked to leave.
#[test]
fn a_consumer_is_woken_by_mail() {
    explore("mail wakes", Bound::Preemptions(2), || {
        let mut graph = parking(1);
        let consumer = graph.consumer("sleeper", &[], |_, _, _| ()).expect("no dependency");
        let (_producer, mut ring) = graph.build_single_producer().expect("a thread");
        have_it_sleep();
        ring.leave(consumer, Duration::MAX).expect("there is no limit");
        assert_eq!(ring.reports(), []);
    })
    .saw_exactly([()])
    .in_at_least(10);
}

/// One stage waits for an earlier one, and is stopped: then it waits no more.
#[test]
fn a_consumer_is_woken_by_a_stop() {
    explore("stop wakes", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (first, _stuck) = graph.poller(&[]).expect("no dependency");
        let (_, poller) = graph.poller(&[first]).expect("its own ring");
        let (_producer, _ring) = full(graph);
        let supervisor = poller.supervisor();
        let sleeper = thread::spawn(move || {
            // Only who polls under the lease goes on after a stop.
            assert!(poller.wait_leased(WaitStrategy::Blocking, Duration::MAX));
            poller
        });
        have_it_sleep();
        assert!(matches!(supervisor.stop(), Stopped::BetweenCalls));
        let _poller = sleeper.join().expect("the sleeper panicked");
    })
    .saw_exactly([()])
    .in_at_least(5);
}

/// One stage waits for an earlier one, and the ring is halted.
#[test]
fn a_consumer_is_woken_by_a_halt() {
    explore("halt wakes", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (first, _stuck) = graph.poller(&[]).expect("no dependency");
        let (_, mut poller) = graph.poller(&[first]).expect("its own ring");
        let (_producer, ring) = full(graph);
        let sleeper = thread::spawn(move || {
            let was_ready = sleep(&poller);
            assert_eq!(poller.poll(1, |_, _, _| panic!("the earlier stage did nothing")), Polled::Finished);
            (was_ready, poller)
        });
        ring.halt();
        let (was_ready, _poller) = sleeper.join().expect("the sleeper panicked");
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_later_stage_is_woken_by_an_earlier_one_that_leaves() {
    explore("leaving wakes a stage", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (first, leaver) = graph.poller(&[]).expect("no dependency");
        let (_, mut poller) = graph.poller(&[first]).expect("its own ring");
        let (_producer, _ring) = full(graph);
        let leaver = thread::spawn(move || drop(leaver));
        let was_ready = sleep(&poller);
        assert_eq!(take(&mut poller, 1), [1]);
        leaver.join().expect("the leaver panicked");
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_producer_is_woken_by_a_worker() {
    explore("worker wakes a producer", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (_, [mut worker]) = workers(&mut graph);
        let (mut producer, _ring) = full(graph);
        let step = Step::default();
        let taken = step.clone();
        let worker = thread::spawn(move || (poll_in_steps(&mut worker, 1, &taken), worker));
        step.look();
        let had_room = publish_asleep(&mut producer);
        let (seen, _worker) = worker.join().expect("the worker panicked");
        assert_eq!(seen, [1]);
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_later_stage_is_woken_by_a_worker() {
    explore("worker wakes a stage", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (group, [mut worker]) = workers(&mut graph);
        let (_, mut poller) = graph.poller(&[group]).expect("its own ring");
        let (_producer, _ring) = full(graph);
        let step = Step::default();
        let taken = step.clone();
        let worker = thread::spawn(move || (poll_in_steps(&mut worker, 1, &taken), worker));
        step.look();
        let was_ready = sleep(&poller);
        assert_eq!(take(&mut poller, 1), [1]);
        let (seen, _worker) = worker.join().expect("the worker panicked");
        assert_eq!(seen, [1]);
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

#[test]
fn a_producer_is_woken_by_the_last_worker_that_leaves() {
    explore("last worker wakes a producer", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (_, [worker]) = workers(&mut graph);
        let (mut producer, _ring) = full(graph);
        let leaver = thread::spawn(move || drop(worker));
        let had_room = publish_asleep(&mut producer);
        leaver.join().expect("the leaver panicked");
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// A worker leaves what it had in hand, and another one, which found nothing to claim, is asleep.
#[test]
fn a_worker_is_woken_by_what_another_leaves_behind() {
    explore("left behind wakes", Bound::Preemptions(3), || {
        let mut graph = parking(4);
        let (group, [mut leaver]) = workers(&mut graph);
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        for value in 1..=4 {
            producer.publish(|event| event.set(value)).expect("an open ring with room");
        }
        let give_up = || leaver.poll(4, |_, _, _| resume_unwind(Box::new("the handler gave up")));
        assert!(catch_unwind(AssertUnwindSafe(give_up)).is_err(), "the panic must reach the worker");
        let mut worker = ring.join_worker_poller(group).expect("a group with a worker");
        assert_eq!(worker.poll(4, |_, _, _| ()), Polled::Events(2));
        let leaver = thread::spawn(move || drop(leaver));
        let was_ready = worker.is_ready();
        assert!(worker.wait(WaitStrategy::Blocking, Duration::MAX));
        leaver.join().expect("the leaver panicked");
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// One lane of two workers, and its stage.
fn lane<const N: usize>(graph: &mut Graph<Pair>) -> (ConsumerId, [Worker<Pair>; N]) {
    let keyed = graph.keyed_worker_pollers(&[], N, Some(1), |_| 0);
    let (group, workers) = keyed.expect("no dependency");
    (group, workers.try_into().expect("as many as were asked for"))
}

#[test]
fn a_producer_is_woken_by_a_lane_that_moves() {
    explore("lane wakes a producer", Bound::Preemptions(3), || {
        let mut graph = parking(1);
        let (_, [mut worker]) = lane(&mut graph);
        let (mut producer, _ring) = full(graph);
        let step = Step::default();
        let taken = step.clone();
        let worker = thread::spawn(move || (poll_in_steps(&mut worker, 1, &taken), worker));
        step.look();
        let had_room = publish_asleep(&mut producer);
        let (seen, _worker) = worker.join().expect("the worker panicked");
        assert_eq!(seen, [1]);
        had_room
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// A worker finds the only lane leased, and what is left in it is for whoever takes it next.
#[test]
fn a_worker_is_woken_by_a_lane_that_is_given_back() {
    explore("lane wakes a worker", Bound::Preemptions(3), || {
        let mut graph = parking(2);
        let (_, [mut worker, mut other]) = lane(&mut graph);
        let (mut producer, _ring) = full(graph);
        producer.publish(|event| event.set(2)).expect("room for two");
        let step = Step::default();
        let taken = step.clone();
        let worker = thread::spawn(move || (poll_in_steps(&mut worker, 1, &taken), worker));
        step.look();
        let was_ready = other.is_ready();
        assert!(other.wait(WaitStrategy::Blocking, Duration::MAX));
        let (mut seen, _worker) = worker.join().expect("the worker panicked");
        other.poll(2, |event, _, _| seen.push(event.get()));
        assert_eq!(seen, [1, 2]);
        was_ready
    })
    .saw_exactly([false, true])
    .in_at_least(20);
}

/// A worker of a crew handles an event and turns to something else: the next event of the lane is for
/// the other one, which sleeps.
#[cfg(ringmain_loom)]
#[test]
fn a_worker_is_woken_for_a_lane_that_another_turns_away_from() {
    explore("a lane that is left", Bound::Preemptions(3), || {
        let mut graph = parking(2);
        let (_, [mut worker, mut other]) = lane(&mut graph);
        let (mut producer, _ring) = full(graph);
        producer.publish(|event| event.set(2)).expect("room for two");
        let step = Step::default();
        let taken = step.clone();
        let worker = thread::spawn(move || {
            let mut seen = Vec::new();
            worker.poll_in_crew_and_turn_away(1, |event, _, _| {
                taken.take();
                seen.push(event.get());
            });
            (seen, worker)
        });
        step.look();
        other.wait_in_crew();
        let mut seen = Vec::new();
        other.poll(2, |event, _, _| seen.push(event.get()));
        let (by_the_first, _worker) = worker.join().expect("the worker panicked");
        // Where it came while the first one had the lane.
        other.poll(2, |event, _, _| seen.push(event.get()));
        seen.extend(&by_the_first);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        by_the_first
    })
    .saw_exactly([vec![], vec![1], vec![2]])
    .in_at_least(20);
}

/// A later stage sleeps over the place that a worker has announced, although the other worker has
/// handled it.
#[test]
fn a_later_stage_that_slept_over_an_announcement_is_woken() {
    explore("outdated announcement and a stage", Bound::Preemptions(1), || {
        let mut graph = parking(1);
        let (group, workers) = workers::<2>(&mut graph);
        let (_, mut poller) = graph.poller(&[group]).expect("its own ring");
        let (_producer, _ring) = full(graph);
        let step = Step::default();
        let workers = workers.map(|mut worker| {
            let taken = step.clone();
            thread::spawn(move || (poll_in_steps(&mut worker, 1, &taken), worker))
        });
        step.look();
        let was_ready = sleep(&poller);
        assert_eq!(take(&mut poller, 1), [1]);
        let [(one, _first), (other, _second)] =
            workers.map(|worker| worker.join().expect("a worker panicked"));
        (was_ready, one.len(), other.len())
    })
    .saw_exactly([(false, 0, 1), (false, 1, 0), (true, 0, 1), (true, 1, 0)])
    .in_at_least(100);
}

/// What comes afterwards rings no bell: only who has noticed that the ring's strategy was switched,
/// and spins, sees it.
#[cfg(ringmain_loom)]
#[test]
fn all_are_woken_by_a_switch_of_the_strategy() {
    use ringmain_loom_tests::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;

    type Wait = fn(&Ring<Pair>, Arc<AtomicBool>);
    let among_consumers: Wait =
        |ring, is_ready| ring.wait_among_consumers(|| is_ready.load(Ordering::Relaxed).then_some(()));
    let among_producers: Wait =
        |ring, is_ready| ring.wait_among_producers(|| is_ready.load(Ordering::Relaxed).then_some(()));
    for wait in [among_consumers, among_producers] {
        explore("switch wakes", Bound::Preemptions(3), move || {
            let (_producer, ring) = parking(1).build_multi_producer().expect("no threads to start");
            let ring = Arc::new(ring);
            let is_ready = Arc::new(AtomicBool::new(false));
            let switcher = {
                let (ring, is_ready) = (ring.clone(), is_ready.clone());
                thread::spawn(move || {
                    ring.set_wait(WaitStrategy::BusySpin).expect("it does not park");
                    is_ready.store(true, Ordering::Relaxed);
                })
            };
            let was_ready = is_ready.load(Ordering::Relaxed);
            wait(&ring, is_ready);
            switcher.join().expect("the switcher panicked");
            was_ready
        })
        .saw_exactly([false, true])
        .in_at_least(20);
    }
}

/// Workers of a crew that get one event each, whatever they wait through, and take no second one: as
/// if the handler did not return.
#[cfg(ringmain_loom)]
fn take_one_each(workers: [Worker<Pair>; 2]) -> [thread::JoinHandle<(u64, Worker<Pair>)>; 2] {
    workers.map(|mut worker| {
        thread::spawn(move || {
            let mut seen = None;
            while seen.is_none() {
                worker.wait_in_crew();
                worker.poll(1, |event, _, _| seen = Some(event.get()));
            }
            // It stays: who leaves wakes everybody.
            (seen.expect("an event"), worker)
        })
    })
}

/// Publishes 1 and 2, one by one, to two workers of a crew, and tells who got what.
#[cfg(ringmain_loom)]
fn publish_to_a_crew(graph: Graph<Pair>, workers: [Worker<Pair>; 2]) -> [u64; 2] {
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
    let workers = take_one_each(workers);
    have_it_sleep();
    for value in [1, 2] {
        producer.publish(|event| event.set(value)).expect("room for two");
    }
    let workers = workers.map(|worker| worker.join().expect("a worker panicked"));
    [workers[0].0, workers[1].0]
}

/// The second event is published while the first worker is under way or busy with the first event.
#[cfg(ringmain_loom)]
#[test]
fn no_event_waits_for_a_busy_worker_while_another_sleeps() {
    explore("two of a crew", Bound::Preemptions(2), || {
        let mut graph = parking(2);
        let (_, workers) = workers::<2>(&mut graph);
        publish_to_a_crew(graph, workers)
    })
    .saw_exactly([[1, 2], [2, 1]])
    .in_at_least(100);
}

/// The same, of events in two lanes.
#[cfg(ringmain_loom)]
#[test]
fn no_lane_waits_for_a_busy_worker_while_another_sleeps() {
    explore("two lanes of a crew", Bound::Preemptions(1), || {
        let mut graph = parking(2);
        let keyed = graph.keyed_worker_pollers(&[], 2, Some(2), Pair::get);
        let (_, workers) = keyed.expect("no dependency");
        publish_to_a_crew(graph, workers.try_into().expect("two of them"))
    })
    .saw_exactly([[1, 2], [2, 1]])
    .in_at_least(100);
}

/// A worker has found that the ring is not at its end, because another one is at the last event.
#[cfg(ringmain_loom)]
#[test]
fn a_crew_is_woken_by_the_end_of_its_last_work() {
    explore("last work of a crew", Bound::Preemptions(2), || {
        let mut graph = parking(1);
        let (_, workers) = workers::<2>(&mut graph);
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        producer.publish(|event| event.set(1)).expect("an open ring with room");
        ring.close();
        let workers = workers.map(|mut worker| {
            thread::spawn(move || {
                let mut seen = 0;
                while worker.poll(1, |_, _, _| seen += 1) != Polled::Finished {
                    worker.wait_in_crew();
                }
                (seen, worker)
            })
        });
        workers.map(|worker| worker.join().expect("a worker panicked")).map(|(seen, _worker)| seen)
    })
    .saw_exactly([[0, 1], [1, 0]])
    .in_at_least(20);
}
