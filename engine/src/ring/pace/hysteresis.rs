//! Hysteresis of a producer that found the ring full: it does not resume for a single free slot.
//!
//! Resuming at once keeps the producer close behind the slowest consumer: each publish fetches the
//! line that the consumer has just read and the sequence that it has just advanced. So the producer
//! waits until a good part of the ring is free, or a short time has passed, and publishes many
//! events at once. The time is short because of slow handlers: with one of them, a single free slot
//! is all there will be for long.

use crate::ring::claim::Unclaimed;
use std::time::{Duration, Instant};

/// A producer resumes once one part in so many of the ring is free.
const PARTS: u64 = 4;

/// Limit of the wait for it. Models know no time.
const MAX_WAIT: Duration = if cfg!(ringmain_loom) { Duration::ZERO } else { Duration::from_micros(5) };

/// State of one wait of one producer for room.
pub(in crate::ring) struct Hysteresis {
    enough: u64,
    since: Instant,
}

impl Hysteresis {
    /// Starts a wait, when the ring has been found full.
    pub(in crate::ring) fn new(capacity: u64) -> Self {
        Self { enough: (capacity / PARTS).max(1), since: Instant::now() }
    }

    /// Returns whether to resume, given the room there is. Reads the clock when there is some room
    /// and not enough.
    pub(in crate::ring) fn is_over(&self, room: Result<u64, Unclaimed>) -> bool {
        match room {
            Ok(free) => free >= self.enough || self.since.elapsed() >= MAX_WAIT,
            Err(Unclaimed::Full) => false,
            Err(_) => true,
        }
    }
}
