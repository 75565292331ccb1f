//! Sampling: which of the events that a consumer reads have their latency recorded.

use crate::ring::Sequence;

/// Of so many events, the latency of one is recorded, on average.
const EVENTS_PER_SAMPLE: u64 = 64;

/// Which events' latency is recorded. By event and not by batch: the first event of a batch has
/// waited for the longest if a stall has gone before it, and for the shortest if the batch came as
/// a burst. The gaps are drawn at random, so that no rhythm of the load is sampled always at the
/// same beat.
#[derive(Debug)]
pub(super) struct Sampler {
    next: Sequence,
    random: u64,
}

impl Sampler {
    pub(super) fn new(seed: u64) -> Self {
        Self { next: 0, random: seed | 1 }
    }

    /// Whether this event is to be recorded. If so, the next one is drawn: 1 to `2 *
    /// EVENTS_PER_SAMPLE - 1` further on.
    #[inline(always)]
    pub(super) fn takes(&mut self, sequence: Sequence) -> bool {
        let takes = sequence >= self.next;
        if takes {
            self.draw(sequence);
        }
        takes
    }

    #[cold]
    fn draw(&mut self, sequence: Sequence) {
        // xorshift64: G. Marsaglia, "Xorshift RNGs", 2003.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.next = sequence + 1 + self.random % (2 * EVENTS_PER_SAMPLE - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_in_64_is_taken_on_average_and_none_is_spared() {
        let mut sampler = Sampler::new(7);
        let taken: Vec<_> = (0..64_000).filter(|&sequence| sampler.takes(sequence)).collect();
        assert!((900..1_100).contains(&taken.len()), "{} of 64,000", taken.len());
        // Whatever comes in bursts of 64: each place in a burst has its turn.
        for place in 0..EVENTS_PER_SAMPLE {
            assert!(taken.iter().any(|sequence| sequence % EVENTS_PER_SAMPLE == place), "{place} never is");
        }
    }
}
