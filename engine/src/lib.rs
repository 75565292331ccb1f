//! Ringmain: an in-process publish/subscribe engine for programs that count nanoseconds.
//!
//! A message is written once into a pre-allocated ring; consumer threads read it there, in place, and call the handlers
//! whose topic patterns match. Start with [`Broker`]; the ring can be used alone, see [`ring`].
//!
//! | module | what it is |
//! |---|---|
//! | [`broker`] | publishers, subscriptions, dispatchers, shutdown, the ledger |
//! | [`message`] | what a handler sees, payloads, headers, ids |
//! | [`topic`] | topics and patterns: grammar and matching |
//! | [`routing`] | all patterns in one snapshot, and what a topic resolves to in it |
//! | [`ring`] | the disruptor below it all |
//! | [`observe`] | counters, histograms, metrics |
//! | [`wait`], [`affinity`], [`clock`] | how threads wait, where they run, what time it is |
//! | [`guide`] | pages on delivery, order and failure: what holds, and what does not |
//!
//! # Handles
//!
//! All clones of a [`Broker`] are the same broker, which closes when the last is dropped. A handler
//! that uses its own broker holds a [`WeakBroker`](broker::WeakBroker) instead: a handler and a
//! `Broker` that it has captured would keep each other.
//!
//! # fork
//!
//! A child made by `fork` has a copy of the broker and none of its threads. There, subscribing,
//! publishing to a topic that is not resolved yet, draining and shutting down fail with `Forked`;
//! unsubscribing and dropping do nothing. Publishing to a topic that was resolved before succeeds
//! until the ring is full, and nobody delivers it. A child builds a broker of its own.
//!
//! # Features
//!
//! * `serde`: the lossless JSON form of messages, [`message`]`::JsonMessage`

pub mod affinity;
pub mod broker;
pub mod clock;
pub mod guide;
pub mod message;
pub mod observe;
pub mod ring;
pub mod routing;
#[cfg(ringmain_loom)]
pub mod sync;
// Public for the models alone.
#[cfg(not(ringmain_loom))]
#[allow(unreachable_pub)]
mod sync;
pub mod topic;
pub mod wait;

pub use broker::Broker;

/// The program in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
