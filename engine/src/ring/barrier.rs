//! The sequence barrier: what a consumer may handle.
//!
//! That is what is published and what the consumers before it have finished. Who publishes decides
//! how publication is looked up:
//!
//! * Many producers stamp in any order, so the barrier looks at each stamp.
//! * A single producer stamps in order, so a *far* stamp proves all stamps before it. The barrier
//!   looks twice as far ahead after each success and half as far after each failure. A consumer
//!   that trails then reads one stamp a run and never touches the line that is being written.
//! * A dense ring has a cursor. The barrier reads it again only when all that it told has been
//!   handled.
//!
//! Only many producers leave tombstones, and there the barrier looks at each stamp anyway. It
//! remembers the last tombstone, so that a run without any (nearly every run) needs no second look
//! at its stamps.

use super::control::Core;
use super::gate::Stage;
use super::sequence::Sequence;
use super::slots::{Layout, Slots, Stamp};
use crate::sync::edge;

/// Limit of stamps looked at one by one. Enough to spread the cost of a release, and few enough
/// that what was looked at stays in the first-level cache until it is handled.
const MAX_LOOK: u64 = 64;

/// The barrier of one consumer.
pub(super) struct Barrier {
    /// All stages before this one in the graph, not only the nearest: a stage that leaves must not
    /// open the way for its dependents past the stages that stay.
    dependencies: Vec<Stage>,
    /// The dependencies that may change events: nobody may read an event before they have finished
    /// with it.
    writers: Vec<Stage>,
    /// All below it has been seen published.
    seen: Sequence,
    /// Behind the last tombstone among that.
    tombstones_end: Sequence,
    /// How far ahead the next look at a stamp is, in a ring with one producer.
    reach: u64,
    /// Whether the last look came to the end of what was published.
    has_caught_up: bool,
}

impl Barrier {
    pub(super) fn new(dependencies: Vec<Stage>, writers: Vec<Stage>) -> Self {
        Self { dependencies, writers, seen: 0, tombstones_end: 0, reach: u64::MAX, has_caught_up: true }
    }

    /// Returns whether the last look came to the end of what was published. Another look right
    /// after it would fight the producer for the line that is being written.
    #[inline(always)]
    pub(super) fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// Returns whether there are stages that have to be waited for.
    pub(super) fn has_dependencies(&self) -> bool {
        !self.dependencies.is_empty()
    }

    /// Returns whether there may be tombstones from `from` on among what was available.
    #[inline(always)]
    pub(super) fn has_tombstones(&self, from: Sequence) -> bool {
        from < self.tombstones_end
    }

    /// Returns the stages before this consumer.
    pub(super) fn dependencies(&self) -> &[Stage] {
        &self.dependencies
    }

    /// Returns those of them that may change events.
    pub(super) fn writers(&self) -> &[Stage] {
        &self.writers
    }

    /// Returns the end of what is available from `from` on, at most `max` sequences. A consumer
    /// that has been stopped makes no further call of user code. It waits only for stages that may
    /// change events, because one of the others may have been taken over and never move on.
    #[inline(always)]
    pub(super) fn available<E>(
        &mut self,
        core: &Core<E>,
        from: Sequence,
        max: u64,
        is_stopped: impl FnOnce() -> bool,
    ) -> Sequence {
        debug_assert_ne!(max, 0);
        let mut limit = from + max;
        // Most consumers depend on nobody.
        if !self.dependencies.is_empty() {
            limit = finished(self.awaited(is_stopped), limit);
            if limit <= from {
                return from;
            }
        }
        self.has_caught_up = false;
        if self.seen < limit {
            self.seen = self.look(core, self.seen.max(from), limit);
        }
        self.seen.min(limit)
    }

    /// Returns whether anything is available at `from`.
    #[inline(always)]
    pub(super) fn is_available<E>(
        &self,
        core: &Core<E>,
        from: Sequence,
        is_stopped: impl FnOnce() -> bool,
    ) -> bool {
        finished(self.awaited(is_stopped), from + 1) > from && self.is_published(core, from)
    }

    /// Returns the stages that have to be waited for.
    #[inline(always)]
    fn awaited(&self, is_stopped: impl FnOnce() -> bool) -> &[Stage] {
        if is_stopped() { &self.writers } else { &self.dependencies }
    }

    fn is_published<E>(&self, core: &Core<E>, from: Sequence) -> bool {
        from < self.seen || core.slots.is_published(from)
    }

    /// Looks up what is published from `from` on, below `limit` or beyond. Returns the end of it.
    #[inline(always)]
    fn look<E>(&mut self, core: &Core<E>, from: Sequence, limit: Sequence) -> Sequence {
        let slots = &core.slots;
        if !core.control.stamps_come_in_order() && !edge::left_out("far-stamp-of-one") {
            return self.look_at_each(slots, from, limit.min(from + MAX_LOOK));
        }
        let end = match slots.layout() {
            Layout::Stamped => self.look_far(slots, from, limit),
            // The cursor may be older than what another thread has told this one: all below `from`
            // is published.
            Layout::Dense => slots.cursor().max(from),
        };
        self.has_caught_up = end < limit;
        end
    }

    #[inline(always)]
    fn look_far<E>(&mut self, slots: &Slots<E>, from: Sequence, limit: Sequence) -> Sequence {
        let hoped = self.reach.min(limit - from);
        if slots.stamped(from + hoped - 1) == Stamp::Event {
            if self.reach < 2 * hoped {
                self.reach = 2 * hoped;
            }
            return from + hoped;
        }
        self.reach = hoped;
        while self.reach > 1 {
            self.reach >>= 1;
            if slots.stamped(from + self.reach - 1) == Stamp::Event {
                return from + self.reach;
            }
        }
        from
    }

    #[inline(always)]
    fn look_at_each<E>(&mut self, slots: &Slots<E>, from: Sequence, limit: Sequence) -> Sequence {
        let mut end = from;
        while end < limit {
            match slots.stamped(end) {
                Stamp::Event => {}
                Stamp::Tombstone => self.tombstones_end = end + 1,
                Stamp::Nothing => break,
            }
            end += 1;
        }
        self.has_caught_up = end < limit;
        end
    }
}

/// Returns what all of these stages have finished, `limit` at most.
// Out of line: inlined, it would cost registers in consumers that depend on nobody, which are most.
#[inline(never)]
pub(super) fn finished(stages: &[Stage], limit: Sequence) -> Sequence {
    stages.iter().map(Stage::finished).fold(limit, Sequence::min)
}
