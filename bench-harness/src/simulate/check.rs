//! Reads a scenario, and refuses what contradicts itself and what the engine does not have yet, with the line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ringmain::broker::PublishOptions;
use ringmain::topic::{Pattern, validate};
use toml::Spanned;

use super::scenario::{
    BacklogForm, BreakerForm, FilterForm, PublishForm, ReplayForm, ReplayTo, RetryForm, Scenario, Schedule,
    Step, SubscriptionForm, WhenFullForm, WhileOpenForm,
};
use super::source::Source;
use crate::error::Error;
use crate::units::grouped;

/// The most messages of a scenario.
pub(super) const MOST_MESSAGES: u64 = 1_000_000;
/// The longest that steps may last in all: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<(Source, Scenario), Error> {
    let source = Source::read(path)?;
    let scenario = parse(&source)?;
    Ok((source, scenario))
}

/// Makes a scenario of a text.
pub(super) fn parse(source: &Source) -> Result<Scenario, Error> {
    let scenario: Scenario = toml::from_str(&source.text).map_err(|error| {
        let reason = error.message().trim_end().replace('\n', "; ");
        match error.span() {
            Some(place) => source.refuse(place, reason),
            None => source.refuse_all(reason),
        }
    })?;
    let mut check = Check { source, scenario: &scenario, names: BTreeMap::new(), ended: BTreeSet::new() };
    check.subscriptions()?;
    check.steps()?;
    Ok(scenario)
}

/// What is known of a scenario so far.
struct Check<'s> {
    source: &'s Source,
    scenario: &'s Scenario,
    names: BTreeMap<&'s str, &'s SubscriptionForm>,
    ended: BTreeSet<&'s str>,
}

impl<'s> Check<'s> {
    fn refuse<T>(&self, value: &Spanned<T>, reason: impl Into<String>) -> Result<(), Error> {
        Err(self.source.refuse(value.span(), reason))
    }

    /// A dead letter needs a store.
    fn needs_store<T>(&self, place: &Spanned<T>, what: &str) -> Result<(), Error> {
        if self.scenario.dead_letters.is_some() {
            return Ok(());
        }
        self.refuse(place, format!("{what} needs a store: write dead_letters = {{ messages = 10000 }} above"))
    }

    fn subscriptions(&mut self) -> Result<(), Error> {
        for form in &self.scenario.subscriptions {
            if self.names.insert(form.name.get_ref(), form).is_some() {
                return self.refuse(&form.name, format!("'{}' is the name of another", form.name.get_ref()));
            }
            if form.patterns.get_ref().is_empty() {
                return self.refuse(&form.patterns, "a subscription has one pattern or more");
            }
            for pattern in form.patterns.get_ref() {
                if let Err(error) = Pattern::new(pattern.get_ref()) {
                    return self.refuse(pattern, error.to_string());
                }
            }
            form.filter.as_ref().map_or(Ok(()), |filter| self.filter(filter))?;
            form.retry.as_ref().map_or(Ok(()), |retry| self.retry(retry.get_ref()))?;
            form.breaker.as_ref().map_or(Ok(()), |breaker| self.breaker(breaker))?;
            form.backlog.as_ref().map_or(Ok(()), |backlog| self.backlog(backlog.get_ref()))?;
            let is_told = form.handler.takes.is_some()
                || form.handler.fails.is_some()
                || form.handler.fails_as.is_some();
            if let Some(manual) = form.manual.as_ref().filter(|_| is_told) {
                return self.refuse(
                    manual,
                    "a handler that keeps its messages does nothing else: leave its handler out",
                );
            }
        }
        Ok(())
    }

    fn filter(&self, filter: &Spanned<FilterForm>) -> Result<(), Error> {
        let FilterForm { header, is, priority_at_least } = filter.get_ref();
        match (header, is, priority_at_least) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => Ok(()),
            _ => self.refuse(filter, "a filter has a header, and what it is; or priority_at_least"),
        }
    }

    fn retry(&self, retry: &RetryForm) -> Result<(), Error> {
        match (&retry.factor, retry.schedule) {
            (Some(factor), Some(Schedule::Constant | Schedule::Linear)) => {
                self.refuse(factor, "only an exponential schedule has a factor")
            }
            _ => Ok(()),
        }
    }

    fn breaker(&self, breaker: &Spanned<BreakerForm>) -> Result<(), Error> {
        let form = breaker.get_ref();
        if form.consecutive.is_none() && form.rate.is_none() {
            return self.refuse(breaker, "a breaker has consecutive, or a rate, or both");
        }
        let of_rate = [(&form.window, "window"), (&form.minimum, "minimum")];
        if let Some((Some(place), what)) =
            of_rate.iter().find(|(given, _)| given.is_some() && form.rate.is_none())
        {
            return self.refuse(place, format!("{what} is for a rate, and this breaker has none"));
        }
        if let Some(factor) = form.factor.as_ref().filter(|factor| *factor.get_ref() != 2.0) {
            return self.refuse(factor, "a factor other than 2.0 is not supported yet");
        }
        if let Some(jitter) = form.jitter.as_ref().filter(|jitter| ![0.0, 0.1].contains(jitter.get_ref())) {
            return self.refuse(jitter, "a jitter other than 0.0 and 0.1 is not supported yet");
        }
        match &form.while_open {
            Some(policy) if *policy.get_ref() == WhileOpenForm::DeadLetter => {
                self.needs_store(policy, "while_open = \"dead-letter\"")
            }
            _ => Ok(()),
        }
    }

    fn backlog(&self, backlog: &BacklogForm) -> Result<(), Error> {
        match &backlog.when_full {
            Some(policy) if *policy.get_ref() == WhenFullForm::DeadLetter => {
                self.needs_store(policy, "when_full = \"dead-letter\"")
            }
            _ => Ok(()),
        }
    }

    /// The subscription of that name, which must not have ended.
    fn live(&self, name: &'s Spanned<String>) -> Result<&'s SubscriptionForm, Error> {
        let reason = match self.names.get(name.get_ref().as_str()) {
            Some(form) if !self.ended.contains(name.get_ref().as_str()) => return Ok(form),
            Some(_) => "an earlier step has unsubscribed it".to_owned(),
            None if self.names.is_empty() => "there is no subscription".to_owned(),
            None => {
                format!("the subscriptions are {}", Vec::from_iter(self.names.keys().copied()).join(", "))
            }
        };
        Err(self.source.refuse(name.span(), format!("no subscription '{}': {reason}", name.get_ref())))
    }

    fn steps(&mut self) -> Result<(), Error> {
        let steps = &self.scenario.steps;
        if steps.is_empty() {
            return Err(self.source.refuse_all("the scenario has no [[step]]"));
        }
        let (mut messages, mut time) = (0, Duration::ZERO);
        for (number, step) in steps.iter().enumerate() {
            self.form_of(step)?;
            let form = step.get_ref();
            if let Some(settle) = &form.settle {
                // One that has ended may have tokens; the engine says what becomes of them.
                let manual = self.names.get(settle.of.get_ref().as_str()).map(|form| form.manual.is_some());
                match manual {
                    None => _ = self.live(&settle.of)?,
                    Some(true) => {}
                    Some(false) => {
                        let reason = format!("'{}' keeps no messages: it is not manual", settle.of.get_ref());
                        return self.refuse(&settle.of, reason);
                    }
                }
            }
            for name in [&form.pause, &form.resume, &form.unsubscribe].into_iter().flatten() {
                self.live(name)?;
            }
            if let Some(name) = &form.unsubscribe {
                self.ended.insert(name.get_ref());
            }
            if let Some(breaker) = &form.breaker
                && self.live(&breaker.of)?.breaker.is_none()
            {
                return self.refuse(&breaker.of, format!("'{}' has no breaker", breaker.of.get_ref()));
            }
            if let Some(handler) = &form.handler {
                if self.live(&handler.of)?.manual.is_some() {
                    let reason =
                        format!("'{}' keeps its messages, and does nothing else", handler.of.get_ref());
                    return self.refuse(&handler.of, reason);
                }
                if handler.takes.is_none() && handler.fails.is_none() && handler.fails_as.is_none() {
                    return self.refuse(&handler.of, "takes, fails or as: one is to be changed");
                }
            }
            if let Some(replay) = &form.replay {
                self.replay(replay)?;
            }
            if let Some(publish) = &form.publish {
                self.publish(publish, messages)?;
                messages += publish.get_ref().count();
                let every = publish.get_ref().every.map_or(Duration::ZERO, |every| every.0);
                time += every.saturating_mul(publish.get_ref().count() as u32);
            }
            if let Some(shutdown) = &form.shutdown
                && number + 1 < steps.len()
            {
                return self.refuse(shutdown, "a shutdown is the last step");
            }
            time += form.advance.as_ref().map_or(Duration::ZERO, |by| by.get_ref().0);
            if time > LONGEST {
                return self.refuse(step, "with this step the scenario lasts longer than a hundred years");
            }
        }
        Ok(())
    }

    /// A step does one thing.
    fn form_of(&self, step: &Spanned<Step>) -> Result<(), Error> {
        let form = step.get_ref();
        let given = [
            form.publish.is_some(),
            form.advance.is_some(),
            form.pause.is_some(),
            form.resume.is_some(),
            form.unsubscribe.is_some(),
            form.breaker.is_some(),
            form.handler.is_some(),
            form.settle.is_some(),
            form.replay.is_some(),
            form.shutdown.is_some(),
        ];
        match given.into_iter().filter(|given| *given).count() {
            1 => Ok(()),
            0 => self.refuse(step, "the step does nothing"),
            many => self.refuse(step, format!("a step does one thing, not {many}")),
        }
    }

    fn replay(&self, replay: &'s Spanned<ReplayForm>) -> Result<(), Error> {
        let ReplayForm { of, to, rate } = replay.get_ref();
        // One that has ended may have dead letters; the engine says what becomes of them.
        if !self.names.contains_key(of.get_ref().as_str()) {
            self.live(of)?;
        }
        self.needs_store(replay, "a replay")?;
        match (to, rate) {
            (Some(to), Some(rate)) if *to.get_ref() == ReplayTo::Topic => {
                self.refuse(rate, "to topics all letters are published at once")
            }
            (_, Some(rate)) if *rate.get_ref() == 0 => self.refuse(rate, "a rate is at least 1 in a second"),
            _ => Ok(()),
        }
    }

    fn publish(&self, publish: &Spanned<PublishForm>, before: u64) -> Result<(), Error> {
        let form = publish.get_ref();
        let count = form.count();
        let place = form.count.as_ref().map_or(publish.span(), Spanned::span);
        if count == 0 {
            return Err(self.source.refuse(place, "a count is at least 1"));
        }
        if count > MOST_MESSAGES - before {
            let most = grouped(MOST_MESSAGES);
            return Err(self.source.refuse(place, format!("more than {most} messages in all")));
        }
        // The last number is the longest.
        for n in [before, before + count - 1] {
            let topic = form.topic.get_ref().of(n);
            if let Err(error) = validate(&topic) {
                return self.refuse(&form.topic, format!("'{topic}' is no topic: {error}"));
            }
            let mut options = PublishOptions::new();
            for (key, value) in &form.headers {
                options = options
                    .header(key, value.get_ref().of(n))
                    .map_err(|error| self.source.refuse(value.span(), error.to_string()))?;
            }
        }
        Ok(())
    }
}
