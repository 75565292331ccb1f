//! Exit codes: what a script may conclude from a run.

use std::process::ExitCode;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The job is done, and what was counted adds up.
    Done = 0,
    /// Messages were lost, duplicated or reordered, or a bound was missed.
    CheckFailed = 1,
    /// The arguments or the input cannot be used.
    Unusable = 2,
    /// The machine disturbed the run too much for the verdict that was asked for.
    TooNoisy = 3,
    /// A file could not be read, or the answer not be written.
    InputOutput = 4,
    /// Somebody stopped the run. The convention of shells: 128 and the number of SIGINT.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
