//! The watchdog's thread: it sleeps, looks, and tells.

use super::report::{Stall, StallKind};
use super::watch::Watch;
use crate::broker::core::Core;
use crate::broker::lifecycle::rescue::rescue_all;
use crate::message::MessagePayload;
use crate::sync::atomic::Ordering;
use crate::sync::panics::guard;
use crate::sync::thread;
use std::io;
use std::sync::{Arc, Weak};

/// What there is to tell.
pub(super) enum Telling {
    /// It stands still, at its limit, or at a power of two of it.
    Stalled(Stall),
    /// It goes on, after its age at least.
    Over(Stall),
}

/// Starts the watchdog of a broker, which it does not keep.
pub(crate) fn start<P: MessagePayload>(core: &Arc<Core<P>>, watch: &Arc<Watch>) -> io::Result<()> {
    let (weak, watch) = (Arc::downgrade(core), watch.clone());
    watch.is_running.store(true, Ordering::Relaxed);
    let running = watch.clone();
    let body = move || {
        run(&weak, &watch);
        watch.is_running.store(false, Ordering::Relaxed);
    };
    let started = thread::Builder::new().name("rm-watchdog".to_owned()).spawn(body).map(drop);
    if started.is_err() {
        running.is_running.store(false, Ordering::Relaxed);
    }
    started
}

fn run<P: MessagePayload>(core: &Weak<Core<P>>, watch: &Watch) {
    while watch.signal.wait() {
        // Not kept while it tells: a callback that hangs is to keep nothing but its thread.
        let look = |core: Arc<Core<P>>| {
            let to_tell = core.find_what_to_tell(watch);
            let overdue = core.overdue(watch);
            if !overdue.is_empty() {
                watch.set_telling(true);
                rescue_all(&core, &overdue);
                watch.set_telling(false);
            }
            to_tell
        };
        let Some(to_tell) = core.upgrade().map(look) else { return };
        if !to_tell.is_empty() {
            watch.set_telling(true);
            to_tell.iter().for_each(|telling| tell(watch, telling));
            watch.set_telling(false);
        }
    }
}

/// Tells of a stall, or of its end. Runs foreign code: the log, and the callback.
fn tell(watch: &Watch, telling: &Telling) {
    guard(|| log(telling));
    if let (Telling::Stalled(stall), Some(callback)) = (telling, &watch.callback)
        && guard(|| callback(stall)).is_none()
    {
        watch.panics.fetch_add(1, Ordering::Relaxed);
    }
}

/// Logs a stall as a warning, and its end as an information.
fn log(telling: &Telling) {
    let (Telling::Stalled(stall) | Telling::Over(stall)) = telling;
    let Stall { thread, subscription, sequence, age, call_age, behind, time_limit, .. } = stall;
    let (dispatcher, subscription) = (&*stall.dispatcher, subscription.as_deref());
    let message_id = stall.message.map(tracing::field::display);
    let topic = stall.topic.as_ref().map(tracing::field::display);
    match (telling, stall.kind) {
        (Telling::Stalled(_), StallKind::Call) => tracing::warn!(
            target: "ringmain::stall",
            dispatcher,
            thread = &**thread,
            subscription,
            topic,
            message_id,
            sequence,
            at_least = ?age,
            time_limit = time_limit.map(tracing::field::debug),
            behind,
            "a call has not returned"
        ),
        (Telling::Stalled(_), StallKind::Publisher) => tracing::warn!(
            target: "ringmain::stall",
            dispatcher,
            thread = &**thread,
            cause = ?stall.cause,
            subscription,
            topic,
            message_id,
            sequence,
            at_least = ?age,
            ?call_age,
            behind,
            waiting_publishers = stall.waiting_publishers,
            "publishers have had no room"
        ),
        (Telling::Over(_), StallKind::Call) => tracing::info!(
            target: "ringmain::stall",
            dispatcher,
            thread = &**thread,
            subscription,
            topic,
            message_id,
            sequence,
            at_least = ?age,
            "a call that had not returned is over"
        ),
        (Telling::Over(_), StallKind::Publisher) => tracing::info!(
            target: "ringmain::stall",
            dispatcher,
            thread = &**thread,
            at_least = ?age,
            "publishers do not wait for room any longer"
        ),
    }
}
