//! What a panic leaves behind.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops what a panic carried. Should that panic as well, what that carries is dropped if it is the text that `panic!`
/// makes, and leaked if it is anything else, which might panic in turn: the consumer must go on.
pub(crate) fn discard_panic(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
        && !second.is::<&'static str>()
        && !second.is::<String>()
    {
        std::mem::forget(second);
    }
}

/// Runs foreign code. Returns nothing where it panicked; what it panicked with is dropped.
pub(crate) fn guard<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).map_err(discard_panic).ok()
}
