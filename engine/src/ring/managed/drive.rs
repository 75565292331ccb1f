//! The loop of a consumer's thread: take a turn, linger, wait, and go on after a panic.

use crate::ring::consumer::Polled;
use crate::ring::control::Core;
use crate::ring::pace::Linger;
use crate::sync::panics::discard_panic;
use crate::wait::{Deadline, Waiter};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Work that a thread does in turns, and what it waits for between them. [`drive`] runs it.
pub(crate) trait Turn {
    /// Does the work of at most `max` events, and whatever else is due. Returns what it found.
    ///
    /// User code in it may panic: [`panicked`](Self::panicked) is called, and the next turn comes.
    fn turn(&mut self, max: u64) -> Polled;

    /// Returns whether a turn would find something at this moment.
    fn is_ready(&self) -> bool;

    /// Returns whether the thread is to end instead of taking another turn.
    fn is_stopping(&self) -> bool;

    /// Returns the moment of the next turn in case nothing becomes ready before. That turn must do
    /// what is due, or the thread spins.
    fn next_due(&self) -> Deadline {
        Deadline::NEVER
    }

    /// Takes note of a panic that has left a turn. Must not panic.
    fn panicked(&mut self);
}

/// Takes turns of at most `max` events until a turn finds the ring finished, or the work is to
/// stop. Waits as consumers of this ring do.
pub(crate) fn drive<E>(work: &mut impl Turn, max: u64, ring: &Core<E>) {
    let control = &ring.control;
    let mut waiter = Waiter::new();
    let mut linger = Linger::new(control.linger);
    while !work.is_stopping() {
        match catch_unwind(AssertUnwindSafe(|| work.turn(max))) {
            Ok(Polled::Events(handled)) => linger.after(handled, max),
            Ok(Polled::Missed(_)) => {}
            Ok(Polled::Empty) => {
                let ready = || (work.is_ready() || work.is_stopping()).then_some(());
                let strategy = || control.wait.get();
                waiter.wait_until(strategy, &control.signals.consumers, work.next_due(), ready);
            }
            Ok(Polled::Finished) => return,
            Err(payload) => {
                work.panicked();
                discard_panic(payload);
            }
        }
    }
}
