//! The scenarios that drive an engine: the fields of their JSON, and figures that must agree with
//! each other.

mod support;

use serde_json::Value;
use std::time::Duration;
use support::{Scratch, run, within_seconds};

/// Runs a command to its end and returns its JSON.
#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let answer = run(&[arguments, &["--json", "-"]].concat());
    assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
    serde_json::from_str(&answer.stdout).expect("JSON and nothing else")
}

#[track_caller]
fn count(json: &Value, field: &str) -> u64 {
    json[field].as_u64().unwrap_or_else(|| panic!("{field} is no count: {json}"))
}

/// All notes in one text.
fn notes(json: &Value) -> String {
    let notes = json["notes"].as_array().expect("notes").iter();
    notes.map(|note| note.as_str().expect("text").to_owned() + "\n").collect()
}

#[track_caller]
fn number(json: &Value, field: &str) -> f64 {
    json[field].as_f64().unwrap_or_else(|| panic!("{field} is no number: {json}"))
}

/// What holds for every load: it is all there, and it adds up.
#[track_caller]
fn adds_up(json: &Value, subscribers: u64) {
    let ledger = &json["ledger"];
    assert_eq!(ledger["balanced"], true, "{json}");
    assert_eq!(count(ledger, "published"), count(json, "published"));
    assert_eq!(count(ledger, "delivered"), count(json, "delivered"));
    assert_eq!(count(json, "delivered"), subscribers * count(json, "published"));
    assert_eq!(count(ledger, "routed"), count(ledger, "delivered"));
    for term in ["unrouted", "filtered", "expired", "dropped", "dead_lettered", "undelivered"] {
        assert_eq!(count(ledger, term), 0, "{term}: {ledger}");
    }
    for term in ["retrying", "backlogged", "in_flight"] {
        assert_eq!(count(ledger, term), 0, "{term}: {ledger}");
    }
    assert!(json.get("failed_checks").is_none() && json.get("interrupted").is_none(), "{json}");
    assert!(number(json, "elapsed_s") > 0.0);
    assert_eq!(json["schema"], 1);
    assert_eq!(json["mode"].is_string(), json["floor_ns"]["round_trip"].is_f64());
    for field in ["p50", "p90", "p95", "p99", "p99_9", "p99_99", "max", "count"] {
        assert!(json["noise_ns"][field].is_u64(), "{field}: {json}");
    }
}

#[test]
fn latency_reports_the_percentiles_of_all_messages_at_the_rate_that_was_asked_for() {
    let json = json(&["latency", "--rate", "2000", "--duration", "0.5", "--payload", "100"]);
    adds_up(&json, 1);
    // Open loop: as many as come due, however busy the machine is.
    let published = count(&json, "published");
    assert_eq!((published, count(&json, "sent"), count(&json, "omitted")), (1_000, 1_000, 0), "{json}");
    assert_eq!(json["config"]["rate"], 2_000.0);
    assert!(
        json["verdict"].as_str().is_some_and(|verdict| verdict.contains("half of the messages")),
        "{json}"
    );
    assert_eq!(json["setup"]["wait"], json["config"]["wait"]);
    assert_eq!(json["setup"]["publisher_cores"].as_array().map(Vec::len), Some(1));
    assert!(json["config"]["wait"].is_string() && json["config"]["consumers"] == 1, "{json}");
    let latency = &json["latency_ns"];
    let of = |field| count(latency, field);
    assert!(of("p50") <= of("p90") && of("p90") <= of("p99") && of("p99") <= of("p99_9"), "{latency}");
    assert!(of("p99_9") <= of("p99_99") && of("p99_99") <= of("max") && of("p50") > 0, "{latency}");
    assert!(of("count") > 0 && of("count") <= published, "a part warms up: {latency}");
    assert!(number(latency, "mean") > 0.0);
    assert_eq!(count(&json["lateness_ns"], "count"), published);
    assert!(number(&json, "elapsed_s") >= 0.5);
}

#[test]
fn every_shape_of_load_is_checked_and_adds_up() {
    let cases: [(&[&str], u64); 9] = [
        (&["--publishers", "3", "--topics", "5"], 1),
        (&["--subscribers", "3"], 3),
        (&["--publishers", "2", "--subscribers", "2", "--topics", "7", "--runtime-topics"], 2),
        (&["--payload", "0"], 1),
        (&["--payload", "7", "--publishers", "2", "--topics", "3"], 1),
        (&["--payload", "65536", "--rate", "500"], 1),
        (&["--capacity", "1", "--rate", "max"], 1),
        (&["--rate", "max", "--wait", "yielding"], 1),
        (&["--rate", "1"], 1),
    ];
    for (options, subscribers) in cases {
        let json = json(&[&["latency", "--duration", "0.1"], options].concat());
        adds_up(&json, subscribers);
        assert!(json["latency_ns"]["count"].is_u64(), "{options:?}: {json}");
    }
}

#[test]
fn every_way_to_wait_can_be_asked_for() {
    for wait in ["busy-spin", "yielding", "backoff", "adaptive", "blocking"] {
        let json = json(&["latency", "--duration", "0.05", "--rate", "1000", "--wait", wait]);
        adds_up(&json, 1);
        assert_eq!(json["config"]["wait"], wait);
    }
}

#[test]
fn a_rate_beyond_reach_ends_all_the_same_and_says_so() {
    let json = json(&["latency", "--rate", "1e9", "--duration", "0.1"]);
    adds_up(&json, 1);
    assert!(json["latency_ns"]["count"].as_u64() > Some(0), "{json}");
    assert!(notes(&json).contains("were asked for"), "{json}");
}

#[test]
fn throughput_compares_engine_ring_and_floor_of_the_same_rounds() {
    let json = json(&["throughput", "--duration", "0.5"]);
    adds_up(&json, 1);
    let ns = number(&json, "ns_per_message");
    assert!(ns > 0.0 && (number(&json, "messages_per_s") * ns / 1e9 - 1.0).abs() < 1e-6, "{json}");
    let results = json["results"].as_array().expect("results");
    let cases: Vec<_> = results.iter().map(|result| result["case"].as_str().expect("a case")).collect();
    let expected = ["engine bound topic", "engine run-time topics (1,000)", "raw ring multi 128 B"];
    assert_eq!(&cases[..3], expected);
    assert_eq!(results[0]["ratio"], 1.0);
    for result in &results[..3] {
        let (low, high) = (number(&result["spread"], "min"), number(&result["spread"], "max"));
        let median = number(result, "ns_per_message");
        assert!(0.0 < low && low <= median && median <= high && number(result, "ratio") > 0.0, "{result}");
    }
}

#[test]
fn allocations_are_counted_where_there_are_any_and_only_there() {
    let quiet = json(&["throughput", "--duration", "0.4", "--payload", "1000"]);
    // Under ThreadSanitizer, crossbeam-epoch allocates when it looks through its threads, which is
    // often where all is slow.
    let few = if within_seconds(1) > Duration::from_secs(1) { 0.5 } else { 0.01 };
    assert!(number(&quiet, "allocations_per_message") < few, "{quiet}");
    assert!(number(&quiet, "frees_per_message") < few, "{quiet}");
    // More topics than a publisher remembers: each message's topic is resolved anew.
    let busy = json(&["throughput", "--duration", "0.4", "--runtime-topics", "--topics", "10000"]);
    assert!(number(&busy, "allocations_per_message") > 0.5, "{busy}");
}

#[test]
fn the_main_job_shows_every_part_of_it() {
    let scratch = Scratch::new("main-job");
    let file = scratch.path("run.json");
    let answer = run(&["run", "--quick", "--json", &file]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for part in [
        "latency at 10,000/s",
        "half of the most",
        "noise of this machine",
        "engine bound topic",
        "2 subscribers",
    ] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    for part in ["run-time topics", "raw ring", "ledger balanced", "how to read it", "p99.9"] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    // The head says what it comes to, and how it was set up.
    let head: Vec<_> = answer.stdout.lines().take_while(|line| !line.is_empty()).collect();
    for part in ["verdict: at 100,000 messages a second", "setup: ", " slots"] {
        assert!(head.iter().any(|line| line.contains(part)), "{part}: {head:?}");
    }
    let has_mode = head.iter().any(|line| line.starts_with("mode "));
    assert_eq!(has_mode, head.iter().any(|line| line.contains("share")), "what mode means: {head:?}");
    for part in ["default options", "  publishers' lateness", "switches of publisher", "omitted"] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    every_column_of_times_has_one_unit(&answer.stdout);
    let json: Value = serde_json::from_slice(&std::fs::read(file).expect("the file")).expect("JSON");
    assert_eq!((&json["scenario"], &json["ledger"]["balanced"]), (&Value::from("run"), &Value::from(true)));
    assert!(json["verdict"].is_string() && json["config"]["quick"] == true, "{json}");
    assert_eq!(
        (&json["setup"]["wait"], &json["setup"]["capacity"]),
        (&json["config"]["wait"], &Value::from(1_024))
    );
    let results = json["results"].as_array().expect("results");
    let latencies: Vec<_> =
        results.iter().filter(|result| result["latency_ns"]["count"].as_u64() > Some(0)).collect();
    assert_eq!(latencies.len(), 5);
    for result in &latencies {
        // In each row what came due is accounted for.
        let due = count(result, "sent") + count(result, "omitted");
        assert_eq!(count(&result["lateness_ns"], "count"), due, "{result}");
        let asked = number(result, "rate");
        assert!(due as f64 >= asked * 0.12 * 0.99, "a turn of 120 ms at least: {result}");
        if cfg!(target_os = "linux") {
            assert!(result["involuntary_switches"]["publishers"].is_u64(), "{result}");
            assert!(result["involuntary_switches"]["consumers"].is_u64(), "{result}");
        }
        // A row beyond saturation says so in the row.
        let label = format!("{}, engine (beyond saturation)", result["case"].as_str().expect("a case"));
        assert_eq!(answer.stdout.contains(&label), result["saturated"] == true, "{label}: {}", answer.stdout);
    }
    let by_default = results
        .iter()
        .filter(|result| result["case"].as_str().is_some_and(|case| case.ends_with("default options")));
    assert_eq!(by_default.count(), 2, "one of latency and one of throughput: {json}");
}

/// A unit stands in the header, and in no cell.
#[track_caller]
fn every_column_of_times_has_one_unit(text: &str) {
    let tables: Vec<_> = text.split("\n\n").filter(|table| table.contains("  p90 ")).collect();
    assert_eq!(tables.len(), 1, "{text}");
    let mut lines = tables[0].lines();
    let header = lines.next().expect("a header");
    let units = header.split_whitespace().filter(|word| ["ns", "µs", "ms", "s"].contains(word)).count();
    assert_eq!(units, 6, "{header}");
    for line in lines {
        let cells: Vec<_> = line.split("  ").filter(|cell| !cell.trim().is_empty()).collect();
        let is_number =
            |cell: &&str| cell.trim().chars().all(|char| char.is_ascii_digit() || ",.".contains(char));
        assert!(cells.len() == 8 && cells[1..].iter().all(is_number), "{line}");
    }
}

#[test]
fn waiting_tells_what_it_costs_and_whether_that_is_within_bounds() {
    let json = json(&["waiting", "--quick"]);
    assert_eq!((&json["schema"], &json["scenario"]), (&Value::from(1), &Value::from("waiting")));
    assert_eq!(json["config"]["quick"], true);
    let results = json["results"].as_array().expect("results");
    for case in ["wake-up after 1 ms", "wake-up after 1 s"] {
        for contender in ["bare futex", "blocking", "adaptive"] {
            let is_it = |result: &&Value| result["case"] == case && result["contender"] == contender;
            let result = results.iter().find(is_it).unwrap_or_else(|| panic!("{case}, {contender}: {json}"));
            let of = |field| count(&result["latency_ns"], field);
            assert!(of("count") > 0 && 0 < of("p50") && of("p50") <= of("p99"), "{result}");
        }
    }
    let bounds = json["bounds"].as_array().expect("bounds");
    assert!(bounds.len() >= 4, "{json}");
    for bound in bounds {
        let (most, value) = (number(bound, "bound"), number(bound, "value"));
        assert!(bound["name"].is_string() && bound["side"] == "at-most" && value >= 0.0, "{bound}");
        assert_eq!(bound["met"], value <= most, "{bound}");
    }
    // Nobody asked for a verdict.
    assert!(json.get("failed_checks").is_none() && !notes(&json).contains("bound"), "{json}");
}

/// Whether a row from an origin to a destination is to be delivered.
type Matches = fn(&str, &str) -> bool;

#[test]
fn a_replay_delivers_to_every_pattern_what_it_matches() {
    let origins = ["JFK", "EWR", "LGA"];
    let destinations = ["LHR", "CDG", "FRA", "JFK"];
    let rows: Vec<_> = (0..1_000).map(|row| (origins[row % 3], destinations[row * 7 % 4])).collect();
    let mut text = "origin,dest,remark\r\n".to_owned();
    for (row, (origin, destination)) in rows.iter().enumerate() {
        text += &format!("{origin},{destination},\"row {row}, quoted\"\r\n");
    }
    let scratch = Scratch::new("replay-counts");
    let file = scratch.file("rows.csv", text);
    let expected: [(&str, Matches); 8] = [
        ("f.JFK.LHR", |origin, destination| (origin, destination) == ("JFK", "LHR")),
        ("f.*.CDG", |_, destination| destination == "CDG"),
        ("f.EWR.*", |origin, _| origin == "EWR"),
        ("#", |_, _| true),
        ("#.JFK.#", |origin, destination| origin == "JFK" || destination == "JFK"),
        ("f.LGA.#", |origin, _| origin == "LGA"),
        ("f.*", |_, _| false),
        ("g.#", |_, _| false),
    ];
    let mut arguments = vec!["replay", &file, "--topic", "f.{origin}.{dest}", "--subscribe"];
    arguments.extend(expected.iter().map(|(pattern, _)| *pattern));
    let json = json(&arguments);
    let counts: Vec<_> = expected
        .iter()
        .map(|(_, matches)| {
            rows.iter().filter(|(origin, destination)| matches(origin, destination)).count() as u64
        })
        .collect();
    let subscriptions = json["subscriptions"].as_array().expect("subscriptions");
    assert_eq!(subscriptions.len(), expected.len());
    for ((subscription, (pattern, _)), expected) in subscriptions.iter().zip(&expected).zip(&counts) {
        assert_eq!(subscription["pattern"], **pattern);
        assert_eq!(count(subscription, "delivered"), *expected, "{pattern}");
    }
    assert_eq!(count(&json, "published"), 1_000);
    assert_eq!(count(&json, "delivered"), counts.iter().sum::<u64>());
    let ledger = &json["ledger"];
    assert_eq!((&ledger["balanced"], count(ledger, "published")), (&Value::from(true), 1_000));
    assert_eq!((count(ledger, "routed"), count(ledger, "unrouted")), (counts.iter().sum(), 0));
}

#[test]
fn rows_that_nobody_wants_are_counted_as_unrouted() {
    let scratch = Scratch::new("replay-unrouted");
    let file = scratch.file("rows.csv", "a\n1\n2\n1\n");
    let json = json(&["replay", &file, "--topic", "t.{a}", "--subscribe", "t.1", "--subscribe", "t.1"]);
    let ledger = &json["ledger"];
    assert_eq!((count(ledger, "published"), count(ledger, "unrouted"), count(ledger, "routed")), (3, 1, 4));
    assert_eq!(ledger["balanced"], true);
    let delivered: Vec<_> =
        json["subscriptions"].as_array().expect("two").iter().map(|one| count(one, "delivered")).collect();
    assert_eq!(delivered, [2, 2], "the same pattern twice is two subscriptions");
}

#[test]
fn a_table_without_rows_is_replayed_to_nobody() {
    let scratch = Scratch::new("replay-empty");
    let file = scratch.file("rows.csv", "a,b\n");
    let json = json(&["replay", &file, "--topic", "t.{a}", "--subscribe", "#"]);
    assert_eq!((count(&json, "published"), count(&json["subscriptions"][0], "delivered")), (0, 0));
    assert_eq!(json["ledger"]["balanced"], true);
}

#[test]
fn a_bad_cell_in_the_last_row_is_found_before_anything_is_published() {
    let scratch = Scratch::new("replay-bad");
    for (cell, reason) in [("x y", "white space"), ("*", "wildcard"), ("", "empty"), ("a..b", "empty")] {
        let rows = "1,2\n".repeat(5_000);
        let file = scratch.file("rows.csv", format!("a,b\n{rows}1,{cell}\n"));
        run(&["replay", &file, "--topic", "t.{a}.{b}.e", "--subscribe", "#"])
            .refused(2, &["rows.csv", "line 5002", "column 'b'", reason]);
    }
}

/// Stopping in the midst of it. That a run is in the midst of it is read from `/proc`.
#[cfg(target_os = "linux")]
mod interrupted {
    use std::process::Stdio;

    use super::support::{Scratch, Seen, interrupt, program, slowdown, until, within_seconds};
    use super::{Duration, Value, count};

    /// The main thread, and all that have no name of their own; a sanitizer may add one.
    const OURS: &str = "ringmain-bench";
    /// Those that publish to an engine.
    const PUBLISHER: &str = "publisher";
    /// The engine's first consumer.
    const CONSUMER: &str = "rm-bench-0";

    /// Sends SIGINT when the run shows the sign; its JSON.
    fn interrupted(name: &str, arguments: &[&str], sign: impl Fn(&Seen) -> bool) -> Value {
        let scratch = Scratch::new(name);
        let file = scratch.path("out.json");
        let mut child = program(&[arguments, &["--json", &file]].concat())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        until(&mut child, sign);
        let (code, took) = interrupt(&mut child, "INT");
        assert_eq!(code, Some(130), "{name}");
        assert!(took < within_seconds(2), "{name}: {took:?}");
        let json: Value =
            serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("whole JSON");
        assert_eq!(json["interrupted"], true, "{name}: {json}");
        assert_eq!(json["ledger"]["balanced"], true, "{name}: {json}");
        assert!(json.get("failed_checks").is_none(), "{name}: {json}");
        json
    }

    fn publishes(publishers: usize) -> impl Fn(&Seen) -> bool {
        move |seen| seen.threads(CONSUMER) > 0 && seen.threads(PUBLISHER) == publishers
    }

    #[test]
    fn an_interrupted_latency_gives_its_partial_report_and_a_balanced_ledger() {
        let arguments = ["latency", "--duration", "3600", "--rate", "10000"];
        // Longer than it warms up.
        let json = interrupted("int-latency", &arguments, |seen| {
            seen.work_of(CONSUMER) > Duration::from_millis(250)
        });
        assert!(count(&json, "published") > 0 && count(&json["latency_ns"], "count") > 0, "{json}");
        assert_eq!(count(&json, "published"), count(&json["ledger"], "delivered"));
    }

    #[test]
    fn a_sender_that_waits_for_its_next_message_can_be_interrupted() {
        let arguments = ["latency", "--duration", "3600", "--rate", "0.001", "--publishers", "3"];
        interrupted("int-slow", &arguments, publishes(3));
    }

    #[test]
    fn throughput_and_the_main_job_can_be_interrupted() {
        interrupted("int-throughput", &["throughput", "--duration", "3600"], publishes(1));
        let crowd = ["latency", "--rate", "max", "--duration", "3600", "--publishers", "8"];
        interrupted("int-crowd", &crowd, publishes(8));
        interrupted("int-run", &["run"], publishes(1));
    }

    #[test]
    fn a_long_replay_can_be_interrupted() {
        let scratch = Scratch::new("int-replay-rows");
        let rows = 10_000_000 / slowdown() as usize;
        let file = scratch.file("rows.csv", "a\n".to_owned() + &"1234567\n".repeat(rows));
        let arguments = ["replay", &file, "--topic", "t.{a}", "--subscribe", "#"];
        // Deep in the rows.
        interrupted("int-replay", &arguments, |seen| seen.work_of(OURS) > Duration::from_millis(300));
    }
}
