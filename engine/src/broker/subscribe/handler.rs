//! Handlers as their consumers own them, with what their subscriptions were told.
//!
//! Most messages come as they are: nothing of their subscription waits, and its breaker, if it has one, is closed. For
//! them a handler is one call, and all that its subscription wants asked first is asked inside of it: so what is not
//! asked costs nothing, and what is costs little more than its own work. For all other messages what is asked is taken
//! one by one, in `deliver/arrival.rs`.

use super::callbacks::Callbacks;
use super::filter::BoxedFilter;
use super::handled::{HandlerError, IntoHandled};
use crate::broker::policy::guarded::Guarded;
use crate::broker::policy::retry::RetryState;
use crate::broker::waiting::backlog::Backlog;
use crate::clock::{Clock, Timestamp};
use crate::message::Message;
use crate::sync::panics::guard;
use std::sync::Arc;

/// A handler as its consumer owns it.
pub(crate) type OwnedHandler<P> = Box<dyn Callee<P>>;

/// A handler and its contract.
pub(crate) trait Callee<P>: Send {
    /// Calls the handler, after whatever its contract wants asked first. What is no outcome of the handler's is then
    /// [`Told`] as an error.
    ///
    /// One function, so that the handler, which is called in one place, becomes part of it.
    fn call(&mut self, message: &Message<'_, P>) -> Result<(), HandlerError>;

    /// Returns what its subscription was told, if it was told anything.
    fn contract(&mut self) -> Option<&mut Contract<P>>;

    /// Drops it. What it has captured is foreign, and so may panic: it is dropped one by one, since two panics at once
    /// would end the process.
    fn dismantle(self: Box<Self>);
}

/// What a subscription was told beside its patterns.
pub(crate) struct Contract<P> {
    pub(crate) filter: Option<BoxedFilter<P>>,
    pub(crate) backlog: Backlog,
    pub(crate) retry: Option<RetryState>,
    pub(crate) breaker: Option<Guarded>,
    clock: Clock,
    /// What a call asks first of a message that comes as it is. Nothing where whoever calls has asked.
    questions: u8,
    /// When the last such call began, where that matters.
    begun: Option<Timestamp>,
    /// Whether the last message that came as it is has come as far as the handler's own call.
    pub(crate) has_begun: bool,
}

/// What there is to ask before a call, or to say after it.
const FILTER: u8 = 1;
/// The time of each call that goes well.
const CLOCK: u8 = 2;
const BREAKER: u8 = 4;

impl<P> Contract<P> {
    pub(crate) fn new(
        filter: Option<BoxedFilter<P>>,
        backlog: Backlog,
        retry: Option<RetryState>,
        breaker: Option<Guarded>,
        clock: Clock,
    ) -> Self {
        let is_timed = breaker.as_ref().is_some_and(|guarded| guarded.circuit.needs_clock());
        let has_budget = retry.as_ref().is_some_and(|retry| retry.policy().has_budget());
        let questions =
            [(filter.is_some(), FILTER), (is_timed || has_budget, CLOCK), (breaker.is_some(), BREAKER)];
        let questions =
            questions.iter().filter(|(is_asked, _)| *is_asked).map(|(_, question)| question).sum();
        Self { filter, backlog, retry, breaker, clock, questions, begun: None, has_begun: true }
    }

    /// Asks the filter, and the clock, as far as there is something to ask. Returns whether the filter wants the
    /// message.
    #[inline(always)]
    fn ask_first(&mut self, message: &Message<'_, P>) -> bool {
        if let Some(filter) = &mut self.filter {
            self.has_begun = false;
            if !filter(message) {
                return false;
            }
            self.has_begun = true;
        }
        if self.questions & CLOCK != 0 {
            self.begin();
        }
        true
    }

    /// Counts a message whose first attempt is about to be made, where a budget bounds retries by deliveries, and notes
    /// the moment, where a breaker wants to know how long the call takes.
    #[cold]
    fn begin(&mut self) {
        let now = self.clock.now();
        self.count_first_attempt(now);
        self.begun =
            self.breaker.as_ref().is_some_and(|guarded| guarded.circuit.needs_clock()).then_some(now);
    }

    fn count_first_attempt(&mut self, now: Timestamp) {
        if let Some(retry) = &mut self.retry
            && retry.policy().has_budget()
        {
            retry.delivered(now);
        }
    }

    /// Tells the breaker of a call that went well. Returns whether that has changed its state.
    #[inline(always)]
    fn succeed(&mut self) -> bool {
        let Some(guarded) = &mut self.breaker else { return false };
        match self.begun {
            None => guarded.circuit.succeed(|| self.clock.now()),
            Some(begun) => guarded.circuit.succeed_since(begun, self.clock.now()),
        }
    }

    fn dismantle(self) {
        guard(|| drop(self.filter));
        if let Some(retry) = self.retry {
            retry.dismantle();
        }
    }
}

/// What a call says that is no outcome of the handler's: an error that takes no memory, and that no handler can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The filter does not want the message: the handler was not called.
    Filtered,
    /// The handler has returned well, and that has changed the state of the breaker.
    BreakerChanged,
}

#[derive(Debug, thiserror::Error)]
#[error("filtered")]
struct Filtered;

#[derive(Debug, thiserror::Error)]
#[error("the state of the breaker has changed")]
struct BreakerChanged;

impl Told {
    #[cold]
    fn into_error(self) -> HandlerError {
        match self {
            Self::Filtered => Box::new(Filtered),
            Self::BreakerChanged => Box::new(BreakerChanged),
        }
    }

    /// Returns what an error says, if it is none of the handler's.
    pub(crate) fn of(error: &HandlerError) -> Option<Self> {
        match () {
            () if error.is::<Filtered>() => Some(Self::Filtered),
            () if error.is::<BreakerChanged>() => Some(Self::BreakerChanged),
            () => None,
        }
    }
}

/// A handler of whose subscription nothing is asked first.
struct Plain<P, H> {
    handler: H,
    contract: Option<Box<Contract<P>>>,
}

impl<P: 'static, R: IntoHandled, H: FnMut(&Message<'_, P>) -> R + Send> Callee<P> for Plain<P, H> {
    fn call(&mut self, message: &Message<'_, P>) -> Result<(), HandlerError> {
        (self.handler)(message).into_handled()
    }

    fn contract(&mut self) -> Option<&mut Contract<P>> {
        self.contract.as_deref_mut()
    }

    fn dismantle(self: Box<Self>) {
        let Self { handler, contract } = *self;
        guard(|| drop(handler));
        if let Some(contract) = contract {
            contract.dismantle();
        }
    }
}

/// A handler of whose failures somebody is told.
struct Watched<P> {
    handler: OwnedHandler<P>,
    callbacks: Arc<Callbacks<P>>,
}

impl<P: 'static> Callee<P> for Watched<P> {
    fn call(&mut self, message: &Message<'_, P>) -> Result<(), HandlerError> {
        let Self { handler, callbacks } = self;
        callbacks.watch_call(message, || handler.call(message))
    }

    fn contract(&mut self) -> Option<&mut Contract<P>> {
        self.handler.contract()
    }

    fn dismantle(self: Box<Self>) {
        let Self { handler, callbacks } = *self;
        handler.dismantle();
        guard(|| drop(callbacks));
    }
}

/// A handler whose subscription's contract is asked before each call.
struct Asking<P> {
    handler: OwnedHandler<P>,
    contract: Contract<P>,
}

impl<P: 'static> Callee<P> for Asking<P> {
    fn call(&mut self, message: &Message<'_, P>) -> Result<(), HandlerError> {
        let Self { handler, contract } = self;
        let questions = contract.questions;
        if questions & (FILTER | CLOCK) != 0 && !contract.ask_first(message) {
            return Err(Told::Filtered.into_error());
        }
        let outcome = handler.call(message);
        if questions & BREAKER == 0 || outcome.is_err() || !contract.succeed() {
            return outcome;
        }
        Err(Told::BreakerChanged.into_error())
    }

    fn contract(&mut self) -> Option<&mut Contract<P>> {
        Some(&mut self.contract)
    }

    fn dismantle(self: Box<Self>) {
        let Self { handler, contract } = *self;
        handler.dismantle();
        contract.dismantle();
    }
}

/// Makes a handler what its consumer owns, once all is known of its subscription. Until then its type is.
pub(crate) type MakeHandler<P> =
    Box<dyn FnOnce(Arc<Callbacks<P>>, Option<Box<Contract<P>>>) -> OwnedHandler<P> + Send>;

/// Returns what makes a handler one that its consumer owns.
pub(crate) fn maker<P: 'static, R: IntoHandled>(
    handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
) -> MakeHandler<P> {
    Box::new(move |callbacks, contract| {
        let (asked, contract) = match contract {
            Some(contract) if contract.questions != 0 => (Some(contract), None),
            contract => (None, contract),
        };
        let mut made: OwnedHandler<P> = Box::new(Plain { handler, contract });
        if !callbacks.is_empty() {
            made = Box::new(Watched { handler: made, callbacks });
        }
        match asked {
            Some(contract) => Box::new(Asking { handler: made, contract: *contract }),
            None => made,
        }
    })
}

impl<P> dyn Callee<P> + '_ {
    pub(crate) fn breaker(&mut self) -> Option<&mut Guarded> {
        self.contract()?.breaker.as_mut()
    }

    /// Calls the handler alone, where all has been asked.
    #[inline(always)]
    pub(crate) fn call_bare<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> R {
        let set = |handler: &mut Self, questions| {
            handler.contract().map_or(0, |contract| std::mem::replace(&mut contract.questions, questions))
        };
        let questions = set(self, 0);
        let outcome = call(self);
        set(self, questions);
        outcome
    }

    /// Returns how much may wait.
    pub(crate) fn backlog(&mut self) -> Backlog {
        self.contract().map_or_else(Backlog::default, |contract| contract.backlog)
    }

    /// Counts a message whose first attempt is about to be made, where a budget bounds retries by deliveries.
    pub(crate) fn count_first_attempt(&mut self) {
        if let Some(contract) = self.contract()
            && contract.questions & CLOCK != 0
        {
            let now = contract.clock.now();
            contract.count_first_attempt(now);
        }
    }
}

/// Drops a handler. What it captured may panic when dropped, and so may a filter; the consumer goes on.
pub(crate) fn drop_handler<P>(handler: Option<OwnedHandler<P>>) {
    if let Some(handler) = handler {
        handler.dismantle();
    }
}
