//! Unique topics: a publisher that makes up new topics without end, and what its neighbour notices.
//!
//! The neighbour publishes to hot topics, in bursts, each of which is timed. The other publisher is
//! on the other core, with the threads that consume and that free routes, and publishes as fast as it
//! can: to hot topics too, or to ever-new ones. Each has a dispatcher of its own, so that what they
//! share is the broker and not a full ring.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringmain::broker::{AnyTopicPublisher, Broker};
use ringmain::topic::Topic;

use super::context::{Context, PATIENCE, quotients};
use super::patterns::{Population, STRIDE};
use crate::error::Error;
use crate::interrupt::{self, interrupted};
use crate::machine::allocations;
use crate::machine::cores;
use crate::report::Side;
use crate::stats::median;

const CAPACITY: usize = 16_384;
/// Hot topics, and the messages of a burst: one to each.
const HOT: usize = 100;
/// From the start of one burst to that of the next.
const PAUSE: Duration = Duration::from_micros(200);
/// Topics in the cache of the publisher of ever-new ones.
const CACHED: usize = 1_024;
/// Hot topics may become that many times as slow.
const MAX_SLOWDOWN: f64 = 1.1;
/// Bytes that may stay of a topic.
const MAX_KEPT: f64 = 1.0;
/// Between two looks whether all routes have been freed.
const NAP: Duration = Duration::from_millis(5);

/// Makes up topics, none twice.
struct UniqueTopics {
    publisher: AnyTopicPublisher<u64>,
    met: u64,
    topic: String,
}

impl UniqueTopics {
    fn new(broker: &Broker<u64>) -> Self {
        let publisher = broker.any_topic_publisher_with_cache(CACHED);
        Self { publisher, met: 0, topic: String::new() }
    }

    fn publish(&mut self) {
        use std::fmt::Write;
        self.topic.clear();
        let _ = write!(self.topic, "strange.number{}", self.met);
        let _ = self.publisher.publish(&self.topic, self.met).expect("an open broker that waits for room");
        self.met += 1;
    }
}

pub(super) fn measure(context: &mut Context<'_>, population: &Population) -> Result<(), Error> {
    let broker = context.broker::<u64>(&["hot", "strange"], CAPACITY)?;
    for (pattern, dispatcher) in [("#.measure0", "hot"), ("strange.#", "strange")] {
        let subscription = broker.subscription().pattern(pattern).dispatcher(dispatcher);
        subscription.subscribe(|_message| {}).expect("a valid pattern, an open broker").detach();
    }
    let hot: Vec<Topic> = (population.topics(usize::MAX).into_iter())
        .filter(|topic| topic.as_str().ends_with(".measure0"))
        .take(HOT)
        .collect();
    let strange: Vec<String> = (0..HOT).map(|number| format!("strange.hot{number}")).collect();
    let mut unique = UniqueTopics::new(&broker);
    let (mut beside_hot, mut beside_new, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..context.extent.rounds {
        context.begin_round()?;
        let mut settled = broker.any_topic_publisher();
        let mut turn = (0..HOT).cycle();
        let (figure, _) = beside(context, &broker, &hot, || {
            let topic = &strange[turn.next().unwrap_or_default()];
            let _ = settled.publish(topic, 0).expect("an open broker that waits for room");
        })?;
        beside_hot.push(figure);
        let (figure, each) = beside(context, &broker, &hot, || unique.publish())?;
        beside_new.push(figure);
        new.push(each);
    }
    let kept = keep_count(context, &broker, &mut unique)?;
    drop(unique);
    context.end(&broker);
    context.contest(
        "hot topics beside another publisher",
        &[("to hot topics too", &beside_hot), ("to ever-new topics", &beside_new)],
    );
    let limit = Some((Side::AtMost, MAX_SLOWDOWN));
    context.row(
        "hot topics: beside ever-new ones over beside hot ones",
        &quotients(&beside_new, &beside_hot),
        "x",
        limit,
    );
    context.row("ever-new topics: a publish, all threads on one core", &new, "ns", None);
    context.row("ever-new topics: memory kept of each", &[kept], "B", Some((Side::AtMost, MAX_KEPT)));
    Ok(())
}

/// Nanoseconds a message to hot topics while another thread does something again and again, and how
/// long that took each time.
fn beside(
    context: &Context<'_>,
    broker: &Broker<u64>,
    hot: &[Topic],
    mut act: impl FnMut() + Send,
) -> Result<(f64, f64), Error> {
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let acting = scope.spawn(move || {
            cores::pin(context.others_core)?;
            let (started, mut count) = (Instant::now(), 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                act();
                count += 1;
            }
            Ok::<_, Error>(started.elapsed().as_nanos() as f64 / count.max(1) as f64)
        });
        let publishing = scope.spawn(|| publish_bursts(context, broker, hot));
        let figure = publishing.join().expect("a publisher does not panic");
        is_over.store(true, Ordering::Relaxed);
        let each = acting.join().expect("a publisher does not panic");
        interrupt::check()?;
        Ok((figure?, each?))
    })
}

/// Nanoseconds a message of the burst in the middle.
fn publish_bursts(context: &Context<'_>, broker: &Broker<u64>, hot: &[Topic]) -> Result<f64, Error> {
    cores::pin(context.publishers_core)?;
    let mut publisher = broker.any_topic_publisher();
    let mut bursts = Vec::new();
    let mut next = Instant::now();
    let end = next + context.extent.publishing;
    while next < end && !interrupted() {
        let now = Instant::now();
        if now < next {
            match context.has_cores() {
                true => std::hint::spin_loop(),
                false => thread::yield_now(),
            }
            continue;
        }
        for topic in hot {
            let _ = publisher.publish(topic.as_str(), 0).expect("an open broker that waits for room");
        }
        bursts.push(now.elapsed().as_nanos() as f64 / hot.len() as f64);
        next = now + PAUSE;
    }
    Ok(median(&bursts).unwrap_or(f64::NAN))
}

/// Bytes kept of each topic that is made up, when as many have been made up before, so that all
/// tables have grown to the size that a full ring of strange topics takes.
fn keep_count(
    context: &mut Context<'_>,
    broker: &Broker<u64>,
    unique: &mut UniqueTopics,
) -> Result<f64, Error> {
    let count = context.extent.unique_topics;
    let mut make_up = |count: usize| {
        for number in 0..count {
            if number % STRIDE == 0 {
                interrupt::check()?;
            }
            unique.publish();
        }
        settle(broker)
    };
    make_up(count)?;
    let (outcome, counted) = allocations::count(|| make_up(count));
    if !outcome? {
        context.report.failed_checks.push("the routes of ever-new topics were not freed".to_owned());
    }
    Ok(counted.kept_bytes as f64 / count as f64)
}

/// Waits until no routes are left but those in the cache; whether it came to that.
fn settle(broker: &Broker<u64>) -> Result<bool, Error> {
    let deadline = Instant::now() + PATIENCE;
    // What has not drained by then shows below.
    let _ = broker.drain(PATIENCE);
    loop {
        interrupt::check()?;
        match broker.metrics().get("messaging.broker.routes") {
            Some(routes) if routes > CACHED as f64 => {}
            _ => return Ok(true),
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(NAP);
    }
}
