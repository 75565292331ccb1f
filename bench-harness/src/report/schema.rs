//! What a run found, as the JSON that scripts rely on. A field that does not apply is absent.

use ringmain::broker::Term;
use serde::Serialize;

use crate::interrupt::interrupted;
use crate::machine::baseline::Baseline;
use crate::machine::fingerprint::{self, Machine};
use crate::machine::floor::FloorNs;
use crate::machine::noise;
use crate::machine::usage::{CpuSeconds, Usage};
use crate::stats::{LatencyNs, Spread, Stalls};
use crate::units;

/// The version of the JSON's form.
const SCHEMA: u32 = 1;

/// What a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    /// The command's name.
    pub(crate) scenario: &'static str,
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub(crate) config: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<&'static Machine>,
    /// Near, far or mixed: see [`crate::machine::floor::Floor::mode`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<&'static str>,
    /// How the threads of the load were set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) setup: Option<Setup>,
    /// What the figures come to, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) published: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivered: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elapsed_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ns_per_message: Option<f64>,
    /// The time of a message over the floor's round trip, in the same rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_over_floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ns: Option<LatencyNs>,
    #[serde(flatten)]
    pub(crate) open_loop: Option<OpenLoop>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) noise_ns: Option<LatencyNs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor_ns: Option<FloorNs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allocations_per_message: Option<f64>,
    /// Blocks given back to the allocator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frees_per_message: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_s: Option<CpuSeconds>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) subscriptions: Vec<SubscriptionReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ledger: Option<Ledger>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) results: Vec<Comparison>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) figures: Vec<Figure>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) bounds: Vec<Bound>,
    /// Whether the text shows them too: somebody asked for a verdict.
    #[serde(skip)]
    pub(crate) shows_bounds: bool,
    /// The machine in each round of a comparison.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rounds: Vec<RoundReport>,
    /// What one has to know to read the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// Why the exit code is 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed_checks: Vec<String>,
    /// Why the exit code is 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) too_noisy: Option<String>,
    /// The run was stopped; the figures are those of the part that was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) interrupted: bool,
}

/// How the threads of a load wait, where they run, and how many messages may be under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setup {
    pub(crate) wait: String,
    /// The core of each; null for wherever the scheduler likes.
    pub(crate) publisher_cores: Vec<Option<usize>>,
    pub(crate) consumer_cores: Vec<Option<usize>>,
    /// Slots of the ring.
    pub(crate) capacity: usize,
}

/// What became of the messages that came due at a rate, whether or not anything was ready for them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct OpenLoop {
    /// Messages that came due and were sent, `late` of them a millisecond or more after they were
    /// due.
    pub(crate) sent: u64,
    pub(crate) late: u64,
    /// Messages that came due and were not sent.
    pub(crate) omitted: u64,
    /// How late each was sent; for one that was omitted, how late it was when the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lateness_ns: Option<LatencyNs>,
    /// The rate was beyond what could be sent.
    pub(crate) saturated: bool,
    /// The machine or the process stood still: publishers did not run that wanted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machine_stalls: Option<Stalls>,
    /// Calls that publish did not come back: the engine, or a handler, held a publisher up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publish_stalls: Option<Stalls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) involuntary_switches: Option<Switches>,
}

/// How often threads were taken off their cores while they had work to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Switches {
    pub(crate) publishers: u64,
    pub(crate) consumers: u64,
}

/// What one subscription got.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SubscriptionReport {
    pub(crate) pattern: String,
    pub(crate) delivered: u64,
}

/// Where every message went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ledger {
    pub(crate) balanced: bool,
    pub(crate) published: u64,
    pub(crate) unrouted: u64,
    pub(crate) routed: u64,
    pub(crate) delivered: u64,
    pub(crate) filtered: u64,
    pub(crate) expired: u64,
    pub(crate) dropped: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) undelivered: u64,
    pub(crate) retrying: u64,
    pub(crate) backlogged: u64,
    pub(crate) in_flight: u64,
    pub(crate) in_doubt: u64,
    #[serde(flatten)]
    pub(crate) tries: Option<Tries>,
}

/// What stands beside a ledger's sum where deliveries are tried again: replays, calls and retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tries {
    pub(crate) replayed: u64,
    pub(crate) attempts: u64,
    pub(crate) retries: u64,
    /// Outcomes that came when nobody waited for them any more.
    pub(crate) late: u64,
}

impl Ledger {
    /// The ledger of nothing, which balances.
    pub(crate) fn empty() -> Self {
        Self { balanced: true, ..Self::default() }
    }

    /// The account of an engine that was shut down.
    pub(crate) fn of(engine: &ringmain::broker::Ledger) -> Self {
        let total = engine.total();
        Self {
            balanced: engine.is_balanced(),
            published: engine.published,
            unrouted: engine.unrouted,
            routed: total.routed,
            delivered: total.delivered(),
            filtered: total.count(Term::Filtered),
            expired: total.count(Term::Expired),
            dropped: total.dropped(),
            dead_lettered: total.count(Term::DeadLettered),
            undelivered: total.count(Term::Undelivered),
            retrying: total.count(Term::Retrying),
            backlogged: total.count(Term::Backlogged),
            in_flight: total.count(Term::InFlight),
            in_doubt: total.count(Term::InDoubt),
            tries: None,
        }
    }

    /// Adds the account of another engine.
    pub(crate) fn add(&mut self, other: &Self) {
        self.balanced &= other.balanced;
        self.published += other.published;
        self.unrouted += other.unrouted;
        self.routed += other.routed;
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.expired += other.expired;
        self.dropped += other.dropped;
        self.dead_lettered += other.dead_lettered;
        self.undelivered += other.undelivered;
        self.retrying += other.retrying;
        self.backlogged += other.backlogged;
        self.in_flight += other.in_flight;
        self.in_doubt += other.in_doubt;
    }
}

/// The machine in one round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct RoundReport {
    /// The floor's round trip.
    pub(crate) floor_ns: f64,
    /// Near or far.
    pub(crate) mode: &'static str,
}

/// One contender in one case.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Comparison {
    pub(crate) case: String,
    pub(crate) contender: String,
    /// Messages a second that were asked for: the median of the rounds, where each has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ns_per_message: Option<f64>,
    /// The spread of `ns_per_message` over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spread: Option<Spread>,
    /// This contender's time over ours in the same rounds; above 1 we are faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// The spread of the rounds' quotients, whose median is `ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_spread: Option<Spread>,
    /// Events that a poll found, where it found any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mean_batch: Option<f64>,
    /// Events that waited to be taken, where one can ask without taking them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mean_lag: Option<f64>,
    /// The events of the producer that sent fewest, over a fair share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) least_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ns: Option<LatencyNs>,
    #[serde(flatten)]
    pub(crate) open_loop: Option<OpenLoop>,
}

/// A figure that is no contender's. Where something is asked of it, a bound has its name.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) value: f64,
    /// Empty for a plain number.
    pub(crate) unit: &'static str,
    /// The spread of the figure over the rounds.
    pub(crate) spread: Spread,
}

/// A figure and what it may be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) side: Side,
    pub(crate) bound: f64,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) met: bool,
}

/// On which side of its bound a figure may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    AtLeast,
    AtMost,
}

impl Bound {
    pub(crate) fn new(name: String, side: Side, bound: f64, value: f64, unit: &'static str) -> Self {
        let met = match side {
            Side::AtLeast => value >= bound,
            Side::AtMost => value <= bound,
        };
        Self { name, side, bound, value, unit, met }
    }

    /// The bound in words.
    pub(crate) fn limit(&self) -> String {
        let side = match self.side {
            Side::AtLeast => "at least",
            Side::AtMost => "at most",
        };
        // Two decimals, and none that say nothing.
        format!("{side} {} {}", (self.bound * 100.0).round() / 100.0, self.unit)
    }
}

impl Report {
    /// An empty report of a command.
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self {
            schema: SCHEMA,
            scenario,
            config: serde_json::Value::Null,
            machine: None,
            mode: None,
            setup: None,
            verdict: None,
            published: None,
            delivered: None,
            elapsed_s: None,
            messages_per_s: None,
            ns_per_message: None,
            time_over_floor: None,
            latency_ns: None,
            open_loop: None,
            noise_ns: None,
            floor_ns: None,
            allocations_per_message: None,
            frees_per_message: None,
            peak_rss_bytes: None,
            cpu_s: None,
            subscriptions: Vec::new(),
            ledger: None,
            results: Vec::new(),
            figures: Vec::new(),
            bounds: Vec::new(),
            shows_bounds: false,
            rounds: Vec::new(),
            notes: Vec::new(),
            failed_checks: Vec::new(),
            too_noisy: None,
            interrupted: false,
        }
    }

    /// An empty report of a measurement, with its options and the machine.
    pub(crate) fn of_measurement(scenario: &'static str, config: &impl Serialize) -> Self {
        let mut report = Self::new(scenario);
        report.set_config(config);
        report.machine = Some(fingerprint::remember());
        report
    }

    /// Records the options of the run.
    pub(crate) fn set_config(&mut self, config: &impl Serialize) {
        self.config = serde_json::to_value(config).expect("options are numbers and text");
    }

    /// Records floor and noise of the machine, and what follows for the reader.
    pub(crate) fn describe_machine(&mut self, baseline: &Baseline) {
        self.mode = baseline.mode();
        self.floor_ns = baseline.floor();
        self.noise_ns = baseline.noise();
        if let Some(noise) = self.noise_ns.filter(noise::is_noisy) {
            self.notes.push(format!(
                "this machine was busy with other things: it kept a thread that only spins from running \
                 for {} at p99, so tails of that size are not the engine's",
                units::time(noise.p99 as f64)
            ));
        }
    }

    /// Records memory, processor time and whether the run was stopped. Call it last.
    pub(crate) fn finish(&mut self) {
        if let Some(Usage { peak_rss_bytes, cpu_s }) = Usage::of_process() {
            self.peak_rss_bytes = Some(peak_rss_bytes);
            self.cpu_s = Some(cpu_s);
        }
        self.interrupted = interrupted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_apply_is_absent() {
        let json = serde_json::to_value(Report::new("latency")).expect("a report");
        assert_eq!(json, serde_json::json!({ "schema": 1, "scenario": "latency" }));
    }
}
