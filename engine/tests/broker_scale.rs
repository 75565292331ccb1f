//! Very many routes and subscriptions hold nobody up: whoever publishes to new topics pays the same
//! whatever waits to be freed, and whoever looks at the whole broker meanwhile.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{LIMIT, drain, eventually, full, next, shut_down};
use ringmain::broker::{Broker, Dispatcher, Subscription};
use ringmain::message::Message;
use ringmain::ring::Overflow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A broker whose one consumer is in a handler, from which it returns when the sender is dropped.
fn stuck(capacity: usize) -> (Broker<u64>, Subscription<u64>, Sender<()>) {
    let dispatcher = Dispatcher::new("stuck").capacity(capacity).overflow(Overflow::Reject);
    let broker = Broker::of::<u64>().dispatcher(dispatcher).build().expect("valid options");
    let (enter, entered) = channel();
    let (release, released) = channel();
    let handler = move |_: &Message<'_, u64>| {
        let _ = enter.send(());
        let _ = released.recv_timeout(LIMIT);
    };
    let subscription = broker.subscribe("#", handler).expect("a pattern");
    let _ = broker.publisher("first").expect("a topic").publish(0).expect("room");
    next(&entered);
    (broker, subscription, release)
}

fn routes(broker: &Broker<u64>) -> usize {
    broker.metrics().get("messaging.broker.routes").expect("a metric") as usize
}

#[test]
fn topics_that_a_full_ring_refuses_leave_no_routes() {
    const CAPACITY: usize = 64;
    const TOPICS: usize = 20_000;
    let (broker, subscription, release) = stuck(CAPACITY);
    let mut publisher = broker.any_topic_publisher_with_cache(0);
    let mut refused = 0;
    for number in 0..TOPICS {
        match publisher.publish(&format!("made.up.{number}"), 0) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(*error.kind(), full("stuck"));
                refused += 1;
            }
        }
    }
    // With the message that the consumer is at, there are as many as the ring holds.
    assert_eq!(refused, TOPICS - (CAPACITY - 1));
    eventually("the routes of those that were refused are freed", || routes(&broker) == CAPACITY);
    drop(release);
    eventually("all routes are freed", || routes(&broker) == 0);
    assert_eq!(subscription.delivered(), CAPACITY as u64);
    shut_down(&broker);
}

#[test]
fn routes_of_a_stuck_ring_are_freed_when_it_goes_on() {
    const TOPICS: usize = 20_000;
    let (broker, subscription, release) = stuck(1 << 15);
    let mut publisher = broker.any_topic_publisher_with_cache(0);
    for number in 0..TOPICS {
        let _ = publisher.publish(&format!("made.up.{number}"), 0).expect("room");
    }
    assert_eq!(routes(&broker), TOPICS + 1);
    drop(release);
    eventually("all routes are freed", || routes(&broker) == 0);
    assert_eq!(subscription.delivered(), TOPICS as u64 + 1);
    shut_down(&broker);
}

#[test]
fn many_subscriptions_to_one_pattern_hide_no_other_from_an_explanation() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let prepared = |pattern| broker.subscription().pattern(pattern).prepare(|_| ());
    let same = (0..11_000).map(|_| prepared("orders.*.paid"));
    let subscriptions = broker.subscribe_all(same.chain([prepared("orders.*.created")])).expect("valid");
    let explanation = broker.explain("orders.eu.crated").expect("a topic");
    let near: Vec<_> = explanation.near_misses.iter().map(|near| near.pattern.as_str()).collect();
    assert_eq!(near, ["orders.*.paid", "orders.*.created"]);
    assert_eq!(explanation.near_misses[0].subscription, "subscription-0");
    broker.unsubscribe_all(subscriptions);
    shut_down(&broker);
}

#[test]
#[ignore = "measures: needs two idle cores and an optimised build"]
fn a_new_topic_costs_the_same_however_many_routes_wait() {
    const TOPICS: usize = 1_000_000;
    let (broker, _subscription, release) = stuck(1 << 20);
    let mut publisher = broker.any_topic_publisher_with_cache(0);
    let tenths: Vec<Duration> = (0..10)
        .map(|tenth| {
            let started = Instant::now();
            for number in 0..TOPICS / 10 {
                let _ = publisher.publish(&format!("made.up.{tenth}.{number}"), 0).expect("room");
            }
            started.elapsed() / (TOPICS / 10) as u32
        })
        .collect();
    println!("a message, tenth by tenth: {tenths:.2?}");
    assert!(tenths[9] < 4 * tenths[0], "{tenths:.2?}");
    drop(release);
    eventually("all routes are freed", || routes(&broker) == 0);
    shut_down(&broker);
}

/// The longest that a publish to a new topic takes while something else is done, and how long that takes.
fn longest_publish_beside(broker: &Broker<u64>, many: usize, other: impl FnOnce()) -> (Duration, Duration) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut publisher = broker.any_topic_publisher_with_cache(0);
            let mut longest = Duration::ZERO;
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                let topic = format!("site.{number}");
                let started = Instant::now();
                let _ = publisher.publish(&topic, 0).expect("the consumer makes room");
                longest = longest.max(started.elapsed());
                number = (number + 7_919) % many;
            }
            longest
        });
        let started = Instant::now();
        other();
        let other_took = started.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (publisher.join().expect("the publisher"), other_took)
    })
}

#[test]
#[ignore = "measures: needs three idle cores and an optimised build"]
fn looking_at_all_subscriptions_holds_up_nobody_who_resolves_a_topic() {
    const MANY: usize = 200_000;
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let prepared =
        (0..MANY).map(|number| broker.subscription().pattern(&format!("site.{number}")).prepare(|_| ()));
    let subscriptions = broker.subscribe_all(prepared).expect("valid");
    // As many routes.
    let mut publisher = broker.any_topic_publisher_with_cache(MANY);
    for number in 0..MANY {
        let _ = publisher.publish(&format!("site.{number}"), 0).expect("the consumer makes room");
    }
    drain(&broker);
    let looks: [(&str, &dyn Fn()); 4] = [
        ("audit", &|| drop(broker.audit())),
        ("metrics", &|| drop(broker.metrics())),
        ("subscriptions", &|| drop(broker.subscriptions())),
        ("explain", &|| drop(broker.explain("site.none"))),
    ];
    for (name, look) in looks {
        // The least disturbed by what else runs on the machine.
        let (longest, look_took) =
            (0..9).map(|_| longest_publish_beside(&broker, MANY, look)).min().expect("nine measurements");
        println!("{name} takes {look_took:?}; the longest publish meanwhile {longest:?}");
        assert!(longest < Duration::from_millis(5), "{name}: {longest:?}");
    }
    broker.unsubscribe_all(subscriptions);
    shut_down(&broker);
}

/// How long each thousand of subscriptions to one pattern takes, one after the other, while a publisher is at work.
fn subscribe_one_by_one(
    broker: &Broker<u64>,
    thousands: usize,
    publisher: impl FnOnce(&AtomicBool) + Send,
) -> Vec<Duration> {
    let mut subscriptions = Vec::new();
    let mut subscribe_thousand = |pattern| {
        let started = Instant::now();
        for _ in 0..1_000 {
            subscriptions.push(broker.subscribe(pattern, |_| ()).expect("a pattern"));
        }
        started.elapsed()
    };
    // Until everybody who has work with it is awake.
    subscribe_thousand("warm.up");
    let is_over = AtomicBool::new(false);
    let took = thread::scope(|scope| {
        scope.spawn(|| publisher(&is_over));
        let took = (0..thousands).map(|_| subscribe_thousand("orders.*")).collect();
        is_over.store(true, Ordering::Relaxed);
        took
    });
    broker.unsubscribe_all(subscriptions);
    took
}

#[test]
#[ignore = "measures: needs two idle cores and an optimised build"]
fn the_twenty_thousandth_subscription_to_a_pattern_costs_what_the_first_did() {
    let rounds: Vec<_> = (0..3)
        .map(|_| {
            let broker: Broker<u64> = Broker::of().build().expect("valid options");
            let took = subscribe_one_by_one(&broker, 20, |_| ());
            shut_down(&broker);
            println!("each thousand: {took:.1?}");
            took
        })
        .collect();
    // The least disturbed by what else runs on the machine.
    let least = |thousand: usize| rounds.iter().map(|took| took[thousand]).min().expect("three rounds");
    assert!(least(19) <= 3 * least(0), "the last thousand took {:?}, the first {:?}", least(19), least(0));
}

#[test]
#[ignore = "measures: needs three idle cores and an optimised build"]
fn a_publisher_beside_twenty_thousand_subscriptions_to_its_topic_waits_little() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let mut waits = Vec::new();
    let took = subscribe_one_by_one(&broker, 20, |is_over| {
        let mut publisher = broker.publisher("orders.eu").expect("a topic");
        while !is_over.load(Ordering::Relaxed) {
            let started = Instant::now();
            let _ = publisher.publish(0).expect("room");
            waits.push(started.elapsed());
            // The consumer has up to 20,000 handlers to call.
            while broker.metrics().get("messaging.queue.depth.max") != Some(0.0) {
                thread::sleep(Duration::from_micros(100));
            }
        }
    });
    println!("each thousand: {took:.1?}");
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!("{} publishes: p50 {:?} p99 {:?} max {:?}", waits.len(), at(0.5), at(0.99), at(1.0));
    shut_down(&broker);
}
