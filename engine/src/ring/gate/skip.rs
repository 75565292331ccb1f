//! `DropOldest`: how a producer makes room by taking the oldest events away from consumers.
//!
//! `position` says how consumer and producer agree on who gets an event. A producer takes away only
//! what is published. Otherwise two producers could write one slot: the one that has claimed and
//! not stamped it, and the one that reuses it.

use super::gating::Stage;
use crate::ring::control::Core;
use crate::ring::position::Unskippable;
use crate::ring::sequence::Sequence;
use crate::sync::edge;

/// Advances every consumer that is a whole ring behind `next`, so that `next` can be claimed.
pub(in crate::ring) fn make_room<E>(core: &Core<E>, next: Sequence) -> Result<(), Unskippable> {
    let Some(target) = (next + 1).checked_sub(core.control.capacity) else { return Ok(()) };
    let is_published = |sequence| core.slots.was_published(sequence) || edge::left_out("skip-only-published");
    // Checked again where it is done: a consumer may have joined meanwhile, at a place that another
    // producer has in hand.
    let is_still = |sequence| is_published(sequence) || edge::left_out("skip-without-second-look");
    // Check first: no consumer is to lose its oldest event in vain because another one holds it.
    core.control.gating.try_for_each(|stage| match stage {
        Stage::Consumer(position) => position.can_skip_to(target, is_published),
        // Such a ring has none.
        Stage::Group(_) | Stage::Lanes(_) => Ok(()),
    })?;
    core.control.gating.try_for_each(|stage| match stage {
        Stage::Consumer(position) => position.skip_to(target, is_still),
        // Such a ring has none.
        Stage::Group(_) | Stage::Lanes(_) => Ok(()),
    })
}
