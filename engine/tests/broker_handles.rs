//! Handles of a broker: weak ones, and what a panic may pass through.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{eventually, next, shut_down};
use ringmain::Broker;
use ringmain::broker::{AnyTopicPublisher, PublishFailure, Publisher, Subscription, WeakBroker};
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

#[test]
fn a_handler_with_a_weak_handle_lets_its_broker_go() {
    let witness = Arc::new(());
    let broker: Broker = Broker::builder().build().expect("valid options");
    let (weak, held) = (broker.downgrade(), witness.clone());
    let (sender, received) = mpsc::channel();
    broker
        .subscribe("a", move |_| {
            let _held = &held;
            let broker = weak.upgrade().expect("the test holds it");
            sender.send(broker.publisher("b").expect("a topic").publish("y").is_ok()).unwrap();
        })
        .expect("a pattern")
        .detach();
    let outside = broker.downgrade();
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("x").expect("room");
    assert!(next(&received), "it publishes by the weak handle");
    drop(broker);
    eventually("the handler is dropped", || Arc::strong_count(&witness) == 1);
    assert!(outside.upgrade().is_none());
    assert_eq!(publisher.publish("x").expect_err("it is closed").kind(), &PublishFailure::Closed);
}

#[test]
fn a_weak_handle_leads_to_the_same_broker() {
    let broker: Broker = Broker::builder().build().expect("valid options");
    let weak = broker.downgrade().clone();
    let subscription = weak.upgrade().expect("it is there").subscribe("a", |_| ()).expect("a pattern");
    let _ = broker.publisher("a").expect("a topic").publish("x").expect("room");
    shut_down(&broker);
    assert_eq!(subscription.delivered(), 1);
    assert_eq!(format!("{weak:?}"), "WeakBroker { is_open: true }");
}

#[test]
fn handles_may_be_used_after_a_panic_that_they_have_seen() {
    /// A payload that is neither.
    #[derive(Clone, Default)]
    #[expect(dead_code, reason = "for its type")]
    struct Torn(Option<Arc<std::sync::Mutex<std::cell::Cell<u8>>>>);
    fn is_safe<T: UnwindSafe + RefUnwindSafe>() {}
    is_safe::<Broker>();
    is_safe::<Broker<Torn>>();
    is_safe::<WeakBroker<Torn>>();
    is_safe::<Subscription<Torn>>();
    is_safe::<Publisher<Torn>>();
    is_safe::<AnyTopicPublisher<Torn>>();

    let broker: Broker<Torn> = Broker::of().build().expect("valid options");
    let subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let outcome = catch_unwind(|| {
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish(Torn(None)).expect("room");
        let _ = publisher.publish_in_place(|_| broker_support::panic_quietly());
    });
    assert!(outcome.is_err());
    shut_down(&broker);
    assert_eq!(subscription.delivered(), 1);
}
