//! Routing: from a topic to the subscriptions whose patterns match it.
//!
//! * [`Trie`]: all patterns in one persistent tree; a topic is matched against all of them at once
//! * [`RoutingTable`]: the tree of this moment, swapped whole, and the generation word that tells
//!   of a swap
//! * [`RouteId`]: what a topic resolves to, as a number that a message can carry
//! * [`TopicCache`]: what a publisher remembers of topics that come at run time
//! * [`Linter`]: which patterns of a list are likely mistakes
//!
//! Matching takes no lock. The reclaimer frees what a change of the table replaces, and the routes
//! that publishers have left. Those that change the table help with the former, and publishers that
//! leave very many routes with the latter.

#![forbid(unsafe_code)]

mod address;
mod cache;
mod changes;
mod destinations;
mod lint;
mod route;
mod table;
mod trie;

pub use address::ConsumerAddr;
pub(crate) use address::RingId;
pub use cache::TopicCache;
pub use destinations::Destination;
pub(crate) use destinations::Destinations;
pub use lint::{ForeignKind, ForeignWildcard, Linter, Oddity};
pub use route::{MAX_ROUTES, RouteId, TooManyRoutes};
pub(crate) use route::{Route, RouteTarget, Routes, TargetCounts};
pub use table::{Edit, RoutingTable, Snapshot, SnapshotGuard};
pub use trie::Trie;
pub(crate) use trie::{Chunk, MAX_CHUNK};
