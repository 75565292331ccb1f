//! What a managed consumer runs: a handler of events.

use crate::ring::consumer::{EachMut, Visit, each};
use crate::ring::control::Control;
use crate::ring::lease::Lease;
use crate::ring::overflow::Missed;
use crate::ring::sequence::Sequence;
use crate::ring::slots::Slots;

/// Handles the events of a managed consumer, on that consumer's own thread from first to last: it
/// need not be `Send` where it is made there.
///
/// Every closure `FnMut(&E, Sequence, bool)` is one, without hooks. Each call may panic: what it
/// was called for counts as done, and the next call comes.
pub trait EventHandler<E> {
    /// An event, its sequence, and whether it is the last of its batch.
    fn on_event(&mut self, event: &E, sequence: Sequence, end_of_batch: bool);

    /// Before the first event of a batch. Where it panics, the batch goes on without it.
    fn on_batch_start(&mut self, _batch: Batch<'_>) {}

    /// After the last event of a batch, before producers may have its slots: the place to flush.
    /// Not called after a batch that a panic has cut short.
    fn on_batch_end(&mut self) {}

    /// Events that the ring has dropped for newer ones before this consumer came to them; see
    /// [`Overflow::DropOldest`](crate::ring::Overflow::DropOldest).
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

    /// How many events are claimed from its first on: those of this batch, and those that wait
    /// behind it. Reads a line that producers write, at some tens of nanoseconds.
    pub fn depth(&self) -> u64 {
        self.cursor.0.claimed().saturating_sub(self.first)
    }
}

/// What the loop of a managed consumer calls.
pub(in crate::ring) trait Managed<E>: Visit<E> {
    fn missed(&mut self, missed: Missed);
}

/// An event handler with its hooks.
pub(in crate::ring) struct Hooked<H> {
    handler: H,
    /// Whether the start hook has begun and not returned: it panicked, and the batch comes again.
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
        // A batch whose start hook has panicked goes on without it: called again, it might panic
        // for ever.
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
