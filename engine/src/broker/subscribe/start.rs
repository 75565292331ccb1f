//! How subscriptions start: completed with a handler, put together, and all of them in one swap of the routing table.

use super::builder::SubscriptionBuilder;
use super::callbacks::Callbacks;
use super::contract::{BoxedKeeper, Contract, Keeper};
use super::handled::IntoHandled;
use super::handler::{MakeHandler, OwnedHandler, Wrapping, drop_handler, maker};
use super::limit::TimeLimit;
use super::registry::SubscriptionState;
use super::subscription::Subscription;
use super::token::{Acknowledgement, Token};
use crate::broker::core::Core;
use crate::broker::deliver::mailbox::{Command, OwnedSubscription};
use crate::broker::error::SubscribeError;
use crate::broker::handle::Broker;
use crate::broker::name::DispatcherName;
use crate::broker::policy::breaker::{Breaker, WhileOpen};
use crate::broker::policy::conflation::Conflation;
use crate::broker::policy::guarded::Guarded;
use crate::broker::policy::idempotency::Keys;
use crate::broker::policy::retry::RetryState;
use crate::broker::waiting::backlog::WhenFull;
use crate::message::{Message, MessagePayload, Occasion};
use crate::routing::{ConsumerAddr, ForeignWildcard};
use crate::sync::panics::guard;
use std::fmt;
use std::sync::Arc;

const LOG: &str = "ringmain::subscribe";

impl<P: MessagePayload> SubscriptionBuilder<P> {
    /// Subscribes. Every message published after this has returned, to a topic that a pattern
    /// matches, is delivered. Allocates and locks briefly; does not wait.
    ///
    /// A pattern with a word that is a wildcard in another system and stands for itself here, such
    /// as `orders.>`, is logged as a warning, with target `ringmain::subscribe`
    /// ([`ForeignWildcard`] tells which words).
    ///
    /// # Errors
    /// A malformed pattern or name, a pattern with more wildcards than the broker allows, a name
    /// that is taken, a dispatcher or stage that does not exist, options that cannot be or that exclude each other, or
    /// a broker that was shut down.
    pub fn subscribe<R: IntoHandled>(
        self,
        handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
    ) -> Result<Subscription<P>, SubscribeError> {
        let core = self.core.clone();
        let mut started = start_all(&core, std::iter::once(self.prepare(handler)))?;
        Ok(started.pop().unwrap_or_else(|| unreachable!("one is started for each that was prepared")))
    }

    /// Completes it without subscribing yet, for
    /// [`Broker::subscribe_all`](crate::broker::Broker::subscribe_all).
    pub fn prepare<R: IntoHandled>(
        self,
        handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
    ) -> Prepared<P> {
        Prepared { options: self, make: maker(handler), keeper: None }
    }

    /// Subscribes a handler that keeps messages: it gets a [`Token`] that owns a copy, may move it to another thread,
    /// and settles it later. For work that is done elsewhere: by a pool of one's own, a database, another process.
    ///
    /// What the handler's call itself returns or panics with settles nothing: the token does, and one that is dropped
    /// has failed. Until then the message is [in flight](crate::broker::Term::InFlight), at most as many as `terms`
    /// allow; others wait in the [backlog](Self::backlog). One that is not settled within its limit has failed, with
    /// kind [`TimedOut`](crate::broker::FailureKind::TimedOut). Failures are [retried](Self::retry), counted by the
    /// [breaker](Self::breaker) and become dead letters as those of any handler; a token that was dropped is not
    /// retried, unless a panic has dropped it.
    ///
    /// Each message is copied: it allocates. A shutdown waits for tokens, as long as its limit allows, and then lists
    /// what is [in doubt](crate::broker::ShutdownReport::in_doubt). When the subscription ends, what is in flight is
    /// counted as in doubt, and its tokens are told so.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{Acknowledgement, Token};
    /// # use std::sync::mpsc::channel;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let (sender, jobs) = channel::<Token<u32>>();
    /// let terms = Acknowledgement::within(Duration::from_secs(30)).in_flight(4);
    /// let _jobs = broker.subscription().pattern("jobs").subscribe_with_tokens(terms, move |token| {
    ///     let _ = sender.send(token);
    /// })?;
    /// let worker = std::thread::spawn(move || {
    ///     for token in jobs {
    ///         println!("job {}", *token.message());
    ///         let _ = token.ack();
    ///     }
    /// });
    /// for job in 0..10 {
    ///     let _ = broker.publisher("jobs")?.publish(job)?;
    /// }
    /// let report = broker.shutdown(Duration::from_secs(5))?;
    /// assert_eq!(report.ledger.total().delivered(), 10);
    /// assert!(report.in_doubt.is_empty());
    /// # worker.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); and none in flight, or a limit of 0.
    pub fn subscribe_with_tokens(
        self,
        terms: Acknowledgement,
        handler: impl FnMut(Token<P>) + Send + 'static,
    ) -> Result<Subscription<P>, SubscribeError> {
        let core = self.core.clone();
        let mut started = start_all(&core, std::iter::once(self.prepare_with_tokens(terms, handler)))?;
        Ok(started.pop().unwrap_or_else(|| unreachable!("one is started for each that was prepared")))
    }

    /// Completes it so without subscribing yet, for [`Broker::subscribe_all`](crate::broker::Broker::subscribe_all).
    pub fn prepare_with_tokens(
        self,
        terms: Acknowledgement,
        handler: impl FnMut(Token<P>) + Send + 'static,
    ) -> Prepared<P> {
        // It is never called: messages are handed out instead.
        Prepared { options: self, make: maker(|_| ()), keeper: Some((terms, Box::new(handler))) }
    }
}

/// A complete subscription that has not started. See
/// [`Broker::subscribe_all`](crate::broker::Broker::subscribe_all).
#[must_use = "nothing is subscribed yet"]
pub struct Prepared<P> {
    options: SubscriptionBuilder<P>,
    make: MakeHandler<P>,
    keeper: Option<(Acknowledgement, BoxedKeeper<P>)>,
}

impl<P> fmt::Debug for Prepared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Starts subscriptions in one swap of the table; all of them, or none.
fn start_all<P: MessagePayload>(
    core: &Arc<Core<P>>,
    prepared: impl Iterator<Item = Prepared<P>>,
) -> Result<Vec<Subscription<P>>, SubscribeError> {
    if core.is_closed() {
        return Err(SubscribeError::Closed);
    }
    if core.is_forked() {
        return Err(SubscribeError::Forked);
    }
    let mut beginning = Beginning { core, entered: Vec::new() };
    for Prepared { options, make, keeper } in prepared {
        if !Arc::ptr_eq(core, &options.core) {
            return Err(SubscribeError::OtherBroker);
        }
        let state = options.enter(core, keeper.as_ref().map(|(terms, _)| *terms))?;
        let SubscriptionBuilder {
            filter,
            idempotency,
            conflation,
            backlog,
            retry,
            breaker,
            fallback,
            time_limit,
            expired,
            on_error,
            ..
        } = options;
        let callbacks = on_error.into_iter().chain(core.on_error.clone()).collect();
        let callbacks = Callbacks::new(&state.name, callbacks);
        let has_contract = filter.is_some()
            || idempotency.is_some()
            || conflation.is_some()
            || backlog.is_some()
            || retry.is_some()
            || breaker.is_some()
            || expired.are_dead
            || expired.callback.is_some()
            || keeper.is_some();
        let contract = has_contract.then(|| {
            let mut contract = Contract::new(core.clock.clone());
            contract.filter = filter.map(|filter| callbacks.around_filter(filter));
            // What waits is handled, or kept, or expires, unless it gives way to what comes.
            let gives_way = backlog.and_then(|it| it.asked_when_full()) == Some(WhenFull::DropOldest);
            let keeps_what_waits = core.dead_letters.is_some() && !gives_way;
            contract.keys = idempotency
                .map(|it| Keys::new(it.with_key(|key| callbacks.around_key(key)), keeps_what_waits));
            contract.conflation = conflation.map(|key| Conflation::by(callbacks.around_key(key)));
            contract.backlog = backlog.unwrap_or_default();
            contract.retry = retry.map(RetryState::new);
            // What the fallback handles would have been refused.
            let policy = |breaker: Breaker| match &fallback {
                Some(_) => breaker.while_open(WhileOpen::Refuse),
                None => breaker,
            };
            contract.breaker = breaker.map(policy).map(Guarded::new);
            contract.fallback = fallback.map(|fallback| callbacks.around_fallback(fallback));
            contract.expired = Some(expired).filter(|it| it.are_dead || it.callback.is_some());
            let callbacks = callbacks.clone();
            contract.keeper = keeper.map(|(mut terms, handler)| {
                // From here on the limit is the token's, and runs until that is settled.
                terms.limit = time_limit.map_or(terms.limit, |limit| limit.min(terms.limit));
                Keeper { handler, terms, callbacks }
            });
            Box::new(contract.complete())
        });
        let supervisor = core.consumer(state.destination.consumer).mailbox.supervisor();
        let occasion = || Occasion::of_calls(&core.clock, supervisor.stop_sign());
        let limit = time_limit.map(|limit| TimeLimit::new(limit, occasion()));
        let handler = make(Wrapping { callbacks, contract, limit });
        beginning.entered.push((state, Some(handler)));
    }
    // First the handlers, then the table: whoever is routed here is expected here.
    for (state, handler) in &mut beginning.entered {
        let owned = OwnedSubscription { state: state.clone(), handler: handler.take(), routes: 0 };
        let ConsumerAddr { dispatcher, .. } = state.destination.consumer;
        let mailbox = &core.consumer(state.destination.consumer).mailbox;
        let posted = mailbox.post(Command::Adopt(Box::new(owned)));
        if let Err(Command::Adopt(owned)) = posted {
            *handler = owned.handler;
            let died = core.dead_dispatcher(dispatcher);
            return Err(died.map_or(SubscribeError::Closed, consumer_died));
        }
        // A consumer beside the one that has died would wait for nothing: the ring is closed.
        if let Some(dispatcher) = core.dead_dispatcher(dispatcher) {
            return Err(consumer_died(dispatcher));
        }
    }
    let states: Vec<_> = std::mem::take(&mut beginning.entered).into_iter().map(|(state, _)| state).collect();
    core.table.update(|edit| {
        for state in &states {
            for pattern in &state.patterns {
                edit.insert(pattern, state.destination);
            }
        }
    });
    core.reclaim_signal.notify();
    let subscription = |state| Subscription::new(core.clone(), state);
    let subscriptions: Vec<_> = states.into_iter().map(subscription).collect();
    warn_of_foreign_wildcards(&subscriptions);
    Ok(subscriptions)
}

/// Logs the first pattern that looks like another system's, and how many others do. Last, when the
/// subscriptions stand and nothing is held: a log is foreign code, which may panic or hang.
fn warn_of_foreign_wildcards<P: MessagePayload>(subscriptions: &[Subscription<P>]) {
    guard(|| {
        if !tracing::enabled!(target: LOG, tracing::Level::WARN) {
            return;
        }
        let patterns = subscriptions.iter().flat_map(|one| one.patterns().iter().map(move |it| (one, it)));
        let mut foreign = patterns.filter_map(|(one, it)| Some((one, it, ForeignWildcard::find(it)?)));
        if let Some((subscription, pattern, wildcard)) = foreign.next() {
            let others = foreign.count();
            let subscription = subscription.name();
            tracing::warn!(target: LOG, subscription, %pattern, others, "in a pattern {wildcard}");
        }
    });
}

fn consumer_died(dispatcher: DispatcherName) -> SubscribeError {
    SubscribeError::ConsumerDied { dispatcher }
}

/// Subscriptions that are about to start. Those left here when it is dropped do not.
struct Beginning<'a, P> {
    core: &'a Core<P>,
    /// Those whose handler has not been posted still have it.
    entered: Vec<(Arc<SubscriptionState>, Option<OwnedHandler<P>>)>,
}

impl<P> Drop for Beginning<'_, P> {
    fn drop(&mut self) {
        for (state, handler) in self.entered.drain(..) {
            drop(self.core.dismiss(&state));
            drop_handler(handler);
        }
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Has `handler` called for every message published from now on to a topic that `pattern`
    /// matches. The thread is that of the first dispatcher's consumer with the fewest
    /// subscriptions. For more options see [`subscription`](Self::subscription).
    ///
    /// The handler returns nothing, or a `Result`. It may publish and subscribe. A panic is caught
    /// and counted, and concerns nobody else. Allocates and locks briefly; does not wait.
    ///
    /// For `?` name the error [`HandlerError`](crate::broker::HandlerError), to which every error that
    /// is `Send + Sync` converts, and text does too. `Box<dyn Error>` is not `Send`.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// use ringmain::broker::HandlerError;
    ///
    /// let broker = Broker::builder().build()?;
    /// let _subscription = broker.subscribe("numbers", |message| -> Result<(), HandlerError> {
    ///     let number: u64 = message.as_str().ok_or("this is no text")?.parse()?;
    ///     println!("{number}");
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A malformed pattern, one with more wildcards than the broker allows, or a broker that was
    /// shut down.
    pub fn subscribe<R: IntoHandled>(
        &self,
        pattern: &str,
        handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
    ) -> Result<Subscription<P>, SubscribeError> {
        self.subscription().pattern(pattern).subscribe(handler)
    }

    /// Starts many subscriptions at once: publishers see all of them or none, and the table is
    /// swapped once. If one of them is refused, none starts. Returns them in the order in which
    /// they were given.
    ///
    /// Allocates and locks briefly; does not wait.
    ///
    /// ```
    /// # use ringmain::broker::Broker;
    /// let broker = Broker::builder().build()?;
    /// let sites = (0..1_000).map(|site| {
    ///     let pattern = format!("site.{site}.#");
    ///     let subscription = broker.subscription().pattern(&pattern);
    ///     subscription.prepare(move |message| println!("{site}: {}", message.topic()))
    /// });
    /// let subscriptions = broker.subscribe_all(sites)?;
    /// assert_eq!(broker.match_count("site.7.temperature")?, 1);
    /// broker.unsubscribe_all(subscriptions);
    /// assert!(!broker.has_subscribers("site.7.temperature")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`SubscriptionBuilder::subscribe`], for the first that has one; and a subscription that
    /// was prepared for another broker.
    pub fn subscribe_all(
        &self,
        subscriptions: impl IntoIterator<Item = Prepared<P>>,
    ) -> Result<Vec<Subscription<P>>, SubscribeError> {
        start_all(self.core(), subscriptions.into_iter())
    }
}
