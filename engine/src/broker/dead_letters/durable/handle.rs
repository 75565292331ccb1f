//! Looking after the durability of dead letters.

use super::super::handle::DeadLetters;
use super::error::FlushError;
use super::status::{DurableStatus, OpenReport};
use crate::message::MessagePayload;
use std::time::{Duration, Instant};

impl<P: MessagePayload> DeadLetters<P> {
    /// Waits until all that is in the store at this moment would outlive the process, and all that has left it is
    /// removed: at most for `limit`. Has it written at once; where a commit has failed, has it tried again at once.
    ///
    /// Sleeps. May be called from any thread, a handler's too, which holds up its consumer by it.
    ///
    /// # Errors The time is up, and the error tells why the last commit has failed, if it did; or of some letters no
    /// record could be made, while all others are durable; or nothing is written, since the broker keeps its letters in
    /// memory or has been shut down.
    pub fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        if self.core().is_forked() {
            return Err(FlushError::Forked);
        }
        self.store().flush(Instant::now().checked_add(limit), limit)
    }

    /// Returns how durable the letters are at this moment; nothing where they are kept in memory alone. Looks at each
    /// letter's number.
    pub fn durable(&self) -> Option<DurableStatus> {
        self.store().durable()
    }

    /// Returns what was found when the letters of earlier processes were read back; nothing where letters are kept in
    /// memory alone.
    pub fn opened(&self) -> Option<&OpenReport> {
        self.store().opened()
    }
}
