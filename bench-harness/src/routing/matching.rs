//! Matching a topic that no publisher knows against all patterns.
//!
//! *Warm*: a few topics again and again, so that their part of the trie lies in the processor's
//! private caches. *Cold*: each topic once, in random order among all there are, so that the trie's
//! lower levels come from wherever the last hundred thousand patterns have left them; nothing is
//! flushed on purpose. *Crowded*: topics that a thousand patterns match.

use std::time::Instant;

use ringmain::clock::Clock;
use ringmain::routing::{Destination, Trie};
use ringmain::topic::Topic;

use super::changing::Table;
use super::context::{Context, quotients};
use super::patterns::Population;
#[cfg(feature = "rivals")]
use super::rival::Rival;
use crate::error::Error;
use crate::interrupt;
use crate::report::Side;
use crate::stats::{histogram, median};

/// Nanoseconds that a warm match may take.
const MAX_MEDIAN: f64 = 2_000.0;
const MOST_P99: f64 = 10_000.0;
/// A linear scan is that much slower among so many patterns.
const SCANNED: usize = 10_000;
const MIN_OVER_A_SCAN: f64 = 100.0;
/// Times as fast as the rival.
#[cfg(feature = "rivals")]
const MIN_OVER_A_RIVAL: f64 = 1.0;
/// In a round the rival matches this part of as many topics as are matched cold.
#[cfg(feature = "rivals")]
const RIVALS_PART: usize = 4;
/// Matches between two looks at the interrupt.
const STRIDE: usize = 256;
/// Matches that are timed together where contenders take turns.
const BLOCK: usize = 10;

/// A kind of match: the quantiles of each round.
struct Matches {
    what: &'static str,
    medians: Vec<f64>,
    tails: Vec<f64>,
}

impl Matches {
    fn new(what: &'static str) -> Self {
        Self { what, medians: Vec::new(), tails: Vec::new() }
    }

    fn time<'t>(
        &mut self,
        trie: &Trie<Destination>,
        topics: impl Iterator<Item = &'t Topic>,
        clock: &Clock,
    ) -> Result<(), Error> {
        let (mut times, mut found) = (histogram(), Vec::with_capacity(1_024));
        for (number, topic) in topics.enumerate() {
            if number % STRIDE == 0 {
                interrupt::check()?;
            }
            let started = clock.now();
            trie.matches(topic.as_str(), &mut found);
            times.saturating_record(clock.now().since(started).as_nanos() as u64);
        }
        if !times.is_empty() {
            self.medians.push(times.value_at_quantile(0.5) as f64);
            self.tails.push(times.value_at_quantile(0.99) as f64);
        }
        Ok(())
    }

    fn describe(&self, context: &mut Context<'_>, bounds: Option<[f64; 2]>) {
        let [median, tail] = bounds.map_or([None; 2], |bounds| bounds.map(|most| Some((Side::AtMost, most))));
        context.row(format!("match, {}, median", self.what), &self.medians, "ns", median);
        context.row(format!("match, {}, p99", self.what), &self.tails, "ns", tail);
    }
}

pub(super) fn measure(
    context: &mut Context<'_>,
    population: &Population,
    table: &Table,
) -> Result<(), Error> {
    let snapshot = table.load();
    let (trie, extent, clock) = (&snapshot.trie, context.extent, context.clock.clone());
    let mut found = Vec::new();
    let mut match_count = |topics: &[Topic]| {
        let count = |topic: &Topic| {
            trie.matches(topic.as_str(), &mut found);
            found.len() as f64
        };
        topics.iter().map(count).collect::<Vec<_>>()
    };
    let topics = population.topics(extent.warm_topics + extent.rounds * extent.cold_topics);
    let (warm_topics, others) = topics.split_at(extent.warm_topics.min(topics.len()));
    let crowded_topics = Population::crowded_topics();
    context.row("matches a topic: median", &match_count(warm_topics), "", None);
    context.row("matches a crowded topic: median", &match_count(&crowded_topics), "", None);
    let mut warm = Matches::new("warm");
    let mut cold = Matches::new("cold");
    let mut crowded = Matches::new("crowded");
    for round in 0..extent.rounds {
        context.begin_round()?;
        cold.time(trie, others.iter().skip(round * extent.cold_topics).take(extent.cold_topics), &clock)?;
        match_count(warm_topics);
        warm.time(trie, warm_topics.iter().cycle().take(extent.laps * warm_topics.len()), &clock)?;
        match_count(&crowded_topics);
        crowded.time(trie, crowded_topics.iter().cycle().take(extent.laps * crowded_topics.len()), &clock)?;
    }
    warm.describe(context, Some([MAX_MEDIAN, MOST_P99]));
    cold.describe(context, None);
    crowded.describe(context, None);
    #[cfg(feature = "rivals")]
    beside_a_rival(context, population, trie)?;
    Ok(())
}

/// Nanoseconds a match of the block in the middle, so that a thread that had to wait for its core
/// does not count.
fn pace<T>(topics: &[T], mut find: impl FnMut(&T)) -> Result<f64, Error> {
    let time = |block: &[T]| {
        interrupt::check()?;
        let started = Instant::now();
        block.iter().for_each(&mut find);
        Ok(started.elapsed().as_nanos() as f64 / block.len() as f64)
    };
    let blocks = topics.chunks(BLOCK).map(time).collect::<Result<Vec<_>, Error>>()?;
    Ok(median(&blocks).expect("at least one topic"))
}

/// Ours and another, which were seen to find the same, in turns; the row is how many times as fast
/// ours is.
fn hold<T>(
    context: &mut Context<'_>,
    (case, other): (&str, &str),
    trie: &Trie<Destination>,
    (topics, others_topics): (&[Topic], &[T]),
    mut others: impl FnMut(&T),
    limit: Option<(Side, f64)>,
) -> Result<(), Error> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut found = Vec::with_capacity(1_024);
    for _ in 0..context.extent.rounds {
        context.begin_round()?;
        ours.push(pace(topics, |topic| trie.matches(topic.as_str(), &mut found))?);
        theirs.push(pace(others_topics, &mut others)?);
    }
    context.contest(case, &[("ringmain", &ours), (other, &theirs)]);
    context.row(format!("{case}: ringmain over {other}"), &quotients(&theirs, &ours), "x", limit);
    Ok(())
}

/// A failed check where two do not find the same.
fn compare_sets(
    context: &mut Context<'_>,
    other: &str,
    trie: &Trie<Destination>,
    topics: &[Topic],
    mut theirs: impl FnMut(usize, &Topic) -> Vec<u64>,
) -> Result<(), Error> {
    let mut found = Vec::new();
    for (number, topic) in topics.iter().enumerate() {
        interrupt::check()?;
        trie.matches(topic.as_str(), &mut found);
        let mut theirs = theirs(number, topic);
        theirs.sort_unstable();
        if !found.iter().map(|to| to.subscription).eq(theirs.iter().copied()) {
            context.report.failed_checks.push(format!(
                "{topic}: ringmain finds {} subscriptions, {other} {} or others",
                found.len(),
                theirs.len()
            ));
            return Ok(());
        }
    }
    Ok(())
}

/// Against looking at every pattern.
pub(super) fn beside_a_scan(context: &mut Context<'_>) -> Result<(), Error> {
    let count = SCANNED.min(context.extent.patterns);
    let population = Population::new(count)?;
    let mut trie = Trie::new();
    for (pattern, subscription) in population.subscriptions() {
        trie.insert(pattern, subscription);
    }
    let topics = population.topics(context.extent.scanned_topics);
    let scan = |topic: &Topic, found: &mut Vec<u64>| {
        found.clear();
        let matching = population.subscriptions().filter(|(pattern, _)| pattern.matches(topic));
        found.extend(matching.map(|(_, to)| to.subscription));
    };
    compare_sets(context, "a linear scan", &trie, &topics, |_, topic| {
        let mut found = Vec::new();
        scan(topic, &mut found);
        found
    })?;
    let mut found = Vec::with_capacity(1_024);
    let limit = (count == SCANNED).then_some((Side::AtLeast, MIN_OVER_A_SCAN));
    let case = format!("match among {count} patterns");
    let names = (&*case, "linear scan");
    hold(context, names, &trie, (&topics, &topics), |topic| scan(topic, &mut found), limit)
}

/// Against zenoh's tree of key expressions.
#[cfg(feature = "rivals")]
fn beside_a_rival(
    context: &mut Context<'_>,
    population: &Population,
    trie: &Trie<Destination>,
) -> Result<(), Error> {
    let rival = Rival::of(population)?;
    let topics = population.topics(context.extent.cold_topics / RIVALS_PART);
    let keys = topics.iter().map(Rival::key).collect::<Vec<_>>();
    compare_sets(context, Rival::NAME, trie, &topics, |number, _| {
        let mut found = Vec::new();
        rival.find(&keys[number], &mut found);
        found
    })?;
    let mut found = Vec::with_capacity(1_024);
    let case = format!("match among {} patterns", population.patterns.len());
    let limit = Some((Side::AtLeast, MIN_OVER_A_RIVAL));
    let names = (&*case, Rival::NAME);
    hold(context, names, trie, (&topics, &keys), |key| rival.find(key, &mut found), limit)
}
