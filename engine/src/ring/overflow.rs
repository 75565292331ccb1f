//! What a ring does when it is full, and what a publish can answer.

use super::sequence::Sequence;
use std::time::Duration;

/// Policy of a ring for publishes that find it full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Wait for room, for so long at most. `None` waits until there is room, the ring is closed, or
    /// it shows that the wait would never end ([`PublishError::WouldDeadlock`]).
    Block {
        /// How long a publish waits before it fails with [`PublishError::TimedOut`].
        limit: Option<Duration>,
    },
    /// Fail at once with [`PublishError::Full`].
    Reject,
    /// Drop the event that was to be published, count it, and say so with
    /// [`PublishError::Dropped`].
    DropNewest,
    /// Take the oldest event away from every consumer that has not read it, and publish in its
    /// place. A consumer learns what it [`Missed`], and misses are counted for each consumer.
    ///
    /// A consumer holds the events of the batch it is at: a quarter of the ring at most, and one
    /// event at least. While the oldest event is held, or another producer is still writing it, the
    /// new event is dropped instead, as under `DropNewest`: so it is most of the time beside a
    /// consumer that handles events slowly and without a pause, as one with a thread does. Only for
    /// rings of one stage, whose consumers depend on none.
    DropOldest,
}

impl Overflow {
    /// Returns whether a publish can wait for room.
    pub(super) const fn can_wait(self) -> bool {
        matches!(self, Self::Block { .. })
    }
}

/// Events that a consumer never saw, because its ring dropped them for newer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Missed {
    /// The first sequence that was missed.
    pub from: Sequence,
    /// The sequence after the last that was missed.
    pub to: Sequence,
}

impl Default for Overflow {
    /// Wait without limit.
    fn default() -> Self {
        Self::Block { limit: None }
    }
}

/// Reason why an event was not published. Nothing of it is in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The slowest consumer is a whole ring behind, and the publish was not to wait.
    #[error(
        "the ring is full: its slowest consumer is a whole ring behind; try later, or give it more capacity"
    )]
    Full,
    /// There was no room within the time limit.
    #[error("the ring stayed full for the whole time limit; is a consumer stuck?")]
    TimedOut,
    /// The ring was full, and its policy is to drop what is new. The event was counted.
    #[error("the ring was full and the event was dropped, as its overflow policy says")]
    Dropped,
    /// The ring is full, and it waits for this very thread, which runs a handler or fills an event
    /// of that ring, or of one whose own handler waits, and so on in a circle of rings, of whatever
    /// brokers. Who closes the circle is told so, after some milliseconds, and the others go on.
    ///
    /// A handler that waits by other means than a ring's, such as for a helper thread that publishes
    /// into the handler's own full ring, is not seen: have the helper publish with a limit.
    #[error(
        "the ring is full, and this thread holds it up by a handler or fill closure that it is inside of, perhaps \
         through other rings: waiting here would never end; publish from another thread, to another ring, or with \
         try_publish"
    )]
    WouldDeadlock,
    /// The ring is closed.
    #[error("the ring is closed: nothing more can be published")]
    Closed,
    /// The ring has used up its sequences, some 4.6 quintillion of them. Build another one.
    #[error("the ring has used up its sequences; build another one")]
    Exhausted,
}
