//! Subscriptions: their options, and the handle that ends them.

use super::context;
use super::desk::{Owned, drop_handler};
use super::error::{SubscribeError, UnsubscribeTimeout, check_name};
use super::handler::{BoxedHandler, IntoHandled, boxed};
use super::mailbox::{Latch, Letter};
use super::roster::Record;
use super::shared::Shared;
use crate::message::{Message, Payload};
use crate::sync::atomic::Ordering;
use crate::sync::edge;
use crate::topic::Pattern;
use crate::wait::Deadline;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The number of a subscription, never used again by its broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A subscription to be. See [`Broker::subscription`](super::Broker::subscription).
///
/// ```
/// # use ringmain::broker::{Broker, Dispatcher};
/// let broker: Broker = Broker::builder()
///     .dispatcher(Dispatcher::new("orders").stages(&[1, 1]))
///     .build()?;
/// let journal = broker
///     .subscription()
///     .named("journal")
///     .pattern("orders.#")
///     .pattern("refunds.#")
///     .on("orders")
///     .stage(0)
///     .handler(|message| println!("{}", message.topic()))?;
/// assert_eq!(journal.name(), "journal");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "without `handler` nothing is subscribed"]
pub struct Subscribe<P> {
    shared: Arc<Shared<P>>,
    name: Option<String>,
    patterns: Vec<String>,
    dispatcher: Option<String>,
    stage: Option<usize>,
}

impl<P> Subscribe<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    pub(super) fn new(shared: Arc<Shared<P>>) -> Self {
        Self { shared, name: None, patterns: Vec::new(), dispatcher: None, stage: None }
    }

    /// Names it, for logs, metrics and reports: 1 to 64 printable bytes, unique in its broker. Else it is called after
    /// its number.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Adds a pattern. A message that several patterns match comes once.
    pub fn pattern(mut self, pattern: &str) -> Self {
        self.patterns.push(pattern.to_owned());
        self
    }

    /// Has the handler called by that dispatcher. By the first one declared, unless told otherwise.
    pub fn on(mut self, dispatcher: &str) -> Self {
        self.dispatcher = Some(dispatcher.to_owned());
        self
    }

    /// Has the handler called in that stage, from 0. In the last one, unless told otherwise.
    pub fn stage(mut self, stage: usize) -> Self {
        self.stage = Some(stage);
        self
    }

    /// Subscribes. Every message published after this has returned, to a topic that a pattern matches, is delivered.
    /// Allocates and locks briefly; does not wait.
    ///
    /// # Errors
    /// A malformed pattern or name, a name that is taken, a dispatcher or stage that does not exist, or a broker that
    /// was shut down.
    pub fn handler<R: IntoHandled>(
        self,
        handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
    ) -> Result<Subscription<P>, SubscribeError> {
        let shared = self.shared.clone();
        let mut started = start_all(&shared, std::iter::once(self.prepare(handler)))?;
        Ok(started.pop().unwrap_or_else(|| unreachable!("one is started for each that was prepared")))
    }

    /// Completes it without subscribing yet, for [`Broker::subscribe_all`](super::Broker::subscribe_all).
    pub fn prepare<R: IntoHandled>(
        self,
        handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
    ) -> Prepared<P> {
        Prepared { options: self, handler: boxed(handler) }
    }

    /// Checks everything and enters the subscription's name; nothing is routed to it yet.
    fn enter(&self, shared: &Shared<P>) -> Result<Arc<Record>, SubscribeError> {
        let patterns = self.patterns.iter().map(|text| Pattern::new(text)).collect::<Result<Vec<_>, _>>()?;
        if patterns.is_empty() {
            return Err(SubscribeError::NoPattern);
        }
        if let Some(name) = &self.name {
            check_name(name).map_err(|problem| SubscribeError::Name { problem })?;
        }
        let record = shared.roster.enter(self.name.as_deref(), patterns, self.place()?)?;
        shared.consumer(record.destination).subscriptions.fetch_add(1, Ordering::Relaxed);
        Ok(record)
    }

    /// The consumer with the fewest subscriptions in the stage that was asked for.
    fn place(&self) -> Result<(u16, u16), SubscribeError> {
        let dispatchers = &self.shared.dispatchers;
        let number = match &self.dispatcher {
            None => 0,
            Some(name) => {
                dispatchers.iter().position(|dispatcher| dispatcher.name == *name).ok_or_else(|| {
                    let known: Vec<_> =
                        dispatchers.iter().map(|dispatcher| format!("{:?}", dispatcher.name)).collect();
                    SubscribeError::NoSuchDispatcher { name: name.clone(), known: known.join(", ") }
                })?
            }
        };
        let dispatcher = &dispatchers[number];
        let stage = self.stage.unwrap_or(dispatcher.stages.len() - 1);
        let consumers = dispatcher.stages.get(stage).ok_or_else(|| SubscribeError::NoSuchStage {
            dispatcher: dispatcher.name.clone(),
            stage,
            stages: dispatcher.stages.len(),
        })?;
        let load = |&index: &usize| dispatcher.consumers[index].subscriptions.load(Ordering::Relaxed);
        let index = consumers.clone().min_by_key(load).unwrap_or(consumers.start);
        Ok((number as u16, index as u16))
    }
}

impl<P> fmt::Debug for Subscribe<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("name", &self.name)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

/// A subscription that wants nothing but to be started. See [`Broker::subscribe_all`](super::Broker::subscribe_all).
#[must_use = "nothing is subscribed yet"]
pub struct Prepared<P> {
    options: Subscribe<P>,
    handler: BoxedHandler<P>,
}

impl<P> fmt::Debug for Prepared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Starts subscriptions in one swap of the table; all of them, or none.
pub(super) fn start_all<P>(
    shared: &Arc<Shared<P>>,
    prepared: impl Iterator<Item = Prepared<P>>,
) -> Result<Vec<Subscription<P>>, SubscribeError>
where
    P: Clone + Default + Send + Sync + 'static,
{
    if shared.is_closed() {
        return Err(SubscribeError::Closed);
    }
    let mut beginning = Beginning { shared, entered: Vec::new() };
    for Prepared { options, handler } in prepared {
        if !Arc::ptr_eq(shared, &options.shared) {
            return Err(SubscribeError::OtherBroker);
        }
        let record = options.enter(shared)?;
        beginning.entered.push((record, Some(handler)));
    }
    // First the handlers, then the table: whoever is routed here is expected here.
    for (record, handler) in &mut beginning.entered {
        let owned = Owned { record: record.clone(), handler: handler.take(), routes: 0 };
        let mailbox = &shared.consumer(record.destination).mailbox;
        if let Err(Letter::Adopt(owned)) = mailbox.post(Letter::Adopt(Box::new(owned))) {
            *handler = owned.handler;
            return Err(SubscribeError::Closed);
        }
    }
    let records: Vec<_> =
        std::mem::take(&mut beginning.entered).into_iter().map(|(record, _)| record).collect();
    shared.table.update(|edit| {
        for record in &records {
            for pattern in &record.patterns {
                edit.insert(pattern, record.destination);
            }
        }
    });
    shared.bell.ring();
    let subscription = |record| Subscription { shared: shared.clone(), record, is_ended: false };
    Ok(records.into_iter().map(subscription).collect())
}

/// Subscriptions that are about to start; what is left here when it is dropped does not.
struct Beginning<'a, P> {
    shared: &'a Shared<P>,
    /// Those whose handler has not been posted still have it.
    entered: Vec<(Arc<Record>, Option<BoxedHandler<P>>)>,
}

impl<P> Drop for Beginning<'_, P> {
    fn drop(&mut self) {
        for (record, handler) in self.entered.drain(..) {
            self.shared.dismiss(&record);
            drop_handler(handler);
        }
    }
}

/// Ends subscriptions in one swap of the table, and returns when the last handler has been dropped.
pub(super) fn unsubscribe_all<P>(
    shared: &Arc<Shared<P>>,
    subscriptions: impl Iterator<Item = Subscription<P>>,
) where
    P: Clone + Default + Send + Sync + 'static,
{
    let (mut ours, others): (Vec<_>, Vec<_>) =
        subscriptions.partition(|subscription| Arc::ptr_eq(shared, &subscription.shared));
    for subscription in &mut ours {
        subscription.is_ended = true;
    }
    let ended = shared.end_subscriptions(ours.iter().map(|subscription| &*subscription.record));
    others.into_iter().for_each(Subscription::unsubscribe);
    for done in ended {
        is_over(&done, Deadline::NEVER);
    }
}

/// Waits until a handler has been dropped. On a consumer's thread, which might wait for itself, it does not wait.
fn is_over(done: &Latch, deadline: Deadline) -> bool {
    context::is_consuming() || edge::left_out("wait-for-release") || done.wait(deadline)
}

/// A subscription. Dropping it unsubscribes without waiting; [`keep`](Self::keep) leaves it for the life of the broker.
#[must_use = "dropping it unsubscribes; use `keep` to leave it for the life of the broker"]
pub struct Subscription<P = Payload>
where
    P: Clone + Default + Send + Sync + 'static,
{
    shared: Arc<Shared<P>>,
    record: Arc<Record>,
    is_ended: bool,
}

impl<P> Subscription<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    /// Its number.
    pub fn id(&self) -> SubscriptionId {
        SubscriptionId(self.record.id)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its patterns.
    pub fn patterns(&self) -> &[Pattern] {
        &self.record.patterns
    }

    /// Calls of its handler that have returned without an error so far.
    pub fn delivered(&self) -> u64 {
        self.record.tally.delivered.get()
    }

    /// Unsubscribes, and returns when no further call of the handler can begin and the handler has been dropped, by its
    /// consumer's thread. What was routed here and not yet delivered is counted as dropped.
    ///
    /// On a consumer thread, of whatever broker, it does not wait, since that might be for itself: it takes effect when the
    /// running call ends. Where a handler never returns, of this subscription or another of its consumer, it waits for ever,
    /// be it after a shutdown that has reported that handler: [`unsubscribe_timeout`](Self::unsubscribe_timeout) does not.
    pub fn unsubscribe(self) {
        // Without a limit there is no timeout.
        let _ = self.finish(Deadline::NEVER, Duration::MAX);
    }

    /// As [`unsubscribe`](Self::unsubscribe), waiting no longer than `limit`.
    ///
    /// # Errors
    /// The consumer is busy with a handler. The subscription is ended all the same.
    pub fn unsubscribe_timeout(self, limit: Duration) -> Result<(), UnsubscribeTimeout> {
        self.finish(Deadline::after(limit), limit)
    }

    fn finish(mut self, deadline: Deadline, limit: Duration) -> Result<(), UnsubscribeTimeout> {
        self.is_ended = true;
        let ended = self.shared.end_subscriptions([&*self.record]);
        if ended.iter().all(|done| is_over(done, deadline)) {
            return Ok(());
        }
        Err(UnsubscribeTimeout { subscription: self.record.name.to_string(), limit })
    }

    /// Leaves the subscription to itself: it lives as long as the broker.
    pub fn keep(mut self) {
        self.is_ended = true;
    }
}

impl<P> Drop for Subscription<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.is_ended {
            self.shared.end_subscriptions([&*self.record]);
        }
    }
}

impl<P> fmt::Debug for Subscription<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.record.name).finish_non_exhaustive()
    }
}
