//! What holds of a subscription's calls whatever happens, also where no model follows it.

use std::collections::BTreeMap;

use super::answer::Call;
use super::scenario::{Manual, Nanos, Publish, Scenario, Step};

/// Says what is wrong with the calls of a subscription.
pub(crate) fn check(scenario: &Scenario, of: usize, calls: &[&Call]) -> Result<(), String> {
    once(scenario, of, calls)?;
    // Where a handler moves the clock, no moment of a step is known.
    if scenario.subscriptions.iter().all(|subscription| subscription.handler.takes == 0) {
        paused(scenario, of, calls)?;
        in_flight(scenario, of, calls)?;
    }
    Ok(())
}

/// The steps, each with the moment at which it is taken.
fn moments(scenario: &Scenario) -> impl Iterator<Item = (Nanos, &Step)> {
    scenario.steps.iter().scan(0, |now, step| {
        let at = *now;
        *now += match step {
            Step::Advance(by) => *by,
            Step::Publish(publish) => publish.every.unwrap_or_default() * (publish.count - 1),
            _ => 0,
        };
        Some((at, step))
    })
}

/// A message is not handled whose key was handled and is still remembered.
fn once(scenario: &Scenario, of: usize, calls: &[&Call]) -> Result<(), String> {
    let Some(form) = &scenario.subscriptions[of].idempotent else { return Ok(()) };
    // A replay is not asked.
    if scenario.steps.iter().any(|step| matches!(step, Step::Replay(whose, _) if *whose == of)) {
        return Ok(());
    }
    let publishes = scenario.steps.iter().filter_map(|step| match step {
        Step::Publish(publish) => Some(publish),
        _ => None,
    });
    let published: Vec<&Publish> =
        publishes.flat_map(|publish| (0..publish.count).map(move |_| publish)).collect();
    let delivered = calls.iter().filter(|call| call.outcome == "delivered");
    let keyed =
        delivered.filter_map(|call| Some((call, form.by.key_of(published[call.n as usize], call.n)?)));
    let mut last: BTreeMap<String, (usize, Nanos)> = BTreeMap::new();
    for (number, (call, key)) in keyed.enumerate() {
        if let Some((before, at)) = last.insert(key, (number, call.at_ns))
            && number - before <= form.keys
            && call.at_ns - at <= form.lasts
        {
            return Err(format!("{call:?} of a key that was handled at {at} ns"));
        }
    }
    Ok(())
}

/// Nothing is called for between a pause and what ends it.
fn paused(scenario: &Scenario, of: usize, calls: &[&Call]) -> Result<(), String> {
    let mut since = None;
    let mut pauses = Vec::new();
    for (at, step) in moments(scenario) {
        match step {
            Step::Pause(whose) if *whose == of => since = since.or(Some(at)),
            Step::Resume(whose) if *whose == of => pauses.extend(since.take().map(|since| (since, at))),
            _ => {}
        }
    }
    pauses.extend(since.map(|since| (since, Nanos::MAX)));
    let is_paused = |call: &&&Call| pauses.iter().any(|(from, to)| (from + 1..*to).contains(&call.at_ns));
    calls.iter().find(is_paused).map_or(Ok(()), |call| Err(format!("{call:?} while it was paused")))
}

/// No more messages are in flight than may be. One that was settled at the moment of a call is not counted.
fn in_flight(scenario: &Scenario, of: usize, calls: &[&Call]) -> Result<(), String> {
    let Some(Manual { in_flight, limit }) = scenario.subscriptions[of].manual else { return Ok(()) };
    let mut ends: Vec<Nanos> = calls.iter().map(|call| call.at_ns + limit).collect();
    let mut oldest = 0;
    for (at, step) in moments(scenario) {
        let Step::Settle(whose, count, _) = step else { continue };
        for _ in 0..if *whose == of { *count } else { 0 } {
            if calls.get(oldest).is_some_and(|call| call.at_ns <= at) {
                ends[oldest] = ends[oldest].min(at);
                oldest += 1;
            }
        }
    }
    for (number, call) in calls.iter().enumerate() {
        let others = ends[..number].iter().filter(|end| **end > call.at_ns).count();
        if others >= in_flight {
            return Err(format!("{call:?} while {others} were in flight"));
        }
    }
    Ok(())
}

#[test]
fn calls_that_break_a_promise_are_noticed() {
    let call = |n, at_ns, outcome: &str| Call {
        subscription: "s0".to_owned(),
        n,
        attempt: 1,
        at_ns,
        outcome: outcome.to_owned(),
    };
    let noticed = |policy: &str, steps: &str, calls: &[Call]| {
        let text = format!("[[subscription]]\nname = \"s0\"\npatterns = [\"a\"]\n{policy}\n{steps}");
        check(&super::read::read(&text), 0, &calls.iter().collect::<Vec<_>>()).is_err()
    };
    let two = |outcome: &str, at| [call(0, 0, outcome), call(1, at, outcome)];
    let publish = "[[step]]\npublish = { topic = \"a\", count = 2, headers = { key = \"{n%1}\" } }\n";
    let once = "idempotent = { by = \"header:key\", keys = 1, for = \"5ns\" }";
    assert!(noticed(once, publish, &two("delivered", 5)));
    assert!(!noticed(once, publish, &two("delivered", 6)), "it is remembered for so long");
    let manual = "manual = { in_flight = 1, limit = \"5ns\" }";
    assert!(noticed(manual, publish, &two("pending", 4)));
    assert!(!noticed(manual, publish, &two("pending", 5)), "its time is up");
    let settle = "[[step]]\nadvance = \"2ns\"\n[[step]]\nsettle = { of = \"s0\", as = \"ack\" }\n";
    let settled = format!("{publish}{settle}");
    assert!(noticed(manual, &settled, &two("pending", 1)));
    assert!(!noticed(manual, &settled, &two("pending", 2)), "it has been settled");
    let pause = "[[step]]\npause = \"s0\"\n[[step]]\nadvance = \"2ns\"\n[[step]]\nresume = \"s0\"\n";
    let paused = format!("{publish}{pause}");
    assert!(noticed("", &paused, &two("delivered", 1)));
    assert!(!noticed("", &paused, &two("delivered", 2)), "it goes on");
}
