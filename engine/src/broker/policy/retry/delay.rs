//! Delays: how long to wait before a retry.
//!
//! A schedule gives each retry its delay, and jitter spreads it. The cap bounds the range that jitter
//! draws from and not what it has drawn: cut afterwards, all that was drawn above the cap would come
//! out as the cap, and what jitter had spread would meet there again.
//!
//! The jitters are those of Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use fastrand::Rng;
use std::time::Duration;

/// How much longer a decorrelated delay may be than the one before it.
const SPREAD: u32 = 3;

/// How the delays of a [`Retry`](super::Retry) are spread at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Not at all: each delay is what the schedule says.
    None,
    /// Each delay is drawn evenly from zero to what the schedule says. Spreads the most, and waits half
    /// as long on average.
    Full,
    /// Each delay is drawn evenly from the schedule's first one to three times the one drawn before.
    /// Grows by itself, whatever the schedule's growth.
    Decorrelated,
}

/// How delays grow from one retry to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    None,
    Linear,
    Exponential,
}

/// The delays before retries.
#[derive(Clone, Debug)]
pub(super) struct Delays {
    pub(super) growth: Growth,
    pub(super) first: Duration,
    pub(super) factor: Option<f64>,
    pub(super) cap: Duration,
    pub(super) jitter: Jitter,
}

impl Delays {
    /// Draws the delay before the retry of this number, from 0; `last` is the delay before the one ahead
    /// of it.
    pub(super) fn draw(&self, retry: u16, last: Option<Duration>, random: &mut Rng) -> Duration {
        let ceiling = self.scheduled(retry).min(self.cap);
        match self.jitter {
            Jitter::None => ceiling,
            Jitter::Full => between(Duration::ZERO, ceiling, random),
            Jitter::Decorrelated => {
                // A handler may have asked for the last delay itself. One so long that it could not have
                // been drawn does not stretch those after it.
                let longest = grown(self.first, f64::from(SPREAD), retry);
                let last = last.unwrap_or(self.first).clamp(self.first, longest);
                // Where the first delay leaves no room below the cap, drawing from it on would draw
                // nothing but the cap.
                let shortest = if self.first < self.cap { self.first } else { Duration::ZERO };
                between(shortest, last.saturating_mul(SPREAD).min(self.cap), random)
            }
        }
    }

    /// What the schedule says, without cap and jitter. Saturates.
    fn scheduled(&self, retry: u16) -> Duration {
        match self.growth {
            Growth::None => self.first,
            Growth::Linear => self.first.saturating_mul(u32::from(retry) + 1),
            Growth::Exponential => grown(self.first, self.factor.unwrap_or(2.0), retry),
        }
    }
}

/// The duration, multiplied so many times by a factor of at least 1. Saturates. Exact to some 16 digits.
fn grown(first: Duration, factor: f64, times: u16) -> Duration {
    // A cast saturates, and makes zero of the product of zero and infinity.
    let nanos = (first.as_nanos() as f64 * factor.powi(i32::from(times))).round() as u128;
    // What the digits do not hold must not make the later delay the shorter one.
    Duration::from_nanos_u128(nanos.min(Duration::MAX.as_nanos())).max(first)
}

/// Draws evenly from a range, both ends included.
fn between(shortest: Duration, longest: Duration, random: &mut Rng) -> Duration {
    Duration::from_nanos_u128(random.u128(shortest.as_nanos()..=longest.as_nanos()))
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    // The prelude of proptest has one of that name too.
    use fastrand::Rng;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn delays(growth: Growth, first: Duration) -> Delays {
        Delays { growth, first, factor: None, cap: Duration::MAX, jitter: Jitter::None }
    }

    /// The first delays of a schedule without jitter, in milliseconds.
    fn millis(delays: &Delays, count: u16) -> Vec<u128> {
        let mut random = Rng::with_seed(0);
        (0..count).map(|retry| delays.draw(retry, None, &mut random).as_millis()).collect()
    }

    #[test]
    fn schedules_are_constant_linear_or_exponential() {
        assert_eq!(millis(&delays(Growth::None, 100 * MILLI), 4), [100, 100, 100, 100]);
        assert_eq!(millis(&delays(Growth::Linear, 100 * MILLI), 4), [100, 200, 300, 400]);
        assert_eq!(millis(&delays(Growth::Exponential, 100 * MILLI), 4), [100, 200, 400, 800]);
        let by_three = Delays { factor: Some(3.0), ..delays(Growth::Exponential, 100 * MILLI) };
        assert_eq!(millis(&by_three, 4), [100, 300, 900, 2_700]);
        // 1.15 is a little less than that in binary, and its product is not to lose a nanosecond.
        let odd = Delays { factor: Some(1.15), ..by_three };
        assert_eq!(odd.scheduled(1), Duration::from_micros(115_000));
    }

    #[test]
    fn delays_saturate_after_64_doublings_and_more() {
        let doubled = delays(Growth::Exponential, Duration::from_nanos(1));
        assert_eq!(doubled.scheduled(63), Duration::from_nanos(1 << 63));
        assert_eq!(doubled.scheduled(64), Duration::from_nanos_u128(1 << 64));
        for retry in [95, 128, 1_024, u16::MAX] {
            assert_eq!(doubled.scheduled(retry), Duration::MAX);
        }
        let steep = Delays { factor: Some(1e300), ..doubled };
        assert_eq!(steep.scheduled(0), Duration::from_nanos(1));
        assert_eq!((steep.scheduled(1), steep.scheduled(2)), (Duration::MAX, Duration::MAX));
        // Zero times infinity is no number, and no delay.
        assert_eq!(Delays { first: Duration::ZERO, ..steep }.scheduled(2), Duration::ZERO);
        assert_eq!(delays(Growth::Linear, Duration::MAX).scheduled(u16::MAX), Duration::MAX);
    }

    /// How many of `draws` fall into each tenth of the range.
    fn tenths(shortest: Duration, longest: Duration, draws: impl Iterator<Item = Duration>) -> [u32; 10] {
        let mut counts = [0; 10];
        let width = (longest - shortest).as_nanos() / 10 + 1;
        for draw in draws {
            assert!((shortest..=longest).contains(&draw), "{draw:?}");
            counts[((draw - shortest).as_nanos() / width) as usize] += 1;
        }
        counts
    }

    /// Of 10,000 even draws a tenth gets 1,000 with a standard deviation of 30.
    fn assert_even(counts: [u32; 10]) {
        assert!(counts.iter().all(|count| (850..=1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn full_jitter_draws_evenly_and_does_not_pile_up_at_the_cap() {
        let full = Delays { cap: SECOND, jitter: Jitter::Full, ..delays(Growth::Exponential, 100 * MILLI) };
        let mut random = Rng::with_seed(4_711);
        for (retry, ceiling) in [(0, 100 * MILLI), (2, 400 * MILLI), (4, SECOND), (40, SECOND)] {
            let draws: Vec<_> = (0..10_000).map(|_| full.draw(retry, None, &mut random)).collect();
            assert!(draws.iter().filter(|&&draw| draw == ceiling).count() < 10);
            assert!(draws.iter().filter(|draw| draw.is_zero()).count() < 10);
            assert_even(tenths(Duration::ZERO, ceiling, draws.into_iter()));
        }
    }

    #[test]
    fn decorrelated_jitter_draws_evenly_and_does_not_pile_up_at_the_cap() {
        let (first, cap) = (100 * MILLI, SECOND);
        let decorrelated = Delays { cap, jitter: Jitter::Decorrelated, ..delays(Growth::None, first) };
        let mut random = Rng::with_seed(4_711);
        for (last, retry, ceiling) in [
            (None, 0, 300 * MILLI),
            (Some(200 * MILLI), 1, 600 * MILLI),
            (Some(900 * MILLI), 9, SECOND),
            (Some(SECOND), 9, SECOND),
        ] {
            let draws: Vec<_> = (0..10_000).map(|_| decorrelated.draw(retry, last, &mut random)).collect();
            assert!(draws.iter().filter(|&&draw| draw == cap).count() < 10);
            assert_even(tenths(first, ceiling, draws.into_iter()));
        }
    }

    #[test]
    fn decorrelated_jitter_spreads_where_the_first_delay_is_above_the_cap() {
        let cap = SECOND;
        for first in [cap, 5 * cap] {
            let tight = Delays { cap, jitter: Jitter::Decorrelated, ..delays(Growth::None, first) };
            let mut random = Rng::with_seed(4_711);
            assert_even(tenths(
                Duration::ZERO,
                cap,
                (0..10_000).map(|_| tight.draw(3, Some(cap), &mut random)),
            ));
        }
    }

    #[test]
    fn a_delay_that_a_handler_asked_for_does_not_stretch_decorrelated_ones() {
        let first = 100 * MILLI;
        let free = Delays { jitter: Jitter::Decorrelated, ..delays(Growth::None, first) };
        let mut random = Rng::with_seed(4_711);
        let hour = Some(3_600 * SECOND);
        // One draw before it reaches at most three times the first delay, two nine times.
        assert_even(tenths(first, 9 * first, (0..10_000).map(|_| free.draw(1, hour, &mut random))));
        assert_even(tenths(first, 27 * first, (0..10_000).map(|_| free.draw(2, hour, &mut random))));
        let at_once = Some(Duration::ZERO);
        assert_even(tenths(first, 3 * first, (0..10_000).map(|_| free.draw(2, at_once, &mut random))));
    }

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::from_nanos(1)),
            Just(Duration::MAX),
            (0_u64..=10_000).prop_map(Duration::from_millis),
            (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        ]
    }

    fn any_delays() -> impl Strategy<Value = Delays> {
        let growth = prop::sample::select(vec![Growth::None, Growth::Linear, Growth::Exponential]);
        let factor = prop_oneof![Just(None), Just(Some(1.0)), Just(Some(1e300)), (1.0..10.0).prop_map(Some)];
        let jitter = prop::sample::select(vec![Jitter::None, Jitter::Full, Jitter::Decorrelated]);
        (growth, durations(), factor, durations(), jitter)
            .prop_map(|(growth, first, factor, cap, jitter)| Delays { growth, first, factor, cap, jitter })
    }

    fn retries() -> impl Strategy<Value = u16> {
        prop_oneof![0_u16..10, 60_u16..70, any::<u16>()]
    }

    proptest! {
        /// Whatever the schedule and the delay before.
        #[test]
        fn the_cap_holds_after_jitter(
            delays in any_delays(),
            retry in retries(),
            last in prop::option::of(durations()),
            seed: u64,
        ) {
            let mut random = Rng::with_seed(seed);
            let drawn = delays.draw(retry, last, &mut random);
            prop_assert!(drawn <= delays.cap);
            match delays.jitter {
                Jitter::None => prop_assert_eq!(drawn, delays.scheduled(retry).min(delays.cap)),
                Jitter::Full => prop_assert!(drawn <= delays.scheduled(retry)),
                Jitter::Decorrelated => prop_assert!(drawn >= delays.first || delays.first >= delays.cap),
            }
        }

        /// As far as the digits of a floating-point number tell them apart.
        #[test]
        fn a_schedule_never_shrinks(delays in any_delays(), retry in retries()) {
            let (this, next) = (delays.scheduled(retry), delays.scheduled(retry.saturating_add(1)));
            prop_assert!(this.as_nanos() as f64 * (1.0 - 1e-12) <= next.as_nanos() as f64);
            prop_assert!(this >= delays.first);
        }

        /// A schedule is what multiplying step by step would give.
        #[test]
        fn doubling_is_exact(nanos in 0_u64..1 << 30, retry in 0_u16..60) {
            let delays = delays(Growth::Exponential, Duration::from_nanos(nanos));
            prop_assert_eq!(delays.scheduled(retry).as_nanos(), u128::from(nanos) << retry);
        }
    }
}
