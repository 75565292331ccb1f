//! Consumers with threads of their own.

mod drive;
mod handler;
mod thread;

pub use handler::{Batch, EventHandler};
pub(in crate::ring) use thread::PlannedThread;
