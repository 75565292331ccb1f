//! Handlers as their consumers own them, with what their subscriptions were told.

use super::filter::BoxedFilter;
use super::handled::{HandlerError, IntoHandled};
use crate::broker::account::term::FailureKind;
use crate::broker::policy::guarded::Guarded;
use crate::broker::policy::retry::RetryState;
use crate::broker::waiting::backlog::Backlog;
use crate::clock::Clock;
use crate::message::Message;
use crate::sync::panics::guard;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// A handler as its consumer calls it.
pub(crate) type BoxedHandler<P> = Box<dyn FnMut(&Message<'_, P>) -> Result<(), HandlerError> + Send>;

/// A handler as its consumer owns it.
pub(crate) struct OwnedHandler<P> {
    pub(crate) call: BoxedHandler<P>,
    /// What comes before a call. Looked at only where the subscription is not plain.
    pub(crate) contract: Option<Box<Contract<P>>>,
}

/// What a subscription was told beside its patterns.
pub(crate) struct Contract<P> {
    pub(crate) filter: Option<BoxedFilter<P>>,
    pub(crate) backlog: Backlog,
    pub(crate) retry: Option<RetryState>,
    pub(crate) breaker: Option<Guarded>,
}

impl<P> OwnedHandler<P> {
    /// Counts a message whose first attempt is about to be made, where a budget bounds retries by deliveries.
    pub(crate) fn count_first_attempt(&mut self, clock: &Clock) {
        if let Some(contract) = &mut self.contract
            && let Some(retry) = &mut contract.retry
            && retry.policy().has_budget()
        {
            retry.delivered(clock.now());
        }
    }

    pub(crate) fn breaker(&mut self) -> Option<&mut Guarded> {
        self.contract.as_mut()?.breaker.as_mut()
    }

    /// Returns how much may wait.
    pub(crate) fn backlog(&self) -> Backlog {
        self.contract.as_ref().map_or_else(Backlog::default, |contract| contract.backlog)
    }
}

/// Boxes a handler.
pub(crate) fn boxed<P, R: IntoHandled>(
    mut handler: impl FnMut(&Message<'_, P>) -> R + Send + 'static,
) -> BoxedHandler<P> {
    Box::new(move |message| handler(message).into_handled())
}

/// A failed delivery, as an error callback sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedDelivery<'a> {
    /// Name of the subscription whose handler failed.
    pub subscription: &'a str,
    /// What went wrong: [`FailureKind::Handler`] or [`FailureKind::Panic`].
    pub kind: FailureKind,
    /// Which attempt it was, from 1.
    pub attempt: u16,
    /// The error that the handler returned; nothing where it panicked.
    pub error: Option<&'a HandlerError>,
    /// The text that the handler panicked with, where it is text.
    pub panic: Option<&'a str>,
}

/// What is called for each failed delivery.
pub(crate) type ErrorCallback<P> = Arc<dyn Fn(&Message<'_, P>, &FailedDelivery<'_>) + Send + Sync>;

/// The error callbacks of a subscription. They run inside the call that failed, under the consumer's
/// lease: one that panics is caught, and one that hangs costs this delivery and no other.
pub(crate) struct Callbacks<P> {
    subscription: Box<str>,
    callbacks: Vec<ErrorCallback<P>>,
}

impl<P: 'static> Callbacks<P> {
    pub(crate) fn new(subscription: &str, callbacks: Vec<ErrorCallback<P>>) -> Arc<Self> {
        Arc::new(Self { subscription: subscription.into(), callbacks })
    }

    /// Adds them to a handler. Without any it is not wrapped.
    pub(crate) fn around(self: &Arc<Self>, mut handler: BoxedHandler<P>) -> BoxedHandler<P> {
        if self.callbacks.is_empty() {
            return handler;
        }
        let callbacks = self.clone();
        Box::new(move |message| {
            let outcome = callbacks.watch(message, || handler(message));
            if let Err(error) = &outcome {
                callbacks.tell(message, FailureKind::Handler, Some(error), None);
            }
            outcome
        })
    }

    /// Adds them to a filter, which fails if it panics. Without any it is not wrapped.
    pub(crate) fn around_filter(self: &Arc<Self>, mut filter: BoxedFilter<P>) -> BoxedFilter<P> {
        if self.callbacks.is_empty() {
            return filter;
        }
        let callbacks = self.clone();
        Box::new(move |message| callbacks.watch(message, || filter(message)))
    }

    /// Calls `f`, and tells of its panic, which goes on.
    fn watch<R>(&self, message: &Message<'_, P>, f: impl FnOnce() -> R) -> R {
        catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
            self.tell(message, FailureKind::Panic, None, panic_text(&*payload));
            resume_unwind(payload)
        })
    }

    fn tell(
        &self,
        message: &Message<'_, P>,
        kind: FailureKind,
        error: Option<&HandlerError>,
        panic: Option<&str>,
    ) {
        let (subscription, attempt) = (&*self.subscription, message.attempt());
        let failed = FailedDelivery { subscription, kind, attempt, error, panic };
        for callback in &self.callbacks {
            guard(|| callback(message, &failed));
        }
    }
}

/// The text of a panic, if that is what it carries.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Drops a handler. What it captured may panic when dropped, and so may a filter; the consumer goes
/// on.
pub(crate) fn drop_handler<P>(handler: Option<OwnedHandler<P>>) {
    if let Some(OwnedHandler { call, contract }) = handler {
        guard(|| drop(call));
        // One by one: two of them that panic at once would end the process.
        if let Some(contract) = contract {
            let Contract { filter, retry, .. } = *contract;
            guard(|| drop(filter));
            if let Some(retry) = retry {
                retry.dismantle();
            }
        }
    }
}
