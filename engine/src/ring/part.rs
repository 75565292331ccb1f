//! The part that a thread plays in a ring whose code it runs, and whether it holds the ring up.

use super::gate::Stage;
use super::group::Group;
use super::position::Position;
use super::sequence::Sequence;
use std::sync::Arc;

/// What keeps the next sequence of a full ring from being claimed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    /// The number of the ring.
    pub(super) ring: u64,
    /// The sequence whose slot is wanted. Somebody has not released it.
    pub(super) at: Sequence,
    /// Whether that sequence is published.
    pub(super) is_published: bool,
}

/// Part that a thread plays in a ring.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The number of the ring.
    ring: u64,
    role: Role,
}

/// What a thread does inside of a ring.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// It fills slots. A waiting thread does not say which.
    Fills,
    /// It is the consumer that stands there.
    Consumes(Position),
    /// It is a worker of the group, with that word.
    Works(Position, Arc<Group>),
    /// It belongs to the stage, and stands nowhere by itself.
    Belongs(Stage),
}

impl Part {
    pub(super) fn new(ring: u64, role: Role) -> Self {
        Self { ring, role }
    }

    /// Returns the number of the ring.
    pub(super) fn ring(&self) -> u64 {
        self.ring
    }

    /// Returns whether a ring that is blocked so stays blocked for as long as the thread that plays
    /// this part waits.
    pub(super) fn blocks(&self, blocked: &Blocked) -> bool {
        self.ring == blocked.ring
            && match &self.role {
                Role::Fills => !blocked.is_published,
                Role::Consumes(position) => position.released() <= blocked.at,
                Role::Works(word, group) => {
                    word.released() <= blocked.at
                        // Nobody has that in hand, and it is for whoever looks next.
                        || (group.has_left_behind() && group.released() <= blocked.at)
                }
                Role::Belongs(stage) => stage.released() <= blocked.at,
            }
    }
}
