//! `degrade`: that every row is there and adds up, that faults of each kind are noticed, and that it stops
//! when it is told to.

mod support;

use serde_json::Value;
use support::run;

fn answer(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let answer = run(&[&["degrade", "--json", "-"], arguments].concat());
    let json = serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    (answer.code, json, answer.stderr)
}

fn rows(json: &Value) -> &[Value] {
    json["shares"].as_array().unwrap_or_else(|| panic!("rows in {json}"))
}

#[track_caller]
fn count(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} is no count: {json}"))
}

/// All failed checks in one text.
fn failed(json: &Value) -> String {
    let checks = json["failed_checks"].as_array().into_iter().flatten();
    checks.map(|check| check.as_str().expect("text").to_owned() + "\n").collect()
}

#[test]
fn every_share_has_its_rows_which_add_up_to_the_message() {
    let (code, json, stderr) = answer(&["--steps", "2", "--rounds", "2", "--messages", "2400"]);
    // Whether a p99 is within its limit is the machine's to say here, and whether it can say so at all.
    let checks = failed(&json);
    assert!(checks.lines().all(|check| check.contains("p99")), "{code:?} {stderr}");
    assert!([Some(0), Some(1), Some(3)].contains(&code), "{code:?} {stderr}");
    assert_eq!((&json["schema"], &json["scenario"]), (&Value::from(1), &Value::from("degrade")));
    assert_eq!((&json["config"]["steps"], &json["config"]["section_messages"]), (&2.into(), &1_200.into()));
    assert_eq!(json["ledger"]["balanced"], true, "{json}");
    assert!(json["noise_ns"]["p99"].is_u64() && json["machine"]["cores_online"].is_string(), "{json}");
    assert_eq!(count(&json, "/alone/delivered"), 2_400);
    let shares: Vec<_> = rows(&json)
        .iter()
        .map(|row| (row["share"].as_f64().expect("a share"), row["dispatcher"].as_str().expect("a word")))
        .collect();
    let of = |share| [(share, "own"), (share, "same")];
    assert_eq!(shares, [of(0.0), of(0.5), of(1.0)].concat());
    for row in rows(&json) {
        let published = count(row, "/published");
        assert_eq!(
            (count(row, "/sections"), count(row, "/sent") + count(row, "/omitted")),
            (2, 2_400),
            "{row}"
        );
        assert!(published >= count(row, "/sent"), "{row}");
        assert_eq!(count(row, "/healthy/calls"), published, "{row}");
        assert_eq!(count(row, "/healthy/delivered"), published, "{row}");
        // A tenth of each section warms up.
        assert_eq!(count(row, "/healthy/latency_ns/count"), 2 * 1_080, "{row}");
        let [delivered, failures, dead] =
            ["delivered", "failures", "dead_lettered"].map(|field| count(row, &format!("/sick/{field}")));
        assert_eq!(delivered + dead + count(row, "/sick/dropped"), published, "{row}");
        assert_eq!(count(row, "/sick/calls"), delivered + failures, "{row}");
        let breaker = &row["sick"]["breaker"];
        assert_eq!(breaker["changes"], breaker["expected_changes"], "{row}");
        assert_eq!(count(breaker, "/recovered/closed"), 2, "{row}");
        let (expected, while_failing) = match row["share"].as_f64() {
            Some(0.0) => ("never", 0),
            _ => ("opens", 2),
        };
        assert_eq!((&breaker["expected"], count(breaker, "/opened_in")), (&expected.into(), while_failing));
    }
    let last = &rows(&json)[4];
    assert!(last.pointer("/sick/breaker/while_failing/closed").is_none(), "{last}");
    assert!(count(last, "/sick/waiting/backlogged") > 0, "{last}");
    assert_eq!(count(&rows(&json)[0], "/sick/calls"), 2_400);
}

#[test]
fn the_text_shows_both_subscriptions() {
    let answer = run(&["degrade", "--steps", "1", "--rounds", "1", "--messages", "100"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for part in
        ["the healthy one", "beside a well one (control)", "the sick one", "100 % fail, same dispatcher"]
    {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    let text = answer.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("p99 is not judged: a section has fewer than 500 messages"), "{text}");
}

#[test]
fn a_fault_of_each_kind_is_a_failed_check() {
    let faults = [
        ("lost", "calls of the healthy one and messages published"),
        ("unseen", "by the ledger and by itself"),
        ("unhealed", "is open when failures have ended, not closed"),
    ];
    for (fault, reason) in faults {
        let arguments = ["--steps", "1", "--rounds", "1", "--messages", "300", "--plant", fault];
        let (code, json, stderr) = answer(&arguments);
        assert_eq!(code, Some(1), "{fault}: {stderr}");
        assert!(failed(&json).contains(reason), "{fault}: {}", failed(&json));
        assert!(stderr.contains("check failed: ") && stderr.contains(reason), "{fault}: {stderr}");
    }
}

#[test]
fn a_healthy_subscriber_that_stands_still_beside_a_sick_one_was_hurt() {
    let arguments = ["--steps", "1", "--rounds", "3", "--messages", "6000", "--plant", "hurt"];
    let (code, json, stderr) = answer(&arguments);
    // A machine that is as slow by itself cannot tell, and says so.
    assert!([Some(1), Some(3)].contains(&code), "{code:?} {stderr}");
    let why = failed(&json) + json["too_noisy"].as_str().unwrap_or_default();
    let is_hurt = why.contains("100 % fail: the healthy one's p99 is");
    assert!(is_hurt || why.contains("controls one after the other"), "{why}");
    assert_eq!(json["ledger"]["balanced"], true);
}

#[test]
fn unusable_options_are_refused_with_a_reason() {
    let ranges = [
        ("--steps", "steps from 1 to 100"),
        ("--messages", "messages from 1 to 1000000000"),
        ("--rounds", "rounds from 1 to 1000"),
        ("--rate", "messages per second from 0.001 to 1000000000"),
    ];
    for (flag, range) in ranges {
        for value in ["0", "-1", "many", "", "1e300"] {
            run(&["degrade", flag, value]).refused(2, &[flag, range]);
        }
    }
    run(&["degrade", "--cores", "99999"]).refused(2, &["--cores", "core 99999 does not exist"]);
    run(&["degrade", "--plant", "nothing"]).refused(2, &["--plant"]);
    run(&["--quick", "degrade"]).refused(2, &["--quick"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_ends_within_two_seconds_with_a_balanced_ledger() {
    use std::process::Stdio;
    use std::time::Duration;
    let scratch = support::Scratch::new("int-degrade");
    let file = scratch.path("out.json");
    let arguments = ["degrade", "--messages", "100000000", "--json", &file];
    let mut child = support::program(&arguments).stdout(Stdio::null()).spawn().expect("the program starts");
    support::until(&mut child, |seen| seen.work_of("publisher") > Duration::from_millis(200));
    let (code, took) = support::interrupt(&mut child, "INT");
    assert_eq!(code, Some(130));
    assert!(took <= support::within_seconds(2), "{took:?}");
    let json: Value = serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("whole JSON");
    assert_eq!((&json["interrupted"], &json["ledger"]["balanced"]), (&true.into(), &true.into()), "{json}");
    assert!(json.get("failed_checks").is_none(), "{json}");
}
