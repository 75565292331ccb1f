//! Open-loop load that hides nothing: every message that came due is sent, be it late, or recorded
//! as omitted, whoever stood still.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Scratch, run};

const MS: u64 = 1_000_000;

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
    let notes = json["notes"].as_array().into_iter().flatten();
    notes.map(|note| note.as_str().expect("text").to_owned() + "\n").collect()
}

/// Every message that came due is there, and each has a lateness.
#[track_caller]
fn accounts_for(json: &Value, due: u64) {
    let (sent, omitted, late) = (count(json, "sent"), count(json, "omitted"), count(json, "late"));
    assert_eq!(sent + omitted, due, "{json}");
    assert!(late <= sent, "{json}");
    assert_eq!(count(&json["lateness_ns"], "count"), due, "{json}");
    assert_eq!(count(json, "published"), sent, "{json}");
    assert_eq!(json["ledger"]["balanced"], true, "{json}");
    // What is missing arrived while everything was warmed up, and none of that was omitted.
    let recorded = count(&json["latency_ns"], "count");
    assert!(omitted <= recorded && recorded <= due, "{json}");
}

/// Stops the program in the midst of its load. That it is there is read from `/proc`.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_was_stopped_sends_all_that_came_due_and_says_how_late() {
    use std::cell::Cell;
    use std::process::Stdio;
    use std::time::Instant;

    let scratch = Scratch::new("stopped");
    let file = scratch.path("out.json");
    // So few messages that they all are of one part: 980, in 1.4 seconds.
    let arguments = ["latency", "--rate", "700", "--duration", "1.4", "--json", &file];
    let mut child = support::program(&arguments).stdout(Stdio::null()).spawn().expect("the program starts");
    // The second stop outlasts the last message's due time, and the patience with a slow publisher.
    for stop in [Duration::from_millis(300), Duration::from_millis(1_500)] {
        let seen_since = Cell::new(None);
        support::until(&mut child, |seen| {
            seen.threads("publisher") == 1
                && seen_since
                    .replace(Some(seen_since.get().unwrap_or_else(Instant::now)))
                    .is_some_and(|since: Instant| since.elapsed() > Duration::from_millis(100))
        });
        support::stop_for(&mut child, stop);
    }
    let (code, _) = support::wait(&mut child);
    assert_eq!(code, Some(0));
    let json: Value = serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("JSON");
    accounts_for(&json, 980);
    assert_eq!((count(&json, "omitted"), &json["saturated"]), (0, &Value::from(false)), "{json}");
    // Those that came due in the stops, but for the last ones of the first.
    assert!(count(&json, "late") >= 250, "{json}");
    for times in ["latency_ns", "lateness_ns"] {
        assert!(count(&json[times], "p99") > 1_200 * MS, "{times}: {json}");
        assert!(count(&json[times], "max") >= 1_300 * MS, "{times}: {json}");
    }
    // Where a publisher's core is shared, it may have slept in the engine's call when it was
    // stopped.
    let stalls = |who: &str| json[who]["total_ns"].as_u64().unwrap_or(0);
    assert!(stalls("machine_stalls") + stalls("publish_stalls") >= 1_700 * MS, "{json}");
    let notes = notes(&json);
    assert!(notes.contains("stood still") || notes.contains("held a publisher up"), "{notes}");
    assert!(!notes.contains("were asked for"), "it was not saturated: {notes}");
}

#[test]
fn a_handler_that_stands_still_delays_all_that_came_due_meanwhile() {
    // A payload below 8 bytes has no room for the moment at which it was due.
    for payload in ["64", "4"] {
        let json = json(&[
            "latency",
            "--rate",
            "2000",
            "--duration",
            "1",
            "--payload",
            payload,
            "--capacity",
            "64",
            "--wait",
            "blocking",
            "--plant-stall",
            "0.7",
        ]);
        accounts_for(&json, 2_000);
        assert_eq!((count(&json, "omitted"), &json["saturated"]), (0, &Value::from(false)), "{json}");
        // The stall begins after 50 of the first part's 500 ms, and ends after all of it came due.
        let latency = &json["latency_ns"];
        assert!(count(latency, "p90") > 250 * MS, "{json}");
        assert!(count(latency, "p99") > 600 * MS, "{json}");
        // Ring and handler hold 65 messages.
        assert!(count(&json, "late") >= 700, "{json}");
        assert!(count(&json["publish_stalls"], "longest_ns") > 400 * MS, "{json}");
        assert!(notes(&json).contains("held a publisher up"), "{json}");
    }
}

#[test]
fn what_a_saturated_publisher_did_not_send_is_counted_and_weighs_in_every_percentile() {
    let json = json(&["latency", "--rate", "1e9", "--duration", "0.1", "--subscribers", "2"]);
    assert_eq!(count(&json, "sent") + count(&json, "omitted"), 100_000_000, "{json}");
    assert_eq!(json["saturated"], true, "{json}");
    assert!(notes(&json).contains("were asked for") && notes(&json).contains("were not sent"), "{json}");
    // Two subscribers did not get what was omitted.
    let recorded = count(&json["latency_ns"], "count");
    assert!(recorded >= 2 * count(&json, "omitted") && recorded <= 200_000_000, "{json}");
    // Far more than half of a load that nothing can carry came due and waited to the end.
    assert!(count(&json["latency_ns"], "p50") > 20 * MS, "{json}");
}

#[test]
fn a_load_without_a_rate_has_nothing_that_came_due() {
    let json = json(&["latency", "--rate", "max", "--duration", "0.05"]);
    for field in ["sent", "omitted", "late", "lateness_ns", "saturated"] {
        assert!(json.get(field).is_none(), "{field}: {json}");
    }
}

#[test]
fn the_text_says_what_was_late_and_what_was_omitted() {
    let answer = run(&["latency", "--rate", "1e9", "--duration", "0.05"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.contains("verdict: this load is beyond saturation"), "{}", answer.stdout);
    for part in ["came due", "50,000,000", "sent", "1 ms late", "omitted", "publishers' lateness"] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_load_accounts_for_all_that_came_due_before() {
    use std::process::Stdio;
    let scratch = Scratch::new("cut-short");
    let file = scratch.path("out.json");
    // Messages come due for 56 seconds, and the engine stands still when it is interrupted.
    let arguments = [
        "latency",
        "--rate",
        "1000",
        "--duration",
        "3600",
        "--capacity",
        "16",
        "--plant-stall",
        "0.6",
        "--wait",
        "blocking",
        "--json",
        &file,
    ];
    let mut child = support::program(&arguments).stdout(Stdio::null()).spawn().expect("the program starts");
    support::until(&mut child, |seen| seen.work_of("publisher") > Duration::from_millis(100));
    let (code, _) = support::interrupt(&mut child, "INT");
    assert_eq!(code, Some(130));
    let json: Value = serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("JSON");
    accounts_for(&json, count(&json, "sent") + count(&json, "omitted"));
}
