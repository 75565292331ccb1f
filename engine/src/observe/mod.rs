//! Counters, histograms and the metrics made of them.
//!
//! Whatever is counted on the hot path has one writer and is summed when somebody reads it: a
//! [`Counter`] is a plain load and a plain store. Latencies are sampled into a [`Recorder`] that
//! belongs to one consumer. [`Metrics`] is the one source for whoever exports them.

#![forbid(unsafe_code)]

mod counter;
mod metrics;
mod recorder;

pub use counter::Counter;
pub use metrics::{DispatcherMetrics, Metrics};
pub use recorder::{Recorder, merge};
