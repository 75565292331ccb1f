//! What a topic reaches: publishers that skip what does not concern them, many subscriptions in one
//! swap, and what a broker tells of its routing.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{Random, drain, eventually, next, shut_down, within};
use ringmain::broker::{Broker, Dispatcher, SubscribeError, Subscription};
use ringmain::routing::RoutingTable;
use ringmain::topic::{Pattern, Topic};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("a pattern")
}

fn topic(text: &str) -> Topic {
    Topic::new(text).expect("a topic")
}

const PATTERNS: [&str; 12] =
    ["a", "a.b", "a.*", "a.#", "*.b", "#.b", "#", "a.b.c", "a.#.c", "*.*.*", "ab", "a.bb"];
const TOPICS: [&str; 10] = ["a", "a.b", "a.c", "b", "a.b.c", "c.b", "ab", "a.bb", "a.x.y.c", "b.b.b"];

#[test]
fn what_still_holds_resolves_alike() {
    let mut random = Random::new();
    let table = RoutingTable::<u64>::new();
    // What each topic resolves to, by generation.
    let mut history: Vec<Vec<Vec<u64>>> = Vec::new();
    let (mut same, mut skipped) = (0, 0);
    for _ in 0..2_000 {
        let snapshot = table.load();
        let resolved = TOPICS.map(|topic| {
            let mut found = Vec::new();
            snapshot.trie.matches(topic, &mut found);
            found
        });
        history.push(resolved.to_vec());
        for (number, text) in TOPICS.iter().enumerate() {
            let back = random.below(40).min(random.below(40)).min(snapshot.generation);
            let then = snapshot.generation - back;
            if history[then as usize][number] == history[snapshot.generation as usize][number] {
                same += 1;
                skipped += u64::from(table.still_holds(then, &topic(text)).is_some());
            } else {
                assert_eq!(table.still_holds(then, &topic(text)), None, "{text} since {back} updates");
            }
        }
        drop(snapshot);
        table.update(|edit| {
            for _ in 0..random.below(3) {
                let pattern = pattern(PATTERNS[random.below(PATTERNS.len() as u64) as usize]);
                let value = random.below(3);
                if !edit.insert(&pattern, value) {
                    edit.remove(&pattern, &value);
                }
            }
        });
    }
    // Half of the patterns concern nearly every topic here: about a sixth is recognised.
    assert!(skipped * 10 > same, "{skipped} of {same} were recognised: it is hardly worth it");
}

#[test]
fn only_a_change_that_may_concern_a_topic_makes_it_resolve_anew() {
    let table = RoutingTable::<u64>::new();
    let since = |generation, text| table.still_holds(generation, &topic(text));
    table.update(|edit| edit.insert(&pattern("orders.#"), 1));
    assert_eq!(since(0, "orders"), None);
    assert_eq!(since(0, "orders.eu"), None);
    assert_eq!(since(0, "order"), Some(1));
    assert_eq!(since(0, "invoices.eu"), Some(1));
    assert_eq!(since(1, "orders.eu"), Some(1));
    // What is there already, or is not, concerns nobody.
    table.update(|edit| edit.insert(&pattern("orders.#"), 1));
    table.update(|edit| edit.remove(&pattern("orders.#"), &2));
    assert_eq!(since(1, "orders.eu"), Some(3));
    // Many at once: what they have in common counts.
    table.update(|edit| (0..100).for_each(|n| _ = edit.insert(&pattern(&format!("other.{n}.up")), n)));
    assert_eq!(since(3, "other.7.up"), None);
    assert_eq!(since(3, "other.7.down"), Some(4));
    assert_eq!(since(3, "orders.eu"), Some(4));
    table.update(|edit| ["left", "up"].iter().for_each(|text| _ = edit.insert(&pattern(text), 1)));
    assert_eq!(since(4, "orders.eu"), None);
    // Too long ago.
    for n in 0..31 {
        assert_eq!(since(5, "orders.eu"), Some(5 + n));
        table.update(|edit| edit.insert(&pattern(&format!("other.{n}")), n));
    }
    assert_eq!(since(5, "orders.eu"), Some(36));
    table.update(|edit| edit.insert(&pattern("other"), 1));
    assert_eq!(since(5, "orders.eu"), None);
    assert_eq!(since(6, "orders.eu"), Some(37));
    // One that never was is no cause for a panic.
    assert_eq!(since(u64::MAX, "orders.eu"), Some(u64::MAX));
}

/// Publishers bound before, publishers with a cache, and what a model of the subscriptions says, change by change.
#[test]
fn every_publisher_reaches_whom_it_should_after_each_change() {
    let mut random = Random::new();
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let mut bound = TOPICS.map(|topic| broker.publisher(topic).expect("a topic"));
    let mut any = broker.any_topic_publisher_with_cache(5);
    let mut uncached = broker.any_topic_publisher_with_cache(0);
    let mut live: Vec<(Pattern, Subscription<u64>)> = Vec::new();
    let delivered = Arc::new(AtomicU64::new(0));
    let mut expected = 0;
    for _ in 0..300 {
        for _ in 0..random.below(40) {
            if live.len() > 8 {
                let (_, subscription) = live.swap_remove(random.below(live.len() as u64) as usize);
                // What it was sent has been delivered.
                subscription.unsubscribe();
            }
            let text = PATTERNS[random.below(PATTERNS.len() as u64) as usize];
            let delivered = delivered.clone();
            let handler = move |_: &ringmain::message::Message<'_, u64>| {
                delivered.fetch_add(1, Ordering::Relaxed);
            };
            live.push((pattern(text), broker.subscribe(text, handler).expect("a pattern")));
        }
        for (publisher, text) in bound.iter_mut().zip(TOPICS) {
            let matching = live.iter().filter(|(pattern, _)| pattern.matches(&topic(text))).count() as u64;
            assert_eq!(publisher.has_subscribers(), matching > 0, "{text}");
            assert_eq!(broker.has_subscribers(text), Ok(matching > 0));
            let _ = publisher.publish(0).expect("room");
            let _ = any.publish(text, 0).expect("room");
            let _ = uncached.publish(text, 0).expect("room");
            expected += 3 * matching;
        }
        drain(&broker);
        assert_eq!(delivered.load(Ordering::Relaxed), expected);
    }
    let counts = uncached.cache_counts();
    assert_eq!((counts.hits, counts.misses, counts.evictions), (0, 3_000, 0));
    shut_down(&broker);
}

#[test]
fn a_thousand_subscriptions_start_and_end_in_one_swap() {
    let broker: Broker<u64> = Broker::of()
        .dispatcher(Dispatcher::new("first").stages(&[2]))
        .dispatcher(Dispatcher::new("second"))
        .build()
        .expect("valid options");
    let (sender, receiver) = mpsc::channel();
    let wanted = (0..1_000_u64).map(|n| {
        let sender = sender.clone();
        let options = broker.subscription().pattern(&format!("site.{n}")).pattern("all");
        options.dispatcher(if n % 2 == 0 { "first" } else { "second" }).prepare(move |_| sender.send(n))
    });
    let subscriptions = broker.subscribe_all(wanted).expect("valid");
    assert_eq!(subscriptions.len(), 1_000);
    assert_eq!(subscriptions[7].patterns(), [pattern("site.7"), pattern("all")]);
    assert_eq!(broker.match_count("all"), Ok(1_000));
    let _ = broker.publisher("site.7").expect("a topic").publish(0).expect("room");
    assert_eq!(next(&receiver), 7);
    // The two consumers of a stage share them evenly.
    let infos = broker.subscriptions();
    let of = |consumer: &str| infos.iter().filter(|info| info.consumer == consumer).count();
    assert_eq!((of("rm-first-0"), of("rm-first-1"), of("rm-second-0")), (250, 250, 500));

    broker.unsubscribe_all(subscriptions);
    assert_eq!(broker.match_count("all"), Ok(0));
    // Their handlers have been dropped, and with them the channel's other ends.
    drop(sender);
    assert!(receiver.recv().is_err());
    shut_down(&broker);
}

#[test]
fn of_many_subscriptions_none_starts_where_one_cannot_be_had() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let other: Broker<u64> = Broker::of().build().expect("valid options");
    let handler = Arc::new(());
    let prepared = |broker: &Broker<u64>, name: &str, pattern: &str| {
        let handler = handler.clone();
        broker.subscription().name(name).pattern(pattern).prepare(move |_| _ = handler.clone())
    };
    let all =
        |last| broker.subscribe_all([prepared(&broker, "one", "a"), prepared(&broker, "two", "b"), last]);
    let refused = |last| all(last).map(|_| ()).expect_err("the last cannot be had");
    assert!(matches!(refused(prepared(&broker, "three", "a..b")), SubscribeError::Pattern(_)));
    assert_eq!(refused(prepared(&broker, "one", "a")), SubscribeError::NameTaken { name: "one".to_owned() });
    assert_eq!(refused(prepared(&other, "three", "a")), SubscribeError::OtherBroker);
    assert!(broker.subscriptions().is_empty());
    assert_eq!(broker.has_subscribers("a"), Ok(false));
    eventually("all handlers are dropped", || Arc::strong_count(&handler) == 1);
    // The names are free.
    let subscriptions = all(prepared(&broker, "three", "c")).expect("valid");
    broker.unsubscribe_all(subscriptions);
    assert_eq!(broker.subscribe_all([]).map(|none| none.len()), Ok(0));
    shut_down(&broker);
    assert_eq!(refused(prepared(&broker, "three", "c")), SubscribeError::Closed);
    assert_eq!(Arc::strong_count(&handler), 1);
}

#[test]
fn a_broker_lists_its_subscriptions() {
    let broker: Broker<u64> =
        Broker::of().dispatcher(Dispatcher::new("orders").stages(&[1, 2])).build().expect("valid options");
    let named = |name: &str, stage| {
        broker.subscription().name(name).pattern("a.*").stage(stage).subscribe(|_| ()).expect("valid")
    };
    let (gone, _journal, last) = (named("gone", 1), named("journal", 0), named("last", 1));
    gone.unsubscribe();
    let _ = broker.publisher("a.b").expect("a topic").publish(1).expect("room");
    eventually("it is delivered", || last.delivered() == 1);
    let infos = broker.subscriptions();
    let told: Vec<_> = infos
        .iter()
        .map(|info| (&*info.name, &*info.dispatcher, info.stage, &*info.consumer, info.delivered))
        .collect();
    let journal = ("journal", "orders", 0, "rm-orders-0", 1);
    let second = if told[1].3 == "rm-orders-1" { "rm-orders-1" } else { "rm-orders-2" };
    assert_eq!(told, [journal, ("last", "orders", 1, second, 1)]);
    assert_eq!((infos[1].id, &infos[1].patterns[..]), (last.id(), &[pattern("a.*")][..]));
    shut_down(&broker);
}

#[test]
fn an_explanation_names_who_is_reached_in_the_order_of_delivery() {
    let broker: Broker<u64> = Broker::of()
        .dispatcher(Dispatcher::new("first").stages(&[1, 1]))
        .dispatcher(Dispatcher::new("second"))
        .build()
        .expect("valid options");
    let subscribe = |name: &str, on: &str, stage: usize, patterns: &[&str]| {
        let options = broker.subscription().name(name).dispatcher(on).stage(stage);
        let options = patterns.iter().fold(options, |options, pattern| options.pattern(pattern));
        options.subscribe(|_| ()).expect("valid")
    };
    let _kept = [
        subscribe("elsewhere", "second", 0, &["#"]),
        subscribe("after", "first", 1, &["a.b"]),
        subscribe("before", "first", 0, &["x", "a.*", "*.b"]),
        subscribe("not", "first", 0, &["a.b.c"]),
    ];
    let explanation = broker.explain("a.b").expect("a topic");
    assert_eq!(explanation.matches[0].patterns, [pattern("a.*"), pattern("*.b")]);
    assert!(explanation.near_misses.is_empty());
    assert_eq!(
        explanation.to_string(),
        "a.b reaches 3 subscriptions:\n  \
         before: a.*, *.b; on first, stage 0, rm-first-0\n  \
         after: a.b; on first, stage 1, rm-first-1\n  \
         elsewhere: #; on second, stage 0, rm-second-0"
    );
    assert!(broker.explain("a..b").is_err());
    shut_down(&broker);
}

#[test]
fn an_explanation_names_the_nearest_patterns_where_nobody_is_reached() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let subscribe = |name: &str, pattern: &str| {
        broker.subscription().name(name).pattern(pattern).subscribe(|_| ()).expect("valid")
    };
    let _kept = [
        subscribe("far", "invoices.us.paid.late"),
        subscribe("two words off", "orders.us.*"),
        subscribe("one word off", "orders.*.created"),
        subscribe("the same pattern", "orders.*.created"),
    ];
    let explanation = broker.explain("orders.eu.de.created").expect("a topic");
    assert!(explanation.matches.is_empty());
    assert_eq!(
        explanation.to_string(),
        "orders.eu.de.created reaches no subscription; the nearest patterns are:\n  \
         orders.*.created of one word off: 1 word off\n  \
         orders.us.* of two words off: 2 words off"
    );
    assert_eq!(broker.explain("q").expect("a topic").to_string(), "q reaches no subscription");
    let _many = broker
        .subscribe_all((0..100).map(|n| broker.subscription().pattern(&format!("m.{n}")).prepare(|_| ())))
        .expect("valid");
    assert_eq!(broker.explain("m.x").expect("a topic").near_misses.len(), 5);
    shut_down(&broker);
}

/// Beside whoever publishes: the last handle of the broker goes, and everybody ends in order.
#[test]
fn a_broker_that_is_dropped_while_in_use_ends_its_publishers_and_frees_its_handlers() {
    for _ in 0..20 {
        let broker: Broker<u64> = Broker::of()
            .dispatcher(Dispatcher::new("first").capacity(64))
            .dispatcher(Dispatcher::new("second").capacity(64))
            .build()
            .expect("valid options");
        let handler = Arc::new(AtomicU64::new(0));
        let count = |on: &str| {
            let handler = handler.clone();
            let options = broker.subscription().pattern("#").dispatcher(on);
            options.subscribe(move |_| _ = handler.fetch_add(1, Ordering::Relaxed)).expect("valid")
        };
        let subscriptions = [count("first"), count("second")];
        let publishers: Vec<_> = (0..2)
            .map(|number| {
                let mut bound = broker.publisher("bound").expect("a topic");
                let mut any = broker.any_topic_publisher_with_cache(2);
                std::thread::spawn(move || {
                    let mut sent = 0_u64;
                    while bound.publish(sent).is_ok() && any.publish(&format!("t.{number}.{sent}"), 0).is_ok()
                    {
                        sent += 1;
                    }
                })
            })
            .collect();
        eventually("messages flow", || handler.load(Ordering::Relaxed) > 100);
        drop(broker);
        for publisher in publishers {
            within("the publisher ends", move || publisher.join().expect("no panic"));
        }
        eventually("the handlers are dropped", || Arc::strong_count(&handler) == 1);
        drop(subscriptions);
    }
}

/// How many messages a second a publisher of one topic gets through to its own dispatcher, while a
/// neighbour publishes to another dispatcher: ever-new topics, or one and the same.
fn throughput_beside(has_new_topics: bool) -> f64 {
    const MESSAGES: u64 = 500_000;
    let broker: Broker<u64> = Broker::of()
        .dispatcher(Dispatcher::new("hot"))
        .dispatcher(Dispatcher::new("flood"))
        .build()
        .expect("valid options");
    let _hot = broker.subscription().pattern("hot").dispatcher("hot").subscribe(|_| ()).expect("valid");
    let _flood =
        broker.subscription().pattern("flood.#").dispatcher("flood").subscribe(|_| ()).expect("valid");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut any = broker.any_topic_publisher();
            let mut number = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let topic = format!("flood.{}", if has_new_topics { number } else { 0 });
                let _ = any.publish(&topic, number).expect("the consumer makes room");
                number += 1;
            }
        });
        let mut publisher = broker.publisher("hot").expect("a topic");
        let started = Instant::now();
        for number in 0..MESSAGES {
            let _ = publisher.publish(number).expect("the consumer makes room");
        }
        let elapsed = started.elapsed();
        is_over.store(true, Ordering::Relaxed);
        MESSAGES as f64 / elapsed.as_secs_f64()
    })
}

#[test]
#[ignore = "measures: needs six idle cores and an optimised build"]
fn ever_new_topics_do_not_slow_another_publishers_topic_by_more_than_a_tenth() {
    let mut ratios: Vec<f64> = (0..15).map(|_| throughput_beside(true) / throughput_beside(false)).collect();
    ratios.sort_by(f64::total_cmp);
    println!("ratios: {ratios:.2?}");
    assert!(ratios[ratios.len() / 2] > 0.9, "{ratios:.2?}");
}
