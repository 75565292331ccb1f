//! Error callbacks: who is told of a failed delivery.

use super::filter::BoxedFilter;
use super::handled::HandlerError;
use super::limit::Late;
use crate::broker::account::term::FailureKind;
use crate::broker::policy::key::KeyBy;
use crate::message::Message;
use crate::sync::panics::guard;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// A failed delivery, as an error callback sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedDelivery<'a> {
    /// Name of the subscription whose handler failed.
    pub subscription: &'a str,
    /// What went wrong: [`FailureKind::Handler`] or [`FailureKind::Panic`]; with a time limit also
    /// [`FailureKind::TimedOut`], and with a token that or [`FailureKind::Cancelled`].
    pub kind: FailureKind,
    /// Which attempt it was, from 1.
    pub attempt: u16,
    /// The error that the handler returned, or, of a call that has returned after its time limit, one that says so;
    /// nothing where it panicked, or has kept a token.
    pub error: Option<&'a HandlerError>,
    /// The text that the handler panicked with, where it is text.
    pub panic: Option<&'a str>,
}

/// What is called for each message that has expired.
pub(crate) type ExpiryCallback<P> = Arc<dyn Fn(&Message<'_, P>) + Send + Sync>;

/// A handler that is called while a breaker is open.
pub(crate) type BoxedFallback<P> = Box<dyn FnMut(&Message<'_, P>) -> Result<(), HandlerError> + Send>;

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

    /// Returns whether there are none: then nothing is to be wrapped.
    pub(crate) fn is_empty(&self) -> bool {
        self.callbacks.is_empty()
    }

    /// Calls a handler, and tells of its failure.
    pub(crate) fn watch_call(
        &self,
        message: &Message<'_, P>,
        call: impl FnOnce() -> Result<(), HandlerError>,
    ) -> Result<(), HandlerError> {
        let outcome = self.watch(message, call);
        if let Err(error) = &outcome {
            let kind = if Late::is(error) { FailureKind::TimedOut } else { FailureKind::Handler };
            self.tell(message, kind, Some(error), None);
        }
        outcome
    }

    /// Adds them to a filter, which fails if it panics. Without any it is not wrapped.
    pub(crate) fn around_filter(self: &Arc<Self>, mut filter: BoxedFilter<P>) -> BoxedFilter<P> {
        if self.callbacks.is_empty() {
            return filter;
        }
        let callbacks = self.clone();
        Box::new(move |message| callbacks.watch(message, || filter(message)))
    }

    /// Adds them to a fallback. Without any it is not wrapped.
    pub(crate) fn around_fallback(self: &Arc<Self>, mut fallback: BoxedFallback<P>) -> BoxedFallback<P> {
        if self.callbacks.is_empty() {
            return fallback;
        }
        let callbacks = self.clone();
        Box::new(move |message| callbacks.watch_call(message, || fallback(message)))
    }

    /// Adds them to a key, whose closure fails if it panics. Without any it is not wrapped.
    pub(crate) fn around_key(self: &Arc<Self>, key: KeyBy<P>) -> KeyBy<P> {
        if self.callbacks.is_empty() {
            return key;
        }
        let callbacks = self.clone();
        key.watched(move |message, key| callbacks.watch(message, key))
    }

    /// Calls `f`, and tells of its panic, which goes on.
    fn watch<R>(&self, message: &Message<'_, P>, f: impl FnOnce() -> R) -> R {
        catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
            self.tell(message, FailureKind::Panic, None, panic_text(&*payload));
            resume_unwind(payload)
        })
    }

    /// Tells of a failure.
    pub(crate) fn tell(
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
