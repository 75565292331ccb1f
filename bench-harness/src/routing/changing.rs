//! Changing the table: a swap for each subscription that comes or goes, and the memory that a
//! pattern takes.

use std::time::Instant;

use hdrhistogram::Histogram;
use ringmain::routing::{Destination, RoutingTable};

use super::context::Context;
use super::patterns::{Population, STRIDE, destination};
use crate::error::Error;
use crate::interrupt::{self, interrupted};
use crate::machine::allocations;
use crate::report::Side;
use crate::stats::histogram;

/// Nanoseconds that a change may take, in the median.
const MAX_NS_PER_CHANGE: f64 = 20_000.0;
/// Bytes that a pattern may take.
const MAX_BYTES_PER_PATTERN: f64 = 600.0;
/// With fewer patterns, what the table takes without any counts for more than they do.
const MIN_PATTERNS_TO_WEIGH: usize = 10_000;

pub(super) type Table = RoutingTable<Destination>;

/// A table with all patterns, put in with one swap.
pub(super) fn build(context: &mut Context<'_>, population: &Population) -> Result<Table, Error> {
    let table = Table::new();
    let count = population.patterns.len() as f64;
    let started = Instant::now();
    let ((), counted) = allocations::count(|| {
        table.update(|trie| {
            for (number, (pattern, subscription)) in population.subscriptions().enumerate() {
                if number % STRIDE == 0 && interrupted() {
                    return;
                }
                trie.insert(pattern, subscription);
            }
        });
        table.reclaim();
    });
    let took = started.elapsed().as_nanos() as f64;
    interrupt::check()?;
    let distinct = table.load().trie.pattern_count() as f64;
    context.row("table: subscriptions, a pattern each", &[count], "", None);
    context.row("table: distinct patterns", &[distinct], "", None);
    context.row("subscribe, all in one swap, each", &[took / count], "ns", None);
    let limit =
        (population.patterns.len() >= MIN_PATTERNS_TO_WEIGH).then_some((Side::AtMost, MAX_BYTES_PER_PATTERN));
    let kept = counted.kept_bytes as f64;
    context.row("memory of a distinct pattern", &[kept / distinct], "B", limit);
    context.row("memory of a subscription", &[kept / count], "B", None);
    Ok(table)
}

/// Times of one kind of call: the quantiles of each round.
struct Calls {
    what: &'static str,
    times: Histogram<u64>,
    medians: Vec<f64>,
    tails: Vec<f64>,
}

impl Calls {
    fn new(what: &'static str) -> Self {
        Self { what, times: histogram(), medians: Vec::new(), tails: Vec::new() }
    }

    #[inline]
    fn time<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let answer = call();
        self.times.saturating_record(started.elapsed().as_nanos() as u64);
        answer
    }

    fn end_round(&mut self) {
        self.medians.push(self.times.value_at_quantile(0.5) as f64);
        self.tails.push(self.times.value_at_quantile(0.99) as f64);
        self.times.reset();
    }

    fn describe(&self, context: &mut Context<'_>, limit: Option<(Side, f64)>) {
        context.row(format!("{}, median", self.what), &self.medians, "ns", limit);
        context.row(format!("{}, p99", self.what), &self.tails, "ns", None);
    }
}

/// Subscribes and unsubscribes one by one. After each swap what it replaced is freed, as the
/// reclaimer would.
pub(super) fn measure(
    context: &mut Context<'_>,
    population: &Population,
    table: &Table,
) -> Result<(), Error> {
    let mut subscribing = Calls::new("subscribe, one swap");
    let mut unsubscribing = Calls::new("unsubscribe, one swap");
    let mut reclaiming = Calls::new("reclaim after a swap");
    for round in 0..context.extent.rounds {
        context.begin_round()?;
        let fresh = population.more(context.extent.changes, round as u64);
        let first = population.patterns.len();
        let subscriptions = || fresh.iter().zip((first..).map(destination));
        for (pattern, subscription) in subscriptions() {
            interrupt::check()?;
            let is_new = subscribing.time(|| table.update(|trie| trie.insert(pattern, subscription)));
            reclaiming.time(|| table.reclaim());
            assert!(is_new, "numbers are not used twice");
        }
        for (pattern, subscription) in subscriptions() {
            interrupt::check()?;
            let was_there = unsubscribing.time(|| table.update(|trie| trie.remove(pattern, &subscription)));
            reclaiming.time(|| table.reclaim());
            assert!(was_there, "what was subscribed is there");
        }
        [&mut subscribing, &mut unsubscribing, &mut reclaiming].into_iter().for_each(Calls::end_round);
    }
    let limit = Some((Side::AtMost, MAX_NS_PER_CHANGE));
    subscribing.describe(context, limit);
    unsubscribing.describe(context, limit);
    reclaiming.describe(context, None);
    Ok(())
}
