//! The report as a person reads it: aligned columns, times with their units.

use std::fmt::Write;

use super::schema::{Bound, Comparison, Ledger, OpenLoop, Report};
use crate::machine::fingerprint;
use crate::stats::{LatencyNs, Spread};
use crate::units::{grouped, time};

/// Characters of a line of prose.
const LINE: usize = 100;

/// Rows of cells; the first column is aligned to the left, the others to the right.
#[derive(Default)]
struct Table {
    header: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn with_header<const N: usize>(header: [&str; N]) -> Self {
        Self { header: Some(header.map(str::to_owned).to_vec()), rows: Vec::new() }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Writes the table with an empty line before it, unless it has no rows.
    fn write(&self, out: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        let lines = || self.header.iter().chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        out.push('\n');
        for row in lines() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    heading(report, &mut out);
    percentiles(report, &mut out);
    figures(report, &mut out);
    comparisons(&report.results, &mut out);
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
    if let (Some(mode), Some(floor)) = (report.mode, report.floor_ns) {
        let _ = writeln!(
            out,
            "mode {mode}: a cache line goes there and back in {} ({} at best), one way {}",
            time(floor.round_trip),
            time(floor.min),
            time(floor.one_way)
        );
    }
    if report.machine.is_some() && !fingerprint::is_release_build() {
        out.push_str("this is a debug build: its figures say nothing about the engine\n");
    }
}

fn percentiles(report: &Report, out: &mut String) {
    let mut table = Table::with_header(["", "p50", "p90", "p95", "p99", "p99.9", "max", "count"]);
    let mut add = |name: &str, times: Option<LatencyNs>| {
        if let Some(times) = times {
            let [p50, p90, p95, p99, p99_9, max] =
                [times.p50, times.p90, times.p95, times.p99, times.p99_9, times.max]
                    .map(|ns| time(ns as f64));
            table.row([name.to_owned(), p50, p90, p95, p99, p99_9, max, grouped(times.count)]);
        }
    };
    add("latency", report.latency_ns);
    for result in &report.results {
        add(&label(result), result.latency_ns);
    }
    add("publishers' lateness", report.open_loop.and_then(|open_loop| open_loop.lateness_ns));
    add("noise of this machine", report.noise_ns);
    table.write(out);
}

fn figures(report: &Report, out: &mut String) {
    let mut table = Table::default();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    };
    if let Some(OpenLoop { sent, late, omitted, .. }) = report.open_loop {
        add("came due", Some(grouped(sent + omitted)));
        add("  sent", Some(grouped(sent)));
        add("  of these 1 ms late or later", Some(grouped(late)));
        add("  omitted", Some(grouped(omitted)));
    }
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
        let cell = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        table.row([
            result.case.clone(),
            result.contender.clone(),
            cell(result.ns_per_message.map(time)),
            cell(result.spread.map(|spread| time(spread.min))),
            cell(result.spread.map(|spread| time(spread.max))),
            cell(result.messages_per_s.map(|rate| grouped(rate.round() as u64))),
            cell(result.ratio.map(|ratio| format!("{ratio:.2}"))),
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
        ]);
        for result in case {
            let ns = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
            let number = |value: Option<f64>, decimals: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
            };
            let (spread, ratios) = (result.spread, result.ratio_spread);
            table.row([
                result.contender.clone(),
                ns(result.ns_per_message),
                ns(spread.map(|spread| spread.min)),
                ns(spread.map(|spread| spread.max)),
                number(result.ratio, 2),
                number(ratios.map(|spread| spread.min), 2),
                number(ratios.map(|spread| spread.max), 2),
                if has_batches { number(result.mean_batch, 1) } else { String::new() },
                if has_lags { number(result.mean_lag, 0) } else { String::new() },
                if has_shares { number(result.least_share, 2) } else { String::new() },
            ]);
        }
        table.write(out);
    }
}

/// Figures with their spread, and their bounds where they have some.
fn spreads(report: &Report, out: &mut String) {
    let [allowed, met] = if report.shows_bounds { ["allowed", "met"] } else { [""; 2] };
    let mut table = Table::with_header(["case", "figure", "from", "to", allowed, met]);
    for figure in &report.figures {
        let value = |value: f64| match figure.unit {
            "ns" => time(value),
            "" => grouped(value.round() as u64),
            unit => format!("{value:.2} {unit}"),
        };
        let bound = shown_bounds(report).iter().find(|bound| bound.name == figure.case);
        let [allowed, met] = bound.map_or_else(Default::default, allowance);
        let Spread { min, max, .. } = figure.spread;
        table.row([figure.case.clone(), value(figure.value), value(min), value(max), allowed, met]);
    }
    table.write(out);
}

/// The bounds of figures that stand elsewhere.
fn bounds(report: &Report, out: &mut String) {
    let mut table = Table::with_header(["bound", "figure", "allowed", "met"]);
    let stands_above = |bound: &&Bound| report.figures.iter().any(|figure| figure.case == bound.name);
    for bound in shown_bounds(report).iter().filter(|bound| !stands_above(bound)) {
        let [allowed, met] = allowance(bound);
        table.row([bound.name.clone(), format!("{:.2} {}", bound.value, bound.unit), allowed, met]);
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
        table.row([subscription.pattern.clone(), grouped(subscription.delivered)]);
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

fn label(result: &Comparison) -> String {
    if result.contender.is_empty() {
        result.case.clone()
    } else {
        format!("{}, {}", result.case, result.contender)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::SubscriptionReport;
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
        let expected = "\
ringmain-bench latency
mode near: a cache line goes there and back in 110 ns (104 ns at best), one way 55.0 ns

                           p50     p90     p95      p99    p99.9      max   count
latency                 120 ns  140 ns  150 ns  1.20 µs  45.0 µs  2.00 ms  10,000
noise of this machine  11.0 ns  140 ns  150 ns  1.20 µs  45.0 µs  2.00 ms       5

published  10,000
elapsed    0.10 s

subscription  delivered
a.#              10,000

ledger balanced: published 10,000, delivered 10,000
";
        assert_eq!(render(&report), expected);
    }
}
