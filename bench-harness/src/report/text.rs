//! The report as a person reads it: aligned columns, times with their units.

use std::fmt::Write;

use super::schema::{Bound, Comparison, Ledger, OpenLoop, Report, Setup};
use super::table::{Cell, Table};
use crate::machine::fingerprint;
use crate::stats::{LatencyNs, Spread};
use crate::units::{Unit, grouped, time};

/// Characters of a line of prose.
const LINE: usize = 100;

/// The whole report, with tables that only its command has.
pub(crate) fn render(report: &Report, tables: &[Table]) -> String {
    let mut out = String::new();
    heading(report, &mut out);
    percentiles(report, &mut out);
    open_loops(report, &mut out);
    figures(report, &mut out);
    comparisons(&report.results, &mut out);
    tables.iter().for_each(|table| table.write(&mut out));
    spreads(report, &mut out);
    bounds(report, &mut out);
    subscriptions(report, &mut out);
    if let Some(ledger) = &report.ledger {
        write_ledger(ledger, &mut out);
    }
    for (number, note) in report.notes.iter().enumerate() {
        if number == 0 {
            out.push('\n');
        }
        write_wrapped(&format!("note: {note}"), &mut out);
    }
    for check in &report.failed_checks {
        let _ = writeln!(out, "\nFAILED: {check}");
    }
    if let Some(noise) = &report.too_noisy {
        let _ = writeln!(out, "\nTOO NOISY: {noise}");
    }
    if report.interrupted {
        out.push_str("\nInterrupted: these are the figures of the part that was done.\n");
    }
    out
}

fn heading(report: &Report, out: &mut String) {
    let _ = write!(out, "ringmain-bench {}", report.scenario);
    if let Some(machine) = report.machine {
        let cpu = machine.cpu.as_deref().unwrap_or(machine.architecture);
        let _ = write!(out, " on {cpu}, cores {} of {}", machine.process_mask, machine.cores_online);
    }
    out.push('\n');
    if report.machine.is_some() && !fingerprint::is_release_build() {
        out.push_str("this is a debug build: its figures say nothing about the engine\n");
    }
    if let Some(verdict) = &report.verdict {
        write_wrapped(&format!("verdict: {verdict}"), out);
    }
    if let Some(Setup { wait, publisher_cores, consumer_cores, capacity }) = &report.setup {
        let _ = writeln!(
            out,
            "setup: {wait}; {}; {}; {} slots",
            placed("publisher", publisher_cores),
            placed("consumer", consumer_cores),
            grouped(*capacity as u64)
        );
    }
    if let (Some(mode), Some(floor)) = (report.mode, report.floor_ns) {
        let meaning = match mode {
            "near" => "these two cores share a cache",
            "far" => {
                "these two cores share no cache, and all that crosses takes two to five times as long as where they do"
            }
            _ => "these two cores shared a cache for a part of this run, so that only ratios tell something",
        };
        write_wrapped(
            &format!(
                "mode {mode}: {meaning}; a cache line goes there and back in {} ({} at best), one way {}",
                time(floor.round_trip),
                time(floor.min),
                time(floor.one_way)
            ),
            out,
        );
    }
}

/// Where threads run, in words.
fn placed(what: &str, cores: &[Option<usize>]) -> String {
    let plural = if cores.len() == 1 { "" } else { "s" };
    match cores.iter().copied().collect::<Option<Vec<_>>>() {
        None => format!("{what}{plural} not pinned"),
        Some(cores) => {
            let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
            format!("{what}{plural} on core{plural} {}", cores.join(","))
        }
    }
}

fn percentiles(report: &Report, out: &mut String) {
    let mut table = Table::with_header(["", "p50", "p90", "p95", "p99", "p99.9", "max", "count"]);
    let mut add = |name: &str, times: Option<LatencyNs>| {
        if let Some(times) = times {
            let [p50, p90, p95, p99, p99_9, max] =
                [times.p50, times.p90, times.p95, times.p99, times.p99_9, times.max]
                    .map(|ns| Cell::Time(ns as f64));
            table.row([name.into(), p50, p90, p95, p99, p99_9, max, grouped(times.count).into()]);
        }
    };
    let lateness = |open_loop: Option<OpenLoop>| open_loop.and_then(|open_loop| open_loop.lateness_ns);
    add("latency", report.latency_ns);
    add("publishers' lateness", lateness(report.open_loop));
    for result in report.results.iter().filter(|result| result.latency_ns.is_some()) {
        add(&label(result), result.latency_ns);
        add("  publishers' lateness", lateness(result.open_loop));
    }
    add("noise of this machine", report.noise_ns);
    table.write(out);
}

/// What became of the messages that came due.
fn open_loops(report: &Report, out: &mut String) {
    let mut table = Table::with_header([
        "open loop",
        "came due",
        "sent",
        "1 ms late",
        "omitted",
        "switches of publisher",
        "of consumer",
    ]);
    let mut add = |name: String, open_loop: Option<OpenLoop>| {
        if let Some(OpenLoop { sent, late, omitted, involuntary_switches: switches, .. }) = open_loop {
            table.row([
                name.into(),
                grouped(sent + omitted).into(),
                grouped(sent).into(),
                grouped(late).into(),
                grouped(omitted).into(),
                Cell::count(switches.map(|switches| switches.publishers)),
                Cell::count(switches.map(|switches| switches.consumers)),
            ]);
        }
    };
    add("latency".to_owned(), report.open_loop);
    for result in report.results.iter().filter(|result| result.latency_ns.is_some()) {
        add(label(result), result.open_loop);
    }
    table.write(out);
}

fn figures(report: &Report, out: &mut String) {
    let mut table = Table::default();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row([name.into(), value.into()]);
        }
    };
    add("published", report.published.map(grouped));
    add("delivered", report.delivered.map(grouped));
    add("elapsed", report.elapsed_s.map(|seconds| format!("{seconds:.2} s")));
    add("messages per second", report.messages_per_s.map(|rate| grouped(rate.round() as u64)));
    add("time per message", report.ns_per_message.map(time));
    add("of the floor's round trip", report.time_over_floor.map(|part| format!("{part:.3}")));
    add("allocations per message", report.allocations_per_message.map(|count| format!("{count:.4}")));
    add("frees per message", report.frees_per_message.map(|count| format!("{count:.4}")));
    add(
        "peak memory",
        report.peak_rss_bytes.map(|bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))),
    );
    add(
        "processor time",
        report.cpu_s.map(|cpu| format!("{:.2} s user, {:.2} s system", cpu.user, cpu.system)),
    );
    table.write(out);
}

fn comparisons(results: &[Comparison], out: &mut String) {
    if results.iter().any(|result| result.ratio_spread.is_some()) {
        return contests(results, out);
    }
    let mut table =
        Table::with_header(["case", "contender", "per message", "from", "to", "messages/s", "ratio"]);
    for result in
        results.iter().filter(|result| result.ns_per_message.is_some() || result.messages_per_s.is_some())
    {
        table.row([
            result.case.as_str().into(),
            result.contender.as_str().into(),
            Cell::time(result.ns_per_message),
            Cell::time(result.spread.map(|spread| spread.min)),
            Cell::time(result.spread.map(|spread| spread.max)),
            Cell::count(result.messages_per_s.map(|rate| rate.round() as u64)),
            Cell::text(result.ratio.map(|ratio| format!("{ratio:.2}"))),
        ]);
    }
    table.write(out);
}

/// Contenders side by side, a table for each case.
fn contests(results: &[Comparison], out: &mut String) {
    for case in results.chunk_by(|one, other| one.case == other.case) {
        let title = case.first().map_or("", |first| first.case.as_str());
        let has_batches = case.iter().any(|result| result.mean_batch.is_some());
        let has_lags = case.iter().any(|result| result.mean_lag.is_some());
        let has_shares = case.iter().any(|result| result.least_share.is_some());
        let has_omitted =
            case.iter().any(|result| result.open_loop.is_some_and(|open_loop| open_loop.omitted > 0));
        let heading = |is_there, heading| if is_there { heading } else { "" };
        let mut table = Table::with_header([
            title,
            "per message",
            "from",
            "to",
            "ratio",
            "from",
            "to",
            heading(has_batches, "batch"),
            heading(has_lags, "lag"),
            heading(has_shares, "least share"),
            heading(has_omitted, "omitted"),
        ]);
        for result in case {
            let number = |value: Option<f64>, decimals: usize| {
                Cell::text(value.map(|value| format!("{value:.decimals$}")))
            };
            let only_if = |is_there: bool, cell: Cell| if is_there { cell } else { Cell::empty() };
            let (spread, ratios) = (result.spread, result.ratio_spread);
            table.row([
                result.contender.as_str().into(),
                Cell::time(result.ns_per_message),
                Cell::time(spread.map(|spread| spread.min)),
                Cell::time(spread.map(|spread| spread.max)),
                number(result.ratio, 2),
                number(ratios.map(|spread| spread.min), 2),
                number(ratios.map(|spread| spread.max), 2),
                only_if(has_batches, number(result.mean_batch, 1)),
                only_if(has_lags, number(result.mean_lag, 0)),
                only_if(has_shares, number(result.least_share, 2)),
                only_if(has_omitted, Cell::count(result.open_loop.map(|open_loop| open_loop.omitted))),
            ]);
        }
        table.write(out);
    }
}

/// Figures with their spread, and their bounds where they have some.
fn spreads(report: &Report, out: &mut String) {
    let [allowed, met] = if report.shows_bounds { ["allowed", "met"] } else { [""; 2] };
    let mut table = Table::with_header(["case", "figure", "from", "to", "", allowed, met]);
    for figure in &report.figures {
        let Spread { min, max, .. } = figure.spread;
        // Rows are of different kinds: each has its own unit, which its three figures share.
        let times = [figure.value, min, max];
        let (unit, cells) = match figure.unit {
            "ns" => {
                let unit = Unit::common(times.into_iter());
                (unit.name, times.map(|ns| unit.show(ns)))
            }
            "" => ("", times.map(|count| grouped(count.round() as u64))),
            unit => (unit, times.map(|value| format!("{value:.2}"))),
        };
        let bound = shown_bounds(report).iter().find(|bound| bound.name == figure.case);
        let [allowed, met] = bound.map_or_else(Default::default, allowance);
        let [value, min, max] = cells.map(Cell::from);
        table.row([figure.case.as_str().into(), value, min, max, unit.into(), allowed.into(), met.into()]);
    }
    table.write(out);
}

/// The bounds of figures that stand elsewhere.
fn bounds(report: &Report, out: &mut String) {
    let mut table = Table::with_header(["bound", "figure", "allowed", "met"]);
    let stands_above = |bound: &&Bound| report.figures.iter().any(|figure| figure.case == bound.name);
    for bound in shown_bounds(report).iter().filter(|bound| !stands_above(bound)) {
        let [allowed, met] = allowance(bound);
        let figure = format!("{:.2} {}", bound.value, bound.unit);
        table.row([bound.name.as_str().into(), figure.into(), allowed.into(), met.into()]);
    }
    table.write(out);
}

/// The bounds that are shown: all where a verdict was asked for, else none.
fn shown_bounds(report: &Report) -> &[Bound] {
    if report.shows_bounds { &report.bounds } else { &[] }
}

/// What a bound allows, and whether it is met.
fn allowance(bound: &Bound) -> [String; 2] {
    [bound.limit(), if bound.met { "yes" } else { "NO" }.to_owned()]
}

fn subscriptions(report: &Report, out: &mut String) {
    let mut table = Table::with_header(["subscription", "delivered"]);
    for subscription in &report.subscriptions {
        table.row([subscription.pattern.as_str().into(), grouped(subscription.delivered).into()]);
    }
    table.write(out);
}

/// The terms that are not zero, and whether they add up.
fn write_ledger(ledger: &Ledger, out: &mut String) {
    let _ = write!(out, "\nledger {}:", if ledger.balanced { "balanced" } else { "NOT BALANCED" });
    let terms = [
        ("published", ledger.published),
        ("unrouted", ledger.unrouted),
        ("routed", ledger.routed),
        ("delivered", ledger.delivered),
        ("filtered", ledger.filtered),
        ("expired", ledger.expired),
        ("dropped", ledger.dropped),
        ("dead-lettered", ledger.dead_lettered),
        ("undelivered", ledger.undelivered),
        ("retrying", ledger.retrying),
        ("backlogged", ledger.backlogged),
        ("in flight", ledger.in_flight),
        ("in doubt", ledger.in_doubt),
    ];
    let mut separator = " ";
    for (name, count) in terms.into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(out, "{separator}{name} {}", grouped(count));
        separator = ", ";
    }
    out.push_str(if separator == " " { " no messages\n" } else { "\n" });
}

/// Writes a text in lines of readable length; those after the first are indented.
fn write_wrapped(text: &str, out: &mut String) {
    let mut length = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        if length > 0 && length + 1 + width > LINE {
            out.push_str("\n     ");
            length = 5;
        }
        if length > 0 {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += width;
    }
    out.push('\n');
}

/// A row's name. A latency beyond saturation tells how long the overload lasted, and says so.
fn label(result: &Comparison) -> String {
    let mut label = result.case.clone();
    if !result.contender.is_empty() {
        label = format!("{label}, {}", result.contender);
    }
    if result.open_loop.is_some_and(|open_loop| open_loop.saturated) {
        label += " (beyond saturation)";
    }
    label
}

#[cfg(test)]
mod tests {
    use super::super::schema::{SubscriptionReport, Switches};
    use super::*;
    use crate::machine::floor::FloorNs;

    #[test]
    fn long_notes_are_wrapped_between_words() {
        let mut out = String::new();
        write_wrapped(&format!("note: {}", "word ".repeat(50).trim_end()), &mut out);
        assert_eq!(out.split_whitespace().count(), 51);
        assert!(out.lines().all(|line| line.chars().count() <= LINE), "{out}");
        assert!(out.lines().skip(1).all(|line| line.starts_with("      word")), "{out}");
        assert_eq!(out.lines().count(), 3);
    }

    #[test]
    fn a_report_is_aligned() {
        let latency = LatencyNs {
            p50: 120,
            p90: 140,
            p95: 150,
            p99: 1_200,
            p99_9: 45_000,
            p99_99: 0,
            max: 2_000_000,
            mean: 130.0,
            count: 10_000,
        };
        let mut report = Report::new("latency");
        report.mode = Some("near");
        report.floor_ns = Some(FloorNs { round_trip: 110.0, min: 104.0, one_way: 55.0 });
        report.latency_ns = Some(latency);
        report.noise_ns = Some(LatencyNs { p50: 11, count: 5, ..latency });
        report.published = Some(10_000);
        report.elapsed_s = Some(0.1);
        report.subscriptions.push(SubscriptionReport { pattern: "a.#".to_owned(), delivered: 10_000 });
        report.ledger =
            Some(Ledger { balanced: true, published: 10_000, delivered: 10_000, ..Ledger::default() });
        report.verdict = Some("quick".to_owned());
        report.setup = Some(Setup {
            wait: "busy-spin".to_owned(),
            publisher_cores: vec![Some(0)],
            consumer_cores: vec![Some(1), Some(2)],
            capacity: 1_024,
        });
        report.results.push(Comparison {
            case: "half".to_owned(),
            latency_ns: Some(LatencyNs { p50: 1_000_000, ..latency }),
            open_loop: Some(OpenLoop {
                sent: 1_000,
                late: 20,
                omitted: 500,
                lateness_ns: Some(LatencyNs { p50: 900_000, ..latency }),
                saturated: true,
                machine_stalls: None,
                publish_stalls: None,
                involuntary_switches: Some(Switches { publishers: 3, consumers: 0 }),
            }),
            ..Comparison::default()
        });
        let expected = "\
ringmain-bench latency
verdict: quick
setup: busy-spin; publisher on core 0; consumers on cores 1,2; 1,024 slots
mode near: these two cores share a cache; a cache line goes there and back in 110 ns (104 ns at
      best), one way 55.0 ns

                             p50 ns  p90 ns  p95 ns  p99 µs  p99.9 µs  max ms   count
latency                         120     140     150    1.20      45.0    2.00  10,000
half (beyond saturation)  1,000,000     140     150    1.20      45.0    2.00  10,000
  publishers' lateness      900,000     140     150    1.20      45.0    2.00  10,000
noise of this machine          11.0     140     150    1.20      45.0    2.00       5

open loop                 came due   sent  1 ms late  omitted  switches of publisher  of consumer
half (beyond saturation)     1,500  1,000         20      500                      3            0

published  10,000
elapsed    0.10 s

subscription  delivered
a.#              10,000

ledger balanced: published 10,000, delivered 10,000
";
        assert_eq!(render(&report, &[]), expected);
    }
}
