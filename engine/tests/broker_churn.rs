//! Subscribing and unsubscribing beside publishers at full speed: nothing is lost, doubled, reordered or left over.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{LIMIT, Random, drain, eventually, shut_down};
use ringmain::broker::{Broker, Dispatcher, Subscription};
use ringmain::message::Message;
use ringmain::topic::{Pattern, Topic};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const CHURN: Duration = Duration::from_secs(2);
/// One pair of subscribing and unsubscribing after the other.
const PERIOD: Duration = Duration::from_millis(1);

/// Where a subscriber expects a publisher to be, checked on each message.
#[derive(Default)]
struct InOrder {
    expected: Vec<u64>,
    faults: Arc<AtomicU64>,
}

impl InOrder {
    /// Everything, from the first message on.
    fn see_all(&mut self, message: &Message<'_, u64>) {
        let publisher = message.publisher().get() as usize;
        if self.expected.len() <= publisher {
            self.expected.resize(publisher + 1, 0);
        }
        let is_next = message.sequence() == self.expected[publisher] && **message == message.sequence();
        self.faults.fetch_add(u64::from(!is_next), Ordering::Relaxed);
        self.expected[publisher] = message.sequence() + 1;
    }

    /// Some, but none twice and none out of order.
    fn see_some(&mut self, message: &Message<'_, u64>) {
        let publisher = message.publisher().get() as usize;
        if self.expected.len() <= publisher {
            self.expected.resize(publisher + 1, 0);
        }
        self.faults.fetch_add(u64::from(message.sequence() < self.expected[publisher]), Ordering::Relaxed);
        self.expected[publisher] = message.sequence() + 1;
    }
}

fn churn_beside_publishers(dispatchers: &[&str]) {
    let mut random = Random::new();
    let builder = dispatchers
        .iter()
        .fold(Broker::of::<u64>(), |builder, name| builder.dispatcher(Dispatcher::new(name).capacity(256)));
    let broker = builder.build().expect("valid options");
    let faults = Arc::new(AtomicU64::new(0));
    let permanent: Vec<Subscription<u64>> = dispatchers
        .iter()
        .map(|name| {
            let mut order = InOrder { faults: faults.clone(), ..InOrder::default() };
            let subscription = broker.subscription().name(name).pattern("n.#").dispatcher(name);
            subscription.subscribe(move |message| order.see_all(message)).expect("valid")
        })
        .collect();

    let is_over = Arc::new(AtomicBool::new(false));
    let bound = {
        let (mut publisher, is_over) = (broker.publisher("n.bound").expect("a topic"), is_over.clone());
        thread::spawn(move || {
            let mut sent = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let published = publisher.publish(sent).expect("the consumers make room");
                assert_eq!(published.refused, 0);
                sent += 1;
            }
            sent
        })
    };
    let at_run_time = {
        let (mut publisher, is_over) = (broker.any_topic_publisher_with_cache(8), is_over.clone());
        let mut random = Random::new();
        thread::spawn(move || {
            let mut sent = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                // More topics than the publisher remembers.
                let topic = format!("n.{}", random.below(16));
                let _ = publisher.publish(&topic, sent).expect("the consumers make room");
                sent += 1;
            }
            sent
        })
    };

    let patterns = ["n.#", "n.*", "n.bound", "n.3", "#", "*.5"];
    let started = Instant::now();
    let mut next_pair = started;
    let mut pairs = 0_u32;
    let mut lingering: Vec<Subscription<u64>> = Vec::new();
    while started.elapsed() < CHURN {
        while Instant::now() < next_pair {
            thread::yield_now();
        }
        // At the rate that was asked for, however long one took.
        next_pair += PERIOD;
        let mut order = InOrder { faults: faults.clone(), ..InOrder::default() };
        let subscription = broker
            .subscription()
            .pattern(patterns[random.below(patterns.len() as u64) as usize])
            .pattern(patterns[random.below(patterns.len() as u64) as usize])
            .dispatcher(dispatchers[random.below(dispatchers.len() as u64) as usize])
            .subscribe(move |message| order.see_some(message))
            .expect("valid");
        match random.below(4) {
            // Some are waited for, most are not, and some stay for a while.
            0 => subscription.unsubscribe(),
            1 => {
                lingering.push(subscription);
                if lingering.len() > 16 {
                    drop(lingering.swap_remove(random.below(16) as usize));
                }
            }
            _ => drop(subscription),
        }
        pairs += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    drop(lingering);
    let sent = bound.join().expect("the bound publisher") + at_run_time.join().expect("the other publisher");
    assert!(pairs > 200, "{pairs} pairs were too few to mean much; is the machine overloaded?");
    println!("{pairs} pairs, {sent} messages");

    drain(&broker);
    // Both publishers are gone, so no route may be left, and of the subscriptions only those that stayed.
    eventually("routes and records are freed", || {
        let ledger = broker.audit();
        broker.metrics().get("messaging.broker.routes") == Some(0.0)
            && ledger.subscriptions.len() == dispatchers.len()
    });
    assert_eq!(broker.metrics().get("messaging.broker.subscribers"), Some(dispatchers.len() as f64));
    assert_eq!(faults.load(Ordering::Relaxed), 0, "lost, doubled or out of order");
    let ledger = shut_down(&broker);
    assert_eq!(ledger.published, sent);
    assert_eq!(ledger.unrouted, 0);
    for subscription in &permanent {
        assert_eq!(subscription.delivered(), sent, "{}", subscription.name());
    }
    let past = &ledger.past;
    assert_eq!(past.routed, past.accounted());
    assert_eq!(past.failures(), 0);
}

#[test]
fn churn_on_one_dispatcher_disturbs_no_permanent_subscriber() {
    churn_beside_publishers(&["only"]);
}

#[test]
fn churn_on_several_dispatchers_disturbs_no_permanent_subscriber() {
    churn_beside_publishers(&["first", "second", "third"]);
}

/// The moments before and after a call, on one clock that all threads share.
#[derive(Clone, Copy)]
struct Span {
    before: u64,
    after: u64,
}

struct Moments(AtomicU64);

impl Moments {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    fn span<R>(&self, call: impl FnOnce() -> R) -> (Span, R) {
        let before = self.now();
        let result = call();
        (Span { before, after: self.now() }, result)
    }
}

/// What became of a subscription.
struct Life {
    patterns: Vec<Pattern>,
    subscribed: Span,
    /// Everything published before this was waited for before the subscription was ended.
    drained_from: u64,
    unsubscribed: Span,
    /// Publisher and number of what the handler was called with.
    received: Receiver<(u32, u64)>,
}

struct Sent {
    /// Which of the topics.
    topic: usize,
    publish: Span,
}

/// Who was subscribed from before a publish began until after its messages were delivered gets it, once; who was not
/// subscribed at any moment of it does not; and all get each publisher's messages in order.
#[test]
fn each_message_reaches_exactly_those_who_were_subscribed() {
    const PATTERNS: [&str; 8] = ["#", "t.*", "t.0", "t.1", "*.2", "t.#", "t.3.#", "u"];
    const TOPICS: [&str; 6] = ["t.0", "t.1", "t.2", "t.3", "t.3.x", "v"];
    const MESSAGES: usize = 10_000;
    let broker: Broker<u64> = Broker::of()
        .dispatcher(Dispatcher::new("first").capacity(64).stages(&[1, 1]))
        .dispatcher(Dispatcher::new("second").capacity(64))
        .build()
        .expect("valid options");
    let moments = Moments(AtomicU64::new(0));
    let is_over = AtomicBool::new(false);

    let publish = |cached: Option<usize>, mut random: Random| {
        let mut any = cached.map(|topics| broker.any_topic_publisher_with_cache(topics));
        let mut bound = broker.publisher(TOPICS[0]).expect("a topic");
        let id = any.as_ref().map_or(bound.id(), |any| any.id()).get();
        let sent: Vec<Sent> = (0..MESSAGES)
            .map(|_| {
                let topic = if any.is_some() { random.below(TOPICS.len() as u64) as usize } else { 0 };
                let (publish, published) = moments.span(|| match &mut any {
                    Some(any) => any.publish(TOPICS[topic], 0),
                    None => bound.publish(0),
                });
                let _ = published.expect("the consumers make room");
                Sent { topic, publish }
            })
            .collect();
        (id, sent)
    };
    let churn = |mut random: Random| {
        let mut lives = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let patterns: Vec<Pattern> = (0..=random.below(2))
                .map(|_| PATTERNS[random.below(PATTERNS.len() as u64) as usize])
                .map(|text| Pattern::new(text).expect("a pattern"))
                .collect();
            let (sender, received) = channel();
            let (dispatcher, stages) = [("first", 2), ("second", 1)][random.below(2) as usize];
            let options = broker.subscription().dispatcher(dispatcher).stage(random.below(stages) as usize);
            let options = patterns.iter().fold(options, |options, pattern| options.pattern(pattern.as_str()));
            let handler = move |message: &Message<'_, u64>| {
                sender.send((message.publisher().get(), message.sequence()))
            };
            let (subscribed, subscription) = moments.span(|| options.subscribe(handler).expect("valid"));
            let until = moments.now() + random.below(500);
            while moments.0.load(Ordering::Relaxed) < until && !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            // Some are ended with their messages under way, which are dropped then.
            let mut drained_from = 0;
            if random.below(4) > 0 {
                drained_from = moments.now();
                broker.drain(LIMIT).expect("the rings drain");
            }
            let (unsubscribed, ()) = moments.span(|| subscription.unsubscribe());
            lives.push(Life { patterns, subscribed, drained_from, unsubscribed, received });
        }
        lives
    };

    let (sent, lives) = thread::scope(|scope| {
        let publishers = [None, Some(3), Some(0)].map(|cached| {
            let random = Random::new();
            let publish = &publish;
            scope.spawn(move || publish(cached, random))
        });
        let churners = [(); 3].map(|()| {
            let random = Random::new();
            let churn = &churn;
            scope.spawn(move || churn(random))
        });
        let sent = publishers.map(|publisher| publisher.join().expect("a publisher"));
        is_over.store(true, Ordering::Relaxed);
        (HashMap::from(sent), churners.map(|churner| churner.join().expect("a churner")))
    });
    let (mut due, mut excluded) = (0, 0);
    let lives: Vec<Life> = lives.into_iter().flatten().collect();
    for life in &lives {
        // A handler that was dropped has dropped its end: nothing comes after `unsubscribe`.
        let received: Vec<(u32, u64)> = life.received.iter().collect();
        let is_wanted = TOPICS.map(|topic| {
            let topic = Topic::new(topic).expect("a topic");
            life.patterns.iter().any(|pattern| pattern.matches(&topic))
        });
        for (publisher, sent) in &sent {
            let numbers: Vec<u64> =
                received.iter().filter(|(from, _)| from == publisher).map(|(_, number)| *number).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "twice or out of order: {numbers:?}");
            for (number, Sent { topic, publish }) in sent.iter().enumerate() {
                let is_due = is_wanted[*topic]
                    && life.subscribed.after < publish.before
                    && publish.after < life.drained_from;
                let is_excluded = !is_wanted[*topic]
                    || publish.after < life.subscribed.before
                    || life.unsubscribed.after < publish.before;
                if is_due || is_excluded {
                    let is_here = numbers.binary_search(&(number as u64)).is_ok();
                    assert_eq!(is_here, is_due, "{} for {:?}", TOPICS[*topic], life.patterns);
                    due += u64::from(is_due);
                    excluded += u64::from(is_excluded);
                }
            }
        }
    }
    println!("{} subscriptions, {due} deliveries due, {excluded} excluded", lives.len());
    assert!(due > 1_000 && excluded > 1_000, "{due} due and {excluded} excluded were too few to mean much");
    shut_down(&broker);
}
