//! `simulate`: the scenarios that come with the program have exactly the numbers that they state, and what is no
//! scenario is refused with its line.

mod support;

use serde_json::{Value, json};
use support::{Answer, Scratch, run};

/// A scenario that comes with the program.
fn example(name: &str) -> String {
    format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

/// What came of a scenario.
struct Outcome(Value);

/// A call: the message's number, the attempt, milliseconds, and how it went.
type Call = (u64, u64, u64, String);

impl Outcome {
    #[track_caller]
    fn of(file: &str) -> Self {
        let answer = run(&["simulate", file, "--json", "-"]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
        let outcome = Self(serde_json::from_str(&answer.stdout).expect("JSON and nothing else"));
        assert_eq!(outcome.0["ledger"]["balanced"], true, "{}", outcome.0["ledger"]);
        outcome
    }

    #[track_caller]
    fn of_example(name: &str) -> Self {
        Self::of(&example(name))
    }

    fn calls_of(&self, subscription: &str) -> Vec<Call> {
        let calls = self.0["calls"].as_array().expect("calls").iter();
        let calls = calls.filter(|call| call["subscription"] == subscription);
        calls
            .map(|call| {
                let number = |field: &str| call[field].as_u64().expect("a number");
                assert_eq!(number("at_ns") % 1_000_000, 0, "{call}");
                let outcome = call["outcome"].as_str().expect("a word").to_owned();
                (number("n"), number("attempt"), number("at_ns") / 1_000_000, outcome)
            })
            .collect()
    }

    /// When each call came, in milliseconds.
    fn moments(&self) -> Vec<u64> {
        self.calls_of("billing").into_iter().map(|(_, _, at, _)| at).collect()
    }

    /// The numbers of the messages that a subscription handled, in order.
    fn successes_of(&self, subscription: &str) -> Vec<u64> {
        let calls = self.calls_of(subscription).into_iter();
        calls.filter(|(_, _, _, outcome)| outcome == "delivered").map(|(n, ..)| n).collect()
    }

    /// A field of a subscription.
    fn field(&self, subscription: &str, field: &str) -> &Value {
        let subscriptions = self.0["subscriptions"].as_array().expect("subscriptions");
        &subscriptions.iter().find(|it| it["name"] == subscription).expect("it is there")[field]
    }

    fn letters(&self) -> &[Value] {
        self.0["dead_letters"].as_array().expect("dead letters")
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn each_message_that_fails_for_good_is_called_for_as_often_as_it_has_attempts() {
    let outcome = Outcome::of_example("exhausted");
    assert_eq!(outcome.0["calls"].as_array().expect("calls").len(), 300);
    let ledger = &outcome.0["ledger"];
    assert_eq!([&ledger["attempts"], &ledger["retries"], &ledger["dead_lettered"]], [300, 200, 100]);
    assert_eq!(outcome.letters().len(), 100);
    for (n, letter) in outcome.letters().iter().enumerate() {
        let expected =
            json!({ "n": n, "subscription": "billing", "kind": "handler", "attempts": 3, "episodes": 1 });
        assert_eq!(*letter, expected);
    }
}

#[test]
fn in_order_the_others_wait_for_the_one_that_fails() {
    let outcome = Outcome::of_example("in-order");
    assert_eq!(outcome.calls_of("billing").len(), 102);
    assert_eq!(outcome.successes_of("billing"), numbers(0..100));
}

#[test]
fn deferred_the_one_that_fails_comes_last() {
    let outcome = Outcome::of_example("deferred");
    assert_eq!(outcome.calls_of("billing").len(), 102);
    let expected: Vec<u64> = (0..100).filter(|n| *n != 10).chain([10]).collect();
    assert_eq!(outcome.successes_of("billing"), expected);
}

#[test]
fn delays_double_up_to_their_cap() {
    let outcome = Outcome::of_example("exponential");
    assert_eq!(outcome.moments(), [0, 100, 300, 700, 1_500, 2_500]);
    assert_eq!(outcome.letters()[0]["attempts"], 6);
}

#[test]
fn what_takes_longer_than_its_limit_has_timed_out_and_is_tried_again_after_it_has_returned() {
    let outcome = Outcome::of_example("time-limit");
    let call = |n, attempt, at, outcome: &str| (n, attempt, at, outcome.to_owned());
    let late = |attempt, at| call(0, attempt, at, "timed-out");
    let expected = [late(1, 0), late(2, 3_100), late(3, 6_200), call(1, 1, 13_000, "delivered")];
    assert_eq!(outcome.calls_of("billing"), expected);
    assert_eq!((&outcome.0["ledger"]["late"], outcome.field("billing", "late")), (&json!(3), &json!(3)));
    let letter =
        json!({ "n": 0, "subscription": "billing", "kind": "timed_out", "attempts": 3, "episodes": 1 });
    assert_eq!(outcome.letters(), [letter]);
}

#[test]
fn no_attempt_is_waited_for_that_would_come_too_late() {
    let outcome = Outcome::of_example("max-elapsed");
    assert_eq!(outcome.moments(), [0, 100, 300, 700]);
    // Right then, and not when the next attempt would have been due.
    assert_eq!(outcome.0["ended_at_ns"], 700_000_000);
    assert_eq!(outcome.letters().len(), 1);
}

#[test]
fn newer_values_take_the_places_of_older_ones() {
    let outcome = Outcome::of_example("conflated");
    assert_eq!(outcome.successes_of("display"), numbers(990..1_000));
    assert_eq!(outcome.field("display", "dropped_conflated"), 990);
}

#[test]
fn each_key_is_handled_once_also_where_first_attempts_fail() {
    for (name, calls) in [("idempotent", 50), ("idempotent-failing", 100)] {
        let outcome = Outcome::of_example(name);
        assert_eq!(outcome.calls_of("billing").len(), calls, "{name}");
        assert_eq!(
            [outcome.field("billing", "delivered"), outcome.field("billing", "dropped_duplicate")],
            [50, 100]
        );
    }
}

#[test]
fn four_tokens_are_out_and_each_that_is_settled_makes_room() {
    for (name, calls, waiting) in [("tokens-waiting", 4, 96), ("tokens-acknowledged", 5, 95)] {
        let outcome = Outcome::of_example(name);
        assert_eq!(outcome.calls_of("jobs").len(), calls, "{name}");
        assert!(outcome.calls_of("jobs").iter().all(|(.., outcome)| outcome == "pending"));
        assert_eq!([outcome.field("jobs", "backlogged"), outcome.field("jobs", "in_flight")], [waiting, 4]);
    }
    let outcome = Outcome::of_example("tokens-dropped");
    assert_eq!((outcome.calls_of("jobs").len(), outcome.letters().len()), (6, 1));
    assert_eq!(outcome.letters()[0]["kind"], "cancelled");
    let outcome = Outcome::of_example("tokens-late");
    assert_eq!(outcome.0["refusals"], json!([{ "step": 2, "line": 15, "reason": "too-late" }]));
    assert_eq!(outcome.0["ledger"]["late"], 1);
    assert_eq!(outcome.letters()[0]["kind"], "timed_out");
}

#[test]
fn a_filter_can_look_at_priorities() {
    let outcome = Outcome::of_example("priorities");
    assert_eq!(outcome.successes_of("urgent"), numbers(10..30));
    assert_eq!(outcome.field("urgent", "filtered"), 10);
}

#[test]
fn a_full_store_evicts_the_oldest() {
    let outcome = Outcome::of_example("store-full");
    assert_eq!(
        outcome.0["store"],
        json!({ "taken": 12_000, "held": 10_000, "replayed": 0, "evicted": 2_000, "lost": 0 })
    );
    assert_eq!(outcome.letters().len(), 10_000);
    assert_eq!(outcome.letters()[0]["n"], 2_000);
}

#[test]
fn a_replay_goes_at_its_rate_and_is_refused_while_another_runs() {
    let outcome = Outcome::of_example("replay");
    assert_eq!(outcome.successes_of("billing"), numbers(2_000..12_000));
    let calls = outcome.calls_of("billing");
    let moments: Vec<u64> = calls[12_000..].iter().map(|(_, _, at, _)| *at).collect();
    assert_eq!(moments, numbers(0..10_000));
    assert_eq!(outcome.0["refusals"], json!([{ "step": 3, "line": 16, "reason": "already-replaying" }]));
    assert_eq!([&outcome.0["ledger"]["replayed"], &outcome.0["ledger"]["delivered"]], [10_000, 10_000]);
    assert!(outcome.letters().is_empty());
}

#[test]
fn a_breaker_leaves_a_failing_handler_alone_until_its_time_has_passed() {
    let before = Outcome::of_example("breaker-before");
    assert_eq!(before.moments(), [0; 5]);
    assert_eq!(before.field("billing", "backlogged"), 995);
    assert_eq!(*before.field("billing", "breaker"), json!({ "state": "open", "changes": 1 }));
    let probe = Outcome::of_example("breaker-probe");
    assert_eq!(probe.moments(), [0, 0, 0, 0, 0, 1_000]);
    assert_eq!(*probe.field("billing", "breaker"), json!({ "state": "open", "changes": 3 }));
}

#[test]
fn a_breaker_closes_when_its_probes_go_well_and_lets_out_in_order_what_has_waited() {
    let mended = Outcome::of_example("breaker-mended");
    assert_eq!(mended.successes_of("billing"), numbers(6..1_000));
    assert_eq!(mended.field("billing", "delivered"), 994);
    assert_eq!(*mended.field("billing", "breaker"), json!({ "state": "closed", "changes": 5 }));
    assert!(mended.moments()[6..].iter().all(|at| *at == 3_000));
}

#[test]
fn what_waits_for_a_breaker_uses_up_no_attempt() {
    let outcome = Outcome::of_example("breaker-in-order");
    assert_eq!(outcome.moments(), [0, 10, 1_010]);
    assert_eq!(outcome.letters()[0]["attempts"], 3);
}

#[test]
fn a_full_backlog_gives_up_what_its_policy_says_and_a_sibling_gets_all() {
    let cases = [
        ("drop-oldest", numbers(50..150), 50, vec![]),
        ("drop-newest", numbers(0..100), 50, vec![]),
        ("dead-letter", numbers(0..100), 0, numbers(100..150)),
    ];
    for (policy, delivered, dropped, dead) in cases {
        let outcome = Outcome::of_example(&format!("backlog-{policy}"));
        assert_eq!(outcome.successes_of("display"), delivered, "{policy}");
        assert_eq!(outcome.field("display", "dropped_overflow"), dropped, "{policy}");
        let letters: Vec<u64> =
            outcome.letters().iter().map(|letter| letter["n"].as_u64().expect("a number")).collect();
        assert_eq!(letters, dead, "{policy}");
        assert_eq!(outcome.successes_of("sibling"), numbers(0..150), "{policy}");
    }
}

#[test]
fn a_pause_and_an_open_breaker_do_not_lift_each_other() {
    for (lifted, state, breaker) in [("resumed", "active", "open"), ("reset", "paused", "closed")] {
        let outcome = Outcome::of_example(&format!("paused-and-open-{lifted}"));
        assert_eq!(outcome.0["calls"], json!([]), "{lifted}");
        assert_eq!(outcome.field("billing", "backlogged"), 10, "{lifted}");
        assert_eq!(outcome.field("billing", "state"), state, "{lifted}");
        assert_eq!(outcome.field("billing", "breaker")["state"], breaker, "{lifted}");
    }
    // With both lifted all is delivered.
    let scratch = Scratch::new("simulate-lifted");
    let text = std::fs::read_to_string(example("paused-and-open-reset")).expect("the scenario");
    let file = scratch.file("both.toml", text + "[[step]]\nresume = \"billing\"\n");
    assert_eq!(Outcome::of(&file).successes_of("billing"), numbers(0..10));
}

#[test]
fn what_has_expired_makes_room_in_a_backlog() {
    let outcome = Outcome::of_example("expired");
    assert_eq!(outcome.successes_of("display"), numbers(100..200));
    for (field, count) in [("expired", 100), ("delivered", 100), ("dropped", 0)] {
        assert_eq!(outcome.field("display", field), count, "{field}");
    }
}

/// A subscription, which `more` is told of, and steps.
fn scenario(more: &str, steps: &str) -> String {
    format!("[[subscription]]\nname = \"billing\"\npatterns = [\"orders.#\"]\n{more}\n{steps}")
}

fn simulate(scratch: &Scratch, text: impl AsRef<[u8]>) -> Answer {
    run(&["simulate", &scratch.file("test.toml", text)])
}

fn outcome(scratch: &Scratch, more: &str, steps: &str) -> Outcome {
    Outcome::of(&scratch.file("test.toml", scenario(more, steps)))
}

#[test]
fn publishes_are_spread_over_time_and_filled_in() {
    let scratch = Scratch::new("simulate-publish");
    let filter = r#"filter = { header = "region", is = "r1" }"#;
    let publish =
        r#"publish = { topic = "orders.{n%2}", count = 4, every = "10ms", headers = { region = "r{n%3}" } }"#;
    let steps = format!("[[step]]\n{publish}\n[[step]]\n{publish}\n[[step]]\nshutdown = \"1s\"\n");
    let outcome = outcome(&scratch, filter, &steps);
    // The first of the second step comes right after the last of the first.
    let calls: Vec<_> = outcome.calls_of("billing").into_iter().map(|(n, _, at, _)| (n, at)).collect();
    assert_eq!(calls, [(1, 10), (4, 30), (7, 60)]);
    assert_eq!(outcome.field("billing", "filtered"), 5);
    assert_eq!([&outcome.0["published"], &outcome.0["delivered"]], [8, 3]);
}

#[test]
fn a_handler_that_takes_its_time_moves_the_clock() {
    let scratch = Scratch::new("simulate-takes");
    let steps = "[[step]]\npublish = { topic = \"orders\", count = 3 }\n";
    let outcome = outcome(&scratch, r#"handler = { takes = "2s" }"#, steps);
    assert_eq!(outcome.moments(), [0, 2_000, 4_000]);
    assert_eq!(outcome.0["ended_at_ns"], 6_000_000_000_u64);
}

#[test]
fn a_handler_fails_as_it_is_told() {
    let scratch = Scratch::new("simulate-fails");
    let steps = "[[step]]\npublish = { topic = \"orders\", count = 4 }\n[[step]]\nadvance = \"1m\"\n";
    let with = |handler: &str| {
        let more = format!("retry = {{ attempts = 3, delay = \"10ms\" }}\nhandler = {{ {handler} }}\n");
        let outcome = outcome(&scratch, &more, steps);
        let calls = outcome.calls_of("billing").into_iter();
        calls.filter(|(n, ..)| *n == 1).map(|(_, _, at, outcome)| (at, outcome)).collect::<Vec<_>>()
    };
    let calls = |calls: &[(u64, &str)]| {
        calls.iter().map(|(at, outcome)| (*at, (*outcome).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(with(r#"fails = "never""#), calls(&[(0, "delivered")]));
    assert_eq!(with(r#"fails = "odd""#), calls(&[(0, "failed"), (10, "failed"), (20, "failed")]));
    assert_eq!(with("fails = { first = 1 }"), calls(&[(0, "failed"), (10, "delivered")]));
    assert_eq!(with("fails = { numbers = [0] }"), calls(&[(0, "delivered")]));
    let panics = r#"fails = { numbers = [1], attempts = 1 }, as = "panic""#;
    assert_eq!(with(panics), calls(&[(0, "panicked"), (10, "delivered")]));
    assert_eq!(with(r#"fails = "always", as = "permanent""#), calls(&[(0, "failed")]));
    let later = r#"fails = { first = 1 }, as = "retry-after:1s""#;
    assert_eq!(with(later), calls(&[(0, "failed"), (1_000, "delivered")]));
}

#[test]
fn an_ended_subscription_keeps_its_account() {
    let scratch = Scratch::new("simulate-ended");
    let publish = "[[step]]\npublish = { topic = \"orders\", count = 5 }\n";
    let steps = format!(
        "{publish}[[step]]\npause = \"billing\"\n{publish}[[step]]\nunsubscribe = \"billing\"\n{publish}"
    );
    let outcome = outcome(&scratch, "", &steps);
    assert_eq!(outcome.field("billing", "state"), "unsubscribed");
    let expected = [("calls", 5), ("routed", 10), ("delivered", 5), ("dropped_unsubscribed", 5)];
    for (field, count) in expected {
        assert_eq!(outcome.field("billing", field), count, "{field}");
    }
    assert_eq!(outcome.0["ledger"]["unrouted"], 5);
}

/// All that is random, and much else.
const MIXED: &str = r#"
seed = 7
dead_letters = { messages = 20 }

[[subscription]]
name = "first"
patterns = ["x.#"]
retry = { attempts = 4, delay = "10ms", factor = 3, cap = "1s", jitter = "decorrelated" }
breaker = { rate = 0.5, window = 20, minimum = 10 }
handler = { takes = "1ms", fails = { rate = 0.6 }, as = "panic" }

[[subscription]]
name = "second"
patterns = ["x.*"]
retry = { attempts = 3, delay = "50ms", schedule = "linear", jitter = "full", in_order = true }
handler = { fails = { rate = 0.3 } }

[[step]]
publish = { topic = "x.{n%3}", count = 200, every = "5ms" }
[[step]]
replay = { of = "second", rate = 10 }
[[step]]
advance = "5s"
[[step]]
shutdown = "1s"
"#;

#[test]
fn the_same_file_has_the_same_answer_and_another_seed_another() {
    let scratch = Scratch::new("simulate-twice");
    for json in [&["--json", "-"][..], &[]] {
        let once = |text: &str| {
            let file = scratch.file("test.toml", text);
            let answer = run(&[&["simulate", &file], json].concat());
            assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
            answer.stdout
        };
        let first = once(MIXED);
        assert_eq!(first, once(MIXED));
        assert_ne!(first, once(&MIXED.replace("seed = 7", "seed = 8")));
    }
}

#[test]
fn the_text_tells_what_came_of_it() {
    let answer = run(&["simulate", &example("replay")]);
    let parts = [
        "12,000 published, 22,000 calls, 10 s of virtual time",
        "delivered 10,000, dead_lettered 12,000",
        "dead letters: taken 12,000, replayed 10,000, evicted 2,000",
        "step 3, line 16, was refused: already-replaying",
        "the ledger balances",
    ];
    for part in parts {
        assert!(answer.stdout.contains(part), "'{part}' is not in: {}", answer.stdout);
    }
}

#[test]
fn what_is_no_scenario_is_refused_with_line_and_reason() {
    let scratch = Scratch::new("simulate-refused");
    let step = "[[step]]\nadvance = \"1s\"\n";
    // Each stands in line 4.
    let of_subscription = [
        ("retries = {}", "unknown field `retries`"),
        ("retry = { attemps = 3 }", "unknown field `attemps`"),
        ("retry = 5", "expected a table"),
        ("retry = { attempts = \"3\" }", "invalid type: string"),
        ("retry = { attempts = 0 }", "at least 1"),
        ("retry = { attempts = 65536 }", "65536"),
        ("retry = { delay = 5 }", "a duration as text"),
        ("retry = { delay = \"5\" }", "one of ns, us, ms, s, m, h"),
        ("retry = { delay = \"1.5s\" }", "a whole number"),
        ("retry = { delay = \"87601h\" }", "longer than ten years"),
        ("retry = { schedule = \"constant\", factor = 2.0 }", "only an exponential schedule has a factor"),
        ("retry = { factor = 0.5 }", "at least 1"),
        ("retry = { factor = nan }", "at least 1"),
        ("retry = { jitter = \"some\" }", "unknown variant `some`"),
        ("breaker = {}", "consecutive, or a rate"),
        ("breaker = { consecutive = 5, window = 10 }", "window is for a rate"),
        ("breaker = { consecutive = 5, factor = 3.0 }", "factor other than 2.0 is not supported yet"),
        ("breaker = { consecutive = 5, jitter = 0.5 }", "jitter other than 0.0 and 0.1 is not supported yet"),
        ("breaker = { consecutive = 5, open = \"2m\", cap = \"1m\" }", "120s to 60s is not so"),
        ("breaker = { rate = 1.5 }", "at most 1"),
        ("breaker = { consecutive = 5, while_open = \"dead-letter\" }", "needs a store"),
        ("backlog = { when_full = \"dead-letter\" }", "needs a store"),
        ("backlog = { messages = -1 }", "integer `-1`"),
        ("backlog = { conflate_by = \"word\" }", "expected \"id\", \"topic\" or \"header:NAME\", not 'word'"),
        ("filter = { header = \"region\" }", "a header, and what it is"),
        ("filter = { priority_at_least = \"urgent\" }", "unknown variant `urgent`"),
        ("idempotent = { by = \"id\", keys = 0 }", "is to remember 0 keys"),
        ("idempotent = { by = \"id\" }\nbacklog = { conflate_by = \"topic\" }", "idempotency and conflation"),
        ("manual = { in_flight = 0 }", "0 in flight"),
        ("time_limit = \"0s\"", "time limit is 0ns, and is to be 1µs to 86400s: leave it out"),
        ("time_limit = \"25h\"", "time limit is 90000s"),
        ("time_limit = 5", "a duration as text"),
        ("manual = { in_flight = 4 }\nhandler = { fails = \"odd\" }", "does nothing else"),
        ("manual = { in_flight = 4 }\nretry = { in_order = true }", "retry in order and several in flight"),
        ("handler = { fails = \"sometimes\" }", "not \"sometimes\""),
        ("handler = { fails = { first = 1, rate = 0.5 } }", "one of first, rate, or numbers"),
        ("handler = { fails = { rate = 1.5 } }", "from 0 to 1"),
        ("handler = { as = \"retry-after:soon\" }", "not 'soon'"),
    ];
    for (line, reason) in of_subscription {
        simulate(&scratch, scenario(line, step)).refused(2, &["test.toml, line 4: ", reason]);
    }
    // Each stands in line 6.
    let of_step = [
        ("pause = \"nobody\"", "no subscription 'nobody': the subscriptions are billing"),
        ("breaker = { of = \"billing\", to = \"open\" }", "'billing' has no breaker"),
        ("handler = { of = \"billing\" }", "one is to be changed"),
        ("replay = { of = \"billing\" }", "a replay needs a store"),
        ("settle = { of = \"billing\", as = \"ack\" }", "keeps no messages"),
        ("shutdown = \"1s\"\n[[step]]\nadvance = \"1s\"", "a shutdown is the last step"),
        ("publish = { topic = \"a..b\" }", "the word is empty"),
        ("publish = { topic = \"a.{m}\" }", "'{m}'"),
        ("publish = { topic = \"a\", count = 0 }", "at least 1"),
        ("publish = { topic = \"a\", count = 1000001 }", "more than 1,000,000 messages"),
        ("publish = { topic = \"a\", priority = \"urgent\" }", "unknown variant `urgent`"),
        ("publish = { topic = \"a\", headers = { \"\" = \"x\" } }", "header"),
        ("publish = { count = 1 }", "missing field `topic`"),
    ];
    for (line, reason) in of_step {
        simulate(&scratch, scenario("", &format!("[[step]]\n{line}\n")))
            .refused(2, &["test.toml, line 6: ", reason]);
    }
    let with_store = |text: &str| format!("dead_letters = {{ messages = 1 }}\n{}", scenario("", text));
    let of_file = [
        (String::new(), "test.toml: the scenario has no [[step]]"),
        ("seed = \"x\"\n".to_owned(), "line 1: invalid type"),
        ("dead_letters = 5\n".to_owned(), "line 1: invalid type: integer `5`, expected a table"),
        ("\n[[step]\n".to_owned(), "line 2: "),
        (scenario("", "[[step]]\n"), "line 5: the step does nothing"),
        (
            scenario("", "[[step]]\nadvance = \"1s\"\npause = \"billing\"\n"),
            "line 5: a step does one thing, not 2",
        ),
        (scenario("", &scenario("", step)), "line 6: 'billing' is the name of another"),
        (scenario("", step).replace("orders.#", "orders#"), "line 3: pattern word 1"),
        (scenario("", step).replace("\"orders.#\"", ""), "line 3: a subscription has one pattern"),
        (scenario("", step).replace("name = \"billing\"", ""), "line 1: missing field `name`"),
        (scenario("", step).replace("billing", ""), "line 2: a name has 1 to 64"),
        (
            scenario("", "[[step]]\nunsubscribe = \"billing\"\n[[step]]\npause = \"billing\"\n"),
            "line 8: no subscription 'billing': an earlier step has unsubscribed it",
        ),
        (
            with_store("[[step]]\nreplay = { of = \"billing\", to = \"topic\", rate = 5 }\n"),
            "line 7: to topics all letters are published at once",
        ),
        (with_store("[[step]]\nreplay = { of = \"billing\", rate = 0 }\n"), "line 7: a rate is at least 1"),
        ("[[step]]\nadvance = \"87600h\"\n".repeat(11), "line 21: with this step the scenario lasts longer"),
    ];
    for (text, reason) in of_file {
        simulate(&scratch, &text).refused(2, &[reason]);
    }
}

#[test]
fn a_file_that_is_no_text_or_is_not_there_is_refused() {
    let scratch = Scratch::new("simulate-files");
    simulate(&scratch, b"seed = 1\n# \xFF\n").refused(2, &["test.toml, line 2, byte 2: not UTF-8"]);
    simulate(&scratch, vec![b'a'; 5 << 20]).refused(2, &["longer than 4194304 bytes"]);
    simulate(&scratch, vec![0; 1 << 20]).refused(2, &["line 1"]);
    simulate(&scratch, "[".repeat(1 << 20)).refused(2, &["line 1"]);
    simulate(&scratch, format!("a = {}", "[".repeat(1 << 20))).refused(2, &["line 1"]);
    run(&["simulate", &scratch.path("none.toml")]).refused(4, &["cannot read", "none.toml"]);
    run(&["simulate", &scratch.path("")]).refused(4, &["cannot read"]);
}
