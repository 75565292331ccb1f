//! Subscribing and unsubscribing beside publishers at full speed: nothing is lost, doubled, reordered or left over.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{Random, drain, eventually, shut_down};
use ringmain::broker::{Broker, Dispatcher, Subscription};
use ringmain::message::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    let builder = dispatchers.iter().fold(Broker::<u64>::builder(), |builder, name| {
        builder.dispatcher(Dispatcher::new(name).capacity(256))
    });
    let broker = builder.build().expect("valid options");
    let faults = Arc::new(AtomicU64::new(0));
    let permanent: Vec<Subscription<u64>> = dispatchers
        .iter()
        .map(|name| {
            let mut order = InOrder { faults: faults.clone(), ..InOrder::default() };
            let subscription = broker.subscription().named(name).pattern("n.#").on(name);
            subscription.handler(move |message| order.see_all(message)).expect("valid")
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
        let (mut publisher, is_over) = (broker.any_topic_publisher_remembering(8), is_over.clone());
        let mut random = Random::new();
        thread::spawn(move || {
            let mut sent = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                // More topics than the publisher remembers.
                let topic = format!("n.{}", random.below(16));
                publisher.publish(&topic, sent).expect("the consumers make room");
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
            .on(dispatchers[random.below(dispatchers.len() as u64) as usize])
            .handler(move |message| order.see_some(message))
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
    assert_eq!(past.errors.iter().sum::<u64>(), 0);
}

#[test]
fn churn_on_one_dispatcher_disturbs_no_permanent_subscriber() {
    churn_beside_publishers(&["only"]);
}

#[test]
fn churn_on_several_dispatchers_disturbs_no_permanent_subscriber() {
    churn_beside_publishers(&["first", "second", "third"]);
}
