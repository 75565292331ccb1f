//! Why something was not published, or not everywhere.

use crate::broker::name::DispatcherName;
use crate::message::{MessageId, PayloadTooLarge};
use crate::routing::TooManyRoutes;
use crate::topic::TopicError;
use std::fmt;

/// Why a message was not published, or not everywhere.
///
/// Where a message goes to several dispatchers and none took it, this is why the first did not of those that must take
/// it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishFailure {
    /// The dispatcher's ring is full, and the publish was not to wait.
    #[error(
        "the ring of dispatcher {dispatcher:?} is full: a consumer is a whole ring behind; try later, or give it more \
         capacity"
    )]
    Full {
        /// The dispatcher's name.
        dispatcher: DispatcherName,
    },
    /// The dispatcher's ring had no room within the time limit.
    #[error("the ring of dispatcher {dispatcher:?} had no room within the time limit; is a handler stuck?")]
    TimedOut {
        /// The dispatcher's name.
        dispatcher: DispatcherName,
    },
    /// Waiting for room could never have ended, since the calling thread is needed to make that room; or it might not
    /// have: inside of a publish closure no thread waits for room, in whatever ring, because others wait for its slot.
    #[error(
        "the ring of dispatcher {dispatcher:?} is full, and this thread must not wait for it: it consumes that ring, \
         or is inside of a publish closure; publish with try_publish, from another thread, or to another dispatcher"
    )]
    WouldDeadlock {
        /// The dispatcher's name.
        dispatcher: DispatcherName,
    },
    /// A consumer of that dispatcher has died: it takes no message any more.
    #[error("a consumer of dispatcher {dispatcher:?} has died, and it takes no message any more")]
    ConsumerDied {
        /// The dispatcher's name.
        dispatcher: DispatcherName,
    },
    /// Some dispatchers took the message, and others that must take it did not. It is published: who publishes it once
    /// more sends it twice to those that took it.
    #[error(
        "message {id} was published in part: dispatchers that took it: {accepted}; that did not: {}",
        list(.refusals)
    )]
    PartlyRefused {
        /// The message's identity.
        id: MessageId,
        /// How many dispatchers took it.
        accepted: u16,
        /// Those that did not, each with the reason. Those that are
        /// [best effort](crate::broker::Dispatcher::best_effort) are not among them.
        refusals: Vec<Refusal>,
    },
    /// The broker has been shut down.
    #[error("the broker has been shut down")]
    Closed,
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of; build one here")]
    Forked,
    /// The payload is too large.
    #[error(transparent)]
    TooLarge(#[from] PayloadTooLarge),
    /// The topic is malformed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The broker holds as many routes as it may.
    #[error(transparent)]
    TooManyRoutes(#[from] TooManyRoutes),
}

/// A dispatcher that did not take a message, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The dispatcher's name.
    pub dispatcher: DispatcherName,
    /// Why it did not.
    pub reason: RefusalReason,
}

/// Why a dispatcher did not take a message. See the failure of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// [`PublishFailure::Full`].
    Full,
    /// [`PublishFailure::TimedOut`].
    TimedOut,
    /// [`PublishFailure::WouldDeadlock`].
    WouldDeadlock,
    /// [`PublishFailure::ConsumerDied`].
    ConsumerDied,
    /// [`PublishFailure::Closed`].
    Closed,
    /// [`PublishFailure::Forked`].
    Forked,
}

impl RefusalReason {
    /// Returns whether the ring had no room, or nobody who takes it: else there is no ring any more that could refuse.
    pub(super) fn is_refusal(self) -> bool {
        !matches!(self, Self::Closed | Self::Forked)
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "its ring is full",
            Self::TimedOut => "its ring had no room within the time limit",
            Self::WouldDeadlock => "its ring is full, and the publishing thread must not wait for it",
            Self::ConsumerDied => "a consumer of it has died",
            Self::Closed => "the broker has been shut down",
            Self::Forked => "its threads are in another process",
        })
    }
}

/// Lists who did not take a message.
fn list(refusals: &[Refusal]) -> String {
    let each = refusals.iter().map(|Refusal { dispatcher, reason }| format!("{dispatcher:?} ({reason})"));
    each.collect::<Vec<_>>().join(", ")
}

impl PublishFailure {
    /// Returns whether there was no room, at once or within the time limit, and nobody took the message: a later
    /// publish may succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::TimedOut { .. })
    }

    /// Returns why a single ring did not take the message, which is all that a ring's failure can be.
    pub(super) fn reason(&self) -> RefusalReason {
        match self {
            Self::Full { .. } => RefusalReason::Full,
            Self::TimedOut { .. } => RefusalReason::TimedOut,
            Self::WouldDeadlock { .. } => RefusalReason::WouldDeadlock,
            Self::ConsumerDied { .. } => RefusalReason::ConsumerDied,
            Self::Forked => RefusalReason::Forked,
            _ => RefusalReason::Closed,
        }
    }
}

/// A message that was not published, or not everywhere, with what was to be published where that was given by value.
pub struct PublishError<R = ()> {
    failure: PublishFailure,
    returned: Option<R>,
}

impl<R> PublishError<R> {
    /// Nobody took the message.
    pub(super) fn new(failure: PublishFailure, returned: R) -> Self {
        Self { failure, returned: Some(returned) }
    }

    /// Somebody took the message.
    pub(super) fn partly(failure: PublishFailure) -> Self {
        Self { failure, returned: None }
    }

    /// Returns why it was not published.
    pub fn kind(&self) -> &PublishFailure {
        &self.failure
    }

    pub(super) fn into_kind(self) -> PublishFailure {
        self.failure
    }

    /// Returns whether there was no room, at once or within the time limit, and nobody took the message: a later
    /// publish may succeed.
    pub fn is_full(&self) -> bool {
        self.failure.is_full()
    }

    /// Returns what was to be published: `None` where some dispatchers took it
    /// ([`PartlyRefused`](PublishFailure::PartlyRefused)).
    pub fn into_inner(self) -> Option<R> {
        self.returned
    }
}

impl<R> fmt::Debug for PublishError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishError").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl<R> fmt::Display for PublishError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            PublishFailure::PartlyRefused { .. } => self.failure.fmt(f),
            _ => write!(f, "not published: {}", self.failure),
        }
    }
}

impl<R> std::error::Error for PublishError<R> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failure.source()
    }
}

/// A batch was published in part, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{published} messages of the batch were published, then: {failure}{}",
    if .refused.is_empty() { "" } else { "; best-effort dispatchers refused some" }
)]
#[non_exhaustive]
pub struct BatchError {
    /// How many, the first of the batch, were published to all dispatchers that must take them.
    pub published: usize,
    /// Why the next one was not, or not to all. Those after it were not tried.
    pub failure: PublishFailure,
    /// What dispatchers refused that are [best effort](crate::broker::Dispatcher::best_effort): also the message at
    /// which the batch ended, if they refused that.
    pub refused: Vec<BatchRefusal>,
}

impl BatchError {
    /// Nothing was tried.
    pub(super) fn before(failure: PublishFailure) -> Self {
        Self { published: 0, failure, refused: Vec::new() }
    }
}

/// How much of a batch a dispatcher refused that is [best effort](crate::broker::Dispatcher::best_effort).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchRefusal {
    /// The dispatcher's name.
    pub dispatcher: DispatcherName,
    /// How many messages.
    pub messages: u64,
}
