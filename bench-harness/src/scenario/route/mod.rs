//! `route`: which patterns match which topics, by the engine's own trie and without an engine; and
//! what is odd about the patterns.
//!
//! Patterns are held in memory, topics and matches are not: topics are [sorted] outside of it, and
//! matches are found while they are [written](mod@matches). All input has been read and checked by
//! then, so that nothing is written where a line is wrong.

mod command;
mod lint;
mod matches;
mod names;
mod sorted;

pub(crate) use command::{RouteFiles, route};
