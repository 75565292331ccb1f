//! Beginning and end: the threads, the shutdown, what is taken over from a stuck consumer, and the
//! reclaimer.

pub(super) mod aside;
pub(super) mod drain;
#[cfg(feature = "durable-dead-letters")]
mod keep;
mod quiesce;
pub(super) mod reclaimer;
pub(super) mod report;
pub(super) mod rescue;
pub(super) mod shutdown;
mod taken;
mod takeover;
pub(super) mod threads;
