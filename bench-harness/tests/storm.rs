//! All policies of subscriptions at once, under handlers that fail in all ways: scenarios made by chance, run by the
//! program's own code, and judged beside a model that is not the engine's.
//!
//! `RINGMAIN_STORM_SEEDS` says how many seeds are tried, from 0 on, and `RINGMAIN_STORM_SEED` a single one. A scenario
//! that fails is made as short as can be and left in a file, whose head says what is wrong: `ringmain-bench simulate`
//! shows its calls, and `RINGMAIN_STORM_FILE` has this test judge it again.

mod storm_support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use storm_support::answer::Answer;
use storm_support::generate::{self, Random};
use storm_support::judge::judge;
use storm_support::read::read;
use storm_support::scenario::{Scenario, Step};
use storm_support::shrink::shrink;

/// Seeds of a usual run.
const SEEDS: u64 = 8_000;
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

/// The number in an environment variable, if it is there.
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

#[test]
fn a_file_that_was_left_is_the_scenario_that_failed() {
    if let Ok(file) = std::env::var("RINGMAIN_STORM_FILE") {
        let scenario = read(&std::fs::read_to_string(&file).expect("a file of this test's"));
        assert_eq!(tried(&scenario, true).err(), None, "{file}");
    }
    for seed in 0..500 {
        let text = generate::scenario(seed).to_string();
        assert_eq!(read(&text).to_string(), text, "RINGMAIN_STORM_SEED={seed}");
    }
}

#[test]
fn a_scenario_that_fails_is_made_short() {
    let is_at_fault = |scenario: &Scenario| {
        let is_resumed = |of| scenario.steps.iter().any(|step| matches!(step, Step::Resume(it) if *it == of));
        scenario.steps.iter().any(|step| matches!(step, Step::Pause(of) if is_resumed(*of)))
    };
    let found = (0..).map(generate::scenario).filter(is_at_fault);
    for scenario in found.filter(|scenario| scenario.steps.len() > 15).take(5) {
        let short = shrink(scenario, is_at_fault);
        assert_eq!((short.steps.len(), short.subscriptions.len()), (2, 1), "{short}");
    }
}

/// A change of an answer. Returns whether it has changed something.
type Tampering = fn(&mut Answer, &mut Random) -> bool;

/// What an engine at fault might answer.
const TAMPERINGS: [(&str, Tampering); 13] = [
    ("a call is missing", |answer, random| {
        let place = random.place_in(&answer.calls);
        place.is_some_and(|place| answer.calls.remove(place).attempt > 0)
    }),
    ("a call is made twice", |answer, random| {
        let Some(place) = random.place_in(&answer.calls) else { return false };
        answer.calls.insert(place, answer.calls[place].clone());
        true
    }),
    ("a call has another attempt's number", |answer, random| {
        let Some(place) = random.place_in(&answer.calls) else { return false };
        answer.calls[place].attempt += 1;
        true
    }),
    ("two messages change places", |answer, _| {
        let is_pair = |pair: &[_]| {
            let [one, other]: &[storm_support::answer::Call; 2] = pair.try_into().expect("two");
            one.subscription == other.subscription
                && one.n != other.n
                && one.attempt == 1
                && other.attempt == 1
        };
        let Some(place) = answer.calls.windows(2).position(is_pair) else { return false };
        let n = answer.calls[place].n;
        answer.calls[place].n = answer.calls[place + 1].n;
        answer.calls[place + 1].n = n;
        true
    }),
    ("a message that nobody has published is called for", |answer, random| {
        let Some(place) = random.place_in(&answer.calls) else { return false };
        answer.calls[place].n += answer.published;
        true
    }),
    ("a message is counted twice", |answer, random| {
        let Some(place) = random.place_in(&answer.subscriptions) else { return false };
        answer.subscriptions[place].account.expired += 1;
        true
    }),
    ("a message is not counted", |answer, random| {
        let Some(place) = random.place_in(&answer.subscriptions) else { return false };
        let account = &mut answer.subscriptions[place].account;
        account.routed += 1;
        true
    }),
    ("a dropped message is counted for another reason", |answer, _| {
        let mut accounts = answer.subscriptions.iter_mut().map(|ended| &mut ended.account);
        let Some(account) = accounts.find(|account| account.dropped_overflow > 0) else { return false };
        account.dropped_overflow -= 1;
        account.dropped_failed += 1;
        true
    }),
    ("a message that gave way to a newer one is counted for another reason", |answer, _| {
        let mut accounts = answer.subscriptions.iter_mut().map(|ended| &mut ended.account);
        let Some(account) = accounts.find(|account| account.dropped_conflated > 0) else { return false };
        account.dropped_conflated -= 1;
        account.dropped_overflow += 1;
        true
    }),
    ("a duplicate is counted for another reason", |answer, _| {
        let mut accounts = answer.subscriptions.iter_mut().map(|ended| &mut ended.account);
        let Some(account) = accounts.find(|account| account.dropped_duplicate > 0) else { return false };
        account.dropped_duplicate -= 1;
        account.filtered += 1;
        true
    }),
    ("a message in its handler's hands is in doubt", |answer, _| {
        let mut accounts = answer.subscriptions.iter_mut().map(|ended| &mut ended.account);
        let Some(account) = accounts.find(|account| account.in_flight > 0) else { return false };
        account.in_flight -= 1;
        account.in_doubt += 1;
        true
    }),
    ("a dead letter is missing", |answer, _| {
        let Some(store) = answer.store.as_mut().filter(|store| store.held > 0) else { return false };
        store.held -= 1;
        store.replayed += 1;
        answer.dead_letters.pop().is_some()
    }),
    ("a dead letter has forgotten an attempt", |answer, _| {
        let letter = answer.dead_letters.iter_mut().find(|letter| letter.attempts > 1);
        letter.is_some_and(|letter| {
            letter.attempts -= 1;
            true
        })
    }),
];

#[test]
fn an_answer_that_is_wrong_is_noticed() {
    let (mut made, mut noticed) = ([0; TAMPERINGS.len()], [0; TAMPERINGS.len()]);
    for seed in 0..1_000 {
        let scenario = generate::scenario(seed);
        let json = ringmain_bench::run_scenario(&scenario.to_string()).expect("a scenario");
        let answer = || serde_json::from_str::<Answer>(&json).expect("an answer");
        // Where all are followed, that is: else less is known.
        let is_followed = judge(&scenario, &answer()) == Ok(scenario.subscriptions.len());
        if !is_followed || answer().store.is_some_and(|store| store.evicted > 0) {
            continue;
        }
        for (place, (_, tamper)) in TAMPERINGS.iter().enumerate() {
            let mut answer = answer();
            if tamper(&mut answer, &mut Random::new(seed)) {
                made[place] += 1;
                noticed[place] += u32::from(judge(&scenario, &answer).is_err());
            }
        }
    }
    for (place, (what, _)) in TAMPERINGS.iter().enumerate() {
        assert!(made[place] >= 20, "{what}: tried {} times", made[place]);
        assert_eq!(noticed[place], made[place], "{what}");
    }
}
