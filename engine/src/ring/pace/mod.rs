//! What steers a loaded ring towards batches: a consumer that lingers, a producer that holds out.

mod hysteresis;
mod linger;

pub(super) use hysteresis::Hysteresis;
pub(crate) use linger::{LINGER, Linger, MAX_LINGER};
