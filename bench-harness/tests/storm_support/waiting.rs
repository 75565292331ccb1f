//! Messages that wait, and dead letters, as the model has them.

use super::answer::Letter;
use super::circuit::Range;
use super::scenario::Nanos;

/// A message that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) n: u64,
    /// The one that comes next.
    pub(crate) attempt: u16,
    pub(crate) due: Range,
    pub(crate) first_failed: Option<Nanos>,
    pub(crate) expires: Option<Nanos>,
    pub(crate) is_replayed: bool,
    pub(crate) failed: u64,
    /// It was over when another was called for: it may have had its turn just before, or not.
    pub(crate) may_be_gone: bool,
    /// What tells it from others, where that is asked.
    pub(crate) key: Option<String>,
    /// The key of a replay, which is not asked for it.
    pub(crate) remembered_as: Option<String>,
}

impl Waiting {
    /// What others are duplicates of while it waits, and once it was handled.
    pub(crate) fn key_while_it_waits(&self) -> Option<&String> {
        self.key.as_ref().or(self.remembered_as.as_ref())
    }

    pub(crate) fn has_expired(&self, at: Nanos) -> bool {
        self.expires.is_some_and(|expires| expires <= at)
    }
}

/// A dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) letter: Letter,
    pub(crate) expires: Option<Nanos>,
    pub(crate) is_leased: bool,
    pub(crate) key: Option<String>,
}

/// Whose turn it is to be delivered: what waits in order, or what was due at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Backlog,
    Retry,
}
