//! What tells a broker from others, and a subscription from others of its broker.

use crate::routing::Routes;
use std::fmt;
use std::sync::Arc;

/// What tells a broker from all others that are there at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BrokerId(usize);

impl BrokerId {
    /// The broker of these routes, which live as long as it and its threads: their address.
    pub(crate) fn of(routes: &Arc<Routes>) -> Self {
        Self(Arc::as_ptr(routes).addr())
    }
}

/// The number of a subscription, never used again by its broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
