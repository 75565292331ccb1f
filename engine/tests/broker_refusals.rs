//! What a broker will not do, and how it says so: options, batches that change their mind, and the
//! labels of what went wrong.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{LIMIT, next, shut_down};
use proptest::{collection, prelude::*};
use ringmain::broker::{
    Broker, BrokerBuildError, Dispatcher, DropReason, FailureKind, PublishFailure, SubscribeError, Term,
};
use ringmain::ring::Overflow;
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn a_dispatcher_that_would_drop_is_refused() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let built = Broker::builder().dispatcher(Dispatcher::new("lossy").overflow(overflow)).build();
        let error = built.expect_err("it owes messages to subscriptions");
        assert_eq!(error, BrokerBuildError::Overflow { dispatcher: "lossy".to_owned() });
        assert!(error.to_string().contains("\"lossy\""), "{error}");
    }
}

#[test]
fn more_dispatchers_than_a_broker_may_have_are_refused_before_one_is_made() {
    let mut builder = Broker::builder();
    for number in 0..1_025 {
        builder = builder.dispatcher(Dispatcher::new(&format!("d{number}")).capacity(1));
    }
    let error = builder.build().expect_err("one too many");
    assert_eq!(error, BrokerBuildError::TooManyDispatchers { count: 1_025 });
    assert!(error.to_string().contains("at most 1024"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_pattern_is_refused_if_and_only_if_it_has_more_wildcards_than_allowed(
        patterns in collection::vec(collection::vec(prop_oneof![Just("a"), Just("*"), Just("#")], 1..=8), 1..40),
        limit in 0..6_usize,
    ) {
        let broker: Broker = Broker::builder().max_wildcards(limit).build().expect("valid options");
        let mut accepted = 0;
        for words in patterns {
            let (pattern, wildcards) = (words.join("."), words.iter().filter(|word| **word != "a").count());
            let subscribed = broker.subscribe(&pattern, |_| ()).map(ringmain::broker::Subscription::detach);
            accepted += usize::from(subscribed.is_ok());
            let too_many = SubscribeError::TooManyWildcards { pattern, wildcards, limit };
            prop_assert_eq!(subscribed, if wildcards > limit { Err(too_many) } else { Ok(()) });
        }
        prop_assert_eq!(broker.subscriptions().len(), accepted);
        shut_down(&broker);
    }
}

#[test]
fn one_pattern_with_too_many_wildcards_refuses_the_subscription_and_says_which() {
    let broker: Broker = Broker::builder().max_wildcards(1).build().expect("valid options");
    let several = broker.subscription().pattern("a.*").pattern("#.a.*").pattern("b");
    let error = several.subscribe(|_| ()).expect_err("the second has two");
    assert_eq!(error.to_string(), r##"pattern "#.a.*" has 2 wildcards, and this broker allows 1"##);
    assert!(!broker.has_subscribers("b").expect("a topic"));
    shut_down(&broker);
}

#[test]
fn labels_of_what_went_wrong_are_distinct_and_made_for_metrics() {
    let kinds: Vec<_> = FailureKind::ALL.iter().map(|kind| (kind.as_str(), kind.to_string())).collect();
    let reasons: Vec<_> =
        DropReason::ALL.iter().map(|reason| (reason.as_str(), reason.to_string())).collect();
    let terms: Vec<_> = Term::ALL.iter().map(|term| (term.as_str(), term.to_string())).collect();
    for labels in [&kinds[..], &reasons[..], &terms[..]] {
        let distinct: BTreeSet<_> = labels.iter().map(|(label, _)| label).collect();
        assert_eq!(distinct.len(), labels.len(), "{labels:?}");
        for (label, shown) in labels {
            assert_eq!(label, shown);
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
        }
    }
    assert_eq!(format!("{:>8}", DropReason::Failed), "  failed");
}

#[test]
fn a_refusal_leads_to_what_lies_beneath_it() {
    let broker: Broker = Broker::builder().build().expect("valid options");
    let error = broker.any_topic_publisher().publish("a..b", "").expect_err("no topic");
    let PublishFailure::Topic(topic) = error.kind() else { panic!("{error}") };
    assert!(error.to_string().ends_with(&topic.to_string()), "{error}");
    assert_eq!(error.source().map(ToString::to_string), topic.source().map(ToString::to_string));
    shut_down(&broker);
}

#[test]
fn what_a_shutdown_hands_back_shows_no_content() {
    let broker: Broker = Broker::builder().build().expect("valid options");
    let (go_on, told) = mpsc::channel::<()>();
    let (enter, entered) = mpsc::channel();
    broker
        .subscribe("a", move |_| {
            enter.send(()).unwrap();
            let _ = told.recv_timeout(LIMIT);
        })
        .expect("a pattern")
        .detach();
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("held").expect("room");
    next(&entered);
    let _ = publisher.publish("s3cr3t").expect("room");
    let report = broker.shutdown(Duration::from_millis(50)).expect("not inside of a closure");
    let [undelivered] = &report.undelivered[..] else { panic!("{:?}", report.undelivered) };
    assert_eq!(undelivered.message.payload.as_slice(), b"s3cr3t");
    let text = format!("{report:?}");
    assert!(text.contains("Undelivered"), "{text}");
    assert!(!text.contains("s3cr3t") && !text.contains("115, 51, 99"), "{text}");
    go_on.send(()).expect("the handler waits");
}
