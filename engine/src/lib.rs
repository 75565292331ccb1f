//! Ringmain: an in-process publish/subscribe engine on a disruptor-style ring buffer.

pub mod topic;
pub mod routing;
pub mod message;
