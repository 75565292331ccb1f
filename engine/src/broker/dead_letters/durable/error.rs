//! What can go wrong with dead letters that are to outlive their process.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a [store](super::DeadLetterStore) has not done what it was to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
#[non_exhaustive]
pub struct StoreError {
    /// What sort of failure it is.
    pub kind: StoreErrorKind,
    /// What is wrong, and where.
    pub reason: String,
    /// The numbers of letters whose records it has had and has no more, or not as they were: they are put again.
    pub lost: Vec<u64>,
}

/// What sort of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// There is no room.
    Full,
    /// What was stored is not what is read.
    Corrupted,
    /// Anything else.
    Other,
}

impl StoreError {
    /// An error of that sort, that says why.
    pub fn new(kind: StoreErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), lost: Vec::new() }
    }

    /// An error of the operating system, met while doing that.
    pub fn from_io(error: &io::Error, doing: &str) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreErrorKind::Full
            }
            io::ErrorKind::InvalidData => StoreErrorKind::Corrupted,
            _ => StoreErrorKind::Other,
        };
        Self::new(kind, format!("{doing}: {error}"))
    }
}

/// Why the dead letters of earlier processes could not be opened. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such directory.
    #[error("the directory of {} does not exist; make it first", path.display())]
    NoDirectory {
        /// The file's path.
        path: PathBuf,
    },
    /// Another broker has it, of this process or of another.
    #[error("{} is in use by another broker, of this process or of another; a file belongs to one", path.display())]
    Locked {
        /// The file's path.
        path: PathBuf,
    },
    /// It is something else, or damaged from its beginning to its end.
    #[error(
        "{} holds no dead letters, or none that can be read, and is left as it is; name another path, or have it moved \
         aside by `DurableDeadLetters::move_aside_if_unreadable`",
        path.display()
    )]
    Unreadable {
        /// The file's path.
        path: PathBuf,
    },
    /// It was written by a version of the engine that writes otherwise.
    #[error(
        "{} has version {found} of the form, and this engine knows version {known}; it is left as it is: open it with \
         the engine that wrote it",
        path.display()
    )]
    Version {
        /// The file's path.
        path: PathBuf,
        /// The version that it has.
        found: u32,
        /// The version that is known.
        known: u32,
    },
    /// The store says so.
    #[error("the dead letters of earlier processes cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The thread that writes could not be started.
    #[error("the thread that writes dead letters could not be started ({kind})")]
    Thread {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A broker without threads has none that could write.
    #[error("a simulated broker has no thread to write dead letters: keep them in memory there")]
    Simulated,
}

/// Why it is not known that all dead letters are durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// They are kept in memory alone.
    #[error(
        "the broker keeps its dead letters in memory alone; `BrokerBuilder::durable_dead_letters` has them outlive it"
    )]
    Volatile,
    /// They have not been committed within the time limit.
    #[error(
        "{behind} changes of the dead letters have not been committed within {limit:?}{}",
        .reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default()
    )]
    TimedOut {
        /// The limit that passed.
        limit: Duration,
        /// How many changes were waiting.
        behind: u64,
        /// Why the last commit failed, if it did.
        reason: Option<String>,
    },
    /// Of some no record could be made, so they are in memory alone; all others are durable.
    #[error("{letters} dead letters are in memory alone, since no record could be made of them")]
    Unwritable {
        /// How many those are.
        letters: u64,
    },
    /// The broker has been shut down, and nothing is written any more.
    #[error("the broker has been shut down, and {behind} changes of its dead letters were not committed")]
    Closed {
        /// How many changes that concerns.
        behind: u64,
    },
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of")]
    Forked,
}
