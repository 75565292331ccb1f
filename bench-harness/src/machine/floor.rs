//! The floor: how fast this machine carries a cache line from one core to another and back.
//!
//! Two atomics on lines of their own; one thread writes the first and waits for the second, the
//! other answers. No queue between these two cores can be faster than half of that round trip, so
//! it stands beside every latency. It also names the machine's mode: virtual machines move their
//! cores about, and then everything that crosses cores becomes some three times slower at once, for
//! minutes.
//!
//! One round is short, so that rounds of a scenario can be interleaved with it; blocks of [`BLOCK`]
//! round trips are timed together, because reading the clock costs a good part of one.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cores;
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::stats::median;

/// Round trips that are timed together.
const BLOCK: u64 = 64;
/// Looks at a line between two looks at the clock and at the interrupt.
const PATIENCE: u32 = 1 << 14;
/// Below this round trip, in nanoseconds, two cores share a cache.
const NEAR: f64 = 200.0;
/// The part of the rounds that must lie on the other side of [`NEAR`] for a run to have seen both
/// modes.
const MIXED: f64 = 0.2;
/// Tells the answering thread to go.
const STOP: u64 = u64::MAX;

/// An atomic on a line of its own; two lines, because some processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// The round trip between two cores, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct FloorNs {
    pub(crate) round_trip: f64,
    pub(crate) min: f64,
    pub(crate) one_way: f64,
}

/// What one round found, in nanoseconds a round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FloorRound {
    /// The fastest block.
    pub(crate) min: f64,
    /// The block in the middle.
    pub(crate) median: f64,
}

impl FloorRound {
    /// Measures for a while between two threads on these cores.
    ///
    /// `None` where there is nothing to measure: both threads on one core, the run interrupted, or
    /// the machine so busy that not one block was finished.
    pub(crate) fn measure(
        first: Option<usize>,
        second: Option<usize>,
        lasting: Duration,
    ) -> Result<Option<Self>, Error> {
        if !cores::run_side_by_side(first, second) {
            return Ok(None);
        }
        let (there, back) = (Line::default(), Line::default());
        let unpinned = AtomicBool::new(false);
        let both = Barrier::new(2);
        let start = |core| {
            let pinned = cores::pin(core);
            unpinned.fetch_or(pinned.is_err(), Ordering::Relaxed);
            // The barrier orders the flag: past it both threads know whether both are where they
            // should be.
            both.wait();
            pinned.map(|()| !unpinned.load(Ordering::Relaxed))
        };
        let blocks = std::thread::scope(|scope| {
            let answering = scope.spawn(|| {
                if start(second)? {
                    answer(&there.0, &back.0);
                }
                Ok::<(), Error>(())
            });
            let asking = scope.spawn(|| {
                let blocks = if start(first)? { ask(&there.0, &back.0, lasting) } else { Vec::new() };
                there.0.store(STOP, Ordering::Release);
                Ok::<Vec<f64>, Error>(blocks)
            });
            let blocks = asking.join().expect("the asking thread does not panic")?;
            answering.join().expect("the answering thread does not panic")?;
            Ok::<Vec<f64>, Error>(blocks)
        })?;
        let min = blocks.iter().copied().reduce(f64::min);
        Ok(min.zip(median(&blocks)).map(|(min, median)| Self { min, median }))
    }

    /// Near or far.
    pub(crate) fn mode(&self) -> &'static str {
        if self.median < NEAR { "near" } else { "far" }
    }
}

/// Sends numbers and waits for each to come back; nanoseconds a round trip of each block. The first
/// block brings the other thread up to speed and is left out.
fn ask(there: &AtomicU64, back: &AtomicU64, lasting: Duration) -> Vec<f64> {
    let mut blocks = Vec::with_capacity((lasting.as_micros() as usize / 4).clamp(16, 1 << 16));
    let started = Instant::now();
    let patience = lasting + Duration::from_secs(1);
    let mut sequence = 0;
    let mut warm = false;
    while blocks.len() < blocks.capacity() && (blocks.is_empty() || started.elapsed() < lasting) {
        let block_started = Instant::now();
        for _ in 0..BLOCK {
            sequence += 1;
            // Pairs with the acquire in `answer`, and its release with the acquire here.
            there.store(sequence, Ordering::Release);
            let mut looks = 0;
            while back.load(Ordering::Acquire) != sequence {
                looks += 1;
                if looks % PATIENCE == 0 && (interrupted() || started.elapsed() > patience) {
                    return blocks;
                }
            }
        }
        if warm {
            blocks.push(block_started.elapsed().as_nanos() as f64 / BLOCK as f64);
        }
        warm = true;
    }
    blocks
}

/// Sends every number back until it is told to stop, which the asking thread does on every path.
fn answer(there: &AtomicU64, back: &AtomicU64) {
    let mut last = 0;
    loop {
        let sequence = there.load(Ordering::Acquire);
        if sequence == STOP {
            return;
        }
        if sequence != last {
            last = sequence;
            back.store(sequence, Ordering::Release);
        }
    }
}

/// The floor over all rounds of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    rounds: Vec<FloorRound>,
}

impl Floor {
    /// Adds a round.
    pub(crate) fn add(&mut self, round: FloorRound) {
        self.rounds.push(round);
    }

    /// The median of the rounds' medians: nanoseconds a round trip.
    pub(crate) fn round_trip(&self) -> Option<f64> {
        median(&self.rounds.iter().map(|round| round.median).collect::<Vec<_>>())
    }

    /// The fastest block of all.
    pub(crate) fn min(&self) -> Option<f64> {
        self.rounds.iter().map(|round| round.min).reduce(f64::min)
    }

    /// `near` when the cores share a cache, `far` when they do not, `mixed` when the machine
    /// changed in between: then only figures of the same round can be compared.
    pub(crate) fn mode(&self) -> Option<&'static str> {
        let near = self.rounds.iter().filter(|round| round.median < NEAR).count() as f64;
        match near / self.rounds.len() as f64 {
            part if part.is_nan() => None,
            part if part >= 1.0 - MIXED => Some("near"),
            part if part <= MIXED => Some("far"),
            _ => Some("mixed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(medians: &[f64]) -> Floor {
        Floor { rounds: medians.iter().map(|&median| FloorRound { min: median - 10.0, median }).collect() }
    }

    #[test]
    fn the_mode_is_that_of_most_rounds_and_mixed_when_the_machine_changed() {
        assert_eq!(floor(&[110.0, 115.0, 108.0]).mode(), Some("near"));
        assert_eq!(floor(&[320.0, 330.0]).mode(), Some("far"));
        assert_eq!(floor(&[110.0, 320.0, 330.0]).mode(), Some("mixed"));
        assert_eq!(floor(&[110.0; 9]).mode(), floor(&[&[110.0; 9][..], &[500.0]].concat()).mode());
        assert_eq!(Floor::default().mode(), None);
    }

    #[test]
    fn the_floor_is_the_median_round_and_its_fastest_block() {
        let floor = floor(&[300.0, 110.0, 120.0]);
        assert_eq!(floor.round_trip(), Some(120.0));
        assert_eq!(floor.min(), Some(100.0));
    }

    #[test]
    fn two_cores_exchange_lines_in_more_than_no_time() {
        let places = cores::place(None, 2);
        let side_by_side = cores::run_side_by_side(places[0], places[1]);
        // On a machine that is busy otherwise a round may come to nothing.
        for _attempt in 0..20 {
            let round = FloorRound::measure(places[0], places[1], Duration::from_millis(20));
            if let Some(round) = round.expect("cores of our mask") {
                assert!(side_by_side && round.min > 1.0 && round.min <= round.median, "{round:?}");
                return;
            }
        }
        assert!(!side_by_side, "two cores, and no floor");
    }

    #[test]
    fn one_core_has_no_floor() {
        let only = cores::place(None, 1)[0];
        let round = FloorRound::measure(only, only, Duration::from_secs(3600)).expect("a core of our mask");
        assert!(round.is_none());
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error_and_no_hang() {
        let first = cores::place(None, 1)[0];
        let error = FloorRound::measure(first, Some(9_999), Duration::from_secs(3600));
        assert!(matches!(error, Err(Error::Usage(_))), "{error:?}");
        let error = FloorRound::measure(Some(9_999), first, Duration::from_secs(3600));
        assert!(matches!(error, Err(Error::Usage(_))), "{error:?}");
    }
}
