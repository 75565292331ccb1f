//! Publishing to topics that come at run time: every way to do it, with and without a place in the cache.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{LIMIT, Random, drain, full, next, panic_quietly, shut_down, timed_out};
use ringmain::broker::{AnyTopicPublisher, Broker, Dispatcher, PublishFailure, PublishOptions};
use ringmain::message::Payload;
use ringmain::ring::Overflow;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

fn default_broker() -> Broker {
    Broker::builder().build().expect("valid options")
}

/// One that has its topics in the cache from the second message on, and one that resolves each anew.
fn publishers(broker: &Broker) -> [AnyTopicPublisher; 2] {
    [broker.any_topic_publisher(), broker.any_topic_publisher_with_cache(0)]
}

#[test]
fn every_way_to_publish_delivers_in_order() {
    let broker = default_broker();
    let (sender, received) = mpsc::channel();
    let _subscription = broker
        .subscribe("#", move |message| {
            let payload = message.as_str().map(str::to_owned);
            sender.send((message.topic().to_string(), message.sequence(), payload)).unwrap();
        })
        .expect("a pattern");
    for mut publisher in publishers(&broker) {
        // Each way first with a topic that is new, then with one that it has seen.
        for topic in ["a", "a"] {
            let _ = publisher.publish(topic, "0").expect("room");
            let _ = publisher.try_publish(topic, "1").expect("room");
            let _ = publisher.publish_timeout(topic, "2", LIMIT).expect("room");
            let _ = publisher.publish_with(topic, "3", &PublishOptions::new()).expect("room");
            let _ = publisher
                .publish_in_place(topic, |payload| payload.set(b"4").expect("it fits"))
                .expect("room");
            assert_eq!(publisher.publish_batch(topic, ["5", "6"]).expect("room").published, 2);
        }
        assert_eq!(publisher.publish_batch("new", ["0"]).expect("room").published, 1);
        let _ = publisher.try_publish("newer", "0").expect("room");
        let _ = publisher.publish_timeout("newest", "0", LIMIT).expect("room");

        let numbers = (0..14).map(|number: u64| ("a", number, number % 7));
        let news = ["new", "newer", "newest"].into_iter().zip(14..).map(|(topic, number)| (topic, number, 0));
        for (topic, sequence, payload) in numbers.chain(news) {
            let (got_topic, got_sequence, got_payload) = next(&received);
            assert_eq!((got_topic.as_str(), got_sequence), (topic, sequence));
            assert_eq!(got_payload, Some(payload.to_string()));
        }
    }
    shut_down(&broker);
}

#[test]
fn a_full_ring_refuses_in_time_and_hands_the_payload_back() {
    let broker: Broker = Broker::builder()
        .dispatcher(Dispatcher::new("held").capacity(1).overflow(Overflow::Reject))
        .build()
        .expect("valid options");
    let (go_on, told) = mpsc::channel::<()>();
    let (enter, entered) = mpsc::channel();
    let _subscription = broker
        .subscribe("a", move |_| {
            let _ = enter.send(());
            let _ = told.recv_timeout(LIMIT);
        })
        .expect("a pattern");
    let mut all = publishers(&broker);
    let _ = all[0].publish("a", "held").expect("room");
    next(&entered);
    for publisher in &mut all {
        let payload = || Payload::new(b"handed back").expect("it fits");
        let error = publisher.try_publish("a", payload()).expect_err("the ring is full");
        assert_eq!(error.kind(), &full("held"));
        assert_eq!(error.into_inner().as_deref(), Some(&b"handed back"[..]));
        let limit = Duration::from_millis(5);
        let error = publisher.publish_timeout("a", payload(), limit).expect_err("the ring stays full");
        assert_eq!(error.kind(), &timed_out("held"));
        assert_eq!(error.into_inner().as_deref(), Some(&b"handed back"[..]));
        let error = publisher.publish_batch("a", ["1", "2"]).expect_err("the ring is full");
        assert_eq!((error.published, error.failure), (0, full("held")));
    }
    go_on.send(()).expect("the handler waits");
    assert_eq!(shut_down(&broker).published, 1);
}

#[test]
fn a_batch_to_a_remembered_topic_reaches_who_has_subscribed_since() {
    let broker = default_broker();
    for mut publisher in publishers(&broker) {
        assert_eq!(publisher.publish_batch("a", ["nobody hears"]).expect("room").published, 1);
        let subscription = broker.subscribe("a", |_| ()).expect("a pattern");
        assert_eq!(publisher.publish_batch("a", ["1", "2"]).expect("room").published, 2);
        drain(&broker);
        assert_eq!(subscription.delivered(), 2);
        subscription.unsubscribe();
        assert_eq!(publisher.publish_batch("a", ["nobody hears"]).expect("room").published, 1);
    }
    assert_eq!(shut_down(&broker).unrouted, 4);
}

#[test]
fn a_bad_topic_publishes_nothing_whatever_the_way() {
    let broker = default_broker();
    let _subscription = broker.subscribe("#", |_| ()).expect("a pattern");
    for mut publisher in publishers(&broker) {
        let failures = [
            publisher.publish("a..b", "").expect_err("no topic").kind().clone(),
            publisher.try_publish("a..b", "").expect_err("no topic").kind().clone(),
            publisher.publish_timeout("a..b", "", LIMIT).expect_err("no topic").kind().clone(),
            publisher
                .publish_in_place("a..b", |_| panic!("not called"))
                .expect_err("no topic")
                .kind()
                .clone(),
        ];
        for failure in failures {
            assert!(matches!(failure, PublishFailure::Topic(_)), "{failure}");
        }
        let error = publisher.publish_batch("a..b", ["", ""]).expect_err("no topic");
        assert_eq!(error.published, 0);
        assert!(matches!(error.failure, PublishFailure::Topic(_)), "{error}");
    }
    assert_eq!(shut_down(&broker).published, 0);
}

#[test]
fn a_broker_that_was_shut_down_refuses_remembered_topics_too() {
    let broker = default_broker();
    let _subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut all = publishers(&broker);
    for publisher in &mut all {
        let _ = publisher.publish("a", "").expect("room");
    }
    shut_down(&broker);
    for publisher in &mut all {
        for topic in ["a", "new"] {
            let error = publisher.publish(topic, "").expect_err("closed");
            assert_eq!(error.kind(), &PublishFailure::Closed, "{topic}");
            assert!(error.source().is_none(), "nothing lies beneath: {error}");
            let error = publisher.publish_batch(topic, [""]).expect_err("closed");
            assert_eq!((error.published, error.failure), (0, PublishFailure::Closed), "{topic}");
        }
    }
}

/// Each ring gets what is published to it, in order, however a publisher goes from ring to ring,
/// and whatever panics meanwhile.
#[test]
fn a_publisher_that_goes_from_ring_to_ring_keeps_its_order() {
    const RINGS: usize = 3;
    const MESSAGES: u64 = 20_000;
    let names = ["d0", "d1", "d2"];
    let dispatchers = names.map(|name| Dispatcher::new(name).capacity(8));
    let builder = dispatchers.into_iter().fold(Broker::of::<u64>(), |builder, one| builder.dispatcher(one));
    let broker = builder.build().expect("valid options");
    let received: [_; RINGS] = std::array::from_fn(|ring| {
        let (sender, received) = mpsc::channel();
        let subscription =
            broker.subscription().pattern(&format!("only.{ring}")).pattern("all").dispatcher(names[ring]);
        subscription
            .subscribe(move |message| sender.send(**message).unwrap())
            .expect("valid patterns")
            .detach();
        received
    });
    let mut random = Random::new();
    let mut publisher = broker.any_topic_publisher_with_cache(2);
    let mut expected: [Vec<u64>; RINGS] = Default::default();
    for number in 0..MESSAGES {
        let ring = random.below(RINGS as u64 + 1) as usize;
        let (topic, rings) = if ring == RINGS {
            ("all".to_owned(), 0..RINGS)
        } else {
            (format!("only.{ring}"), ring..ring + 1)
        };
        if random.below(4) == 0 {
            let panicking = AssertUnwindSafe(|| publisher.publish_in_place(&topic, |_| panic_quietly()));
            assert!(catch_unwind(panicking).is_err());
        } else {
            let accepted = publisher.publish(&topic, number).expect("room").accepted;
            assert_eq!(usize::from(accepted), rings.len());
            expected[rings].iter_mut().for_each(|ring| ring.push(number));
        }
    }
    drain(&broker);
    shut_down(&broker);
    for (received, expected) in received.iter().zip(expected) {
        assert_eq!(received.try_iter().collect::<Vec<_>>(), expected);
    }
}
