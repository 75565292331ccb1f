//! What goes with what: each cell of the table in the documentation, as the builder has it.

use ringmain::Broker;
use ringmain::broker::{
    Acknowledgement, Breaker, Feature, Idempotency, PublishOptions, Retry, SubscribeError, Subscription,
    SubscriptionBuilder, Together, key,
};
use ringmain::message::Message;
use std::fmt::Write as _;
use std::time::Duration;

/// Tells a subscription to have a feature, where that is something that it is told.
fn tell(options: SubscriptionBuilder<u64>, feature: Feature) -> SubscriptionBuilder<u64> {
    let number = || key::of(|message: &Message<'_, u64>| Some(**message));
    match feature {
        Feature::Filter => options.filter(|_| true),
        Feature::Idempotency => options.idempotent(Idempotency::by(number())),
        Feature::Breaker => options.breaker(Breaker::default()),
        Feature::DeferredRetry => options.retry(Retry::default()),
        Feature::OrderedRetry => options.retry(Retry::default().in_order()),
        Feature::Conflation => options.conflate(number()),
        Feature::TimeLimit => options.time_limit(Duration::from_secs(60)),
        // What happens to messages, how they are published, or what the handler is.
        Feature::Expiry | Feature::Pause | Feature::Tokens | Feature::InFlight => options,
        other => panic!("{other} is new: say here how a subscription is told"),
    }
}

/// Subscribes with these features.
fn subscribe(broker: &Broker<u64>, features: &[Feature]) -> Result<Subscription<u64>, SubscribeError> {
    let options = broker.subscription().pattern("a");
    let options = features.iter().fold(options, |options, feature| tell(options, *feature));
    let in_flight = if features.contains(&Feature::InFlight) { 4 } else { 1 };
    if features.contains(&Feature::Tokens) || in_flight > 1 {
        let terms = Acknowledgement::within(Duration::from_secs(60)).in_flight(in_flight);
        options.subscribe_with_tokens(terms, |token| _ = token.ack())
    } else {
        options.subscribe(|_| ())
    }
}

/// One option is told twice, and the last holds: there is no subscription with both.
fn is_one_option(one: Feature, other: Feature) -> bool {
    [one, other].contains(&Feature::DeferredRetry) && [one, other].contains(&Feature::OrderedRetry)
}

#[test]
fn each_pair_works_together_or_is_refused_with_both_names_and_the_reason() {
    for (at, &one) in Feature::ALL.iter().enumerate() {
        for &other in &Feature::ALL[at + 1..] {
            let simulation = Broker::of::<u64>().simulate().expect("valid");
            let broker = simulation.broker();
            let subscribed = subscribe(&broker, &[one, other]);
            assert_eq!(one.with(other), other.with(one), "{one} with {other}");
            match one.with(other) {
                Together::Refused(_) if is_one_option(one, other) => {}
                Together::Refused(why) => {
                    let error = subscribed.expect_err(&format!("{one} with {other}"));
                    let SubscribeError::Conflict { reason, .. } = &error else { panic!("{error:?}") };
                    assert_eq!(*reason, why);
                    let text = error.to_string();
                    for part in [one.as_str(), other.as_str(), why] {
                        assert!(text.contains(part), "{text:?} does not name {part:?}");
                    }
                }
                _ => {
                    let subscription =
                        subscribed.unwrap_or_else(|error| panic!("{one} with {other}: {error}"));
                    delivers(simulation, subscription, &[one, other]);
                }
            }
        }
    }
}

/// What is published comes, whatever the subscription was told: each message once, and in order.
fn delivers(
    mut simulation: ringmain::broker::simulation::Simulation<u64>,
    subscription: Subscription<u64>,
    features: &[Feature],
) {
    let broker = simulation.broker();
    let pauses = features.contains(&Feature::Pause);
    if pauses {
        subscription.pause().expect("no child");
        simulation.run();
    }
    let mut options = PublishOptions::new();
    if features.contains(&Feature::Expiry) {
        options = options.expires_after(Duration::from_secs(60));
    }
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..10 {
        let _ = publisher.publish_with(number, &options).expect("room");
    }
    simulation.run();
    if pauses {
        subscription.resume();
        simulation.run();
    }
    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger}");
    assert_eq!(ledger.total().delivered(), 10, "{features:?}: {ledger}");
    drop(subscription);
    let _report = simulation.shutdown();
}

#[test]
fn a_feature_alone_is_never_refused_and_all_that_go_together_do() {
    let broker = Broker::of::<u64>().build().expect("valid");
    for &feature in Feature::ALL {
        assert_eq!(feature.with(feature), Together::Work);
        drop(subscribe(&broker, &[feature]).unwrap_or_else(|error| panic!("{feature}: {error}")));
    }
    let all = [
        Feature::Filter,
        Feature::Expiry,
        Feature::Idempotency,
        Feature::Pause,
        Feature::Breaker,
        Feature::DeferredRetry,
        Feature::Tokens,
        Feature::InFlight,
        Feature::TimeLimit,
    ];
    drop(subscribe(&broker, &all).expect("none excludes another"));
}

/// The table, in the form in which the documentation has it.
fn table() -> String {
    let mut table = String::new();
    let names = Feature::ALL.iter().map(|feature| feature.as_str()).collect::<Vec<_>>().join(" | ");
    let _ = writeln!(table, "| | {names} |\n|---|{}", ":-:|".repeat(Feature::ALL.len()));
    let mut notes: Vec<&str> = Vec::new();
    for (at, one) in Feature::ALL.iter().enumerate() {
        let _ = write!(table, "| **{one}** |");
        for other in &Feature::ALL[..at] {
            let (sign, note) = match one.with(*other) {
                Together::Work => ("✓", None),
                Together::Note(note) => ("✓", Some(note)),
                Together::LoseOrder(note) => ("○", Some(note)),
                Together::Refused(note) => ("✗", Some(note)),
                other => panic!("{other:?} is new: say here how it is shown"),
            };
            let _ = write!(table, " {sign}");
            if let Some(note) = note {
                let number = notes.iter().position(|other| *other == note).unwrap_or_else(|| {
                    notes.push(note);
                    notes.len() - 1
                });
                let _ = write!(table, " {}", number + 1);
            }
            table.push_str(" |");
        }
        let _ = writeln!(table, "{}", " |".repeat(Feature::ALL.len() - at));
    }
    table.push('\n');
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(table, "{}. {}{}", number + 1, note[..1].to_uppercase(), &note[1..]);
    }
    table
}

#[test]
fn the_documentation_has_the_table_that_the_function_makes() {
    let source = include_str!("../src/broker/subscribe/feature.rs");
    let documented: String = source
        .lines()
        .filter_map(|line| line.strip_prefix("/// "))
        .fold(String::new(), |text, line| text + line + "\n");
    let table = table();
    for line in table.lines().filter(|line| !line.is_empty()) {
        assert!(documented.contains(line), "feature.rs lacks the line\n{line}\nof\n{table}");
    }
}
