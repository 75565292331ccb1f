//! Publishing: from a topic to the slots of rings.

pub(super) mod backpressure;
pub(super) mod batch;
pub(super) mod configured;
pub(super) mod error;
pub(super) mod extras;
pub(super) mod fill;
pub(super) mod lifetimes;
pub(super) mod options;
pub(super) mod producers;
pub(super) mod publisher;
pub(super) mod resolve;
pub(super) mod send;
pub(super) mod topic_publisher;
