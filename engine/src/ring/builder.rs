//! Building a ring: first its options, then its consumers, then the producer's kind.
//!
//! A consumer can only depend on consumers that were added before it, so every graph is acyclic by construction.

use super::Sequence;
use super::control::{Control, Core};
use super::gating::ConsumerSequence;
use super::overflow::Overflow;
use super::poller::Poller;
use super::producer::{ExclusiveProducer, MultiProducer, Producer};
use super::runner::{Planned, Ring};
use super::sequencer::{Exclusive, Multi, Sequencer};
use super::slots::Slots;
use crate::affinity::{AffinityError, Pinning};
use crate::sync::atomic::AtomicU64;
use crate::sync::{CachePadded, unique_number};
use crate::wait::{Parking, WaitStrategy};
use std::fmt;
use std::sync::Arc;

/// The most slots a ring may have.
const MOST_SLOTS: usize = 1 << 30;

/// Why a ring could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The capacity is not a power of two from 1 to 2^30.
    #[error(
        "a capacity of {capacity} is not a power of two from 1 to {MOST_SLOTS}; the next that fits is {next}"
    )]
    Capacity {
        /// What was asked for.
        capacity: usize,
        /// The nearest capacity that would do, not smaller where possible.
        next: usize,
    },
    /// A dependency that belongs to another ring.
    #[error("consumer {name:?} depends on a consumer of another ring")]
    ForeignConsumer {
        /// The consumer that was to be added.
        name: String,
    },
    /// A thread cannot run where it was told to.
    #[error("consumer {name:?}: {reason}")]
    Affinity {
        /// The consumer whose thread it is.
        name: String,
        /// What is wrong.
        reason: AffinityError,
    },
    /// The system refused a thread.
    #[error("consumer {name:?}: no thread could be started ({kind})")]
    Thread {
        /// The consumer whose thread it is.
        name: String,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
}

/// Checks a capacity.
pub(crate) fn check_capacity(capacity: usize) -> Result<(), BuildError> {
    if capacity.is_power_of_two() && capacity <= MOST_SLOTS {
        return Ok(());
    }
    Err(BuildError::Capacity { capacity, next: capacity.min(MOST_SLOTS).next_power_of_two() })
}

/// The options of a ring. The memory it takes is the capacity times the event's size plus eight bytes, rounded up to a
/// power of two (below a cache line) or to whole cache lines.
pub struct RingBuilder<E> {
    capacity: usize,
    factory: Box<dyn Fn() -> E + Send + Sync>,
    overflow: Overflow,
    wait: WaitStrategy,
    pinning: Pinning,
}

impl<E: Send + Sync + 'static> RingBuilder<E> {
    /// A ring of `capacity` slots (a power of two from 1 to 2^30), each with an event made by `factory`.
    ///
    /// # Errors
    /// [`BuildError::Capacity`].
    pub fn new(capacity: usize, factory: impl Fn() -> E + Send + Sync + 'static) -> Result<Self, BuildError> {
        check_capacity(capacity)?;
        Ok(Self {
            capacity,
            factory: Box::new(factory),
            overflow: Overflow::default(),
            wait: WaitStrategy::default(),
            pinning: Pinning::default(),
        })
    }

    /// What a publish does on a full ring. Waits without limit unless told otherwise.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How managed consumers, and producers on a full ring, wait. Fixes whether the ring can ever park.
    #[must_use]
    pub fn wait(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// Where the threads of managed consumers run.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// Allocates the ring. Its consumers come next.
    pub fn graph(self) -> Graph<E> {
        let readers = Arc::new(Parking::new(self.wait.can_park()));
        let control = Control::new(self.capacity as u64, self.overflow, self.wait, readers);
        let slots = Slots::new(self.capacity, &self.factory);
        let core = Arc::new(Core { control, slots, factory: self.factory });
        Graph { id: unique_number(), core, pinning: self.pinning, consumers: Vec::new(), planned: Vec::new() }
    }
}

impl<E> fmt::Debug for RingBuilder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// One consumer of a [`Graph`], for others to depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerId {
    /// The ring it belongs to.
    ring: u64,
    index: usize,
}

/// What the graph knows of a consumer.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) sequence: ConsumerSequence,
    /// All consumers before it, by index.
    ancestors: Vec<usize>,
}

/// The consumers of a ring that has no producer yet.
pub struct Graph<E> {
    /// Unique in this process.
    id: u64,
    core: Arc<Core<E>>,
    pinning: Pinning,
    consumers: Vec<Node>,
    planned: Vec<Planned<E>>,
}

impl<E: Send + Sync + 'static> Graph<E> {
    /// Adds a consumer that you poll. It sees an event when all consumers in `after` have finished with it.
    ///
    /// # Errors
    /// [`BuildError::ForeignConsumer`].
    pub fn poller(&mut self, after: &[ConsumerId]) -> Result<(ConsumerId, Poller<E>), BuildError> {
        self.add("poller", after)
    }

    /// Adds a consumer with a thread of its own, which starts when the ring is built and ends when the ring is closed
    /// and drained. The handler gets the event, its sequence, and whether it is the last of those found in one look.
    /// When it panics, the event is skipped and counted, and the next one is handled.
    ///
    /// # Errors
    /// [`BuildError::ForeignConsumer`].
    pub fn consumer(
        &mut self,
        name: &str,
        after: &[ConsumerId],
        handler: impl FnMut(&E, Sequence, bool) + Send + 'static,
    ) -> Result<ConsumerId, BuildError> {
        let (id, poller) = self.add(name, after)?;
        self.planned.push(Planned { name: name.to_owned(), poller, handler: Box::new(handler) });
        Ok(id)
    }

    fn add(&mut self, name: &str, after: &[ConsumerId]) -> Result<(ConsumerId, Poller<E>), BuildError> {
        let mut ancestors = Vec::new();
        for dependency in after {
            if dependency.ring != self.id {
                return Err(BuildError::ForeignConsumer { name: name.to_owned() });
            }
            ancestors.push(dependency.index);
            ancestors.extend(&self.consumers[dependency.index].ancestors);
        }
        ancestors.sort_unstable();
        ancestors.dedup();

        let sequence: ConsumerSequence = Arc::new(CachePadded::new(AtomicU64::new(0)));
        self.core.control.gating.add(sequence.clone());
        let dependencies = ancestors.iter().map(|&index| self.consumers[index].sequence.clone()).collect();
        let poller = Poller::new(self.core.clone(), dependencies, sequence.clone(), 0);
        self.consumers.push(Node { name: name.to_owned(), sequence, ancestors });
        Ok((ConsumerId { ring: self.id, index: self.consumers.len() - 1 }, poller))
    }

    /// Starts the managed consumers and returns the ring's only producer.
    ///
    /// # Errors
    /// A thread that cannot be started or pinned; nothing is left running then.
    pub fn exclusive(self) -> Result<(ExclusiveProducer<E>, Ring<E>), BuildError> {
        self.build(Exclusive::default())
    }

    /// Starts the managed consumers and returns a producer that can be cloned.
    ///
    /// # Errors
    /// A thread that cannot be started or pinned; nothing is left running then.
    pub fn multi(self) -> Result<(MultiProducer<E>, Ring<E>), BuildError> {
        self.build(Multi::default())
    }

    fn build<S: Sequencer>(self, sequencer: S) -> Result<(Producer<E, S>, Ring<E>), BuildError> {
        let Self { core, pinning, consumers, planned, .. } = self;
        let producer = Producer::new(core.clone(), sequencer);
        let ring = Ring::start(core, S::ARE_MANY, consumers, planned, &pinning)?;
        Ok((producer, ring))
    }
}

impl<E> fmt::Debug for Graph<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("consumers", &self.consumers.len()).finish_non_exhaustive()
    }
}
