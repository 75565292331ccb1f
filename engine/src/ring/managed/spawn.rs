//! Starting a thread where it is to run.

use crate::affinity::Placement;
use crate::ring::error::BuildError;
use crate::sync::thread;
use std::sync::mpsc::channel;

/// Starts a thread of that name. With a core, pins it there and returns once it is pinned.
///
/// # Errors
/// [`BuildError::Thread`] and [`BuildError::Affinity`]: `body` was dropped and not called, and no
/// thread is left running.
pub(crate) fn spawn_pinned(
    name: &str,
    placement: Placement,
    body: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, BuildError> {
    let (pinned, is_pinned) = channel();
    let pin_and_run = move || {
        let outcome = placement.apply();
        let may_run = outcome.is_ok();
        let _ = pinned.send(outcome);
        if may_run {
            body();
        }
    };
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(pin_and_run)
        .map_err(|error| BuildError::Thread { name: name.to_owned(), kind: error.kind() })?;
    // A model's threads, which are pinned nowhere, must not wait for what loom does not know.
    if placement != Placement::Anywhere
        && let Ok(Err(reason)) = is_pinned.recv()
    {
        let _ = thread.join();
        return Err(BuildError::Affinity { name: name.to_owned(), reason });
    }
    Ok(thread)
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// No machine has it.
    const NO_CORE: usize = 1_000_000;

    #[test]
    fn a_thread_that_cannot_be_pinned_runs_nothing() {
        let witness = Arc::new(());
        let captured = witness.clone();
        let body = move || panic!("called with {captured:?}");
        let error =
            spawn_pinned("nowhere", Placement::Required(NO_CORE), body).expect_err("there is no such core");
        assert!(matches!(error, BuildError::Affinity { name, .. } if name == "nowhere"));
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn a_thread_that_is_refused_the_core_it_prefers_runs_elsewhere() {
        let (sender, receiver) = channel();
        let body = move || sender.send(7).expect("the test waits");
        let thread = spawn_pinned("anywhere", Placement::Preferred(NO_CORE), body).expect("a thread");
        assert_eq!(receiver.recv(), Ok(7));
        thread.join().expect("it does not panic");
    }
}
