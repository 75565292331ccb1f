//! What the broker does when nothing goes wrong, and how it says no.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{LIMIT, drain, eventually, full, next, shut_down, timed_out, within};
use ringmain::broker::{
    Broker, BrokerBuildError, CacheCounts, Dispatcher, DrainError, DropReason, PublishFailure,
    PublishOptions, RefusalReason, SubscribeError, Term,
};
use ringmain::clock::{Clock, Timestamp};
use ringmain::message::{CorrelationId, MessageId, Payload};
use ringmain::ring::Overflow;
use ringmain::topic::TopicErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A broker whose dispatcher `held` stands in a handler until it is told to go on.
struct Gate {
    go_on: mpsc::Sender<()>,
    entered: mpsc::Receiver<()>,
}

impl Gate {
    /// Subscribes a handler to `hold` that tells when it is entered, and waits.
    fn close(broker: &Broker, dispatcher: &str) -> Self {
        let (go_on, told) = mpsc::channel::<()>();
        let (enter, entered) = mpsc::channel();
        broker
            .subscription()
            .pattern(&format!("hold.{dispatcher}"))
            .dispatcher(dispatcher)
            .subscribe(move |_| {
                let _ = enter.send(());
                let _ = told.recv_timeout(LIMIT);
            })
            .expect("a valid subscription")
            .detach();
        let _ = broker.publisher(&format!("hold.{dispatcher}")).expect("a topic").publish("").expect("room");
        next(&entered);
        Self { go_on, entered }
    }

    fn open(self) {
        self.go_on.send(()).expect("the handler waits");
        drop(self.entered);
    }
}

/// A broker with one dispatcher `held` of so many slots.
fn broker_of(capacity: usize, overflow: Overflow) -> Broker {
    Broker::builder()
        .dispatcher(Dispatcher::new("held").capacity(capacity).overflow(overflow))
        .build()
        .expect("valid options")
}

fn default_broker() -> Broker {
    Broker::builder().build().expect("valid options")
}

#[test]
fn a_message_reaches_exactly_the_subscriptions_whose_patterns_match() {
    let broker = default_broker();
    let (sender, received) = mpsc::channel();
    let patterns = ["a.b.c", "a.*.c", "a.#", "#", "*.*.*", "#.c", "*", "a.b", "x.#"];
    let mut subscriptions = Vec::new();
    for pattern in patterns {
        let sender = sender.clone();
        let subscription = broker
            .subscribe(pattern, move |message| sender.send((pattern, message.topic().to_string())).unwrap());
        subscriptions.push(subscription.expect("a valid pattern"));
    }
    assert_eq!(broker.match_count("a.b.c"), Ok(6));
    for topic in ["a.b.c", "a", "z.b.c"] {
        let published = broker.publisher(topic).expect("a topic").publish("").expect("room");
        assert_eq!(published.accepted, 1);
    }
    drain(&broker);
    let mut got: Vec<_> = received.try_iter().collect();
    got.sort_unstable();
    let mut expected: Vec<(&str, String)> = Vec::new();
    for (topic, by) in [
        ("a.b.c", &["a.b.c", "a.*.c", "a.#", "#", "*.*.*", "#.c"][..]),
        ("a", &["a.#", "#", "*"]),
        ("z.b.c", &["#", "*.*.*", "#.c"]),
    ] {
        expected.extend(by.iter().map(|pattern| (*pattern, topic.to_owned())));
    }
    expected.sort_unstable();
    assert_eq!(got, expected);
    shut_down(&broker);
}

#[test]
fn a_subscription_whose_patterns_overlap_gets_a_message_once() {
    let broker = default_broker();
    let (sender, received) = mpsc::channel();
    let subscription = broker
        .subscription()
        .pattern("a.b")
        .pattern("a.*")
        .pattern("#")
        .pattern("a.b")
        .subscribe(move |message| sender.send(message.payload().to_vec()).unwrap())
        .expect("valid patterns");
    let mut publisher = broker.publisher("a.b").expect("a topic");
    let _ = publisher.publish("once").expect("room");
    drain(&broker);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [b"once"]);
    subscription.unsubscribe();
    assert_eq!(broker.match_count("a.b"), Ok(0));
    let _ = publisher.publish("never").expect("nobody wants it");
    let ledger = shut_down(&broker);
    assert_eq!((ledger.published, ledger.unrouted, ledger.total().delivered()), (2, 1, 1));
}

#[test]
fn what_nobody_wants_is_accepted_and_counted_as_unrouted() {
    let broker = default_broker();
    let mut publisher = broker.publisher("nobody").expect("a topic");
    assert!(!publisher.has_subscribers());
    let published = publisher.publish("x").expect("nothing to wait for");
    assert_eq!((published.accepted, published.refused), (0, 0));
    let _ = publisher.publish_in_place(|_| panic!("nobody wants it")).expect("nothing to wait for");
    assert_eq!(publisher.publish_batch(["x", "y"]).expect("nothing to wait for").published, 2);
    let mut any = broker.any_topic_publisher();
    let _ = any.publish("nobody.else", "x").expect("nothing to wait for");
    let ledger = broker.audit();
    assert_eq!((ledger.published, ledger.unrouted), (5, 5));

    let _subscription = broker.subscribe("nobody", |_| ()).expect("a pattern");
    assert!(publisher.has_subscribers());
    assert_eq!(publisher.publish("x").expect("room").accepted, 1);
    shut_down(&broker);
}

#[test]
fn every_way_to_publish_delivers_in_order() {
    let broker = default_broker();
    let (sender, received) = mpsc::channel();
    let _subscription = broker
        .subscribe("a", move |message| {
            sender
                .send((message.sequence(), message.id(), message.payload().as_str().map(str::to_owned)))
                .unwrap();
        })
        .expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let mut ids = vec![
        publisher.publish("0").expect("room").id,
        publisher.try_publish(b"1").expect("room").id,
        publisher.publish_timeout(&String::from("2"), LIMIT).expect("room").id,
        publisher.publish_in_place(|payload| payload.set(b"3").expect("it fits")).expect("room").id,
        publisher.publish(Payload::new(b"4").expect("it fits")).expect("room").id,
    ];
    assert_eq!(publisher.publish_batch(["5", "6"]).expect("room").published, 2);
    ids.push(publisher.publish_with("7", &PublishOptions::new()).expect("room").id);
    let got: Vec<_> = (0..8).map(|_| next(&received)).collect();
    for (place, (sequence, id, payload)) in got.iter().enumerate() {
        assert_eq!(*sequence, place as u64);
        assert_eq!(id.sequence(), place as u64);
        assert_eq!(id.publisher(), publisher.id());
        assert_eq!(payload.as_deref(), Some(place.to_string().as_str()));
    }
    let told: Vec<MessageId> = got[..5].iter().chain(&got[7..]).map(|(_, id, _)| *id).collect();
    assert_eq!(told, ids);
    shut_down(&broker);
}

#[test]
fn messages_of_one_publisher_arrive_in_order_among_those_of_others() {
    const PUBLISHERS: u64 = 4;
    const MESSAGES: u64 = 5_000;
    let broker: Broker<u64> =
        Broker::of().dispatcher(Dispatcher::new("small").capacity(64)).build().expect("valid options");
    let (sender, received) = mpsc::channel();
    let _subscription = broker
        .subscribe("n.*", move |message| {
            sender.send((message.publisher(), message.sequence(), **message)).unwrap();
        })
        .expect("a pattern");
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let mut publisher = broker.publisher(&format!("n.{number}")).expect("a topic");
            std::thread::spawn(move || {
                let mut sent = 0;
                while sent < MESSAGES {
                    if sent % 3 == 0 {
                        let batch: Vec<u64> = (sent..(sent + 50).min(MESSAGES)).collect();
                        sent +=
                            publisher.publish_batch(batch).expect("the consumer makes room").published as u64;
                    } else {
                        let _ = publisher.publish(sent).expect("the consumer makes room");
                        sent += 1;
                    }
                }
            })
        })
        .collect();
    let mut expected = std::collections::HashMap::new();
    for _ in 0..PUBLISHERS * MESSAGES {
        let (publisher, sequence, value) = next(&received);
        let expected = expected.entry(publisher).or_insert(0);
        assert_eq!((sequence, value), (*expected, *expected));
        *expected += 1;
    }
    for thread in threads {
        thread.join().expect("a publisher");
    }
    assert_eq!(shut_down(&broker).total().delivered(), PUBLISHERS * MESSAGES);
}

#[test]
fn no_two_messages_bear_one_id_though_publishers_come_and_go() {
    let broker = default_broker();
    let mut ids = Vec::new();
    for _ in 0..10 {
        let mut publisher = broker.publisher("a").expect("a topic");
        ids.extend((0..2).map(|_| publisher.publish("x").expect("nobody listens").id));
    }
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 20, "{ids:?}");
}

#[test]
fn bytes_and_text_by_value_are_published_and_handed_back_where_they_are_not() {
    let broker = broker_of(2, Overflow::Reject);
    let gate = Gate::close(&broker, "held");
    let (sender, received) = mpsc::channel();
    let _subscription =
        broker.subscribe("a", move |message| sender.send(message.to_vec())).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish(format!("order {}", 4711)).expect("one slot is left");
    let handed_back = publisher
        .publish(String::from("text"))
        .expect_err("the ring is full")
        .into_inner()
        .expect("nobody took it");
    assert_eq!(handed_back, "text");
    let bytes = vec![1, 2, 3];
    let address = bytes.as_ptr();
    let handed_back =
        publisher.try_publish(bytes).expect_err("the ring is full").into_inner().expect("nobody took it");
    assert_eq!((handed_back.as_ptr(), &*handed_back), (address, &[1, 2, 3][..]));
    let shared: Arc<str> = "shared".into();
    let handed_back = publisher
        .try_publish(shared.clone())
        .expect_err("the ring is full")
        .into_inner()
        .expect("nobody took it");
    assert!(Arc::ptr_eq(&shared, &handed_back));
    gate.open();
    assert_eq!(next(&received), b"order 4711");
    shut_down(&broker);
}

#[test]
fn a_full_ring_that_rejects_hands_the_payload_back() {
    let broker = broker_of(2, Overflow::Reject);
    let gate = Gate::close(&broker, "held");
    let _subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("1").expect("one slot is left");
    let payload = Payload::new(b"handed back").expect("it fits");
    let error = publisher.publish(payload).expect_err("the ring is full");
    assert_eq!(error.kind(), &full("held"));
    assert_eq!(error.into_inner().as_deref(), Some(&b"handed back"[..]));
    let error = publisher.try_publish(Payload::default()).expect_err("the ring is full");
    assert_eq!(error.kind(), &full("held"));
    let error = publisher.publish_timeout("x", Duration::from_millis(5)).expect_err("the ring stays full");
    assert_eq!(error.kind(), &timed_out("held"));
    let error = publisher.publish_in_place(|_| panic!("there is no room")).expect_err("the ring is full");
    assert_eq!(error.kind(), &full("held"));
    let error = publisher.publish_batch(["2", "3"]).expect_err("the ring is full");
    assert_eq!((error.published, error.failure), (0, full("held")));
    gate.open();
    let ledger = shut_down(&broker);
    assert_eq!((ledger.published, ledger.refused, ledger.total().delivered()), (2, 5, 2));
}

#[test]
fn a_publish_waits_for_room_and_a_limited_wait_ends() {
    let broker = broker_of(1, Overflow::Block { limit: Some(Duration::from_millis(5)) });
    let gate = Gate::close(&broker, "held");
    let _subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let error = publisher.publish("x").expect_err("the ring stays full");
    assert_eq!(error.kind(), &timed_out("held"));
    let waiting =
        std::thread::spawn(move || publisher.publish_timeout("x", LIMIT).map(|published| published.accepted));
    gate.open();
    assert_eq!(waiting.join().expect("the publisher").expect("there is room soon"), 1);
    shut_down(&broker);
}

#[test]
fn of_several_rings_those_that_are_full_are_named_and_the_payload_comes_back_only_if_all_are() {
    let broker = Broker::builder()
        .dispatcher(Dispatcher::new("held").capacity(1).overflow(Overflow::Reject))
        .dispatcher(Dispatcher::new("free").capacity(1).overflow(Overflow::Reject))
        .build()
        .expect("valid options");
    let (sender, received) = mpsc::channel();
    let mut subscriptions = Vec::new();
    for dispatcher in ["held", "free"] {
        let sender = sender.clone();
        let handler = move |message: &ringmain::message::Message<'_, Payload>| {
            sender.send((dispatcher, message.payload().to_vec())).unwrap();
        };
        subscriptions.push(
            broker.subscription().pattern("a").dispatcher(dispatcher).subscribe(handler).expect("valid"),
        );
    }
    let held = Gate::close(&broker, "held");
    let mut publisher = broker.publisher("a").expect("a topic");
    let error = publisher.publish("one").expect_err("one ring has no room");
    let PublishFailure::PartlyRefused { id, accepted, refusals } = error.kind() else { panic!("{error}") };
    assert_eq!((id.sequence(), accepted, refusals.len()), (0, &1, 1));
    assert_eq!((&*refusals[0].dispatcher, refusals[0].reason), ("held", RefusalReason::Full));
    assert!(!error.is_full() && error.into_inner().is_none());
    assert_eq!(next(&received), ("free", b"one".to_vec()));
    drain_dispatcher(&broker, "free");

    let free = Gate::close(&broker, "free");
    let error = publisher.publish(Payload::new(b"two").expect("it fits")).expect_err("no ring has room");
    assert_eq!(error.kind(), &full("held"));
    assert_eq!(error.into_inner().as_deref(), Some(&b"two"[..]));
    held.open();
    free.open();
    drain(&broker);
    let published = publisher.publish("three").expect("both rings have room");
    assert_eq!((published.accepted, published.refused), (2, 0));
    assert_eq!(published.id.sequence(), 1, "what was refused by all has used no number");
    let ledger = shut_down(&broker);
    let mut got: Vec<_> = received.try_iter().collect();
    got.sort_unstable();
    assert_eq!(got, [("free", b"three".to_vec()), ("held", b"three".to_vec())]);
    assert_eq!((ledger.published, ledger.refused, ledger.unrouted), (4, 3, 0));
}

fn drain_dispatcher(broker: &Broker, name: &str) {
    eventually("the ring drains", || {
        broker.audit().rings.iter().any(|ring| ring.dispatcher == name && ring.depth == 0)
    });
}

#[test]
fn a_message_to_several_rings_is_whole_in_each() {
    let broker = Broker::builder()
        .dispatcher(Dispatcher::new("one"))
        .dispatcher(Dispatcher::new("two"))
        .dispatcher(Dispatcher::new("three"))
        .build()
        .expect("valid options");
    let (sender, received) = mpsc::channel();
    let mut subscriptions = Vec::new();
    for dispatcher in ["one", "two", "three"] {
        let sender = sender.clone();
        let handler =
            move |message: &ringmain::message::Message<'_, Payload>| sender.send(message.to_owned()).unwrap();
        subscriptions.push(
            broker.subscription().pattern("a").dispatcher(dispatcher).subscribe(handler).expect("valid"),
        );
    }
    let mut publisher = broker.publisher("a").expect("a topic");
    let options = PublishOptions::new().header("key", "value").expect("within the limits");
    let large = vec![7; 5_000];
    let published = publisher.publish_with(&large, &options).expect("room");
    assert_eq!((published.accepted, published.refused), (3, 0));
    for _ in 0..3 {
        let message = next(&received);
        assert_eq!(message.id, published.id);
        assert_eq!(message.payload.as_slice(), large);
        assert_eq!(message.headers.get_str("key"), Some("value"));
    }
    assert_eq!(publisher.publish_batch(["x", "y"]).expect("room").published, 2);
    drain(&broker);
    assert_eq!(received.try_iter().count(), 6);
    assert_eq!(shut_down(&broker).published, 3);
}

#[test]
fn options_travel_with_their_message_alone() {
    let broker = broker_of(1, Overflow::default());
    let (sender, received) = mpsc::channel();
    let _subscription =
        broker.subscribe("a", move |message| sender.send(message.to_owned()).unwrap()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let correlation = CorrelationId::new("order-4711").expect("valid");
    let options =
        PublishOptions::new().header("k", [1, 2]).expect("within the limits").correlation(correlation);
    let _ = publisher.publish_with("with", &options).expect("room");
    let _ = publisher.publish("without").expect("room");
    let (with, without) = (next(&received), next(&received));
    assert_eq!(with.headers.get("k"), Some(&[1, 2][..]));
    assert_eq!(with.correlation, Some(correlation));
    assert_eq!((with.parent, with.attempt), (None, 1));
    // The same slot of a ring of one.
    assert!(without.headers.is_empty());
    assert_eq!(without.correlation, None);
    let mut any = broker.any_topic_publisher();
    let _ = any.publish_with("a", "again", &options).expect("room");
    assert_eq!(next(&received).headers, with.headers);
    shut_down(&broker);
}

#[test]
fn what_has_expired_when_its_turn_comes_is_counted_and_not_delivered() {
    let (clock, time) = Clock::manual();
    let broker = Broker::builder()
        .dispatcher(Dispatcher::new("held").capacity(16))
        .clock(clock)
        .build()
        .expect("valid options");
    let gate = Gate::close(&broker, "held");
    let (sender, received) = mpsc::channel();
    let subscription = broker
        .subscribe("a", move |message| sender.send((message.to_owned(), message.age())).unwrap())
        .expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    for (text, at) in [("before", 999), ("at", 1_000), ("after", 1_001)] {
        let options = PublishOptions::new().expires_at(Timestamp::from_nanos(at));
        let _ = publisher.publish_with(text, &options).expect("room");
    }
    time.advance(Duration::from_nanos(1_000));
    gate.open();
    drain(&broker);
    let (message, age) = next(&received);
    assert_eq!(message.payload.as_str(), Some("after"));
    assert_eq!(message.expires_at, Some(Timestamp::from_nanos(1_001)));
    assert_eq!(age, Duration::from_nanos(1_000));
    assert!(received.try_recv().is_err());
    let ledger = shut_down(&broker);
    let account =
        ledger.subscriptions.iter().find(|account| account.id == subscription.id()).expect("it exists");
    assert_eq!((account.count(Term::Expired), account.delivered(), account.routed), (2, 1, 3));
}

#[test]
fn what_a_handler_publishes_names_its_parent_and_inherits_the_correlation() {
    let broker = default_broker();
    let (sender, received) = mpsc::channel();
    let own = CorrelationId::new("own").expect("valid");
    let inherited = CorrelationId::new("inherited").expect("valid");
    let mut bound = broker.publisher("second").expect("a topic");
    let mut any = broker.any_topic_publisher();
    let _first = broker
        .subscribe("first", move |_| {
            let _ = bound.publish("plain").expect("room");
            let options = PublishOptions::new().correlation(own).header("k", "v").expect("within the limits");
            let _ = bound.publish_with("own", &options).expect("room");
            let _ = any.publish("second", "any").expect("room");
            assert_eq!(bound.publish_batch(["batch"]).expect("room").published, 1);
        })
        .expect("a pattern");
    let _second = broker
        .subscribe("second", move |message| sender.send(message.to_owned()).unwrap())
        .expect("a pattern");
    let mut publisher = broker.publisher("first").expect("a topic");
    let options = PublishOptions::new().correlation(inherited).header("not", "inherited").expect("valid");
    let parent = publisher.publish_with("x", &options).expect("room").id;
    for (text, correlation, headers) in
        [("plain", inherited, 0), ("own", own, 1), ("any", inherited, 0), ("batch", inherited, 0)]
    {
        let message = next(&received);
        assert_eq!(message.payload.as_str(), Some(text));
        assert_eq!(message.parent, Some(parent), "{text}");
        assert_eq!(message.correlation, Some(correlation), "{text}");
        assert_eq!(message.headers.len(), headers, "{text}");
    }
    let parent = publisher.publish("without correlation").expect("room").id;
    let message = next(&received);
    assert_eq!((message.parent, message.correlation), (Some(parent), None));
    // Outside of the handler nothing is inherited.
    let _ = broker.publisher("second").expect("a topic").publish("outside").expect("room");
    let outside = std::iter::from_fn(|| Some(next(&received)))
        .find(|message| message.payload.as_str() == Some("outside"))
        .expect("the iterator is endless");
    assert_eq!(outside.parent, None);
    shut_down(&broker);
}

#[test]
fn run_time_topics_are_delivered_whatever_the_size_of_the_cache() {
    for remembered in [0, 1, 4_096] {
        let broker = default_broker();
        let (sender, received) = mpsc::channel();
        let _subscription = broker
            .subscribe("t.*", move |message| {
                sender.send((message.topic().to_string(), message.payload().to_vec())).unwrap();
            })
            .expect("a pattern");
        let mut publisher = broker.any_topic_publisher_with_cache(remembered);
        for round in 0..3_u8 {
            for number in 0..20 {
                let topic = format!("t.{number}");
                assert_eq!(publisher.publish(&topic, &[round]).expect("room").accepted, 1);
                assert_eq!(next(&received), (topic, vec![round]));
            }
        }
        let _ = publisher.publish("other", "x").expect("nobody wants it");
        let CacheCounts { hits, misses, evictions, .. } = publisher.cache_counts();
        assert_eq!(hits + misses, 61);
        match remembered {
            0 => assert_eq!((hits, evictions), (0, 0)),
            1 => assert_eq!((hits, evictions), (0, 60)),
            _ => assert_eq!((hits, evictions), (40, 0)),
        }
        let ledger = shut_down(&broker);
        assert_eq!((ledger.published, ledger.unrouted, ledger.total().delivered()), (61, 1, 60));
    }
}

#[test]
fn ever_new_topics_leave_no_more_routes_than_the_cache_holds() {
    let broker = default_broker();
    let _subscription = broker.subscribe("#", |_| ()).expect("a pattern");
    for (remembered, left) in [(0, 0.0), (8, 8.0)] {
        let mut publisher = broker.any_topic_publisher_with_cache(remembered);
        for number in 0..2_000 {
            let _ = publisher.publish(&format!("made.up.{remembered}.{number}"), "").expect("room");
        }
        let left_are = |count| {
            let metrics = broker.metrics();
            ["topics", "routes"]
                .iter()
                .all(|what| metrics.get(&format!("messaging.broker.{what}")) == Some(count))
        };
        eventually("the reclaimer frees the routes", || left_are(left));
        drop(publisher);
        eventually("the reclaimer frees the rest", || left_are(0.0));
    }
    assert_eq!(shut_down(&broker).total().delivered(), 4_000);
}

#[test]
fn a_bad_topic_is_an_error_that_names_the_word_and_its_place() {
    let broker = default_broker();
    let error = broker.publisher("orders.*.created").expect_err("a wildcard");
    assert_eq!((error.word(), error.word_index(), error.byte_position()), ("*", 2, 7));
    assert!(matches!(error.kind(), TopicErrorKind::WildcardInTopic { character: '*' }));
    let mut any = broker.any_topic_publisher();
    let error = any.publish("a..b", Payload::new(b"kept").expect("it fits")).expect_err("an empty word");
    let PublishFailure::Topic(topic) = error.kind() else { panic!("{error}") };
    assert_eq!((topic.kind(), topic.word_index()), (TopicErrorKind::EmptyWord, 2));
    assert!(error.to_string().contains("word 2"), "{error}");
    assert_eq!(error.into_inner().as_deref(), Some(&b"kept"[..]));
    let SubscribeError::Pattern(error) = broker.subscribe("a.b#", |_| ()).expect_err("a bad pattern") else {
        panic!("another error");
    };
    assert_eq!((error.word(), error.word_index()), ("b#", 2));
    assert!(broker.match_count("a b").is_err());
    assert_eq!(broker.audit().published, 0);
}

#[test]
fn a_payload_of_64_kib_passes_and_one_byte_more_is_refused_with_both_sizes() {
    let broker = default_broker();
    let (sender, received) = mpsc::channel();
    let _subscription = broker
        .subscribe("a", move |message| sender.send(message.payload().len()).unwrap())
        .expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let mut any = broker.any_topic_publisher();
    let largest = vec![1; Payload::MAX_LEN];
    let larger = vec![1; Payload::MAX_LEN + 1];
    let _ = publisher.publish(&largest).expect("it is within the limit");
    let _ = any.publish("a", &largest).expect("it is within the limit");
    assert_eq!((next(&received), next(&received)), (65_536, 65_536));
    let error = publisher.publish(&larger).expect_err("it is too large");
    let PublishFailure::TooLarge(sizes) = error.kind() else { panic!("{error}") };
    assert_eq!((sizes.len, sizes.limit), (65_537, 65_536));
    assert!(error.to_string().contains("65537") && error.to_string().contains("65536"), "{error}");
    let error = any.publish("a", &larger).expect_err("it is too large");
    assert!(matches!(error.kind(), PublishFailure::TooLarge(_)));
    let batch = [&largest, &larger, &largest];
    let error = publisher.publish_batch(batch).expect_err("one of it is too large");
    assert_eq!(error.published, 0, "a batch is checked whole before any of it is published");
    assert_eq!(shut_down(&broker).published, 2);
}

#[test]
fn names_are_unique_and_free_again_when_their_subscription_has_ended() {
    let broker = default_broker();
    let named = |name: &str| broker.subscription().name(name).pattern("a").subscribe(|_| ());
    let first = named("x").expect("a free name");
    // A route that its publisher does not let go.
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("").expect("room");
    assert!(matches!(named("x"), Err(SubscribeError::NameTaken { name }) if name == "x"));
    first.unsubscribe();
    let second = named("x").expect("the name is free again");
    assert_eq!(second.name(), "x");
    for name in ["", "line\nbreak", &"n".repeat(65)] {
        assert!(matches!(named(name), Err(SubscribeError::Name { .. })), "{name:?}");
    }
    assert!(named(&"n".repeat(64)).is_ok());
    shut_down(&broker);
}

#[test]
fn a_chosen_name_does_not_stand_in_the_way_of_those_that_have_none() {
    let broker = default_broker();
    let mut subscriptions =
        vec![broker.subscription().name("subscription-2").pattern("a").subscribe(|_| ()).unwrap()];
    for _ in 0..4 {
        subscriptions.push(broker.subscribe("a", |_| ()).expect("its number gives it a name"));
    }
    let mut names: Vec<_> = subscriptions.iter().map(|subscription| subscription.name().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 5);
}

#[test]
fn subscribing_says_what_does_not_exist() {
    let broker = Broker::builder()
        .dispatcher(Dispatcher::new("orders").stages(&[1, 1]))
        .dispatcher(Dispatcher::new("other"))
        .build()
        .expect("valid options");
    let error = broker
        .subscription()
        .pattern("a")
        .dispatcher("missing")
        .subscribe(|_| ())
        .expect_err("no such dispatcher");
    assert!(matches!(error, SubscribeError::NoSuchDispatcher { .. }));
    for known in ["missing", "orders", "other"] {
        assert!(error.to_string().contains(known), "{error}");
    }
    let error = broker
        .subscription()
        .pattern("a")
        .dispatcher("orders")
        .stage(2)
        .subscribe(|_| ())
        .expect_err("no such stage");
    let expected = SubscribeError::NoSuchStage { dispatcher: "orders".to_owned(), stage: 2, stages: 2 };
    assert_eq!(error, expected);
    assert_eq!(broker.subscription().subscribe(|_| ()).expect_err("no pattern"), SubscribeError::NoPattern);
    assert_eq!(broker.match_count("a"), Ok(0));
    assert_eq!(broker.metrics().get("messaging.broker.subscribers"), Some(0.0));
}

#[test]
fn a_stage_sees_a_message_only_when_the_stage_before_has_finished_with_it() {
    const MESSAGES: u64 = 20_000;
    let broker: Broker<u64> = Broker::of()
        .dispatcher(Dispatcher::new("staged").capacity(64).stages(&[2, 2]))
        .build()
        .expect("valid options");
    let journalled: Arc<[AtomicU64; 2]> = Arc::default();
    let mut subscriptions = Vec::new();
    for place in 0..2 {
        let journalled = journalled.clone();
        let handler = move |message: &ringmain::message::Message<'_, u64>| {
            journalled[place].store(**message + 1, Ordering::Release);
        };
        subscriptions.push(broker.subscription().pattern("#").stage(0).subscribe(handler).expect("valid"));
    }
    let early = Arc::new(AtomicU64::new(0));
    for _ in 0..2 {
        let (journalled, early) = (journalled.clone(), early.clone());
        let handler = move |message: &ringmain::message::Message<'_, u64>| {
            let done = journalled.iter().map(|journal| journal.load(Ordering::Acquire)).min();
            early.fetch_add(u64::from(done <= Some(**message)), Ordering::Relaxed);
        };
        subscriptions.push(broker.subscription().pattern("#").subscribe(handler).expect("valid"));
    }
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..MESSAGES {
        let _ = publisher.publish(number).expect("the consumers make room");
    }
    let ledger = shut_down(&broker);
    assert_eq!(early.load(Ordering::Relaxed), 0);
    assert_eq!(ledger.total().delivered(), 4 * MESSAGES);
    assert!(
        ledger.subscriptions.iter().all(|account| account.delivered() == MESSAGES),
        "spread over all consumers"
    );
}

#[test]
fn the_global_broker_is_one_broker() {
    let (sender, received) = mpsc::channel();
    let subscription = Broker::global()
        .subscribe("global.test", move |message| sender.send(message.payload().to_vec()).unwrap())
        .expect("a pattern");
    let _ = Broker::global().publisher("global.test").expect("a topic").publish("hello").expect("room");
    assert_eq!(next(&received), b"hello");
    assert!(std::ptr::eq(Broker::global(), Broker::global()));
    subscription.unsubscribe();
}

#[test]
fn metrics_bear_their_promised_keys_and_count() {
    const KEYS: [&str; 18] = [
        "messaging.broker.subscribers",
        "messaging.broker.topics",
        "messaging.broker.routes",
        "messaging.broker.messages.published",
        "messaging.broker.messages.consumed",
        "messaging.broker.errors",
        "messaging.broker.dlq.size",
        "messaging.dead_letters.evicted",
        "messaging.dead_letters.lost",
        "messaging.waiting.backlogged",
        "messaging.waiting.retrying",
        "messaging.waiting.in_flight",
        "messaging.queue.depth.max",
        "messaging.queue.depth.avg",
        "messaging.workers.active",
        "messaging.workers.idle",
        "messaging.memory.bytes",
        "messaging.threads.total",
    ];
    let broker = Broker::builder()
        .dispatcher(Dispatcher::new("held").capacity(8))
        .dispatcher(Dispatcher::new("idle").capacity(8))
        .build()
        .expect("valid options");
    let gate = Gate::close(&broker, "held");
    let _failing = broker.subscribe("a", |_| Err::<(), _>("no")).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("x").expect("room");
    let metrics = broker.metrics();
    for key in KEYS {
        assert!(metrics.get(key).is_some_and(f64::is_finite), "{key}");
    }
    assert_eq!(metrics.get("messaging.broker.subscribers"), Some(2.0));
    assert_eq!(metrics.get("messaging.broker.messages.published"), Some(2.0));
    assert_eq!(metrics.get("messaging.queue.depth.max"), Some(2.0));
    assert_eq!(metrics.get("messaging.queue.depth.avg"), Some(1.0));
    assert_eq!(metrics.get("messaging.workers.active"), Some(1.0));
    assert_eq!(metrics.get("messaging.workers.idle"), Some(1.0));
    assert_eq!(metrics.get("messaging.threads.total"), Some(4.0));
    assert!(metrics.get("messaging.memory.bytes") >= Some(2.0 * 8.0 * 128.0));
    gate.open();
    drain(&broker);
    let metrics = broker.metrics();
    assert_eq!(metrics.get("messaging.broker.errors"), Some(1.0));
    assert_eq!(metrics.get("messaging.broker.messages.consumed"), Some(1.0));
    assert!(!metrics.latency.is_empty());
    shut_down(&broker);
}

#[test]
fn no_payload_or_header_value_appears_in_errors_or_debug_output() {
    const SECRET: &str = "s3cr3t";
    let broker = broker_of(1, Overflow::Reject);
    let (sender, received) = mpsc::channel();
    let _subscription = broker
        .subscribe("a", move |message| {
            sender.send((format!("{message:?}"), message.to_owned())).unwrap();
            Err::<(), _>(SECRET)
        })
        .expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let mut any = broker.any_topic_publisher();
    let options = PublishOptions::new().header("key", SECRET).expect("within the limits");
    let _ = publisher.publish_with(SECRET, &options).expect("room");
    let (message, owned) = next(&received);
    drain(&broker);
    let gate = Gate::close(&broker, "held");
    let secret = || Payload::new(SECRET.as_bytes()).expect("it fits");
    let full = publisher.publish(secret()).expect_err("the ring is full");
    let topic = any.publish("a..b", secret()).expect_err("a bad topic");
    let batch = publisher.publish_batch([SECRET]).expect_err("the ring is full");
    let texts = [
        message,
        format!("{owned:?}"),
        format!("{options:?}"),
        format!("{full:?} {full}"),
        format!("{topic:?} {topic}"),
        format!("{batch:?} {batch}"),
        format!("{publisher:?} {any:?} {broker:?} {:?}", broker.audit()),
        format!("{:?}", broker.metrics().values),
    ];
    for text in texts {
        assert!(!text.contains(SECRET), "{text}");
        // As a list of bytes.
        assert!(!text.contains("115, 51, 99"), "{text}");
    }
    gate.open();
    shut_down(&broker);
}

#[test]
fn a_late_subscriber_gets_nothing_old_and_one_that_left_nothing_new() {
    let broker = broker_of(16, Overflow::default());
    let gate = Gate::close(&broker, "held");
    let (sender, received) = mpsc::channel();
    let mut publisher = broker.publisher("a").expect("a topic");
    let subscribe = |name: &'static str| {
        let sender = sender.clone();
        broker
            .subscription()
            .name(name)
            .pattern("a")
            .subscribe(move |message| sender.send((name, message.payload().to_vec())).unwrap())
            .expect("valid")
    };
    let early = subscribe("early");
    let _ = publisher.publish("1").expect("room");
    let late = subscribe("late");
    let _ = publisher.publish("2").expect("room");
    drop(early);
    let _ = publisher.publish("3").expect("room");
    gate.open();
    let ledger = shut_down(&broker);
    let got: Vec<_> = received.try_iter().collect();
    assert_eq!(got, [("late", b"2".to_vec()), ("late", b"3".to_vec())]);
    assert_eq!(ledger.total().dropped_for(DropReason::Unsubscribed), 2);
    assert_eq!(late.delivered(), 2);
}

#[test]
fn a_topic_nobody_could_have_subscribed_to_yet_is_resolved_anew_when_somebody_does() {
    let broker = default_broker();
    let mut bound = broker.publisher("a.b").expect("a topic");
    let mut any = broker.any_topic_publisher();
    let _ = bound.publish("x").expect("nobody wants it");
    let _ = any.publish("a.b", "x").expect("nobody wants it");
    let subscription = broker.subscribe("a.#", |_| ()).expect("a pattern");
    assert_eq!(bound.publish("x").expect("room").accepted, 1);
    assert_eq!(any.publish("a.b", "x").expect("room").accepted, 1);
    drain(&broker);
    within("unsubscribing an idle subscription", move || subscription.unsubscribe());
    assert_eq!(bound.publish("x").expect("nobody wants it").accepted, 0);
    assert_eq!(any.publish("a.b", "x").expect("nobody wants it").accepted, 0);
    let ledger = shut_down(&broker);
    assert_eq!((ledger.published, ledger.unrouted, ledger.total().delivered()), (6, 4, 2));
}

#[test]
fn a_batch_larger_than_its_ring_passes_through_it() {
    let broker: Broker<u64> =
        Broker::of().dispatcher(Dispatcher::new("tiny").capacity(4)).build().expect("valid options");
    let (sender, received) = mpsc::channel();
    let _subscription =
        broker.subscribe("a", move |message| sender.send(**message).unwrap()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let batch: Vec<u64> = (0..1_000).collect();
    assert_eq!(publisher.publish_batch(batch.clone()).expect("the consumer makes room").published, 1_000);
    assert_eq!(publisher.publish_batch(Vec::<u64>::new()).expect("nothing to do").published, 0);
    let ledger = shut_down(&broker);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), batch);
    assert_eq!(ledger.published, 1_000);
}

#[test]
fn options_that_do_not_do_are_errors_that_say_so() {
    let build = |dispatcher: Dispatcher| Broker::builder().dispatcher(dispatcher).build();
    let error = build(Dispatcher::new("d").capacity(3)).expect_err("no power of two");
    assert!(error.to_string().contains('3') && error.to_string().contains('4'), "{error}");
    for stages in [&[][..], &[1, 0], &[0]] {
        let error = build(Dispatcher::new("d").stages(stages)).expect_err("stages without consumers");
        assert!(matches!(error, BrokerBuildError::Stages { .. }), "{error}");
    }
    assert!(matches!(build(Dispatcher::new("")), Err(BrokerBuildError::Name { number: 0, .. })));
    let twice = Broker::builder().dispatcher(Dispatcher::new("d")).dispatcher(Dispatcher::new("d")).build();
    assert!(matches!(twice, Err(BrokerBuildError::NameTaken { name }) if name == "d"));
}

#[test]
fn drain_returns_when_all_is_settled_and_gives_up_at_its_limit() {
    let broker = broker_of(64, Overflow::default());
    let gate = Gate::close(&broker, "held");
    let limit = Duration::from_millis(20);
    assert_eq!(broker.drain(limit), Err(DrainError::TimedOut { limit }), "one message is not settled");
    let subscription = broker.subscribe("numbers.*", |_| ()).expect("a valid subscription");
    let mut publisher = broker.publisher("numbers.7").expect("a topic");
    for _ in 0..10 {
        let _ = publisher.publish(b"7").expect("room");
    }
    assert_eq!(broker.drain(limit), Err(DrainError::TimedOut { limit }), "a handler stands in the way");
    gate.open();
    assert_eq!(broker.drain(LIMIT), Ok(()));
    assert_eq!(subscription.delivered(), 10);
    assert!(broker.audit().is_balanced(), "{:?}", broker.audit());
    shut_down(&broker);
}

#[test]
fn drain_does_not_wait_for_its_own_thread() {
    let broker = default_broker();
    let (answer, answered) = mpsc::channel();
    let inside = broker.clone();
    let subscription =
        broker.subscribe("a", move |_| answer.send(inside.drain(LIMIT))).expect("a valid subscription");
    let _ = broker.publisher("a").expect("a topic").publish("").expect("room");
    assert_eq!(next(&answered), Err(DrainError::WouldDeadlock));
    subscription.unsubscribe();
}

#[test]
fn metrics_are_short_to_look_at() {
    let broker = default_broker();
    let text = format!("{:?}", broker.metrics());
    assert!(text.len() < 2_000 && text.contains("latency_p99"), "{text}");
}
