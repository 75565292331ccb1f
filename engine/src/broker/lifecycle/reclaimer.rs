//! The reclaimer: the background thread that frees what publishers should not.
//!
//! It sleeps until it is called, and while something waits to be freed it looks again after a
//! while, longer each time that nothing came of it. Publishers that make up topics faster than it
//! frees their routes do its work along with it.

use crate::sync::{Condvar, Mutex, thread};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIN_WAIT: Duration = Duration::from_millis(1);
const MAX_WAIT: Duration = Duration::from_millis(100);

/// What a round of reclaiming has come to.
pub(crate) enum Round {
    /// Something was freed, and more waits.
    Progress,
    /// Something waits that cannot be freed yet.
    Stuck,
    /// Nothing is left to free.
    Done,
    /// The broker is gone.
    Over,
}

#[derive(Default)]
struct State {
    is_called: bool,
    is_stopped: bool,
    /// Whether its thread runs.
    is_running: bool,
}

/// The signal by which the reclaimer is called and stopped.
pub(crate) struct ReclaimSignal {
    state: Mutex<State>,
    notified: Condvar,
}

impl ReclaimSignal {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::default()), notified: Condvar::new() }
    }

    /// Says that there is something to free. Locks, and makes a system call unless one is due
    /// already.
    pub(crate) fn notify(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.is_called, true) {
            self.notified.notify_all();
        }
    }

    /// Returns whether the reclaimer's thread runs.
    pub(crate) fn is_running(&self) -> bool {
        self.state.lock().is_running
    }

    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.notified.notify_all();
    }

    /// Waits until it is notified, or for so long. Returns whether to go on.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return false;
            }
            let is_due = deadline.is_some_and(|at| Instant::now() >= at);
            if std::mem::take(&mut state.is_called) || is_due {
                return true;
            }
            state = self.notified.wait_until(state, deadline);
        }
    }
}

/// Starts the thread; `round` does what there is to do. It must not keep the broker alive between
/// rounds.
pub(crate) fn start(
    signal: Arc<ReclaimSignal>,
    mut round: impl FnMut() -> Round + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    signal.state.lock().is_running = true;
    let running = Running(signal);
    // A thread that does not start drops it as well.
    let body = move || {
        let Running(signal) = &running;
        let mut wait = None;
        while signal.wait(wait) {
            wait = match round() {
                Round::Progress => Some(MIN_WAIT),
                Round::Stuck => Some(wait.map_or(MIN_WAIT, |wait| MAX_WAIT.min(wait * 2))),
                Round::Done => None,
                Round::Over => return,
            };
        }
    };
    thread::Builder::new().name("rm-reclaimer".to_owned()).spawn(body)
}

/// The reclaimer's thread runs until this is dropped.
struct Running(Arc<ReclaimSignal>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.lock().is_running = false;
    }
}
