//! Waiting: how a thread lets time pass until something is ready.
//!
//! A strategy is a choice among four ways, taken in this order: spin, yield, sleep, park. The presets of
//! [`WaitStrategy`] are points in that space. Waiting knows nothing of rings: it is given a predicate, and for those
//! that park a [`Parking`] spot where the other side wakes it.
//!
//! A thread that waits again and again owns a [`Waiter`], which remembers how spinning went. Where the strategy may
//! change while threads wait by it, it lives in a [`SharedStrategy`]:
//!
//! ```
//! use ringmain::wait::{Deadline, Parking, SharedStrategy, WaitStrategy, Waiter};
//! use std::time::Duration;
//!
//! let strategy = SharedStrategy::new(WaitStrategy::Blocking);
//! let spot = Parking::new(strategy.may_park());
//! let mut waiter = Waiter::new();
//! let mut looks = 0;
//! let third = waiter.wait_until(|| strategy.get(), &spot, Deadline::after(Duration::from_secs(1)), || {
//!     looks += 1;
//!     (looks == 3).then_some(looks)
//! });
//! assert_eq!(third, Some(3));
//!
//! strategy.set(WaitStrategy::BusySpin)?;
//! spot.wake_all(); // who sleeps here is to notice
//! # Ok::<(), ringmain::wait::ParkingExcluded>(())
//! ```

mod budget;
mod deadline;
mod parking;
mod shared;
mod sleepers;
mod strategy;
mod waiter;

pub use deadline::Deadline;
pub use parking::Parking;
pub(crate) use parking::Place;
pub use shared::{ParkingExcluded, SharedStrategy};
pub(crate) use sleepers::{Crew, News, Sleeper};
pub use strategy::{UnknownWaitStrategy, WaitStrategy};
pub use waiter::Waiter;

/// Waits once: as [`Waiter::wait_until`], by a strategy that does not change and with nothing remembered.
pub fn wait_until<T>(
    strategy: WaitStrategy,
    parking: &Parking,
    deadline: Deadline,
    ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    Waiter::new().wait_until(|| strategy, parking, deadline, ready)
}
