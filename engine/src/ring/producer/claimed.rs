//! A run that a producer has claimed: it is filled in place and published, or abandoned.

use crate::ring::claim::{Run, Sequencer};
use crate::ring::control::Core;
use crate::ring::reentrancy;
use crate::ring::sequence::Sequence;
use crate::ring::slots::Layout;
use crate::sync::edge;
use crate::sync::panics::discard_panic;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A run of claimed sequences, published one after the other. What is left when it is dropped, by a panic of a fill
/// closure, is abandoned: tombstones where others may have claimed behind it, nothing where nobody can have.
///
/// A stamped event is published when it is filled, a dense run when all of it is: one store of the cursor.
pub(crate) struct Claimed<'p, E, S: Sequencer> {
    core: &'p Core<E>,
    sequencer: &'p mut S,
    first: Sequence,
    next: Sequence,
    end: Sequence,
}

impl<'p, E, S: Sequencer> Claimed<'p, E, S> {
    #[inline(always)]
    pub(super) fn new(core: &'p Core<E>, sequencer: &'p mut S, run: Run) -> Self {
        Self { core, sequencer, first: run.first, next: run.first, end: run.first + run.count }
    }

    /// Whether any sequence of the run is left to publish.
    pub(crate) fn is_open(&self) -> bool {
        self.next < self.end
    }

    /// Fills and publishes the next sequence of the run.
    #[inline(always)]
    pub(crate) fn publish_next(&mut self, fill: impl FnOnce(&mut E)) -> Sequence {
        debug_assert!(self.is_open(), "more was published than claimed");
        let sequence = self.next;
        let core = self.core;
        // SAFETY: `sequence` lies in the claimed run and is not yet published.
        let write = || unsafe { core.slots.write(sequence, fill) };
        if S::ARE_MANY {
            reentrancy::inside(core, write)
        } else {
            write()
        }
        if core.slots.layout() == Layout::Stamped {
            core.slots.publish(sequence, false);
        }
        self.next += 1;
        sequence
    }
}

impl<E, S: Sequencer> Drop for Claimed<'_, E, S> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_open() {
            drop(Unfilled { core: self.core, sequencer: self.sequencer, from: self.next, end: self.end });
        }
        let slots = &self.core.slots;
        if slots.layout() == Layout::Dense && self.next > self.first {
            slots.publish(self.next - 1, false);
        }
        self.core.control.signals.readers.wake_all();
    }
}

/// Fills and publishes a run of one: what [`Claimed`] does, and all of it in registers.
#[inline(always)]
pub(super) fn fill_one<E, S: Sequencer>(
    core: &Core<E>,
    sequencer: &mut S,
    run: Run,
    fill: impl FnOnce(&mut E),
) -> Sequence {
    let sequence = run.first;
    let unfilled = Unfilled { core, sequencer, from: sequence, end: sequence + 1 };
    // SAFETY: `sequence` is the claimed run and not yet published.
    let write = || unsafe { core.slots.write(sequence, fill) };
    if S::ARE_MANY {
        reentrancy::inside(core, write)
    } else {
        write()
    }
    core.slots.publish(sequence, false);
    core.control.signals.readers.wake_all();
    std::mem::forget(unfilled);
    sequence
}

/// The end of a run that a panic of a fill closure leaves behind. Dropping it makes that harmless.
struct Unfilled<'p, E, S: Sequencer> {
    core: &'p Core<E>,
    sequencer: &'p mut S,
    from: Sequence,
    end: Sequence,
}

impl<E, S: Sequencer> Drop for Unfilled<'_, E, S> {
    #[cold]
    fn drop(&mut self) {
        let core = self.core;
        // The factory, and the drop of an event, are user code too.
        reentrancy::inside(core, || {
            for sequence in self.from..self.end {
                // The half-written event is still a value of its type. Should making a new one, or dropping the old one,
                // panic as well, then it stays, which is safe, and one panic is reported, which is enough.
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let fresh = (core.factory)();
                    // SAFETY: `sequence` lies in the claimed run and is not yet published.
                    unsafe { core.slots.write(sequence, |event| *event = fresh) };
                }));
                if let Err(payload) = outcome {
                    discard_panic(payload);
                }
            }
        });
        if self.sequencer.abandon(&core.control, self.from) && !edge::left_out("tombstone") {
            for sequence in self.from..self.end {
                core.slots.publish(sequence, true);
            }
        }
        core.control.signals.readers.wake_all();
    }
}
