//! Why a run has no answer to give.
//!
//! Only what leaves no report stands here. A run that measured and found something wrong has a
//! report, and its verdict is [`crate::report::Report::exit`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ringmain::broker::BrokerBuildError;
use ringmain::ring::BuildError;

use crate::exit::Exit;

/// Why a run ended without a report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments cannot be used; the text names the flag, the value and what is accepted.
    #[error("{0}")]
    Usage(String),
    /// A file was read, and what it says cannot be used.
    #[error("{0}")]
    Input(Box<BadInput>),
    /// The system refused to read or write.
    #[error("cannot {action}: {source}")]
    InputOutput {
        /// What was tried, in words, with the file's name.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody stopped the run.
    #[error("interrupted")]
    Interrupted,
}

/// Where an input is wrong, and why.
#[derive(Debug)]
pub(crate) struct BadInput {
    /// The file as the user named it.
    pub(crate) file: PathBuf,
    /// The line, from 1; absent when the whole file is meant.
    pub(crate) line: Option<u64>,
    /// The place in the line: a column, a byte, a word.
    pub(crate) place: Option<String>,
    /// What is wrong there.
    pub(crate) reason: String,
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(place) = &self.place {
            write!(f, ", {place}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl Error {
    /// An input that is wrong as a whole.
    pub(crate) fn file(file: &Path, reason: impl Into<String>) -> Self {
        Self::Input(Box::new(BadInput { file: file.into(), line: None, place: None, reason: reason.into() }))
    }

    /// An input that is wrong at a line, and perhaps at a place in it.
    pub(crate) fn line(file: &Path, line: u64, place: Option<String>, reason: impl Into<String>) -> Self {
        Self::Input(Box::new(BadInput { file: file.into(), line: Some(line), place, reason: reason.into() }))
    }

    /// A refusal of the system, with what was tried.
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::InputOutput { action: action.into(), source }
    }

    /// The code with which the program ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Input(_) => Exit::Unusable,
            Self::InputOutput { .. } => Exit::InputOutput,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

impl From<BrokerBuildError> for Error {
    fn from(error: BrokerBuildError) -> Self {
        match error {
            BrokerBuildError::Ring { reason: BuildError::Affinity { reason, .. }, .. } => {
                Self::Usage(format!("--cores: {reason}"))
            }
            other => Self::io("build a broker", io::Error::other(other)),
        }
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Affinity { reason, .. } => Self::Usage(format!("--cores: {reason}")),
            other => Self::io("build a ring", io::Error::other(other)),
        }
    }
}
