//! What came of a scenario, for people and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ringmain::broker::dead_letters::DeadLetterCounts;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::account::Account;
use super::file::SimulateFile;
use super::handler::{Call, Outcome as CallOutcome};
use super::run::{Letter, Outcome, Refusal};
use super::scenario::Scenario;
use crate::report::{Answer, Ledger, Report, Tries, write_json};
use crate::units::{grouped, times};

/// The calls that the text shows; the JSON has all.
const SHOWN: usize = 40;

/// What came of a scenario.
#[derive(Serialize)]
pub(crate) struct SimulateAnswer {
    #[serde(flatten)]
    report: Report,
    ended_at_ns: u64,
    calls: Calls,
    subscriptions: Vec<SubscriptionAnswer>,
    dead_letters: Vec<LetterAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<StoreAnswer>,
    refusals: Vec<RefusalAnswer>,
}

/// All calls, in order, and the names of the subscriptions.
struct Calls {
    names: Vec<String>,
    calls: Vec<Call>,
}

#[derive(Serialize)]
struct CallAnswer<'n> {
    subscription: &'n str,
    n: u64,
    attempt: u16,
    at_ns: u64,
    outcome: CallOutcome,
}

impl Calls {
    fn iter(&self) -> impl Iterator<Item = CallAnswer<'_>> {
        self.calls.iter().map(|call| CallAnswer {
            subscription: &self.names[call.subscription as usize],
            n: call.n,
            attempt: call.attempt,
            at_ns: call.at_ns,
            outcome: call.outcome,
        })
    }
}

impl Serialize for Calls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut calls = serializer.serialize_seq(Some(self.calls.len()))?;
        for call in self.iter() {
            calls.serialize_element(&call)?;
        }
        calls.end()
    }
}

#[derive(Serialize)]
struct SubscriptionAnswer {
    name: String,
    calls: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerAnswer>,
    #[serde(flatten)]
    account: Account,
}

#[derive(Serialize)]
struct BreakerAnswer {
    state: String,
    changes: u64,
}

#[derive(Serialize)]
struct LetterAnswer {
    n: u64,
    subscription: String,
    kind: &'static str,
    attempts: u64,
    episodes: u32,
}

impl From<Letter> for LetterAnswer {
    fn from(letter: Letter) -> Self {
        let Letter { n, subscription, kind, attempts, episodes } = letter;
        Self { n, subscription: subscription.to_string(), kind, attempts, episodes }
    }
}

/// Where the dead letters have gone.
#[derive(Serialize)]
struct StoreAnswer {
    taken: u64,
    held: u64,
    replayed: u64,
    evicted: u64,
    lost: u64,
}

impl From<DeadLetterCounts> for StoreAnswer {
    fn from(counts: DeadLetterCounts) -> Self {
        let DeadLetterCounts { taken, held, replayed, evicted, lost, .. } = counts;
        Self { taken, held, replayed, evicted, lost }
    }
}

#[derive(Serialize)]
struct RefusalAnswer {
    step: usize,
    line: u64,
    reason: &'static str,
}

impl From<Refusal> for RefusalAnswer {
    fn from(refusal: Refusal) -> Self {
        let Refusal { step, line, reason } = refusal;
        Self { step, line, reason }
    }
}

#[derive(Serialize)]
struct Config<'f> {
    #[serde(flatten)]
    file: &'f SimulateFile,
    seed: u64,
}

impl SimulateAnswer {
    pub(super) fn new(file: &SimulateFile, scenario: &Scenario, outcome: Outcome) -> Self {
        let names: Vec<String> =
            scenario.subscriptions.iter().map(|form| form.name.get_ref().clone()).collect();
        let mut calls_of = vec![0; names.len()];
        outcome.calls.iter().for_each(|call| calls_of[call.subscription as usize] += 1);
        let subscriptions =
            names.iter().zip(calls_of).zip(outcome.subscriptions).map(|((name, calls), ended)| {
                let breaker =
                    ended.breaker.map(|(state, changes)| BreakerAnswer { state: state.to_string(), changes });
                SubscriptionAnswer {
                    name: name.clone(),
                    calls,
                    state: ended.state,
                    breaker,
                    account: ended.account,
                }
            });
        let subscriptions = subscriptions.collect();
        let total = outcome.ledger.total();
        let mut report = Report::new("simulate");
        report.set_config(&Config { file, seed: scenario.seed });
        let attempts = outcome.calls.len() as u64;
        let mut ledger = Ledger::of(&outcome.ledger);
        ledger.tries =
            Some(Tries { replayed: total.replayed, attempts, retries: total.retries, late: total.late });
        report.published = Some(ledger.published);
        report.delivered = Some(ledger.delivered);
        report.ledger = Some(ledger);
        let seen = outcome.calls.iter().filter(|call| call.outcome == CallOutcome::Delivered).count() as u64;
        let seen = seen + outcome.acknowledged;
        if seen != ledger.delivered {
            let counted = ledger.delivered;
            report.failed_checks.push(format!("{seen} calls went well, and the ledger says {counted}"));
        }
        if outcome.store.is_some_and(|counts| !counts.is_balanced()) {
            report.failed_checks.push("the account of the dead letters does not balance".to_owned());
        }
        Self {
            report,
            ended_at_ns: outcome.ended_at_ns,
            calls: Calls { names, calls: outcome.calls },
            subscriptions,
            dead_letters: outcome.letters.into_iter().map(LetterAnswer::from).collect(),
            store: outcome.store.map(StoreAnswer::from),
            refusals: outcome.refusals.into_iter().map(RefusalAnswer::from).collect(),
        }
    }

    /// The dead letters that are alike, each kind in a line.
    fn write_letters(&self, out: &mut dyn Write, store: &StoreAnswer) -> io::Result<()> {
        let StoreAnswer { taken, held, replayed, evicted, lost } = store;
        let numbers =
            [("taken", taken), ("held", held), ("replayed", replayed), ("evicted", evicted), ("lost", lost)];
        writeln!(
            out,
            "\ndead letters: {}",
            listed(numbers.map(|(name, number)| (name, *number)).into_iter())
        )?;
        let mut alike: BTreeMap<(&str, &str, u64, u32), u64> = BTreeMap::new();
        for letter in &self.dead_letters {
            let LetterAnswer { subscription, kind, attempts, episodes, .. } = letter;
            *alike.entry((subscription.as_str(), *kind, *attempts, *episodes)).or_default() += 1;
        }
        for ((subscription, kind, attempts, episodes), count) in alike {
            let (count, attempts) = (grouped(count), grouped(attempts));
            writeln!(
                out,
                "  {subscription}: {count} of kind {kind}, attempts {attempts}, episodes {episodes}"
            )?;
        }
        Ok(())
    }
}

/// Names with their numbers, those that are not 0.
fn listed(numbers: impl Iterator<Item = (&'static str, u64)>) -> String {
    let numbers = numbers.filter(|(_, number)| *number > 0);
    let numbers: Vec<_> = numbers.map(|(name, number)| format!("{name} {}", grouped(number))).collect();
    if numbers.is_empty() { "nothing".to_owned() } else { numbers.join(", ") }
}

/// A time to the last digit, in the largest unit that needs at most three places.
fn exact(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match units.into_iter().find(|(unit, _)| ns >= *unit && ns.is_multiple_of(unit / 1_000)) {
        None if ns == 0 => "0 s".to_owned(),
        None => format!("{} ns", grouped(ns)),
        Some((unit, name)) => {
            let (whole, rest) = (ns / unit, ns % unit / (unit / 1_000));
            let places = format!(".{rest:03}");
            format!("{}{} {name}", grouped(whole), places.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}

impl Answer for SimulateAnswer {
    fn report(&self) -> &Report {
        &self.report
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let published = grouped(self.report.published.unwrap_or_default());
        let calls = grouped(self.calls.calls.len() as u64);
        let time = exact(self.ended_at_ns);
        writeln!(
            out,
            "ringmain-bench simulate: {published} published, {calls} calls, {time} of virtual time"
        )?;
        for subscription in &self.subscriptions {
            write!(out, "\n{}: {}", subscription.name, subscription.state)?;
            if let Some(BreakerAnswer { state, changes }) = &subscription.breaker {
                write!(out, ", breaker {state}, changed {}", times(*changes))?;
            }
            let numbers = std::iter::once(("calls", subscription.calls)).chain(subscription.account.terms());
            writeln!(out, "\n  {}", listed(numbers))?;
        }
        if let Some(store) = &self.store {
            self.write_letters(out, store)?;
        }
        for RefusalAnswer { step, line, reason } in &self.refusals {
            writeln!(out, "\nstep {step}, line {line}, was refused: {reason}")?;
        }
        if !self.calls.calls.is_empty() {
            writeln!(out, "\ncalls:")?;
        }
        for CallAnswer { subscription, n, attempt, at_ns, outcome } in self.calls.iter().take(SHOWN) {
            let (time, outcome) = (exact(at_ns), outcome.as_str());
            writeln!(out, "  at {time:>12}  {subscription}  message {n}  attempt {attempt}  {outcome}")?;
        }
        if let Some(more @ 1..) = self.calls.calls.len().checked_sub(SHOWN) {
            writeln!(out, "  and {} more, which --json has", grouped(more as u64))?;
        }
        if let Some(ledger) = self.report.ledger {
            let holds = if ledger.balanced { "balances" } else { "does not balance" };
            writeln!(out, "\nthe ledger {holds}")?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_json(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::exact;

    #[test]
    fn a_time_is_shown_to_the_last_digit() {
        let times = [
            (0, "0 s"),
            (999, "999 ns"),
            (1_500, "1.5 us"),
            (2_500_000_000, "2.5 s"),
            (1_010_000_000, "1.01 s"),
            (1_000_000_001, "1,000,000.001 us"),
            (3_600_000_000_000, "3,600 s"),
        ];
        for (ns, text) in times {
            assert_eq!(exact(ns), text);
        }
    }
}
