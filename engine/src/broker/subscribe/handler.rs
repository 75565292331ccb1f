//! Handlers: closures that take a message and may fail.

use crate::broker::account::term::FailureKind;
use crate::message::Message;
use crate::sync::panics::guard;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// What a handler fails with.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// What a handler may return: nothing, or a `Result` whose error can be boxed.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return `()`, or `Result<(), E>` where `E` is an error that is `Send + Sync`"
)]
pub trait IntoHandled {
    /// The outcome of the call.
    ///
    /// # Errors
    /// The handler's own.
    fn into_handled(self) -> Result<(), HandlerError>;
}

impl IntoHandled for () {
    #[inline(always)]
    fn into_handled(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// The type of what never returns, `!`, which stable Rust does not let one name.
type Never = <fn() -> ! as Returning>::Output;

#[doc(hidden)]
pub trait Returning {
    type Output;
}

impl<T> Returning for fn() -> T {
    type Output = T;
}

// `|_| todo!()`, or a loop without an end.
impl IntoHandled for Never {
    #[inline(always)]
    fn into_handled(self) -> Result<(), HandlerError> {
        self
    }
}

impl<E: Into<HandlerError>> IntoHandled for Result<(), E> {
    #[inline(always)]
    fn into_handled(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

/// A handler as its consumer owns it.
pub(crate) type BoxedHandler<P> = Box<dyn FnMut(&Message<'_, P>) -> Result<(), HandlerError> + Send>;

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

/// Adds error callbacks to a handler. They run inside the handler's own call, under the consumer's
/// lease: one that panics is caught, and one that hangs costs this delivery and no other. A handler
/// without any is not wrapped.
pub(crate) fn with_callbacks<P: 'static>(
    mut handler: BoxedHandler<P>,
    callbacks: Vec<ErrorCallback<P>>,
    subscription: &str,
) -> BoxedHandler<P> {
    if callbacks.is_empty() {
        return handler;
    }
    let subscription: Box<str> = subscription.into();
    Box::new(move |message| {
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(message)));
        let (kind, error, panic) = match &outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => (FailureKind::Handler, Some(error), None),
            Err(payload) => (FailureKind::Panic, None, text_of(&**payload)),
        };
        let attempt = message.attempt();
        let failed = FailedDelivery { subscription: &subscription, kind, attempt, error, panic };
        for callback in &callbacks {
            guard(|| callback(message, &failed));
        }
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    })
}

/// The text of a panic, if that is what it carries.
fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Drops a handler. What it captured may panic when dropped; the consumer goes on.
pub(crate) fn drop_handler<P>(handler: Option<BoxedHandler<P>>) {
    guard(|| drop(handler));
}
