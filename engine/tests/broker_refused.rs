//! What a ring refuses: whoever publishes is told, and every count says the same.

mod broker_support;

use broker_support::{LIMIT, drain, full, next, shut_down, timed_out};
use ringmain::broker::{
    Batch, Broker, Dispatcher, Ledger, PublishFailure, PublishOptions, Refusal, RefusalReason, Subscription,
    SubscriptionLedger, Wait,
};
use ringmain::clock::Clock;
use ringmain::ring::Overflow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

/// A broker whose dispatcher "held" has four slots, of which the first holds a message that is being handled until the
/// sender is dropped. Dispatcher "free" has room for whatever a test publishes.
struct Held {
    broker: Broker<u64>,
    /// To the topic "a" on "held", to "a" and "only.free" on "free".
    subscriptions: Vec<Subscription<u64>>,
    door: Sender<()>,
}

fn held(options: impl FnOnce(Dispatcher) -> Dispatcher) -> Held {
    let slow = options(Dispatcher::new("held").capacity(4));
    let broker = Broker::of().dispatcher(slow).dispatcher(Dispatcher::new("free").capacity(1_024)).build();
    let broker = broker.expect("valid options");
    let (door, opened) = mpsc::channel::<()>();
    let (sender, entered) = mpsc::channel();
    let hold = broker.subscription().name("hold").pattern("hold").dispatcher("held").subscribe(move |_| {
        sender.send(()).expect("the test waits");
        let _ = opened.recv();
    });
    let on = |name: &str, pattern: &str| {
        let subscription = broker.subscription().name(name).pattern(pattern).dispatcher(&name[..4]);
        subscription.subscribe(|_| ()).expect("valid")
    };
    let subscriptions =
        vec![hold.expect("valid"), on("held a", "a"), on("free a", "a"), on("free only", "only.free")];
    let _ = broker.publisher("hold").expect("a topic").publish(0).expect("room");
    next(&entered);
    Held { broker, subscriptions, door }
}

fn account<'a>(ledger: &'a Ledger, name: &str) -> &'a SubscriptionLedger {
    ledger.subscriptions.iter().find(|account| account.name == name).expect("a subscription")
}

/// What was refused, as the ledger and the metrics know it: by "held" and by "free".
#[track_caller]
fn assert_refused(broker: &Broker<u64>, by: [u64; 2]) {
    let (ledger, metrics) = (broker.audit(), broker.metrics());
    let of_rings: Vec<_> = ledger.rings.iter().map(|ring| ring.refused).collect();
    assert_eq!(of_rings, by, "{ledger}");
    assert_eq!(ledger.refused, by[0] + by[1]);
    let of_metrics = ["held", "free"].map(|name| metrics.dispatcher(name).expect("it exists").refused);
    assert_eq!(of_metrics, by);
    let of_subscriptions = ["held a", "free a"].map(|name| account(&ledger, name).refused);
    assert_eq!(of_subscriptions, by);
    assert!(ledger.is_balanced() || ledger.rings.iter().any(|ring| ring.depth > 0), "{ledger}");
}

#[test]
fn a_dispatcher_that_must_not_miss_is_named_each_time_it_does() {
    let Held { broker, subscriptions, door } = held(|slow| slow.overflow(Overflow::Reject));
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..20 {
        match publisher.publish(number) {
            Ok(published) => {
                assert!(number < 3, "three slots were free");
                assert_eq!((published.accepted, published.refused), (2, 0));
            }
            Err(error) => {
                assert!(number >= 3, "{error}");
                let PublishFailure::PartlyRefused { id, accepted: 1, refusals } = error.kind() else {
                    panic!("{error}")
                };
                assert_eq!(id.sequence(), number);
                let [Refusal { dispatcher, reason, .. }] = &refusals[..] else { panic!("{error}") };
                assert_eq!((&**dispatcher, *reason), ("held", RefusalReason::Full));
                assert!(error.to_string().contains("\"held\""), "{error}");
                assert!(!error.is_full(), "to publish it again would send it twice");
                assert_eq!(error.into_inner(), None);
            }
        }
    }
    assert_refused(&broker, [17, 0]);
    drop(door);
    let ledger = shut_down(&broker);
    assert_eq!((ledger.published, account(&ledger, "free a").delivered()), (21, 20));
    assert_eq!(account(&ledger, "held a").delivered(), 3);
    assert!(ledger.to_string().contains("3 routed = 3 delivered; 17 refused"), "{ledger}");
    drop(subscriptions);
}

#[test]
fn a_best_effort_dispatcher_may_miss_and_what_it_misses_is_counted() {
    let Held { broker, subscriptions, door } = held(|slow| slow.overflow(Overflow::Reject).best_effort());
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..20 {
        let published = publisher.publish(number).expect("the other has room");
        let expected = if number < 3 { (2, 0) } else { (1, 1) };
        assert_eq!(
            (published.accepted, published.refused, published.id.sequence()),
            (expected.0, expected.1, number)
        );
    }
    assert_refused(&broker, [17, 0]);
    // Alone it is no different.
    let mut alone = broker.publisher("hold").expect("a topic");
    let published = alone.publish(1).expect("nobody must take it");
    assert_eq!((published.accepted, published.refused, published.id.sequence()), (0, 1, 0));
    let published = alone.try_publish(1).expect("nobody must take it");
    assert_eq!(published.id.sequence(), 1, "it has used a number");
    assert_eq!(account(&broker.audit(), "hold").refused, 2);
    drop(door);
    let ledger = shut_down(&broker);
    assert_eq!((ledger.published, ledger.refused), (1 + 20 + 2, 19));
    drop(subscriptions);
}

#[test]
fn refusals_of_an_only_ring_are_counted_and_outlive_the_route() {
    let Held { broker, mut subscriptions, door } = held(|slow| slow.overflow(Overflow::Reject));
    let mut publisher = broker.any_topic_publisher_with_cache(0);
    for _ in 0..2 {
        subscriptions.push(
            broker.subscription().pattern("others.*").dispatcher("held").subscribe(|_| ()).expect("valid"),
        );
    }
    for number in 0..3 {
        let _ = publisher.publish("others.fill", number).expect("room");
    }
    for number in 0..5_000_u64 {
        let error = publisher.try_publish(&format!("others.{number}"), number).expect_err("full");
        assert_eq!((error.kind().clone(), error.into_inner()), (full("held"), Some(number)));
    }
    let refused = |ledger: &Ledger| {
        let accounts = ledger.subscriptions.iter().filter(|account| account.patterns == ["others.*"]);
        accounts.map(|account| account.refused).collect::<Vec<_>>()
    };
    assert_eq!(refused(&broker.audit()), [5_000, 5_000]);
    assert_eq!(broker.audit().rings[0].refused, 5_000);
    drop(door);
    drain(&broker);
    drop(publisher);
    let ended = subscriptions.split_off(4);
    let past_before = broker.audit().past.refused;
    ended.into_iter().for_each(|subscription| subscription.unsubscribe());
    broker_support::eventually("the subscriptions are past", || {
        broker.audit().past.refused == past_before + 10_000
    });
    let ledger = shut_down(&broker);
    assert_eq!((ledger.refused, ledger.total().refused), (5_000, 10_000));
}

#[test]
fn a_batch_ends_where_a_dispatcher_that_must_not_miss_does() {
    let Held { broker, subscriptions, door } = held(|slow| slow.overflow(Overflow::Reject));
    let mut publisher = broker.publisher("a").expect("a topic");
    let batch: Vec<u64> = (0..100).collect();
    let error = publisher.publish_batch(&batch[..]).expect_err("three slots are free");
    assert_eq!((error.published, &error.refused[..]), (3, &[][..]));
    let PublishFailure::PartlyRefused { id, accepted: 1, refusals } = &error.failure else {
        panic!("{error}")
    };
    assert_eq!((id.sequence(), &*refusals[0].dispatcher), (3, "held"));
    assert_refused(&broker, [1, 0]);
    // Into one ring.
    let mut only = broker.publisher("hold").expect("a topic");
    let error = only.publish_batch(batch).expect_err("it is full");
    assert_eq!((error.published, error.failure), (0, full("held")));
    drop(door);
    assert_eq!(shut_down(&broker).published, 1 + 4);
    drop(subscriptions);
}

#[test]
fn a_batch_tells_how_much_a_best_effort_dispatcher_missed() {
    let Held { broker, subscriptions, door } = held(|slow| slow.overflow(Overflow::Reject).best_effort());
    let mut publisher = broker.any_topic_publisher();
    let batch: Vec<u64> = (0..100).collect();
    let sent = publisher.publish_batch("a", &batch).expect("the other has room");
    assert_eq!(sent.published, 100);
    let [refused] = &sent.refused[..] else { panic!("{sent:?}") };
    assert_eq!((&*refused.dispatcher, refused.messages), ("held", 97));
    assert_refused(&broker, [97, 0]);
    // Into one ring.
    let sent = publisher.publish_batch("hold", [0; 10]).expect("nobody must take it");
    assert_eq!((sent.published, sent.refused[0].messages), (10, 10));
    drop(door);
    let ledger = shut_down(&broker);
    assert_eq!((ledger.published, account(&ledger, "free a").delivered()), (1 + 100 + 10, 100));
    drop(subscriptions);
}

#[test]
fn a_batch_and_a_message_to_many_wait_for_one_limit_in_all() {
    const ONE_LIMIT: Duration = Duration::from_millis(300);
    // As many messages, each waiting by itself, would take ten seconds.
    let batch = [0_u64; 33];
    let in_time = |started: Instant| {
        let waited = started.elapsed();
        assert!(waited >= ONE_LIMIT && waited < 33 * ONE_LIMIT, "{waited:?}");
    };
    let block = Overflow::Block { limit: Some(ONE_LIMIT) };
    let Held { broker, subscriptions, door } = held(|slow| slow.overflow(block).best_effort());
    let mut publisher = broker.publisher("a").expect("a topic");
    let at_most = PublishOptions::new().wait(Wait::AtMost(ONE_LIMIT));
    let never = PublishOptions::new().wait(Wait::Never);

    let started = Instant::now();
    let sent = publisher.publish_batch(batch).expect("the other has room");
    in_time(started);
    assert_eq!(sent.refused[0].messages, 30);
    let started = Instant::now();
    let sent = publisher.publish_batch_with(batch, &at_most).expect("the other has room");
    in_time(started);
    assert_eq!(sent.refused[0].messages, 33);
    let mut only = broker.publisher("hold").expect("a topic");
    let started = Instant::now();
    assert_eq!(only.publish_batch(&batch[..]).expect("nobody must take it").refused[0].messages, 33);
    in_time(started);
    let started = Instant::now();
    assert_eq!(publisher.publish_with(1, &at_most).expect("the other has room").refused, 1);
    in_time(started);
    assert_eq!(publisher.publish_in_place_with(|slot| *slot = 2, &never).expect("the other").refused, 1);
    assert_eq!(broker.audit().rings[0].refused, 30 + 33 + 33 + 2);
    drop(door);
    shut_down(&broker);
    drop(subscriptions);
}

/// A ring that must take a batch keeps all of its own limit, whoever else was waited for.
#[test]
fn a_ring_that_is_stuck_takes_no_time_from_one_that_is_not() {
    let one_second = Overflow::Block { limit: Some(Duration::from_secs(1)) };
    let dispatcher = |name| Dispatcher::new(name).capacity(2).overflow(one_second);
    let broker =
        Broker::of::<u64>().dispatcher(dispatcher("stuck").best_effort()).dispatcher(dispatcher("busy"));
    let broker = broker.build().expect("valid options");
    let mut doors = Vec::new();
    for name in ["stuck", "busy"] {
        let (door, opened) = mpsc::channel::<()>();
        let handler = move |_: &ringmain::message::Message<'_, u64>| _ = opened.recv();
        broker.subscription().pattern("a").dispatcher(name).subscribe(handler).expect("valid").detach();
        doors.push(door);
    }
    let mut publisher = broker.publisher("a").expect("a topic");
    let batch = std::thread::spawn(move || publisher.publish_batch([0; 8]));
    // It has waited for the one in vain when it has to wait for the other, which then goes on.
    broker_support::eventually("the batch waits for the busy one", || {
        let ledger = broker.audit();
        ledger.rings[0].refused > 0 && ledger.rings[1].depth == 2
    });
    drop(doors.pop());
    let sent = batch.join().expect("no panic").expect("there was room in time");
    assert_eq!((sent.published, sent.refused[0].messages), (8, 6));
    drop(doors);
    assert_eq!(shut_down(&broker).total().delivered(), 8 + 2);
}

#[test]
fn who_was_to_wait_is_told_that_it_was_in_vain() {
    let Held { broker, subscriptions, door } = held(|slow| slow);
    let mut publisher = broker.publisher("hold").expect("a topic");
    let _ = publisher.publish_batch([0; 3]).expect("room");
    let options = PublishOptions::new().wait(Wait::AtMost(Duration::from_millis(5)));
    let error = publisher.publish_with(7, &options).expect_err("nobody makes room");
    assert_eq!((error.kind(), error.is_full()), (&timed_out("held"), true));
    assert_eq!(error.into_inner(), Some(7));
    let error = publisher.publish_with(7, &options.wait(Wait::Never)).expect_err("nobody makes room");
    assert_eq!(error.kind(), &full("held"));
    drop(door);
    assert_eq!(shut_down(&broker).rings[0].refused, 2);
    drop(subscriptions);
}

#[test]
fn a_closed_broker_refuses_nothing_it_is_gone() {
    let Held { broker, subscriptions, door } = held(|slow| slow.best_effort());
    let mut publisher = broker.publisher("a").expect("a topic");
    drop(door);
    let report = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert_eq!(publisher.publish(1).expect_err("closed").kind(), &PublishFailure::Closed);
    assert_eq!(publisher.publish_batch([1]).expect_err("closed").failure, PublishFailure::Closed);
    assert_eq!((broker.audit().refused, report.ledger.refused), (0, 0));
    drop(subscriptions);
}

#[test]
fn what_expires_after_a_while_is_not_delivered_later() {
    let (clock, time) = Clock::manual();
    let broker: Broker<u64> = Broker::of().clock(clock).build().expect("valid options");
    let (door, opened) = mpsc::channel::<()>();
    let (sender, received) = mpsc::channel();
    let subscription = broker.subscribe("a", move |message| {
        sender.send(**message).expect("the test waits");
        if **message == 0 {
            let _ = opened.recv();
        }
    });
    let _subscription = subscription.expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish(0).expect("room");
    assert_eq!(next(&received), 0);
    let after = |millis| PublishOptions::new().expires_after(Duration::from_millis(millis));
    let _ = publisher.publish_with(1, &after(10)).expect("room");
    let _ = publisher.publish_batch_with([2, 3], &after(11)).expect("room");
    let _ = publisher.publish_in_place_with(|slot| *slot = 4, &after(u64::MAX)).expect("room");
    // The last that was said counts.
    let at = broker.clock().now().after(Duration::from_millis(11));
    let _ = publisher.publish_with(5, &after(10).expires_at(at)).expect("room");
    let _ = publisher
        .publish_with(6, &PublishOptions::new().expires_at(at).expires_after(Duration::ZERO))
        .expect("room");
    time.advance(Duration::from_millis(10));
    drop(door);
    let ledger = shut_down(&broker);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(ledger.total().count(ringmain::broker::Term::Expired), 2);
}

/// A payload that tells how often it was cloned.
#[derive(Default)]
struct Counted(Option<Arc<AtomicU64>>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        if let Some(clones) = &self.0 {
            clones.fetch_add(1, Ordering::Relaxed);
        }
        Self(self.0.clone())
    }
}

#[test]
fn a_batch_of_values_is_moved_and_not_cloned() {
    fn publish<B: Batch<Counted>>(batch: B) {
        let broker: Broker<Counted> = Broker::of().build().expect("valid options");
        let _subscription = broker.subscribe("a", |_| ()).expect("a pattern");
        let sent = broker.publisher("a").expect("a topic").publish_batch(batch).expect("room");
        assert_eq!(sent.published, 3);
        assert_eq!(shut_down(&broker).total().delivered(), 3);
    }
    let clones = Arc::new(AtomicU64::new(0));
    let values = || [(); 3].map(|()| Counted(Some(clones.clone())));
    publish(values());
    publish(values().to_vec().split_off(0));
    assert_eq!(clones.load(Ordering::Relaxed), 3, "by `to_vec` alone");
}
