//! The errors of building a broker, of subscribing, of unsubscribing, and of ending.

use super::name::DispatcherName;
use super::policy::breaker::BreakerError;
use super::policy::retry::RetryError;
use super::subscribe::feature::Feature;
use crate::ring;
use crate::topic::TopicError;
use std::time::Duration;

/// The most consumers of one dispatcher.
pub(super) const MAX_CONSUMERS: usize = 256;
/// The most dispatchers of one broker.
pub(super) const MAX_DISPATCHERS: usize = 1_024;

/// Why a consumer was not replaced ([`Broker::rescue`](super::Broker::rescue)). Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RescueError {
    /// The stall tells of no call of a consumer of this broker.
    #[error("the stall tells of no call of a consumer of this broker")]
    NoCall,
    /// Its dispatcher was not told so.
    #[error(
        "the consumers of dispatcher {dispatcher:?} hold what they handle in its slot, and cannot be replaced; \
         Dispatcher::rescuable makes them so"
    )]
    NotRescuable {
        /// The dispatcher.
        dispatcher: String,
    },
    /// The call is none of a handler's: a filter, a copy, a callback, or the drop of something.
    #[error("{thread} is in a call that is none of a handler's, and cannot be replaced during it")]
    NotAHandler {
        /// The thread.
        thread: String,
    },
    /// Another thread goes on in its place already, as [`Stall::is_replaced`](super::Stall::is_replaced) says.
    #[error("another thread goes on in the place of {thread} already")]
    AlreadyReplaced {
        /// The thread that is in the call.
        thread: String,
    },
    /// The call has returned, its consumer was replaced since the stall was told, or a shutdown has stopped it.
    #[error("{thread} is not in that call any more")]
    Over {
        /// The thread.
        thread: String,
    },
    /// The broker shuts down.
    #[error("the broker shuts down")]
    Closed,
    /// The system refuses a thread, or does not let it run where it should.
    #[error("another thread in the place of {thread} could not be started: {kind}")]
    Thread {
        /// The thread that was to be replaced.
        thread: String,
        /// Why.
        kind: std::io::ErrorKind,
    },
    /// This process is a child of the one that has built the broker, made by `fork`.
    #[error("the broker's threads are those of the process that has built it; this one was made by fork")]
    Forked,
}

/// Why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(#[from] TopicError),
    /// A pattern has more wildcards than the broker was told to allow
    /// ([`BrokerBuilder::max_wildcards`](super::BrokerBuilder::max_wildcards)).
    #[error("pattern {pattern:?} has {wildcards} wildcards, and this broker allows {limit}")]
    TooManyWildcards {
        /// The pattern.
        pattern: String,
        /// How many of its words are `*` or `#`.
        wildcards: usize,
        /// How many may be.
        limit: usize,
    },
    /// It has no pattern.
    #[error("a subscription needs at least one pattern")]
    NoPattern,
    /// The name is empty, too long or not printable.
    #[error("a name has 1 to 64 printable bytes; this one {problem}")]
    Name {
        /// What is wrong with it.
        problem: String,
    },
    /// Another subscription has that name.
    #[error("there is a subscription named {name:?} already; names are unique")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Newer messages are to take the places of older ones, and its dispatcher is
    /// [rescuable](super::Dispatcher::rescuable).
    #[error(
        "conflation does not go with dispatcher {dispatcher:?}, which is rescuable: while a handler is stuck nobody \
         can be asked which messages are newer ones of which"
    )]
    ConflationOnRescuable {
        /// The dispatcher.
        dispatcher: String,
    },
    /// There is no such dispatcher.
    #[error("there is no dispatcher named {name:?}; there are {known}")]
    NoSuchDispatcher {
        /// The name that was asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// The dispatcher has fewer stages.
    #[error("dispatcher {dispatcher:?} has {stages} stages, numbered from 0; there is no stage {stage}")]
    NoSuchStage {
        /// The dispatcher.
        dispatcher: String,
        /// The stage that was asked for.
        stage: usize,
        /// How many there are.
        stages: usize,
    },
    /// The way to retry cannot be followed.
    #[error("the subscription's retry: {problem}")]
    Retry {
        /// What is wrong with it.
        problem: RetryError,
    },
    /// The breaker cannot work.
    #[error("the subscription's breaker: {problem}")]
    Breaker {
        /// What is wrong with it.
        problem: BreakerError,
    },
    /// Two things that it was told exclude each other.
    #[error("a subscription cannot have both {one} and {other}: {reason}")]
    Conflict {
        /// The one.
        one: Feature,
        /// The other.
        other: Feature,
        /// Why.
        reason: &'static str,
    },
    /// It is to remember no key, or too many.
    #[error("the subscription is to remember {keys} keys; that is to be 1 to {limit}")]
    Keys {
        /// How many it was told.
        keys: usize,
        /// The most that can be.
        limit: usize,
    },
    /// Nothing could be in flight, or not for a moment.
    #[error(
        "the subscription's tokens: {in_flight} in flight, each for {limit:?}; at least one has to be, for some time"
    )]
    Acknowledgement {
        /// How many were to be.
        in_flight: usize,
        /// For how long.
        limit: Duration,
    },
    /// The time limit of its handler's calls is none.
    #[error(
        "the subscription's time limit is {limit:?}, and is to be {least:?} to {most:?}: leave it out where calls may \
         take any time"
    )]
    TimeLimit {
        /// The limit it was told.
        limit: Duration,
        /// The shortest that can be.
        least: Duration,
        /// The longest that can be.
        most: Duration,
    },
    /// It conflates what waits, and nothing may wait.
    #[error("a subscription that conflates has its messages wait for their turn, and its backlog lets none")]
    NothingMayWait,
    /// It has a handler for while its breaker is open, and no breaker.
    #[error("a fallback is called while a breaker is open, and the subscription has none")]
    FallbackWithoutBreaker,
    /// What finds no place is to become a dead letter, and the broker keeps none.
    #[error(
        "{option} of the subscription is to make dead letters, and the broker keeps none: tell it to by \
         `BrokerBuilder::dead_letters`"
    )]
    NoDeadLetters {
        /// What is to make them.
        option: &'static str,
    },
    /// There are as many subscriptions as there may be.
    #[error("the broker has {limit} subscriptions, the most it may")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// A consumer of that dispatcher has died: it takes no message any more.
    #[error("a consumer of dispatcher {dispatcher:?} has died, and it takes no message any more")]
    ConsumerDied {
        /// The dispatcher's name.
        dispatcher: DispatcherName,
    },
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of; build one here")]
    Forked,
    /// It was prepared for another broker.
    #[error("the subscription was prepared for another broker")]
    OtherBroker,
    /// The broker has been shut down.
    #[error("the broker has been shut down")]
    Closed,
}

/// Why it is not known that a handler has been dropped. Its subscription has ended all the same: it
/// gets no further message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsubscribeError {
    /// The consumer did not come to drop the handler within the time limit. It will, once the call
    /// that it is in returns.
    #[error(
        "subscriptions out of the routing table whose handlers were not dropped within {limit:?}: {}; \
         is a handler stuck?",
        .subscriptions.join(", ")
    )]
    TimedOut {
        /// The names of the subscriptions.
        subscriptions: Vec<String>,
        /// The limit that passed.
        limit: Duration,
    },
    /// Waiting could never have ended: the calling thread is filling a slot that the consumer may
    /// wait for.
    #[error("waiting for a handler to be dropped would never end: this thread fills a slot of a ring")]
    WouldDeadlock,
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of")]
    Forked,
}

/// Why a subscription may not be paused yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// The consumer did not come to read of it within the time limit. The subscription is paused once
    /// the call that the consumer is in returns.
    #[error(
        "{subscription:?} is to be paused, and its consumer has not read of it within {limit:?}; is a handler stuck?"
    )]
    TimedOut {
        /// The subscription's name.
        subscription: String,
        /// The limit that passed.
        limit: Duration,
    },
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of")]
    Forked,
}

/// Why it is not known that all that was published before a [`drain`](super::Broker::drain) has
/// been settled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// It has not been within the time limit.
    #[error("not all that was published has been settled within {limit:?}; is a handler stuck?")]
    TimedOut {
        /// The limit that passed.
        limit: Duration,
    },
    /// All rings have drained within the time limit, and messages still wait for subscriptions: they are
    /// paused, or do not keep up.
    #[error(
        "{messages} messages still wait after {limit:?}, for {}: paused, behind an open breaker, to be tried again or \
         replayed, kept with a token, or late; `Subscription::status` tells",
        .subscriptions.join(", ")
    )]
    Waiting {
        /// The names of the subscriptions.
        subscriptions: Vec<String>,
        /// How many messages wait for them.
        messages: u64,
        /// The limit that passed.
        limit: Duration,
    },
    /// A consumer has died, or was taken over by a shutdown: its ring drains no more.
    #[error("the consumer {thread:?} has died or was taken over, and its ring drains no more")]
    ConsumerLost {
        /// Its thread's name.
        thread: String,
    },
    /// Waiting could never have ended: the calling thread is a consumer of this broker, or fills a
    /// slot of a ring.
    #[error(
        "waiting for the rings to drain would never end: this thread consumes one, or fills a slot of one"
    )]
    WouldDeadlock,
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of")]
    Forked,
}

/// Why a broker was not shut down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Waiting could never have ended: the calling thread fills a slot of a ring.
    #[error("waiting for the consumers to end would never end: this thread fills a slot of a ring")]
    WouldDeadlock,
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of")]
    Forked,
}

/// Why a broker could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerBuildError {
    /// A dispatcher's name is empty, too long or not printable.
    #[error("the name of dispatcher number {number} {problem}; it has 1 to 64 printable bytes")]
    Name {
        /// Which dispatcher, from 0.
        number: usize,
        /// What is wrong with its name.
        problem: String,
    },
    /// Two dispatchers have the same name.
    #[error("there are two dispatchers named {name:?}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Too many dispatchers.
    #[error("{count} dispatchers are too many; a broker has at most {MAX_DISPATCHERS}")]
    TooManyDispatchers {
        /// How many there were.
        count: usize,
    },
    /// Consumers of a dispatcher are to be replaced by themselves, and nobody looks, or not that soon.
    #[error("dispatcher {dispatcher:?} is to be rescued after {age:?}: {problem}")]
    Rescue {
        /// The dispatcher.
        dispatcher: String,
        /// The age of a call.
        age: Duration,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A dispatcher without stages, a stage without consumers, or too many consumers.
    #[error(
        "the stages {stages:?} of dispatcher {dispatcher:?} do not do: at least one stage, each of at least one \
         consumer, at most {MAX_CONSUMERS} in all"
    )]
    Stages {
        /// The dispatcher.
        dispatcher: String,
        /// What was asked for.
        stages: Vec<usize>,
    },
    /// Slots are cleared by the last stage's consumer, and there are several.
    #[error(
        "dispatcher {dispatcher:?} is to clear its slots, which the consumer of its last stage does, and that stage \
         has {consumers}: put a stage of one consumer behind it, which needs no subscriptions"
    )]
    LastStage {
        /// The dispatcher.
        dispatcher: String,
        /// The consumers of its last stage.
        consumers: usize,
    },
    /// A dispatcher's ring would drop messages that the ledger owes to subscriptions.
    #[error(
        "dispatcher {dispatcher:?}: a dispatcher's ring blocks or rejects; only a ring used alone may drop"
    )]
    Overflow {
        /// The dispatcher.
        dispatcher: String,
    },
    /// A ring cannot be built, or a thread cannot run where it was told to.
    #[error("dispatcher {dispatcher:?}: {reason}")]
    Ring {
        /// The dispatcher.
        dispatcher: String,
        /// What is wrong.
        reason: ring::BuildError,
    },
    /// Messages would expire as they are published.
    #[error(
        "messages of {pattern:?} are to expire after no time at all, and none would be delivered: name a longer time"
    )]
    NoLifetime {
        /// The pattern of their topics.
        pattern: String,
    },
    /// The pattern of topics whose messages are to expire is malformed.
    #[error("messages of {pattern:?} cannot be told when to expire: {reason}")]
    LifetimePattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: TopicError,
    },
    /// The reclaimer's thread could not be started.
    #[error("the reclaimer's thread could not be started ({kind})")]
    Reclaimer {
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The watchdog's thread could not be started.
    #[error("the watchdog's thread could not be started ({kind})")]
    Watchdog {
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The dead letters of earlier processes cannot be opened.
    #[cfg(feature = "durable-dead-letters")]
    #[error(transparent)]
    DeadLetters(#[from] super::dead_letters::durable::OpenError),
}

/// Checks the name of a subscription or dispatcher.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() > 64 {
        return Err(format!("has {} bytes", name.len()));
    }
    match name.char_indices().find(|(_, c)| c.is_control()) {
        Some((position, _)) => Err(format!("has a control character at byte {position}")),
        None => Ok(()),
    }
}
