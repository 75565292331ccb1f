//! A disruptor: a pre-allocated ring of events between producers and consumers that never lock.
//!
//! The ring can be used alone. A producer claims the next *sequence*, writes the event in the slot that the sequence
//! maps to, and *stamps* the slot; consumers read stamps, handle events in place, and move their own sequences on.
//! Producers may not lap the slowest consumer. The design is the LMAX disruptor's (Thompson, Farley, Barker, Gee,
//! Stewart: "Disruptor: High performance alternative to bounded queues", 2011), with the per-slot stamps of
//! D. Vyukov's bounded MPMC queue in place of a published cursor; a ring of small events with one producer can have the
//! cursor instead ([`Layout`]).
//!
//! ```
//! use ringmain::ring::{Polled, RingBuilder};
//!
//! let mut graph = RingBuilder::new(1_024, || 0_u64)?.graph();
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
//! # The protocol
//!
//! *Sequence* `s` lives in slot `s & (capacity - 1)` and is never reused; 62 bits last for 14,000 years at ten million
//! a second, and a ring that has used them up says so. These words are shared:
//!
//! | word | written by | read by |
//! |---|---|---|
//! | a slot's stamp, `(s + 1) << 1 \| tombstone` | the producer that claimed `s` | every barrier |
//! | a dense ring's cursor: all below it are published | its producer | every barrier |
//! | a consumer's sequence: all below it are done with | that consumer | gates; barriers of later stages |
//! | the claim word: all below it are claimed, and for many producers a bit that says closed | producers | closers, statistics |
//! | the phase: open, closing, sealed, halted | closers | everybody |
//!
//! **Publishing** (edge `PUBLISH_SLOT`). The event is written with plain stores between the claim and the stamp's
//! release store. A barrier that reads the stamp of `s` with acquire sees the event of `s`, and it cannot see a later
//! one: the slot's next use, `s + capacity`, is not claimed before this very consumer has moved past `s`.
//!
//! A dense ring's cursor does the same for a whole run (edge `PUBLISH_CURSOR`). Where one producer stamps, it stamps in order,
//! so that a far stamp proves all before it; see `barrier.rs` for how consumers use that to keep away from the line that
//! is being written.
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
//! **Joining** (edge `JOIN`). A consumer joins a running ring at the cursor: it registers, heavy fence, reads the claim word
//! and starts there, once all below is published. A producer reads the claim word, light fence, reads the list, and
//! takes no minimum that lies above what it read of the claim word. So either its list has the joiner, or the joiner starts
//! where that minimum is right for it. See `gate/join.rs`.
//!
//! **Claims.** The claim word is the next sequence. A single producer moves it by a plain store, several producers
//! by compare-and-swap, one read-modify-write a publish. Neither needs an ordering there: what the claim word hands
//! over is a number, and the slot's safety comes from the gate.
//!
//! **Stages** (edge `FINISH_STAGE`). A consumer that depends on others handles what all of them have finished. It
//! looks at their sequences and then at the stamps all the same: a consumer that has left no longer holds anybody up,
//! and what bounds its dependents then is what their other dependencies, and publication, allow.
//!
//! **Workers** (edges `CLAIM_IN_GROUP`, `LEASE_LANE`). Several workers can share one stage: each event goes to one of
//! them, to whoever claims it or by its key. See the files `group/raced.rs` and `group/keyed.rs`.
//!
//! **Dropping the oldest** (edge `SKIP_OLDEST`). Under [`Overflow::DropOldest`] a consumer takes hold of a run, and a producer
//! takes the oldest events away from a consumer, by compare-and-swap of the same word, the consumer's sequence with a bit
//! that says whether what follows is held; so each event goes to exactly one. See `position.rs`.
//!
//! **Closing** (edges `CLOSE`, `CLOSE_RING`). With many producers the closed bit sits in the claim word, so that each
//! claim is either before it, and will be consumed, or refused. A single producer has no read-modify-write to
//! spend; it announces its claim in the claim word, light fence, looks at the phase; the closer sets the phase to
//! closing, heavy fence, sets it to sealed. Either the closer's fence comes after the producer's, and whoever sees the
//! ring sealed sees the claim, or the producer sees the ring closing, and takes its claim back. A consumer has finished
//! when the ring is sealed and its own sequence equals the claim word, which it reads anew at each look.
//!
//! **Faults.** A fill closure that panics leaves a tombstone where several producers claim (the sequence is taken and
//! others follow), which every consumer skips, and nothing at all where one does. In both cases the event is made
//! anew. A handler that panics is past its event: the poller moves on and holds nobody up. A publish that would wait for
//! its own thread, from a handler of the full ring or from inside a fill closure, is an error at once (`reentrancy.rs`).
//!
//! **Parking** (edge `PARK`): see [`crate::wait::Parking`].
//!
//! **Stuck handlers** (edge `LEASE`): a consumer that does not return can be replaced; see the file `lease.rs`.
//!
//! # Two regimes
//!
//! A consumer on its producer's heels fights it for every line; one that trails finds whole batches, and both run several
//! times faster. Three things steer a loaded ring into the second regime and stay out of the way of a ring that is not:
//! a consumer that has caught up lingers a moment, if and as long as that makes events come faster (`pace/linger.rs`,
//! [`RingBuilder::linger`]); a producer that has found the ring full resumes when a good part of it is free
//! (`pace/hysteresis.rs`); and a consumer looks at a far stamp first. A loop of your own around [`Poller::poll`] gets the last two.
//!
//! # Trade-offs
//!
//! Stamps cost eight bytes a slot and tell and bring in one line transfer; a reader close behind a producer fights it for
//! that line. A cursor is one line more for a lone event, and less for a batch of small ones: for throughput of small
//! events from one producer take [`Layout::Dense`], and batches, and slices ([`Poller::poll_slices`]). Note that a stamped event
//! of 64 bytes takes two lines; one of 56, one. The ring does not grow, and one slow consumer stops all producers: choose the capacity for the
//! longest stall to be ridden out, or another [`Overflow`].

mod barrier;
mod claim;
mod consumer;
mod control;
mod error;
mod gate;
mod group;
mod lease;
mod managed;
mod options;
mod overflow;
mod pace;
mod position;
mod producer;
mod reentrancy;
#[allow(clippy::module_inception)]
mod ring;
mod sequence;
mod signals;
mod slots;
mod topology;

pub(crate) use claim::Run;
pub use claim::{Multi, Sequencer, Single};
pub use consumer::{MutPoller, Polled, Poller};
pub use error::BuildError;
pub(crate) use error::check_capacity;
pub use group::Worker;
pub use lease::{Called, Lease, Stopped, Supervisor, Takeover};
pub use managed::{Batch, EventHandler};
pub use options::{ConsumerId, ConsumerOptions};
pub use overflow::{Missed, Overflow, PublishError};
pub(crate) use pace::{LINGER, Linger};
pub use producer::{BatchError, MultiProducer, NextSlot, Producer, SingleProducer};
pub use ring::{ConsumerReport, Ring, ShutdownError};
pub use sequence::Sequence;
pub use slots::Layout;
pub use topology::{Graph, RingBuilder};
