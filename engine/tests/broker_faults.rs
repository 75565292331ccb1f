//! What happens when user code fails, blocks or panics, and when the broker ends in the midst of things.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{
    LIMIT, drain, eventually, full, next, panic_quietly, shut_down, within, would_deadlock,
};
use ringmain::broker::{
    Broker, BrokerBuildError, Dispatcher, DropReason, FailureKind, Ledger, PublishFailure, RefusalReason,
    ShutdownReport, SubscribeError, Subscription, SubscriptionLedger, Term, UnsubscribeError,
};
use ringmain::message::{IntoPayload, Payload};
use ringmain::ring::Overflow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

fn default_broker() -> Broker {
    Broker::builder().build().expect("valid options")
}

fn numbers(dispatchers: impl IntoIterator<Item = Dispatcher>) -> Broker<u64> {
    dispatchers.into_iter().fold(Broker::of(), |builder, one| builder.dispatcher(one)).build().expect("valid")
}

/// The account of a subscription that still exists.
#[track_caller]
fn account<'l>(ledger: &'l Ledger, name: &str) -> &'l SubscriptionLedger {
    ledger.subscriptions.iter().find(|account| account.name == name).expect("the subscription exists")
}

/// Calls `f` when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What a closure writes into a slot, as a payload.
struct Writing<F>(F);

impl<F: FnOnce(&mut u64)> IntoPayload<u64> for Writing<F> {
    type Returned = ();

    fn into_returned(self) {}

    fn write_into(self, slot: &mut u64) {
        (self.0)(slot);
    }
}

#[test]
fn failing_handlers_are_counted_by_kind_and_concern_nobody_else() {
    const MESSAGES: u64 = 300;
    let broker = default_broker();
    let subscription = |name: &str| broker.subscription().name(name).pattern("a");
    let _first = subscription("first").subscribe(|_| ()).expect("valid");
    let _errors = subscription("errors").subscribe(|_| Err::<(), _>("always")).expect("valid");
    let _panics = subscription("panics").subscribe(|_| -> () { panic_quietly() }).expect("valid");
    let _both = subscription("both")
        .subscribe(|message| match message.sequence() % 3 {
            0 => Ok(()),
            1 => Err("sometimes"),
            _ => panic_quietly(),
        })
        .expect("valid");
    let _last = subscription("last").subscribe(|_| ()).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for _ in 0..MESSAGES {
        let _ = publisher.publish("x").expect("the consumer makes room");
    }
    let ledger = shut_down(&broker);
    let of = |name| {
        let account = account(&ledger, name);
        let errors = (account.failures_of(FailureKind::Handler), account.failures_of(FailureKind::Panic));
        (account.delivered(), errors, account.dropped_for(DropReason::Failed))
    };
    assert_eq!(of("first"), (MESSAGES, (0, 0), 0));
    assert_eq!(of("errors"), (0, (MESSAGES, 0), MESSAGES));
    assert_eq!(of("panics"), (0, (0, MESSAGES), MESSAGES));
    assert_eq!(of("both"), (100, (100, 100), 200));
    assert_eq!(of("last"), (MESSAGES, (0, 0), 0));
}

#[test]
fn an_error_or_a_panic_whose_value_panics_when_dropped_does_not_end_the_consumer() {
    #[derive(Debug)]
    struct Nasty;
    impl std::fmt::Display for Nasty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("nasty")
        }
    }
    impl std::error::Error for Nasty {}
    impl Drop for Nasty {
        fn drop(&mut self) {
            panic_quietly();
        }
    }
    let broker = default_broker();
    let _errors = broker.subscribe("a", |_| Err(Nasty)).expect("a pattern");
    let _panics =
        broker.subscribe("a", |_| -> () { std::panic::resume_unwind(Box::new(Nasty)) }).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    for _ in 0..10 {
        let _ = publisher.publish("x").expect("room");
    }
    let total = shut_down(&broker).total();
    assert_eq!((total.failures_of(FailureKind::Handler), total.failures_of(FailureKind::Panic)), (10, 10));
}

#[test]
fn captured_state_that_panics_when_dropped_hurts_nobody() {
    let broker = default_broker();
    let subscribe = || {
        let captured = OnDrop(|| panic_quietly());
        broker.subscribe("a", move |_| _ = &captured).expect("a pattern")
    };
    let (unsubscribed, dropped, kept) = (subscribe(), subscribe(), subscribe());
    let (sender, received) = mpsc::channel();
    let _healthy = broker.subscribe("a", move |_| sender.send(()).unwrap()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("x").expect("room");
    next(&received);
    within("unsubscribing it", move || unsubscribed.unsubscribe());
    drop(dropped);
    let _ = publisher.publish("x").expect("room");
    next(&received);
    kept.detach();
    shut_down(&broker);
}

#[test]
fn captured_state_is_dropped_on_the_thread_of_the_consumer_that_owns_it() {
    let (sender, received) = mpsc::channel();
    let broker: Broker = Broker::builder().dispatcher(Dispatcher::new("own")).build().expect("valid options");
    let subscribe = || {
        let sender = sender.clone();
        let captured = OnDrop(move || {
            let current = thread::current();
            sender.send((current.id(), current.name().map(str::to_owned))).unwrap();
        });
        broker.subscribe("a", move |_| _ = &captured).expect("a pattern")
    };
    let (id_sender, id) = mpsc::channel();
    let ask =
        broker.subscribe("id", move |_| id_sender.send(thread::current().id()).unwrap()).expect("a pattern");
    let mut publisher = broker.publisher("id").expect("a topic");
    // What it has not read of when it ends is not its own yet.
    let mut have_it_read = || {
        let _ = publisher.publish("").expect("room");
        next(&id)
    };
    let expected = (have_it_read(), Some("rm-own-0".to_owned()));
    assert_ne!(expected.0, thread::current().id());

    let unsubscribed = subscribe();
    have_it_read();
    unsubscribed.unsubscribe();
    assert_eq!(received.try_recv(), Ok(expected.clone()), "unsubscribing waits for the drop");
    let dropped = subscribe();
    have_it_read();
    drop(dropped);
    assert_eq!(next(&received), expected);
    subscribe().detach();
    let stays = subscribe();
    drop(broker);
    assert_eq!(next(&received), expected);
    assert_eq!(next(&received), expected);
    drop((stays, ask));
}

/// A broker whose consumer is stuck until what is returned is dropped.
fn stuck_broker() -> (Broker, Subscription, mpsc::Sender<()>) {
    let broker = default_broker();
    let (enter, entered) = mpsc::channel();
    let (let_go, go) = mpsc::channel::<()>();
    let stuck = broker
        .subscribe("stuck", move |_| {
            enter.send(()).unwrap();
            let _ = go.recv();
        })
        .expect("a pattern");
    let _ = broker.publisher("stuck").expect("a topic").publish("").expect("room");
    next(&entered);
    (broker, stuck, let_go)
}

#[test]
fn a_handler_that_its_consumer_has_not_read_of_is_dropped_by_who_ends_it_and_may_panic_there() {
    let (broker, _stuck, let_go) = stuck_broker();
    let (sender, received) = mpsc::channel();
    let subscribe = || {
        let sender = sender.clone();
        let captured = OnDrop(move || {
            sender.send(thread::current().id()).unwrap();
            panic_quietly();
        });
        broker.subscribe("a", move |_| _ = &captured).expect("a pattern")
    };
    subscribe().unsubscribe();
    drop(subscribe());
    broker.unsubscribe_all([subscribe(), subscribe()]);
    let here = thread::current().id();
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [here; 4]);
    assert_eq!(subscribe().unsubscribe_timeout(LIMIT), Ok(()));
    assert_eq!(received.try_iter().count(), 1);
    drop(let_go);
    shut_down(&broker);
}

#[test]
fn unsubscribing_with_a_limit_keeps_it_where_a_handler_that_nobody_has_read_of_drops_slowly() {
    let (broker, _stuck, let_go) = stuck_broker();
    let (go_on, told) = mpsc::channel::<()>();
    let captured = OnDrop(move || _ = told.recv_timeout(LIMIT));
    let slow = broker.subscription().name("slow").pattern("a");
    let slow = slow.subscribe(move |_| _ = &captured).expect("valid");
    let limit = Duration::from_millis(50);
    let outcome = within("the limit", move || slow.unsubscribe_timeout(limit));
    assert_eq!(outcome, Err(UnsubscribeError::TimedOut { subscriptions: vec!["slow".to_owned()], limit }));
    go_on.send(()).expect("the drop waits");
    drop(let_go);
    shut_down(&broker);
}

#[test]
fn a_publish_closure_that_panics_publishes_nothing_and_leaves_the_ledger_balanced() {
    let broker: Broker =
        Broker::builder().dispatcher(Dispatcher::new("small").capacity(4)).build().expect("valid options");
    let (sender, received) = mpsc::channel();
    let _subscription = broker
        .subscribe("#", move |message| sender.send((message.sequence(), message.payload().to_vec())).unwrap())
        .expect("a pattern");
    let mut bound = broker.publisher("a").expect("a topic");
    let mut any = broker.any_topic_publisher_with_cache(0);
    for round in 0..50_u64 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            bound.publish_in_place(|payload| {
                payload.set(b"half written").expect("it fits");
                panic_quietly();
            })
        }));
        assert!(outcome.is_err());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            any.publish_in_place(&format!("b.{round}"), |_| panic_quietly())
        }));
        assert!(outcome.is_err());
        assert_eq!(bound.publish("whole").expect("the consumer makes room").id.sequence(), round);
        assert_eq!(next(&received), (round, b"whole".to_vec()));
    }
    // The topics that were never published to after all are not held for ever.
    eventually("the routes are freed", || broker.metrics().get("messaging.broker.routes") == Some(1.0));
    let ledger = shut_down(&broker);
    assert!(received.try_recv().is_err());
    assert_eq!((ledger.published, ledger.total().delivered()), (50, 50));
    assert_eq!((ledger.rings[0].consumed, ledger.rings[0].tombstones), (50, 100));
}

#[test]
fn a_batch_that_panics_midway_has_published_what_came_before() {
    let broker = numbers([Dispatcher::new("small").capacity(8)]);
    let (sender, received) = mpsc::channel();
    let _subscription =
        broker.subscribe("a", move |message| sender.send(**message).unwrap()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        publisher.publish_batch([0, 1, 2, 3, 4].map(|number| {
            Writing(move |slot: &mut u64| {
                if number == 2 {
                    panic_quietly();
                }
                *slot = number;
            })
        }))
    }));
    assert!(outcome.is_err());
    let _ = publisher.publish(9).expect("room");
    let ledger = shut_down(&broker);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [0, 1, 9]);
    assert_eq!((ledger.published, ledger.rings[0].tombstones), (3, 3));
}

#[test]
fn a_payload_whose_clone_panics_for_one_ring_is_counted_where_it_went_and_its_number_is_used() {
    #[derive(Default)]
    struct Fragile {
        number: u64,
        clones: Option<Arc<AtomicU64>>,
    }
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            if let Some(clones) = &self.clones
                && clones.fetch_add(1, Ordering::Relaxed) == 1
            {
                panic_quietly();
            }
            Self { number: self.number, clones: None }
        }
    }
    let broker: Broker<Fragile> = Broker::of()
        .dispatcher(Dispatcher::new("one"))
        .dispatcher(Dispatcher::new("two"))
        .build()
        .expect("valid options");
    let (sender, received) = mpsc::channel();
    let mut subscriptions = Vec::new();
    for dispatcher in ["one", "two"] {
        let sender = sender.clone();
        let handler = move |message: &ringmain::message::Message<'_, Fragile>| {
            sender.send((dispatcher, message.number, message.sequence())).unwrap();
        };
        subscriptions.push(
            broker.subscription().pattern("a").dispatcher(dispatcher).subscribe(handler).expect("valid"),
        );
    }
    let mut publisher = broker.publisher("a").expect("a topic");
    let fragile = Fragile { number: 1, clones: Some(Arc::default()) };
    assert!(catch_unwind(AssertUnwindSafe(|| publisher.publish(fragile).map(drop))).is_err());
    let published = publisher.publish(Fragile { number: 2, clones: None }).expect("room");
    assert_eq!((published.accepted, published.id.sequence()), (2, 1));
    let ledger = shut_down(&broker);
    let mut got: Vec<_> = received.try_iter().collect();
    got.sort_unstable();
    assert_eq!(got, [("one", 1, 0), ("one", 2, 1), ("two", 2, 1)]);
    assert_eq!(ledger.published, 2);
    assert_eq!(ledger.rings.iter().map(|ring| ring.tombstones).sum::<u64>(), 1);
}

#[test]
fn publishing_into_the_own_full_ring_from_a_handler_fails_at_once() {
    let broker = numbers([Dispatcher::new("own").capacity(4).stages(&[1, 1])]);
    let (sender, received) = mpsc::channel();
    let mut bound = broker.publisher("other").expect("a topic");
    let _other = broker.subscribe("other", |_| ()).expect("a pattern");
    let _subscription = broker
        .subscription()
        .pattern("a")
        .stage(0)
        .subscribe(move |_| {
            let failure = loop {
                let started = Instant::now();
                if let Err(error) = bound.publish(0) {
                    let waited = started.elapsed();
                    assert_eq!(error.into_inner(), Some(0));
                    let long = bound.publish_timeout(0, LIMIT).expect_err("it is still full");
                    break (long.kind().clone(), waited, bound.try_publish(0).map_err(|e| e.kind().clone()));
                }
            };
            sender.send(failure).unwrap();
        })
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(0).expect("room");
    let (failure, waited, tried) = next(&received);
    assert_eq!(failure, would_deadlock("own"));
    assert_eq!(tried, Err(full("own")));
    assert!(waited < LIMIT / 2, "{waited:?}");
    shut_down(&broker);
}

#[test]
fn two_dispatchers_whose_handlers_fill_each_others_rings_do_not_hang() {
    let broker = numbers([Dispatcher::new("left").capacity(2), Dispatcher::new("right").capacity(2)]);
    let refused = Arc::new(AtomicU64::new(0));
    let mut subscriptions = Vec::new();
    for (own, other) in [("left", "right"), ("right", "left")] {
        let mut publisher = broker.publisher(other).expect("a topic");
        let refused = refused.clone();
        let handler = move |message: &ringmain::message::Message<'_, u64>| {
            let left = **message;
            // Two for each one until their time is up: the rings are full of them at once.
            for _ in 0..2 {
                if left > 0
                    && let Err(error) = publisher.publish(left - 1)
                {
                    let failure = error.kind();
                    assert!(
                        matches!(
                            failure,
                            PublishFailure::WouldDeadlock { .. }
                                | PublishFailure::TimedOut { .. }
                                | PublishFailure::Closed
                        ),
                        "{failure}"
                    );
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        subscriptions
            .push(broker.subscription().pattern(own).dispatcher(own).subscribe(handler).expect("valid"));
    }
    let mut publishers =
        [broker.publisher("left").expect("a topic"), broker.publisher("right").expect("a topic")];
    for _ in 0..50 {
        for publisher in &mut publishers {
            let _ = publisher.publish_timeout(8, LIMIT).expect("the circle is broken in time");
        }
    }
    let ledger = shut_down(&broker);
    assert!(refused.load(Ordering::Relaxed) > 0, "the circle closed");
    assert_eq!(ledger.total().failures_of(FailureKind::Panic), 0);
}

#[test]
fn publishing_inside_a_publish_closure_on_a_full_ring_fails_at_once() {
    let broker = numbers([Dispatcher::new("d").capacity(1)]);
    let _subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let (outer, inner) = (broker.publisher("a").expect("a topic"), broker.publisher("a").expect("a topic"));
    let failures = within("a publish inside a publish ends", move || {
        let (mut outer, mut inner) = (outer, inner);
        let mut failures = Vec::new();
        let outcome = outer.publish_in_place(|_| {
            failures.push(inner.publish(0).map_err(|error| error.kind().clone()));
            failures.push(inner.publish_timeout(0, LIMIT).map_err(|error| error.kind().clone()));
        });
        let _ = outcome.expect("room for the outer one");
        // The same while a batch is being written.
        let writing =
            Writing(|_: &mut u64| failures.push(inner.publish(0).map_err(|error| error.kind().clone())));
        assert_eq!(outer.publish_batch([writing]).expect("room for the batch").published, 1);
        failures
    });
    assert_eq!(failures[..2], [Err(would_deadlock("d")), Err(would_deadlock("d"))]);
    assert_eq!(failures.last(), Some(&Err(would_deadlock("d"))));
    shut_down(&broker);
}

#[test]
fn a_handler_may_end_its_own_subscription() {
    let broker = default_broker();
    let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let (sender, received) = mpsc::channel();
    let subscription = {
        let own = own.clone();
        broker.subscribe("a", move |message| {
            if let Some(subscription) = own.lock().unwrap().take() {
                subscription.unsubscribe();
            }
            sender.send(message.sequence()).unwrap();
        })
    };
    *own.lock().unwrap() = Some(subscription.expect("a pattern"));
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("x").expect("room");
    let _ = publisher.publish("x").expect("room");
    assert_eq!(next(&received), 0);
    let gone = received.recv_timeout(LIMIT);
    assert_eq!(
        gone,
        Err(mpsc::RecvTimeoutError::Disconnected),
        "the handler is dropped and not called again"
    );
    shut_down(&broker);
}

#[test]
fn a_subscription_ended_by_another_handler_is_not_called_again_on_that_consumer() {
    let broker = default_broker();
    let victim: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let calls = Arc::new(AtomicU64::new(0));
    let _killer = {
        let victim = victim.clone();
        broker
            .subscribe("a", move |_| {
                if let Some(subscription) = victim.lock().unwrap().take() {
                    subscription.unsubscribe();
                }
            })
            .expect("a pattern")
    };
    let subscription = {
        let calls = calls.clone();
        broker.subscribe("a", move |_| _ = calls.fetch_add(1, Ordering::Relaxed)).expect("a pattern")
    };
    let id = subscription.id();
    *victim.lock().unwrap() = Some(subscription);
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("x").expect("room");
    drain(&broker);
    assert_eq!(
        calls.load(Ordering::Relaxed),
        0,
        "the very message whose handling ended it is not delivered to it"
    );
    let _ = publisher.publish("x").expect("room");
    let ledger = shut_down(&broker);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    let dropped = ledger.total().dropped_for(DropReason::Unsubscribed);
    assert_eq!((dropped, ledger.total().delivered()), (1, 2), "{id}");
}

#[test]
fn unsubscribing_from_a_stuck_handler_gives_up_at_its_limit_and_takes_effect_later() {
    let broker = default_broker();
    let (enter, entered) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let witness = Arc::new(());
    let held = witness.clone();
    let subscription = broker
        .subscription()
        .name("stuck")
        .pattern("a")
        .subscribe(move |_| {
            let _held = &held;
            enter.send(()).unwrap();
            let _ = told.recv_timeout(LIMIT);
        })
        .expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("x").expect("room");
    let _ = publisher.publish("x").expect("room");
    next(&entered);
    let limit = Duration::from_millis(10);
    let error = subscription.unsubscribe_timeout(limit).expect_err("its handler is stuck");
    assert_eq!(error, UnsubscribeError::TimedOut { subscriptions: vec!["stuck".to_owned()], limit });
    assert!(error.to_string().contains("stuck"), "{error}");
    assert_eq!(publisher.publish("x").expect("nobody wants it").accepted, 0);
    go_on.send(()).expect("the handler waits");
    eventually("the handler is dropped", || Arc::strong_count(&witness) == 1);
    let total = shut_down(&broker).total();
    assert_eq!((total.delivered(), total.dropped_for(DropReason::Unsubscribed)), (1, 1));
}

#[test]
fn dropping_the_broker_drains_it_ends_its_threads_and_frees_everything() {
    let witness = Arc::new(());
    let delivered = Arc::new(AtomicU64::new(0));
    let broker: Broker<Option<Arc<()>>> = Broker::of()
        .dispatcher(Dispatcher::new("drop-me").capacity(64).stages(&[1, 2]))
        .build()
        .expect("valid options");
    for stage in [0, 1, 1] {
        // A handler with a publisher: a circle, but for the closing.
        let (mut publisher, held) = (broker.publisher("b").expect("a topic"), witness.clone());
        let delivered = delivered.clone();
        broker
            .subscription()
            .pattern("a")
            .stage(stage)
            .subscribe(move |_| {
                let _held = &held;
                delivered.fetch_add(1, Ordering::Relaxed);
                drop(publisher.try_publish(None));
            })
            .expect("valid")
            .detach();
    }
    let mut publisher = broker.publisher("a").expect("a topic");
    for _ in 0..50 {
        let _ = publisher.publish(Some(witness.clone())).expect("the consumers make room");
    }
    drop(broker);
    assert_eq!(publisher.publish(None).expect_err("it is closed").kind(), &PublishFailure::Closed);
    drop(publisher);
    eventually("everything is freed", || Arc::strong_count(&witness) == 1);
    assert_eq!(delivered.load(Ordering::Relaxed), 150, "what was accepted is delivered");
    #[cfg(target_os = "linux")]
    eventually("the threads end", || broker_support::threads_named("rm-drop-me") == 0);
}

#[test]
fn a_broker_that_was_shut_down_refuses_everything() {
    let broker = default_broker();
    let existing = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let mut unrouted = broker.publisher("nobody").expect("a topic");
    let mut any = broker.any_topic_publisher();
    let _ = any.publish("a", "x").expect("room");
    shut_down(&broker);
    let payload = Payload::new(b"handed back").expect("it fits");
    let error = publisher.publish(payload).expect_err("it is closed");
    assert_eq!((error.kind(), error.kind().to_string().is_empty()), (&PublishFailure::Closed, false));
    assert_eq!(error.into_inner().as_deref(), Some(&b"handed back"[..]));
    assert_eq!(unrouted.publish("x").expect_err("it is closed").kind(), &PublishFailure::Closed);
    assert_eq!(publisher.publish_batch(["x"]).expect_err("it is closed").failure, PublishFailure::Closed);
    for number in 0..1_000 {
        let error = any.publish(&format!("a.{number}"), "x").expect_err("it is closed");
        assert_eq!(error.kind(), &PublishFailure::Closed);
    }
    assert_eq!(any.publish("a", "x").expect_err("it is closed").kind(), &PublishFailure::Closed);
    assert_eq!(broker.subscribe("a", |_| ()).expect_err("it is closed"), SubscribeError::Closed);
    within("unsubscribing after the end", move || existing.unsubscribe());
    let mut late = broker.publisher("a").expect("a topic");
    assert_eq!(late.publish("x").expect_err("it is closed").kind(), &PublishFailure::Closed);
    assert_eq!(broker.audit().published, 1);
    assert!(broker.metrics().get("messaging.broker.routes") <= Some(2.0), "closed, it takes no routes");
}

#[test]
fn a_second_shutdown_has_nothing_to_do() {
    let broker = default_broker();
    let _subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let _ = broker.publisher("a").expect("a topic").publish("x").expect("room");
    let first = shut_down(&broker);
    let second = shut_down(&broker.clone());
    assert_eq!(first, second);
}

#[test]
fn shutdown_from_a_handler_waits_for_all_but_its_own_consumer() {
    let broker = numbers([
        Dispatcher::new("asks").capacity(16).stages(&[1, 1]),
        Dispatcher::new("other").capacity(16),
    ]);
    let (sender, received) = mpsc::channel();
    let later = Arc::new(AtomicU64::new(0));
    // In the first stage: the second one waits for it, and it must not wait for the second one.
    let asking = broker.clone();
    broker
        .subscription()
        .name("asks")
        .pattern("a")
        .dispatcher("asks")
        .stage(0)
        .subscribe(move |message| {
            if **message == 0 {
                let started = Instant::now();
                let report = asking.shutdown(LIMIT).expect("not inside of a closure");
                sender.send((report, started.elapsed())).unwrap();
            }
        })
        .expect("valid")
        .detach();
    let counted = later.clone();
    broker
        .subscription()
        .name("later")
        .pattern("a")
        .dispatcher("asks")
        .subscribe(move |_| _ = counted.fetch_add(1, Ordering::Relaxed))
        .expect("valid")
        .detach();
    broker
        .subscription()
        .name("other")
        .pattern("a")
        .dispatcher("other")
        .subscribe(|_| ())
        .expect("valid")
        .detach();
    let mut publisher = broker.publisher("a").expect("a topic");
    let sent =
        publisher.publish_batch([0, 1, 2]).map_or_else(|error| error.published, |batch| batch.published);
    let (report, waited) = next(&received);
    assert!(waited < LIMIT / 2, "it waited for itself: {waited:?}");
    assert!(report.abandoned.is_empty() && report.undelivered.is_empty());
    let other = account(&report.ledger, "other");
    assert!(other.is_balanced(), "{other:?}");
    assert_eq!(account(&report.ledger, "asks").count(Term::InFlight), 1);
    // What was accepted is delivered all the same, on its own consumer and behind it.
    let ledger = shut_down(&broker);
    assert_eq!(later.load(Ordering::Relaxed), account(&ledger, "asks").delivered());
    assert!(ledger.published >= sent as u64);
}

#[test]
fn shutdown_with_a_stuck_handler_returns_in_time_names_it_and_hands_the_rest_back() {
    let broker = numbers([Dispatcher::new("stuck").capacity(64)]);
    let (enter, entered) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let (leave, left) = mpsc::channel();
    let subscription = |name: &str| broker.subscription().name(name).pattern("a");
    let before = subscription("before").subscribe(|_| ()).expect("valid");
    let stuck = subscription("culprit")
        .subscribe(move |message| {
            if **message == 20 {
                enter.send(()).unwrap();
                let _ = told.recv_timeout(LIMIT);
                leave.send(()).unwrap();
                return Err("late");
            }
            Ok(())
        })
        .expect("valid");
    let after = subscription("after").subscribe(|_| ()).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let mut ids = Vec::new();
    for number in 0..30 {
        if number == 3 {
            // A tombstone in a run before the one that gets stuck.
            let panicking = AssertUnwindSafe(|| publisher.publish_in_place(|_| panic_quietly()));
            assert!(catch_unwind(panicking).is_err());
        }
        ids.push(publisher.publish(number).expect("room").id);
    }
    next(&entered);

    let limit = Duration::from_millis(400);
    let started = Instant::now();
    let report = broker.shutdown(limit).expect("not inside of a closure");
    let took = started.elapsed();
    assert!(took < limit + Duration::from_secs(5), "it took {took:?}");

    let [abandoned] = &report.abandoned[..] else { panic!("{:?}", report.abandoned) };
    assert_eq!((abandoned.thread.as_str(), abandoned.subscription.as_str()), ("rm-stuck-0", "culprit"));
    assert_eq!(abandoned.message, Some(ids[20]));
    assert_eq!(abandoned.topic.as_ref().map(|topic| topic.as_str()), Some("a"));

    let handed_back: Vec<_> = report
        .undelivered
        .iter()
        .map(|one| {
            (one.message.id, one.message.payload, one.subscriptions.iter().map(|name| &**name).collect())
        })
        .collect();
    let all = vec!["before", "culprit", "after"];
    let mut expected = vec![(ids[20], 20, vec!["after"])];
    expected.extend((21..30).map(|number| (ids[number as usize], number, all.clone())));
    assert_eq!(handed_back, expected);

    let check = |ledger: &Ledger| {
        assert!(ledger.is_balanced(), "{ledger:#?}");
        let of = |name| {
            let account = account(ledger, name);
            (
                account.delivered(),
                account.count(Term::InDoubt),
                account.count(Term::Undelivered),
                account.count(Term::InFlight),
            )
        };
        assert_eq!(
            (of("before"), of("culprit"), of("after")),
            ((21, 0, 9, 0), (20, 1, 9, 0), (20, 0, 10, 0))
        );
        assert_eq!(ledger.total().failures_of(FailureKind::Handler), 0);
        assert_eq!(ledger.rings[0].tombstones + ledger.rings[0].consumed + ledger.rings[0].depth, 31);
    };
    check(&report.ledger);

    // A second one has nothing to wait for.
    let says = |report: &ShutdownReport<u64>| {
        let handed_back: Vec<_> = report.undelivered.iter().map(|one| one.message.id).collect();
        (report.abandoned.len(), report.withheld, handed_back)
    };
    let started = Instant::now();
    let second = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert!(started.elapsed() < LIMIT / 2);
    assert_eq!(says(&second), says(&report), "it says all that there is to say");
    check(&second.ledger);

    go_on.send(()).expect("the handler waits");
    next(&left);
    eventually("the consumer ends", || broker.metrics().get("messaging.threads.total") == Some(0.0));
    check(&broker.audit());
    let third = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert_eq!(says(&third), says(&report));
    check(&third.ledger);
    drop((before, stuck, after));
}

#[test]
fn shutdown_accounts_for_the_stages_behind_a_stuck_one() {
    let broker = numbers([Dispatcher::new("staged").capacity(64).stages(&[1, 1, 1])]);
    let (enter, entered) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let mut subscriptions = Vec::new();
    subscriptions.push(
        broker
            .subscription()
            .name("first")
            .pattern("a")
            .stage(0)
            .subscribe(move |message| {
                if **message == 10 {
                    enter.send(()).unwrap();
                    let _ = told.recv_timeout(LIMIT);
                }
            })
            .expect("valid"),
    );
    for (stage, name) in [(1, "second"), (2, "third")] {
        subscriptions.push(
            broker.subscription().name(name).pattern("a").stage(stage).subscribe(|_| ()).expect("valid"),
        );
    }
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..20 {
        let _ = publisher.publish(number).expect("room");
    }
    next(&entered);
    let report = broker.shutdown(Duration::from_millis(800)).expect("not inside of a closure");
    assert_eq!(report.abandoned.len(), 1, "{:?}", report.abandoned);
    assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    let of = |name| {
        let account = account(&report.ledger, name);
        (account.delivered() + account.count(Term::Undelivered), account.count(Term::InDoubt))
    };
    assert_eq!((of("first"), of("second"), of("third")), ((19, 1), (20, 0), (20, 0)));
    eventually("the later stages' threads end", || {
        broker.metrics().get("messaging.threads.total") == Some(1.0)
    });
    go_on.send(()).expect("the handler waits");
}

#[test]
fn shutdown_while_a_publish_closure_is_stuck_returns_in_time() {
    let broker = numbers([Dispatcher::new("d").capacity(8)]);
    let _subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let (enter, entered) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let mut publisher = broker.publisher("a").expect("a topic");
    let stuck = thread::spawn(move || {
        publisher
            .publish_in_place(|number| {
                enter.send(()).unwrap();
                let _ = told.recv_timeout(LIMIT);
                *number = 7;
            })
            .map(|published| published.accepted)
    });
    next(&entered);
    let limit = Duration::from_millis(200);
    let started = Instant::now();
    let report = broker.shutdown(limit).expect("not inside of a closure");
    assert!(started.elapsed() < limit + Duration::from_secs(5));
    assert_eq!(report.abandoned.len(), 1, "its consumer waits for that message");
    assert_eq!(report.ledger.published, 0);
    go_on.send(()).expect("the closure waits");
    assert_eq!(stuck.join().expect("the publisher").expect("it had its slot before the end"), 1);
    eventually("the consumer ends", || broker.metrics().get("messaging.threads.total") == Some(0.0));
    let report = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    assert_eq!((report.ledger.published, report.ledger.total().count(Term::Undelivered)), (1, 1));
    assert_eq!(report.undelivered.len(), 1, "the late message is handed back by the next call");
}

#[test]
fn shutdown_names_a_consumer_that_is_stuck_in_the_drop_of_what_a_handler_captured() {
    let broker = default_broker();
    let (enter, entered) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let captured = OnDrop(move || {
        enter.send(()).unwrap();
        let _ = told.recv_timeout(LIMIT);
    });
    let subscription = broker.subscribe("a", move |_| _ = &captured).expect("a pattern");
    let _ = broker.publisher("a").expect("a topic").publish("").expect("room");
    eventually("the consumer owns the handler", || subscription.delivered() == 1);
    drop(subscription);
    next(&entered);
    let report = broker.shutdown(Duration::from_millis(200)).expect("not inside of a closure");
    let [abandoned] = &report.abandoned[..] else { panic!("{:?}", report.abandoned) };
    assert_eq!((abandoned.thread.as_str(), abandoned.subscription.as_str()), ("rm-default-0", ""));
    go_on.send(()).expect("the drop waits");
    shut_down(&broker);
}

#[test]
fn shutdown_while_publishers_publish_at_full_speed_accounts_for_every_accepted_message() {
    for round in 0..10 {
        let broker = numbers([
            Dispatcher::new("one").capacity(16),
            Dispatcher::new("two").capacity(16).stages(&[1, 1]).overflow(Overflow::Reject),
        ]);
        let mut subscriptions = Vec::new();
        for dispatcher in ["one", "two"] {
            subscriptions.push(
                broker.subscription().pattern("#").dispatcher(dispatcher).subscribe(|_| ()).expect("valid"),
            );
        }
        let started = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..3_u64)
            .map(|number| {
                let mut publisher = broker.publisher(&format!("p.{number}")).expect("a topic");
                let started = started.clone();
                thread::spawn(move || {
                    started.wait();
                    let (mut accepted, mut copies, mut refused) = (0_u64, 0_u64, 0_u64);
                    loop {
                        match publisher.publish(accepted) {
                            Ok(published) => {
                                accepted += 1;
                                copies += u64::from(published.accepted);
                            }
                            Err(error) => match error.kind() {
                                PublishFailure::Closed => return [accepted, copies, refused],
                                PublishFailure::PartlyRefused { accepted: some, refusals, .. } => {
                                    accepted += 1;
                                    copies += u64::from(*some);
                                    let are_full =
                                        refusals.iter().filter(|one| one.reason == RefusalReason::Full);
                                    refused += are_full.count() as u64;
                                }
                                kind => {
                                    assert!(kind.is_full(), "{kind}");
                                    refused += 1;
                                }
                            },
                        }
                    }
                })
            })
            .collect();
        started.wait();
        // A little later each time.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(round) {
            thread::yield_now();
        }
        let ledger = shut_down(&broker);
        let sums = threads.into_iter().map(|thread| thread.join().expect("a publisher"));
        let [accepted, copies, refused] =
            sums.fold([0; 3], |sum, one| std::array::from_fn(|place| sum[place] + one[place]));
        assert_eq!(ledger.published, accepted);
        assert_eq!(ledger.total().delivered(), copies);
        let after = broker.audit();
        // Who was refused at the last moment may count it behind the report; and who found one ring closed is told
        // that, and not that the other was full.
        assert!((refused..=refused + 3).contains(&after.refused), "{refused} of {after}");
        assert!(ledger.refused <= after.refused && after.total().refused == after.refused);
        let all_else = |ledger: &Ledger| {
            let mut ledger = ledger.clone();
            ledger.refused = 0;
            ledger.rings.iter_mut().for_each(|ring| ring.refused = 0);
            ledger.subscriptions.iter_mut().for_each(|account| account.refused = 0);
            ledger
        };
        assert_eq!(all_else(&after), all_else(&ledger), "nothing else is counted after the end");
    }
}

#[test]
fn a_broker_that_cannot_be_built_leaves_no_thread() {
    use ringmain::affinity::Pinning;
    let build = |bad: Dispatcher| {
        Broker::builder().dispatcher(Dispatcher::new("not-built").stages(&[2, 1])).dispatcher(bad).build()
    };
    let error =
        build(Dispatcher::new("bad").pinning(Pinning::Cores(vec![999]))).expect_err("there is no such core");
    assert!(matches!(error, BrokerBuildError::Ring { .. }));
    assert!(error.to_string().contains("999"), "{error}");
    for bad in [
        Dispatcher::new("bad").capacity(3),
        Dispatcher::new("bad").capacity(0),
        Dispatcher::new("bad").stages(&[1, 0]),
        Dispatcher::new("not-built"),
        Dispatcher::new("tab\t"),
    ] {
        assert!(build(bad.clone()).is_err(), "{bad:?}");
    }
    #[cfg(target_os = "linux")]
    eventually("no thread is left", || broker_support::threads_named("rm-not-built") == 0);
}

#[test]
fn the_last_handle_may_be_dropped_by_a_handler() {
    let witness = Arc::new(());
    let broker = default_broker();
    let slot = Arc::new(Mutex::new(Some(broker.clone())));
    let (held, inner) = (witness.clone(), slot.clone());
    broker
        .subscribe("a", move |_| {
            let _held = &held;
            drop(inner.lock().unwrap().take());
        })
        .expect("a pattern")
        .detach();
    let mut publisher = broker.publisher("a").expect("a topic");
    drop(broker);
    let _ = publisher.publish("x").expect("the handler's handle keeps it open");
    eventually("the handler has closed the broker and is dropped", || Arc::strong_count(&witness) == 1);
    assert_eq!(publisher.publish("x").expect_err("it is closed").kind(), &PublishFailure::Closed);
}

#[test]
fn a_handler_may_subscribe_and_publish_to_what_it_subscribed() {
    let broker = default_broker();
    let (sender, received) = mpsc::channel();
    let closed = AtomicBool::new(false);
    let weak: Arc<Mutex<Option<Broker>>> = Arc::new(Mutex::new(Some(broker.clone())));
    let inner = weak.clone();
    let _subscription = broker
        .subscribe("a", move |_| {
            if closed.swap(true, Ordering::Relaxed) {
                return;
            }
            let Some(broker) = inner.lock().unwrap().take() else { return };
            let sender = sender.clone();
            broker
                .subscribe("b", move |message| sender.send(message.payload().to_vec()).unwrap())
                .expect("a pattern")
                .detach();
            let _ = broker.publisher("b").expect("a topic").publish("from within").expect("room");
        })
        .expect("a pattern");
    let _ = broker.publisher("a").expect("a topic").publish("x").expect("room");
    assert_eq!(next(&received), b"from within");
    shut_down(&broker);
}

#[test]
fn who_unsubscribes_while_the_consumer_ends_waits_until_his_handler_is_dropped() {
    /// Says that it is being dropped, and takes as long as the test wants.
    struct SlowDrop(mpsc::Sender<()>, mpsc::Receiver<()>);
    impl Drop for SlowDrop {
        fn drop(&mut self) {
            let _ = self.0.send(());
            let _ = self.1.recv_timeout(LIMIT);
        }
    }
    let broker = default_broker();
    let (is_dropping, dropping) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let slow = Mutex::new(SlowDrop(is_dropping, may_go_on));
    let first = broker.subscribe("a", move |_| drop(slow.lock())).expect("a valid pattern");
    let witness = Arc::new(());
    let held = witness.clone();
    let second = broker.subscribe("a", move |_| drop(held.clone())).expect("a valid pattern");
    first.detach();

    let ending = thread::spawn(move || broker.shutdown(LIMIT));
    dropping.recv_timeout(LIMIT).expect("the first handler is dropped when its consumer ends");
    let outcome = second.unsubscribe_timeout(Duration::from_millis(50));
    assert!(
        outcome.is_err() || Arc::strong_count(&witness) == 1,
        "unsubscribed while the handler is yet to be dropped"
    );
    go_on.send(()).expect("the first handler waits");
    assert!(ending.join().expect("no panic").expect("not inside of a closure").ledger.is_balanced());
    eventually("the second handler is dropped", || Arc::strong_count(&witness) == 1);
}
