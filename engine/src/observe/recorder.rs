//! A histogram of durations with one writer and any number of readers.
//!
//! The layout is that of Gil Tene's HdrHistogram: each power of two is split into equal
//! sub-buckets, so that the relative error is bounded (here by 1/32, some 3 %) over the whole
//! range. The buckets are atomics with one writer, so recording takes no lock and a reader disturbs
//! nobody; a reading is handed out as an [`hdrhistogram::Histogram`].

use super::Counter;
use hdrhistogram::Histogram;

/// Sub-buckets of one power of two.
const SUB_BUCKETS: usize = 32;
/// Powers of two beyond the first `SUB_BUCKETS` values: up to 2^40 ns, some 18 minutes. Models have
/// no use for long ones.
const POWERS: usize = if cfg!(ringmain_loom) { 1 } else { 36 };
const BUCKETS: usize = SUB_BUCKETS * POWERS;
/// What is longer is recorded as this long.
const MAX_NANOS: u64 = (1 << (POWERS + 4)) - 1;

/// Records durations in nanoseconds. One thread at a time writes it.
#[derive(Debug)]
pub struct Recorder {
    buckets: Box<[Counter]>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Counter::default()).collect() }
    }
}

impl Recorder {
    /// Returns a recorder of nothing yet. Allocates some 9 KiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records one duration. Only the recorder's one writer may call it. Does not allocate.
    #[inline]
    pub fn record(&self, nanos: u64) {
        self.buckets[bucket_of(nanos)].bump();
    }

    /// Adds what has been recorded so far to a histogram.
    fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.get();
            if count > 0 {
                histogram.saturating_record_n(middle_of(index), count);
            }
        }
    }
}

/// The recordings of several recorders as one histogram, in nanoseconds.
pub fn merge<'a>(recorders: impl IntoIterator<Item = &'a Recorder>) -> Histogram<u64> {
    // Three significant digits up to `MAX_NANOS`: bounds that hdrhistogram accepts.
    let mut merged =
        Histogram::new_with_bounds(1, MAX_NANOS, 3).unwrap_or_else(|_| unreachable!("the bounds are fixed"));
    for recorder in recorders {
        recorder.add_to(&mut merged);
    }
    merged
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.min(MAX_NANOS);
    if nanos < SUB_BUCKETS as u64 {
        return nanos as usize;
    }
    let power = nanos.ilog2() - SUB_BUCKETS.ilog2();
    let sub_bucket = (nanos >> power) as usize - SUB_BUCKETS;
    (power as usize + 1) * SUB_BUCKETS + sub_bucket
}

/// The value in the middle of a bucket.
fn middle_of(index: usize) -> u64 {
    if index < SUB_BUCKETS {
        return index as u64;
    }
    let power = index / SUB_BUCKETS - 1;
    let lowest = ((index % SUB_BUCKETS + SUB_BUCKETS) as u64) << power;
    lowest + (1 << power) / 2
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_value_lands_within_three_per_cent_of_itself() {
        let mut value = 1_u64;
        while value < MAX_NANOS {
            let middle = middle_of(bucket_of(value));
            assert!(middle.abs_diff(value) * 31 <= value, "{value} is recorded as {middle}");
            value += value / 7 + 1;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(0), 0);
    }

    #[test]
    fn several_recorders_make_one_histogram() {
        let recorders = [Recorder::default(), Recorder::default()];
        for nanos in 1..=1_000 {
            recorders[nanos % 2].record(nanos as u64);
        }
        let merged = merge(&recorders);
        assert_eq!(merged.len(), 1_000);
        let median = merged.value_at_quantile(0.5);
        assert!((480..=520).contains(&median), "the median is {median}");
    }
}
