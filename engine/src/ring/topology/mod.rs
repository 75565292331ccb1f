//! How a ring is put together: its options, its consumers, and who of them comes after whom.

mod builder;
mod graph;
mod plan;

pub use builder::RingBuilder;
pub use graph::Graph;
pub(in crate::ring) use plan::{Node, Plan};
