//! How urgent a message is.

use std::{fmt, str::FromStr};

/// How urgent a message is, as its publisher says
/// ([`PublishOptions::priority`](crate::broker::PublishOptions::priority)): for
/// [filters](crate::broker::filter::priority_at_least) and handlers that look at it. It does not change the order of
/// delivery: a dispatcher has one ring.
///
/// As JSON (feature `serde`) and as text it is `high`, `normal` or `low`. It has no order of its own, because "less"
/// could mean either less urgent or earlier in line; [`Priority::index`] is the place in line.
///
/// ```
/// use ringmain::message::Priority;
///
/// assert_eq!(Priority::default(), Priority::Normal);
/// assert_eq!("high".parse(), Ok(Priority::High));
/// assert_eq!(Priority::Low.to_string(), "low");
/// assert!(Priority::ALL.iter().map(|priority| priority.index()).eq([0, 1, 2]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[repr(u8)]
#[non_exhaustive]
pub enum Priority {
    /// More urgent than most.
    High = 0,
    /// What a message has unless it is given another.
    #[default]
    Normal = 1,
    /// Less urgent than most.
    Low = 2,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: &'static [Self] = &[Self::High, Self::Normal, Self::Low];

    /// The place in [`Priority::ALL`]: 0 is the most urgent.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name: `high`, `normal` or `low`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = ParsePriorityError;

    /// Reads a name exactly as [`Priority::as_str`] writes it.
    fn from_str(text: &str) -> Result<Self, ParsePriorityError> {
        Self::ALL.iter().copied().find(|priority| priority.as_str() == text).ok_or(ParsePriorityError)
    }
}

/// A text is not the name of a [`Priority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a priority: write `high`, `normal` or `low`, in lower case")]
pub struct ParsePriorityError;
