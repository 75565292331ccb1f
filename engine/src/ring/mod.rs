//! A disruptor: a pre-allocated ring of events between producers and consumers that never lock.
//!
//! A producer claims the next *sequence*, writes the event into the slot of that sequence, and
//! *stamps* the slot. Consumers read stamps, handle events in place, and advance their own
//! sequences. No producer laps the slowest consumer. The ring can be used alone:
//!
//! ```
//! use ringmain::ring::{Polled, RingBuilder};
//!
//! let mut graph = RingBuilder::new(1_024, || 0_u64)?.graph()?;
//! let (_id, mut poller) = graph.poller(&[])?;
//! let (mut producer, _ring) = graph.build_multi_producer()?;
//!
//! producer.publish(|event| *event = 42)?;
//! let mut seen = Vec::new();
//! assert_eq!(poller.poll(16, |event, _sequence, _end_of_batch| seen.push(*event)), Polled::Events(1));
//! assert_eq!(seen, [42]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | choose capacity, [`Layout`], [`Overflow`], [`SlotPolicy`], waiting and cores | [`RingBuilder`] |
//! | add consumers that you poll, consumers with threads, stages, workers that share events | [`Graph`] |
//! | publish, one by one, in batches, or over several statements | [`Producer`], [`NextSlot`] |
//! | close, halt, join, leave, and read statistics | [`Ring`] |
//! | take a consumer over that does not return | [`Lease`], [`Supervisor`], [`Takeover`] |
//!
//! The ring does not grow, and one slow consumer stops all producers. Choose a capacity for the
//! longest stall that you want to ride out, or another [`Overflow`]. How it works, and why it is
//! right: [`protocol`].

mod barrier;
mod circle;
mod claim;
mod consumer;
mod control;
mod error;
mod gate;
mod group;
mod lease;
pub(crate) mod managed;
mod options;
mod overflow;
mod pace;
mod part;
mod position;
mod producer;
#[cfg(doc)]
pub mod protocol;
mod reentrancy;
#[allow(clippy::module_inception)]
mod ring;
mod sequence;
mod signals;
mod slot_policy;
mod slots;
mod topology;

pub(crate) use claim::Run;
pub use claim::{Multi, Sequencer, Single};
pub use consumer::{MutPoller, Polled, Poller};
pub use error::BuildError;
pub(crate) use error::check_capacity;
pub use group::Worker;
pub(crate) use lease::StopSign;
pub use lease::{Call, Called, Lease, Stopped, StoppedCall, Supervisor, Takeover};
pub(crate) use managed::spawn_pinned;
pub use managed::{Batch, EventHandler};
pub use options::{ConsumerId, ConsumerOptions};
pub use overflow::{Missed, Overflow, PublishError};
pub use producer::{BatchError, MultiProducer, NextSlot, Producer, SingleProducer};
pub(crate) use reentrancy::inside;
pub use ring::{ConsumerReport, Ring, ShutdownError};
pub use sequence::Sequence;
pub use slot_policy::SlotPolicy;
pub use slots::Layout;
pub(crate) use slots::Write;
pub use topology::{Graph, RingBuilder};
