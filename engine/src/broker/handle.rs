//! The broker's handle: all clones of it are the same broker.
//!
//! Each feature has an `impl Broker` block of its own, beside the feature.

use super::core::Core;
use crate::message::{MessagePayload, Payload};
use std::fmt;
use std::sync::Arc;

/// The handles of a broker; when the last is dropped, the broker closes.
struct Handle<P>(Arc<Core<P>>);

impl<P> Drop for Handle<P> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A publish/subscribe broker. Cheap to clone; all clones are the same broker.
///
/// Dropping the last clone closes it as [`shutdown`](Self::shutdown) does, but waits for nothing:
/// consumers handle what is there, drop their handlers, and end.
pub struct Broker<P = Payload> {
    handle: Arc<Handle<P>>,
}

impl<P: MessagePayload> Broker<P> {
    pub(crate) fn from_core(core: Arc<Core<P>>) -> Self {
        Self { handle: Arc::new(Handle(core)) }
    }

    pub(crate) fn core(&self) -> &Arc<Core<P>> {
        &self.handle.0
    }
}

impl<P> Clone for Broker<P> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<P> fmt::Debug for Broker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = &self.handle.0;
        f.debug_struct("Broker").field("origin", &core.origin).field("is_closed", &core.is_closed()).finish()
    }
}
