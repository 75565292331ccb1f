//! What a subscription can be told to do when a delivery fails.

pub(super) mod breaker;
pub(super) mod guarded;
pub(super) mod retry;
