//! How it stands with dead letters that are to outlive their process.

use super::dead_letter_store::Damage;
use super::error::StoreErrorKind;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

/// How durable dead letters are at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DurableStatus {
    /// Whether what happens now becomes durable.
    pub state: DurableState,
    /// Changes, such as new letters and purged ones, that have been committed.
    pub committed: u64,
    /// Changes that have not been committed yet.
    pub behind: u64,
    /// Letters in the store that would not outlive the process if it ended now. Those of which no record could be made
    /// are among them.
    pub not_durable: u64,
    /// Letters in the store of which no record could be made: the codec has failed, or a record would be too large.
    /// They are in memory alone.
    pub unwritable: u64,
    /// The last letter of which no record could be made, whether it is still there or not.
    pub refusal: Option<Refusal>,
    /// Commits that have failed. Each was or will be tried again.
    pub failed_commits: u64,
    /// Why the last of them has failed, unless all has been made up for since.
    pub failure: Option<Degraded>,
}

/// Whether what happens now becomes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurableState {
    /// Within milliseconds.
    Healthy,
    /// Not, or late. It is tried again and again, and all is made up for when it goes well.
    Degraded(Degraded),
    /// No more: the broker has been shut down.
    Closed,
}

/// Why letters do not become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Degraded {
    /// What sort of failure it is, where a commit has failed; nothing where it is slow.
    pub kind: Option<StoreErrorKind>,
    /// What the store says.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
}

/// A letter of which no record could be made.
///
/// Its Debug output does not show the reason, which is the codec's own and may quote the payload.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The letter's number.
    pub number: u64,
    /// Why: at most 256 bytes of what the codec says.
    pub reason: Box<str>,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What was found when the letters of earlier processes were read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Letters that were read back, and are in the store.
    pub restored: u64,
    /// Letters that were read back, and for which the store had no room: the oldest. They are removed.
    pub evicted: u64,
    /// Earlier records of letters that are there: they are removed.
    pub superseded: u64,
    /// Records that are damaged or missing. What was there of them is kept, beside the file.
    pub damaged: Vec<Damage>,
    /// Records that are whole and could not be made letters of. They stay where they are, and each opening tries again.
    pub unread: Vec<Refusal>,
    /// Where the whole file went that was not readable, if it was moved aside.
    pub moved_aside: Option<PathBuf>,
}
