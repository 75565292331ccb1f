//! The comparisons: the form of their JSON, how cases are chosen, and that they stop when they are
//! told to.

mod support;

use serde_json::Value;
use support::run;

/// What `--only` is given to play ping-pong. Sanitizers are for our code, and do not understand all
/// that rivals do.
fn ping_pong() -> &'static str {
    match std::env::var_os("RINGMAIN_SLOWDOWN") {
        Some(_) => "floor (two atomics)",
        None => "ping-pong",
    }
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let answer = run(&[arguments, &["--json", "-"]].concat());
    assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
    let has_rivals = cfg!(feature = "rivals");
    assert_eq!(answer.stderr.contains("--features rivals"), !has_rivals, "{}", answer.stderr);
    serde_json::from_str(&answer.stdout).expect("JSON and nothing else")
}

#[track_caller]
fn results(json: &Value) -> &[Value] {
    json["results"].as_array().expect("results")
}

#[test]
fn ping_pong_is_compared_in_the_same_rounds() {
    let json = json(&["compare", "--quick", "--only", ping_pong()]);
    assert_eq!((&json["schema"], &json["scenario"]), (&Value::from(1), &Value::from("compare")));
    assert_eq!(json["config"]["rounds"], 3);
    assert_eq!(json["config"]["rivals"], cfg!(feature = "rivals"));
    assert!(json["machine"]["cores_online"].is_string() && json["noise_ns"]["p99"].is_u64(), "{json}");
    assert!(json.get("failed_checks").is_none() && json.get("interrupted").is_none(), "{json}");
    let results = results(&json);
    assert_eq!(results.first().map(|ours| &ours["contender"]), Some(&Value::from("ringmain")));
    assert_eq!(results.last().map(|floor| &floor["contender"]), Some(&Value::from("floor (two atomics)")));
    if cfg!(feature = "rivals") && ping_pong() == "ping-pong" {
        assert!(results.len() >= 10, "{json}");
    }
    // Where there is one core there is no round trip, and on a machine that is busy a round may
    // come to nothing.
    if json["mode"].is_null() || results[0]["ns_per_message"].is_null() {
        return;
    }
    assert!(json["floor_ns"]["round_trip"].is_f64());
    for round in json["rounds"].as_array().expect("rounds") {
        assert!(
            round["floor_ns"].is_f64() && ["near", "far"].contains(&round["mode"].as_str().expect("a mode"))
        );
    }
    assert_eq!(results[0]["ratio"], 1.0);
    for result in results.iter().filter(|result| result["ns_per_message"].is_f64()) {
        assert_eq!(result["case"], "ping-pong 56 B 1024");
        let of = |field: &str| result["spread"][field].as_f64().expect(field);
        assert!(of("min") <= of("median") && of("median") <= of("max"), "{result}");
        assert_eq!(result["ns_per_message"].as_f64(), Some(of("median")));
        assert_eq!(result["ratio"], result["ratio_spread"]["median"]);
    }
}

#[test]
fn a_section_tells_its_regime_and_a_latency_its_percentiles() {
    let only = "ringmain multi,handler alone";
    let json = json(&["compare", "--quick", "--rounds", "1", "--only", only]);
    let results = results(&json);
    let of = |contender: &str| results.iter().filter(|result| result["contender"] == contender).count();
    assert_eq!(of("handler alone"), 3, "{json}");
    let multi = results.iter().find(|result| result["contender"] == "ringmain multi").expect("ours");
    assert!(multi["ns_per_message"].is_f64() && multi["mean_batch"].as_f64() >= Some(1.0), "{multi}");
    assert!(results.iter().any(|result| result["least_share"].is_f64()), "{json}");
    let json =
        crate::json(&["compare", "--quick", "--rounds", "1", "--only", "latency at 10 %,ringmain multi"]);
    let cases: Vec<_> = crate::results(&json).iter().filter_map(|result| result["case"].as_str()).collect();
    let is_paced =
        |result: &&Value| result["case"].as_str().is_some_and(|case| case.starts_with("latency at"));
    for result in crate::results(&json).iter().filter(is_paced) {
        // Every event that came due is accounted for.
        if result["sent"].is_null() {
            // A machine so slow that full speed was nothing within the section.
            assert!(json["notes"].to_string().contains("nothing was measured"), "{json}");
            continue;
        }
        let of = |field: &str| result[field].as_u64().unwrap_or_else(|| panic!("{field}: {result}"));
        assert_eq!(of("sent") + of("omitted"), result["lateness_ns"]["count"].as_u64().expect("a count"));
        assert!(of("late") <= of("sent") && result["saturated"].is_boolean(), "{result}");
    }
    for what in ["p50", "p99"] {
        assert!(
            cases.contains(&format!("latency at 10 % of saturation 64 B 1024 {what}").as_str()),
            "{cases:?}"
        );
    }
}

#[test]
fn bounds_are_judged_and_a_missed_one_fails_only_where_it_is_checked() {
    let full_ring = ["compare", "--quick", "--rounds", "1", "--only", "handler alone"];
    let judged = json(&full_ring);
    let bounds = judged["bounds"].as_array().expect("ours beside the handler alone");
    assert!(bounds.len() <= 3, "{judged}");
    for bound in bounds {
        let (most, value) =
            (bound["bound"].as_f64().expect("a bound"), bound["value"].as_f64().expect("a value"));
        assert!(bound["name"].as_str().is_some_and(|name| name.contains("handler alone")), "{bound}");
        assert_eq!((&bound["side"], &bound["unit"]), (&Value::from("at-most"), &Value::from("ns")));
        assert_eq!(bound["met"], value <= most, "{bound}");
    }
    let unasked = run(&full_ring).stdout;
    assert!(
        !unasked.contains("allowed") && !unasked.contains("bound"),
        "nobody asked for a verdict: {unasked}"
    );
    let asked = run(&[&full_ring[..], &["--check"]].concat()).stdout;
    assert!(asked.contains("allowed") && asked.contains("handler alone"), "{asked}");
    let checked = run(&[&full_ring[..], &["--check", "--json", "-"]].concat());
    let json: Value = serde_json::from_str(&checked.stdout).expect("JSON and nothing else");
    let missed = json["bounds"].as_array().expect("bounds").iter().any(|bound| bound["met"] == false);
    let expected: &[Option<i32>] = if missed { &[Some(1), Some(3)] } else { &[Some(0)] };
    assert!(expected.contains(&checked.code), "{checked:?}");
    assert_eq!(json["failed_checks"].is_array() || json["too_noisy"].is_string(), missed, "{json}");
}

#[test]
fn churn_tells_the_time_of_a_call_with_and_without_it() {
    let json = json(&["compare", "--quick", "--rounds", "1", "--only", "churn"]);
    let rows: Vec<_> =
        results(&json).iter().map(|result| (result["case"].as_str(), result["contender"].as_str())).collect();
    let row = |what, contender| (Some(what), Some(contender));
    let (p50, tail) = ("churn: a publish call 64 B 1024 p50", "churn: a publish call 64 B 1024 p99.9");
    let (alone, beside) = ("ringmain", "ringmain with 1000 joins/s");
    assert_eq!(rows, [row(p50, alone), row(p50, beside), row(tail, alone), row(tail, beside)]);
    assert!(results(&json)[3]["ratio"].as_f64() > Some(0.0), "{json}");
    assert_eq!(json["bounds"][0]["bound"], 2.0);
}

#[test]
fn topologies_run_through_our_ring() {
    let json = json(&["topology", "--quick", "--rounds", "1", "--only", "diamond,pipeline"]);
    let results = results(&json);
    let ours = results.iter().filter(|result| result["contender"] == "ringmain" && result["ratio"] == 1.0);
    assert_eq!(ours.count(), 2, "{json}");
    assert_eq!(json["scenario"], "topology");
}

#[test]
fn a_word_that_names_nothing_is_refused_with_the_cases_there_are() {
    for command in ["compare", "topology"] {
        run(&[command, "--only", "no-such-thing"])
            .refused(2, &["--only", "'no-such-thing'", "the cases are"]);
    }
    run(&["compare", "--rounds", "0"]).refused(2, &["--rounds", "'0'", "from 1 to 1000"]);
    run(&["topology", "--cores", "99999"]).refused(2, &["--cores", "core 99999 does not exist"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_comparison_ends_in_order_within_two_seconds() {
    use std::time::Duration;
    let mut child =
        support::program(&["compare", "--only", "ringmain,ping-pong"]).spawn().expect("the program starts");
    // Its start takes a few milliseconds, its sections many seconds.
    support::until(&mut child, |seen| seen.worked > Duration::from_millis(300));
    let (code, took) = support::interrupt(&mut child, "INT");
    assert_eq!(code, Some(130));
    assert!(took <= support::within_seconds(2), "{took:?}");
}
