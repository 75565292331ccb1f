//! How long an adaptive thread may spin, and how it finds out.
//!
//! A thread that spins reads its clock every few dozen looks, some hundred nanoseconds apart. Where two readings lie
//! further apart than [`GAP`], the thread was not running in between: somebody else had its core, and may want it
//! still. The wait steps down, from spinning to yielding and from yielding to parking, and the waits that follow spin
//! less: half as long when the gap came by itself, since it may have been an interrupt's or a hypervisor's doing, and as
//! little as can be when it came with a yield. That one is certain: the scheduler lets a spinning thread have its slice of
//! milliseconds, but a yield hands the core over at once. This is why the core is offered from time to time
//! even when nothing looks wrong.
//!
//! It is also why a thread that knows its core to be wanted yields no more, and parks when its budget is spent: a yield
//! would cost it the others' whole slices, whoever they are, while one that was parked is let in again as soon as it is
//! woken. With seven busy threads on two cores the difference is tenfold.
//!
//! Each [`RECOVERY`] without a gap doubles the budget again, and a whole one makes good for all that was.

use std::time::{Duration, Instant};

/// The longest that one wait spins and yields. Events that come 10,000 times a second find the thread awake. A model
/// knows no time, so there it has run out at the first look at the clock.
const MOST: Duration = if cfg!(ringmain_loom) { Duration::ZERO } else { Duration::from_micros(200) };
/// What is left of it where every wait sees a gap.
const LEAST: Duration = Duration::from_nanos(MOST.as_nanos() as u64 / 16);
/// The part of the budget that is spun through before the core is offered.
const UNYIELDING: u32 = 4;
/// Longer than any run of looks and than a timer interrupt, shorter than any other thread's turn.
const GAP: Duration = Duration::from_micros(20);
/// The budget is doubled after so long a time without a gap.
const RECOVERY: Duration = Duration::from_millis(50);

/// What a thread that waits does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Spin,
    Yield,
    Park,
}

/// How long a thread may spin. Lives as long as the thread waits for the same thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpinBudget {
    limit: Duration,
    /// When the limit last changed; `None` while it has never been cut.
    changed: Option<Instant>,
}

/// One wait that spins within a budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spell {
    started: Instant,
    /// The last reading of the clock.
    seen: Instant,
    pub(super) step: Step,
}

/// The clock that spells are timed by. In a model time stands still.
pub(super) fn now() -> Instant {
    #[cfg(ringmain_loom)]
    {
        static ONLY: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *ONLY.get_or_init(Instant::now)
    }
    #[cfg(not(ringmain_loom))]
    Instant::now()
}

impl SpinBudget {
    pub(super) const fn new() -> Self {
        Self { limit: MOST, changed: None }
    }

    /// Begins a wait.
    pub(super) fn begin(&mut self, now: Instant) -> Spell {
        self.recover(now);
        let mut spell = Spell { started: now, seen: now, step: Step::Spin };
        self.advance(&mut spell, now);
        spell
    }

    /// Decides what a wait does next, by another reading of the clock.
    pub(super) fn advance(&mut self, spell: &mut Spell, now: Instant) {
        let gap = now.saturating_duration_since(spell.seen);
        spell.seen = now;
        let spent = now.saturating_duration_since(spell.started);
        let is_crowded = self.changed.is_some();
        if gap >= GAP {
            // A yield tells for certain.
            let limit = if spell.step == Step::Yield { LEAST } else { self.limit / 2 };
            self.limit = limit.max(LEAST);
            self.changed = Some(now);
        }
        spell.step = match spell.step {
            Step::Spin if gap >= GAP && !is_crowded => Step::Yield,
            _ if gap >= GAP || spent >= self.limit => Step::Park,
            Step::Spin if !is_crowded && spent >= self.limit / UNYIELDING => Step::Yield,
            step => step,
        };
    }

    fn recover(&mut self, now: Instant) {
        while let Some(changed) = self.changed {
            if now.saturating_duration_since(changed) < RECOVERY {
                return;
            }
            self.limit = (self.limit * 2).min(MOST);
            self.changed = (self.limit < MOST).then(|| changed + RECOVERY);
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    const READING: Duration = Duration::from_nanos(500);

    /// A wait on an idle machine: a reading each half microsecond until it parks. When it began to yield, if it did, and to
    /// park.
    fn undisturbed(budget: &mut SpinBudget, started: Instant) -> (Option<Duration>, Duration) {
        let mut spell = budget.begin(started);
        let (mut now, mut yielding) = (started, None);
        while spell.step != Step::Park {
            now += READING;
            budget.advance(&mut spell, now);
            if spell.step == Step::Yield {
                yielding.get_or_insert(now - started);
            }
        }
        (yielding, now - started)
    }

    /// A wait that sees one gap, while it spins; what it does next.
    fn stalled(budget: &mut SpinBudget, started: Instant) -> (Spell, Instant) {
        let mut spell = budget.begin(started);
        budget.advance(&mut spell, started + GAP);
        (spell, started + GAP)
    }

    /// A wait that sees one gap while it spins and another one while it yields.
    fn crowded(budget: &mut SpinBudget, started: Instant) -> Instant {
        let (mut spell, then) = stalled(budget, started);
        assert_eq!(spell.step, Step::Yield);
        budget.advance(&mut spell, then + GAP);
        assert_eq!(spell.step, Step::Park);
        then + GAP
    }

    #[test]
    fn undisturbed_it_spins_then_yields_then_parks() {
        let mut budget = SpinBudget::new();
        for wait in 0..3 {
            let took = undisturbed(&mut budget, now() + wait * MOST);
            assert_eq!(took, (Some(MOST / UNYIELDING), MOST));
        }
    }

    #[test]
    fn a_gap_makes_it_yield_and_the_next_waits_spin_half_as_long() {
        let mut budget = SpinBudget::new();
        let (spell, then) = stalled(&mut budget, now());
        assert_eq!(spell.step, Step::Yield);
        assert_eq!(undisturbed(&mut budget, then), (None, MOST / 2));
    }

    #[test]
    fn a_gap_in_a_yield_makes_it_park_and_the_next_waits_hardly_spin() {
        let mut budget = SpinBudget::new();
        let then = crowded(&mut budget, now());
        assert_eq!(undisturbed(&mut budget, then), (None, LEAST));
    }

    #[test]
    fn another_gap_makes_it_park_without_a_yield_and_never_takes_all() {
        let mut budget = SpinBudget::new();
        let mut then = crowded(&mut budget, now());
        for _ in 0..100 {
            let (spell, later) = stalled(&mut budget, then);
            assert_eq!((spell.step, budget.limit), (Step::Park, LEAST));
            then = later;
        }
    }

    #[test]
    fn without_gaps_it_recovers_step_by_step() {
        let mut budget = SpinBudget::new();
        let mut then = crowded(&mut budget, now());
        let mut expected = LEAST;
        while expected < MOST {
            assert_eq!(budget.limit, expected);
            expected *= 2;
            then += RECOVERY;
            budget.begin(then);
        }
        assert_eq!((budget.limit, budget.changed), (MOST, None));
    }

    #[test]
    fn a_long_sleep_makes_good_for_all_gaps() {
        let mut budget = SpinBudget::new();
        let then = crowded(&mut budget, now());
        budget.begin(then + Duration::from_secs(1));
        assert_eq!(budget.limit, MOST);
    }

    #[test]
    fn a_clock_that_runs_backwards_is_no_gap() {
        let mut budget = SpinBudget::new();
        let started = now() + GAP;
        let mut spell = budget.begin(started);
        budget.advance(&mut spell, started - GAP);
        assert_eq!((spell.step, budget.limit), (Step::Spin, MOST));
    }
}
