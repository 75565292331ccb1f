//! Clearing: what the last consumer of a ring does with events that it has handled, before it releases
//! their slots ([`SlotPolicy`](crate::ring::SlotPolicy)).

use crate::ring::control::Core;
use crate::ring::lease::Lease;
use crate::ring::sequence::Sequence;
use crate::sync::panics::guard;

/// What has been handled of a run, and not been cleared.
pub(super) struct Uncleared {
    from: Sequence,
    /// Whether user code is called under the lease.
    is_leased: bool,
}

impl Uncleared {
    #[inline(always)]
    pub(super) fn new(first: Sequence, is_leased: bool) -> Self {
        Self { from: first, is_leased }
    }

    /// Clears all up to `next`, each event once, unless a supervisor has taken the position over. A
    /// panic of user code is caught. A consumer that has been stopped clears nothing.
    ///
    /// # Safety
    /// The caller is the consumer behind all others. It has handled all up to `next`, has not released
    /// it, and nobody else is at its stage.
    pub(super) unsafe fn clear<E>(&mut self, core: &Core<E>, lease: &Lease, next: Sequence) {
        while self.from < next && !lease.is_lost() {
            let sequence = self.from;
            self.from += 1;
            // The producer that panicked has made the event anew.
            if core.slots.is_tombstone(sequence) {
                continue;
            }
            let renew = || {
                // SAFETY: as the caller promises: all stages before have finished with it. Whoever
                // goes on without waiting for them, because it has been stopped, is refused this
                // call.
                unsafe { core.slots.write(sequence, |event: &mut E| core.renew(event)) }
            };
            if self.is_leased {
                let called = lease.call_clearing(sequence, || guard(renew));
                drop(called);
            } else {
                guard(renew);
            }
        }
    }
}
