//! Edges `SWAP_TABLE` and `CHANGE_LOG`, and the life of routes: a broker's subscribing, publishing,
//! unsubscribing and reclaiming, on the code that ships, with a consumer that takes its turns on a
//! thread of the model.

use ringmain::routing::RoutingTable;
use ringmain::topic::{Pattern, Topic};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;

/// Whoever has read a generation never gets an older table: else it would remember the old one as the new one, and miss
/// a subscription for ever.
#[test]
fn a_table_is_never_older_than_the_generation_that_was_read() {
    explore("table swap", Bound::Exhaustive, || {
        let table = Arc::new(RoutingTable::new());
        let pattern = Pattern::new("a").expect("a pattern");
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                for value in 1..=2_u64 {
                    table.update(|edit| edit.insert(&pattern, value));
                }
            })
        };
        let generation = table.generation();
        let snapshot = table.load();
        assert!(snapshot.generation >= generation, "{} is older than {generation}", snapshot.generation);
        let mut found = Vec::new();
        snapshot.trie.matches("a", &mut found);
        assert_eq!(found.len() as u64, snapshot.generation, "a table was seen half-changed");
        writer.join().expect("the writer panicked");
        (generation, snapshot.generation)
    })
    .saw_exactly([(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)])
    .in_at_least(10);
}

/// Whoever is told that no change concerns its topic has read of each change, and of none that was
/// noted in another's place: else it would miss a subscription for ever.
#[test]
fn no_change_is_missed_for_a_later_one_in_its_place() {
    explore("change log", Bound::Exhaustive, || {
        let table = Arc::new(RoutingTable::new());
        let patterns = ["a", "b", "c"].map(|text| Pattern::new(text).expect("a pattern"));
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                for pattern in &patterns {
                    table.update(|edit| edit.insert(pattern, 1));
                }
            })
        };
        let held = table.still_holds(0, &Topic::new("a").expect("a topic"));
        writer.join().expect("the writer panicked");
        held
    })
    .saw_exactly([None, Some(0)])
    .in_at_least(10);
}

/// What a publisher does: it resolves its topic in a snapshot, which may be ahead of the word, and
/// goes on from answer to answer.
#[test]
fn a_change_is_noticed_from_whichever_snapshot_one_starts() {
    explore("from a snapshot on", Bound::Exhaustive, || {
        let table = Arc::new(RoutingTable::new());
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                for text in ["x", "a", "b"] {
                    let pattern = Pattern::new(text).expect("a pattern");
                    table.update(|edit| edit.insert(&pattern, 1));
                }
            })
        };
        let topic = Topic::new("a").expect("a topic");
        // loom, which tells by it that what follows may come between the writer's steps.
        let _ = table.generation();
        let (first, found) = {
            let (snapshot, mut found) = (table.load(), Vec::new());
            snapshot.trie.matches("a", &mut found);
            (snapshot.generation, found.len())
        };
        assert_eq!(found, usize::from(first >= 2));
        let mut holds = first;
        for _ in 0..2 {
            if let Some(now) = table.still_holds(holds, &topic) {
                assert!(now >= holds, "it held until {holds}, and now until {now}");
                holds = now;
            }
        }
        assert!(first >= 2 || holds < 2, "the change was missed: from {first} to {holds}");
        writer.join().expect("the writer panicked");
        (first, holds)
    })
    .saw_exactly([(0, 0), (0, 1), (1, 1), (2, 2), (2, 3), (3, 3)])
    .in_at_least(1_000);
}

/// With a whole broker, which only models can have without threads.
#[cfg(ringmain_loom)]
mod broker {
    use super::*;
    use ringmain::broker::unstarted::UnstartedConsumers;
    use ringmain::broker::{Broker, Dispatcher};
    use ringmain::clock::Clock;
    use ringmain::wait::WaitStrategy;
    use ringmain_loom_tests::sync::Mutex;
    use ringmain_loom_tests::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    /// One dispatcher of two slots, whose consumer never sleeps.
    fn broker() -> (Broker<u64>, UnstartedConsumers<u64>) {
        let dispatcher = Dispatcher::new("only").capacity(2).wait(WaitStrategy::BusySpin);
        // A model is to run alike each time.
        let (clock, _time) = Clock::manual();
        Broker::of().dispatcher(dispatcher).clock(clock).build_unstarted().expect("valid options")
    }

    /// Takes turns until nothing is left to do. For when all others have ended.
    fn finish(consumers: &mut UnstartedConsumers<u64>) {
        for _ in 0..3 {
            consumers.turn(4);
        }
    }

    /// What is routed to a subscription finds its handler there, however late the consumer reads its mail.
    #[test]
    fn a_handler_is_there_before_any_message_for_it() {
        explore("subscribe", Bound::Preemptions(3), || {
            let (broker, mut consumers) = broker();
            let mut publisher = broker.publisher("a").expect("a topic");
            let subscriber = {
                let broker = broker.clone();
                thread::spawn(move || broker.subscribe("a", |_| ()).expect("a pattern"))
            };
            let consumer = thread::spawn(move || {
                consumers.turn(4);
                consumers
            });
            let accepted = publisher.publish(7).expect("room").accepted;
            let subscription = subscriber.join().expect("the subscriber panicked");
            let mut consumers = consumer.join().expect("the consumer panicked");
            finish(&mut consumers);
            assert_eq!(subscription.delivered(), u64::from(accepted), "it was not delivered");
            subscription.detach();
            accepted
        })
        .saw_exactly([0, 1])
        .in_at_least(100);
    }

    /// A broker that has refused one message because it was closed accepts no other.
    #[test]
    fn who_was_refused_by_a_closed_broker_is_refused_everywhere() {
        explore("closed flag", Bound::Preemptions(2), || {
            let (broker, mut consumers) = broker();
            broker.subscribe("a", |_| ()).expect("a pattern").detach();
            let mut routed = broker.publisher("a").expect("a topic");
            let mut unrouted = broker.publisher("nobody").expect("a topic");
            let closer = thread::spawn(move || drop(broker));
            let is_accepted = [routed.publish(7).is_ok(), unrouted.publish(7).is_ok()];
            closer.join().expect("the closer panicked");
            finish(&mut consumers);
            is_accepted
        })
        .saw_exactly([[true, true], [true, false], [false, false]])
        .in_at_least(10);
    }

    /// A route is freed, and its id used again, only when no message that travels it can be met any more.
    #[test]
    fn a_message_never_travels_a_route_that_is_freed() {
        explore("retirement", Bound::Preemptions(3), || {
            let (broker, mut consumers) = broker();
            let subscription = broker
                .subscribe("*", |message| {
                    let topic = if **message == 1 { "one" } else { "two" };
                    assert_eq!(message.topic().as_str(), topic, "it came by another route");
                })
                .expect("a pattern");
            let consumer = thread::spawn(move || {
                consumers.turn(4);
                consumers
            });
            let mut publisher = broker.publisher("one").expect("a topic");
            let _ = publisher.publish(1).expect("room");
            drop(publisher);
            broker.reclaim();
            let is_freed = broker.metrics().get("messaging.broker.routes") == Some(0.0);
            let mut publisher = broker.publisher("two").expect("a topic");
            let _ = publisher.publish(2).expect("room");
            let mut consumers = consumer.join().expect("the consumer panicked");
            finish(&mut consumers);
            assert_eq!(subscription.delivered(), 2, "a message was lost");
            subscription.detach();
            is_freed
        })
        .saw_exactly([false, true])
        .in_at_least(100);
    }

    /// Notes, when it is dropped, that it was, and by which thread.
    struct Witness(Arc<Mutex<Vec<thread::ThreadId>>>);

    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.lock().push(thread::current().id());
        }
    }

    /// Once `unsubscribe` has returned no call begins, none is running, and the handler has been
    /// dropped, once, by whoever had it: by the consumer, or by the caller where the consumer had
    /// not read of it.
    #[test]
    fn no_call_begins_after_unsubscribe_has_returned() {
        explore("unsubscribe", Bound::Preemptions(3), || {
            let (broker, mut consumers) = broker();
            let has_returned = Arc::new(AtomicBool::new(false));
            let calls = Arc::new(AtomicU32::new(0));
            let drops = Arc::new(Mutex::new(Vec::new()));
            let subscription = {
                let (has_returned, calls) = (has_returned.clone(), calls.clone());
                let witness = Witness(drops.clone());
                let handler = move |_: &ringmain::message::Message<'_, u64>| {
                    let _captured = &witness;
                    assert!(!has_returned.load(Ordering::Relaxed), "a call began after it");
                    calls.fetch_add(1, Ordering::Relaxed);
                };
                broker.subscribe("a", handler).expect("a pattern")
            };
            let mut publisher = broker.publisher("a").expect("a topic");
            let _ = publisher.publish(1).expect("room");
            let consumer = {
                let has_returned = has_returned.clone();
                thread::spawn(move || {
                    while !has_returned.load(Ordering::Relaxed) {
                        consumers.turn(4);
                        thread::yield_now();
                    }
                    consumers.turn(4);
                    consumers
                })
            };
            subscription.unsubscribe();
            let dropped_by = drops.lock().clone();
            has_returned.store(true, Ordering::Relaxed);
            let called = calls.load(Ordering::Relaxed);
            assert_eq!(dropped_by.len(), 1, "it was not dropped, or more than once");
            let is_withdrawn = dropped_by[0] == thread::current().id();
            let accepted = publisher.publish(2).expect("room").accepted;
            assert_eq!(accepted, 0, "it was routed to a subscription that had ended");
            let mut consumers = consumer.join().expect("the consumer panicked");
            finish(&mut consumers);
            assert_eq!(calls.load(Ordering::Relaxed), called);
            assert_eq!(drops.lock().len(), 1, "it was dropped once more");
            (called, is_withdrawn)
        })
        .saw_exactly([(0, false), (0, true), (1, false)])
        .in_at_least(100);
    }
}
