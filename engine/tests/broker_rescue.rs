//! The rescue: a handler that does not return costs its own delivery, and nobody else on its thread anything.

mod broker_support;

use broker_support::stuck::*;
use broker_support::{LIMIT, Random, eventually, next, panic_quietly, shut_down, thread_count};
use ringmain::broker::dead_letters::DeadLetterOptions;
use ringmain::broker::{
    Backlog, Broker, BrokerBuildError, Dispatcher, DropReason, FailureKind, RescueError, Subscription, Term,
    UnsubscribeError, filter,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn the_others_of_a_stuck_consumer_go_on_and_it_does_when_its_call_returns() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(2);
    let (stuck, late) = at(&broker, "stuck", &doors);
    let (other, received) = at(&broker, "other", &Doors::default());
    publish(&broker, 0..10);
    assert_eq!(take(&received, 10), (0..10).collect::<Vec<_>>());
    assert_eq!(take(&late, 2), [0, 1]);
    assert!(stuck.status().is_away && !other.status().is_away);
    eventually("the rest waits for it", || stuck.status().backlogged == 7);
    assert_eq!(count(&broker, &stuck, Term::InDoubt), 1);
    assert_eq!(broker.metrics().values["messaging.handlers.away"], 1.0);
    let [stall] = &broker.stalls()[..] else {
        panic!("it is told as long as it lasts: {:?}", broker.stalls())
    };
    assert_eq!((stall.subscription.as_deref(), stall.is_replaced), (Some("stuck"), true));
    assert!(stall.age >= AGE && stall.message.is_some() && stall.topic.is_some(), "{stall:?}");
    assert!(stall.to_string().ends_with("another thread goes on in its place"), "{stall}");

    doors.open(2);
    assert_eq!(take(&late, 8), (2..10).collect::<Vec<_>>());
    eventually("it is back", || !stuck.status().is_away && broker.stalls().is_empty());
    eventually("its thread ends", || broker.metrics().values["messaging.handlers.away"] == 0.0);
    assert_eq!(broker.metrics().values["messaging.threads.replaced"], 1.0);
    publish(&broker, 10..12);
    assert_eq!(take(&late, 2), [10, 11]);
    let ledger = shut_down(&broker);
    assert!(ledger.is_balanced(), "{ledger:#?}");
    let of = |name| ledger.named(name).expect("it is there");
    assert_eq!((of("stuck").delivered(), of("stuck").count(Term::InDoubt)), (11, 1), "{ledger:#?}");
    assert_eq!(of("other").delivered(), 12);
}

#[test]
fn a_rescue_by_hand_does_what_one_by_itself_does_and_says_what_it_cannot() {
    let (broker, doors) = (by_hand(), Doors::default());
    doors.close(0);
    let (stuck, late) = at(&broker, "stuck", &doors);
    let (_other, received) = at(&broker, "other", &Doors::default());
    publish(&broker, 0..3);
    let stall = stall(&broker);
    assert!(received.try_recv().is_err(), "nobody has asked for it");
    broker.rescue(&stall).expect("it is in a handler's call");
    assert_eq!(take(&received, 3), [0, 1, 2]);
    assert!(stuck.status().is_away);
    let thread = "rm-shared-0".to_owned();
    assert_eq!(broker.rescue(&stall), Err(RescueError::Over { thread }), "it is in another's place now");
    let thread = "rm-shared-0".to_owned();
    assert_eq!(broker.rescue(&broker.stalls()[0]), Err(RescueError::AlreadyReplaced { thread }));
    assert_eq!(by_hand().rescue(&stall), Err(RescueError::NoCall), "another broker's");
    doors.open(0);
    assert_eq!(take(&late, 3), [0, 1, 2]);
    assert!(shut_down(&broker).is_balanced());
    assert_eq!(broker.rescue(&stall), Err(RescueError::Over { thread: "rm-shared-0".to_owned() }));
}

#[test]
fn a_call_that_has_returned_or_is_no_handlers_is_not_rescued() {
    let broker = by_hand();
    let (go_on, until_then) = channel::<()>();
    let until_then = Mutex::new(until_then);
    let hangs = filter::payload(move |_: &u64| {
        let _ = until_then.lock().expect("no panic").recv();
        true
    });
    let (sender, received) = channel();
    let handler = move |message: &ringmain::message::Message<'_, u64>| _ = sender.send(**message);
    let _filtered = broker.subscription().pattern("a").filter(hangs).subscribe(handler).expect("valid");
    publish(&broker, [7]);
    let stall = stall(&broker);
    let thread = "rm-shared-0".to_owned();
    assert_eq!(broker.rescue(&stall), Err(RescueError::NotAHandler { thread: thread.clone() }));
    go_on.send(()).expect("it waits");
    assert_eq!(next(&received), 7);
    eventually("it is over", || broker.stalls().is_empty());
    assert_eq!(broker.rescue(&stall), Err(RescueError::Over { thread }));
    drop(go_on);
    let ledger = shut_down(&broker);
    assert_eq!((ledger.total().delivered(), ledger.total().count(Term::InDoubt)), (1, 0));
}

#[test]
fn a_dispatcher_that_was_not_told_so_is_not_rescued() {
    let broker: Broker<u64> = Broker::of().stall_after(AGE).build().expect("valid");
    let doors = Doors::default();
    doors.close(0);
    let (_stuck, late) = at(&broker, "stuck", &doors);
    publish(&broker, [0]);
    let error = broker.rescue(&stall(&broker)).expect_err("it holds its slot");
    assert_eq!(error, RescueError::NotRescuable { dispatcher: "default".to_owned() });
    assert!(error.to_string().contains("Dispatcher::rescuable"), "{error}");
    doors.open(0);
    assert_eq!(next(&late), 0);
}

#[test]
fn a_rescue_that_nobody_would_make_is_refused_when_the_broker_is_built() {
    let after = |age| Broker::of::<u64>().dispatcher(Dispatcher::new("d").rescue_after(age));
    let too_soon = after(Duration::from_micros(999)).build().expect_err("too soon");
    assert!(matches!(&too_soon, BrokerBuildError::Rescue { dispatcher, .. } if dispatcher == "d"));
    let error = after(AGE).stall_after(None).build().expect_err("nobody looks");
    assert!(error.to_string().contains("stall_after"), "{error}");
    assert!(
        Broker::of::<u64>().dispatcher(Dispatcher::new("d").rescuable()).stall_after(None).build().is_ok()
    );
}

#[test]
fn what_waits_for_a_handler_that_never_returns_is_handed_back_and_its_thread_named() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let (stuck, late) = at(&broker, "stuck", &doors);
    let (_other, received) = at(&broker, "other", &Doors::default());
    publish(&broker, 0..5);
    assert_eq!(take(&received, 5), [0, 1, 2, 3, 4]);
    let (begun, limit) = (Instant::now(), Duration::from_millis(200));
    let report = broker.shutdown(limit).expect("not in a closure");
    assert!(begun.elapsed() >= limit / 2, "it is given the time to come back");
    let [abandoned] = &report.abandoned[..] else { panic!("{:?}", report.abandoned) };
    assert_eq!((&*abandoned.thread, &*abandoned.subscription), ("rm-shared-0", "stuck"));
    assert!(abandoned.message.is_some() && abandoned.topic.is_some());
    let handed_back: Vec<_> = report.undelivered.iter().map(|one| one.message.payload).collect();
    assert_eq!(handed_back, [1, 2, 3, 4]);
    assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    assert_eq!(count(&broker, &stuck, Term::InDoubt), 1);
    doors.open(0);
    assert_eq!(next(&late), 0);
    eventually("nobody is left", || broker.metrics().values["messaging.threads.total"] == 0.0);
    assert!(broker.shutdown(LIMIT).expect("not in a closure").abandoned.is_empty(), "it has come back");
}

#[test]
fn as_many_handlers_as_there_are_may_be_stuck_each_on_a_thread_of_its_own() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let stuck: Vec<_> = (0..4).map(|number| at(&broker, &format!("stuck {number}"), &doors)).collect();
    let (_other, received) = at(&broker, "other", &Doors::default());
    publish(&broker, 0..3);
    assert_eq!(take(&received, 3), [0, 1, 2]);
    eventually("all are away", || stuck.iter().all(|(one, _)| one.status().is_away));
    assert_eq!(broker.metrics().values["messaging.handlers.away"], 4.0);
    assert_eq!(broker.stalls().len(), 4);
    doors.open(0);
    for (_, late) in &stuck {
        assert_eq!(take(late, 3), [0, 1, 2]);
    }
    eventually("their threads end", || broker.metrics().values["messaging.handlers.away"] == 0.0);
    let ledger = shut_down(&broker);
    assert_eq!((ledger.total().delivered(), ledger.total().count(Term::InDoubt)), (2 * 4 + 3, 4));
    assert!(ledger.is_balanced(), "{ledger:#?}");
}

#[test]
fn a_stuck_subscription_that_is_ended_is_waited_for_and_dropped_when_its_call_returns() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let witness = Arc::new(());
    let (at_door, owned) = (doors.clone(), witness.clone());
    let stuck = broker.subscription().name("stuck").pattern("a").subscribe(move |message| {
        let _owned = &owned;
        at_door.pass(**message);
    });
    let stuck = stuck.expect("valid");
    publish(&broker, 0..3);
    wait_until_away(&stuck);
    eventually("the rest waits", || stuck.status().backlogged == 2);
    let refused = stuck.unsubscribe_timeout(Duration::from_millis(10));
    assert!(matches!(refused, Err(UnsubscribeError::TimedOut { .. })), "{refused:?}");
    assert_eq!(Arc::strong_count(&witness), 2);
    doors.open(0);
    eventually("it is dropped", || Arc::strong_count(&witness) == 1);
    let ledger = shut_down(&broker);
    let total = ledger.total();
    assert_eq!(
        (total.count(Term::InDoubt), total.dropped_for(DropReason::Unsubscribed)),
        (1, 2),
        "{ledger:#?}"
    );
    assert!(ledger.is_balanced(), "{ledger:#?}");
}

#[test]
fn who_leaves_with_messages_in_hand_leaves_nothing_behind() {
    let mut random = Random::new();
    let broker = broker();
    for round in 0..200 {
        let own = broker.subscription().pattern("a").subscribe(|_| ()).expect("valid");
        let name = own.name().to_owned();
        publish(&broker, 0..random.below(8));
        drop(own);
        broker.drain(LIMIT).expect("nothing is left that would be waited for");
        let ledger = broker.audit();
        assert_eq!(ledger.total().count(Term::Backlogged), 0, "round {round}: {ledger:#?}");
        assert!(ledger.is_balanced());
        eventually("its record goes with its routes", || broker.audit().named(&name).is_none());
    }
}

#[test]
fn a_stuck_handler_that_panics_in_the_end_costs_nothing_more() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let at_door = doors.clone();
    let stuck = broker.subscription().pattern("a").subscribe(move |message| {
        at_door.pass(**message);
        assert_ne!(**message, 0, "planted");
    });
    let stuck = stuck.expect("valid");
    publish(&broker, 0..3);
    wait_until_away(&stuck);
    doors.open(0);
    eventually("it goes on", || stuck.delivered() == 2);
    let ledger = shut_down(&broker);
    assert_eq!((ledger.total().failures_of(FailureKind::Panic), ledger.total().count(Term::InDoubt)), (0, 1));
    assert!(ledger.is_balanced(), "{ledger:#?}");
}

#[test]
fn what_was_never_published_is_counted_once_by_both_consumers() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let (stuck, late) = at(&broker, "stuck", &doors);
    let mut publisher = broker.publisher("a").expect("a topic");
    let mut leave_a_tombstone = || {
        let publishing = catch_unwind(AssertUnwindSafe(|| publisher.publish_in_place(|_| panic_quietly())));
        assert!(publishing.is_err());
    };
    leave_a_tombstone();
    publish(&broker, [0]);
    wait_until_away(&stuck);
    leave_a_tombstone();
    publish(&broker, [1]);
    doors.open(0);
    assert_eq!(take(&late, 2), [0, 1]);
    let ledger = shut_down(&broker);
    assert!(ledger.is_balanced(), "{ledger:#?}");
    assert_eq!(ledger.rings[0].tombstones, 2, "{:?}", ledger.rings);
}

#[test]
fn a_rescue_before_anything_is_a_stall_is_told_all_the_same() {
    let (told, stalls) = channel();
    let told = Mutex::new(told);
    let broker = builder().stall_after(LIMIT).on_stall(move |stall| {
        let _ = told.lock().expect("no panic").send(stall.clone());
    });
    let (broker, doors) = (broker.build().expect("valid options"), Doors::default());
    doors.close(0);
    let (stuck, late) = at(&broker, "stuck", &doors);
    publish(&broker, [0]);
    let stall = next(&stalls);
    assert!(stall.is_replaced && stall.message.is_some() && stall.age < LIMIT, "{stall}");
    assert!(stuck.status().is_away);
    doors.open(0);
    assert_eq!(next(&late), 0);
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn a_turn_delivers_more_than_it_copies() {
    let broker = broker();
    let seen = Arc::new(AtomicU64::new(0));
    let subscriptions: Vec<_> = (0..200)
        .map(|_| {
            let seen = seen.clone();
            let counting =
                move |_: &ringmain::message::Message<'_, u64>| _ = seen.fetch_add(1, Ordering::Relaxed);
            broker.subscription().pattern("a").subscribe(counting).expect("valid")
        })
        .collect();
    publish(&broker, 0..500);
    eventually("all are delivered", || {
        let most = subscriptions.iter().map(|one| one.status().backlogged).max();
        assert!(most <= Some(1), "what is copied piles up: {most:?}");
        seen.load(Ordering::Relaxed) == 200 * 500
    });
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn a_drain_does_not_wait_for_a_call_in_doubt() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let (stuck, _late) = at(&broker, "stuck", &doors);
    publish(&broker, [0]);
    wait_until_away(&stuck);
    broker.drain(LIMIT).expect("it is nobody's any more");
    doors.open(0);
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn who_subscribes_beside_a_stuck_handler_gets_what_comes_then() {
    let (broker, doors) = (by_hand(), Doors::default());
    doors.close(0);
    let (_stuck, late) = at(&broker, "stuck", &doors);
    publish(&broker, [0]);
    let stall = stall(&broker);
    let (newcomer, received) = at(&broker, "newcomer", &Doors::default());
    broker.rescue(&stall).expect("it is in a handler's call");
    publish(&broker, [1]);
    assert_eq!(next(&received), 1);
    doors.open(0);
    assert_eq!(take(&late, 2), [0, 1]);
    assert_eq!(newcomer.delivered(), 1);
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn who_subscribes_beside_a_stuck_handler_is_not_told_of_that_ones_stop() {
    let (broker, doors) = (by_hand(), Doors::default());
    doors.close(0);
    let (_stuck, _late) = at(&broker, "stuck", &doors);
    publish(&broker, [0]);
    let stall = stall(&broker);
    let (sender, seen) = channel();
    let newcomer = broker.subscription().pattern("a").time_limit(LIMIT);
    let newcomer = newcomer.subscribe(move |message| _ = sender.send(message.is_cancelled())).expect("valid");
    broker.rescue(&stall).expect("it is in a handler's call");
    publish(&broker, [1]);
    assert!(!next(&seen), "its consumer goes on");
    assert_eq!(newcomer.name(), "subscription-1");
    doors.open(0);
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn what_a_shutdown_has_stopped_is_not_rescued() {
    let (broker, doors) = (by_hand(), Doors::default());
    doors.close(0);
    let (_stuck, late) = at(&broker, "stuck", &doors);
    publish(&broker, [0, 1]);
    let stall = stall(&broker);
    let report = broker.shutdown(Duration::from_millis(20)).expect("not in a closure");
    assert_eq!((report.abandoned.len(), report.undelivered.len()), (1, 1));
    assert_eq!(broker.rescue(&stall), Err(RescueError::Closed));
    doors.open(0);
    assert_eq!(next(&late), 0);
    assert!(broker.audit().is_balanced());
}

#[test]
fn a_handler_comes_back_to_a_subscription_to_which_no_route_leads_any_more() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let (stuck, late) = at(&broker, "stuck", &doors);
    publish(&broker, [0]);
    wait_until_away(&stuck);
    // The publisher has gone, and with it the topic.
    eventually("the route is free", || broker.metrics().values["messaging.broker.routes"] == 0.0);
    let (other, received) = at(&broker, "other", &Doors::default());
    publish(&broker, [1]);
    assert_eq!(next(&received), 1);
    drop(other);
    eventually("the route is free", || broker.metrics().values["messaging.broker.routes"] == 0.0);
    doors.open(0);
    eventually("it is back", || !stuck.status().is_away);
    publish(&broker, [2]);
    assert_eq!(take(&late, 3), [0, 1, 2]);
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn a_stuck_handler_behind_which_nothing_waits_is_all_that_a_shutdown_leaves() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let (stuck, late) = at(&broker, "stuck", &doors);
    publish(&broker, [0]);
    wait_until_away(&stuck);
    let report = broker.shutdown(Duration::from_millis(100)).expect("not in a closure");
    let abandoned: Vec<_> = report.abandoned.iter().map(|one| &*one.subscription).collect();
    assert_eq!(abandoned, ["stuck"], "{:?}", report.abandoned);
    let [in_doubt] = &report.in_doubt[..] else { panic!("{:?}", report.in_doubt) };
    assert_eq!((&*in_doubt.subscription, Some(in_doubt.message)), ("stuck", report.abandoned[0].message));
    eventually("the stuck one is all", || broker.metrics().values["messaging.threads.total"] == 1.0);
    doors.open(0);
    assert_eq!(next(&late), 0);
    eventually("it ends", || broker.metrics().values["messaging.threads.total"] == 0.0);
    let report = broker.shutdown(LIMIT).expect("not in a closure");
    assert_eq!((report.abandoned.len(), report.in_doubt.len()), (0, 1), "it is in doubt for good");
}

#[test]
fn a_rescue_waits_for_no_callback_which_is_told_of_it_and_of_what_goes_on() {
    let (told, stalls) = channel();
    let doors = Doors::default();
    doors.close(7);
    let (at_door, told) = (doors.clone(), Mutex::new(told));
    let broker = builder().stall_after(AGE / 2).on_stall(move |stall| {
        let _ = told.lock().expect("no panic").send(stall.clone());
        at_door.pass(7);
    });
    let broker = broker.build().expect("valid options");
    doors.close(0);
    let (stuck, late) = at(&broker, "stuck", &doors);
    let (_other, received) = at(&broker, "other", &Doors::default());
    publish(&broker, 0..3);
    let first = next(&stalls);
    assert!(!first.is_replaced, "it was told before: {first}");
    assert_eq!(take(&received, 3), [0, 1, 2]);
    assert!(stuck.status().is_away && stalls.try_recv().is_err());
    doors.open(7);
    // That it was done, and then that it lasts.
    for _ in 0..3 {
        let stall = next(&stalls);
        assert!(stall.is_replaced && stall.message.is_some(), "{stall}");
        assert_eq!(stall.subscription.as_deref(), Some("stuck"));
    }
    doors.open(0);
    assert_eq!(take(&late, 3), [0, 1, 2]);
    eventually("it is over", || broker.stalls().is_empty());
    assert!(shut_down(&broker).is_balanced());
}

/// An error that says what it is when it may.
#[derive(Debug)]
struct Hesitant(Doors);

impl std::fmt::Display for Hesitant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.pass(0);
        f.write_str("no")
    }
}

impl std::error::Error for Hesitant {}

#[test]
fn what_comes_after_a_handlers_call_is_not_rescued() {
    let shared = Dispatcher::new("shared").rescuable();
    let builder = Broker::of().dispatcher(shared).stall_after(AGE).dead_letters(DeadLetterOptions::default());
    let (broker, doors): (Broker<u64>, _) = (builder.build().expect("valid options"), Doors::default());
    doors.close(0);
    let error = doors.clone();
    let failing =
        broker.subscription().pattern("a").subscribe(move |_| Err::<(), _>(Hesitant(error.clone())));
    let _failing = failing.expect("valid");
    publish(&broker, [0]);
    let thread = "rm-shared-0".to_owned();
    assert_eq!(broker.rescue(&stall(&broker)), Err(RescueError::NotAHandler { thread }));
    doors.open(0);
    eventually("it is a dead letter", || broker.audit().total().count(Term::DeadLettered) == 1);
    assert!(shut_down(&broker).is_balanced());
}

/// What each of many subscriptions has seen.
type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

/// Publishers at full speed, handlers that are stuck now and then, subscriptions that come, pause and go: everything is
/// in one place, each subscription sees each publisher's messages in order, and nothing is left.
#[test]
fn a_storm_of_stuck_handlers_loses_and_repeats_nothing() {
    let mut random = Random::new();
    let before = thread_count();
    for _ in 0..4 {
        let stages: &[usize] = if random.below(2) == 0 { &[1] } else { &[2] };
        let shared = Dispatcher::new("s").capacity(64).stages(stages).rescue_after(Duration::from_millis(2));
        let broker: Broker<u64> = Broker::of().dispatcher(shared).build().expect("valid");
        let stuck = Arc::new(AtomicU64::new(0));
        let subscriptions: Vec<(Subscription<u64>, Seen)> = (0..6)
            .map(|number| {
                let seen = Seen::default();
                let (own, stuck, odds) = (seen.clone(), stuck.clone(), 150 + 100 * number);
                let mut random = Random::seeded(random.next());
                let handler = move |message: &ringmain::message::Message<'_, u64>| {
                    own.lock().expect("no panic").push((**message >> 32, **message & u64::from(u32::MAX)));
                    if random.below(odds) == 0 {
                        stuck.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(random.below(12)));
                    }
                };
                let backlog = Backlog::new(100_000).bytes(1 << 30);
                let builder = broker.subscription().pattern("a").backlog(backlog);
                (builder.subscribe(handler).expect("valid"), seen)
            })
            .collect();
        let publishers: Vec<_> = (0..2_u64)
            .map(|publisher| {
                let broker = broker.clone();
                thread::spawn(move || publish(&broker, (0..1_500).map(|number| publisher << 32 | number)))
            })
            .collect();
        for _ in 0..20 {
            let (one, _) = &subscriptions[random.below(6) as usize];
            let _ = one.pause_timeout(Duration::from_millis(5));
            one.resume();
        }
        publishers.into_iter().for_each(|publisher| publisher.join().expect("it does not panic"));
        eventually("all is handled", || broker.drain(LIMIT).is_ok());
        let ledger = shut_down(&broker);
        assert!(ledger.is_balanced(), "{ledger:#?}");
        let in_doubt = ledger.total().count(Term::InDoubt);
        assert!(in_doubt > 0, "nobody was rescued, of {} stuck", stuck.load(Ordering::Relaxed));
        for (subscription, seen) in &subscriptions {
            let account = ledger.named(subscription.name()).expect("it is there");
            assert_eq!(account.delivered() + account.count(Term::InDoubt), 3_000, "{account:#?}");
            let seen = seen.lock().expect("no panic");
            assert_eq!(seen.len(), 3_000, "each was called once");
            for publisher in 0..2 {
                let numbers = seen.iter().filter(|(of, _)| *of == publisher).map(|(_, number)| *number);
                assert!(numbers.eq(0..1_500), "out of order");
            }
        }
    }
    eventually("no thread is left", || thread_count() <= before);
}
