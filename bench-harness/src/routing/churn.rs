//! Churn: publishing at a steady rate, with all patterns subscribed, while others subscribe and
//! unsubscribe.
//!
//! Each swap has all publishers look at what has changed. There are a thousand of them, on one
//! thread, which publishes a million messages a second round them: each has a swap or two to look
//! at whenever its turn comes. What counts is how long the call takes that publishes, and also the
//! time from the moment it was due (see [`open_loop`](crate::load::pacer)), where what one holds up
//! counts for those behind it, and so does whatever keeps the thread from running.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmain::broker::{Broker, Publisher};
use ringmain::topic::Pattern;

use super::context::{Context, quotients};
use super::patterns::{Population, STRIDE};
use crate::error::Error;
use crate::interrupt;
use crate::load::pacer::{Manners, Pacer, Schedule, Span, Tally};
use crate::machine::cores;
use crate::report::Side;
use crate::stats::histogram;

/// Messages a second.
const RATE: f64 = 1e6;
const PUBLISHERS: usize = 1_000;
/// Between two subscriptions that come and go.
const PAUSE: Duration = Duration::from_millis(1);
/// Subscriptions that hold the patterns: few, so that delivery leaves time for everything else.
const HOLDERS: usize = 8;
/// Room for what comes in while the consumer has to wait for its core.
const CAPACITY: usize = 65_536;
/// Every publisher has published twice before times count.
const WARM_UP: u64 = 2 * PUBLISHERS as u64;
/// What latencies are called that count from the moment a message was due.
const FROM_DUE: &str = "from when it was due";
/// Churn may make the time at p99.9 that many times as long.
const MAX_SLOWDOWN: f64 = 1.5;

/// What half of a round found.
struct Half {
    from_due: Histogram<u64>,
    calls: Histogram<u64>,
    tally: Tally,
    /// Subscriptions that came and went, in a second.
    pairs: f64,
}

/// A quantile of each round, without churn and with it.
#[derive(Default)]
struct Row {
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Row {
    fn add(&mut self, [without, with]: [&Histogram<u64>; 2], quantile: f64) {
        // Where a machine is very busy, a publisher ends before it is warm.
        if without.is_empty() || with.is_empty() {
            return;
        }
        self.without.push(without.value_at_quantile(quantile) as f64);
        self.with.push(with.value_at_quantile(quantile) as f64);
    }

    fn describe(&self, context: &mut Context<'_>, case: &str) {
        let beside = format!("with {} pairs/s", 1_000 / PAUSE.as_millis());
        context.contest(case, &[("without churn", &self.without), (&beside, &self.with)]);
    }
}

pub(super) fn measure(context: &mut Context<'_>, population: &Population) -> Result<(), Error> {
    let broker = context.broker::<u64>(&["routing"], CAPACITY)?;
    subscribe_all(&broker, population)?;
    let topics = population.topics(PUBLISHERS);
    let bind = |topic: &ringmain::topic::Topic| broker.publisher(topic.as_str()).expect("a valid topic");
    let mut publishers: Vec<_> = topics.iter().map(bind).collect();
    let (mut median, mut tail, mut call) = (Row::default(), Row::default(), Row::default());
    let (mut pairs, mut tallies) = (Vec::new(), [Tally::default(), Tally::default()]);
    for round in 0..context.extent.rounds {
        context.begin_round()?;
        let without = half(context, &broker, &mut publishers, &[])?;
        // Others than those that the rounds of `changing` subscribe.
        let fresh = population.more(STRIDE, (context.extent.rounds + round) as u64);
        let with = half(context, &broker, &mut publishers, &fresh)?;
        let from_due = [&without.from_due, &with.from_due];
        median.add(from_due, 0.5);
        tail.add(from_due, 0.999);
        call.add([&without.calls, &with.calls], 0.999);
        pairs.push(with.pairs);
        tallies.iter_mut().zip([&without, &with]).for_each(|(all, half)| all.add(&half.tally));
    }
    drop(publishers);
    context.end(&broker);
    median.describe(context, &format!("churn: publish, {FROM_DUE} p50"));
    tail.describe(context, &format!("churn: publish, {FROM_DUE} p99.9"));
    call.describe(context, "churn: publish, the call alone p99.9");
    for (row, what) in [(&call, "the call alone"), (&tail, FROM_DUE)] {
        let times = quotients(&row.with, &row.without);
        let case = format!("churn: publish p99.9, {what}, with churn over without");
        context.row(case, &times, "x", Some((Side::AtMost, MAX_SLOWDOWN)));
    }
    context.row("churn: subscribed and unsubscribed, a second", &pairs, "", None);
    let results = &mut context.report.results;
    for (tally, which) in tallies.iter().zip(["without churn", "with"]) {
        for row in results.iter_mut() {
            if row.case.contains(FROM_DUE) && row.contender.starts_with(which) {
                row.open_loop = Some(tally.to_report(None));
            }
        }
    }
    for (tally, which) in tallies.iter().zip(["without", "with"]) {
        if tally.is_saturated {
            context.report.notes.push(format!(
                "churn: {which} churn the publisher could not keep its million messages a second in \
                 some round"
            ));
        }
        let blame = tally.blame().into_iter().map(|why| format!("churn: {which} churn, {why}"));
        context.report.notes.extend(blame);
    }
    Ok(())
}

/// Subscribes to all patterns.
fn subscribe_all(broker: &Broker<u64>, population: &Population) -> Result<(), Error> {
    let each = population.patterns.len().div_ceil(HOLDERS);
    for some in population.patterns.chunks(each) {
        interrupt::check()?;
        let holder =
            some.iter().fold(broker.subscription(), |holder, pattern| holder.pattern(pattern.as_str()));
        holder.subscribe(|_message| {}).expect("valid patterns, an open broker").detach();
    }
    Ok(())
}

/// Publishes for a while; meanwhile others subscribe to these patterns, if there are any.
fn half(
    context: &Context<'_>,
    broker: &Broker<u64>,
    publishers: &mut [Publisher<u64>],
    fresh: &[Pattern],
) -> Result<Half, Error> {
    let is_over = &AtomicBool::new(false);
    // Nobody begins while another may still be on the publisher's core.
    let together = &Barrier::new(if fresh.is_empty() { 1 } else { 2 });
    let pinned = &|core| {
        let pinned = cores::pin(core);
        together.wait();
        pinned
    };
    thread::scope(|scope| {
        let core = context.others_core;
        let changing = (!fresh.is_empty())
            .then(|| scope.spawn(move || pinned(core).and_then(|()| change(broker, fresh, is_over))));
        let publishing =
            scope.spawn(|| pinned(context.publishers_core).and_then(|()| publish(context, publishers)));
        let half = publishing.join().expect("a publisher does not panic");
        is_over.store(true, Ordering::Relaxed);
        let pairs = changing.map(|thread| thread.join().expect("subscribing does not panic")).transpose();
        interrupt::check()?;
        Ok(Half { pairs: pairs?.unwrap_or(0.0), ..half? })
    })
}

fn publish(context: &Context<'_>, publishers: &mut [Publisher<u64>]) -> Result<Half, Error> {
    let clock = &context.clock;
    let (mut from_due, mut calls) = (histogram(), histogram());
    let start = clock.now().after(Duration::from_millis(1));
    let span = Span::new(start, context.extent.publishing);
    // The broker's publishers yield where there is no room.
    let manners = Manners { shares_core: !context.has_cores(), may_park: false };
    let schedule = Schedule::new(RATE, start, (0, 1));
    let mut pacer = Pacer::new(schedule, clock.clone(), span, manners);
    let (mut number, mut turn) = (0, 0);
    while let Some(due) = pacer.wait_until_due() {
        let began = clock.now();
        let _ = publishers[turn].publish(number).expect("an open broker that waits for room");
        let ended = clock.now();
        turn = if turn + 1 == publishers.len() { 0 } else { turn + 1 };
        number += 1;
        if number > WARM_UP {
            from_due.saturating_record(ended.since(due).as_nanos() as u64);
            calls.saturating_record(ended.since(began).as_nanos() as u64);
        }
    }
    let tally = pacer.finish(clock.now(), &mut from_due);
    Ok(Half { from_due, calls, tally, pairs: 0.0 })
}

/// Subscribes and unsubscribes until it is over; how often in a second.
fn change(broker: &Broker<u64>, fresh: &[Pattern], is_over: &AtomicBool) -> Result<f64, Error> {
    let (started, mut pairs) = (Instant::now(), 0_u32);
    for pattern in fresh.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        drop(broker.subscribe(pattern.as_str(), |_message| {}).expect("a valid pattern, an open broker"));
        pairs += 1;
        thread::sleep((PAUSE * pairs).saturating_sub(started.elapsed()));
    }
    Ok(f64::from(pairs) / started.elapsed().as_secs_f64())
}
