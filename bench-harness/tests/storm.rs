//! All policies of subscriptions at once, under handlers that fail in all ways: scenarios made by chance, run by the
//! program's own code, and judged beside a model that is not the engine's.
//!
//! `RINGMAIN_STORM_SEEDS` says how many seeds are tried, from 0 on, and `RINGMAIN_STORM_SEED` a single one. A scenario
//! that fails is made as short as can be and left in a file for `ringmain-bench simulate`, which shows its calls.

mod storm_support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use storm_support::answer::Answer;
use storm_support::generate;
use storm_support::judge::judge;
use storm_support::scenario::Scenario;
use storm_support::shrink::shrink;

/// Seeds of a usual run.
const SEEDS: u64 = 10_000;
/// One scenario of so many is run twice.
const TWICE: u64 = 10;

/// What is wrong with the answer to a scenario; or how many subscriptions were followed by a model.
fn tried(scenario: &Scenario, is_run_twice: bool) -> Result<usize, String> {
    let text = scenario.to_string();
    let answered = || catch_unwind(AssertUnwindSafe(|| ringmain_bench::run_scenario(&text)));
    let json = match answered() {
        Ok(Ok(json)) => json,
        Ok(Err(refusal)) => return Err(refusal),
        Err(_) => return Err("the program panicked".to_owned()),
    };
    if is_run_twice && answered().ok() != Some(Ok(json.clone())) {
        return Err("the second answer is not the first".to_owned());
    }
    match serde_json::from_str::<Answer>(&json) {
        Ok(answer) => judge(scenario, &answer),
        Err(error) => Err(format!("its JSON: {error}")),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a whole number"))
}

#[test]
fn whatever_is_asked_for_and_whatever_fails_each_message_ends_as_was_promised() {
    let seeds = match number("RINGMAIN_STORM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGMAIN_STORM_SEEDS").unwrap_or(SEEDS),
    };
    let (mut subscriptions, mut followed) = (0, 0);
    for seed in seeds.clone() {
        let scenario = generate::scenario(seed);
        let is_run_twice = seed % TWICE == 0;
        let wrong = match tried(&scenario, is_run_twice) {
            Ok(number) => {
                subscriptions += scenario.subscriptions.len();
                followed += number;
                continue;
            }
            Err(wrong) => wrong,
        };
        let still_fails = |shorter: &Scenario| {
            shorter.is_clear()
                && ringmain_bench::check_scenario(shorter.to_string().as_bytes()).is_ok()
                && tried(shorter, is_run_twice).is_err()
        };
        let short = shrink(scenario, still_fails);
        let said = tried(&short, is_run_twice).err().unwrap_or(wrong);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("storm-{seed}.toml"));
        let comment: String = said.lines().map(|line| format!("# {line}\n")).collect();
        std::fs::write(&path, format!("{comment}{short}")).expect("a scratch file");
        panic!("RINGMAIN_STORM_SEED={seed}: {said}\nringmain-bench simulate {}\n{short}", path.display());
    }
    println!("{subscriptions} subscriptions, of which {followed} were followed by their models");
    // A handler that takes its time, or letters that were evicted before a replay, leave a model nothing to go by.
    assert!(seeds.end - seeds.start < 1_000 || followed * 3 > subscriptions * 2, "most are to be followed");
}
