//! The bounds of a backlog, and what happens at them.

/// How much of a subscription's messages may wait, and what happens to one for which there is no room.
/// See [`SubscriptionBuilder::backlog`](crate::broker::SubscriptionBuilder::backlog).
///
/// By default 1,024 messages of 4 MiB in all. A message that finds no room becomes a dead letter where the
/// broker keeps them, and is dropped where it does not.
///
/// ```
/// # use ringmain::broker::{Backlog, WhenFull};
/// let latest = Backlog::new(100).when_full(WhenFull::DropOldest);
/// let small = Backlog::default().bytes(64 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    when_full: Option<WhenFull>,
}

/// What happens to a message for which a backlog has no room.
///
/// What has expired makes room first. A backlog that was told nothing makes dead letters where the broker
/// keeps them, and drops the newest where it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is dropped, and counted as [`Term::Overflow`](crate::broker::Term::Overflow).
    DropNewest,
    /// It becomes a dead letter, with kind [`Overflow`](crate::broker::FailureKind::Overflow). Only for brokers that
    /// [keep](crate::broker::BrokerBuilder::dead_letters) dead letters.
    DeadLetter,
    /// The messages that have waited longest are dropped, and counted so, until there is room.
    DropOldest,
}

impl Backlog {
    /// Returns a backlog of at most so many messages, and of 4 MiB. None at all may wait with 0.
    pub const fn new(messages: usize) -> Self {
        Self { messages, bytes: 4 << 20, when_full: None }
    }

    /// Sets how many bytes of memory its messages may take. A message counts with its payload, its
    /// headers and what the engine keeps beside them; of a payload that is not a
    /// [`Payload`](crate::message::Payload), what it has on the heap is not known and does not count.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets what happens when it is full.
    #[must_use]
    pub const fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = Some(policy);
        self
    }
}

impl Backlog {
    /// Returns whether nothing may wait.
    pub(crate) const fn is_none(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    /// Returns the policy that was asked for, if one was.
    pub(crate) const fn asked_when_full(&self) -> Option<WhenFull> {
        self.when_full
    }

    /// Returns the policy that holds, for a broker that keeps dead letters or does not.
    pub(crate) fn when_full_in(&self, keeps_dead_letters: bool) -> WhenFull {
        let default = if keeps_dead_letters { WhenFull::DeadLetter } else { WhenFull::DropNewest };
        self.when_full.unwrap_or(default)
    }
}

impl Default for Backlog {
    fn default() -> Self {
        Self::new(1_024)
    }
}
