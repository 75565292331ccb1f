//! Shutting down: refuse, drain, stop by the deadline, and account for everything.

use super::context;
use super::ledger::Ledger;
use super::mailbox::Mailbox;
use super::shared::Shared;
use crate::message::{Envelope, Message, MessageId, OwnedMessage};
use crate::ring::{Remains, Stopped};
use crate::sync::panics::discard_panic;
use crate::sync::{Condvar, Mutex};
use crate::topic::Topic;
use crate::wait::Deadline;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The part of the time limit that is kept for stopping those that have not drained, and its bounds.
const RESERVE_DIVISOR: u32 = 8;
const LONGEST_RESERVE: Duration = Duration::from_millis(100);
/// Even a shutdown without any time gives those that it stops a moment to hand over.
const SHORTEST_RESERVE: Duration = Duration::from_millis(5);

/// What [`Broker::shutdown`](super::Broker::shutdown) has come to.
#[derive(Debug)]
#[must_use = "it says what was not delivered"]
#[non_exhaustive]
pub struct ShutdownReport<P> {
    /// Where every message has gone. Exact, unless a consumer was left running: because this was called from its own
    /// handler, or because it was abandoned outside of a handler.
    pub ledger: Ledger,
    /// Consumers that did not come back: their threads are left to themselves.
    pub abandoned: Vec<Abandoned>,
    /// Messages that were accepted and not delivered, in order for each consumer.
    pub undelivered: Vec<Undelivered<P>>,
}

/// A consumer that had not come back when the time limit passed: it is stuck in a handler; or else in the drop of what a
/// handler had captured, or behind a publish closure that does not return.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Abandoned {
    /// The thread's name.
    pub thread: String,
    /// The subscription whose handler it is stuck in; empty where it is not in a handler.
    pub subscription: String,
    /// The message that the handler was called with, which is in doubt; where it can be told.
    pub message: Option<MessageId>,
    /// The topic of that message.
    pub topic: Option<Topic>,
}

impl Abandoned {
    fn outside_of_a_handler(thread: &str) -> Self {
        Self { thread: thread.to_owned(), subscription: String::new(), message: None, topic: None }
    }
}

/// A message that a shutdown hands back.
#[non_exhaustive]
pub struct Undelivered<P> {
    /// The message.
    pub message: OwnedMessage<P>,
    /// The names of the subscriptions that it was not delivered to.
    pub subscriptions: Vec<Box<str>>,
}

impl<P> fmt::Debug for Undelivered<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered")
            .field("message", &self.message)
            .field("subscriptions", &self.subscriptions)
            .finish()
    }
}

struct ExitsInner<P> {
    running: usize,
    /// Of these, the ones that nobody waits for any more. Below zero for the moment in which one of them returns before
    /// it has been counted.
    abandoned: isize,
    handed_back: Vec<Undelivered<P>>,
}

/// How many consumer threads run, and what those that stopped early have handed back.
pub(crate) struct Exits<P> {
    inner: Mutex<ExitsInner<P>>,
    changed: Condvar,
}

/// Says, when it is dropped, that a consumer thread has ended.
pub(crate) struct Leaving<'a, P> {
    exits: &'a Exits<P>,
    /// Of a consumer that may have been taken over.
    mailbox: Option<Arc<Mailbox<P>>>,
}

impl<P> Exits<P> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(ExitsInner { running: 0, abandoned: 0, handed_back: Vec::new() }),
            changed: Condvar::new(),
        }
    }

    /// A thread is about to start.
    pub(crate) fn enter(&self) {
        self.inner.lock().running += 1;
    }

    pub(crate) fn leaving(&self, mailbox: Option<Arc<Mailbox<P>>>) -> Leaving<'_, P> {
        Leaving { exits: self, mailbox }
    }

    /// A thread has been taken over, and what it left has been counted.
    fn abandon_one(&self) {
        self.inner.lock().abandoned += 1;
        self.changed.notify_all();
    }

    pub(crate) fn hand_back(&self, messages: Vec<Undelivered<P>>) {
        self.inner.lock().handed_back.extend(messages);
    }

    pub(crate) fn running(&self) -> usize {
        self.inner.lock().running
    }

    /// Waits until no more than `remaining` threads run, beside those that are abandoned. Returns whether that is so.
    fn wait(&self, remaining: usize, deadline: Deadline) -> bool {
        let mut inner = self.inner.lock();
        while inner.running as isize - inner.abandoned > remaining as isize {
            if deadline.has_passed() {
                return false;
            }
            inner = self.changed.wait_until(inner, deadline.at());
        }
        true
    }
}

impl<P> Drop for Leaving<'_, P> {
    fn drop(&mut self) {
        let was_taken_over = self.mailbox.as_ref().is_some_and(|mailbox| {
            mailbox.leave();
            mailbox.overseer().is_taken_over()
        });
        {
            let mut inner = self.exits.inner.lock();
            inner.running -= 1;
            inner.abandoned -= isize::from(was_taken_over);
        }
        self.exits.changed.notify_all();
    }
}

/// Shuts a broker down. See [`Broker::shutdown`](super::Broker::shutdown).
pub(crate) fn shut_down<P>(shared: &Shared<P>, limit: Duration) -> ShutdownReport<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    let reserve = (limit / RESERVE_DIVISOR).clamp(SHORTEST_RESERVE, LONGEST_RESERVE);
    let deadline = Deadline::after(limit.max(reserve));
    let drained_by = Deadline::after(limit.saturating_sub(reserve));
    shared.close();
    let spared = spared(shared);
    let is_spared = |number, index| {
        spared
            .as_ref()
            .is_some_and(|(dispatcher, consumers)| *dispatcher == number && consumers.contains(&index))
    };
    let own = spared.as_ref().map_or(0, |(_, consumers)| consumers.len());
    let mut abandoned = Vec::new();
    if !shared.exits.wait(own, drained_by) {
        for (number, dispatcher) in shared.dispatchers.iter().enumerate() {
            for (index, consumer) in dispatcher.consumers.iter().enumerate() {
                if is_spared(number, index) {
                    continue;
                }
                if let Stopped::InCall(remains) = consumer.mailbox.overseer().stop() {
                    abandoned.push(abandon(
                        shared,
                        (number as u16, index as u16),
                        &consumer.thread,
                        &remains,
                        reserve / 2,
                    ));
                    shared.exits.abandon_one();
                }
            }
        }
        // The others are in code of ours, and hand over by themselves; or else they drop what a handler had captured, or
        // wait for a publisher that is stuck in its closure.
        if !shared.exits.wait(own, deadline) {
            for (number, dispatcher) in shared.dispatchers.iter().enumerate() {
                for (index, consumer) in dispatcher.consumers.iter().enumerate() {
                    let mailbox = &consumer.mailbox;
                    if !is_spared(number, index) && !mailbox.has_left() && !mailbox.overseer().is_taken_over()
                    {
                        abandoned.push(Abandoned::outside_of_a_handler(&consumer.thread));
                    }
                }
            }
        }
    }
    shared.bell.stop();
    let undelivered = std::mem::take(&mut shared.exits.inner.lock().handed_back);
    for stuck in &abandoned {
        tracing::error!(
            target: "ringmain::shutdown",
            thread = stuck.thread,
            subscription = stuck.subscription,
            "a consumer did not come back in time and was abandoned"
        );
    }
    ShutdownReport { ledger: shared.audit(), abandoned, undelivered }
}

/// The consumers that a shutdown from a handler cannot wait for: the handler's own, and those of later stages, which wait
/// for it. As the dispatcher's number and the consumers' numbers.
fn spared<P>(shared: &Shared<P>) -> Option<(usize, Vec<usize>)> {
    let me = context::consuming(shared.key())?;
    let (dispatcher, consumer) = (usize::from(me.dispatcher), usize::from(me.consumer));
    let stages = &shared.dispatchers[dispatcher].stages;
    // Only while a message is being handled does the consumer hold them up.
    let is_handling = context::handling().is_some();
    let later = stages.iter().filter(|stage| is_handling && stage.start > consumer).cloned().flatten();
    Some((dispatcher, std::iter::once(consumer).chain(later).collect()))
}

/// A message to be handed back. Nothing where cloning its payload panics.
pub(crate) fn keep<P: Clone>(message: &Message<'_, P>) -> Option<OwnedMessage<P>> {
    catch_unwind(AssertUnwindSafe(|| message.to_owned())).map_err(discard_panic).ok()
}

/// Takes over what a stuck consumer has left: the call in doubt, and all that came behind it.
fn abandon<P>(
    shared: &Shared<P>,
    (dispatcher, consumer): (u16, u16),
    thread: &str,
    remains: &Remains<Envelope<P>>,
    limit: Duration,
) -> Abandoned
where
    P: Clone + Default + Send + Sync + 'static,
{
    let in_doubt = shared.roster.find(remains.delivery());
    if let Some(record) = &in_doubt {
        record.tally.in_doubt.bump();
    }
    let mut stuck = Abandoned {
        thread: thread.to_owned(),
        subscription: in_doubt.map_or_else(String::new, |record| record.name.to_string()),
        message: None,
        topic: None,
    };
    let mut handed_back = Vec::new();
    remains.for_each(limit, |sequence, envelope| {
        let Some(route) = shared.routes.get(envelope.route) else { return };
        let message = Message::new(envelope, &route.topic, shared.origin, &shared.clock);
        let is_in_doubt = sequence == remains.sequence();
        if is_in_doubt {
            stuck.message = Some(message.id());
            stuck.topic = Some(route.topic.clone());
        }
        let mut subscriptions = Vec::new();
        for to in &route.destinations {
            let is_theirs = to.dispatcher == dispatcher && to.consumer == consumer;
            // Of the event in doubt, deliveries were made in ascending order of subscription.
            let is_open = !is_in_doubt || to.subscription > remains.delivery();
            if is_theirs
                && is_open
                && let Some(record) = shared.roster.find(to.subscription)
            {
                record.tally.undelivered.bump();
                subscriptions.push(record.name.clone());
            }
        }
        if !subscriptions.is_empty() {
            handed_back.extend(keep(&message).map(|message| Undelivered { message, subscriptions }));
        }
    });
    shared.exits.hand_back(handed_back);
    stuck
}
