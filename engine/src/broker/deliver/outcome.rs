//! How a delivery ends.

use crate::broker::subscribe::handler::HandlerError;

/// How a delivery ended.
pub(crate) enum Outcome {
    /// The handler returned without an error.
    Delivered,
    /// The handler returned an error.
    Failed(HandlerError),
    /// The handler panicked.
    Panicked(Box<dyn std::any::Any + Send>),
    /// The subscription's filter did not want the message.
    Filtered,
    /// The message had expired before its turn came.
    Expired,
    /// The subscription was gone.
    Unsubscribed,
    /// The broker stopped before its turn came; the message is handed back.
    Undelivered,
    /// The handler has not returned, and the broker waits for it no longer.
    InDoubt,
}

/// What a consumer is doing with a delivery, as a number for its lease: handling it, or telling of
/// its failure, when it has been settled already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallMark {
    pub(crate) subscription: u64,
    /// Whether the delivery has been counted: a take-over has nothing to doubt then.
    pub(crate) is_settled: bool,
}

impl CallMark {
    /// Subscriptions are numbered from 0: this bit is never one of their numbers'.
    const SETTLED: u64 = 1 << 63;

    pub(crate) fn settled(subscription: u64) -> u64 {
        subscription | Self::SETTLED
    }

    /// A subscription's number by itself marks a delivery that is being handled.
    pub(crate) fn from_lease(mark: u64) -> Self {
        Self { subscription: mark & !Self::SETTLED, is_settled: mark & Self::SETTLED != 0 }
    }
}
