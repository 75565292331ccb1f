//! Joining a running ring: a consumer comes in at the cursor and stops nobody.
//!
//! Two things must hold when a joiner's sequence begins to count in the gate (see `gating`). No
//! producer may be ahead of it by more than a ring. And all below it must be published, because
//! producers reuse what the gate has passed. So the joiner
//!
//! 1. finds a sequence below which all is published, not far behind the cursor;
//! 2. registers there, fences, and reads the cursor (edge `JOIN`): producers whose list lacks the
//!    joiner are bounded by a cursor that is not later;
//! 3. waits until all below that cursor is published, and starts there.
//!
//! Between 2 and 3 the joiner holds up only a producer that gets a whole ring ahead in that time.

use super::gating::Stage;
use crate::ring::control::Core;
use crate::ring::position::Position;
use crate::ring::sequence::Sequence;
use crate::sync::edge::{self, JOIN};
use crate::sync::{fence, thread};
use crate::wait::Deadline;

/// Registers a new consumer. Returns it with the sequence of the first event that it will see, or
/// `None` when a producer did not finish filling its event before the deadline.
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
        // A producer may be asleep because of this place alone, and a publish wakes only consumers.
        // No consumer waits for it: nobody depends on a consumer that has not joined.
        control.signals.wake_producers("wake-after-giving-up");
        return None;
    };
    let start = position.start_at(start);
    // No consumer waits for this one yet.
    control.signals.wake_producers("wake-after-joining");
    Some((position, start))
}

/// Waits until all from `from` up to `to` is published or taken back. A single producer takes back
/// a claim when its fill closure panics or the ring is closing. Returns the end of what is
/// published.
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
