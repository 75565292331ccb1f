//! How much is measured, in full and in short.

use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) patterns: usize,
    pub(super) rounds: usize,
    /// Topics that are matched again and again, and how often in a round.
    pub(super) warm_topics: usize,
    pub(super) laps: usize,
    /// Topics that are matched once in a round, and in no other.
    pub(super) cold_topics: usize,
    /// Topics that a linear scan matches too, in each round.
    pub(super) scanned_topics: usize,
    /// Subscribed and unsubscribed in a round.
    pub(super) changes: usize,
    /// How long a publisher publishes in each half of a round.
    pub(super) publishing: Duration,
    /// Topics that are made up while memory is watched.
    pub(super) unique_topics: usize,
}

pub(super) const FULL: Extent = Extent {
    patterns: 1_000_000,
    rounds: 9,
    warm_topics: 256,
    laps: 40,
    cold_topics: 4_000,
    scanned_topics: 200,
    changes: 500,
    publishing: Duration::from_millis(500),
    unique_topics: 500_000,
};
pub(super) const QUICK: Extent = Extent {
    patterns: 100_000,
    rounds: 3,
    warm_topics: 256,
    laps: 4,
    cold_topics: 500,
    scanned_topics: 20,
    changes: 100,
    publishing: Duration::from_millis(100),
    unique_topics: 50_000,
};
