//! Joining a running ring: a consumer comes in at the cursor, without stopping anybody.
//!
//! Two things must hold when a joiner's sequence begins to count in the gate (see `gating`): no
//! producer may be past it by more than a ring, and all below it must be published, because
//! producers take what the gate leaves behind to be out of everybody's hands. So the joiner
//!
//! 1. looks for a sequence below which all is published, not far behind the cursor;
//! 2. registers there, fences, and reads the cursor (edge `JOIN`): producers that do not have it in
//!    their list are bounded by a cursor that is not later;
//! 3. waits until all below that cursor is published, and starts from it.
//!
//! Producers are held up by the joiner between 2 and 3 only if they get a whole ring ahead in that
//! time.

use super::gating::Stage;
use crate::ring::control::Core;
use crate::ring::position::Position;
use crate::ring::sequence::Sequence;
use crate::sync::edge::{self, JOIN};
use crate::sync::{fence, thread};
use crate::wait::Deadline;

/// Registers a new consumer. Returns it with the sequence of the first event it will see; `None`
/// where another producer had an event in hand until the deadline.
pub(in crate::ring) fn join<E>(core: &Core<E>, deadline: Deadline) -> Option<(Position, Sequence)> {
    let control = &core.control;
    let cursor = control.claimed();
    // Below the slowest consumer all is published, and all that lies more than a ring below the
    // cursor.
    let behind =
        control.gating.lowest().unwrap_or(0).min(cursor).max(cursor.saturating_sub(control.capacity));
    let cursor = wait_until_published(core, behind, cursor, deadline)?;

    let position = Position::new(cursor);
    let stage = Stage::Consumer(position.clone());
    control.gating.add(stage.clone());
    fence::heavy(&JOIN);
    let seen = if edge::left_out("join-without-second-look") { cursor } else { control.claimed() };
    let Some(start) = wait_until_published(core, cursor, seen, deadline) else {
        position.leave();
        control.gating.remove(&stage);
        // A producer may be asleep that found nothing but this place in its way, and who publishes
        // rings for consumers only. No consumer waits for it: nobody depends on who has not joined.
        if !edge::left_out("wake-after-giving-up") {
            control.signals.producers.wake_all();
        }
        return None;
    };
    let start = position.start_at(start);
    control.signals.consumer_moved();
    Some((position, start))
}

/// Waits until all from `from` up to `to` has been published, or taken back, which a single
/// producer does whose fill closure panics or who meets a closing ring. Returns the end of what is.
fn wait_until_published<E>(
    core: &Core<E>,
    from: Sequence,
    to: Sequence,
    deadline: Deadline,
) -> Option<Sequence> {
    if edge::left_out("join-without-waiting") {
        return Some(to);
    }
    for sequence in from..to {
        while !core.slots.was_published(sequence) {
            if sequence >= core.control.claimed() {
                return Some(sequence);
            }
            if deadline.has_passed() {
                return None;
            }
            thread::yield_now();
        }
    }
    Some(to)
}
