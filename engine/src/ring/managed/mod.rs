//! Consumers with threads of their own: their handlers, the loop of their threads, and how these
//! start.

pub(crate) mod drive;
mod handler;
mod spawn;
mod thread;

pub use handler::{Batch, EventHandler};
pub(crate) use spawn::spawn_pinned;
pub(in crate::ring) use thread::PlannedThread;
