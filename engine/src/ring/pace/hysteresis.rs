//! Hysteresis of a producer that found the ring full: it does not resume for a single free slot.
//!
//! Resuming at once keeps the producer close behind the slowest consumer: each publish fetches the
//! line that the consumer has just read and the sequence that it has just advanced. So the producer
//! waits until a good part of the ring is free, or a short time has passed, and publishes many
//! events at once. The time is short because of slow handlers: with one of them, a single free slot
//! is all there will be for long.

use crate::ring::claim::Unclaimed;
use crate::wait::Deadline;
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

    /// Returns whether to resume, given the room there is. At the deadline any room will do. Reads
    /// the clock when there is some room and not enough.
    pub(in crate::ring) fn is_over(&self, room: Result<u64, Unclaimed>, deadline: Deadline) -> bool {
        match room {
            Ok(free) => free >= self.enough || self.since.elapsed() >= MAX_WAIT || deadline.has_passed(),
            Err(Unclaimed::Full) => false,
            Err(_) => true,
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A wait that begins when the test has long ended: its own limit does not pass.
    fn patient(capacity: u64) -> Hysteresis {
        Hysteresis { since: Instant::now() + HOUR, ..Hysteresis::new(capacity) }
    }

    #[test]
    fn a_quarter_of_the_ring_is_enough_and_less_is_not() {
        assert!(patient(16).is_over(Ok(4), Deadline::NEVER));
        assert!(!patient(16).is_over(Ok(3), Deadline::NEVER));
        assert!(!patient(16).is_over(Err(Unclaimed::Full), Deadline::NEVER));
        assert!(patient(16).is_over(Err(Unclaimed::Closed), Deadline::NEVER), "it will not open again");
        assert!(patient(1).is_over(Ok(1), Deadline::NEVER), "that is the whole ring");
    }

    #[test]
    fn any_room_will_do_when_either_limit_has_passed() {
        let impatient = Hysteresis::new(16);
        while impatient.since.elapsed() < MAX_WAIT {}
        assert!(impatient.is_over(Ok(1), Deadline::NEVER));
        assert!(!impatient.is_over(Err(Unclaimed::Full), Deadline::NEVER));
        let passed = Deadline::after(Duration::ZERO);
        assert!(patient(16).is_over(Ok(1), passed), "the caller's limit may be the shorter one");
        assert!(!patient(16).is_over(Ok(1), Deadline::after(HOUR)));
        assert!(!patient(16).is_over(Err(Unclaimed::Full), passed), "there is no room");
    }
}
