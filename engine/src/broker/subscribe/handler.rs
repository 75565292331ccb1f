//! Handlers: closures that take a message and may fail.

use crate::message::Message;
use crate::sync::panics::discard_panic;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Drops a handler. What it captured may panic when dropped; the consumer goes on.
pub(crate) fn drop_handler<P>(handler: Option<BoxedHandler<P>>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(handler))) {
        discard_panic(payload);
    }
}
