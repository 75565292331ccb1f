//! Visitors: what a poller does with the events of a run, in each way in which handlers want them.

use crate::ring::control::Control;
use crate::ring::lease::Lease;
use crate::ring::sequence::Sequence;
use crate::ring::slots::{Layout, Slots};

/// Way to handle events.
pub(in crate::ring) trait Visit<E> {
    /// Whether calls of user code are made under the lease. A poller that has been stopped then
    /// refuses them, and may go on where stages before it have been taken over.
    const IS_LEASED: bool = false;

    /// Whether it hands over event by event, in a ring of any layout.
    const IS_BY_EVENT: bool = true;

    /// Called before the first event of a run, which reaches from `first` to `end`.
    #[inline(always)]
    fn run_starts(&mut self, _control: &Control, _first: Sequence, _end: Sequence) {}

    /// Handles the events from `next` up to `until`, in a run whose last event is the one before
    /// `end`. Moves `next` past each *before* it calls user code.
    ///
    /// # Safety
    /// The caller is a consumer for which all from `next` to `until` is available and that has not
    /// released it, and none of it is a tombstone.
    unsafe fn visit(
        &mut self,
        slots: &Slots<E>,
        next: &mut Sequence,
        until: Sequence,
        end: Sequence,
        lease: &Lease,
    );

    /// Called after the last event of a run; not after a panic.
    #[inline(always)]
    fn run_ends(&mut self) {}

    /// Called before a run is released whose consumer still has its position: all below `next` is
    /// passed by then, and so many tombstones were among it since the consumer began; not after a
    /// panic.
    #[inline(always)]
    fn releases(&mut self, _next: Sequence, _tombstones: u64) {}
}

/// Hands over the events from `next` up to `until`, one by one, and moves `next` past each before
/// it is handed over.
///
/// # Safety
/// As for [`Visit::visit`].
#[inline(always)]
pub(in crate::ring) unsafe fn each<E>(
    slots: &Slots<E>,
    next: &mut Sequence,
    until: Sequence,
    mut f: impl FnMut(&E, Sequence),
) {
    let first = *next;
    let mut hand_over = |event: &E, sequence| {
        slots.prefetch(sequence, until);
        *next = sequence + 1;
        f(event, sequence);
    };
    match slots.layout() {
        Layout::Stamped => {
            for sequence in first..until {
                // SAFETY: as the caller promises.
                unsafe { slots.read(sequence, |event| hand_over(event, sequence)) };
            }
        }
        // SAFETY: as the caller promises.
        Layout::Dense => unsafe {
            slots.read_slices(first, until, |events, first| {
                (first..).zip(events).for_each(|(sequence, event)| hand_over(event, sequence));
            });
        },
    }
}

/// Visitor that handles event by event.
pub(in crate::ring) struct Each<F>(pub(in crate::ring) F);

impl<E, F: FnMut(&E, Sequence, bool)> Visit<E> for Each<F> {
    #[inline(always)]
    unsafe fn visit(
        &mut self,
        slots: &Slots<E>,
        next: &mut Sequence,
        until: Sequence,
        end: Sequence,
        _lease: &Lease,
    ) {
        // SAFETY: as the caller promises.
        unsafe { each(slots, next, until, |event, sequence| (self.0)(event, sequence, sequence + 1 == end)) };
    }
}

/// Visitor that handles event by event, with the lease.
pub(in crate::ring) struct EachLeased<F>(pub(in crate::ring) F);

impl<E, F: FnMut(&E, Sequence, bool, &Lease)> Visit<E> for EachLeased<F> {
    const IS_LEASED: bool = true;

    #[inline(always)]
    unsafe fn visit(
        &mut self,
        slots: &Slots<E>,
        next: &mut Sequence,
        until: Sequence,
        end: Sequence,
        lease: &Lease,
    ) {
        while *next < until && !lease.is_lost() {
            let sequence = *next;
            *next += 1;
            slots.prefetch(sequence, until);
            // SAFETY: as the caller promises.
            unsafe { slots.read(sequence, |event| (self.0)(event, sequence, sequence + 1 == end, lease)) };
        }
    }
}

/// Visitor that handles event by event, with the lease, and learns how far each release goes.
pub(in crate::ring) struct EachCounted<F, G>(pub(in crate::ring) EachLeased<F>, pub(in crate::ring) G);

impl<E, F: FnMut(&E, Sequence, bool, &Lease), G: FnMut(Sequence, u64)> Visit<E> for EachCounted<F, G> {
    const IS_LEASED: bool = true;

    #[inline(always)]
    unsafe fn visit(
        &mut self,
        slots: &Slots<E>,
        next: &mut Sequence,
        until: Sequence,
        end: Sequence,
        lease: &Lease,
    ) {
        // SAFETY: as the caller promises.
        unsafe { self.0.visit(slots, next, until, end, lease) };
    }

    #[inline(always)]
    fn releases(&mut self, next: Sequence, tombstones: u64) {
        (self.1)(next, tombstones);
    }
}

/// Visitor that handles slices.
pub(in crate::ring) struct Slices<F>(pub(in crate::ring) F);

impl<E, F: FnMut(&[E], Sequence)> Visit<E> for Slices<F> {
    const IS_BY_EVENT: bool = false;

    #[inline(always)]
    unsafe fn visit(
        &mut self,
        slots: &Slots<E>,
        next: &mut Sequence,
        until: Sequence,
        _end: Sequence,
        _lease: &Lease,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            slots.read_slices(*next, until, |events, first| {
                *next = first + events.len() as u64;
                (self.0)(events, first);
            });
        }
    }
}

/// Visitor that handles event by event and may change them.
pub(in crate::ring) struct EachMut<F>(pub(in crate::ring) F);

impl<E, F: FnMut(&mut E, Sequence, bool)> Visit<E> for EachMut<F> {
    #[inline(always)]
    unsafe fn visit(
        &mut self,
        slots: &Slots<E>,
        next: &mut Sequence,
        until: Sequence,
        end: Sequence,
        _lease: &Lease,
    ) {
        while *next < until {
            let sequence = *next;
            *next += 1;
            // SAFETY: as the caller promises, and only `MutPoller` uses this visitor, which is
            // alone at its stage.
            unsafe { slots.write(sequence, |event: &mut E| (self.0)(event, sequence, sequence + 1 == end)) };
        }
    }
}
