//! The file of a scenario.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::json;

/// The file of a scenario.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct SimulateFile {
    /// The scenario: TOML in UTF-8, 4 MiB at most
    #[arg(value_name = "FILE.toml")]
    #[serde(serialize_with = "json::name")]
    pub(crate) file: PathBuf,
}
