//! Dispatchers: their options, and what the broker knows of each that runs.

use super::deliver::consumer::ConsumerTally;
use super::deliver::mailbox::Mailbox;
use crate::affinity::Pinning;
use crate::message::Envelope;
use crate::ring::{MultiProducer, Overflow, Ring};
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU32;
use crate::wait::WaitStrategy;
use std::ops::Range;
use std::sync::Arc;

/// The slots of a ring unless told otherwise: half a mebibyte with 64-byte payloads, 256 MiB at the very most.
const DEFAULT_CAPACITY: usize = 4_096;

/// A dispatcher to be: a ring and its stages of consumers, each consumer with a thread.
///
/// Its memory is the capacity times two cache lines (with payloads of up to 64 bytes), plus whatever its payloads keep on
/// the heap: at most 4 KiB a slot that holds a small message, at most 64 KiB a slot that holds a large one.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    pub(super) name: String,
    pub(super) capacity: usize,
    pub(super) wait: WaitStrategy,
    pub(super) pinning: Pinning,
    pub(super) overflow: Overflow,
    pub(super) stages: Vec<usize>,
}

impl Dispatcher {
    /// A dispatcher with 4,096 slots and one consumer, which parks when idle; publishers wait when it is full.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            capacity: DEFAULT_CAPACITY,
            wait: WaitStrategy::default(),
            pinning: Pinning::default(),
            overflow: Overflow::default(),
            stages: vec![1],
        }
    }

    /// The number of slots: a power of two.
    #[must_use]
    pub fn capacity(mut self, slots: usize) -> Self {
        self.capacity = slots;
        self
    }

    /// How its consumers wait for messages, and publishers for room.
    #[must_use]
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// Where its threads run, in order of stage.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// What a publish does when the ring is full.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How many consumers each stage has, each with a thread. A stage sees a message when all consumers of the stage
    /// before have finished with it: `[1, 2]` is a journal before two consumers that share the subscriptions.
    #[must_use]
    pub fn stages(mut self, consumers: &[usize]) -> Self {
        self.stages = consumers.to_vec();
        self
    }
}

/// A dispatcher: a ring and its consumers, stage by stage.
pub(crate) struct DispatcherState<P> {
    pub(crate) name: String,
    pub(crate) ring: Ring<Envelope<P>>,
    /// What publishers clone.
    pub(crate) producer: Mutex<MultiProducer<Envelope<P>>>,
    /// The consumers of each stage.
    pub(crate) stages: Vec<Range<usize>>,
    pub(crate) consumers: Vec<ConsumerState<P>>,
}

/// A consumer as others know it.
pub(crate) struct ConsumerState<P> {
    /// Its thread's name.
    pub(crate) thread: String,
    pub(crate) mailbox: Arc<Mailbox<P>>,
    pub(crate) tally: Arc<ConsumerTally>,
    /// Subscriptions that it owns.
    pub(crate) subscriptions: AtomicU32,
}
