//! A disruptor: a pre-allocated ring of events between producers and consumers that never lock.
//!
//! The ring can be used alone. A producer claims the next *sequence*, writes the event in the slot that the sequence
//! maps to, and *stamps* the slot; consumers read stamps, handle events in place, and move their own sequences on.
//! Producers may not lap the slowest consumer. The design is the LMAX disruptor's (Thompson, Farley, Barker, Gee,
//! Stewart: "Disruptor: High performance alternative to bounded queues", 2011), with the per-slot stamps of
//! D. Vyukov's bounded MPMC queue in place of a published cursor.
//!
//! ```
//! use ringmain::ring::{Polled, RingBuilder};
//!
//! let mut graph = RingBuilder::new(1_024, || 0_u64)?.graph();
//! let (_id, mut poller) = graph.poller(&[])?;
//! let (mut producer, _ring) = graph.multi()?;
//!
//! producer.publish(|event| *event = 42)?;
//! let mut seen = Vec::new();
//! assert_eq!(poller.poll(16, |event, _sequence, _end_of_batch| seen.push(*event)), Polled::Events(1));
//! assert_eq!(seen, [42]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The protocol
//!
//! *Sequence* `s` lives in slot `s & (capacity - 1)` and is never reused; 63 bits last for 29,000 years at ten million
//! a second. Four kinds of words are shared:
//!
//! | word | written by | read by |
//! |---|---|---|
//! | a slot's stamp, `(s + 1) << 1 \| tombstone` | the producer that claimed `s` | every barrier |
//! | a consumer's sequence: all below it are done with | that consumer | gates; barriers of later stages |
//! | the claim word: all below it are claimed, and for many producers a bit that says closed | producers | closers, statistics |
//! | the phase: open, closing, sealed, halted | closers | everybody |
//!
//! **Publishing** (edge `PUBLISH_SLOT`). The event is written with plain stores between the claim and the stamp's
//! release store. A barrier that reads the stamp of `s` with acquire sees the event of `s`, and it cannot see a later
//! one: the slot's next use, `s + capacity`, is not claimed before this very consumer has moved past `s`.
//!
//! **Gate** (edge `RELEASE_SLOT`). A claim of `s` is taken only when `s - capacity` is below the minimum of all
//! consumers' sequences, read with acquire. A consumer stores its sequence with release after its last read of the
//! slots below, so the producer's writes come after those reads. The minimum is cached by each producer; sequences only
//! grow, so an old minimum is merely too careful. No producer holds a claim while it waits for room, so a producer
//! that gives up leaves no hole. What a consumer has released is published, so no producer has it in hand. A ring that
//! all consumers have left lacks that proof: there one of many producers takes a slot only when it has seen the stamp of
//! the slot's last use, lest two of them write it at once. A consumer that leaves is taken off the list of the gate (edge
//! `SWAP_LIST`); one that leaves a halted ring keeps its place, since later stages must not pass it.
//!
//! **Claims.** An exclusive producer owns the next sequence as a plain number. Several producers move the claim word
//! by compare-and-swap, one read-modify-write a publish. Neither needs an ordering there: what the claim word hands
//! over is a number, and the slot's safety comes from the gate.
//!
//! **Stages** (edge `FINISH_STAGE`). A consumer that depends on others handles what all of them have finished. It
//! looks at their sequences and then at the stamps all the same: a consumer that has left no longer holds anybody up,
//! and what bounds its dependents then is what their other dependencies, and publication, allow.
//!
//! **Workers** (edges `CLAIM_IN_GROUP`, `LEASE_LANE`). Several workers can share one stage: each event goes to one of
//! them, to whoever claims it or by its key. See the files `group.rs` and `lanes.rs`.
//!
//! **Closing** (edges `CLOSE`, `CLOSE_RING`). With many producers the closed bit sits in the claim word, so that each
//! claim is either before it, and will be consumed, or refused. An exclusive producer has no read-modify-write to
//! spend; it announces its claim in the claim word, light fence, looks at the phase; the closer sets the phase to
//! closing, heavy fence, sets it to sealed. Either the closer's fence comes after the producer's, and whoever sees the
//! ring sealed sees the claim, or the producer sees the ring closing, and takes its claim back. A consumer has finished
//! when the ring is sealed and its own sequence equals the claim word, which it reads anew at each look.
//!
//! **Faults.** A fill closure that panics leaves a tombstone where several producers claim (the sequence is taken and
//! others follow), which every consumer skips, and nothing at all where one does. In both cases the event is made
//! anew. A handler that panics is past its event: the poller moves on and holds nobody up.
//!
//! **Parking** (edge `PARK`): see [`crate::wait::Parking`].
//!
//! **Stuck handlers** (edge `LEASE`): a consumer that does not return can be replaced; see the file `lease.rs`.
//!
//! # Trade-offs
//!
//! Stamps cost eight bytes a slot and tell and bring in one line transfer; a reader close behind a producer fights it for
//! that line. The ring does not grow, and one slow consumer stops all producers: choose the capacity for the
//! longest stall to be ridden out, or [`Overflow::Reject`].

mod barrier;
mod builder;
mod control;
mod gating;
mod group;
mod handler;
mod hysteresis;
mod join;
mod lanes;
mod lease;
mod linger;
mod overflow;
mod plan;
mod poller;
mod position;
mod producer;
mod reentry;
mod runner;
mod sequencer;
mod skip;
mod slots;
mod sole;
mod visit;
mod worker;

pub(crate) use builder::check_capacity;
pub use builder::{BuildError, ConsumerOptions, Graph, RingBuilder};
pub use handler::{Batch, EventHandler};
pub(crate) use linger::{LINGER, Linger};
pub use lease::{Called, Lease, Overseer, Remains, Stopped};
pub use overflow::{Missed, Overflow, PublishError};
pub use plan::ConsumerId;
pub use poller::{Polled, Poller};
pub use producer::{BatchError, Claim, ExclusiveProducer, MultiProducer, Producer};
pub(crate) use runner::discard_panic;
pub use runner::{ConsumerReport, Ring, ShutdownError};
pub(crate) use sequencer::Run;
pub use sequencer::{Exclusive, Multi, Sequencer};
pub use slots::Layout;
pub use sole::SolePoller;
pub use worker::Worker;

/// The number of a slot's use: 0 for the first event of a ring, never reused.
pub type Sequence = u64;
