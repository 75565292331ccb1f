//! Scenarios that come from no file: for tests and fuzzing, which try thousands of them.

use std::path::Path;

use super::file::SimulateFile;
use super::report::SimulateAnswer;
use super::source::Source;
use super::{check, run};
use crate::report::{Answer, write_json};

/// What stands in place of a file's name.
const NAME: &str = "scenario.toml";

/// Reads a scenario, and says why it is refused if it is.
///
/// # Errors
/// The refusal, as the program would print it.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let source = Source::from_bytes(Path::new(NAME), bytes.into()).map_err(|error| error.to_string())?;
    check::parse(&source).map(drop).map_err(|error| error.to_string())
}

/// Runs a scenario, and returns what `simulate --json` would write. It says too which checks failed.
///
/// # Errors
/// The refusal, or what the checks of the program itself have found, as it would print them.
pub fn run(text: &str) -> Result<String, String> {
    let source = Source::of(NAME, text.to_owned());
    let scenario = check::parse(&source).map_err(|error| error.to_string())?;
    let outcome = run::run(&source, &scenario).map_err(|error| error.to_string())?;
    let answer = SimulateAnswer::new(&SimulateFile { file: NAME.into() }, &scenario, outcome);
    if let Some(failed) = answer.report().failed_checks.first() {
        return Err(format!("check failed: {failed}"));
    }
    let mut json = Vec::new();
    write_json(&answer, &mut json).map_err(|error| error.to_string())?;
    String::from_utf8(json).map_err(|error| error.to_string())
}
