//! Foreign code that must hold nobody up: on a thread of its own, which is left to itself when the
//! time is up.

use crate::broker::deliver::context;
use crate::sync::panics::guard;
use crate::sync::thread;
use std::sync::mpsc;
use std::time::Instant;
use tracing::dispatcher;

/// Runs foreign code on a thread of its own, and waits for it until then, or for as long as it
/// takes. The thread logs where the caller does.
///
/// What it waits for itself is refused there as it is inside of a publish closure: somebody waits
/// for it. Where the system has no thread to give, the code runs here, and takes as long as it
/// takes.
pub(in crate::broker) fn run_aside(until: impl Into<Option<Instant>>, job: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel::<()>();
    let log = dispatcher::get_default(Clone::clone);
    // In a box that both ways out can reach: a thread that does not start drops what it was given.
    let job = std::sync::Arc::new(crate::sync::Mutex::new(Some(job)));
    let body = {
        let job = job.clone();
        move || {
            let _done = done;
            let job = job.lock().take();
            dispatcher::with_default(&log, || run(job));
        }
    };
    match thread::Builder::new().name("rm-aside".to_owned()).spawn(body) {
        // Nothing is ever sent: the sender goes when the job has ended.
        Ok(_detached) => {
            let _ = match until.into() {
                Some(until) => is_done.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
                None => is_done.recv().ok(),
            };
        }
        Err(_) => {
            let job = job.lock().take();
            run(job);
        }
    }
}

fn run(job: Option<impl FnOnce()>) {
    let _filling = context::begin_filling();
    if let Some(job) = job {
        guard(job);
    }
}
