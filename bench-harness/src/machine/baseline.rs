//! The baseline: floor and noise, taken in short rounds between those of a scenario, on the same
//! cores.

use std::collections::BTreeSet;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::cores;
use super::floor::{Floor, FloorNs, FloorRound};
use super::noise;
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::stats::{LatencyNs, histogram};

/// How long one round of a baseline lasts when it stands between rounds of a scenario.
pub(crate) const ROUND: Duration = Duration::from_millis(50);

/// Floor and noise of all rounds so far.
#[derive(Debug)]
pub(crate) struct Baseline {
    /// Where the floor is taken.
    pair: (Option<usize>, Option<usize>),
    /// Where the noise is taken.
    places: Vec<Option<usize>>,
    floor: Floor,
    noise: Histogram<u64>,
}

impl Baseline {
    /// A baseline for threads that are placed so (see [`cores::place`]), `publishers` of them
    /// first: the floor between the first publisher and the first consumer, the noise on every core
    /// in use. Where the threads are not pinned, it is taken on cores of the process's mask.
    pub(crate) fn new(places: &[Option<usize>], publishers: usize) -> Self {
        let pinned: BTreeSet<_> = places.iter().copied().flatten().collect();
        let (pair, places) = if pinned.is_empty() {
            // No more spinning threads than cores: they would measure how they stall each other.
            let substitute = cores::place(None, cores::allowed().min(2));
            ((substitute[0], substitute[substitute.len() - 1]), substitute)
        } else {
            // With a single core in use the pair is that core twice, which has no floor.
            let first = places.first().copied().flatten();
            let second = places.get(publishers).copied().flatten();
            ((first, second.or(first)), pinned.into_iter().map(Some).collect())
        };
        Self { pair, places, floor: Floor::default(), noise: histogram() }
    }

    /// Measures one round: half of the time the floor, half of it the noise. The floor of this
    /// round; `None` where only one core is in use, the machine let nothing be measured, or the run
    /// was stopped: who is in a hurry measures nothing.
    pub(crate) fn round(&mut self, lasting: Duration) -> Result<Option<FloorRound>, Error> {
        if interrupted() {
            return Ok(None);
        }
        let half = lasting / 2;
        let floor = FloorRound::measure(self.pair.0, self.pair.1, half)?;
        if let Some(round) = floor {
            self.floor.add(round);
        }
        self.noise.add(noise::measure(&self.places, half)?).expect("histograms of the same bounds");
        Ok(floor)
    }

    /// The two cores between which the floor is taken.
    pub(crate) fn pair(&self) -> (Option<usize>, Option<usize>) {
        self.pair
    }

    /// The round trip; `None` where only one core is in use.
    pub(crate) fn floor(&self) -> Option<FloorNs> {
        let round_trip = self.floor.round_trip()?;
        Some(FloorNs { round_trip, min: self.floor.min()?, one_way: round_trip / 2.0 })
    }

    /// Near, far or mixed.
    pub(crate) fn mode(&self) -> Option<&'static str> {
        self.floor.mode()
    }

    /// How long a spinning thread was stalled.
    pub(crate) fn noise(&self) -> Option<LatencyNs> {
        LatencyNs::of(&self.noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_add_up() {
        let mut baseline = Baseline::new(&cores::place(None, 2), 1);
        baseline.round(ROUND).expect("cores of our mask");
        let once = baseline.noise().expect("a round").count;
        baseline.round(ROUND).expect("cores of our mask");
        assert!(baseline.noise().expect("two rounds").count > once);
        assert_eq!(baseline.mode().is_some(), baseline.floor().is_some());
        if let Some(floor) = baseline.floor() {
            assert!((floor.one_way * 2.0 - floor.round_trip).abs() < 1e-9);
        }
    }

    #[test]
    fn the_floor_is_taken_between_a_publisher_and_a_consumer() {
        let baseline = Baseline::new(&[Some(0), Some(1), Some(2), Some(3)], 2);
        assert_eq!(baseline.pair, (Some(0), Some(2)));
        assert_eq!(baseline.places, [Some(0), Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn one_core_is_spun_on_by_one_thread() {
        let crowded = Baseline::new(&[Some(3), Some(3)], 1);
        assert_eq!(crowded.pair, (Some(3), Some(3)));
        assert_eq!(crowded.places, [Some(3)]);
    }

    #[test]
    fn threads_that_are_not_pinned_have_a_baseline_without_more_spinning_threads_than_cores() {
        let baseline = Baseline::new(&[None; 5], 2);
        assert_eq!(baseline.places.len(), cores::allowed().min(2));
        assert!(baseline.places.iter().all(Option::is_some), "{baseline:?}");
    }
}
