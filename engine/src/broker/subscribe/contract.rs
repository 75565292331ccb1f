//! What a subscription was told beside its patterns, as its consumer keeps it, and what is asked of it before and
//! after a call.

use super::callbacks::{BoxedFallback, Callbacks, ExpiryCallback};
use super::filter::BoxedFilter;
use super::token::{Acknowledgement, Token};
use crate::broker::policy::conflation::Conflation;
use crate::broker::policy::guarded::Guarded;
use crate::broker::policy::idempotency::Keys;
use crate::broker::policy::key::Key;
use crate::broker::policy::retry::RetryState;
use crate::broker::waiting::backlog::Backlog;
use crate::clock::{Clock, Timestamp};
use crate::message::{Message, MessageId};
use crate::sync::panics::guard;
use std::sync::Arc;

/// What a subscription was told beside its patterns.
pub(crate) struct Contract<P> {
    pub(crate) filter: Option<BoxedFilter<P>>,
    pub(crate) keys: Option<Keys<P>>,
    pub(crate) conflation: Option<Conflation<P>>,
    pub(crate) backlog: Backlog,
    pub(crate) retry: Option<RetryState>,
    pub(crate) breaker: Option<Guarded>,
    /// What is called while the breaker is open.
    pub(crate) fallback: Option<BoxedFallback<P>>,
    /// Who is told of messages that expire, and whether they become dead letters.
    pub(crate) expired: Option<Expired<P>>,
    /// The handler, where it keeps messages; and who is told of their failures.
    pub(crate) keeper: Option<Keeper<P>>,
    clock: Clock,
    /// What a call asks first, and tells afterwards, of a message that comes as it is. Nothing where whoever calls
    /// does.
    questions: u8,
    /// When the last such call began, where that matters.
    begun: Option<Timestamp>,
    /// Whether the last such message has come as far as the handler's own call.
    pub(crate) has_begun: bool,
    /// The key of the message at hand, if it has one.
    pub(crate) key: Option<Key>,
}

/// What becomes of messages that expire.
#[derive(Clone)]
pub(crate) struct Expired<P> {
    pub(crate) callback: Option<ExpiryCallback<P>>,
    pub(crate) are_dead: bool,
}

/// A handler that keeps messages, as its consumer calls it.
pub(crate) type BoxedKeeper<P> = Box<dyn FnMut(Token<P>) + Send>;

/// A handler that keeps messages, and on which terms.
pub(crate) struct Keeper<P> {
    pub(crate) handler: BoxedKeeper<P>,
    pub(crate) terms: Acknowledgement,
    pub(crate) callbacks: Arc<Callbacks<P>>,
}

/// What there is to ask before a call, or to tell after it.
pub(super) const FILTER: u8 = 1;
pub(super) const KEY: u8 = 2;
/// The time of each call that goes well.
pub(super) const CLOCK: u8 = 4;
pub(super) const BREAKER: u8 = 8;
const CONFLATION: u8 = 16;
/// Whatever there is.
pub(crate) const ALL: u8 = FILTER | KEY | CLOCK | BREAKER | CONFLATION;

/// What a contract says to a message that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Go,
    Filtered,
    Duplicate,
}

impl<P> Contract<P> {
    /// A contract that says nothing yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            filter: None,
            keys: None,
            conflation: None,
            backlog: Backlog::default(),
            retry: None,
            breaker: None,
            fallback: None,
            expired: None,
            keeper: None,
            clock,
            questions: 0,
            begun: None,
            has_begun: true,
            key: None,
        }
    }

    /// Finds out what there is to ask. Last, when it says all that it is to say.
    pub(crate) fn complete(mut self) -> Self {
        let is_timed = self.breaker.as_ref().is_some_and(|guarded| guarded.circuit.needs_clock());
        let has_budget = self.retry.as_ref().is_some_and(|retry| retry.policy().has_budget());
        let questions = [
            (self.filter.is_some(), FILTER),
            (self.keys.is_some(), KEY),
            (is_timed || has_budget, CLOCK),
            (self.breaker.is_some(), BREAKER),
        ];
        self.questions =
            questions.iter().filter(|(there_is, _)| *there_is).map(|(_, question)| question).sum();
        self
    }

    /// Returns whether there is something to ask before a call, or to tell after it.
    #[inline(always)]
    pub(crate) fn has_questions(&self) -> bool {
        self.questions != 0
    }

    /// Returns all that can be asked before the call of a message that comes as it is, or told after it.
    pub(super) fn asked(&self) -> u8 {
        if self.conflation.is_some() { ALL } else { self.questions }
    }

    pub(crate) fn replace_questions(&mut self, questions: u8) -> u8 {
        std::mem::replace(&mut self.questions, questions)
    }

    /// Returns whether foreign code is to be asked about a message that arrives.
    pub(crate) fn has_to_ask(&self) -> bool {
        self.filter.is_some() || self.keys.is_some() || self.conflation.is_some()
    }

    /// Asks about a message that arrives: the filter, and whether it is a duplicate. Finds its key. Runs foreign code.
    /// What is known not to be there is not looked for.
    #[inline(always)]
    pub(crate) fn ask(&mut self, message: &Message<'_, P>, what: u8) -> Asked {
        self.has_begun = false;
        if what & FILTER != 0
            && let Some(filter) = &mut self.filter
            && !filter(message)
        {
            return Asked::Filtered;
        }
        if what & KEY != 0
            && let Some(keys) = &mut self.keys
        {
            self.key = keys.key(message);
            if let Some(key) = self.key
                && keys.is_duplicate(key, || self.clock.now())
            {
                return Asked::Duplicate;
            }
        }
        if what & CONFLATION != 0
            && let Some(conflation) = &mut self.conflation
        {
            self.key = conflation.key(message);
        }
        self.has_begun = true;
        Asked::Go
    }

    /// Returns the key under which a message that is replayed will be remembered, if it is. Runs foreign code.
    pub(crate) fn key_of(&mut self, message: &Message<'_, P>) -> Option<Key> {
        self.keys.as_mut()?.key(message)
    }

    /// Counts a message whose first attempt is about to be made, where a budget bounds retries by deliveries, and notes
    /// the moment, where a breaker wants to know how long the call takes.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        if self.questions & CLOCK != 0 {
            self.begin_timed();
        }
    }

    #[cold]
    fn begin_timed(&mut self) {
        let now = self.clock.now();
        self.count_first_attempt_at(now);
        self.begun =
            self.breaker.as_ref().is_some_and(|guarded| guarded.circuit.needs_clock()).then_some(now);
    }

    /// Counts a message whose first attempt is about to be made, where a budget bounds retries by deliveries.
    pub(crate) fn count_first_attempt(&mut self) {
        if self.questions & CLOCK != 0 {
            self.count_first_attempt_at(self.clock.now());
        }
    }

    fn count_first_attempt_at(&mut self, now: Timestamp) {
        if let Some(retry) = &mut self.retry
            && retry.policy().has_budget()
        {
            retry.delivered(now);
        }
    }

    /// Tells the breaker, if there is one, of a call that went well. Returns whether that has changed its state.
    #[inline(always)]
    pub(super) fn succeed(&mut self, what: u8) -> bool {
        let Some(guarded) = &mut self.breaker else { return false };
        match self.begun {
            Some(begun) if what & CLOCK != 0 => guarded.circuit.succeed_since(begun, self.clock.now()),
            _ => guarded.circuit.succeed(|| self.clock.now()),
        }
    }

    /// Says that the message at hand has been handled.
    #[inline(always)]
    pub(crate) fn confirm(&mut self) {
        if let (Some(keys), Some(key)) = (&mut self.keys, self.key) {
            keys.confirm(key, self.clock.now());
        }
    }

    /// Says that a message waits.
    pub(crate) fn reserve(&mut self, key: Option<Key>, id: MessageId) {
        if let (Some(keys), Some(key)) = (&mut self.keys, key) {
            keys.reserve(key, id, || self.clock.now());
        }
    }

    /// Says that a message that may have waited is at its end, and was not handled.
    pub(crate) fn release(&mut self, key: Option<Key>, id: MessageId) {
        if let (Some(keys), Some(key)) = (&mut self.keys, key) {
            keys.release(key, id);
        }
    }

    /// Says that a message that has waited is at hand. Returns whether another with its key was handled meanwhile.
    pub(crate) fn resume(&mut self, key: Option<Key>) -> bool {
        self.key = key;
        match (&self.keys, key) {
            (Some(keys), Some(key)) => keys.was_handled(key),
            _ => false,
        }
    }

    /// Drops it. What it has captured is foreign, and is dropped one by one.
    pub(super) fn dismantle(self) {
        guard(|| drop(self.filter));
        if let Some(Keeper { handler, callbacks, .. }) = self.keeper {
            guard(|| drop(handler));
            guard(|| drop(callbacks));
        }
        guard(|| drop(self.expired));
        guard(|| drop(self.fallback));
        if let Some(keys) = self.keys {
            keys.dismantle();
        }
        if let Some(conflation) = self.conflation {
            conflation.dismantle();
        }
        if let Some(retry) = self.retry {
            retry.dismantle();
        }
    }
}
