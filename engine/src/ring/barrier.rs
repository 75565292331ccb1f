//! The sequence barrier: what a consumer may handle, which is what is published and what the consumers it depends on
//! have finished.
//!
//! How publication is looked up depends on who publishes. Many producers stamp in any order, so each stamp is looked at.
//! One producer stamps in order, so a *far* stamp proves all before it: the barrier looks as far ahead as it was lucky
//! with last time, and halves that when it was not. A consumer that trails then reads one stamp a run and never touches the
//! line that is being written. A dense ring has a cursor, which is read again only when all it told has been handled.

use super::Sequence;
use super::control::Core;
use super::gating::Stage;
use super::slots::{Layout, Slots};
use crate::sync::edge;

/// The furthest look ahead at a stamp. No run is longer.
const FURTHEST: u64 = 1 << 30;

/// The barrier of one consumer.
pub(super) struct Barrier {
    /// All stages before this one in the graph, not only the nearest: one that leaves must not open the way for
    /// its dependents past those that stay.
    dependencies: Vec<Stage>,
    /// Those among them that may change events: nobody may read one before they have finished with it.
    writers: Vec<Stage>,
    /// All below it has been seen published.
    seen: Sequence,
    /// How far ahead the next look at a stamp is, in a ring with one producer.
    reach: u64,
    /// Whether the last look came to the end of what was published.
    has_caught_up: bool,
}

impl Barrier {
    pub(super) fn new(dependencies: Vec<Stage>, writers: Vec<Stage>) -> Self {
        Self { dependencies, writers, seen: 0, reach: FURTHEST, has_caught_up: true }
    }

    /// Whether the last look came to the end of what was published: another one right after it would fight the producer
    /// for the line that is being written.
    #[inline(always)]
    pub(super) fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// Those before this consumer that may change events.
    pub(super) fn writers(&self) -> &[Stage] {
        &self.writers
    }

    /// The end of what is available from `from` on, at most `max` sequences.
    #[inline(always)]
    pub(super) fn available<E>(&mut self, core: &Core<E>, from: Sequence, max: u64) -> Sequence {
        let limit = finished(&self.dependencies, from.saturating_add(max));
        self.published(core, from, limit)
    }

    /// The end of what may be read from `from` on, at most `max` sequences, whether or not the stages before this one have
    /// handled it.
    pub(super) fn readable<E>(&mut self, core: &Core<E>, from: Sequence, max: u64) -> Sequence {
        let limit = finished(&self.writers, from.saturating_add(max));
        self.published(core, from, limit)
    }

    /// Whether anything is available at `from`.
    pub(super) fn is_available<E>(&self, core: &Core<E>, from: Sequence) -> bool {
        finished(&self.dependencies, from + 1) > from && self.is_published(core, from)
    }

    /// Whether anything is readable at `from`.
    pub(super) fn is_readable<E>(&self, core: &Core<E>, from: Sequence) -> bool {
        finished(&self.writers, from + 1) > from && self.is_published(core, from)
    }

    fn is_published<E>(&self, core: &Core<E>, from: Sequence) -> bool {
        from < self.seen || core.slots.is_published(from)
    }

    /// The end of what is published from `from` on, below `limit`.
    #[inline(always)]
    fn published<E>(&mut self, core: &Core<E>, from: Sequence, limit: Sequence) -> Sequence {
        if limit <= from {
            return from;
        }
        if self.seen < limit {
            self.look(core, from.max(self.seen), limit);
        }
        self.has_caught_up = self.seen < limit;
        self.seen.clamp(from, limit)
    }

    /// Looks up what is published from `from` on, which is `seen` or later, and below `limit` or beyond.
    #[inline(always)]
    fn look<E>(&mut self, core: &Core<E>, from: Sequence, limit: Sequence) {
        let slots = &core.slots;
        if slots.layout() == Layout::Dense {
            self.seen = slots.cursor();
        } else if core.control.stamps_come_in_order() || edge::left_out("far-stamp-of-one") {
            self.seen = self.look_far(slots, from, limit);
        } else {
            let mut end = from;
            while end < limit && slots.is_published(end) {
                end += 1;
            }
            self.seen = end;
        }
    }

    #[inline(always)]
    fn look_far<E>(&mut self, slots: &Slots<E>, from: Sequence, limit: Sequence) -> Sequence {
        let hoped = self.reach.min(limit - from);
        let mut reach = hoped;
        while !slots.is_published(from + reach - 1) {
            if reach == 1 {
                self.reach = 1;
                return from;
            }
            reach >>= 1;
        }
        self.reach = if reach == hoped { self.reach.max(2 * reach).min(FURTHEST) } else { reach };
        from + reach
    }
}

/// What all of these stages have finished, `limit` at most.
#[inline(always)]
pub(super) fn finished(stages: &[Stage], limit: Sequence) -> Sequence {
    stages.iter().map(Stage::finished).fold(limit, Sequence::min)
}
