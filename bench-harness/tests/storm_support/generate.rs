//! Scenarios made by chance, from a seed.
//!
//! A policy is a function that gives it to a subscription, and an entry in [`POLICIES`]; a step likewise, in
//! [`STEPS`], with how often it comes. What would leave the model nothing to say is left out: a retry has jitter
//! or a limit of the time for all its attempts, and one in order waits before its retries.

use super::scenario::*;

/// Numbers that look random (Steele and Vigna's SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Whether something happens that happens so often in a hundred times.
    fn often(&mut self, per_cent: u64) -> bool {
        self.below(100) < per_cent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// A place in a list that is not empty.
    pub(crate) fn place_in<T>(&mut self, list: &[T]) -> Option<usize> {
        (!list.is_empty()).then(|| self.below(list.len() as u64) as usize)
    }

    fn maybe<T>(&mut self, per_cent: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.often(per_cent).then(|| make(self))
    }

    fn millis(&mut self, least: u64, most: u64) -> Nanos {
        self.between(least, most) * MILLI
    }
}

/// Gives a subscription a policy. It knows whether there is a store.
type Policy = fn(&mut Random, &mut Subscription, bool);

const POLICIES: [Policy; 6] = [filter, retry, breaker, backlog, idempotent, manual];

/// Makes a step, where it makes sense.
type MakeStep = fn(&mut Random, &Scenario) -> Option<Step>;

const STEPS: [(u64, MakeStep); 9] = [
    (30, publish),
    (25, advance),
    (9, |random, scenario| Some(Step::Pause(live(random, scenario)?))),
    (9, |random, scenario| Some(Step::Resume(live(random, scenario)?))),
    (7, force_breaker),
    (7, change_handler),
    (8, replay),
    (20, settle),
    (2, |random, scenario| Some(Step::Unsubscribe(live(random, scenario)?))),
];

const PATTERNS: [&str; 9] = ["#", "a.#", "a.*", "*.c", "a.b", "#.c", "d", "d.*", "*"];
const REGIONS: [&str; 2] = ["eu", "us"];
const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

/// The scenario of a seed.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let random = &mut Random::new(seed);
    let store = random.maybe(75, |random| random.pick(&[1, 3, 10, 1_000, 1_000, 1_000]));
    let mut scenario = Scenario { seed: random.below(1_000), store, ..Scenario::default() };
    let is_timed = random.often(10);
    for _ in 0..random.between(1, 4) {
        let patterns = (0..random.between(1, 3)).map(|_| random.pick(&PATTERNS)).collect();
        let mut subscription = Subscription { patterns, ..Subscription::default() };
        for policy in POLICIES {
            if random.often(60) {
                policy(random, &mut subscription, store.is_some());
            }
        }
        let (fails, fails_as) = (fails(random), fails_as(random));
        let takes = if is_timed { random.millis(0, 3) } else { 0 };
        if subscription.manual.is_none() {
            subscription.handler = Handler { takes, fails, fails_as };
            // Where no time passes in a call, it changes nothing.
            let unneeded = seed.is_multiple_of(4).then_some(MILLI);
            subscription.time_limit =
                if is_timed { random.maybe(50, |random| random.millis(1, 3)) } else { unneeded };
        }
        scenario.subscriptions.push(subscription);
    }
    let weights: u64 = STEPS.iter().map(|(weight, _)| weight).sum();
    for _ in 0..random.between(2, 24) {
        let mut at = random.below(weights);
        let chosen = STEPS.iter().find(|(weight, _)| {
            let is_it = at < *weight;
            at = at.wrapping_sub(*weight);
            is_it
        });
        let (_, make) = chosen.expect("it is below their sum");
        if let Some(step) = make(random, &scenario) {
            add(random, &mut scenario, step);
        }
    }
    let last = if random.often(50) { Step::Shutdown } else { Step::Advance(random.millis(1, 50)) };
    add(random, &mut scenario, last);
    // How many come at a time decides what is conflated or finds no room, and what comes before a retry without delay.
    let is_apart = |one: &Subscription| {
        let is_bounded = one.backlog.as_ref().is_some_and(|it| it.conflate_by.is_some() || it.messages < 100);
        is_bounded || one.retry.as_ref().is_some_and(|retry| !retry.in_order && retry.delay == 0)
    };
    scenario.is_rescuable = random.often(30) && !scenario.subscriptions.iter().any(is_apart);
    scenario
}

fn add(random: &mut Random, scenario: &mut Scenario, step: Step) {
    scenario.steps.push(step);
    if !scenario.is_clear() {
        let by = Step::Advance(random.between(1, 1_000));
        scenario.steps.insert(scenario.steps.len() - 1, by);
    }
}

fn filter(random: &mut Random, subscription: &mut Subscription, _: bool) {
    subscription.filter = match random.below(10) {
        0..=4 => Some(Filter::Region(random.pick(&REGIONS))),
        5..=7 => Some(Filter::AtLeast(random.pick(&PRIORITIES))),
        _ => None,
    };
}

fn retry(random: &mut Random, subscription: &mut Subscription, _: bool) {
    let schedule = match random.below(4) {
        0 => Schedule::Constant,
        1 => Schedule::Linear,
        _ => Schedule::Exponential(random.between(1, 3) as u32),
    };
    let jitter = random.pick(&[Jitter::None, Jitter::None, Jitter::Full, Jitter::Decorrelated]);
    let in_order = random.often(40);
    subscription.retry = Some(Retry {
        attempts: random.between(1, 6) as u16,
        delay: random.millis(in_order.into(), 20),
        schedule,
        cap: random.maybe(40, |random| random.millis(1, 40)),
        jitter,
        in_order,
        max_elapsed: random.maybe(30, |random| random.millis(0, 60)).filter(|_| jitter == Jitter::None),
    });
}

fn breaker(random: &mut Random, subscription: &mut Subscription, has_store: bool) {
    let rate = random.maybe(50, |random| {
        let window = random.between(1, 20) as u32;
        (random.pick(&[25, 50, 100]), window, random.between(1, window.into()) as u32)
    });
    let consecutive = (rate.is_none() || random.often(40)).then(|| random.between(1, 5) as u32);
    let open = random.millis(1, 30);
    let while_open = match random.below(4) {
        0 => WhileOpen::Refuse,
        1 if has_store => WhileOpen::DeadLetter,
        _ => WhileOpen::Pause,
    };
    subscription.breaker = Some(Breaker {
        consecutive,
        rate,
        open,
        cap: open * random.between(1, 5),
        is_exact: random.often(60),
        probes: random.between(1, 3) as u32,
        while_open,
    });
}

fn backlog(random: &mut Random, subscription: &mut Subscription, has_store: bool) {
    let when_full = match random.below(4) {
        0 => None,
        1 if has_store => Some(WhenFull::DeadLetter),
        2 => Some(WhenFull::DropOldest),
        _ => Some(WhenFull::DropNewest),
    };
    let conflate_by = random.maybe(30, key);
    // What conflates has to wait.
    let least = usize::from(conflate_by.is_some());
    let messages = random.pick(&[0, 1, 2, 3, 5, 10, 50]).max(least);
    subscription.backlog = Some(Backlog { messages, when_full, conflate_by });
}

fn key(random: &mut Random) -> KeyBy {
    random.pick(&[KeyBy::Header, KeyBy::Header, KeyBy::Topic, KeyBy::Id])
}

fn idempotent(random: &mut Random, subscription: &mut Subscription, has_store: bool) {
    // What is conflated is not told to be handled once.
    if subscription.backlog.as_ref().is_some_and(|backlog| backlog.conflate_by.is_some()) || random.often(50)
    {
        return;
    }
    let idempotent = Idempotent {
        by: key(random),
        keys: random.pick(&[1, 2, 3, 10, 1_000]),
        lasts: random.pick(&[0, 5, 20, 60, 10_000]) * MILLI,
        may_lose: random.often(40),
    };
    if !has_store && !idempotent.may_lose {
        // Whether a second chance came in time would be in doubt.
        subscription.retry.iter_mut().for_each(|retry| retry.jitter = Jitter::None);
        subscription.breaker.iter_mut().for_each(|breaker| breaker.is_exact = true);
    }
    subscription.idempotent = Some(idempotent);
}

fn manual(random: &mut Random, subscription: &mut Subscription, _: bool) {
    if random.often(60) {
        return;
    }
    // Retries in order need their calls one by one.
    subscription.retry.iter_mut().for_each(|retry| retry.in_order = false);
    if random.often(80) {
        // With one, the model knows nothing.
        subscription.breaker = None;
    }
    let in_flight = random.pick(&[1, 1, 2, 3, 5, 50]);
    subscription.manual = Some(Manual { in_flight, limit: random.millis(1, 60) });
}

fn fails(random: &mut Random) -> Fails {
    match random.below(8) {
        0 | 1 => Fails::Never,
        2 => Fails::Always,
        3 => Fails::Odd,
        4 => Fails::First(random.between(1, 5) as u16),
        5 => {
            let numbers = (0..random.between(1, 5)).map(|_| random.below(60)).collect();
            Fails::Numbers(numbers, random.between(1, 6) as u16)
        }
        _ => Fails::Rate(random.between(0, 100) as u32),
    }
}

fn fails_as(random: &mut Random) -> FailsAs {
    match random.below(6) {
        0 => FailsAs::Permanent,
        1 => FailsAs::Panic,
        2 => FailsAs::RetryAfter(random.millis(1, 30)),
        _ => FailsAs::Error,
    }
}

fn publish(random: &mut Random, _: &Scenario) -> Option<Step> {
    Some(Step::Publish(Publish {
        topic: random.pick(&TOPICS),
        count: if random.often(50) { random.between(1, 3) } else { random.between(1, 20) },
        every: random.maybe(40, |random| random.between(1, 8_000) * 1_000),
        ttl: random.maybe(25, |random| random.millis(0, 30)),
        region: random.maybe(80, |random| random.pick(&REGIONS)),
        keys: random.maybe(60, |random| random.pick(&[1, 2, 3, 5, 20])),
        priority: random.maybe(50, |random| random.pick(&PRIORITIES)),
    }))
}

fn advance(random: &mut Random, _: &Scenario) -> Option<Step> {
    Some(Step::Advance(if random.often(30) { random.between(1, 1_000) } else { random.millis(1, 60) }))
}

/// A subscription that no step has ended.
fn live(random: &mut Random, scenario: &Scenario) -> Option<usize> {
    let of = random.below(scenario.subscriptions.len() as u64) as usize;
    let has_ended =
        scenario.steps.iter().any(|step| matches!(step, Step::Unsubscribe(ended) if *ended == of));
    (!has_ended).then_some(of)
}

fn force_breaker(random: &mut Random, scenario: &Scenario) -> Option<Step> {
    let of = live(random, scenario).filter(|of| scenario.subscriptions[*of].breaker.is_some())?;
    Some(Step::Breaker(of, random.pick(&[Force::Open, Force::Closed, Force::Reset, Force::Reset])))
}

fn change_handler(random: &mut Random, scenario: &Scenario) -> Option<Step> {
    let of = live(random, scenario).filter(|of| scenario.subscriptions[*of].manual.is_none())?;
    Some(Step::Handler(of, fails(random), fails_as(random)))
}

fn settle(random: &mut Random, scenario: &Scenario) -> Option<Step> {
    let are_manual =
        (0..scenario.subscriptions.len()).filter(|of| scenario.subscriptions[*of].manual.is_some());
    let are_manual: Vec<_> = are_manual.collect();
    let of = are_manual[random.place_in(&are_manual)?];
    let settled_as = random.pick(&[SettledAs::Ack, SettledAs::Ack, SettledAs::Fail, SettledAs::Forget]);
    Some(Step::Settle(of, random.pick(&[1, 1, 2, 5]), settled_as))
}

fn replay(random: &mut Random, scenario: &Scenario) -> Option<Step> {
    scenario.store?;
    let of = random.below(scenario.subscriptions.len() as u64) as usize;
    Some(Step::Replay(of, random.pick(&[7, 100, 1_000, 1_000_000])))
}
