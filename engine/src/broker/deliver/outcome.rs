//! How a delivery ends.

use crate::broker::subscribe::handled::HandlerError;
use crate::broker::subscribe::limit::Late;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::ring::Called;

/// How a delivery ended.
pub(crate) enum Outcome {
    /// The handler returned without an error.
    Delivered,
    /// The handler returned an error.
    Failed(HandlerError),
    /// The handler panicked.
    Panicked(Box<dyn std::any::Any + Send>),
    /// The handler has kept the message for longer than it may.
    TimedOut,
    /// The handler has returned after the time limit of its calls, and this says so.
    Late(HandlerError),
    /// The message's token was dropped: in a panic, or not.
    TokenDropped { in_panic: bool },
    /// The subscription's breaker was open, and what comes meanwhile is refused, or a dead letter.
    Refused { is_dead: bool },
    /// The message is kept as a dead letter.
    DeadLettered,
    /// The handler has failed, and the message is not tried again.
    GivenUp,
    /// The subscription's filter did not want the message.
    Filtered,
    /// The message was to wait, and could not be copied: its payload's `Clone` panicked.
    Uncopied(Box<dyn std::any::Any + Send>),
    /// The message had expired before its turn came.
    Expired,
    /// It had, and becomes a dead letter.
    ExpiredDead,
    /// The message was to wait, and there was no room.
    Overflow,
    /// A newer message with the same key has taken its place.
    Conflated,
    /// A message with the same key has been handled, or waits to be.
    Duplicate,
    /// The subscription was gone.
    Unsubscribed,
    /// The broker stopped before its turn came; the message is handed back.
    Undelivered,
    /// The handler has not returned, and the broker waits for it no longer.
    InDoubt,
}

impl Outcome {
    /// Returns what has come of a handler's call. Nothing where somebody else has the consumer's position.
    pub(crate) fn of_call(called: Called<Result<(), HandlerError>>) -> Option<Self> {
        match called {
            Called::Returned(Ok(Ok(()))) => Some(Self::Delivered),
            Called::Returned(Ok(Err(error))) if Late::is(&error) => Some(Self::Late(error)),
            Called::Returned(Ok(Err(error))) => Some(Self::Failed(error)),
            Called::Returned(Err(payload)) => Some(Self::Panicked(payload)),
            Called::Refused => Some(Self::Undelivered),
            Called::TakenOver => None,
        }
    }

    /// Returns how a delivery ends whose handler cannot be called any more: as it would have without a call, or
    /// undelivered.
    pub(crate) fn uncalled(state: &SubscriptionState, has_expired: bool) -> Self {
        match () {
            () if state.has_ended() => Self::Unsubscribed,
            () if has_expired => Self::Expired,
            () => Self::Undelivered,
        }
    }
}

/// What a consumer is doing with a delivery, as a number for its lease: handling it, or telling of
/// its failure, when it has been settled already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallMark {
    pub(crate) subscription: u64,
    /// Whether the delivery has been counted: a take-over has nothing to doubt then.
    pub(crate) is_settled: bool,
    /// Whether it is a handler that keeps messages and has just been handed one.
    pub(crate) is_handed_out: bool,
}

impl CallMark {
    /// Subscriptions are numbered from 0: these bits are never one of their numbers'.
    const SETTLED: u64 = 1 << 63;
    const HANDED_OUT: u64 = 1 << 62;

    pub(crate) fn settled(subscription: u64) -> u64 {
        subscription | Self::SETTLED
    }

    /// Marks the call of a handler that keeps messages: its delivery is known beside the call, as one in flight.
    pub(crate) fn handed_out(subscription: u64) -> u64 {
        Self::settled(subscription) | Self::HANDED_OUT
    }

    /// Returns whether a time limit holds for the call: its handler's, and not what follows.
    pub(crate) fn is_limited(self) -> bool {
        !self.is_settled || self.is_handed_out
    }

    /// A subscription's number by itself marks a delivery that is being handled.
    pub(crate) fn from_lease(mark: u64) -> Self {
        Self {
            subscription: mark & !(Self::SETTLED | Self::HANDED_OUT),
            is_settled: mark & Self::SETTLED != 0,
            is_handed_out: mark & Self::HANDED_OUT != 0,
        }
    }
}
