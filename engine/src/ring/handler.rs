//! What a managed consumer runs: a handler of events, and the loop of its thread.

use super::Sequence;
use super::control::Control;
use super::lease::Lease;
use super::linger::Linger;
use super::overflow::Missed;
use super::poller::{Polled, Poller};
use super::runner::discard_panic;
use super::slots::Slots;
use super::visit::{Sole, Visit, each};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::wait::{Deadline, Waiter};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Handles the events of a managed consumer, on that consumer's own thread from first to last: it need not be `Send`
/// where it is made there.
///
/// Every closure `FnMut(&E, Sequence, bool)` is one, without hooks. Each call may panic: what it was called for counts as
/// done, and the next call comes.
pub trait EventHandler<E> {
    /// An event, its sequence, and whether it is the last of its batch.
    fn on_event(&mut self, event: &E, sequence: Sequence, end_of_batch: bool);

    /// Before the first event of a batch. Where it panics, the batch goes on without it.
    fn on_batch_start(&mut self, _batch: Batch<'_>) {}

    /// After the last event of a batch, before producers may have its slots: the place to flush. Not called after a
    /// batch that a panic has cut short.
    fn on_batch_end(&mut self) {}

    /// Events that the ring has dropped for newer ones before this consumer came to them; see
    /// [`Overflow::DropOldest`](super::Overflow::DropOldest).
    fn on_missed(&mut self, _missed: Missed) {}
}

impl<E, F: FnMut(&E, Sequence, bool)> EventHandler<E> for F {
    #[inline(always)]
    fn on_event(&mut self, event: &E, sequence: Sequence, end_of_batch: bool) {
        self(event, sequence, end_of_batch);
    }
}

/// What is about to be handled in one go.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'r> {
    cursor: Cursor<'r>,
    first: Sequence,
    end: Sequence,
}

/// The claim word, to be read only when somebody asks.
#[derive(Clone, Copy)]
struct Cursor<'r>(&'r Control);

impl std::fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.claimed().fmt(f)
    }
}

impl Batch<'_> {
    /// The sequence of its first event.
    pub fn first(&self) -> Sequence {
        self.first
    }

    /// How many sequences it has.
    pub fn size(&self) -> u64 {
        self.end - self.first
    }

    /// How many events are claimed from its first on: those of this batch, and those that wait behind it. Reads a line that
    /// producers write, at some tens of nanoseconds.
    pub fn depth(&self) -> u64 {
        self.cursor.0.claimed().saturating_sub(self.first)
    }
}

/// What the loop of a managed consumer calls.
pub(super) trait Managed<E>: Visit<E> {
    fn missed(&mut self, missed: Missed);
}

/// An event handler with its hooks.
pub(super) struct Hooked<H> {
    handler: H,
    /// Whether the start hook has begun and not returned: it panicked, and the batch comes again.
    is_starting: bool,
}

impl<H> Hooked<H> {
    pub(super) fn new(handler: H) -> Self {
        Self { handler, is_starting: false }
    }
}

impl<E, H: EventHandler<E>> Visit<E> for Hooked<H> {
    #[inline(always)]
    fn run_starts(&mut self, control: &Control, first: Sequence, end: Sequence) {
        // A batch whose start hook has panicked goes on without it: called again, it might panic for ever.
        if !std::mem::replace(&mut self.is_starting, true) {
            self.handler.on_batch_start(Batch { cursor: Cursor(control), first, end });
        }
        self.is_starting = false;
    }

    #[inline(always)]
    unsafe fn visit(
        &mut self,
        slots: &Slots<E>,
        next: &mut Sequence,
        until: Sequence,
        end: Sequence,
        _lease: &Lease,
    ) {
        let handler = &mut self.handler;
        // SAFETY: as the caller promises.
        unsafe {
            each(slots, next, until, |event, sequence| handler.on_event(event, sequence, sequence + 1 == end))
        };
    }

    #[inline(always)]
    fn run_ends(&mut self) {
        self.handler.on_batch_end();
    }
}

impl<E, H: EventHandler<E>> Managed<E> for Hooked<H> {
    fn missed(&mut self, missed: Missed) {
        self.handler.on_missed(missed);
    }
}

impl<E, F: FnMut(&mut E, Sequence, bool)> Managed<E> for Sole<F> {
    fn missed(&mut self, _missed: Missed) {}
}

/// The life of a managed consumer's thread: until the ring is finished, or the consumer is summoned to leave.
pub(super) fn consume<E>(mut poller: Poller<E>, mut visitor: impl Managed<E>, most: u64, panics: &AtomicU64) {
    let mut waiter = Waiter::new();
    let readers = poller.readers();
    let mut linger = Linger::new(poller.control().linger);
    while !poller.is_summoned() {
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
                    || (poller.is_ready() || poller.is_summoned()).then_some(()),
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
