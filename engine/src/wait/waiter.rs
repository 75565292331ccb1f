//! One thread's waiting, from spinning to parking.

use super::budget::{self, SpinBudget, Step};
use super::parking::Place;
use super::strategy::{AtFirst, AtLast};
use super::{Deadline, Parking, WaitStrategy};
use crate::sync::edge;
use crate::sync::{hint, thread};
use std::time::Duration;

/// How many spins pass between two looks at the clock and at the strategy: some hundred nanoseconds, of which a reading
/// of the clock is a small part.
const SPINS_PER_ROUND: u32 = if cfg!(ringmain_loom) { 1 } else { 64 };
/// How many polite spins pass between two offers of the core, which blind the thread for half a microsecond.
const SPINS_PER_YIELD: u32 = if cfg!(ringmain_loom) { 1 } else { 128 };

/// A thread that waits again and again, and remembers how spinning went: what [`WaitStrategy::Adaptive`] adapts. Keep
/// one for each thread and thing it waits for; the other strategies remember nothing. Making one costs nothing.
#[derive(Clone, Debug)]
pub struct Waiter {
    budget: SpinBudget,
}

/// How a round of waiting, by one strategy, ended.
enum End<T> {
    /// With what was waited for, or without, at the deadline.
    Over(Option<T>),
    /// The strategy is another one now.
    Switched,
}

/// One round of waiting by one strategy.
struct Round<S, R> {
    strategy: S,
    chosen: WaitStrategy,
    deadline: Deadline,
    ready: R,
}

impl Waiter {
    /// A thread that has not waited yet.
    pub const fn new() -> Self {
        Self { budget: SpinBudget::new() }
    }

    /// Waits until `ready` returns something, or gives up at the deadline with one last look. The first look comes
    /// before any waiting.
    ///
    /// `strategy` says how to wait. It is asked once a round (see [`SharedStrategy`](super::SharedStrategy)), and must
    /// name none that parks where `parking` was made for nobody.
    ///
    /// Costs one call of `ready` when it is ready at once. Whether it makes system calls is the strategy's affair.
    ///
    /// # Panics
    /// When the strategy parks and the parking spot was built so that nobody does.
    #[inline]
    pub fn wait_until<T>(
        &mut self,
        strategy: impl Fn() -> WaitStrategy,
        parking: &Parking,
        deadline: Deadline,
        ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.wait_at(parking.into(), strategy, deadline, ready)
    }

    /// Waits as [`wait_until`](Self::wait_until) does, at a place where it is woken for some things only.
    #[inline]
    pub(crate) fn wait_at<T>(
        &mut self,
        place: Place<'_>,
        strategy: impl Fn() -> WaitStrategy,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        ready().or_else(|| self.wait(place, strategy, deadline, ready))
    }

    fn wait<T>(
        &mut self,
        place: Place<'_>,
        strategy: impl Fn() -> WaitStrategy,
        deadline: Deadline,
        ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut round = Round { chosen: strategy(), strategy, deadline, ready };
        loop {
            match round.run(&mut self.budget, place) {
                End::Over(outcome) => return outcome,
                End::Switched => round.chosen = (round.strategy)(),
            }
        }
    }
}

impl Default for Waiter {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, S: Fn() -> WaitStrategy, R: FnMut() -> Option<T>> Round<S, R> {
    fn run(&mut self, budget: &mut SpinBudget, place: Place<'_>) -> End<T> {
        let ways = self.chosen.ways();
        let ended = match ways.at_first {
            AtFirst::Counted { spins, polite, yields } => {
                self.spin(Some(spins), polite).or_else(|| self.yield_on(Some(yields)))
            }
            AtFirst::Budgeted => self.spin_within(budget),
        };
        ended.unwrap_or_else(|| match ways.at_last {
            AtLast::Spin => self.spin(None, false).expect("it has no end of its own"),
            AtLast::Yield => self.yield_on(None).expect("it has no end of its own"),
            AtLast::Sleep { shortest, longest } => self.sleep(shortest, longest),
            AtLast::Park => self.park(place),
        })
    }

    /// What waiting is for.
    #[inline(always)]
    fn look(&mut self) -> Option<End<T>> {
        (self.ready)().map(|value| End::Over(Some(value)))
    }

    /// What else may end a round: that the strategy was switched, or that it is too late.
    fn look_around(&mut self) -> Option<End<T>> {
        if self.is_switched() {
            Some(End::Switched)
        } else if self.deadline.has_passed() {
            Some(End::Over((self.ready)()))
        } else {
            None
        }
    }

    fn is_switched(&self) -> bool {
        (self.strategy)() != self.chosen
    }

    /// Spins so many times, or until the round ends.
    fn spin(&mut self, times: Option<u32>, polite: bool) -> Option<End<T>> {
        let mut spins: u32 = 0;
        while times.is_none_or(|times| spins < times) {
            if polite {
                hint::spin();
            } else {
                hint::busy();
            }
            if let Some(end) = self.look() {
                return Some(end);
            }
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(SPINS_PER_ROUND)
                && let Some(end) = self.look_around()
            {
                return Some(end);
            }
        }
        None
    }

    /// Yields so many times, or until the round ends.
    fn yield_on(&mut self, times: Option<u32>) -> Option<End<T>> {
        let mut yields: u32 = 0;
        while times.is_none_or(|times| yields < times) {
            thread::yield_now();
            if let Some(end) = self.look().or_else(|| self.look_around()) {
                return Some(end);
            }
            yields = yields.wrapping_add(1);
        }
        None
    }

    /// Spins and yields as the budget allows. The clock is not read before the first spins are over: while events flow
    /// that is all there is.
    fn spin_within(&mut self, budget: &mut SpinBudget) -> Option<End<T>> {
        if let Some(end) = self.spin(Some(SPINS_PER_ROUND), false) {
            return Some(end);
        }
        let mut spell = budget.begin(&mut budget::Real);
        loop {
            let ended = match spell.step {
                Step::Spin => self.spin(Some(SPINS_PER_ROUND), false),
                Step::Yield => self.spin(Some(SPINS_PER_YIELD), true).or_else(|| self.yield_on(Some(1))),
                Step::Park => return None,
            };
            if ended.is_some() {
                budget.end(&mut spell, &mut budget::Real);
                return ended;
            }
            budget.advance(&mut spell, &mut budget::Real);
        }
    }

    /// Sleeps, twice as long each time, until the round ends.
    fn sleep(&mut self, shortest: Duration, longest: Duration) -> End<T> {
        let mut nap = shortest;
        loop {
            thread::sleep(self.deadline.at_most(nap));
            if let Some(end) = self.look().or_else(|| self.look_around()) {
                return end;
            }
            nap = longest.min(nap * 2);
        }
    }

    /// Parks until the round ends. That the strategy is another one is part of what a sleeper waits for.
    fn park(&mut self, place: Place<'_>) -> End<T> {
        let Self { strategy, chosen, deadline, ready } = self;
        let ended = place.parking.park_until(place.sleeper, *deadline, || match ready() {
            Some(value) => Some(End::Over(Some(value))),
            None if edge::left_out("switch-without-look") => None,
            None => (strategy() != *chosen).then_some(End::Switched),
        });
        // At the deadline, one last look.
        ended.unwrap_or_else(|| End::Over((self.ready)()))
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::{SharedStrategy, wait_until};
    use super::*;
    use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn what_is_ready_is_returned_without_waiting() {
        for &strategy in WaitStrategy::ALL {
            let outcome =
                wait_until(strategy, &Parking::new(true), Deadline::after(Duration::ZERO), || Some(7));
            assert_eq!(outcome, Some(7));
        }
    }

    /// What comes and the deadline pass in the same moment, between a look and the one at the
    /// clock: at whichever of these moments, the last look finds it.
    #[test]
    fn every_strategy_looks_once_more_after_the_deadline() {
        use std::cell::Cell;

        for &strategy in WaitStrategy::ALL {
            let mut came = 0;
            for moment in (1..=8).chain(20..120) {
                let deadline = Deadline::after(Duration::from_millis(1));
                let (asked, is_ready) = (Cell::new(0), Cell::new(false));
                let choose = || {
                    asked.set(asked.get() + 1);
                    if asked.get() == moment + 1 {
                        while !deadline.has_passed() {}
                        is_ready.set(true);
                    }
                    strategy
                };
                let ready = || is_ready.get().then_some(());
                let got = Waiter::new().wait_until(choose, &Parking::new(true), deadline, ready);
                assert_eq!(got.is_some(), is_ready.get(), "{strategy} missed it at its look number {moment}");
                came += u32::from(is_ready.get());
            }
            assert!(came > 0, "{strategy}: it never came in time");
        }
    }

    #[test]
    fn every_strategy_gives_up_at_its_deadline() {
        for &strategy in WaitStrategy::ALL {
            let started = Instant::now();
            let limit = Duration::from_millis(20);
            let got = wait_until(strategy, &Parking::new(true), Deadline::after(limit), || None::<()>);
            assert_eq!(got, None);
            assert!(started.elapsed() >= limit, "{strategy} gave up early");
        }
    }

    #[test]
    fn every_strategy_ends_with_a_wake_up() {
        for &strategy in WaitStrategy::ALL {
            let (parking, flag) = (Parking::new(true), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    flag.store(true, Ordering::Release);
                    parking.wake_all();
                });
                let ready = || flag.load(Ordering::Acquire).then_some(());
                let got = wait_until(strategy, &parking, Deadline::after(LONG), ready);
                assert_eq!(got, Some(()), "{strategy} slept on");
            });
        }
    }

    /// Waits for what another thread does.
    fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Deadline::after(LONG);
        while !is_so() {
            assert!(!deadline.has_passed(), "{what} did not come");
            thread::yield_now();
        }
    }

    #[test]
    fn those_that_park_do_so_when_idle() {
        for strategy in [WaitStrategy::Adaptive, WaitStrategy::Blocking] {
            let (parking, flag) = (Parking::new(true), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    wait_until(strategy, &parking, Deadline::after(LONG), || {
                        flag.load(Ordering::Acquire).then_some(())
                    })
                });
                until("sleep", || parking.sleepers() == 1);
                flag.store(true, Ordering::Release);
                parking.wake_all();
                assert_eq!(waiting.join().expect("the waiter panicked"), Some(()), "{strategy}");
            });
        }
    }

    /// The switch is noticed by a thread for which nothing else comes, asleep or not.
    #[test]
    fn any_strategy_is_switched_to_any_other_during_a_wait() {
        for &from in WaitStrategy::ALL {
            for &to in WaitStrategy::ALL.iter().filter(|to| **to != from) {
                let parking = Parking::new(true);
                let strategy = SharedStrategy::parkable(from);
                let (looks, seen, flag) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
                std::thread::scope(|scope| {
                    let waiting = scope.spawn(|| {
                        let choose = || {
                            let chosen = strategy.get();
                            seen.store(chosen as u32, Ordering::Relaxed);
                            chosen
                        };
                        Waiter::new().wait_until(choose, &parking, Deadline::after(LONG), || {
                            looks.fetch_add(1, Ordering::Relaxed);
                            flag.load(Ordering::Acquire).then_some(())
                        })
                    });
                    if from.can_park() {
                        until("sleep", || parking.sleepers() == 1);
                    } else {
                        until("a second look", || looks.load(Ordering::Relaxed) > 1);
                    }
                    strategy.set(to).expect("parking is not excluded");
                    parking.wake_all();
                    until("the switch", || seen.load(Ordering::Relaxed) == to as u32);
                    flag.store(true, Ordering::Release);
                    parking.wake_all();
                    assert_eq!(waiting.join().expect("the waiter panicked"), Some(()), "{from} to {to}");
                });
            }
        }
    }

    #[test]
    fn who_sleeps_looks_often_however_long_it_waits() {
        const NAPS: u32 = 64;
        let AtFirst::Counted { spins, yields, .. } = WaitStrategy::Backoff.ways().at_first else {
            panic!("it counts")
        };
        let mut looks = 0;
        let deadline = Deadline::after(LONG / 6);
        // A nap that grew on and on would outlast the deadline long before.
        let got = wait_until(WaitStrategy::Backoff, &Parking::new(false), deadline, || {
            looks += 1;
            (looks > spins + yields + NAPS && !deadline.has_passed()).then_some(())
        });
        assert_eq!(got, Some(()), "{looks} looks");
    }

    #[test]
    fn a_waiter_can_be_used_again_and_again() {
        let (parking, mut waiter) = (Parking::new(true), Waiter::default());
        for wait in 0..100 {
            let mut looks = 0;
            let got = waiter.wait_until(
                || WaitStrategy::Adaptive,
                &parking,
                Deadline::after(LONG),
                || {
                    looks += 1;
                    (looks > wait).then_some(looks)
                },
            );
            assert_eq!(got, Some(wait + 1));
        }
    }
}
