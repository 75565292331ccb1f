//! Handlers as their consumers own them, with what their subscriptions were told.
//!
//! Most messages come as they are: nothing of their subscription waits, and its breaker, if it has one, is closed. For
//! them a handler is one call, and all that its subscription wants asked first is asked inside of it: so what is not
//! asked costs nothing, and what is costs little more than its own work. For all other messages what is asked is taken
//! one by one, in `deliver/arrival.rs`.

use super::callbacks::Callbacks;
use super::contract::{ALL, Asked, BREAKER, CLOCK, Contract, FILTER, KEY};
use super::handled::{HandlerError, IntoHandled};
use super::limit::TimeLimit;
use crate::broker::policy::guarded::Guarded;
use crate::broker::waiting::backlog::Backlog;
use crate::message::{Message, Occasion};
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

    /// Goes with another consumer from now on, which has taken the place of the one before.
    fn go_with(&mut self, calls: &Occasion);

    /// Drops it. What it has captured is foreign, and so may panic: it is dropped one by one, since two panics at once
    /// would end the process.
    fn dismantle(self: Box<Self>);
}

/// What a call says that is no outcome of the handler's: an error that takes no memory, and that no handler can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The filter does not want the message: the handler was not called.
    Filtered,
    /// A message with its key was handled, or waits to be: the handler was not called.
    Duplicate,
    /// The handler has returned well, and that has changed the state of the breaker.
    BreakerChanged,
}

#[derive(Debug, thiserror::Error)]
#[error("filtered")]
struct Filtered;

#[derive(Debug, thiserror::Error)]
#[error("a duplicate")]
struct Duplicate;

#[derive(Debug, thiserror::Error)]
#[error("the state of the breaker has changed")]
struct BreakerChanged;

impl Told {
    #[cold]
    fn into_error(self) -> HandlerError {
        match self {
            Self::Filtered => Box::new(Filtered),
            Self::Duplicate => Box::new(Duplicate),
            Self::BreakerChanged => Box::new(BreakerChanged),
        }
    }

    /// Returns what an error says, if it is none of the handler's.
    pub(crate) fn of(error: &HandlerError) -> Option<Self> {
        match () {
            () if error.is::<Filtered>() => Some(Self::Filtered),
            () if error.is::<Duplicate>() => Some(Self::Duplicate),
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

    fn go_with(&mut self, _calls: &Occasion) {}

    fn dismantle(self: Box<Self>) {
        let Self { handler, contract } = *self;
        guard(|| drop(handler));
        if let Some(contract) = contract {
            contract.dismantle();
        }
    }
}

/// A handler whose calls have a time limit.
struct Limited<P> {
    handler: OwnedHandler<P>,
    limit: TimeLimit,
}

impl<P: 'static> Callee<P> for Limited<P> {
    fn call(&mut self, message: &Message<'_, P>) -> Result<(), HandlerError> {
        let Self { handler, limit } = self;
        limit.keep(message, |message| handler.call(message))
    }

    fn contract(&mut self) -> Option<&mut Contract<P>> {
        self.handler.contract()
    }

    fn go_with(&mut self, calls: &Occasion) {
        self.limit.go_with(calls);
        self.handler.go_with(calls);
    }

    fn dismantle(self: Box<Self>) {
        self.handler.dismantle();
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

    fn go_with(&mut self, calls: &Occasion) {
        self.handler.go_with(calls);
    }

    fn dismantle(self: Box<Self>) {
        let Self { handler, callbacks } = *self;
        handler.dismantle();
        guard(|| drop(callbacks));
    }
}

/// A handler whose subscription's contract is asked before each call, or told after it. A filter, a key and a breaker
/// have each a type of its own where it stands alone, so that nobody pays for what is not asked.
struct Asking<P, const WHAT: u8> {
    handler: OwnedHandler<P>,
    contract: Contract<P>,
}

impl<P: 'static, const WHAT: u8> Callee<P> for Asking<P, WHAT> {
    fn call(&mut self, message: &Message<'_, P>) -> Result<(), HandlerError> {
        let Self { handler, contract } = self;
        if WHAT != BREAKER {
            if !contract.has_questions() {
                return handler.call(message);
            }
            match contract.ask(message, WHAT) {
                Asked::Go if WHAT & CLOCK != 0 => contract.begin(),
                Asked::Go => {}
                Asked::Filtered => return Err(Told::Filtered.into_error()),
                Asked::Duplicate => return Err(Told::Duplicate.into_error()),
            }
        }
        let outcome = handler.call(message);
        if WHAT == FILTER || outcome.is_err() || WHAT == BREAKER && !contract.has_questions() {
            return outcome;
        }
        if WHAT & KEY != 0 {
            contract.confirm();
        }
        if WHAT & BREAKER != 0 && contract.succeed(WHAT) {
            return Err(Told::BreakerChanged.into_error());
        }
        outcome
    }

    fn contract(&mut self) -> Option<&mut Contract<P>> {
        Some(&mut self.contract)
    }

    fn go_with(&mut self, calls: &Occasion) {
        self.handler.go_with(calls);
    }

    fn dismantle(self: Box<Self>) {
        let Self { handler, contract } = *self;
        handler.dismantle();
        contract.dismantle();
    }
}

/// What a handler is wrapped in, as its subscription was told.
pub(crate) struct Wrapping<P> {
    pub(crate) callbacks: Arc<Callbacks<P>>,
    pub(crate) contract: Option<Box<Contract<P>>>,
    /// The time limit of its calls.
    pub(crate) limit: Option<TimeLimit>,
}

/// Makes a handler what its consumer owns, once all is known of its subscription. Until then its type is.
pub(crate) type MakeHandler<P> = Box<dyn FnOnce(Wrapping<P>) -> OwnedHandler<P> + Send>;

/// Returns what makes a handler one that its consumer owns.
pub(crate) fn maker<P: 'static, R: IntoHandled>(
    handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
) -> MakeHandler<P> {
    Box::new(move |Wrapping { callbacks, contract, limit }| {
        let (asked, contract) = match contract {
            Some(contract) if contract.has_questions() => (Some(contract), None),
            contract => (None, contract),
        };
        let mut made: OwnedHandler<P> = Box::new(Plain { handler, contract });
        if let Some(limit) = limit {
            made = Box::new(Limited { handler: made, limit });
        }
        if !callbacks.is_empty() {
            made = Box::new(Watched { handler: made, callbacks });
        }
        let Some(contract) = asked.map(|contract| *contract) else { return made };
        match contract.asked() {
            FILTER => Box::new(Asking::<P, FILTER> { handler: made, contract }),
            KEY => Box::new(Asking::<P, KEY> { handler: made, contract }),
            BREAKER => Box::new(Asking::<P, BREAKER> { handler: made, contract }),
            _ => Box::new(Asking::<P, ALL> { handler: made, contract }),
        }
    })
}

impl<P> dyn Callee<P> + '_ {
    pub(crate) fn breaker(&mut self) -> Option<&mut Guarded> {
        self.contract()?.breaker.as_mut()
    }

    /// Has the handler called alone, where all has been asked.
    #[inline(always)]
    pub(crate) fn call_bare<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> R {
        let set = |handler: &mut Self, questions| {
            handler.contract().map_or(0, |contract| contract.replace_questions(questions))
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
}

/// Drops a handler. What it captured may panic when dropped, and so may a filter; the consumer goes on.
pub(crate) fn drop_handler<P>(handler: Option<OwnedHandler<P>>) {
    if let Some(handler) = handler {
        handler.dismantle();
    }
}
