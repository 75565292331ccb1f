//! The loops of managed threads: poll, linger, wait, catch.

use super::handler::Managed;
use crate::ring::consumer::{Polled, Poller};
use crate::ring::group::Worker;
use crate::ring::pace::Linger;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::panics::discard_panic;
use crate::wait::{Deadline, Waiter};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The life of a managed consumer's thread: until the ring is finished, or the consumer is told to leave.
pub(in crate::ring) fn consume<E>(
    mut poller: Poller<E>,
    mut visitor: impl Managed<E>,
    most: u64,
    panics: &AtomicU64,
) {
    let mut waiter = Waiter::new();
    let readers = poller.readers();
    let mut linger = Linger::new(poller.control().linger);
    while !poller.has_commands() {
        let turn = || match poller.poll_visiting(most, &mut visitor) {
            Polled::Missed(missed) => {
                visitor.missed(missed);
                Polled::Missed(missed)
            }
            polled => polled,
        };
        match catch_unwind(AssertUnwindSafe(turn)) {
            Ok(Polled::Events(handled)) => linger.after(handled, most),
            Ok(Polled::Missed(_)) => {}
            Ok(Polled::Empty) => {
                waiter.wait_until(
                    || poller.wait_strategy(),
                    &readers,
                    Deadline::NEVER,
                    || (poller.is_ready() || poller.has_commands()).then_some(()),
                );
            }
            Ok(Polled::Finished) => return,
            Err(payload) => {
                // One writer: this thread.
                panics.store(panics.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                discard_panic(payload);
            }
        }
    }
}

/// The life of a managed worker's thread: until the ring is finished, or the worker is told to leave.
pub(in crate::ring) fn work<E>(mut worker: Worker<E>, mut visitor: impl Managed<E>, panics: &AtomicU64) {
    let core = worker.core().clone();
    let most = worker.max_turn();
    let mut waiter = Waiter::new();
    let mut linger = Linger::new(core.control.linger);
    while !worker.may_leave() {
        match catch_unwind(AssertUnwindSafe(|| worker.poll_visiting(most, &mut visitor))) {
            Ok(Polled::Events(handled)) => linger.after(handled, most),
            // Rings of workers do not drop.
            Ok(Polled::Missed(_)) => {}
            Ok(Polled::Empty) => {
                waiter.wait_until(
                    || core.control.wait.get(),
                    &core.control.signals.consumers,
                    Deadline::NEVER,
                    || (worker.is_ready() || worker.has_commands()).then_some(()),
                );
            }
            Ok(Polled::Finished) => return,
            Err(payload) => {
                // One writer: this thread.
                panics.store(panics.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                discard_panic(payload);
            }
        }
    }
}
