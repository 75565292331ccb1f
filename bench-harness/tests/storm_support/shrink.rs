//! Makes a scenario that fails shorter, as long as it goes on failing.

use super::scenario::{Fails, FailsAs, Scenario, Step};

/// Most scenarios that are tried.
const MOST: usize = 3_000;

/// The shortest scenario found that fails.
pub(crate) fn shrink(mut scenario: Scenario, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut tried = 0;
    while tried < MOST {
        let shorter = shorter(&scenario).into_iter().find(|shorter| {
            tried += 1;
            fails(shorter)
        });
        match shorter {
            Some(shorter) => scenario = shorter,
            None => break,
        }
    }
    scenario
}

/// Scenarios that are a little shorter. Some contradict themselves.
fn shorter(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut shorter = scenario.clone();
        change(&mut shorter);
        all.push(shorter);
    };
    for of in 0..scenario.subscriptions.len() {
        add(&|shorter| without(shorter, of));
    }
    for half in [scenario.steps.len() / 2, scenario.steps.len() / 4] {
        add(&|shorter| _ = shorter.steps.drain(..half));
        add(&|shorter| _ = shorter.steps.drain(half..));
    }
    for at in 0..scenario.steps.len() {
        add(&|shorter| _ = shorter.steps.remove(at));
    }
    for of in 0..scenario.subscriptions.len() {
        add(&|shorter| shorter.subscriptions[of].filter = None);
        add(&|shorter| shorter.subscriptions[of].retry = None);
        add(&|shorter| shorter.subscriptions[of].breaker = None);
        add(&|shorter| shorter.subscriptions[of].backlog = None);
        add(&|shorter| shorter.subscriptions[of].idempotent = None);
        add(&|shorter| {
            // No step is left that would settle what it keeps.
            shorter.subscriptions[of].manual = None;
            shorter.steps.retain(|step| !matches!(step, Step::Settle(whose, ..) if *whose == of));
        });
        add(&|shorter| {
            shorter.subscriptions[of].backlog.iter_mut().for_each(|backlog| backlog.conflate_by = None);
        });
        add(&|shorter| shorter.subscriptions[of].patterns = vec!["#"]);
        add(&|shorter| shorter.subscriptions[of].handler.fails = Fails::Never);
        add(&|shorter| shorter.subscriptions[of].handler.fails = Fails::Always);
        add(&|shorter| shorter.subscriptions[of].handler.fails_as = FailsAs::Error);
        add(&|shorter| shorter.subscriptions[of].handler.takes = 0);
        add(&|shorter| shorter.subscriptions[of].time_limit = None);
    }
    for at in 0..scenario.steps.len() {
        if let Step::Publish(publish) = &scenario.steps[at] {
            let mut forms = vec![publish.clone(); 7];
            forms[0].count = (publish.count / 2).max(1);
            forms[1].count = (publish.count - 1).max(1);
            forms[2].every = None;
            forms[3].ttl = None;
            forms[4].region = None;
            forms[5].keys = None;
            forms[6].priority = None;
            forms
                .into_iter()
                .for_each(|form| add(&|shorter| shorter.steps[at] = Step::Publish(form.clone())));
        }
    }
    add(&|shorter| shorter.store = None);
    add(&|shorter| shorter.is_rescuable = false);
    // What has changed nothing would be tried for ever.
    let text = scenario.to_string();
    all.retain(|shorter| shorter.to_string() != text);
    all
}

/// Takes a subscription out, with all steps that are about it.
fn without(scenario: &mut Scenario, of: usize) {
    scenario.subscriptions.remove(of);
    scenario.steps.retain_mut(|step| match step.of() {
        Some(whose) if *whose == of => false,
        Some(whose) => {
            *whose -= usize::from(*whose > of);
            true
        }
        None => true,
    });
}
