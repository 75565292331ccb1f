//! Waiting: how a thread lets time pass until something is ready.
//!
//! A strategy is a choice among four ways, taken in this order: spin, yield, sleep, park. The presets of
//! [`WaitStrategy`] are points in that space. Waiting knows nothing of rings: it is given a predicate, and for those
//! that park a [`Parking`] spot where the other side rings the bell.

mod parking;
mod strategy;

pub use parking::Parking;
use strategy::AtLast;
pub use strategy::{UnknownWaitStrategy, WaitStrategy};

use crate::sync::{hint, thread};
use std::time::{Duration, Instant};

/// How many spins pass between two looks at the clock of a wait that has a deadline.
const SPINS_BETWEEN_CLOCK_READS: u32 = 64;

/// The moment at which a wait gives up, if any.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// A wait that does not give up.
    pub const NEVER: Self = Self(None);

    /// A wait that gives up once `limit` has passed. A limit too long for the clock to hold never passes.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// Whether the moment has come. Reads the clock unless there is no deadline.
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// The moment itself.
    pub fn at(self) -> Option<Instant> {
        self.0
    }

    /// The earlier of this deadline and `limit` from now.
    pub fn or_after(self, limit: Duration) -> Self {
        let other = Self::after(limit);
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}

/// Waits until `ready` returns something, or gives up at the deadline with one last look. The first look comes
/// before any waiting. `ready` may be called with the lock of `parking` held, so it must not ring that bell.
///
/// Costs one call of `ready` when it is ready at once. Whether it makes system calls is the strategy's affair.
pub fn wait_until<T>(
    strategy: WaitStrategy,
    parking: &Parking,
    deadline: Deadline,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    if let Some(value) = ready() {
        return Some(value);
    }
    let ways = strategy.ways();

    let mut spins: u32 = 0;
    while matches!(ways.at_last, AtLast::Spin) || spins < ways.spins {
        if ways.polite {
            hint::spin()
        } else {
            hint::busy()
        }
        if let Some(value) = ready() {
            return Some(value);
        }
        spins = spins.wrapping_add(1);
        if spins.is_multiple_of(SPINS_BETWEEN_CLOCK_READS) && deadline.has_passed() {
            return ready();
        }
    }

    let mut yields: u32 = 0;
    while matches!(ways.at_last, AtLast::Yield) || yields < ways.yields {
        thread::yield_now();
        if let Some(value) = ready() {
            return Some(value);
        }
        if deadline.has_passed() {
            return ready();
        }
        yields = yields.wrapping_add(1);
    }

    match ways.at_last {
        AtLast::Spin | AtLast::Yield => unreachable!("these ways have no end of their own"),
        AtLast::Park => parking.park_until(deadline, ready),
        AtLast::Sleep { shortest, longest } => {
            let mut nap = shortest;
            loop {
                thread::sleep(
                    deadline.at().map_or(nap, |at| nap.min(at.saturating_duration_since(Instant::now()))),
                );
                if let Some(value) = ready() {
                    return Some(value);
                }
                if deadline.has_passed() {
                    return ready();
                }
                nap = longest.min(nap * 2);
            }
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;

    const ALL: [WaitStrategy; 4] =
        [WaitStrategy::BusySpin, WaitStrategy::Yielding, WaitStrategy::Backoff, WaitStrategy::Blocking];

    #[test]
    fn what_is_ready_is_returned_without_waiting() {
        for strategy in ALL {
            assert_eq!(
                wait_until(strategy, &Parking::new(true), Deadline::after(Duration::ZERO), || Some(7)),
                Some(7)
            );
        }
    }

    #[test]
    fn every_strategy_gives_up_at_its_deadline() {
        for strategy in ALL {
            let started = Instant::now();
            let limit = Duration::from_millis(20);
            let got = wait_until(strategy, &Parking::new(true), Deadline::after(limit), || None::<()>);
            assert_eq!(got, None);
            assert!(started.elapsed() >= limit, "{strategy:?} gave up early");
        }
    }

    #[test]
    fn every_strategy_wakes_when_the_bell_rings() {
        for strategy in ALL {
            let parking = Arc::new(Parking::new(true));
            let flag = Arc::new(AtomicBool::new(false));
            let waker = {
                let (parking, flag) = (parking.clone(), flag.clone());
                std::thread::spawn(move || {
                    flag.store(true, Ordering::Release);
                    parking.wake_all();
                })
            };
            let limit = Deadline::after(Duration::from_secs(30));
            let got = wait_until(strategy, &parking, limit, || flag.load(Ordering::Acquire).then_some(()));
            assert_eq!(got, Some(()), "{strategy:?} slept on");
            waker.join().expect("the waker panicked");
        }
    }
}
