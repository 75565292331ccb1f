//! The options of subscriptions: what one can be told, and whether that is possible. `start` has them start.

use super::callbacks::{BoxedFallback, ErrorCallback, FailedDelivery};
use super::contract::Expired;
use super::feature::{Feature, conflict};
use super::filter::{BoxedFilter, Filter};
use super::handled::IntoHandled;
use super::limit::LIMITS;
use super::registry::{Nature, SubscriptionState};
use super::token::Acknowledgement;
use crate::broker::core::Core;
use crate::broker::error::{SubscribeError, check_name};
use crate::broker::handle::Broker;
use crate::broker::policy::breaker::{Breaker, WhileOpen};
use crate::broker::policy::idempotency::Idempotency;
use crate::broker::policy::key::KeyBy;
use crate::broker::policy::retry::Retry;
use crate::broker::waiting::backlog::{Backlog, WhenFull};
use crate::message::{Message, MessagePayload};
use crate::routing::ConsumerAddr;
use crate::sync::atomic::Ordering;
use crate::topic::Pattern;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The options of a subscription. See [`Broker::subscription`](crate::broker::Broker::subscription).
///
/// ```
/// # use ringmain::broker::{Broker, Dispatcher};
/// let broker = Broker::builder()
///     .dispatcher(Dispatcher::new("orders").stages(&[1, 1]))
///     .build()?;
/// let journal = broker
///     .subscription()
///     .name("journal")
///     .pattern("orders.#")
///     .pattern("refunds.#")
///     .dispatcher("orders")
///     .stage(0)
///     .subscribe(|message| println!("{}", message.topic()))?;
/// assert_eq!(journal.name(), "journal");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "without `subscribe` nothing is subscribed"]
pub struct SubscriptionBuilder<P> {
    pub(super) core: Arc<Core<P>>,
    pub(super) name: Option<String>,
    pub(super) patterns: Vec<String>,
    pub(super) dispatcher: Option<String>,
    pub(super) stage: Option<usize>,
    pub(super) filter: Option<BoxedFilter<P>>,
    pub(super) idempotency: Option<Idempotency<P>>,
    pub(super) conflation: Option<KeyBy<P>>,
    pub(super) backlog: Option<Backlog>,
    pub(super) retry: Option<Retry>,
    pub(super) breaker: Option<Breaker>,
    pub(super) fallback: Option<BoxedFallback<P>>,
    pub(super) time_limit: Option<Duration>,
    pub(super) expired: Expired<P>,
    pub(super) on_error: Option<ErrorCallback<P>>,
}

impl<P: MessagePayload> SubscriptionBuilder<P> {
    pub(super) fn new(core: Arc<Core<P>>) -> Self {
        Self {
            core,
            name: None,
            patterns: Vec::new(),
            dispatcher: None,
            stage: None,
            filter: None,
            idempotency: None,
            conflation: None,
            backlog: None,
            retry: None,
            breaker: None,
            fallback: None,
            time_limit: None,
            expired: Expired { callback: None, are_dead: false },
            on_error: None,
        }
    }

    /// Names the subscription, for logs, metrics and reports: 1 to 64 printable bytes, unique in
    /// its broker. Without a name it is called after its number.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Adds a pattern. A message that several patterns match comes once.
    pub fn pattern(mut self, pattern: &str) -> Self {
        self.patterns.push(pattern.to_owned());
        self
    }

    /// Has the handler called by that dispatcher; by default, by the first one declared.
    pub fn dispatcher(mut self, dispatcher: &str) -> Self {
        self.dispatcher = Some(dispatcher.to_owned());
        self
    }

    /// Has the handler called in that stage, from 0; by default, in the last one.
    pub fn stage(mut self, stage: usize) -> Self {
        self.stage = Some(stage);
        self
    }

    /// Has the handler called only with messages that a filter wants: a closure, or one of
    /// [`filter`](crate::broker::filter). With several, only with those that all of them want, asked
    /// in order until one does not.
    ///
    /// What is not wanted is counted as [`Term::Filtered`](crate::broker::Term::Filtered). A filter
    /// is asked once for each message that has not expired, on the consumer's thread, and delays the
    /// consumer as the handler does. One that panics is a failed delivery, as if the handler had
    /// panicked. A subscription without a filter pays nothing for this.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// let broker = Broker::of::<u64>().build()?;
    /// let large = broker.subscription().pattern("orders.#").filter(|amount| **amount >= 1_000);
    /// let _subscription = large.subscribe(|amount| println!("{}", **amount))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter(mut self, wanted: impl FnMut(&Message<'_, P>) -> bool + Send + 'static) -> Self {
        self.filter = Some(match self.filter.take() {
            None => Box::new(wanted),
            Some(earlier) => Box::new(earlier.and(wanted)),
        });
        self
    }

    /// Bounds what may wait of its messages, and says what happens to one for which there is no room. Messages wait
    /// while the subscription is [paused](crate::broker::Subscription::pause), has an open [breaker](Self::breaker),
    /// retries [in order](Retry::in_order), while its handler [is away](crate::broker::SubscriptionStatus::is_away),
    /// and until those before them are delivered. By default at most 1,024 wait, of 4 MiB together; what finds no room
    /// becomes a dead letter where the broker keeps them, and is dropped and counted where it does not.
    ///
    /// A handler that is merely slow makes nothing wait here: what it has not come to stays in the ring, which fills
    /// up. A slow reader that is to miss messages [conflates](Self::conflate), or takes
    /// [tokens](Self::subscribe_with_tokens) and works on a thread of its own.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{Backlog, Term, WhenFull};
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let display = broker
    ///     .subscription()
    ///     .pattern("prices")
    ///     .backlog(Backlog::new(2).when_full(WhenFull::DropOldest))
    ///     .subscribe(|price| println!("{}", **price))?;
    /// display.pause()?;
    /// let mut prices = broker.publisher("prices")?;
    /// for price in [10, 11, 12] {
    ///     prices.publish(price)?;
    /// }
    /// # while broker.audit().subscriptions[0].count(Term::Overflow) < 1 { std::thread::yield_now(); }
    /// display.resume();
    /// broker.drain(Duration::from_secs(5))?;
    /// let account = &broker.audit().subscriptions[0];
    /// assert_eq!(account.delivered(), 2);
    /// assert_eq!(account.count(Term::Overflow), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backlog(mut self, backlog: Backlog) -> Self {
        self.backlog = Some(backlog);
        self
    }

    /// Has each message handled once, also where it comes again: a message whose key is that of one that has been
    /// handled, or that waits to be, is dropped, and counted as [`Term::Duplicate`](crate::broker::Term::Duplicate).
    /// By default nothing is remembered.
    ///
    /// What is the same is told by a [key](crate::broker::key) of the message: a header that its sender has set, or
    /// something in the payload. A key is remembered from when its message was handled, for the time and up to the
    /// number that [`Idempotency`] says. It is forgotten with the subscription, and with the process: this is no
    /// exactly-once delivery, but what keeps a sender's repetition from being handled twice. A message that has
    /// failed for good does not keep its key: it may be sent again. A message that is retried, and a dead letter that
    /// is replayed, are no duplicates of themselves. A replay is not asked for its key: it is delivered also where a
    /// repetition of its message has been handled meanwhile. While it waits for another attempt, and once it has been
    /// handled, its key counts as that of any message.
    ///
    /// Costs a delivery two look-ups in a hash map, one more where a key is forgotten, and a look at the clock.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{Idempotency, Term, key};
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u64>().build()?;
    /// let _billing = broker
    ///     .subscription()
    ///     .pattern("orders")
    ///     .idempotent(Idempotency::by(key::of(|order| Some(**order))))
    ///     .subscribe(|order| println!("{}", **order))?;
    /// let mut orders = broker.publisher("orders")?;
    /// for number in [4711, 4712, 4711] {
    ///     let _ = orders.publish(number)?;
    /// }
    /// broker.drain(Duration::from_secs(5))?;
    /// let account = &broker.audit().subscriptions[0];
    /// assert_eq!((account.delivered(), account.count(Term::Duplicate)), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idempotent(mut self, idempotency: Idempotency<P>) -> Self {
        self.idempotency = Some(idempotency);
        self
    }

    /// Has a newer message take the place of an older one with the same [key](crate::broker::key) that waits, for whom
    /// the latest value is enough: prices, positions, states. The older one is dropped, and counted as
    /// [`Term::Conflated`](crate::broker::Term::Conflated). By default every message is delivered.
    ///
    /// The consumer brings what is in the ring into the [backlog](Self::backlog) first, and then delivers one message
    /// after the other, each time after whatever has come meanwhile. So a slow handler gets the latest value of each
    /// key, the keys take turns in the order in which they came, and the backlog needs no more places than there are
    /// keys. While the ring is never empty, a message is delivered at least every 16 turns of the consumer, that is,
    /// after at most 1,024 events. Messages without a key are all delivered.
    ///
    /// Each message is copied into the backlog, behind a lock: a subscription that conflates costs more than one that
    /// does not, and pays where its handler is slower than its messages come. Not on a
    /// [rescuable](crate::broker::Dispatcher::rescuable) dispatcher, where it would not hold.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{Term, key};
    /// # use std::sync::mpsc::channel;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let (sender, received) = channel();
    /// let prices = broker.subscription().pattern("prices.*").conflate(key::topic());
    /// let display = prices.subscribe(move |price| sender.send((price.topic().to_string(), **price)))?;
    /// display.pause()?;
    /// for price in 1..=100 {
    ///     let _ = broker.publisher("prices.eurusd")?.publish(price)?;
    /// }
    /// # while broker.audit().subscriptions[0].count(Term::Conflated) < 99 { std::thread::yield_now(); }
    /// display.resume();
    /// broker.drain(Duration::from_secs(5))?;
    /// assert_eq!(received.try_iter().collect::<Vec<_>>(), [("prices.eurusd".to_owned(), 100)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn conflate(mut self, key: KeyBy<P>) -> Self {
        self.conflation = Some(key);
        self
    }

    /// Has a failed delivery tried again: where the handler returns an error or panics. By default it is
    /// not.
    ///
    /// Each attempt is a call of the handler with the same message and a higher
    /// [`attempt`](Message::attempt), on the consumer's thread. Between them the message waits beside
    /// the ring, and holds up nobody: neither other subscriptions nor, unless it is to keep the
    /// [order](Retry::in_order), other messages of this one. It is copied when its first attempt has
    /// failed. What an attempt has done before it failed is done, and what it has published is
    /// published: a handler that is retried has to be able to meet its own traces.
    ///
    /// A message whose last attempt has failed is a dead letter where the broker
    /// [keeps](crate::broker::BrokerBuilder::dead_letters) them; else it is dropped, and counted as
    /// [`Term::Failed`](crate::broker::Term::Failed). A shutdown neither waits for retries that are not
    /// due nor gives them up: it hands them back.
    ///
    /// Costs nothing until a delivery fails.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{Jitter, Retry};
    /// # use std::sync::mpsc::channel;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let (sender, attempts) = channel();
    /// let retry = Retry::exponential(Duration::from_millis(1)).jitter(Jitter::None).attempts(3);
    /// let _payments = broker.subscription().pattern("payments").retry(retry).subscribe(
    ///     move |amount| -> Result<(), &str> {
    ///         let _ = sender.send(amount.attempt());
    ///         if amount.attempt() < 3 { Err("the bank does not answer") } else { Ok(()) }
    ///     },
    /// )?;
    /// broker.publisher("payments")?.publish(100)?;
    /// broker.drain(Duration::from_secs(5))?;
    /// assert_eq!(attempts.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// let account = &broker.audit().subscriptions[0];
    /// assert_eq!((account.delivered(), account.failures(), account.retries), (1, 2, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Leaves the handler alone for a while when it keeps failing. By default it is not.
    ///
    /// Meanwhile the subscription's messages wait in its [backlog](Self::backlog), are refused, or become
    /// dead letters, as the breaker [says](Breaker::while_open). Then one after the other is delivered as a probe, the
    /// oldest first, until enough of them have gone well. What waits uses up no attempt of a
    /// [retry](Self::retry), and a pause by hand and one by the breaker do not lift each other.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{Breaker, BreakerState};
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let payments = broker
    ///     .subscription()
    ///     .pattern("payments")
    ///     .breaker(Breaker::consecutive(3))
    ///     .subscribe(|_| Err::<(), _>("the bank does not answer"))?;
    /// let mut publisher = broker.publisher("payments")?;
    /// for amount in 0..10 {
    ///     publisher.publish(amount)?;
    /// }
    /// # while payments.status().backlogged < 7 { std::thread::yield_now(); }
    /// let status = payments.status();
    /// assert_eq!((status.breaker, status.backlogged), (Some(BreakerState::Open), 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Has another handler called while the [breaker](Self::breaker) is open, instead of what that
    /// [says](Breaker::while_open): from a cache, with a default, or to another bank. It is called on the consumer's
    /// thread, as the handler is, with each message that would have been refused, and returns what handlers return.
    /// What it returns well with has been delivered. What it fails with, or panics, is no further attempt of the
    /// handler's and tells the breaker nothing: it becomes a dead letter where they are kept, or is dropped and
    /// counted as [`Term::Failed`](crate::broker::Term::Failed).
    ///
    /// The breaker's probes, and retries that are due, are the handler's own.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::Breaker;
    /// # use std::sync::mpsc::channel;
    /// let mut simulation = Broker::of::<u32>().simulate()?;
    /// let broker = simulation.broker();
    /// let (sender, from_cache) = channel();
    /// let rates = broker.subscription().pattern("rates").breaker(Breaker::consecutive(3));
    /// let rates = rates.fallback(move |rate| sender.send(**rate));
    /// let _rates = rates.subscribe(|_| Err::<(), _>("the service does not answer"))?;
    /// let mut publisher = broker.publisher("rates")?;
    /// for rate in 0..10 {
    ///     let _ = publisher.publish(rate)?;
    /// }
    /// simulation.run();
    /// assert_eq!(from_cache.try_iter().collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fallback<R: IntoHandled>(
        mut self,
        mut handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
    ) -> Self {
        self.fallback = Some(Box::new(move |message| handler(message).into_handled()));
        self
    }

    /// Gives each call of the handler a time limit. By default it has none.
    ///
    /// No call is interrupted: one that has not returned by its [deadline](Message::deadline) goes on, and can find
    /// that out ([`Message::is_cancelled`]). Whatever it returns then is discarded, and counted as
    /// [`late`](crate::broker::SubscriptionLedger::late): the delivery has failed, with kind
    /// [`TimedOut`](crate::broker::FailureKind::TimedOut) and an error that says how long it took. As any failure it
    /// is [retried](Self::retry), counted by the [breaker](Self::breaker), and becomes a dead letter, all of that when
    /// the call has returned: a message is never tried again beside a call that still runs. An
    /// [idempotent](Self::idempotent) subscription does not remember its key. What the call has done is done, as in
    /// any attempt that has failed. A late call that panics is a panic, and not counted as late.
    ///
    /// While a call is over its limit, the watchdog names it ([`on_stall`](crate::broker::BrokerBuilder::on_stall),
    /// [`Broker::stalls`](crate::broker::Broker::stalls)): at the subscription's own limit, be that shorter or longer
    /// than what the broker was told ([`stall_after`](crate::broker::BrokerBuilder::stall_after)). It takes all calls
    /// about one delivery for one: where a filter, a fallback or a callback takes so long it is named as well, though
    /// the handler is not late. Where the watchdog is switched off, and in a simulation, nobody is told before the call
    /// returns; all else holds.
    ///
    /// The time is that of the handler's own call, by the broker's clock: filters, keys, fallbacks and callbacks do not
    /// count. A call that takes exactly its limit is in time. With [tokens](Self::subscribe_with_tokens) the time runs
    /// until the message is settled, and the shorter of this limit and the
    /// [token's](crate::broker::Acknowledgement::within) holds, which [`extend`](crate::broker::Token::extend) renews.
    ///
    /// Costs a call two looks at the clock; and the watchdog looks four times within the shortest limit, at most once a
    /// millisecond. A subscription without a limit pays nothing.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{FailureKind, Term};
    /// # use std::time::Duration;
    /// let mut simulation = Broker::of::<u64>().simulate()?;
    /// let (broker, time) = (simulation.broker(), simulation.time());
    /// let limited = broker.subscription().pattern("jobs").time_limit(Duration::from_millis(50));
    /// let _jobs = limited.subscribe(move |job| time.advance(Duration::from_millis(**job)))?;
    /// let mut jobs = broker.publisher("jobs")?;
    /// for takes in [10, 50, 51] {
    ///     let _ = jobs.publish(takes)?;
    /// }
    /// simulation.run();
    /// let account = broker.audit().total();
    /// assert_eq!((account.delivered(), account.late, account.count(Term::Failed)), (2, 1, 1));
    /// assert_eq!(account.failures_of(FailureKind::TimedOut), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A limit below a microsecond or above a day is an error of [`subscribe`](Self::subscribe).
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Has a message that expires become a dead letter, with kind [`Expired`](crate::broker::FailureKind::Expired), and
    /// counted as such a failure. By default it is dropped, and counted as
    /// [`Term::Expired`](crate::broker::Term::Expired). Only for brokers that
    /// [keep](crate::broker::BrokerBuilder::dead_letters) dead letters.
    ///
    /// A message expires at the moment that its publisher has [set](crate::broker::PublishOptions::expires_after):
    /// when it arrives too late, or at that very moment where it waits, be it during a pause, behind an open breaker
    /// or for another attempt. One that has expired at the moment of a shutdown is counted as expired.
    pub fn dead_letter_expired(mut self) -> Self {
        self.expired.are_dead = true;
        self
    }

    /// Has a callback called with each message that expires, on the consumer's thread, after it was counted. A panic
    /// in it is caught; a slow one delays the consumer as a handler does. It is not called for what a shutdown finds
    /// expired, nor for what becomes a [dead letter](Self::dead_letter_expired).
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{PublishOptions, Term};
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let (sender, expired) = std::sync::mpsc::channel();
    /// let quotes = broker.subscription().pattern("quotes").on_expired(move |quote| {
    ///     let _ = sender.send(**quote);
    /// });
    /// let quotes = quotes.subscribe(|quote| println!("{}", **quote))?;
    /// quotes.pause()?;
    /// let brief = PublishOptions::new().expires_after(Duration::from_millis(1));
    /// let _ = broker.publisher("quotes")?.publish_with(975, &brief)?;
    /// assert_eq!(expired.recv_timeout(Duration::from_secs(5))?, 975);
    /// assert_eq!(broker.audit().subscriptions[0].count(Term::Expired), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_expired(mut self, callback: impl Fn(&Message<'_, P>) + Send + Sync + 'static) -> Self {
        self.expired.callback = Some(Arc::new(callback));
        self
    }

    /// Has a callback called whenever the handler returns an error or panics, or a filter does, with
    /// the message and
    /// the failure: for a log of one's own, whose text may quote what the engine's never does. It
    /// runs on the consumer's thread within the handler's call, so a slow one delays the consumer;
    /// a panic in it is caught. After it comes the broker's own, if there is one
    /// ([`BrokerBuilder::on_error`](crate::broker::BrokerBuilder::on_error)).
    ///
    /// ```
    /// # use ringmain::broker::Broker;
    /// # use std::time::Duration;
    /// let (sender, errors) = std::sync::mpsc::channel();
    /// let broker = Broker::builder().build()?;
    /// let _billing = broker
    ///     .subscription()
    ///     .name("billing")
    ///     .pattern("orders.#")
    ///     .on_error(move |message, failed| {
    ///         let (topic, name) = (message.topic(), failed.subscription);
    ///         let _ = sender.send(format!("{topic} failed for {name}: {:?}", failed.error));
    ///     })
    ///     .subscribe(|_| Err::<(), _>("no such customer"))?;
    /// broker.publisher("orders.eu")?.publish("4711")?;
    /// let text = errors.recv_timeout(Duration::from_secs(5))?;
    /// assert_eq!(text, r#"orders.eu failed for billing: Some("no such customer")"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_error(
        mut self,
        callback: impl Fn(&Message<'_, P>, &FailedDelivery<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_error = Some(Arc::new(callback));
        self
    }

    /// Checks everything and enters the subscription's name; nothing is routed to it yet.
    pub(super) fn enter(
        &self,
        core: &Core<P>,
        terms: Option<Acknowledgement>,
    ) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let patterns = self.patterns.iter().map(|text| Pattern::new(text)).collect::<Result<Vec<_>, _>>()?;
        if patterns.is_empty() {
            return Err(SubscribeError::NoPattern);
        }
        for pattern in &patterns {
            let (wildcards, limit) = (pattern.wildcard_count(), core.max_wildcards);
            if wildcards > limit {
                let pattern = pattern.to_string();
                return Err(SubscribeError::TooManyWildcards { pattern, wildcards, limit });
            }
        }
        if let Some(name) = &self.name {
            check_name(name).map_err(|problem| SubscribeError::Name { problem })?;
        }
        if let Some(retry) = &self.retry {
            retry.check().map_err(|problem| SubscribeError::Retry { problem })?;
        }
        let wants_dead_letters = [
            self.backlog.and_then(|backlog| backlog.asked_when_full()) == Some(WhenFull::DeadLetter),
            self.breaker.as_ref().is_some_and(|breaker| breaker.policy() == WhileOpen::DeadLetter),
            self.expired.are_dead,
        ];
        let options = ["the backlog", "the breaker", "the expiry of messages"];
        if core.dead_letters.is_none()
            && let Some((option, _)) = options.into_iter().zip(wants_dead_letters).find(|(_, wants)| *wants)
        {
            return Err(SubscribeError::NoDeadLetters { option });
        }
        if let Some(Err(keys)) = self.idempotency.as_ref().map(Idempotency::check) {
            return Err(SubscribeError::Keys { keys, limit: Idempotency::<P>::MOST_KEYS });
        }
        if self.conflation.is_some() && self.backlog.is_some_and(|backlog| backlog.is_none()) {
            return Err(SubscribeError::NothingMayWait);
        }
        if let Some((one, other, reason)) = conflict(&self.features(terms)) {
            return Err(SubscribeError::Conflict { one, other, reason });
        }
        if let Some(breaker) = &self.breaker {
            breaker.check().map_err(|problem| SubscribeError::Breaker { problem })?;
        }
        if self.fallback.is_some() && self.breaker.is_none() {
            return Err(SubscribeError::FallbackWithoutBreaker);
        }
        let name = self.name.as_deref();
        if let Some(terms) = terms.filter(|terms| terms.in_flight == 0 || terms.limit.is_zero()) {
            return Err(SubscribeError::Acknowledgement { in_flight: terms.in_flight, limit: terms.limit });
        }
        if let Some(limit) = self.time_limit.filter(|limit| !LIMITS.contains(limit)) {
            return Err(SubscribeError::TimeLimit { limit, least: *LIMITS.start(), most: *LIMITS.end() });
        }
        let place = self.place()?;
        let is_rescuable = core.consumer(place).standby.is_some();
        if is_rescuable && self.conflation.is_some() {
            let dispatcher = core.dispatcher(place.dispatcher).name.to_string();
            return Err(SubscribeError::ConflationOnRescuable { dispatcher });
        }
        let nature = Nature {
            is_rescuable,
            has_breaker: self.breaker.is_some(),
            conflates: self.conflation.is_some(),
            has_tokens: terms.is_some(),
            time_limit: self.time_limit,
        };
        let state = core.registry.enter(name, patterns, place, nature)?;
        core.consumer(state.destination.consumer).subscriptions.fetch_add(1, Ordering::Relaxed);
        if let (Some(watch), Some(limit)) = (&core.watch, state.time_limit) {
            watch.look_within(limit);
        }
        Ok(state)
    }

    /// Returns what it was told, as far as that concerns what else it was told.
    fn features(&self, terms: Option<Acknowledgement>) -> Vec<Feature> {
        let is_ordered = self.retry.as_ref().map(Retry::is_in_order);
        let features = [
            (self.filter.is_some(), Feature::Filter),
            (self.idempotency.is_some(), Feature::Idempotency),
            (self.breaker.is_some(), Feature::Breaker),
            (is_ordered == Some(false), Feature::DeferredRetry),
            (is_ordered == Some(true), Feature::OrderedRetry),
            (self.conflation.is_some(), Feature::Conflation),
            (terms.is_some(), Feature::Tokens),
            (terms.is_some_and(|terms| terms.in_flight > 1), Feature::InFlight),
            (self.time_limit.is_some(), Feature::TimeLimit),
        ];
        features.into_iter().filter(|(is_told, _)| *is_told).map(|(_, feature)| feature).collect()
    }

    /// Returns the consumer with the fewest subscriptions in the stage that was asked for.
    fn place(&self) -> Result<ConsumerAddr, SubscribeError> {
        let dispatchers = &self.core.dispatchers;
        let number = match &self.dispatcher {
            None => 0,
            Some(name) => {
                dispatchers.iter().position(|dispatcher| *dispatcher.name == **name).ok_or_else(|| {
                    let known: Vec<_> =
                        dispatchers.iter().map(|dispatcher| format!("{:?}", dispatcher.name)).collect();
                    SubscribeError::NoSuchDispatcher { name: name.clone(), known: known.join(", ") }
                })?
            }
        };
        let dispatcher = &dispatchers[number];
        let stage = self.stage.unwrap_or(dispatcher.stages.len() - 1);
        let consumers = dispatcher.stages.get(stage).ok_or_else(|| SubscribeError::NoSuchStage {
            dispatcher: dispatcher.name.to_string(),
            stage,
            stages: dispatcher.stages.len(),
        })?;
        let load = |&index: &usize| dispatcher.consumers[index].subscriptions.load(Ordering::Relaxed);
        let index = consumers.clone().min_by_key(load).unwrap_or(consumers.start);
        Ok(ConsumerAddr { dispatcher: number as u16, number: index as u16 })
    }
}

impl<P> fmt::Debug for SubscriptionBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionBuilder")
            .field("name", &self.name)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Returns the options of a subscription, to be set.
    pub fn subscription(&self) -> SubscriptionBuilder<P> {
        SubscriptionBuilder::new(self.core().clone())
    }
}
