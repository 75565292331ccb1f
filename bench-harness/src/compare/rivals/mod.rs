//! The rivals, each as its own authors would use it in a program that spins. Only in builds with
//! the feature `rivals`.

pub(super) mod channels;
pub(super) mod disruptor;
pub(super) mod pools;
pub(super) mod queues;
pub(super) mod round_trip;
pub(super) mod rtrb;
pub(super) mod tokio;
