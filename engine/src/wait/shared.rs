//! A strategy that can be changed while threads wait by it.

use super::strategy::WaitStrategy;
use crate::sync::atomic::{AtomicU32, Ordering};

/// A strategy that any thread may change while others wait by it. Whether it may ever be one that parks is fixed when
/// it is made, because those who publish look for sleepers only where there can be any.
///
/// A thread that waits looks at it once a round: every 64 spins, after each yield and nap, and when it is woken. Who
/// changes it therefore calls [`Parking::wake_all`](super::Parking::wake_all) afterwards, at every spot where threads
/// sleep by it; the handshake described there then holds for the strategy as it does for an event: either the
/// sleeper's last look sees the new strategy, or who set it sees the sleeper and wakes it. Nothing else hangs on the
/// value, so both sides are relaxed.
#[derive(Debug)]
pub struct SharedStrategy {
    /// The place of the strategy among all presets.
    place: AtomicU32,
    may_park: bool,
}

/// The strategy parks, and the place it was meant for was built so that nobody ever does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{strategy} parks, and this was built so that nobody ever does; build it with a strategy that may")]
pub struct ParkingExcluded {
    /// What was asked for.
    pub strategy: WaitStrategy,
}

impl SharedStrategy {
    /// A strategy that may later be exchanged for any other, if it parks itself; else for those that do not park.
    pub fn new(strategy: WaitStrategy) -> Self {
        Self { place: AtomicU32::new(place(strategy)), may_park: strategy.can_park() }
    }

    /// A strategy that may later be exchanged for any other, whether or not it parks itself.
    pub fn parkable(strategy: WaitStrategy) -> Self {
        Self { may_park: true, ..Self::new(strategy) }
    }

    /// Whether it may ever be a strategy that parks. Never changes.
    pub fn may_park(&self) -> bool {
        self.may_park
    }

    /// The strategy of this moment. One relaxed load.
    pub fn get(&self) -> WaitStrategy {
        WaitStrategy::ALL[self.place.load(Ordering::Relaxed) as usize]
    }

    /// Changes the strategy. Sleepers notice when they are woken afterwards, all others by themselves.
    ///
    /// # Errors
    /// The strategy parks and this one may not; nothing has changed.
    pub fn set(&self, strategy: WaitStrategy) -> Result<(), ParkingExcluded> {
        if strategy.can_park() && !self.may_park {
            return Err(ParkingExcluded { strategy });
        }
        self.place.store(place(strategy), Ordering::Relaxed);
        Ok(())
    }
}

fn place(strategy: WaitStrategy) -> u32 {
    let place = WaitStrategy::ALL.iter().position(|other| *other == strategy);
    place.expect("all presets are listed") as u32
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_it_was_last_set_to() {
        let shared = SharedStrategy::parkable(WaitStrategy::BusySpin);
        for &strategy in WaitStrategy::ALL {
            assert_eq!(shared.set(strategy), Ok(()));
            assert_eq!(shared.get(), strategy);
        }
    }

    #[test]
    fn parking_is_refused_where_it_was_excluded() {
        let shared = SharedStrategy::new(WaitStrategy::Yielding);
        assert!(!shared.may_park());
        for strategy in [WaitStrategy::Adaptive, WaitStrategy::Blocking] {
            let refusal = shared.set(strategy).expect_err("parking was excluded");
            assert_eq!(refusal, ParkingExcluded { strategy });
            assert!(refusal.to_string().starts_with(strategy.name()), "{refusal}");
            assert_eq!(shared.get(), WaitStrategy::Yielding);
        }
        assert_eq!(shared.set(WaitStrategy::Backoff), Ok(()));
    }

    #[test]
    fn what_parks_at_first_may_park_again() {
        let shared = SharedStrategy::new(WaitStrategy::Adaptive);
        assert!(shared.may_park());
        assert_eq!(shared.set(WaitStrategy::BusySpin), Ok(()));
        assert_eq!(shared.set(WaitStrategy::Blocking), Ok(()));
    }
}
