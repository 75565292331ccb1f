//! Shutting down: refuse, drain, stop by the deadline, and account for everything.

use super::ledger::Ledger;
use super::shared::Shared;
use super::context;
use crate::message::{Message, MessageId, OwnedMessage};
use crate::ring::{Remains, Stopped};
use crate::sync::{Condvar, Mutex};
use crate::topic::Topic;
use crate::wait::Deadline;
use std::fmt;
use std::time::Duration;

/// The part of the time limit that is kept for stopping those that have not drained, and its bounds.
const RESERVE_DIVISOR: u32 = 8;
const LONGEST_RESERVE: Duration = Duration::from_millis(100);

/// What [`Broker::shutdown`](super::Broker::shutdown) has come to.
#[derive(Debug)]
#[must_use = "it says what was not delivered"]
#[non_exhaustive]
pub struct ShutdownReport<P> {
    /// Where every message has gone. Exact, unless a consumer was left running because this was called from its own
    /// handler.
    pub ledger: Ledger,
    /// Consumers that did not come back: their threads are left to themselves.
    pub abandoned: Vec<Abandoned>,
    /// Messages that were accepted and not delivered, in order for each consumer.
    pub undelivered: Vec<Undelivered<P>>,
}

/// A consumer that was stuck in a handler when the time limit passed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Abandoned {
    /// The thread's name.
    pub thread: String,
    /// The subscription whose handler it is stuck in.
    pub subscription: String,
    /// The message that the handler was called with, which is in doubt; where it can be told.
    pub message: Option<MessageId>,
    /// The topic of that message.
    pub topic: Option<Topic>,
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
    handed_back: Vec<Undelivered<P>>,
}

/// How many consumer threads run, and what those that stopped early have handed back.
pub(crate) struct Exits<P> {
    inner: Mutex<ExitsInner<P>>,
    changed: Condvar,
}

/// Says, when it is dropped, that a consumer thread has ended.
pub(crate) struct Leaving<'a, P>(&'a Exits<P>);

impl<P> Exits<P> {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(ExitsInner { running: 0, handed_back: Vec::new() }), changed: Condvar::new() }
    }

    /// A thread is about to start.
    pub(crate) fn enter(&self) {
        self.inner.lock().running += 1;
    }

    pub(crate) fn leaving(&self) -> Leaving<'_, P> {
        Leaving(self)
    }

    pub(crate) fn hand_back(&self, messages: Vec<Undelivered<P>>) {
        self.inner.lock().handed_back.extend(messages);
    }

    pub(crate) fn running(&self) -> usize {
        self.inner.lock().running
    }

    /// Waits until no more than `remaining` threads run. Returns whether that is so.
    fn wait(&self, remaining: usize, deadline: Deadline) -> bool {
        let mut inner = self.inner.lock();
        while inner.running > remaining {
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
        self.0.inner.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

/// Shuts a broker down. See [`Broker::shutdown`](super::Broker::shutdown).
pub(crate) fn shut_down<P>(shared: &Shared<P>, limit: Duration) -> ShutdownReport<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    let reserve = (limit / RESERVE_DIVISOR).min(LONGEST_RESERVE);
    let deadline = Deadline::after(limit);
    let drained_by = Deadline::after(limit.saturating_sub(reserve));
    shared.close();
    let me = context::consuming(shared.key());
    let own = usize::from(me.is_some());
    let mut abandoned = Vec::new();
    if !shared.exits.wait(own, drained_by) {
        for (number, dispatcher) in shared.dispatchers.iter().enumerate() {
            for (index, consumer) in dispatcher.consumers.iter().enumerate() {
                let is_me = me.is_some_and(|me| {
                    usize::from(me.dispatcher) == number && usize::from(me.consumer) == index
                });
                if is_me {
                    continue;
                }
                if let Stopped::InCall(remains) = consumer.mailbox.overseer().stop() {
                    abandoned.push(abandon(shared, (number as u16, index as u16), &consumer.thread, &remains));
                    shared.abandon_one();
                }
            }
        }
        // The others are in code of ours, and hand over by themselves.
        shared.exits.wait(own + shared.abandoned(), deadline);
    }
    shared.bell.stop();
    let undelivered = std::mem::take(&mut shared.exits.inner.lock().handed_back);
    for stuck in &abandoned {
        tracing::error!(
            target: "ringmain::shutdown",
            thread = stuck.thread,
            subscription = stuck.subscription,
            "a consumer did not come back from its handler and was abandoned"
        );
    }
    ShutdownReport { ledger: shared.audit(), abandoned, undelivered }
}

/// Takes over what a stuck consumer has left: the call in doubt, and all that came behind it.
fn abandon<P>(
    shared: &Shared<P>,
    (dispatcher, consumer): (u16, u16),
    thread: &str,
    remains: &Remains<crate::message::Envelope<P>>,
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
    remains.for_each(|sequence, envelope| {
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
            if is_theirs && is_open && let Some(record) = shared.roster.find(to.subscription) {
                record.tally.undelivered.bump();
                subscriptions.push(record.name.clone());
            }
        }
        if !subscriptions.is_empty() {
            handed_back.push(Undelivered { message: message.to_owned(), subscriptions });
        }
    });
    shared.exits.hand_back(handed_back);
    stuck
}
