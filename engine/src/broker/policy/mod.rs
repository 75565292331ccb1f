//! What a subscription can be told to do when a delivery fails.

pub(super) mod breaker;
pub(super) mod conflation;
pub(super) mod guarded;
pub(super) mod idempotency;
pub mod key;
mod recent;
pub(super) mod retry;
