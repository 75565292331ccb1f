//! What the broker's metrics say, beside what handlers and the ledger say of the same messages.

mod broker_support;

use broker_support::eventually;
use hdrhistogram::Histogram;
use ringmain::broker::dead_letters::DeadLetterOptions;
use ringmain::broker::dead_letters::durable::{Codec, DurableDeadLetters};
use ringmain::broker::{Acknowledgement, Broker, Dispatcher, Jitter, Retry};
use ringmain::observe::Metrics;
use std::convert::Infallible;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// Publishes `messages`, `burst` at a time and every `every`, to a handler that records each
/// message's age and then does `work`. Returns what the metrics and what the handler say.
fn compare(
    messages: u64,
    burst: u64,
    every: Duration,
    mut work: impl FnMut(u64) + Send + 'static,
) -> (Metrics, Histogram<u64>) {
    let broker: Broker<u64> =
        Broker::of().dispatcher(Dispatcher::new("measured").capacity(1 << 14)).build().expect("a broker");
    let seen = Arc::new(Mutex::new(Histogram::new(3).expect("three digits")));
    let ages = seen.clone();
    let _subscription = broker
        .subscribe("ticks", move |message| {
            let age = message.age().as_nanos() as u64;
            ages.lock().expect("nobody panics").record(age).expect("it grows");
            work(*message.payload());
        })
        .expect("a pattern");
    let mut publisher = broker.publisher("ticks").expect("a topic");
    let start = Instant::now();
    for number in 0..messages {
        if number % burst == 0 {
            let due = start + every * u32::try_from(number / burst).expect("few bursts");
            while Instant::now() < due {
                std::hint::spin_loop();
            }
        }
        let _ = publisher.publish(number).expect("it waits for room");
    }
    broker.drain(Duration::from_secs(60)).expect("the handler goes on");
    let metrics = broker.metrics();
    let seen = seen.lock().expect("nobody panics").clone();
    (metrics, seen)
}

fn assert_agree(metrics: &Metrics, seen: &Histogram<u64>) {
    for quantile in QUANTILES {
        let (said, true_value) =
            (metrics.latency.value_at_quantile(quantile), seen.value_at_quantile(quantile));
        assert!(
            said.abs_diff(true_value) * 5 <= true_value,
            "p{}: the metric says {said} ns, the handler saw {true_value} ns",
            quantile * 100.0
        );
    }
    let theirs = &metrics.dispatcher("measured").expect("it was declared").latency;
    assert_eq!(theirs.len(), metrics.latency.len());
    let gap = seen.len() as f64 / metrics.latency.len() as f64;
    assert!((48.0..80.0).contains(&gap), "one event in {gap} was recorded");
}

/// A handler that stops for 50 ms at every 2,000th message.
#[test]
fn latency_is_that_of_handlers_when_they_stall() {
    let (metrics, seen) = compare(60_000, 1, Duration::from_micros(20), |number| {
        if number % 2_000 == 1_000 {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_agree(&metrics, &seen);
}

/// Messages that come 64 at a time to a handler that takes 20 µs each: the first of each burst has
/// not waited.
#[test]
fn latency_is_that_of_handlers_when_messages_come_in_bursts() {
    let (metrics, seen) = compare(64 * 1_000, 64, Duration::from_millis(2), |_| {
        let until = Instant::now() + Duration::from_micros(20);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    });
    assert_agree(&metrics, &seen);
}

#[test]
fn consumed_and_errors_are_those_of_the_ledger_after_subscriptions_have_gone() {
    let broker: Broker<u64> = Broker::of()
        .dispatcher(Dispatcher::new("one"))
        .dispatcher(Dispatcher::new("two"))
        .build()
        .expect("a broker");
    let subscribe = |dispatcher: &str, fails: u64| {
        broker
            .subscription()
            .pattern("numbers")
            .dispatcher(dispatcher)
            .subscribe(move |message| {
                assert!(*message.payload() % 5 != 3 || fails == 0, "planted");
                if *message.payload() % 7 < fails { Err("planted") } else { Ok(()) }
            })
            .expect("a pattern")
    };
    let leaving = subscribe("one", 2);
    let _staying = [subscribe("one", 0), subscribe("two", 1)];
    let mut publisher = broker.publisher("numbers").expect("a topic");
    for number in 0..500 {
        let _ = publisher.publish(number).expect("it waits for room");
    }
    broker.drain(Duration::from_secs(60)).expect("the handler goes on");
    leaving.unsubscribe();
    for number in 0..500 {
        let _ = publisher.publish(number).expect("it waits for room");
    }
    broker.drain(Duration::from_secs(60)).expect("the handler goes on");
    let total = broker.audit().total();
    let metrics = broker.metrics();
    assert_eq!(metrics.get("messaging.broker.messages.consumed"), Some(total.delivered() as f64));
    let errors = total.failures();
    assert_eq!(metrics.get("messaging.broker.errors"), Some(errors as f64));
    assert!(errors > 300, "{errors} errors were planted");
}

/// Hits and misses as the metrics have them.
fn cache_looks(broker: &Broker<u64>) -> (u64, u64) {
    let metrics = broker.metrics();
    let get = |key| metrics.get(key).expect("a metric") as u64;
    (get("messaging.route_cache.hits"), get("messaging.route_cache.misses"))
}

#[test]
fn hits_and_misses_are_the_sums_of_all_publishers_living_and_gone() {
    let broker: Broker<u64> = Broker::of().build().expect("a broker");
    let _some = broker.subscribe("a.*", |_| ()).expect("a pattern");
    let mut bound = broker.publisher("a.1").expect("a topic");
    let (mut hits, mut misses) = (0, 0);
    let mut living = Vec::new();
    for (topics, capacity) in [(3, 8), (8, 8), (20, 8), (5, 0)] {
        let mut publisher = broker.any_topic_publisher_with_cache(capacity);
        for number in 0..100 {
            // Every other topic is one that nobody wants.
            let topic = format!("{}.{}", ["a", "b"][number % 2], number % topics);
            let _ = publisher.publish(&topic, 7).expect("it waits for room");
            let _ = bound.publish(7).expect("it waits for room");
        }
        hits += publisher.cache_counts().hits;
        misses += publisher.cache_counts().misses;
        assert_eq!(cache_looks(&broker), (hits, misses), "{topics} topics, a cache of {capacity}");
        if topics % 2 == 0 {
            living.push(publisher);
        }
        assert_eq!(cache_looks(&broker), (hits, misses), "and when it has gone");
    }
    assert_eq!(hits + misses, 400);
    assert!(hits > 150 && misses > 150, "{hits} hits and {misses} misses");
}

/// What counts as a hit is a message that was published; as a miss, a topic that was not found.
#[test]
fn what_was_not_published_is_no_hit_and_may_be_a_miss() {
    let dispatcher = Dispatcher::new("stuck").capacity(4);
    let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("a broker");
    let (let_go, go) = std::sync::mpsc::channel::<()>();
    let stuck = broker.subscribe("#", move |_| _ = go.recv()).expect("a pattern");
    let mut publisher = broker.any_topic_publisher();
    let _ = publisher.publish_batch("a", [1, 2]).expect("room");
    assert_eq!(cache_looks(&broker), (0, 1), "the whole batch came of one look that found nothing");
    let _ = publisher.publish_batch("a", [3, 4]).expect("room");
    assert_eq!(cache_looks(&broker), (2, 1));
    assert!(publisher.try_publish("a", 5).is_err(), "it is full");
    assert_eq!(cache_looks(&broker), (2, 1), "found, and refused");
    assert!(publisher.try_publish("b", 5).is_err(), "it is full");
    assert!(publisher.publish("b..", 5).is_err(), "no topic");
    assert_eq!(cache_looks(&broker), (2, 3), "not found, and refused");
    drop(let_go);
    eventually("there is room", || publisher.try_publish("b", 5).is_ok());
    assert_eq!(cache_looks(&broker), (3, 3));
    let panics = std::panic::AssertUnwindSafe(|| {
        publisher.publish_in_place("c", |_| std::panic::resume_unwind(Box::new("on purpose")))
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(cache_looks(&broker), (3, 4));
    eventually("all is delivered", || stuck.delivered() == 5);
}

#[test]
fn what_publishers_that_have_gone_published_stays_counted() {
    let broker: Broker<u64> = Broker::of().build().expect("a broker");
    for turn in 1..=3 {
        let _ = broker.publisher("nobody.wants").expect("a topic").publish(1).expect("it goes nowhere");
        let ledger = broker.audit();
        assert_eq!((ledger.published, ledger.unrouted), (turn, turn));
    }
}

#[test]
fn metrics_do_not_depend_on_the_number_of_subscriptions() {
    let broker: Broker = Broker::builder().build().expect("a broker");
    let time = || (0..20).map(|_| timed(|| broker.metrics())).min().expect("twenty times");
    let few = time();
    let many = (0..50_000).map(|n| broker.subscription().pattern(&format!("site.{n}")).prepare(|_| ()));
    let subscriptions = broker.subscribe_all(many).expect("patterns");
    eventually("the commands to be read", || {
        broker.metrics().get("messaging.broker.subscribers") == Some(5e4)
    });
    let many = time();
    assert!(many < few * 3 + Duration::from_micros(200), "{few:?} with none, {many:?} with 50,000");
    broker.unsubscribe_all(subscriptions);
}

fn timed<R>(work: impl FnOnce() -> R) -> Duration {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    drop(result);
    took
}

#[test]
fn what_waits_and_what_has_left_the_store_is_counted() {
    let broker: Broker<u64> =
        Broker::of().dead_letters(DeadLetterOptions::new().entries(2)).build().expect("valid options");
    let of = |name: &str| broker.metrics().get(&format!("messaging.{name}"));
    let hourly = Retry::constant(Duration::from_secs(3_600)).jitter(Jitter::None).attempts(2);
    let retried = broker.subscription().pattern("retried").retry(hourly);
    let _retried = retried.subscribe(|_| Err::<(), _>("no")).expect("valid");
    let _failing = broker.subscribe("failing", |_| Err::<(), _>("no")).expect("valid");
    let paused = broker.subscription().pattern("paused").subscribe(|_| ()).expect("valid");
    paused.pause().expect("open");
    let (keep, kept) = channel();
    let terms = Acknowledgement::within(Duration::from_secs(3_600)).in_flight(8);
    let tokens = broker.subscription().pattern("kept");
    let _keeping = tokens.subscribe_with_tokens(terms, move |token| _ = keep.send(token)).expect("valid");
    for (topic, count) in [("retried", 3), ("failing", 5), ("paused", 7), ("kept", 4)] {
        let _ = broker.publisher(topic).expect("a topic").publish_batch(vec![0; count]).expect("room");
    }
    for (name, count) in [
        ("waiting.retrying", 3.0),
        ("waiting.backlogged", 7.0),
        ("waiting.in_flight", 4.0),
        ("broker.dlq.size", 2.0),
        ("dead_letters.evicted", 3.0),
        ("dead_letters.lost", 0.0),
    ] {
        eventually(name, || of(name) == Some(count));
    }
    assert_eq!(of("dead_letters.behind"), None, "nothing is durable here");
    kept.try_iter().for_each(|token| _ = token.ack());
    paused.resume();
    eventually("nothing waits", || {
        of("waiting.in_flight") == Some(0.0) && of("waiting.backlogged") == Some(0.0)
    });
}

#[test]
fn every_thread_of_a_broker_is_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let codec = Codec::new(|_: &u64| Ok::<_, Infallible>(Vec::new()), |_| Ok::<_, Infallible>(0));
    let durable = DurableDeadLetters::at_with(directory.path().join("letters"), codec);
    let counted = |broker: &Broker<u64>| broker.metrics().get("messaging.threads.total");
    let broker = Broker::of().durable_dead_letters(durable).build().expect("valid options");
    // A consumer, the reclaimer, the watchdog, the writer.
    assert_eq!(counted(&broker), Some(4.0));
    let _ = broker.shutdown(Duration::from_secs(30)).expect("may wait");
    eventually("the writer and all others have ended", || counted(&broker) == Some(0.0));
    assert_eq!(counted(&Broker::of().simulate().expect("valid options").broker()), Some(0.0));
}
