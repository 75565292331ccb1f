//! How a delivery ends.

use crate::broker::subscribe::handler::HandlerError;
use crate::message::MessageId;
use crate::topic::Topic;

/// How a delivery ended.
pub(crate) enum Outcome {
    /// The handler returned without an error.
    Delivered,
    /// The handler returned an error.
    Failed(HandlerError),
    /// The handler panicked.
    Panicked(Box<dyn std::any::Any + Send>),
    /// The message had expired before its turn came.
    Expired,
    /// The subscription was gone.
    Unsubscribed,
    /// The broker stopped before its turn came; the message is handed back.
    Undelivered,
}

/// Whose delivery it is, for those who read logs.
pub(crate) struct About<'a> {
    pub(crate) subscription: &'a str,
    pub(crate) topic: &'a Topic,
    pub(crate) message: MessageId,
    pub(crate) attempt: u16,
}
