//! `cost`: that each feature has its row, on and off, and that nothing is lost on the way.

mod support;

use serde_json::Value;
use support::run;

fn json(arguments: &[&str]) -> Value {
    let answer = run(&[&["cost", "--json", "-"], arguments].concat());
    assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
    serde_json::from_str(&answer.stdout).expect("JSON and nothing else")
}

#[test]
fn each_feature_has_a_row_with_its_pairs_and_their_spread() {
    // More than one block, the second of which is not whole.
    let json = json(&["--pairs", "60"]);
    assert_eq!((&json["schema"], &json["scenario"]), (&Value::from(1), &Value::from("cost")));
    assert_eq!((&json["config"]["pairs"], &json["ledger"]["balanced"]), (&60.into(), &true.into()), "{json}");
    let rows = json["costs"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().map(|row| row["case"].as_str().expect("a name")).collect();
    let features = [
        "nothing: the same twice",
        "a filter of the payload",
        "a filter of a header",
        "retry, armed",
        "breaker, closed",
        "time limit, kept",
        "idempotency by id",
        "idempotency by payload",
        "conflation, nothing to conflate",
        "backlog, armed",
        "dead letters, on",
        "rescuable, nothing stuck",
        "on_error, never called",
        "a second subscription",
        "publish_with, no options",
        "one header",
        "a correlation id",
        "an expiry",
    ];
    assert_eq!(names, features);
    assert_eq!(json["config"]["cases"], Value::from(features.to_vec()));
    let has_counter = json.get("instructions_unavailable").is_none();
    for row in rows {
        assert_eq!(row["pairs"], 60, "{row}");
        let mut figures = vec!["deliver_ns", "publish_ns"];
        let counted = ["deliver_instructions", "publish_instructions"];
        assert!(counted.iter().all(|figure| row.get(figure).is_some() == has_counter), "{row}");
        if has_counter {
            figures.extend(counted);
        }
        for figure in figures.iter().map(|figure| &row[figure]) {
            let of = |path: &str| figure.pointer(path).and_then(Value::as_f64).expect("a number");
            assert!(of("/off") > 0.0 && of("/on") > 0.0, "{row}");
            assert!(of("/difference").total_cmp(&of("/spread/median")).is_eq(), "{row}");
            assert!(of("/spread/min") <= of("/spread/q1") && of("/spread/q3") <= of("/spread/max"), "{row}");
        }
    }
    // A second call costs something, on any machine.
    let second = rows.iter().find(|row| row["case"] == "a second subscription").expect("it has a row");
    let second = &second["deliver_ns"];
    assert!(second["difference"].as_f64() > Some(0.0), "{second}");
}

#[test]
fn the_text_says_how_far_off_it_may_be_and_where_instructions_are_counted() {
    let answer = run(&["cost", "--pairs", "2"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let text = answer.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["verdict: a plain delivery takes", "ns a message", "breaker, closed", "lets the other rows"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let is_counted = text.contains("instructions a message");
    assert_eq!(is_counted, !text.contains("scripts/instructions.sh"), "{text}");
}

#[test]
fn unusable_options_are_refused_with_a_reason() {
    for pairs in ["0", "-1", "1000001", "many", ""] {
        run(&["cost", "--pairs", pairs]).refused(2, &["--pairs", "pairs from 1 to 1000000"]);
    }
    run(&["cost", "--cores", "0"]).refused(2, &["--cores"]);
    run(&["--quick", "cost"]).refused(2, &["--quick"]);
}
