//! Whether what the program has answered to a scenario is what was promised.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{Account, Answer, Call, Ended, Letter, Refusal};
use super::model::{Model, Published};
use super::promises;
use super::rules::is_match;
use super::scenario::{Nanos, Publish, Scenario, Step, Subscription, filled, name};

/// Says what is wrong with an answer, or how many subscriptions were followed to the end by their models.
pub(crate) fn judge(scenario: &Scenario, answer: &Answer) -> Result<usize, String> {
    let judge = Judge { scenario, answer };
    judge.accounts()?;
    judge.store()?;
    for of in 0..scenario.subscriptions.len() {
        let calls: Vec<&Call> = judge.calls(of).collect();
        let kept = judge.calls_of(of).and_then(|()| promises::check(scenario, of, &calls));
        kept.map_err(|wrong| format!("{}: {wrong}", name(of)))?;
    }
    // Where a handler moves the clock, each subscription's times depend on all others.
    if scenario.subscriptions.iter().all(|subscription| subscription.handler.takes == 0) {
        return judge.models();
    }
    Ok(0)
}

struct Judge<'j> {
    scenario: &'j Scenario,
    answer: &'j Answer,
}

/// An error unless it holds.
fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(wrong()) }
}

impl Judge<'_> {
    fn ended(&self, of: usize) -> &Ended {
        &self.answer.subscriptions[of]
    }

    fn calls(&self, of: usize) -> impl Iterator<Item = &Call> {
        let name = name(of);
        self.answer.calls.iter().filter(move |call| call.subscription == name)
    }

    /// What holds of the accounts, whatever happened.
    fn accounts(&self) -> Result<(), String> {
        let published: u64 = self.publishes().map(|publish| publish.count).sum();
        ensure(self.answer.published == published, || format!("{} published", self.answer.published))?;
        for (of, Ended { name, account, .. }) in self.answer.subscriptions.iter().enumerate() {
            ensure(account.is_balanced(), || format!("{name}: {account:?} does not balance"))?;
            let calls = self.calls(of).count() as u64;
            if self.scenario.subscriptions[of].manual.is_some() {
                ensure(account.delivered <= calls && account.retries <= calls, || {
                    format!("{name}: {calls} calls, {account:?}")
                })?;
                continue;
            }
            let delivered = self.calls(of).filter(|call| call.outcome == "delivered").count() as u64;
            ensure(account.delivered == delivered, || {
                format!("{name}: {delivered} calls went well, {account:?}")
            })?;
            // A panic is a panic, however late.
            let Subscription { time_limit, handler, .. } = &self.scenario.subscriptions[of];
            let is_over = time_limit.is_some_and(|limit| handler.takes > limit);
            let over = self.calls(of).filter(|call| call.outcome != "panicked" && is_over).count() as u64;
            let late = self.calls(of).filter(|call| call.outcome == "timed-out").count() as u64;
            ensure(account.late == over && late == over, || {
                format!("{name}: {over} calls were over their limit, {late} timed out, {account:?}")
            })?;
            let failed = calls - delivered;
            let again = self.calls(of).filter(|call| call.attempt > 1).count() as u64;
            ensure((again..=failed).contains(&account.retries), || {
                format!("{name}: {failed} calls failed, {again} were further attempts, {account:?}")
            })?;
        }
        let times = self.answer.calls.iter().map(|call| call.at_ns);
        ensure(times.is_sorted(), || "time went back".to_owned())
    }

    fn publishes(&self) -> impl Iterator<Item = &Publish> {
        self.scenario.steps.iter().filter_map(|step| match step {
            Step::Publish(publish) => Some(publish),
            _ => None,
        })
    }

    /// The store's account, whatever happened.
    fn store(&self) -> Result<(), String> {
        let dead: u64 = self.answer.subscriptions.iter().map(|ended| ended.account.dead_lettered).sum();
        let held = self.answer.dead_letters.len() as u64;
        let Some(store) = &self.answer.store else {
            return ensure(dead == 0 && held == 0, || "dead letters, and no store".to_owned());
        };
        let most = self.scenario.store.unwrap_or_default() as u64;
        let whole = store.held + store.replayed + store.evicted + store.lost;
        ensure(store.taken == whole && store.taken == dead && store.held == held && held <= most, || {
            format!("{dead} dead letters, {held} are there, {store:?}")
        })?;
        ensure(store.lost == 0 && (store.evicted == 0 || dead > most), || {
            format!("there was room for {most}: {store:?}")
        })?;
        let keys: BTreeSet<_> =
            self.answer.dead_letters.iter().map(|letter| (letter.n, &letter.subscription)).collect();
        ensure(keys.len() as u64 == held, || {
            "a message is twice in the store for one subscription".to_owned()
        })
    }

    /// What holds of each message's calls, whatever happened.
    fn calls_of(&self, of: usize) -> Result<(), String> {
        let form = &self.scenario.subscriptions[of];
        let is_this = |step: &&Step| matches!(step, Step::Replay(whose, _) if *whose == of);
        let replays = self.scenario.steps.iter().filter(is_this).count();
        let published: Vec<&Publish> =
            self.publishes().flat_map(|publish| (0..publish.count).map(move |_| publish)).collect();
        let most = form.retry.as_ref().map_or(1, |retry| retry.attempts);
        let mut last: BTreeMap<u64, (&Call, usize)> = BTreeMap::new();
        let mut newest = None;
        // What takes an older one's place comes before what came between them.
        let conflates = form.backlog.as_ref().is_some_and(|backlog| backlog.conflate_by.is_some());
        for call in self.calls(of) {
            let Some(publish) = published.get(call.n as usize) else { return Err(format!("{call:?}")) };
            let is_meant = is_match(&form.patterns, &filled(publish.topic, call.n))
                && form.filter.is_none_or(|filter| filter.wants(publish))
                && publish.ttl != Some(0);
            ensure(is_meant, || format!("{call:?} of what it does not want"))?;
            ensure(call.attempt <= most, || format!("{call:?} of {most} attempts"))?;
            let follows = match last.get(&call.n) {
                None => {
                    call.attempt == 1
                        && (replays > 0 || conflates || newest.is_none_or(|newest| newest < call.n))
                }
                Some((before, _)) if before.outcome == "delivered" => false,
                Some((before, episodes)) => {
                    call.attempt == before.attempt + 1 || call.attempt == 1 && *episodes <= replays
                }
            };
            ensure(follows, || {
                format!("{call:?} after {:?}, the newest being {newest:?}", last.get(&call.n))
            })?;
            newest = newest.max(Some(call.n));
            let episodes = last.get(&call.n).map_or(0, |(_, episodes)| *episodes);
            last.insert(call.n, (call, episodes + usize::from(call.attempt == 1)));
        }
        Ok(())
    }

    /// Each subscription beside its model.
    fn models(&self) -> Result<usize, String> {
        let has_evicted = self.answer.store.as_ref().is_some_and(|store| store.evicted > 0);
        let (mut refusals, mut letters, mut replays_over) = (Vec::new(), BTreeSet::new(), 0);
        let (mut uncertain, mut followed) = (BTreeSet::new(), 0);
        for of in 0..self.scenario.subscriptions.len() {
            // Which letters are left to be replayed depends on who evicts whose.
            let is_replayed =
                self.scenario.steps.iter().any(|step| matches!(step, Step::Replay(it, _) if *it == of));
            if has_evicted && is_replayed {
                continue;
            }
            let mut model = Model::new(of, self.scenario, self.calls(of).cloned());
            let went = self.go_through(&mut model, of, &mut refusals);
            if model.is_lost {
                continue;
            }
            went.map_err(|wrong| format!("{}: {wrong}", name(of)))?;
            self.compare(&model, self.ended(of))?;
            followed += 1;
            replays_over += model.replays_over;
            let name = name(of);
            uncertain.extend(model.uncertain.iter().map(|n| (*n, name.clone())));
            if has_evicted {
                self.are_the_last(&name, &model)?;
            }
            letters.extend(model.letters().cloned());
        }
        if has_evicted || followed < self.scenario.subscriptions.len() {
            return Ok(followed);
        }
        let is_certain = |letter: &&Letter| !uncertain.contains(&(letter.n, letter.subscription.clone()));
        let held: BTreeSet<&Letter> = self.answer.dead_letters.iter().filter(is_certain).collect();
        let expected: BTreeSet<&Letter> = letters.iter().filter(is_certain).collect();
        ensure(held == expected, || format!("the store has {held:?}\nand not {expected:?}"))?;
        refusals.sort();
        let mut refused = self.answer.refusals.clone();
        refused.sort();
        ensure(refusals == refused, || {
            format!("refused were {:?} and not {refusals:?}", self.answer.refusals)
        })?;
        let counted = self.answer.store.as_ref().map_or(0, |store| store.replayed);
        ensure((replays_over..=replays_over + uncertain.len() as u64).contains(&counted), || {
            format!("{replays_over} replays were over, and the store counts {counted}")
        })?;
        Ok(followed)
    }

    /// Takes a model through all steps, as the program goes through them.
    fn go_through(
        &self,
        model: &mut Model<'_>,
        of: usize,
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), String> {
        let (mut now, mut n): (Nanos, u64) = (0, 0);
        for (number, step) in self.scenario.steps.iter().enumerate() {
            let at_step = |wrong: String| format!("step {number}, {step}: {wrong}");
            match step {
                Step::Advance(by) => {
                    now += by;
                    model.advance(now).map_err(at_step)?;
                }
                Step::Publish(form) => {
                    for count in 0..form.count {
                        if let (Some(every), true) = (form.every, count > 0) {
                            now += every;
                            model.advance(now).map_err(at_step)?;
                        }
                        model.arrive(Published { n, at: now, form }).map_err(at_step)?;
                        n += 1;
                    }
                    model.run().map_err(at_step)?;
                }
                other if other.clone().of().is_none_or(|whose| *whose == of) => {
                    let refused = model.step(other).into_iter();
                    refusals
                        .extend(refused.map(|reason| Refusal { step: number, reason: reason.to_owned() }));
                    model.run().map_err(at_step)?;
                }
                _ => {}
            }
        }
        ensure(self.answer.ended_at_ns == now, || format!("it ended at {} ns", self.answer.ended_at_ns))?;
        model.finish()
    }

    /// The account of a model, and how its subscription has ended.
    fn compare(&self, model: &Model<'_>, ended: &Ended) -> Result<(), String> {
        let (expected, account) = (model.account, ended.account);
        let slack = model.uncertain.len() as u64;
        let waited = |of: &Account| of.retrying + of.backlogged + of.undelivered + of.dropped_unsubscribed;
        let certain = |of: Account| {
            let of =
                Account { expired: 0, replayed: 0, retrying: 0, backlogged: 0, dropped_duplicate: 0, ..of };
            Account { undelivered: 0, dropped_unsubscribed: 0, ..of }
        };
        let is_same = if slack == 0 {
            expected == account
        } else {
            let within = |expected: u64, counted: u64| (expected..=expected + slack).contains(&counted);
            certain(expected) == certain(account)
                && within(expected.expired, account.expired)
                && within(expected.replayed, account.replayed)
                && within(expected.dropped_duplicate, account.dropped_duplicate)
                && within(waited(&account), waited(&expected))
        };
        ensure(is_same, || format!("{}: {account:?}\nand not {expected:?}", ended.name))?;
        ensure(ended.state == model.state(), || format!("{} is {}", ended.name, ended.state))?;
        let breaker = ended.breaker.as_ref();
        ensure(breaker.is_none_or(|breaker| model.breaker_may_be(&breaker.state)), || {
            format!("{}: its breaker is {:?}", ended.name, breaker)
        })
    }

    /// A full store lets the oldest go.
    fn are_the_last(&self, name: &str, model: &Model<'_>) -> Result<(), String> {
        if self.scenario.steps.iter().any(|step| matches!(step, Step::Replay(..))) {
            return Ok(());
        }
        let held: Vec<_> =
            self.answer.dead_letters.iter().filter(|letter| letter.subscription == name).collect();
        let all: Vec<_> = model.letters().collect();
        ensure(all.ends_with(&held), || format!("the store has {held:?}\nwhich are not the last of {all:?}"))
    }
}
