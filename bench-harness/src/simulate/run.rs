//! Drives the engine's broker through a scenario.
//!
//! Each step is done, and then all that is due at that moment. Publishes at one moment are given to the consumers
//! before the ring is full of them, so that none is refused for want of room: what a full ring does is no matter of
//! a subscription's contract.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::broker::dead_letters::{
    DeadLetterCounts, DeadLetterOptions, DeadLetters, Replay, ReplayError, Selection,
};
use ringmain::broker::filter::{header, priority_at_least};
use ringmain::broker::simulation::Simulation;
use ringmain::broker::{
    BreakerState, Broker, Dispatcher, Ledger, PublishOptions, SubscribeError, Subscription, SubscriptionId,
    TokenError,
};
use toml::Spanned;

use super::account::Account;
use super::handler::{Behaviour, Call, Handler, Keeper, MOST_CALLS, Numbers, Record, Tokens, locked};
use super::options;
use super::scenario::{
    Force, PublishForm, ReplayForm, ReplayTo, Scenario, SettleForm, SettledAs, Step, SubscriptionForm,
};
use super::source::Source;
use crate::error::Error;
use crate::interrupt;
use crate::units::grouped;

/// Publishes at one moment between two turns of the consumers: a quarter of the ring.
const STRIDE: u64 = 1_024;
/// Bytes that a store may hold: it is bounded by letters alone.
const STORE_BYTES: usize = 1 << 40;

/// What came of a scenario.
pub(super) struct Outcome {
    pub(super) ended_at_ns: u64,
    pub(super) calls: Vec<Call>,
    /// Messages that were kept, and whose tokens said that they were handled.
    pub(super) acknowledged: u64,
    pub(super) subscriptions: Vec<Ended>,
    pub(super) letters: Vec<Letter>,
    pub(super) store: Option<DeadLetterCounts>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) ledger: Ledger,
}

/// A subscription at the end.
pub(super) struct Ended {
    pub(super) state: &'static str,
    pub(super) breaker: Option<(BreakerState, u64)>,
    pub(super) account: Account,
}

/// A dead letter that is held.
pub(super) struct Letter {
    pub(super) n: u64,
    pub(super) subscription: Arc<str>,
    pub(super) kind: &'static str,
    pub(super) attempts: u64,
    pub(super) episodes: u32,
}

/// What the engine answered with an error.
pub(super) struct Refusal {
    /// The step's place in the scenario, from 0.
    pub(super) step: usize,
    pub(super) line: u64,
    pub(super) reason: &'static str,
}

/// Runs a scenario.
pub(super) fn run(source: &Source, scenario: &Scenario) -> Result<Outcome, Error> {
    let mut run = Run::start(source, scenario)?;
    for (number, step) in scenario.steps.iter().enumerate() {
        if step.get_ref().shutdown.is_some() {
            // It is the last one.
            return run.finish(true);
        }
        run.step(number, step)?;
        run.check()?;
    }
    run.finish(false)
}

/// A broker and what is kept beside it.
struct Run<'s> {
    source: &'s Source,
    scenario: &'s Scenario,
    simulation: Simulation<u64>,
    broker: Broker<u64>,
    subscriptions: Vec<Running<'s>>,
    record: Arc<Mutex<Record>>,
    published: u64,
    acknowledged: u64,
    refusals: Vec<Refusal>,
}

/// A subscription that was started.
struct Running<'s> {
    name: &'s str,
    id: SubscriptionId,
    behaviour: Arc<Mutex<Behaviour>>,
    tokens: Tokens,
    state: State,
}

enum State {
    Live(Subscription<u64>),
    /// What its breaker did, and the account of all past subscriptions before it was one.
    Ended {
        breaker: Option<(BreakerState, u64)>,
        account: Option<Account>,
    },
}

fn breaker_of(subscription: &Subscription<u64>) -> Option<(BreakerState, u64)> {
    let status = subscription.status();
    status.breaker.map(|state| (state, status.breaker_changes))
}

impl<'s> Run<'s> {
    fn start(source: &'s Source, scenario: &'s Scenario) -> Result<Self, Error> {
        let mut builder = Broker::of::<u64>();
        if let Some(store) = &scenario.dead_letters {
            let options = DeadLetterOptions::new().entries(store.messages).bytes(STORE_BYTES);
            builder = builder.dead_letters(options);
        }
        if scenario.rescuable {
            builder = builder.dispatcher(Dispatcher::new("default").rescuable());
        }
        let simulation = builder.simulate()?;
        let broker = simulation.broker();
        let (subscriptions, refusals) = (Vec::new(), Vec::new());
        let record = Arc::default();
        let mut run = Self {
            source,
            scenario,
            simulation,
            broker,
            subscriptions,
            record,
            published: 0,
            acknowledged: 0,
            refusals,
        };
        for (place, form) in scenario.subscriptions.iter().enumerate() {
            let running = run.subscribe(place as u32, form)?;
            run.subscriptions.push(running);
        }
        run.simulation.run();
        Ok(run)
    }

    fn subscribe(&self, place: u32, form: &'s SubscriptionForm) -> Result<Running<'s>, Error> {
        // Each draws numbers of its own, whatever the others do.
        let mut seeds = Numbers(self.scenario.seed ^ u64::from(place).rotate_right(16));
        let behaviour = Arc::new(Mutex::new(Behaviour::new(&form.handler, seeds.next())));
        let mut builder = self.broker.subscription().name(form.name.get_ref());
        for pattern in form.patterns.get_ref() {
            builder = builder.pattern(pattern.get_ref());
        }
        if let Some(filter) = form.filter.as_ref().map(Spanned::get_ref) {
            if let (Some(key), Some(value)) = (&filter.header, &filter.is) {
                builder = builder.filter(header(key).is(value.as_str()));
            }
            if let Some(least) = &filter.priority_at_least {
                builder = builder.filter(priority_at_least((*least.get_ref()).into()));
            }
        }
        if let Some(idempotency) = &form.idempotent {
            builder = builder.idempotent(options::idempotency(idempotency.get_ref()));
        }
        if let Some(retry) = &form.retry {
            builder = builder.retry(options::retry(retry.get_ref(), seeds.next()));
        }
        if let Some(breaker) =
            form.breaker.as_ref().and_then(|form| options::breaker(form.get_ref(), seeds.next()))
        {
            builder = builder.breaker(breaker);
        }
        if let Some(backlog) = &form.backlog {
            builder = builder.backlog(options::backlog(backlog.get_ref()));
            if let Some(key) = &backlog.get_ref().conflate_by {
                builder = builder.conflate(options::key(key.get_ref()));
            }
        }
        if let Some(limit) = &form.time_limit {
            builder = builder.time_limit(limit.get_ref().0);
        }
        let handler = Handler {
            subscription: place,
            behaviour: behaviour.clone(),
            record: self.record.clone(),
            clock: self.simulation.clock(),
            time: self.simulation.time(),
        };
        let tokens = Tokens::default();
        let subscribed = match &form.manual {
            Some(manual) => {
                let (tokens, record) = (tokens.clone(), self.record.clone());
                let keeper = Keeper { subscription: place, tokens, record, clock: self.simulation.clock() };
                let terms = options::manual(manual.get_ref());
                builder.subscribe_with_tokens(terms, move |token| keeper.keep(token))
            }
            None => builder.subscribe(move |message| handler.call(message)),
        };
        let subscription = subscribed.map_err(|error| {
            let place = match &error {
                SubscribeError::Acknowledgement { .. } => form.manual.as_ref().map(Spanned::span),
                SubscribeError::Keys { .. } => form.idempotent.as_ref().map(Spanned::span),
                SubscribeError::Conflict { .. } => {
                    let of_tokens = form.manual.as_ref().map(Spanned::span);
                    of_tokens.or(form.idempotent.as_ref().map(Spanned::span))
                }
                SubscribeError::Retry { .. } => form.retry.as_ref().map(Spanned::span),
                SubscribeError::Breaker { .. } => form.breaker.as_ref().map(Spanned::span),
                SubscribeError::TimeLimit { .. } => form.time_limit.as_ref().map(Spanned::span),
                _ => None,
            };
            self.source.refuse(place.unwrap_or(form.name.span()), error.to_string())
        })?;
        let id = subscription.id();
        Ok(Running { name: form.name.get_ref(), id, behaviour, tokens, state: State::Live(subscription) })
    }

    /// The subscription of a name, which was looked at before.
    fn of(&mut self, name: &Spanned<String>) -> Result<&mut Running<'s>, Error> {
        let found = self.subscriptions.iter_mut().find(|running| running.name == name.get_ref());
        found.ok_or_else(|| self.source.refuse(name.span(), "no such subscription"))
    }

    /// Does something with a subscription that has not ended.
    fn with(&mut self, name: &Spanned<String>, act: impl FnOnce(&Subscription<u64>)) -> Result<(), Error> {
        if let State::Live(subscription) = &self.of(name)?.state {
            act(subscription);
        }
        Ok(())
    }

    fn step(&mut self, number: usize, step: &'s Spanned<Step>) -> Result<(), Error> {
        let form = step.get_ref();
        if let Some(publish) = &form.publish {
            self.publish(publish)?;
        }
        if let Some(by) = &form.advance {
            self.advance(by.get_ref().0);
        }
        if let Some(name) = &form.pause {
            self.with(name, |subscription| subscription.pause().unwrap_or_else(|_| unreachable!("no fork")))?;
        }
        if let Some(name) = &form.resume {
            self.with(name, Subscription::resume)?;
        }
        if let Some(name) = &form.unsubscribe {
            self.unsubscribe(name)?;
        }
        if let Some(breaker) = &form.breaker {
            self.with(
                &breaker.of,
                match breaker.to {
                    Force::Open => Subscription::open_breaker,
                    Force::Closed => Subscription::close_breaker,
                    Force::Reset => Subscription::reset_breaker,
                },
            )?;
        }
        if let Some(handler) = &form.handler {
            let takes = handler.takes.map(|takes| takes.0);
            let behaviour = self.of(&handler.of)?.behaviour.clone();
            locked(&behaviour).change(takes, handler.fails.as_ref(), handler.fails_as);
        }
        if let Some(settle) = &form.settle {
            self.settle(number, step, settle)?;
        }
        if let Some(replay) = &form.replay
            && let Err(error) = self.replay(replay.get_ref())
        {
            let line = self.source.line(&step.span());
            self.refusals.push(Refusal { step: number, line, reason: reason_of(error) });
        }
        self.simulation.run();
        Ok(())
    }

    /// Settles tokens, from the oldest. Each that the engine refuses is noted.
    fn settle(&mut self, number: usize, step: &Spanned<Step>, form: &SettleForm) -> Result<(), Error> {
        let tokens = self.of(&form.of)?.tokens.clone();
        for _ in 0..form.count.unwrap_or(1) {
            let Some(token) = locked(&tokens).pop_front() else { break };
            let settled = match form.settled_as {
                SettledAs::Ack => token.ack().map(|()| self.acknowledged += 1),
                SettledAs::Fail => token.fail("told to fail"),
                SettledAs::Forget => {
                    drop(token);
                    Ok(())
                }
            };
            if let Err(error) = settled {
                let reason = match error {
                    TokenError::TooLate => "too-late",
                    _ => "ended",
                };
                self.refusals.push(Refusal { step: number, line: self.source.line(&step.span()), reason });
            }
        }
        Ok(())
    }

    fn publish(&mut self, step: &Spanned<PublishForm>) -> Result<(), Error> {
        let form = step.get_ref();
        // It ends with the step: what it has resolved would hold an ended subscription's account open.
        let mut publisher = self.broker.any_topic_publisher();
        for number in 0..form.count() {
            match form.every {
                Some(every) if number > 0 => self.advance(every.0),
                _ if number % STRIDE == 0 => self.simulation.run(),
                _ => {}
            }
            if self.is_stopped() {
                break;
            }
            let n = self.published;
            let mut options = PublishOptions::new();
            for (key, value) in &form.headers {
                options = options
                    .header(key, value.get_ref().of(n))
                    .map_err(|error| self.source.refuse(value.span(), error.to_string()))?;
            }
            if let Some(ttl) = form.ttl {
                options = options.expires_after(ttl.0);
            }
            if let Some(priority) = form.priority {
                options = options.priority(priority.into());
            }
            let topic = form.topic.get_ref().of(n);
            publisher.publish_with(&topic, n, &options).map(drop).map_err(|error| {
                self.source.refuse(step.span(), format!("message {n} was not published: {}", error.kind()))
            })?;
            self.published += 1;
        }
        Ok(())
    }

    /// Lets the time pass, from one moment at which something is due to the next, so that it can be stopped.
    fn advance(&mut self, by: Duration) {
        let clock = self.simulation.clock();
        let end = clock.now().after(by);
        loop {
            self.simulation.run();
            if self.is_stopped() {
                return;
            }
            let now = clock.now();
            match self.simulation.next_due() {
                Some(moment) if moment > now && moment < end => self.simulation.advance(moment.since(now)),
                _ => break self.simulation.advance(end.since(now)),
            }
        }
    }

    fn unsubscribe(&mut self, name: &Spanned<String>) -> Result<(), Error> {
        self.simulation.run();
        let before = Account::of(&self.broker.audit().past);
        let ended = State::Ended { breaker: None, account: None };
        let running = self.of(name)?;
        let id = running.id;
        if let State::Live(subscription) = std::mem::replace(&mut running.state, ended) {
            let breaker = breaker_of(&subscription);
            subscription.unsubscribe();
            self.simulation.run();
            let audit = self.broker.audit();
            // Where something is under way to it still, it has an account of its own for longer.
            let is_past = audit.subscriptions.iter().all(|account| account.id != id);
            let account = is_past.then(|| Account::of(&audit.past).since(&before));
            self.of(name)?.state = State::Ended { breaker, account };
        }
        Ok(())
    }

    fn replay(&self, form: &ReplayForm) -> Result<(), ReplayError> {
        let Some(letters) = self.broker.dead_letters() else { return Ok(()) };
        let selection = Selection::all().subscription(form.of.get_ref());
        if form.to.as_ref().is_some_and(|to| *to.get_ref() == ReplayTo::Topic) {
            return letters.republish(&selection, Replay::to_topic(), Duration::MAX).map(drop);
        }
        let mut replay = Replay::to_subscription();
        if let Some(rate) = &form.rate {
            replay = replay.rate(*rate.get_ref());
        }
        letters.replay(&selection, replay).map(drop)
    }

    fn is_stopped(&self) -> bool {
        interrupt::interrupted() || locked(&self.record).is_overrun
    }

    /// Whether it may go on.
    fn check(&self) -> Result<(), Error> {
        interrupt::check()?;
        if locked(&self.record).is_overrun {
            let most = grouped(MOST_CALLS as u64);
            return Err(self.source.refuse_all(format!("the scenario makes more than {most} calls")));
        }
        Ok(())
    }

    fn finish(mut self, shuts_down: bool) -> Result<Outcome, Error> {
        let clock = self.simulation.clock();
        let ledger = if shuts_down {
            let report = self.simulation.shutdown();
            report.ledger
        } else {
            self.simulation.run();
            self.broker.audit()
        };
        let record = std::mem::take(&mut *locked(&self.record));
        let subscriptions = self.subscriptions.iter().map(|running| running.end(&ledger)).collect();
        let letters = self.broker.dead_letters();
        let outcome = Outcome {
            ended_at_ns: clock.now().as_nanos(),
            calls: record.calls,
            acknowledged: self.acknowledged,
            subscriptions,
            letters: letters.as_ref().map(held).unwrap_or_default(),
            store: letters.as_ref().map(DeadLetters::counts),
            refusals: self.refusals,
            ledger,
        };
        interrupt::check()?;
        Ok(outcome)
    }
}

impl Running<'_> {
    /// What has come of it.
    fn end(&self, ledger: &Ledger) -> Ended {
        let own = ledger.subscriptions.iter().find(|account| account.id == self.id).map(Account::of);
        match &self.state {
            State::Live(subscription) => {
                let state = if subscription.status().is_paused { "paused" } else { "active" };
                Ended { state, breaker: breaker_of(subscription), account: own.unwrap_or_default() }
            }
            State::Ended { breaker, account } => {
                let account = own.or(*account).unwrap_or_default();
                Ended { state: "unsubscribed", breaker: *breaker, account }
            }
        }
    }
}

/// The letters that a store holds, from the oldest.
fn held(letters: &DeadLetters<u64>) -> Vec<Letter> {
    let letters = letters.query(&Selection::all());
    let letter = |letter: &Arc<ringmain::broker::dead_letters::DeadLetter<u64>>| Letter {
        n: letter.message.payload,
        subscription: letter.subscription.clone(),
        kind: letter.kind.as_str(),
        attempts: letter.attempts.len() as u64 + letter.forgotten_attempts,
        episodes: letter.episodes,
    };
    letters.iter().map(letter).collect()
}

fn reason_of(error: ReplayError) -> &'static str {
    match error {
        ReplayError::AlreadyReplaying { .. } => "already-replaying",
        ReplayError::NoSubscription { .. } => "no-subscription",
        ReplayError::Closed => "closed",
        _ => "refused",
    }
}
