//! The watchdog's thread: it sleeps, looks, and tells.

use super::report::{Stall, StallKind};
use super::watch::Watch;
use crate::broker::core::Core;
use crate::broker::error::RescueError;
use crate::broker::lifecycle::rescue::log_rescue;
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
    /// Its consumer was replaced.
    Rescued(Stall),
    /// Its consumer could not be replaced.
    NotRescued(Stall, RescueError),
}

/// Starts the watchdog of a broker, which it does not keep; and the rescuer, where consumers are to be replaced by
/// themselves. That is another thread, since nobody is to wait for what is told.
pub(crate) fn start<P: MessagePayload>(core: &Arc<Core<P>>, watch: &Arc<Watch>) -> io::Result<()> {
    spawn("rm-watchdog", core, watch, run)?;
    if core.has_rescues() { spawn("rm-rescuer", core, watch, rescue) } else { Ok(()) }
}

fn spawn<P: MessagePayload>(
    name: &str,
    core: &Arc<Core<P>>,
    watch: &Arc<Watch>,
    run: impl FnOnce(&Weak<Core<P>>, &Watch) + Send + 'static,
) -> io::Result<()> {
    let (weak, watched) = (Arc::downgrade(core), watch.clone());
    watch.threads.fetch_add(1, Ordering::Relaxed);
    let body = move || {
        run(&weak, &watched);
        watched.threads.fetch_sub(1, Ordering::Relaxed);
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn(body).map(drop);
    if started.is_err() {
        watch.threads.fetch_sub(1, Ordering::Relaxed);
    }
    started
}

fn run<P: MessagePayload>(core: &Weak<Core<P>>, watch: &Watch) {
    while watch.signal.wait() {
        // Not kept while it tells: a callback that hangs is to keep nothing but its thread.
        let Some(to_tell) = core.upgrade().map(|core| core.find_what_to_tell(watch)) else { return };
        if !to_tell.is_empty() {
            watch.set_telling(true);
            to_tell.iter().for_each(|telling| tell(watch, telling));
            watch.set_telling(false);
        }
    }
}

/// Replaces consumers that are in a call for too long. Runs no foreign code: what has come of it the watchdog tells.
fn rescue<P: MessagePayload>(core: &Weak<Core<P>>, watch: &Watch) {
    while watch.signal.wait() {
        let Some(core) = core.upgrade() else { return };
        for stall in core.find_overdue(watch) {
            let outcome = core.rescue(&stall);
            core.note_rescue(watch, stall, outcome.err());
        }
    }
}

/// Tells of a stall, or of its end. Runs foreign code: the log, and the callback.
fn tell(watch: &Watch, telling: &Telling) {
    guard(|| log(telling));
    if let (Telling::Stalled(stall) | Telling::Rescued(stall), Some(callback)) = (telling, &watch.callback)
        && guard(|| callback(stall)).is_none()
    {
        watch.panics.fetch_add(1, Ordering::Relaxed);
    }
}

/// Logs a stall as a warning, and its end as an information.
fn log(telling: &Telling) {
    let stall = match telling {
        Telling::Rescued(stall) => return log_rescue(stall, None),
        Telling::NotRescued(stall, reason) => return log_rescue(stall, Some(reason)),
        Telling::Stalled(stall) | Telling::Over(stall) => stall,
    };
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
        (_, StallKind::Call) => tracing::info!(
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
        (_, StallKind::Publisher) => tracing::info!(
            target: "ringmain::stall",
            dispatcher,
            thread = &**thread,
            at_least = ?age,
            "publishers do not wait for room any longer"
        ),
    }
}
