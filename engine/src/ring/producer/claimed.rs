//! A run that a producer has claimed: it is filled in place and published, or abandoned.

use crate::ring::claim::{Run, Sequencer};
use crate::ring::control::Core;
use crate::ring::reentrancy;
use crate::ring::sequence::Sequence;
use crate::ring::slots::{Layout, Write};
use crate::sync::edge;
use crate::sync::panics::guard;
use std::sync::Arc;

/// A ring, and a way to claim its sequences: all of a producer that a claimed run needs.
pub(super) struct Claimant<E, S> {
    pub(super) core: Arc<Core<E>>,
    pub(super) sequencer: S,
}

/// A run of claimed sequences, published one after the other. A panic of a fill closure drops it
/// early, and the rest is abandoned: tombstones if others may have claimed behind it, nothing
/// otherwise.
///
/// A stamped event is published when it is filled, a dense run when all of it is: one store of the
/// cursor.
pub(crate) struct ClaimedRun<'p, E, S: Sequencer> {
    claimant: &'p mut Claimant<E, S>,
    first: Sequence,
    next: Sequence,
    end: Sequence,
}

impl<'p, E, S: Sequencer> ClaimedRun<'p, E, S> {
    #[inline(always)]
    pub(super) fn new(claimant: &'p mut Claimant<E, S>, run: Run) -> Self {
        Self { claimant, first: run.first, next: run.first, end: run.first + run.count }
    }

    /// Returns whether any sequence of the run is left to publish.
    pub(crate) fn is_open(&self) -> bool {
        self.next < self.end
    }

    /// Fills and publishes the next sequence of the run.
    #[inline(always)]
    pub(crate) fn publish_next(&mut self, writer: impl Write<E>) -> Sequence {
        debug_assert!(self.is_open(), "more was published than claimed");
        let sequence = self.next;
        let core = &*self.claimant.core;
        // SAFETY: `sequence` lies in the claimed run and is not yet published.
        unsafe { write::<E, S>(core, sequence, writer) };
        if core.slots.layout() == Layout::Stamped {
            core.slots.publish(sequence, false);
        }
        self.next += 1;
        sequence
    }
}

impl<E, S: Sequencer> Drop for ClaimedRun<'_, E, S> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_open() {
            drop(Unfilled { claimant: self.claimant, from: self.next, end: self.end });
        }
        let slots = &self.claimant.core.slots;
        if slots.layout() == Layout::Dense && self.next > self.first {
            slots.publish(self.next - 1, false);
        }
        self.claimant.core.control.signals.wake_for_event("wake-after-batch");
    }
}

/// Writes the event of a sequence.
///
/// # Safety
/// The caller has claimed the sequence and not yet published it.
#[inline(always)]
unsafe fn write<E, S: Sequencer>(core: &Core<E>, sequence: Sequence, writer: impl Write<E>) {
    let frame = reentrancy::Frame::new(&core.filler);
    // A ring's only producer is borrowed while it fills: nobody could wait for room meanwhile.
    let _inside = S::ARE_MANY.then(|| frame.enter());
    // SAFETY: as the caller promises.
    unsafe { core.slots.write(sequence, writer) };
}

/// Fills and publishes a run of one, as [`ClaimedRun`] does, but all in registers.
#[inline(always)]
pub(super) fn fill_one<E, S: Sequencer>(
    claimant: &mut Claimant<E, S>,
    run: Run,
    writer: impl Write<E>,
) -> Sequence {
    let sequence = run.first;
    let unfilled = Unfilled { claimant, from: sequence, end: sequence + 1 };
    let core = &*unfilled.claimant.core;
    // SAFETY: `sequence` is the claimed run and not yet published.
    unsafe { write::<E, S>(core, sequence, writer) };
    core.slots.publish(sequence, false);
    // At once: it is filled, whatever happens to who wakes others.
    std::mem::forget(unfilled);
    claimant.core.control.signals.wake_for_event("wake-after-publish");
    sequence
}

/// Rest of a run that a panic of a fill closure leaves behind. Dropping it abandons that rest.
struct Unfilled<'p, E, S: Sequencer> {
    claimant: &'p mut Claimant<E, S>,
    from: Sequence,
    end: Sequence,
}

impl<E, S: Sequencer> Drop for Unfilled<'_, E, S> {
    // Inline, so that what it holds stays in registers while nobody panics.
    #[inline(always)]
    fn drop(&mut self) {
        abandon(self.claimant, self.from, self.end);
    }
}

/// Makes the end of a run that nobody will fill harmless.
#[cold]
#[inline(never)]
fn abandon<E, S: Sequencer>(claimant: &mut Claimant<E, S>, from: Sequence, end: Sequence) {
    let Claimant { core, sequencer } = claimant;
    let core = &**core;
    // The factory, and the drop of an event, are user code too.
    reentrancy::inside(&core.filler, || {
        for sequence in from..end {
            // The half-written event is still a value of its type. If making a new one, or
            // dropping the old one, panics as well, it stays, which is safe. One reported panic
            // is enough.
            guard(|| {
                // SAFETY: `sequence` lies in the claimed run and is not yet published.
                unsafe { core.slots.write(sequence, |event: &mut E| core.renew(event)) };
            });
        }
    });
    if sequencer.abandon(&core.control, from) && !edge::left_out("tombstone") {
        for sequence in from..end {
            core.slots.publish(sequence, true);
        }
    }
    core.control.signals.wake_for_event("wake-after-tombstone");
}
