//! Why a ring could not be built.

use super::options::MAX_LANES;
use crate::affinity::AffinityError;

/// The most slots a ring may have.
const MAX_SLOTS: usize = 1 << 30;

/// Reason why a ring could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The capacity is not a power of two from 1 to 2^30.
    #[error(
        "a capacity of {capacity} is not a power of two from 1 to {MAX_SLOTS}; the next that fits is {next}"
    )]
    Capacity {
        /// What was asked for.
        capacity: usize,
        /// The nearest capacity that would do, not smaller where possible.
        next: usize,
    },
    /// The slots take more memory than there is.
    #[error(
        "{capacity} slots take {bytes} bytes of memory, which there are not: choose a smaller capacity, or \
         smaller events"
    )]
    Memory {
        /// What was asked for.
        capacity: usize,
        /// What that takes; `usize::MAX` also where it is more.
        bytes: usize,
    },
    /// A name that no thread can bear.
    #[error("consumer {name:?}: a name holds no NUL, because threads bear it")]
    Name {
        /// What was asked for.
        name: String,
    },
    /// A dependency that belongs to another ring, or that has left this one.
    #[error("consumer {name:?} depends on a consumer that is not of this ring, or has left it")]
    ForeignConsumer {
        /// The consumer that was to be added.
        name: String,
    },
    /// Two consumers would touch an event at once, of which one may change it.
    #[error(
        "consumer {name:?} would be at the same stage as {other:?}, and one of them may change events: \
         let one of the two depend on the other"
    )]
    NotAlone {
        /// The consumer that was to be added.
        name: String,
        /// The other one.
        other: String,
    },
    /// A ring that drops its oldest events has one stage.
    #[error("consumer {name:?} depends on others, which a ring with DropOldest does not allow")]
    StagesThatDrop {
        /// The consumer that was to be added.
        name: String,
    },
    /// A ring that drops its oldest events has no workers: what they have claimed cannot be taken
    /// from them.
    #[error("workers {name:?} share events, which a ring with DropOldest does not allow")]
    WorkersThatDrop {
        /// The group of workers that was to be added.
        name: String,
    },
    /// A group that nobody works in would hold the ring up for ever.
    #[error("the group {name:?} has no workers: give it at least one")]
    NoWorkers {
        /// The group that was to be added.
        name: String,
    },
    /// The number of lanes is out of bounds.
    #[error("the group {name:?} cannot have {lanes} lanes: give it 1 to {}", MAX_LANES)]
    Lanes {
        /// The group that was to be added.
        name: String,
        /// What was asked for.
        lanes: usize,
    },
    /// Nobody joins a group that is not there.
    #[error(
        "a worker cannot join: there is no such group of workers in this ring, or all of them have left it, \
         which ends a group"
    )]
    NoSuchGroup,
    /// Slots are cleared by the one consumer that is behind all others, and there is none.
    #[error(
        "a ring that clears its slots needs one consumer behind all others, which clears them, and its last \
         ones are {last:?}: put one behind them, even if it does nothing else"
    )]
    NoSoleLast {
        /// The consumers and groups that nobody depends on.
        last: Vec<String>,
    },
    /// Nobody joins behind or beside the consumer that clears the slots.
    #[error("consumer {name:?} cannot join: {last:?} is the last one of this ring, and clears its slots")]
    BesideLast {
        /// The consumer that was to join.
        name: String,
        /// The last one.
        last: String,
    },
    /// The dense layout is for one producer.
    #[error("a dense ring has one producer: build it with build_single_producer(), or stamped for several")]
    DenseForMany,
    /// Nobody joins a ring that is closed.
    #[error("consumer {name:?} cannot join: the ring is closed")]
    Closed {
        /// The consumer that was to join.
        name: String,
    },
    /// A producer did not finish filling its event within the time limit.
    #[error("consumer {name:?} cannot join: a producer did not finish filling its event in time")]
    TimedOut {
        /// The consumer that was to join.
        name: String,
    },
    /// A thread cannot be pinned as asked.
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

/// Checks that a capacity is a power of two within bounds.
pub(crate) fn check_capacity(capacity: usize) -> Result<(), BuildError> {
    if capacity.is_power_of_two() && capacity <= MAX_SLOTS {
        return Ok(());
    }
    Err(BuildError::Capacity { capacity, next: capacity.min(MAX_SLOTS).next_power_of_two() })
}
