//! `replay`: the rows of a CSV file as messages.

use super::Replay;
use crate::csv_input::{CsvInput, Row};
use crate::error::Error;
use crate::interrupt;
use crate::report::Report;

/// Rows between two looks at the interrupt.
const STRIDE: usize = 256;

/// Publishes each row of a file. The whole file is checked first, so that a mistake in its last line is found before
/// the first message is on its way.
pub(crate) fn replay(options: &Replay) -> Result<Report, Error> {
    let _checked = rows(options)?;
    Err(Error::Unavailable("replay"))
}

/// Reads and checks all rows.
fn rows(options: &Replay) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for row in CsvInput::open(&options.file, &options.topic)? {
        rows.push(row?);
        if rows.len() % STRIDE == 0 {
            interrupt::check()?;
        }
    }
    Ok(rows)
}
