//! What a managed consumer runs: a handler of events.

use crate::ring::consumer::{EachMut, Visit, each};
use crate::ring::control::Control;
use crate::ring::lease::Lease;
use crate::ring::overflow::Missed;
use crate::ring::sequence::Sequence;
use crate::ring::slots::Slots;

/// Handler of the events of a managed consumer. It lives on that consumer's own thread, and need
/// not be `Send` if it is made there.
///
/// Every closure `FnMut(&E, Sequence, bool)` is a handler without hooks. Each call may panic: what
/// it was called for counts as done, and the next call follows.
pub trait EventHandler<E> {
    /// Handles an event. Gets its sequence, and whether it is the last of its batch.
    fn on_event(&mut self, event: &E, sequence: Sequence, end_of_batch: bool);

    /// Called before the first event of a batch. If it panics, the batch goes on without it.
    fn on_batch_start(&mut self, _batch: Batch<'_>) {}

    /// Called after the last event of a batch, before producers get its slots: the place to flush.
    /// Not called after a batch that a panic has cut short.
    fn on_batch_end(&mut self) {}

    /// Called when the ring has dropped events for newer ones before this consumer handled them;
    /// see [`Overflow::DropOldest`](crate::ring::Overflow::DropOldest).
    fn on_missed(&mut self, _missed: Missed) {}
}

impl<E, F: FnMut(&E, Sequence, bool)> EventHandler<E> for F {
    #[inline(always)]
    fn on_event(&mut self, event: &E, sequence: Sequence, end_of_batch: bool) {
        self(event, sequence, end_of_batch);
    }
}

/// Batch that is about to be handled.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'r> {
    cursor: Cursor<'r>,
    first: Sequence,
    end: Sequence,
}

/// The claim word, read only on demand.
#[derive(Clone, Copy)]
struct Cursor<'r>(&'r Control);

impl std::fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.claimed().fmt(f)
    }
}

impl Batch<'_> {
    /// Returns the sequence of its first event.
    pub fn first(&self) -> Sequence {
        self.first
    }

    /// Returns how many sequences it has.
    pub fn size(&self) -> u64 {
        self.end - self.first
    }

    /// Returns how many events are claimed from its first on: this batch and what waits behind it.
    /// Reads a line that producers write, which takes some tens of nanoseconds.
    pub fn depth(&self) -> u64 {
        self.cursor.0.claimed().saturating_sub(self.first)
    }
}

/// Visitor of a managed consumer.
pub(in crate::ring) trait Managed<E>: Visit<E> {
    fn missed(&mut self, missed: Missed);
}

/// Event handler with its hooks.
pub(in crate::ring) struct Hooked<H> {
    handler: H,
    /// Whether the start hook has begun and not returned. Then it panicked, and the batch comes
    /// again.
    is_starting: bool,
}

impl<H> Hooked<H> {
    pub(in crate::ring) fn new(handler: H) -> Self {
        Self { handler, is_starting: false }
    }
}

impl<E, H: EventHandler<E>> Visit<E> for Hooked<H> {
    #[inline(always)]
    fn run_starts(&mut self, control: &Control, first: Sequence, end: Sequence) {
        // A batch whose start hook has panicked goes on without it: the hook might panic for ever.
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

impl<E, F: FnMut(&mut E, Sequence, bool)> Managed<E> for EachMut<F> {
    fn missed(&mut self, _missed: Missed) {}
}
