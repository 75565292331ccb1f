//! Consumers that are polled.

mod clearing;
mod mut_poller;
mod poller;
mod visit;

pub use mut_poller::MutPoller;
pub use poller::{Polled, Poller};
pub(super) use visit::{Each, EachMut, Visit, each};
