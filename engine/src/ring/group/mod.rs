//! Workers that share a stage: what they share, raced or keyed, and the worker itself.

mod keyed;
mod raced;
mod worker;

pub(super) use keyed::Lanes;
pub(super) use raced::Group;
pub use worker::Worker;
