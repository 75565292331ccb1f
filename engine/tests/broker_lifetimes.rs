//! Messages that expire by default, by topic: whoever publishes them, and however.

mod broker_support;

use broker_support::LIMIT;
use ringmain::Broker;
use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
use ringmain::broker::simulation::Simulation;
use ringmain::broker::{BrokerBuildError, BrokerBuilder, Dispatcher, PublishOptions, Term};
use ringmain::message::Priority;
use ringmain::topic::TopicErrorKind;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const LIFE: Duration = Duration::from_secs(2);

/// When a message expires in milliseconds, and what it is.
type Seen = (Option<u64>, u32);

fn simulated(options: BrokerBuilder<u32>) -> Simulation<u32> {
    options.expire_after("quotes.#", LIFE).simulate().expect("valid")
}

/// Subscribes to everything, on a dispatcher.
fn listen(broker: &Broker<u32>, dispatcher: &str) -> Receiver<Seen> {
    let (sender, seen) = channel();
    let subscription = broker.subscription().pattern("#").dispatcher(dispatcher).subscribe(move |message| {
        let expires_at = message.expires_at().map(|at| at.as_nanos() / 1_000_000);
        sender.send((expires_at, **message))
    });
    subscription.expect("valid").detach();
    seen
}

fn count(broker: &Broker<u32>, term: Term) -> u64 {
    broker.audit().total().count(term)
}

#[test]
fn a_message_that_is_told_nothing_expires_as_its_topic_says() {
    let mut simulation = simulated(Broker::of());
    let broker = simulation.broker();
    let seen = listen(&broker, "default");
    simulation.advance(Duration::from_millis(500));
    let mut quotes = broker.publisher("quotes.eu").expect("a topic");
    let _ = quotes.publish(1).expect("room");
    let _ = quotes.try_publish(2).expect("room");
    let _ = quotes.publish_in_place(|payload| *payload = 3).expect("room");
    let mut any = broker.any_topic_publisher();
    let _ = any.publish("quotes", 4).expect("room");
    let _ = any.publish("orders", 5).expect("room");
    let _ = quotes.publish_batch([6, 7]).expect("room");
    simulation.run();
    let expected: [Seen; 7] = [1, 2, 3, 4, 5, 6, 7].map(|n| ((n != 5).then_some(2_500), n));
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), expected);
    assert!(simulation.shutdown().ledger.is_balanced());
}

#[test]
fn what_a_message_is_told_itself_counts_and_what_else_it_is_told_stays() {
    let mut simulation = simulated(Broker::of());
    let broker = simulation.broker();
    let (sender, seen) = channel();
    let _all = broker.subscription().pattern("#").subscribe(move |message| {
        let source = message.headers().get_str("source").map(str::to_owned);
        let expires_at = message.expires_at().map(|at| at.as_nanos() / 1_000_000);
        sender.send((**message, expires_at, source, message.priority()))
    });
    let _all = _all.expect("valid");
    let mut quotes = broker.publisher("quotes").expect("a topic");
    let longer = PublishOptions::new().expires_after(Duration::from_secs(60));
    let _ = quotes.publish_with(1, &longer).expect("room");
    let at = broker.clock().now().after(Duration::from_secs(1));
    let _ = quotes.publish_with(2, &PublishOptions::new().expires_at(at)).expect("room");
    let told = PublishOptions::new().header("source", "feed").expect("fits").priority(Priority::High);
    let _ = quotes.publish_with(3, &told).expect("room");
    let _ = quotes.publish_batch_with([4], &told).expect("room");
    let _ = quotes.publish_batch_with([5], &longer).expect("room");
    simulation.run();
    let source = || Some("feed".to_owned());
    let expected = [
        (1, Some(60_000), None, Priority::Normal),
        (2, Some(1_000), None, Priority::Normal),
        (3, Some(2_000), source(), Priority::High),
        (4, Some(2_000), source(), Priority::High),
        (5, Some(60_000), None, Priority::Normal),
    ];
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn it_is_said_to_every_dispatcher_and_to_what_handlers_publish() {
    let several = || Broker::of().dispatcher(Dispatcher::new("fast")).dispatcher(Dispatcher::new("slow"));
    let mut simulation = simulated(several());
    let broker = simulation.broker();
    let (fast, slow) = (listen(&broker, "fast"), listen(&broker, "slow"));
    let mut follow_ups = broker.publisher("quotes.derived").expect("a topic");
    let _deriving = broker
        .subscription()
        .pattern("orders")
        .dispatcher("slow")
        .subscribe(move |order| follow_ups.publish(**order + 1).map(drop));
    let _deriving = _deriving.expect("valid");
    let _ = broker.publisher("quotes").expect("a topic").publish(1).expect("room");
    let _ = broker.publisher("orders").expect("a topic").publish(2).expect("room");
    simulation.run();
    let expected: [Seen; 3] = [(Some(2_000), 1), (None, 2), (Some(2_000), 3)];
    assert_eq!(fast.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!(slow.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_dispatcher_that_is_best_effort_is_told_as_well() {
    let lossy = Broker::of().dispatcher(Dispatcher::new("lossy").best_effort());
    let mut simulation = simulated(lossy);
    let seen = listen(&simulation.broker(), "lossy");
    let mut quotes = simulation.broker().publisher("quotes").expect("a topic");
    let _ = quotes.publish(1).expect("room");
    let _ = quotes.publish_batch([2, 3]).expect("room");
    simulation.run();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1, 2, 3].map(|n| (Some(2_000), n)));
}

#[test]
fn what_has_waited_for_too_long_is_expired_and_a_topic_that_nothing_is_said_of_waits_for_ever() {
    let mut simulation = simulated(Broker::of());
    let broker = simulation.broker();
    let subscription = broker.subscription().pattern("#").subscribe(|_| ()).expect("valid");
    subscription.pause().expect("open");
    simulation.run();
    let _ = broker.publisher("quotes.eu").expect("a topic").publish_batch([1, 2, 3]).expect("room");
    let _ = broker.publisher("orders").expect("a topic").publish_batch([4, 5]).expect("room");
    simulation.advance(LIFE - Duration::from_nanos(1));
    assert_eq!(count(&broker, Term::Expired), 0);
    simulation.advance(Duration::from_nanos(1));
    assert_eq!(count(&broker, Term::Expired), 3);
    simulation.advance(Duration::from_secs(3_600));
    subscription.resume();
    simulation.run();
    assert_eq!(count(&broker, Term::Delivered), 2);
}

#[test]
fn a_letter_that_is_published_again_lives_anew_and_one_that_is_replayed_lives_on() {
    let mut simulation = simulated(Broker::of().dead_letters(DeadLetterOptions::new()));
    let broker = simulation.broker();
    let (sender, seen) = channel();
    let _failing = broker.subscription().pattern("quotes").subscribe(move |message| {
        let _ = sender.send(message.expires_at().map(|at| at.as_nanos() / 1_000_000));
        Err::<(), _>("no")
    });
    let _failing = _failing.expect("valid");
    let _ = broker.publisher("quotes").expect("a topic").publish(1).expect("room");
    simulation.advance(Duration::from_secs(1));
    let dead = broker.dead_letters().expect("kept");
    let _ = dead.replay(&Selection::all(), Replay::to_subscription()).expect("open");
    simulation.run();
    // It had expired when it was published again.
    simulation.advance(Duration::from_secs(4));
    let _ = dead.republish(&Selection::all(), Replay::to_topic(), LIMIT).expect("open");
    simulation.run();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [Some(2_000), Some(2_000), Some(7_000)]);
}

#[test]
fn topics_that_are_not_topics_and_lives_of_no_length_are_refused() {
    let refused =
        |pattern, life| Broker::of::<u32>().expire_after(pattern, life).build().map(drop).unwrap_err();
    let none = refused("quotes.#", Duration::ZERO);
    assert_eq!(none, BrokerBuildError::NoLifetime { pattern: "quotes.#".to_owned() });
    assert!(none.to_string().contains("quotes.#") && none.to_string().contains("longer"), "{none}");
    let malformed = refused("quotes..eu", LIFE);
    let BrokerBuildError::LifetimePattern { reason, .. } = &malformed else { panic!("{malformed:?}") };
    assert_eq!(reason.kind(), TopicErrorKind::EmptyWord);
    assert!(malformed.to_string().contains("quotes..eu"), "{malformed}");
}

#[test]
fn a_time_without_end_is_no_time() {
    let broker = Broker::of::<u32>().expire_after("#", Duration::MAX).build().expect("valid");
    let (sender, seen) = channel();
    broker.subscribe("a", move |message| sender.send(**message)).expect("valid").detach();
    let _ = broker.publisher("a").expect("a topic").publish(7).expect("room");
    assert_eq!(seen.recv_timeout(LIMIT), Ok(7));
    assert!(broker.shutdown(LIMIT).expect("may wait").ledger.is_balanced());
}
