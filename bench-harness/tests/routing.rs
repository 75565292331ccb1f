//! `routing`: that every row is there and judged, that any number of patterns will do, and that it
//! stops when it is told to.

mod support;

use serde_json::Value;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use support::run;

/// The rows of a build without the rival, which adds one.
const ROWS: [&str; 29] = [
    "publish: a bound topic adds to the ring alone",
    "publish: a remembered topic, 1 of 100, adds to a bound one",
    "publish: a remembered topic, 1 of 1000, adds to a bound one",
    "table: subscriptions, a pattern each",
    "table: distinct patterns",
    "subscribe, all in one swap, each",
    "memory of a distinct pattern",
    "memory of a subscription",
    "matches a topic: median",
    "matches a crowded topic: median",
    "match, warm, median",
    "match, warm, p99",
    "match, cold, median",
    "match, cold, p99",
    "match, crowded, median",
    "match, crowded, p99",
    "subscribe, one swap, median",
    "subscribe, one swap, p99",
    "unsubscribe, one swap, median",
    "unsubscribe, one swap, p99",
    "reclaim after a swap, median",
    "reclaim after a swap, p99",
    "match among 10000 patterns: ringmain over linear scan",
    "churn: publish p99.9, the call alone, with churn over without",
    "churn: publish p99.9, from when it was due, with churn over without",
    "churn: subscribed and unsubscribed, a second",
    "hot topics: beside ever-new ones over beside hot ones",
    "ever-new topics: a publish, all threads on one core",
    "ever-new topics: memory kept of each",
];

/// Held for writing by the test that measures how long something takes, and for reading by those that keep the machine
/// busy.
static ALONE: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(PoisonError::into_inner)
}

fn json(arguments: &[&str]) -> Value {
    let answer = run(&[&["routing", "--quick", "--json", "-"], arguments].concat());
    assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
    assert_eq!(answer.stderr.contains("--features rivals"), !cfg!(feature = "rivals"), "{}", answer.stderr);
    serde_json::from_str(&answer.stdout).expect("JSON and nothing else")
}

fn list<'j>(json: &'j Value, field: &str) -> &'j [Value] {
    json[field].as_array().unwrap_or_else(|| panic!("{field} in {json}"))
}

fn figure<'j>(json: &'j Value, case: &str) -> &'j Value {
    list(json, "figures")
        .iter()
        .find(|figure| figure["case"] == case)
        .unwrap_or_else(|| panic!("{case} in {json}"))
}

/// Whether a sanitizer runs along.
fn is_slowed_down() -> bool {
    std::env::var_os("RINGMAIN_SLOWDOWN").is_some()
}

#[test]
fn every_row_is_there_with_its_spread_and_judged() {
    let _beside_others = beside_others();
    // Under a sanitizer the publisher cannot keep its pace, and rows of churn have no figure.
    if is_slowed_down() {
        return;
    }
    let json = json(&["--patterns", "20000"]);
    assert_eq!((&json["schema"], &json["scenario"]), (&Value::from(1), &Value::from("routing")));
    assert_eq!(
        (&json["config"]["patterns"], &json["config"]["rounds"]),
        (&Value::from(20_000), &Value::from(3))
    );
    assert_eq!(json["config"]["rivals"], cfg!(feature = "rivals"));
    assert!(json["config"]["seed"].is_u64() && json["noise_ns"]["p99"].is_u64(), "{json}");
    assert!(json.get("failed_checks").is_none() && json.get("interrupted").is_none(), "{json}");
    assert_eq!(json["ledger"]["balanced"], true);
    assert!(json["ledger"]["delivered"].as_u64() > Some(0), "{json}");

    let figures = list(&json, "figures");
    for case in ROWS {
        figure(&json, case);
    }
    assert_eq!(figures.len(), ROWS.len() + usize::from(cfg!(feature = "rivals")), "{json}");
    for figure in figures {
        let of =
            |field: &str| figure["spread"][field].as_f64().unwrap_or_else(|| panic!("{field} of {figure}"));
        assert!(of("min") <= of("median") && of("median") <= of("max"), "{figure}");
        assert_eq!(figure["value"].as_f64(), Some(of("median")));
    }
    for bound in list(&json, "bounds") {
        let figure = figure(&json, bound["name"].as_str().expect("a name"));
        assert_eq!((&bound["value"], &bound["unit"]), (&figure["value"], &figure["unit"]));
        let (value, limit) = (bound["value"].as_f64(), bound["bound"].as_f64());
        let is_met = if bound["side"] == "at-most" { value <= limit } else { value >= limit };
        assert_eq!(bound["met"], is_met, "{bound}");
    }
    for case in [
        "match, warm, p99",
        "subscribe, one swap, median",
        "churn: publish p99.9, the call alone, with churn over without",
    ] {
        assert!(list(&json, "bounds").iter().any(|bound| bound["name"] == case), "{case} is held to nothing");
    }
}

#[test]
fn contenders_take_turns_and_are_compared_with_the_first() {
    let _beside_others = beside_others();
    let json = json(&["--patterns", "10000"]);
    let results = list(&json, "results");
    let contenders = |case: &str| {
        let of_case = results.iter().filter(|result| result["case"] == case);
        of_case.map(|result| result["contender"].as_str().expect("a name")).collect::<Vec<_>>()
    };
    let rivals: &[&str] =
        if cfg!(feature = "rivals") { &["ringmain", "zenoh-keyexpr KeBoxTree"] } else { &[] };
    assert_eq!(contenders("match among 10000 patterns"), [rivals, &["ringmain", "linear scan"]].concat());
    assert_eq!(
        contenders("publish call 64 B"),
        ["bound topic", "ring alone", "remembered topic, 1 of 100", "remembered topic, 1 of 1000"]
    );
    for what in ["from when it was due p50", "from when it was due p99.9", "the call alone p99.9"] {
        let case = format!("churn: publish, {what}");
        assert_eq!(contenders(&case), ["without churn", "with 1000 pairs/s"], "{case}");
    }
    // A million a second come due, whatever becomes of them: 100 ms in each of 3 rounds.
    for result in results
        .iter()
        .filter(|result| result["case"].as_str().is_some_and(|case| case.contains("from when it was due")))
    {
        let of = |field: &str| result[field].as_u64().unwrap_or_else(|| panic!("{field}: {result}"));
        assert_eq!(of("sent") + of("omitted"), 300_000, "{result}");
    }
    assert_eq!(
        contenders("hot topics beside another publisher"),
        ["to hot topics too", "to ever-new topics"]
    );
    // Under a sanitizer the publisher cannot keep its pace, and gives up before its times count.
    if !is_slowed_down() {
        assert!(results.iter().all(|result| result["ns_per_message"].as_f64() > Some(0.0)), "{json}");
    }
    assert_eq!(results[0]["ratio"], 1.0);
}

#[test]
fn any_number_of_patterns_will_do() {
    let _beside_others = beside_others();
    // A sanitizer sees the same code at work with either, and takes minutes for each.
    let counts: &[u32] = if is_slowed_down() { &[1_000] } else { &[1, 1_000] };
    for &count in counts {
        let json = json(&["--patterns", &count.to_string()]);
        assert_eq!(figure(&json, "table: subscriptions, a pattern each")["value"], f64::from(count));
        let crowd = figure(&json, "matches a crowded topic: median")["value"].as_f64();
        assert_eq!(crowd, Some(f64::from(count / 100)));
        assert!(figure(&json, "match, warm, median")["value"].as_f64() > Some(0.0));
        let weighed =
            list(&json, "bounds").iter().any(|bound| bound["name"] == "memory of a distinct pattern");
        assert!(!weighed, "what an empty table takes counts for more than {count} patterns");
    }
}

#[test]
fn a_missed_bound_fails_only_where_it_is_checked() {
    let _beside_others = beside_others();
    // What a sanitizer could see there it sees in the other tests.
    if is_slowed_down() {
        return;
    }
    let answer = run(&["routing", "--quick", "--patterns", "1000", "--check", "--json", "-"]);
    let json: Value = serde_json::from_str(&answer.stdout).expect("JSON and nothing else");
    let is_missed = list(&json, "bounds").iter().any(|bound| bound["met"] == false);
    let expected: &[Option<i32>] = if is_missed { &[Some(1), Some(3)] } else { &[Some(0)] };
    assert!(expected.contains(&answer.code), "{answer:?}");
    assert_eq!(json["failed_checks"].is_array() || json["too_noisy"].is_string(), is_missed, "{json}");
}

#[test]
fn unusable_options_are_refused_with_a_reason() {
    for count in ["0", "-1", "10000001", "many", "1.5", ""] {
        run(&["routing", "--patterns", count]).refused(2, &["--patterns", "patterns from 1 to 10000000"]);
    }
    run(&["routing", "--cores", "99999"]).refused(2, &["--cores", "core 99999 does not exist"]);
    run(&["routing", "--rate", "1"]).refused(2, &["--rate"]);
    run(&["--quick", "routing"]).refused(2, &["--quick"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_ends_within_two_seconds() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    use std::time::Duration;
    // While patterns are made, while they are subscribed to, and among the rounds.
    for (patterns, worked) in [("10000000", 300), ("1000000", 3_000), ("1000", 1_500)] {
        let mut child =
            support::program(&["routing", "--patterns", patterns]).spawn().expect("the program starts");
        support::until(&mut child, |seen| seen.worked > Duration::from_millis(worked));
        let (code, took) = support::interrupt(&mut child, "INT");
        assert_eq!(code, Some(130), "with {patterns} patterns");
        assert!(took <= support::within_seconds(2), "with {patterns} patterns: {took:?}");
    }
}
