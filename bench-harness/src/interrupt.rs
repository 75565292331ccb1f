//! Stopping on request, within two seconds.
//!
//! SIGINT and SIGTERM set a flag that every loop of this program looks at, so that a run ends in
//! order: threads joined, files whole. Where no loop can look, because a system call does not
//! return (a pipe nobody reads, a file system that hangs), the thread that took the signal ends the
//! process when its patience is over.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::exit::Exit;

/// How long an orderly end may take. The contract is two seconds, from the signal to the end of the
/// process; what is left of them is for a busy machine to run the thread that took the signal,
/// twice, and to take back gigabytes of memory. A sanitizer makes everything slower.
const PATIENCE: Duration = Duration::from_millis(if cfg!(ringmain_sanitized) { 12_000 } else { 1_200 });

/// A flag and nothing else hangs on it, so relaxed is enough.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The file that was made for the answer and has none yet.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names the file that is to be taken away should the process end by force, or says that there is
/// none any more.
pub(crate) fn set_unfinished(path: Option<PathBuf>) {
    *unfinished() = path;
}

/// Takes the signals over. Call it once, before the first loop.
pub(crate) fn install() -> Result<(), Error> {
    ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::Relaxed);
        std::thread::sleep(PATIENCE);
        // Nothing is dropped any more, so what was begun is taken away here.
        if let Some(path) = unfinished().as_ref() {
            let _ = std::fs::remove_file(path);
        }
        std::process::exit(i32::from(Exit::Interrupted as u8));
    })
    .map_err(|source| Error::io("take over the signals", std::io::Error::other(source)))
}

/// Whether the run was asked to stop. Costs one relaxed load.
#[inline]
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// An error once the run was asked to stop; for loops that can leave with `?`.
pub(crate) fn check() -> Result<(), Error> {
    if interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}
