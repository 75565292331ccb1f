//! Medians, spreads and percentiles: figures that say how much they are worth.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is recorded as it is; longer ones count as this. One hour in nanoseconds.
const MAX_TIME: u64 = 3_600_000_000_000;

/// An empty histogram of nanoseconds: 1 ns to one hour, three significant digits. Takes its memory
/// here (some 280 KiB), and none while recording.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_TIME, 3).expect("fixed bounds that fit")
}

/// Percentiles of a time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct LatencyNs {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p95: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) p99_99: u64,
    pub(crate) max: u64,
    pub(crate) mean: f64,
    /// How many times were recorded.
    pub(crate) count: u64,
}

impl LatencyNs {
    /// The percentiles of a histogram; `None` when nothing was recorded.
    pub(crate) fn of(times: &Histogram<u64>) -> Option<Self> {
        if times.is_empty() {
            return None;
        }
        let at = |quantile| times.value_at_quantile(quantile);
        Some(Self {
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: times.max(),
            mean: times.mean(),
            count: times.len(),
        })
    }
}

/// Times for which somebody stood still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Stalls {
    pub(crate) count: u64,
    pub(crate) longest_ns: u64,
    pub(crate) total_ns: u64,
}

impl Stalls {
    /// Adds one.
    pub(crate) fn record(&mut self, stall: Duration) {
        let ns = stall.as_nanos() as u64;
        self.add(&Self { count: 1, longest_ns: ns, total_ns: ns });
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.total_ns += other.total_ns;
    }

    /// Returns the time of all of them.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns)
    }
}

/// How far the rounds of a measurement lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) q1: f64,
    pub(crate) median: f64,
    pub(crate) q3: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of some figures; `None` when there are none, or one is not a number.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        if figures.is_empty() || figures.iter().any(|figure| figure.is_nan()) {
            return None;
        }
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: sorted[0],
            q1: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            q3: quantile(&sorted, 0.75),
            max: sorted[sorted.len() - 1],
        })
    }
}

/// The median of some figures; the mean of the two in the middle when their number is even.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    Spread::of(figures).map(|spread| spread.median)
}

/// The quotients of figures of the same rounds.
pub(crate) fn paired_quotients(figures: &[Option<f64>], ours: &[Option<f64>]) -> Vec<f64> {
    let pairs = figures.iter().zip(ours).filter_map(|(figure, ours)| figure.zip(*ours));
    pairs.map(|(figure, ours)| figure / ours).collect()
}

/// A quantile of sorted figures, interpolated between neighbours (Hyndman and Fan's type 7).
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let position = quantile * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_number_of_figures_has_its_median_between_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[7.0]), Some(7.0));
    }

    #[test]
    fn only_figures_of_the_same_round_are_compared() {
        let ours = [Some(10.0), Some(20.0), None, Some(40.0)];
        let theirs = [Some(20.0), Some(60.0), Some(1.0), None];
        assert_eq!(paired_quotients(&theirs, &ours), [2.0, 3.0]);
        assert_eq!(paired_quotients(&ours, &ours), [1.0; 3]);
        assert!(paired_quotients(&[None], &[Some(1.0)]).is_empty());
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn a_spread_has_its_quartiles_between_neighbours() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0, 10.0]).expect("six figures");
        assert_eq!(spread, Spread { min: 1.0, q1: 2.25, median: 3.5, q3: 4.75, max: 10.0 });
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded_to_three_digits() {
        let mut times = histogram();
        for time in 1..=100_000_u64 {
            times.record(time).expect("within the bounds");
        }
        let latency = LatencyNs::of(&times).expect("not empty");
        let expected = [
            (latency.p50, 50_000),
            (latency.p90, 90_000),
            (latency.p95, 95_000),
            (latency.p99, 99_000),
            (latency.p99_9, 99_900),
            (latency.p99_99, 99_990),
            (latency.max, 100_000),
        ];
        for (found, expected) in expected {
            assert!(found.abs_diff(expected) * 1_000 <= expected, "{found} instead of {expected}");
        }
        assert!((latency.mean - 50_000.5).abs() < 50.0, "{}", latency.mean);
        assert_eq!(latency.count, 100_000);
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        assert_eq!(LatencyNs::of(&histogram()), None);
    }
}
