//! What a message is made of: its identity, its headers, its bytes, its rank, and its JSON form.
//!
//! * [`MessageId`]: which publisher of which broker published it, and as its how-manieth message
//! * [`Headers`]: a short ordered list of names and values, within limits
//! * [`Payload`]: bytes, inline when few, else in a buffer that a slot uses again and again
//! * [`MessagePayload`]: what a broker's payload type has to be able to do
//! * [`IntoPayload`]: what can be published as a payload, checked first and then written in place
//! * [`Priority`]: how urgent it is, for filters and handlers that look at it
//! * [`CorrelationId`]: what ties the messages of one conversation together
//! * [`Message`]: what a handler sees, read in place; [`OwnedMessage`]: a copy to keep
//! * `JsonMessage` (feature `serde`): all of a message as JSON, without loss
//!
//! No payload byte and no header value ever appears in an error, a panic message or the Debug output of anything
//! in here; names and lengths may.

#![forbid(unsafe_code)]

mod correlation;
mod envelope;
mod header_word;
mod headers;
mod id;
mod into_payload;
#[cfg(feature = "serde")]
mod json;
mod occasion;
mod payload;
mod priority;
mod view;
mod wipe;

pub use correlation::{CorrelationId, CorrelationIdError};
pub(crate) use envelope::{Envelope, Extras, Stamp};
pub(crate) use header_word::{HeaderName, HeaderPair};
pub use headers::{HeaderError, Headers, Iter as HeadersIter, TRACEPARENT};
pub use id::{MessageId, Origin, ParseMessageIdError, PublisherId};
pub use into_payload::IntoPayload;
#[cfg(feature = "serde")]
pub(crate) use json::rfc3339_text;
#[cfg(feature = "durable-dead-letters")]
pub(crate) use json::rfc3339_time;
#[cfg(feature = "serde")]
pub use json::{JsonError, JsonMessage};
pub(crate) use occasion::Occasion;
pub use payload::{MessagePayload, Payload, PayloadTooLarge};
pub use priority::{ParsePriorityError, Priority};
pub use view::{Message, OwnedMessage};
