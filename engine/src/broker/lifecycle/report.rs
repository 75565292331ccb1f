//! What a shutdown has come to.

use crate::broker::account::ledger::Ledger;
#[cfg(feature = "durable-dead-letters")]
use crate::broker::dead_letters::durable::DurableStatus;
use crate::broker::dead_letters::{History, Past};
#[cfg(feature = "durable-dead-letters")]
use crate::broker::{account::term::FailureKind, dead_letters::NewLetter};
#[cfg(feature = "durable-dead-letters")]
use crate::message::Envelope;
use crate::message::{Message, MessageId, OwnedMessage};
use crate::sync::panics::guard;
use crate::topic::Topic;
use std::fmt;
use std::sync::Arc;

/// What [`Broker::shutdown`](crate::broker::Broker::shutdown) has come to.
///
/// Calls that overlap are one shutdown, and a later call goes on where the earlier one ended: each
/// report says all that there is to say by then, and takes nothing away from another.
#[derive(Clone, Debug)]
#[must_use = "it says what was not delivered"]
#[non_exhaustive]
pub struct ShutdownReport<P> {
    /// Where every message has gone. Exact, unless a consumer was left running: because its own
    /// handler has shut the broker down, or because it was abandoned outside of a handler.
    pub ledger: Ledger,
    /// Consumers that did not come back, and calls of [replaced](crate::broker::Dispatcher::rescuable) ones that have
    /// not returned by now: their threads are left to themselves.
    pub abandoned: Vec<Abandoned>,
    /// Messages in doubt beside those of [`abandoned`](Self::abandoned) consumers: those that handlers kept with tokens
    /// which had not come back, or had come back as failed and were not seen to any more, and whose token is told that
    /// its subscription has ended when it comes back later; and those at which consumers
    /// [were replaced](crate::broker::Dispatcher::rescuable), whether or not their calls have returned since: the last
    /// 1,024 of these. The [ledger](Self::ledger) has their exact number.
    pub in_doubt: Vec<InDoubt>,
    /// Consumers that have died, by their threads' names: code of this crate panicked there. What
    /// the message at hand was still to be delivered to is in no account.
    pub dead: Vec<String>,
    /// Messages that were accepted and not delivered, in order for each consumer. One that several subscriptions did
    /// not get may stand here several times, each time with others of them.
    pub undelivered: Vec<Arc<Undelivered<P>>>,
    /// How many more there are, which could not be copied in time: the payload's `Clone` panicked,
    /// or did not return.
    pub withheld: u64,
    /// Slots in which a publisher was still writing when the broker stopped waiting for a consumer
    /// that was taken over. What it publishes there is delivered to nobody: a later call of
    /// `shutdown` counts it and hands it back.
    pub in_hand: u64,
    /// How many letters the durable store of dead letters has taken of what is
    /// [undelivered](Self::undelivered), one for each of its subscriptions: those that had room beside what was
    /// there, and whose payloads could be copied in time. They are of kind
    /// [`Undelivered`](crate::broker::FailureKind::Undelivered).
    #[cfg(feature = "durable-dead-letters")]
    pub kept: u64,
    /// How durable dead letters are now that all is over; nothing where they are kept in memory alone. What `behind`
    /// and `not_durable` tell was not written in time, or could not be.
    #[cfg(feature = "durable-dead-letters")]
    pub dead_letters: Option<DurableStatus>,
}

/// A consumer that had not come back when the time limit passed: it is stuck in a handler; or else
/// in the drop of what a handler had captured or of a payload that it was clearing, or behind a publish
/// closure that does not return.
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

/// A message of which it is not known whether it was handled: its handler had kept it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InDoubt {
    /// The name of the subscription.
    pub subscription: Box<str>,
    /// The message.
    pub message: MessageId,
    /// Its topic.
    pub topic: Topic,
}

impl Abandoned {
    pub(super) fn outside_of_a_handler(thread: &str) -> Self {
        Self { thread: thread.to_owned(), subscription: String::new(), message: None, topic: None }
    }
}

/// A message that a shutdown hands back.
#[derive(Clone)]
#[non_exhaustive]
pub struct Undelivered<P> {
    /// The message.
    pub message: OwnedMessage<P>,
    /// The names of the subscriptions that it was not delivered to.
    pub subscriptions: Vec<Box<str>>,
    #[cfg(feature = "durable-dead-letters")]
    past: Past,
}

impl<P> Undelivered<P> {
    pub(crate) fn new(message: OwnedMessage<P>, subscriptions: Vec<Box<str>>, past: Past) -> Self {
        #[cfg(not(feature = "durable-dead-letters"))]
        drop(past);
        Self {
            message,
            subscriptions,
            #[cfg(feature = "durable-dead-letters")]
            past,
        }
    }
}

impl<P: Clone> Undelivered<P> {
    /// Copies a message. Returns nothing where the payload's `Clone` panics.
    pub(crate) fn copy(message: &Message<'_, P>, subscriptions: Vec<Box<str>>) -> Option<Self> {
        let published_ticks = message.envelope().published_at;
        let past = Past { published_ticks, history: History::default() };
        Some(Self::new(guard(|| message.to_owned())?, subscriptions, past))
    }

    /// Makes it a dead letter of one of its subscriptions. Runs the payload's `Clone`.
    #[cfg(feature = "durable-dead-letters")]
    pub(super) fn to_letter(&self, subscription: &str) -> NewLetter<P>
    where
        P: 'static,
    {
        let Past { published_ticks, history } = self.past.clone();
        NewLetter {
            message: self.message.clone(),
            bytes: size_of::<OwnedMessage<P>>() + Envelope::size_elsewhere(&self.message),
            subscription: subscription.into(),
            published_ticks,
            kind: FailureKind::Undelivered,
            history,
        }
    }
}

impl<P> fmt::Debug for Undelivered<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered")
            .field("message", &self.message)
            .field("subscriptions", &self.subscriptions)
            .finish()
    }
}
