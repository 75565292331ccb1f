//! What subscriptions were told goes on while a handler of theirs is stuck: backlogs, filters, keys, retries, breakers,
//! tokens, dead letters, time limits.

mod broker_support;

use broker_support::stuck::*;
use broker_support::{LIMIT, eventually, next, shut_down};
use ringmain::broker::dead_letters::{Replay, Selection};
use ringmain::broker::{
    Acknowledgement, Backlog, Breaker, BreakerState, DropReason, FailureKind, Idempotency, PauseError,
    PublishOptions, Retry, SubscribeError, Term, Token, WhenFull, filter, key,
};
use ringmain::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

#[test]
fn the_bounds_of_a_backlog_hold_while_its_handler_is_away_and_do_not_concern_what_is_handled_at_once() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let (sender, late) = channel();
    let at_door = doors.clone();
    let backlog = Backlog::new(3).when_full(WhenFull::DropOldest);
    let stuck = broker.subscription().name("stuck").pattern("a").backlog(backlog).subscribe(move |message| {
        at_door.pass(**message);
        let _ = sender.send(**message);
    });
    let stuck = stuck.expect("valid");
    let none = broker.subscription().name("none").pattern("a").backlog(Backlog::new(0)).subscribe(|_| ());
    let none = none.expect("valid");
    publish(&broker, 0..10);
    eventually("all have come", || none.delivered() == 10);
    assert_eq!((stuck.status().backlogged, count(&broker, &stuck, Term::InDoubt)), (3, 1));
    doors.open(0);
    assert_eq!(take(&late, 4), [0, 7, 8, 9]);
    let ledger = shut_down(&broker);
    let account = ledger.named("stuck").expect("it is there");
    assert_eq!((account.delivered(), account.dropped_for(DropReason::Overflow)), (3, 6), "{account:#?}");
    assert!(ledger.is_balanced());
}

#[test]
fn what_came_while_a_handler_was_away_is_asked_about_when_it_is_back() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let (sender, late) = channel();
    let at_door = doors.clone();
    let even = filter::payload(|number: &u64| number.is_multiple_of(2));
    let keys = Idempotency::by(key::of(|message: &ringmain::message::Message<'_, u64>| Some(**message)));
    let stuck = broker.subscription().name("stuck").pattern("a").filter(even).idempotent(keys).subscribe(
        move |message| {
            at_door.pass(**message);
            let _ = sender.send(**message);
        },
    );
    let stuck = stuck.expect("valid");
    publish(&broker, [0]);
    wait_until_away(&stuck);
    publish(&broker, [1, 2, 2, 3, 4, 0]);
    eventually("all of it waits", || stuck.status().backlogged == 6);
    doors.open(0);
    // The message in doubt was not handled, as far as is known: its like is no duplicate.
    assert_eq!(take(&late, 4), [0, 2, 4, 0]);
    let ledger = shut_down(&broker);
    let account = ledger.named("stuck").expect("it is there");
    assert_eq!((account.count(Term::Filtered), account.count(Term::Duplicate)), (2, 1), "{account:#?}");
    assert_eq!((account.delivered(), account.count(Term::InDoubt)), (3, 1));
    assert!(ledger.is_balanced());
}

#[test]
fn retries_and_a_breaker_go_on_where_they_were() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(3);
    let at_door = doors.clone();
    let (sender, calls) = channel();
    let stuck = broker
        .subscription()
        .name("stuck")
        .pattern("a")
        .retry(Retry::constant(Duration::from_millis(1)).attempts(2).in_order())
        .breaker(
            Breaker::consecutive(4).probes(1).open_for(Duration::from_millis(20)..=Duration::from_millis(20)),
        )
        .subscribe(move |message| {
            let _ = sender.send((**message, message.attempt()));
            at_door.pass(**message);
            if **message < 4 { Err("no") } else { Ok(()) }
        })
        .expect("valid");
    publish(&broker, 0..6);
    wait_until_away(&stuck);
    eventually("the rest waits", || stuck.status().backlogged == 2);
    // Two calls of 0, then of 1: four in a row have failed, and it opens. Its probe is 2; the call of 3 is stuck.
    doors.open(3);
    eventually("all is over", || stuck.delivered() == 2);
    let calls: Vec<_> = calls.try_iter().collect();
    assert_eq!(calls.first(), Some(&(0, 1)));
    assert_eq!(
        calls.iter().filter(|(number, _)| *number == 3).count(),
        1,
        "what is in doubt is not tried again"
    );
    assert_eq!(stuck.status().breaker, Some(BreakerState::Closed));
    let ledger = shut_down(&broker);
    assert!(ledger.is_balanced(), "{ledger:#?}");
    let account = ledger.named("stuck").expect("it is there");
    assert_eq!((account.count(Term::DeadLettered), account.count(Term::InDoubt)), (3, 1), "{account:#?}");
}

#[test]
fn what_is_wanted_of_a_subscription_whose_handler_is_away_is_done_when_it_is_back() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let at_door = doors.clone();
    let stuck = broker
        .subscription()
        .pattern("a")
        .breaker(Breaker::consecutive(100))
        .subscribe(move |message| at_door.pass(**message))
        .expect("valid");
    publish(&broker, 0..3);
    wait_until_away(&stuck);
    stuck.open_breaker();
    let paused = stuck.pause_timeout(Duration::from_millis(10));
    assert!(matches!(paused, Err(PauseError::TimedOut { .. })), "its call runs still: {paused:?}");
    doors.open(0);
    stuck.pause_timeout(LIMIT).expect("its call has returned");
    eventually("it is back", || !stuck.status().is_away);
    assert_eq!((stuck.status().is_paused, stuck.status().breaker), (true, Some(BreakerState::Open)));
    stuck.resume();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(stuck.delivered(), 0, "its breaker is open");
    stuck.close_breaker();
    eventually("the rest is delivered", || stuck.delivered() == 2);
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn a_stuck_handler_that_keeps_messages_leaves_them_in_flight() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let at_door = doors.clone();
    let (sender, tokens) = channel();
    let terms = Acknowledgement::within(LIMIT).in_flight(2);
    let stuck = broker.subscription().name("stuck").pattern("a").subscribe_with_tokens(
        terms,
        move |token: Token<u64>| {
            let number = *token.message();
            let _ = sender.send(token);
            at_door.pass(number);
        },
    );
    let stuck = stuck.expect("valid");
    publish(&broker, 0..3);
    let first = next(&tokens);
    wait_until_away(&stuck);
    assert_eq!((stuck.status().in_flight, count(&broker, &stuck, Term::InDoubt)), (1, 0));
    first.ack().expect("in time");
    doors.open(0);
    for _ in 0..2 {
        next(&tokens).ack().expect("in time");
    }
    eventually("all are delivered", || stuck.delivered() == 3);
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn dead_letters_for_a_stuck_subscription_wait_and_one_in_doubt_stays_in_the_store() {
    let (broker, doors) = (broker(), Doors::default());
    let (at_door, is_mended) = (doors.clone(), Arc::new(AtomicBool::new(false)));
    let mended = is_mended.clone();
    let stuck = broker.subscription().name("stuck").pattern("a").subscribe(move |message| {
        at_door.pass(**message);
        if mended.load(Ordering::Relaxed) { Ok(()) } else { Err("no") }
    });
    let stuck = stuck.expect("valid");
    publish(&broker, 0..3);
    let dead = broker.dead_letters().expect("it keeps them");
    eventually("all have failed", || dead.count(&Selection::all()) == 3);
    is_mended.store(true, Ordering::Relaxed);
    doors.close(1);
    let replayed =
        dead.replay(&Selection::all(), Replay::to_subscription()).expect("its subscription is there");
    assert_eq!(replayed.letters, 3);
    wait_until_away(&stuck);
    let again =
        dead.replay(&Selection::all(), Replay::to_subscription()).expect("one is in doubt, and stays there");
    assert_eq!((again.letters, again.already_replaying), (1, 1));
    doors.open(1);
    eventually("all are delivered", || dead.count(&Selection::all()) == 0);
    let ledger = shut_down(&broker);
    assert!(ledger.is_balanced(), "{ledger:#?}");
    assert_eq!(ledger.total().failures_of(FailureKind::Handler), 3);
}

#[test]
fn a_call_in_doubt_counts_as_failed_for_its_breaker() {
    let (clock, time) = Clock::manual();
    let broker = builder().clock(clock).build().expect("valid options");
    let doors = Doors::default();
    doors.close(1);
    let at_door = doors.clone();
    let stuck = broker
        .subscription()
        .pattern("a")
        .breaker(Breaker::consecutive(2).probes(1).exact())
        .subscribe(move |message| {
            at_door.pass(**message);
            if **message == 0 { Err("no") } else { Ok(()) }
        })
        .expect("valid");
    publish(&broker, 0..3);
    wait_until_away(&stuck);
    assert_eq!(stuck.status().breaker, Some(BreakerState::Closed));
    doors.open(1);
    eventually("it is open", || stuck.status().breaker == Some(BreakerState::Open));
    assert_eq!((stuck.delivered(), stuck.status().backlogged), (0, 1));
    time.advance(Duration::from_secs(3_600));
    eventually("the next is the probe", || stuck.delivered() == 1);
    assert_eq!(stuck.status().breaker, Some(BreakerState::Closed));
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn what_expires_while_its_handler_is_away_gives_its_key_back() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(1);
    let at_door = doors.clone();
    let (sender, late) = channel();
    let keys = Idempotency::by(key::of(|message: &ringmain::message::Message<'_, u64>| Some(**message)));
    let stuck =
        broker.subscription().name("stuck").pattern("a").idempotent(keys).backlog(Backlog::new(2)).subscribe(
            move |message| {
                at_door.pass(**message);
                let _ = sender.send(**message);
            },
        );
    let stuck = stuck.expect("valid");
    stuck.pause_timeout(LIMIT).expect("its consumer is free");
    let mut publisher = broker.publisher("a").expect("a topic");
    let soon = Duration::from_millis(200);
    let _ = publisher.publish(1).expect("room");
    let _ = publisher.publish_with(2, &PublishOptions::new().expires_after(soon)).expect("room");
    eventually("both wait", || stuck.status().backlogged == 2);
    stuck.resume();
    wait_until_away(&stuck);
    thread::sleep(soon);
    // What has expired gives way.
    publish(&broker, [3, 4]);
    eventually("they wait", || count(&broker, &stuck, Term::Expired) == 1);
    doors.open(1);
    eventually("it is back", || stuck.delivered() == 2);
    publish(&broker, [2]);
    assert_eq!(take(&late, 4), [1, 3, 4, 2], "the one that expired was not handled");
    assert!(shut_down(&broker).is_balanced());
}

#[test]
fn a_subscription_that_conflates_is_refused_where_a_stuck_handler_could_not_be_asked_for_keys() {
    let refused = broker().subscription().pattern("a").conflate(key::topic()).subscribe(|_| ());
    let error = refused.expect_err("it would not hold");
    assert_eq!(error, SubscribeError::ConflationOnRescuable { dispatcher: "shared".to_owned() });
    assert!(
        error
            .to_string()
            .starts_with("conflation does not go with dispatcher \"shared\", which is rescuable")
    );
}

#[test]
fn a_stuck_call_learns_that_nobody_waits_and_the_next_does_not() {
    let (broker, doors) = (broker(), Doors::default());
    doors.close(0);
    let at_door = doors.clone();
    let (sender, seen) = channel();
    let stuck = broker.subscription().pattern("a").time_limit(LIMIT).subscribe(move |message| {
        let before = message.is_cancelled();
        at_door.pass(**message);
        let _ = sender.send((before, message.is_cancelled()));
    });
    let stuck = stuck.expect("valid");
    publish(&broker, [0]);
    wait_until_away(&stuck);
    publish(&broker, [1]);
    doors.open(0);
    assert_eq!((next(&seen), next(&seen)), ((false, true), (false, false)));
    assert!(shut_down(&broker).is_balanced());
}
