//! What a ring does when it is full, and what a publish can answer.

use std::time::Duration;

/// What happens to a publish that finds the ring full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Wait for room, for so long at most. `None` waits until there is room or the ring is closed.
    Block {
        /// How long a publish waits before it fails with [`PublishError::TimedOut`].
        limit: Option<Duration>,
    },
    /// Fail at once with [`PublishError::Full`].
    Reject,
}

impl Default for Overflow {
    /// Wait without limit.
    fn default() -> Self {
        Self::Block { limit: None }
    }
}

/// Why an event was not published. Nothing of it is in the ring.
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
    /// The ring is closed.
    #[error("the ring is closed: nothing more can be published")]
    Closed,
}
