//! A producer that found the ring full does not resume for a single free slot.
//!
//! Resuming at once keeps it on the slowest consumer's heels: each publish fetches the line that
//! the consumer has just read and the sequence that it has just moved. Once a good part of the ring
//! is free, or a short time has passed, it gets on with many events at once. The time is short,
//! because a handler may be slow, and then a single free slot is all that there will be for long.

use crate::ring::claim::Unclaimed;
use std::time::{Duration, Instant};

/// The part of the ring that is to be free.
const PART: u64 = 4;

/// How long a producer holds out for it. Models know no time.
const PATIENCE: Duration = if cfg!(ringmain_loom) { Duration::ZERO } else { Duration::from_micros(5) };

/// One wait of one producer for room.
pub(in crate::ring) struct Hysteresis {
    enough: u64,
    since: Instant,
}

impl Hysteresis {
    /// Begins when the ring has been found full.
    pub(in crate::ring) fn new(capacity: u64) -> Self {
        Self { enough: (capacity / PART).max(1), since: Instant::now() }
    }

    /// Whether to go on, given what there is room for. Reads the clock where there is some room and
    /// not enough.
    pub(in crate::ring) fn is_over(&self, room: Result<u64, Unclaimed>) -> bool {
        match room {
            Ok(free) => free >= self.enough || self.since.elapsed() >= PATIENCE,
            Err(Unclaimed::Full) => false,
            Err(_) => true,
        }
    }
}
