//! Options of a ring, and its allocation.

use super::graph::Graph;
use crate::affinity::Pinning;
use crate::ring::control::{Control, Core};
use crate::ring::error::{BuildError, check_capacity};
use crate::ring::overflow::Overflow;
use crate::ring::pace::{LINGER, MAX_LINGER};
use crate::ring::part::{Part, Role};
use crate::ring::sequence::{END_OF_SEQUENCES, Sequence};
use crate::ring::slot_policy::{Renewal, SlotPolicy};
use crate::ring::slots::{Layout, Slots};
use crate::sync::unique_number;
use crate::wait::{Parking, SharedStrategy, WaitStrategy};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Options of a ring. Its memory is the capacity times the size of a slot; see [`Layout`].
pub struct RingBuilder<E> {
    capacity: usize,
    factory: Box<dyn Fn() -> E + Send + Sync>,
    layout: Layout,
    first: Sequence,
    overflow: Overflow,
    wait: WaitStrategy,
    linger: Duration,
    pinning: Pinning,
    policy: SlotPolicy,
    renewal: Renewal<E>,
}

impl<E: Send + Sync + 'static> RingBuilder<E> {
    /// Describes a ring of `capacity` slots (a power of two from 1 to 2^30), each with an event
    /// made by `factory`.
    ///
    /// # Errors
    /// [`BuildError::Capacity`].
    pub fn new(capacity: usize, factory: impl Fn() -> E + Send + Sync + 'static) -> Result<Self, BuildError> {
        check_capacity(capacity)?;
        Ok(Self {
            capacity,
            factory: Box::new(factory),
            layout: Layout::default(),
            first: 0,
            overflow: Overflow::default(),
            wait: WaitStrategy::default(),
            linger: LINGER,
            pinning: Pinning::default(),
            policy: SlotPolicy::default(),
            renewal: Renewal::Anew,
        })
    }

    /// Sets how events lie in memory, [`Layout::Stamped`] by default.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets the sequence of the first event, 0 by default, for a ring that goes on where a journal
    /// ends. Sequences end at 2^62; a ring that starts there publishes nothing.
    #[must_use]
    pub fn first_sequence(mut self, first: Sequence) -> Self {
        self.first = first.min(END_OF_SEQUENCES);
        self
    }

    /// Sets what a publish does on a full ring: by default it waits without limit.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets how managed consumers, and producers on a full ring, wait. Decides whether the ring can
    /// ever park.
    #[must_use]
    pub fn wait(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long a managed consumer that has caught up under load lingers before it looks
    /// again: zero for never, at most 1 ms, 2 µs by default. It lingers only while that makes
    /// events come faster. Lingering adds up to that much latency, and only while the producer runs
    /// at full speed; now and then the consumer tries for some 0.1 ms whether it does.
    #[must_use]
    pub fn linger(mut self, breath: Duration) -> Self {
        self.linger = breath.min(MAX_LINGER);
        self
    }

    /// Sets where the threads of managed consumers run.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// Sets what becomes of events that all consumers have handled: by default they stay until they
    /// are overwritten.
    #[must_use]
    pub fn slot_policy(mut self, policy: SlotPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Has events cleared, and made anew after a panic, in place instead of by the factory.
    #[must_use]
    pub(crate) fn renewed_by(mut self, clear: fn(&mut E)) -> Self {
        self.renewal = Renewal::InPlace(clear);
        self
    }

    /// Allocates the ring, all of it at once, and calls the factory for each slot. The ring's
    /// consumers come next.
    ///
    /// The factory's events are put into their slots one by one. One of them at a time passes the
    /// caller's stack, if the compiler does not build it in place: an event of `n` bytes takes `n`
    /// bytes of stack here, and what the factory itself takes (without optimisation often two or
    /// three times as much). So an event of 768 KiB is right for a stack of 2 MiB; a larger one
    /// belongs into a `Box` or a `Vec`.
    ///
    /// # Errors
    /// [`BuildError::Memory`], where the allocator refuses the slots or they do not fit the address
    /// space. The factory has not been called then. A system that grants more than it has (Linux
    /// does by default) may still end the process when the slots are written; and what the factory
    /// allocates by itself is its own concern.
    ///
    /// # Panics
    /// When the factory panics. What it had made is dropped.
    pub fn graph(self) -> Result<Graph<E>, BuildError> {
        let wait = SharedStrategy::new(self.wait);
        let consumers = Arc::new(Parking::new(wait.may_park()));
        let capacity = self.capacity as u64;
        let control = Control::new(capacity, self.first, self.overflow, wait, self.linger, consumers);
        let slots = Slots::new(self.layout, self.capacity, self.first, &self.factory)?;
        let filler = Part::new(unique_number(), Role::Fills);
        let Self { policy, renewal, factory, .. } = self;
        let core = Arc::new(Core { control, slots, policy, renewal, factory, filler });
        Ok(Graph::new(self.first, core, self.pinning))
    }
}

impl<E> fmt::Debug for RingBuilder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
