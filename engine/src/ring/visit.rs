//! What a poller does with the events of a run: the ways in which handlers want them.

use super::Sequence;
use super::control::Control;
use super::lease::Lease;
use super::slots::Slots;

/// One way to handle events.
pub(super) trait Visit<E> {
    /// Before the first event of a run, which reaches from `first` to `end`.
    #[inline(always)]
    fn run_starts(&mut self, _control: &Control, _first: Sequence, _end: Sequence) {}

    /// Handles the event at `next`, or several from there on, and moves `next` past them *before* it calls user code.
    ///
    /// # Safety
    /// The caller is a consumer for which all from `next` to `end` is available and that has not released it, and the
    /// event at `next` is no tombstone. In a dense ring none is.
    unsafe fn visit(&mut self, slots: &Slots<E>, next: &mut Sequence, end: Sequence, lease: &Lease);

    /// After the last event of a run, before it is released; not after a panic.
    #[inline(always)]
    fn run_ends(&mut self) {}
}

/// Hands over the event at `next`, or those that lie side by side from there on, one by one, and moves `next` past each before
/// it is handed over.
///
/// # Safety
/// As for [`Visit::visit`].
#[inline(always)]
pub(super) unsafe fn each<E>(
    slots: &Slots<E>,
    next: &mut Sequence,
    end: Sequence,
    mut f: impl FnMut(&E, Sequence),
) {
    let first = *next;
    let until = slots.end_of_slice(first, end);
    // SAFETY: as the caller promises; beyond `first` only a dense ring's slices go, and it has no tombstones.
    unsafe {
        slots.read_slice(first, until, |events, first| {
            for (sequence, event) in (first..).zip(events) {
                slots.bring_ahead(sequence, end);
                *next = sequence + 1;
                f(event, sequence);
            }
        });
    }
}

/// Event by event.
pub(super) struct Each<F>(pub(super) F);

impl<E, F: FnMut(&E, Sequence, bool)> Visit<E> for Each<F> {
    #[inline(always)]
    unsafe fn visit(&mut self, slots: &Slots<E>, next: &mut Sequence, end: Sequence, _lease: &Lease) {
        // SAFETY: as the caller promises.
        unsafe { each(slots, next, end, |event, sequence| (self.0)(event, sequence, sequence + 1 == end)) };
    }
}

/// Event by event, with the lease.
pub(super) struct Leased<F>(pub(super) F);

impl<E, F: FnMut(&E, Sequence, bool, &Lease)> Visit<E> for Leased<F> {
    #[inline(always)]
    unsafe fn visit(&mut self, slots: &Slots<E>, next: &mut Sequence, end: Sequence, lease: &Lease) {
        let sequence = *next;
        *next += 1;
        slots.bring_ahead(sequence, end);
        // SAFETY: as the caller promises.
        unsafe { slots.read(sequence, |event| (self.0)(event, sequence, sequence + 1 == end, lease)) };
    }
}

/// By the slice.
pub(super) struct Slices<F>(pub(super) F);

impl<E, F: FnMut(&[E], Sequence)> Visit<E> for Slices<F> {
    #[inline(always)]
    unsafe fn visit(&mut self, slots: &Slots<E>, next: &mut Sequence, end: Sequence, _lease: &Lease) {
        let first = *next;
        let until = slots.end_of_slice(first, end);
        *next = until;
        // SAFETY: as the caller promises; beyond `first` only a dense ring's slices go, and it has no tombstones.
        unsafe { slots.read_slice(first, until, |events, first| (self.0)(events, first)) };
    }
}

/// Event by event, to be changed.
pub(super) struct Sole<F>(pub(super) F);

impl<E, F: FnMut(&mut E, Sequence, bool)> Visit<E> for Sole<F> {
    #[inline(always)]
    unsafe fn visit(&mut self, slots: &Slots<E>, next: &mut Sequence, end: Sequence, _lease: &Lease) {
        let sequence = *next;
        *next += 1;
        // SAFETY: as the caller promises, and only `SolePoller` visits so, which is alone at its stage.
        unsafe { slots.write(sequence, |event| (self.0)(event, sequence, sequence + 1 == end)) };
    }
}
