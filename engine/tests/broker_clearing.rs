//! Dispatchers that clear their slots: what goes when, what is handed back all the same, and payloads whose drop fails.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{next, panic_quietly, shut_down};
use ringmain::broker::{Broker, BrokerBuildError, Dispatcher, PublishOptions, Term};
use ringmain::message::{CorrelationId, Message, Payload};
use ringmain::ring::SlotPolicy;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A payload that says when it is dropped.
#[derive(Clone, Default)]
struct Told(Option<Arc<Dying>>);

struct Dying {
    number: u64,
    tell: mpsc::Sender<(u64, Option<String>)>,
    then: fn(u64),
}

impl Drop for Dying {
    fn drop(&mut self) {
        let thread = std::thread::current().name().map(str::to_owned);
        // Nobody may listen any more.
        let _ = self.tell.send((self.number, thread));
        (self.then)(self.number);
    }
}

fn clearing(capacity: usize, stages: &[usize]) -> Dispatcher {
    Dispatcher::new("clears").capacity(capacity).stages(stages).slot_policy(SlotPolicy::Clear)
}

#[test]
fn a_message_is_dropped_soon_after_its_last_handler_on_the_last_consumers_thread() {
    let broker: Broker<Told> = Broker::of().dispatcher(clearing(64, &[2, 1])).build().expect("valid");
    let (tell, told) = mpsc::channel();
    let counts: [_; 2] = std::array::from_fn(|stage| {
        let seen = Arc::new(AtomicU64::new(0));
        let counting = seen.clone();
        let handler = move |message: &Message<'_, Told>| {
            assert!(message.payload().0.is_some(), "it was cleared before");
            counting.fetch_add(1, Ordering::Relaxed);
        };
        broker.subscription().pattern("a").stage(stage).subscribe(handler).expect("valid").detach();
        seen
    });
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..200 {
        let dying = Arc::new(Dying { number, tell: tell.clone(), then: |_| () });
        let _ = publisher.publish(Told(Some(dying))).expect("room");
        // Long before its slot is used again.
        assert_eq!(next(&told), (number, Some("rm-clears-2".to_owned())));
    }
    let ledger = shut_down(&broker);
    assert!(ledger.is_balanced(), "{ledger:#?}");
    assert!(counts.iter().all(|seen| seen.load(Ordering::Relaxed) == 200));
    drop((broker, publisher));
    assert!(told.try_recv().is_err(), "something was dropped twice");
}

#[test]
fn a_payload_whose_drop_panics_stops_nobody() {
    let broker: Broker<Told> = Broker::of().dispatcher(clearing(2, &[1])).build().expect("valid");
    let (tell, told) = mpsc::channel();
    let subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..20 {
        let then = |number| {
            if number % 2 == 0 {
                panic_quietly()
            }
        };
        let _ = publisher
            .publish(Told(Some(Arc::new(Dying { number, tell: tell.clone(), then }))))
            .expect("room");
        assert_eq!(next(&told).0, number);
    }
    let ledger = shut_down(&broker);
    assert_eq!((subscription.delivered(), ledger.is_balanced()), (20, true));
}

/// What lay behind it is handed back, and what was handled is counted as that.
#[test]
fn a_payload_whose_drop_does_not_return_is_taken_over_at_shutdown() {
    let broker: Broker<Told> = Broker::of().dispatcher(clearing(64, &[1])).build().expect("valid");
    let (tell, told) = mpsc::channel();
    let subscription = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let then = |number| {
        if number == 2 {
            loop {
                std::thread::park();
            }
        }
    };
    for number in 0..6 {
        let _ = publisher
            .publish(Told(Some(Arc::new(Dying { number, tell: tell.clone(), then }))))
            .expect("room");
    }
    let dead: Vec<_> = (0..3).map(|_| next(&told).0).collect();
    assert_eq!(dead, [0, 1, 2]);
    let report = broker.shutdown(Duration::from_millis(300)).expect("not inside of a closure");
    assert_eq!(subscription.delivered(), 3);
    assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    let account = &report.ledger.subscriptions[0];
    assert_eq!((account.count(Term::InDoubt), account.count(Term::Undelivered)), (0, 3));
    let numbers = report.undelivered.iter().map(|one| {
        let dying = one.message.payload.0.as_ref();
        dying.expect("what was not handled is not cleared").number
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [3, 4, 5]);
    let [abandoned] = &*report.abandoned else { panic!("{:?}", report.abandoned) };
    assert_eq!((abandoned.subscription.as_str(), abandoned.message), ("", None));
}

/// The last consumer passes the stuck one when it is stopped, and leaves what that one still has to read.
#[test]
fn what_is_handed_back_at_shutdown_is_whole() {
    let broker: Broker<Told> = Broker::of().dispatcher(clearing(64, &[1, 1])).build().expect("valid");
    let (tell, _told) = mpsc::channel();
    let (inside, is_inside) = mpsc::channel();
    let stuck = move |_: &Message<'_, Told>| -> () {
        let _ = inside.send(());
        loop {
            std::thread::park();
        }
    };
    let on = |name: &str, stage| broker.subscription().name(name).pattern("a").stage(stage);
    on("stuck", 0).subscribe(stuck).expect("valid").detach();
    on("behind", 1).subscribe(|_| ()).expect("valid").detach();
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..6 {
        let _ = publisher
            .publish(Told(Some(Arc::new(Dying { number, tell: tell.clone(), then: |_| () }))))
            .expect("room");
    }
    next(&is_inside);
    let report = broker.shutdown(Duration::from_millis(300)).expect("not inside of a closure");
    assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    for (name, first) in [("stuck", 1), ("behind", 0)] {
        let theirs =
            report.undelivered.iter().filter(|one| one.subscriptions.iter().any(|other| **other == *name));
        let numbers: Vec<_> = theirs
            .map(|one| one.message.payload.0.as_ref().expect("what was not handled is not cleared").number)
            .collect();
        assert_eq!(numbers, (first..6).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_last_stage_of_several_consumers_is_refused_with_the_cure() {
    let build = |stages: &[usize]| Broker::of::<u64>().dispatcher(clearing(8, stages)).build().map(drop);
    let error = build(&[1, 2]).expect_err("two consumers are last");
    assert_eq!(error, BrokerBuildError::LastStage { dispatcher: "clears".to_owned(), consumers: 2 });
    assert!(error.to_string().contains("put a stage of one consumer behind"), "{error}");
    build(&[1, 2, 1]).expect("the cure");
}

#[test]
fn payload_headers_correlation_and_parent_are_gone_when_the_slot_is_used_again() {
    let broker: Broker = Broker::builder().dispatcher(clearing(1, &[1])).build().expect("valid options");
    let (sender, seen) = mpsc::channel();
    let handler = move |message: &Message<'_, Payload>| {
        sender.send((message.payload().to_vec(), message.headers().len(), message.correlation().is_some()))
    };
    broker.subscribe("a", handler).expect("a pattern").detach();
    let mut publisher = broker.publisher("a").expect("a topic");
    let correlation = CorrelationId::new("c-1").expect("valid");
    let options =
        PublishOptions::new().header("key", "value").expect("within limits").correlation(correlation);
    for len in [1, 64, 65, 4_000, 5_000] {
        let _ = publisher.publish_with(&vec![7; len], &options).expect("room");
        assert_eq!(next(&seen), (vec![7; len], 1, true));
        let _ = publisher
            .publish_in_place(|payload| {
                assert!(payload.is_empty(), "the slot was not cleared");
                // A buffer that may stay does, and one that may not does not.
                assert!(payload.heap_bytes() <= 4_096);
                assert_eq!(payload.heap_bytes() > 0, len == 65 || len == 4_000);
            })
            .expect("room");
        assert_eq!(next(&seen), (vec![], 0, false));
    }
    let ledger = shut_down(&broker);
    assert!(ledger.is_balanced(), "{ledger:#?}");
}

#[test]
fn a_publish_closure_that_panics_leaves_nothing_behind_either() {
    let broker: Broker = Broker::builder().dispatcher(clearing(1, &[1])).build().expect("valid options");
    broker.subscribe("a", |_| ()).expect("a pattern").detach();
    let mut publisher = broker.publisher("a").expect("a topic");
    let panicking = || {
        publisher.publish_in_place(|payload| {
            payload.set(b"half of").expect("short");
            panic_quietly()
        })
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err());
    let _ = publisher.publish_in_place(|payload| assert!(payload.is_empty())).expect("room");
    let ledger = shut_down(&broker);
    assert!(ledger.is_balanced(), "{ledger:#?}");
}
