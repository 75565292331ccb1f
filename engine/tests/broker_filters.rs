//! Filters: which messages a handler gets, and what is counted of the others.

mod broker_support;

use broker_support::{drain, eventually, next, shut_down};
use ringmain::broker::filter::{Filter, header, payload};
use ringmain::broker::{Broker, FailureKind, PublishOptions, Subscription, SubscriptionLedger, Term};
use ringmain::message::Message;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn broker() -> Broker<u64> {
    Broker::of().build().expect("valid options")
}

/// Publishes each number with the headers given to it, and waits until all are settled.
fn publish<'h>(broker: &Broker<u64>, messages: impl IntoIterator<Item = (u64, &'h [(&'h str, &'h str)])>) {
    let mut publisher = broker.publisher("a").expect("a topic");
    for (number, headers) in messages {
        let mut options = PublishOptions::new();
        for (key, value) in headers {
            options = options.header(key, value).expect("a header");
        }
        let _ = publisher.publish_with(number, &options).expect("room");
    }
    drain(broker);
}

fn account(broker: &Broker<u64>, subscription: &Subscription<u64>) -> SubscriptionLedger {
    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger}");
    let accounts = ledger.subscriptions.into_iter();
    accounts.into_iter().find(|account| account.name == subscription.name()).expect("its account")
}

/// The numbers that come through a filter, of 0 to 9; and how many its account says that it kept back.
fn through(
    filter: impl FnMut(&Message<'_, u64>) -> bool + Send + 'static,
    headers: impl Fn(u64) -> Vec<(&'static str, &'static str)>,
) -> (Vec<u64>, u64) {
    let broker = broker();
    let (sender, received) = channel();
    let subscription = broker.subscription().pattern("a").filter(filter);
    let subscription = subscription.subscribe(move |message| sender.send(**message)).expect("valid");
    let headers: Vec<_> = (0..10).map(headers).collect();
    publish(&broker, (0..10).zip(headers.iter().map(Vec::as_slice)));
    let filtered = account(&broker, &subscription).count(Term::Filtered);
    (received.try_iter().collect(), filtered)
}

const REGIONS: [&str; 3] = ["eu", "us", "euro"];

fn region(number: u64) -> Vec<(&'static str, &'static str)> {
    // Every fourth message has none.
    let has_region = number % 4 != 3;
    has_region.then(|| ("region", REGIONS[number as usize % 4])).into_iter().collect()
}

#[test]
fn a_closure_decides_and_what_it_keeps_back_is_counted() {
    assert_eq!(through(|message| **message % 2 == 0, |_| vec![]), (vec![0, 2, 4, 6, 8], 5));
    assert_eq!(through(payload(|number| *number > 7), |_| vec![]), (vec![8, 9], 8));
}

#[test]
fn headers_are_compared_whole_and_one_that_is_missing_is_no_value() {
    assert_eq!(through(header("region").is("eu"), region), (vec![0, 4, 8], 7));
    assert_eq!(through(header("region").starts_with("eu"), region), (vec![0, 2, 4, 6, 8], 5));
    assert_eq!(through(header("region").is_one_of(["us", "euro"]), region), (vec![1, 2, 5, 6, 9], 5));
    assert_eq!(through(header("region").exists(), region), (vec![0, 1, 2, 4, 5, 6, 8, 9], 2));
    assert_eq!(through(header("region").is(""), region), (vec![], 10));
    assert_eq!(through(header("Region").exists(), region), (vec![], 10));
    assert_eq!(through(header("region").has(|value| value.len() == 2), region), (vec![0, 1, 4, 5, 8, 9], 4));
}

#[test]
fn filters_are_put_together() {
    let small = || payload(|number: &u64| *number < 5);
    assert_eq!(through(header("region").is("eu").and(small()), region), (vec![0, 4], 8));
    assert_eq!(through(header("region").is("eu").or(small()), region), (vec![0, 1, 2, 3, 4, 8], 4));
    assert_eq!(through(header("region").exists().not(), region), (vec![3, 7], 8));
    assert_eq!(through((|message: &Message<'_, u64>| **message == 3).or(small()), region).1, 5);
}

#[test]
fn several_filters_are_asked_in_order_until_one_does_not_want_the_message() {
    let broker = broker();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = |name: &'static str, wanted: fn(u64) -> bool| {
        let asked = asked.clone();
        move |message: &Message<'_, u64>| {
            asked.lock().expect("no panic").push((name, **message));
            wanted(**message)
        }
    };
    let subscription = broker.subscription().pattern("a");
    let subscription = subscription.filter(asks("first", |n| n > 0)).filter(asks("second", |n| n > 1));
    let subscription = subscription.subscribe(|_| ()).expect("valid");
    publish(&broker, (0..3).map(|number| (number, &[][..])));
    let expected = [("first", 0), ("first", 1), ("second", 1), ("first", 2), ("second", 2)];
    assert_eq!(*asked.lock().expect("no panic"), expected);
    let account = account(&broker, &subscription);
    assert_eq!((account.delivered(), account.count(Term::Filtered)), (1, 2));
}

#[test]
fn a_filter_that_panics_is_a_failed_delivery_and_no_match() {
    let broker = broker();
    let (failures, told) = channel();
    let subscription = broker
        .subscription()
        .pattern("a")
        .filter(|message| {
            assert!(**message != 1, "planted");
            true
        })
        .on_error(move |message, failed| {
            let panic = failed.panic.map(str::to_owned);
            failures.send((**message, failed.kind, panic)).expect("the test waits");
        })
        .subscribe(|message| assert!(**message != 1))
        .expect("valid");
    let beside = broker.subscribe("a", |_| ()).expect("valid");
    publish(&broker, (0..3).map(|number| (number, &[][..])));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(1, FailureKind::Panic, Some("planted".into()))]);
    let account_of = account(&broker, &subscription);
    assert_eq!((account_of.delivered(), account_of.failures_of(FailureKind::Panic)), (2, 1));
    assert_eq!((account_of.count(Term::Failed), account_of.count(Term::Filtered)), (1, 0));
    assert_eq!(account(&broker, &beside).delivered(), 3);
}

#[test]
fn what_has_expired_is_not_filtered_and_what_has_ended_is_not_asked() {
    let (clock, time) = ringmain::clock::Clock::manual();
    let broker: Broker<u64> = Broker::of().clock(clock).build().expect("valid options");
    let asked = Arc::new(AtomicU64::new(0));
    let (sender, entered) = channel();
    let (door, opened) = channel::<()>();
    // The first message holds the consumer up.
    let hold = broker.subscribe("a", move |message| {
        if **message == 0 {
            sender.send(()).expect("the test waits");
            let _ = opened.recv();
        }
    });
    let _hold = hold.expect("valid");
    let counts = asked.clone();
    let filtered = broker.subscription().name("filtered").pattern("a").filter(move |_| {
        counts.fetch_add(1, Ordering::Relaxed);
        false
    });
    let filtered = filtered.subscribe(|_| panic!("nothing is wanted")).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish(0).expect("room");
    next(&entered);
    let options = PublishOptions::new().expires_after(Duration::from_secs(1));
    let _ = publisher.publish_with(1, &options).expect("room");
    time.advance(Duration::from_secs(2));
    drop(door);
    drain(&broker);
    let account = account(&broker, &filtered);
    assert_eq!((account.count(Term::Expired), account.count(Term::Filtered)), (1, 1));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// A filter that hangs costs the delivery at hand: it is in doubt at the shutdown, and the rest is handed back.
#[test]
fn a_filter_that_hangs_is_taken_over_like_a_handler() {
    let broker = broker();
    let (sender, entered) = channel();
    let (door, opened) = channel::<()>();
    let subscription = broker.subscription().pattern("a").filter(move |_| {
        sender.send(()).expect("the test waits");
        let _ = opened.recv();
        true
    });
    let subscription = subscription.subscribe(|_| panic!("no call comes of it")).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..3 {
        let _ = publisher.publish(number).expect("room");
    }
    next(&entered);
    let report = broker.shutdown(Duration::from_millis(50)).expect("not inside of a closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(report.abandoned.len(), 1);
    assert_eq!(report.abandoned[0].subscription, subscription.name());
    let numbers: Vec<_> = report.undelivered.iter().map(|undelivered| undelivered.message.payload).collect();
    assert_eq!(numbers, [1, 2]);
    drop(door);
    // What it answers now counts no more.
    eventually("the consumer ends", || broker.metrics().get("messaging.threads.total") == Some(0.0));
    assert_eq!(broker.audit().to_string(), report.ledger.to_string());
}

/// What a filter captured is dropped with the handler, by the consumer, and its panic costs nobody.
#[test]
fn a_filter_is_dropped_with_its_subscription() {
    struct Grave(Arc<AtomicU64>);
    impl Drop for Grave {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("planted");
        }
    }
    let broker = broker();
    let dropped = Arc::new(AtomicU64::new(0));
    let (in_filter, in_handler) = (Grave(dropped.clone()), Grave(dropped.clone()));
    let subscription = broker.subscription().pattern("a").filter(move |_| {
        let _captured = &in_filter;
        true
    });
    let subscription = subscription.subscribe(move |_| {
        let _captured = &in_handler;
    });
    let subscription = subscription.expect("valid");
    publish(&broker, [(0, &[][..])]);
    subscription.unsubscribe();
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
    shut_down(&broker);
}
