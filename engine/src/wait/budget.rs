//! How long an adaptive thread may spin, and how it finds out.
//!
//! Spinning pays while nobody else wants the core. An interrupt, or a hypervisor that runs another
//! machine, takes the core away too, but says nothing of other threads. The two are told apart by what
//! the system counts for each thread ([`Usage`], on Linux): how often it had to give its core to another
//! thread, and how long it ran. What it did not run of the time between two looks, if it had to give its
//! core away meanwhile and did not go to sleep by itself, is what others took.
//!
//! A look is a system call or two, so it is taken only where there may be something to see:
//!
//! * A thread that spins reads its clock every few dozen looks at what it waits for, some hundred
//!   nanoseconds apart. Two readings that lie further apart than [`GAP`] mean that it was not running.
//! * The event may have come meanwhile, and ends the wait before the next reading. So a wait begins with
//!   a look, unless the last one is so recent that others cannot have taken a [`SLICE`] since.
//!
//! Where the system does not count, and at the first look of all, a gap counts that is longer than any
//! interrupt: a whole slice. There the clock is read at the end of a wait too.
//!
//! What others took is added up, and a [`SHARE`] of the time that passes is forgiven. Kernel threads of
//! an idle machine take less than a thousandth of a core, a thread that competes for the core takes half
//! of it, in turns of milliseconds. Once the sum reaches a slice, the core is wanted: the wait parks, and
//! the waits that follow spin as little as can be. Each *recovery* in which the core was not wanted
//! doubles the budget again, and a whole one makes good for all that was. To find out in this way that
//! the core is wanted still costs a turn of the others. So the recovery is short after the first time,
//! and doubles each time that the core is found to be wanted soon after.
//!
//! The scheduler lets a spinning thread have its turn of milliseconds before it gives the core to
//! another, but a thread that yields hands it over at once. This is why the core is offered from time to
//! time even when nothing looks wrong. It is also why a thread that knows its core to be wanted yields no
//! more, and parks: a yield would cost it the others' whole turns, whoever they are, while a thread that
//! was parked is let in again as soon as it is woken. With seven busy threads on two cores the difference
//! is tenfold.
//!
//! No constant here is a property of one machine. Interrupts of some 50 µs that come a thousand times a
//! second are told from other threads by either measure, and so is a hypervisor where there is a count.

use crate::sync::thread::Usage;
use std::time::{Duration, Instant};

/// The longest that one wait spins and yields. Events that come 10,000 times a second find the thread
/// awake. A model knows no time, so there it has run out at the first look at the clock.
const MOST: Duration = if cfg!(ringmain_loom) { Duration::ZERO } else { Duration::from_micros(200) };
/// What is left of it where the core is wanted.
const LEAST: Duration = Duration::from_nanos(MOST.as_nanos() as u64 / 16);
/// The part of the budget that is spun through before the core is offered.
const UNYIELDING: u32 = 4;
/// The shortest gap that is looked into. A look takes less than a microsecond, a twentieth of it.
const GAP: Duration = Duration::from_micros(20);
/// What others may take at once. Shorter than the turn of a thread that competes for the core, which no
/// system makes shorter than some 700 µs by default; longer than any interrupt.
const SLICE: Duration = Duration::from_micros(500);
/// The part of a core, one in so many, that others may take for good.
const SHARE: u32 = 16;
/// The budget is doubled after so long a time in which the core was not wanted, at least and at most.
const MIN_RECOVERY: Duration = Duration::from_millis(10);
const MAX_RECOVERY: Duration = Duration::from_millis(320);
/// How many recoveries after a cut another one comes soon: twice those that make the budget whole.
const SOON: u32 = 8;

/// What a thread that waits does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Spin,
    Yield,
    Park,
}

/// What a budget reads: the time, and what the system counts for the calling thread.
pub(super) trait Readings {
    fn now(&mut self) -> Instant;
    fn usage(&mut self) -> Option<Usage>;
}

/// The readings of the machine. In a model time stands still.
pub(super) struct Real;

/// How long a thread may spin. Lives as long as the thread waits for the same thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpinBudget {
    limit: Duration,
    /// When the limit last changed; `None` while it is whole.
    changed: Option<Instant>,
    /// When the limit was last cut.
    cut: Option<Instant>,
    recovery: Duration,
    losses: Losses,
}

/// What other threads took of this one's time.
#[derive(Clone, Copy, Debug)]
struct Losses {
    /// What they took and was not forgiven yet, at most [`SLICE`].
    sum: Duration,
    /// The last look, and what it saw.
    looked: Option<(Instant, Option<Usage>)>,
}

/// One wait that spins within a budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spell {
    started: Instant,
    /// The last reading of the clock.
    seen: Instant,
    pub(super) step: Step,
}

impl Readings for Real {
    fn now(&mut self) -> Instant {
        #[cfg(ringmain_loom)]
        {
            static ONLY: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
            *ONLY.get_or_init(Instant::now)
        }
        #[cfg(not(ringmain_loom))]
        Instant::now()
    }

    fn usage(&mut self) -> Option<Usage> {
        Usage::of_thread()
    }
}

impl SpinBudget {
    pub(super) const fn new() -> Self {
        Self {
            limit: MOST,
            changed: None,
            cut: None,
            recovery: MIN_RECOVERY,
            losses: Losses { sum: Duration::ZERO, looked: None },
        }
    }

    /// Begins a wait.
    pub(super) fn begin(&mut self, readings: &mut impl Readings) -> Spell {
        let now = readings.now();
        self.recover(now);
        if self.losses.may_reach_a_slice(now) {
            self.look(Duration::ZERO, now, readings);
        }
        Spell { started: now, seen: now, step: self.after(Step::Spin, Duration::ZERO) }
    }

    /// Decides what a wait does next, by another reading of the clock.
    pub(super) fn advance(&mut self, spell: &mut Spell, readings: &mut impl Readings) {
        let now = readings.now();
        let gap = now.saturating_duration_since(spell.seen);
        spell.seen = now;
        spell.step = if gap >= GAP && self.look(gap, now, readings) {
            Step::Park
        } else {
            self.after(spell.step, now.saturating_duration_since(spell.started))
        };
    }

    /// Ends a wait, with what it waited for.
    pub(super) fn end(&mut self, spell: &mut Spell, readings: &mut impl Readings) {
        if self.losses.are_uncounted() {
            self.advance(spell, readings);
        }
    }

    /// What follows a step of a wait that has lasted for so long.
    fn after(&self, step: Step, spent: Duration) -> Step {
        let is_crowded = self.changed.is_some();
        match step {
            _ if spent >= self.limit => Step::Park,
            Step::Spin if !is_crowded && spent >= self.limit / UNYIELDING => Step::Yield,
            step => step,
        }
    }

    /// Looks what others have taken, and cuts the budget where the core is wanted. Returns whether it is.
    #[cold]
    fn look(&mut self, gap: Duration, now: Instant, readings: &mut impl Readings) -> bool {
        let is_wanted = self.losses.look(gap, now, readings.usage());
        if is_wanted {
            self.cut(now);
        }
        is_wanted
    }

    fn cut(&mut self, now: Instant) {
        let is_soon = self.cut.is_some_and(|then| now.saturating_duration_since(then) < self.recovery * SOON);
        if !is_soon {
            self.recovery = MIN_RECOVERY;
        } else if self.limit > LEAST {
            self.recovery = (self.recovery * 2).min(MAX_RECOVERY);
        }
        self.limit = LEAST;
        (self.cut, self.changed) = (Some(now), Some(now));
    }

    fn recover(&mut self, now: Instant) {
        while let Some(changed) = self.changed {
            if now.saturating_duration_since(changed) < self.recovery {
                return;
            }
            self.limit = (self.limit * 2).min(MOST);
            self.changed = (self.limit < MOST).then(|| changed + self.recovery);
        }
    }
}

impl Losses {
    /// Whether others can have taken a slice since the last look.
    fn may_reach_a_slice(&self, now: Instant) -> bool {
        self.looked.is_none_or(|(then, _)| now.saturating_duration_since(then) >= SLICE)
    }

    /// Whether a look has shown that the system does not count.
    fn are_uncounted(&self) -> bool {
        matches!(self.looked, Some((_, None)))
    }

    /// Adds what others took since the last look. `gap` is what is known to be missing just before `now`.
    /// Returns whether they took a slice.
    fn look(&mut self, gap: Duration, now: Instant, usage: Option<Usage>) -> bool {
        let before = self.looked.replace((now, usage));
        let passed = before.map_or(gap, |(then, _)| now.saturating_duration_since(then));
        let taken = match (before.and_then(|(_, usage)| usage), usage) {
            (Some(before), Some(after)) if before.thread == after.thread => taken(passed, gap, before, after),
            _ if gap >= SLICE => gap,
            _ => Duration::ZERO,
        };
        self.sum = (self.sum + taken).saturating_sub(passed / SHARE).min(SLICE);
        self.sum == SLICE
    }
}

/// What others took of the time that passed between two counts.
fn taken(passed: Duration, gap: Duration, before: Usage, after: Usage) -> Duration {
    if after.involuntary == before.involuntary {
        Duration::ZERO
    } else if after.voluntary == before.voluntary {
        passed.saturating_sub(after.running.saturating_sub(before.running))
    } else {
        // It went to sleep by itself as well, but not while it was spinning.
        gap
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    const READING: Duration = Duration::from_nanos(500);
    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    /// Between two events that come 10,000 times a second.
    const PAUSE: Duration = Duration::from_micros(100);

    /// What takes the core away, again and again.
    #[derive(Clone, Copy)]
    struct Disturbance {
        every: Duration,
        lasting: Duration,
        is_thread: bool,
        due: Duration,
    }

    /// A core on which one thread runs, unless it is disturbed.
    struct Machine {
        origin: Instant,
        passed: Duration,
        usage: Usage,
        counts: bool,
        disturbances: Vec<Disturbance>,
        looks: u32,
    }

    impl Machine {
        fn new(counts: bool) -> Self {
            let thread = std::thread::current().id();
            let usage = Usage { thread, involuntary: 7, voluntary: 3, running: SECOND };
            let (origin, passed) = (Instant::now(), Duration::ZERO);
            Self { origin, passed, usage, counts, disturbances: Vec::new(), looks: 0 }
        }

        fn interrupts(self, every: Duration, lasting: Duration) -> Self {
            self.disturbed(every, lasting, false)
        }

        fn threads(self, every: Duration, lasting: Duration) -> Self {
            self.disturbed(every, lasting, true)
        }

        fn disturbed(mut self, every: Duration, lasting: Duration, is_thread: bool) -> Self {
            self.disturbances.push(Disturbance { every, lasting, is_thread, due: self.passed + every });
            self
        }

        /// Has the thread run for so long; where it is disturbed, that takes longer.
        fn run(&mut self, lasting: Duration) {
            self.passed += lasting;
            self.usage.running += lasting;
            for which in 0..self.disturbances.len() {
                let Disturbance { every, lasting, is_thread, due } = self.disturbances[which];
                if due <= self.passed {
                    self.take(lasting, is_thread);
                    self.disturbances[which].due = self.passed + every;
                }
            }
        }

        /// Takes the core away once.
        fn take(&mut self, lasting: Duration, is_thread: bool) {
            self.passed += lasting;
            self.usage.involuntary += u64::from(is_thread);
        }

        /// Others have the core meanwhile, and it is the thread's turn when it wakes up.
        fn sleep(&mut self, lasting: Duration) {
            self.passed += lasting;
            self.usage.voluntary += 1;
            for other in self.disturbances.iter_mut().filter(|other| other.is_thread) {
                other.due = other.due.max(self.passed + other.every);
            }
        }

        /// One wait for an event that comes after so long a time. Returns how long the thread spun and
        /// yielded before it parked, if it did, and when it began to yield.
        fn wait(&mut self, budget: &mut SpinBudget, event: Duration) -> (Option<Duration>, Option<Duration>) {
            let started = self.passed;
            let (mut spell, mut yielding) = (budget.begin(self), None);
            while spell.step != Step::Park {
                self.run(READING);
                // The event is looked for before the clock is read.
                if self.passed - started >= event {
                    budget.end(&mut spell, self);
                    return (None, yielding);
                }
                budget.advance(&mut spell, self);
                if spell.step == Step::Yield {
                    yielding.get_or_insert(self.passed - started);
                }
            }
            let parked = self.passed - started;
            self.sleep(event.saturating_sub(parked));
            (Some(parked), yielding)
        }

        /// Events at 10,000 a second for so long a time, each handled at once. Returns how many found
        /// the thread parked, of how many.
        fn serve(&mut self, budget: &mut SpinBudget, lasting: Duration) -> (u32, u32) {
            let (mut parked, mut events) = (0, 0);
            let end = self.passed + lasting;
            while self.passed < end {
                parked += u32::from(self.wait(budget, PAUSE).0.is_some());
                events += 1;
                self.run(READING);
            }
            (parked, events)
        }
    }

    impl Readings for Machine {
        fn now(&mut self) -> Instant {
            self.origin + self.passed
        }

        fn usage(&mut self) -> Option<Usage> {
            self.looks += 1;
            self.counts.then_some(self.usage)
        }
    }

    /// A budget that was cut a moment ago.
    fn cut(machine: &mut Machine) -> SpinBudget {
        let mut budget = SpinBudget::new();
        let mut spell = budget.begin(machine);
        machine.take(MILLISECOND, true);
        budget.advance(&mut spell, machine);
        assert_eq!((spell.step, budget.limit), (Step::Park, LEAST));
        budget
    }

    #[test]
    fn undisturbed_it_spins_then_yields_then_parks() {
        let (mut machine, mut budget) = (Machine::new(true), SpinBudget::new());
        for _ in 0..3 {
            assert_eq!(machine.wait(&mut budget, SECOND), (Some(MOST), Some(MOST / UNYIELDING)));
        }
    }

    #[test]
    fn no_timer_interrupt_makes_it_park_under_load() {
        for counts in [true, false] {
            for (hertz, micros) in [(100, 100), (250, 20), (250, 50), (1_000, 10), (1_000, 50)] {
                let mut machine =
                    Machine::new(counts).interrupts(SECOND / hertz, Duration::from_micros(micros));
                let (parked, events) = machine.serve(&mut SpinBudget::new(), SECOND / 5);
                assert_eq!(parked, 0, "of {events} at {hertz} Hz, {micros} µs each, counted: {counts}");
            }
        }
    }

    #[test]
    fn the_threads_of_an_idle_kernel_do_not_make_it_park_under_load() {
        let mut machine = Machine::new(true)
            .interrupts(SECOND / 250, Duration::from_micros(30))
            .threads(SECOND / 4, Duration::from_micros(300))
            .threads(SECOND / 1_000, Duration::from_micros(25));
        let (parked, events) = machine.serve(&mut SpinBudget::new(), SECOND);
        assert_eq!(parked, 0, "of {events}");
    }

    #[test]
    fn a_hypervisor_does_not_make_it_park_where_switches_are_counted() {
        let mut machine = Machine::new(true).interrupts(SECOND / 50, 5 * MILLISECOND);
        let (parked, events) = machine.serve(&mut SpinBudget::new(), SECOND);
        assert_eq!(parked, 0, "of {events}");
    }

    #[test]
    fn a_thread_that_competes_for_the_core_makes_nearly_all_waits_park() {
        for counts in [true, false] {
            for turn in [Duration::from_micros(700), 3 * MILLISECOND, 10 * MILLISECOND] {
                // It has a turn of its own between two of the other's.
                let mut machine = Machine::new(counts).threads(turn, turn);
                let mut budget = SpinBudget::new();
                let (parked, events) = machine.serve(&mut budget, SECOND / 2);
                assert!(
                    parked >= events * 4 / 5,
                    "{parked} of {events}, turns of {turn:?}, counted: {counts}"
                );
            }
        }
    }

    #[test]
    fn what_others_take_while_events_are_ready_is_counted_at_the_next_wait() {
        let (mut machine, mut budget) = (Machine::new(true), SpinBudget::new());
        assert_eq!(machine.wait(&mut budget, PAUSE), (None, Some(MOST / UNYIELDING)));
        machine.take(SLICE * 2, true);
        assert_eq!(machine.wait(&mut budget, SECOND), (Some(LEAST), None));
    }

    #[test]
    fn many_short_turns_of_others_are_as_bad_as_a_long_one() {
        let mut machine = Machine::new(true).threads(2 * PAUSE, PAUSE / 2);
        let (parked, events) = machine.serve(&mut SpinBudget::new(), SECOND / 10);
        assert!(parked >= events / 2, "{parked} of {events}");
    }

    #[test]
    fn a_handler_that_sleeps_or_takes_long_does_not_make_it_park_sooner() {
        let (mut machine, mut budget) = (Machine::new(true), SpinBudget::new());
        for _ in 0..100 {
            assert_eq!(machine.wait(&mut budget, PAUSE).0, None);
            machine.take(Duration::from_micros(30), true);
            machine.sleep(10 * MILLISECOND);
            assert_eq!(machine.wait(&mut budget, PAUSE).0, None);
            machine.take(Duration::from_micros(30), true);
            machine.run(10 * MILLISECOND);
        }
    }

    #[test]
    fn a_gap_in_which_others_had_the_core_makes_it_park_at_once() {
        let mut machine = Machine::new(true);
        let mut budget = cut(&mut machine);
        assert_eq!(machine.wait(&mut budget, SECOND), (Some(LEAST), None));
    }

    #[test]
    fn it_looks_seldom_while_nothing_is_wrong() {
        let (mut machine, mut budget) = (Machine::new(true), SpinBudget::new());
        let (_, events) = machine.serve(&mut budget, SECOND);
        assert!(machine.looks <= events / 4, "{} looks in {events} waits", machine.looks);
    }

    #[test]
    fn another_thread_starts_with_a_count_of_its_own() {
        let (mut machine, mut budget) = (Machine::new(true), SpinBudget::new());
        machine.wait(&mut budget, PAUSE);
        machine.usage = std::thread::scope(|scope| {
            let other = scope.spawn(|| std::thread::current().id());
            let thread = other.join().expect("a thread that names itself");
            Usage { thread, involuntary: 99, ..machine.usage }
        });
        machine.passed += SECOND;
        assert_eq!(machine.wait(&mut budget, SECOND).0, Some(MOST));
    }

    #[test]
    fn it_recovers_step_by_step() {
        let mut machine = Machine::new(true);
        let mut budget = cut(&mut machine);
        let mut expected = LEAST;
        while expected < MOST {
            assert_eq!(budget.limit, expected);
            expected *= 2;
            machine.sleep(MIN_RECOVERY);
            budget.begin(&mut machine);
        }
        assert_eq!((budget.limit, budget.changed), (MOST, None));
    }

    /// How long the budget takes to recover by one step.
    fn recovery(budget: &mut SpinBudget, machine: &mut Machine) -> Duration {
        let started = machine.passed;
        while budget.limit == LEAST {
            machine.sleep(MILLISECOND);
            budget.begin(machine);
        }
        machine.passed - started
    }

    #[test]
    fn it_recovers_more_slowly_each_time_that_the_core_is_wanted_still() {
        let mut machine = Machine::new(true);
        let mut budget = cut(&mut machine);
        let mut expected = MIN_RECOVERY;
        for _ in 0..10 {
            assert_eq!(recovery(&mut budget, &mut machine), expected);
            expected = (expected * 2).min(MAX_RECOVERY);
            budget.cut(machine.now());
        }
        assert_eq!(expected, MAX_RECOVERY);
        machine.sleep(MAX_RECOVERY * SOON);
        budget.cut(machine.now());
        assert_eq!(recovery(&mut budget, &mut machine), MIN_RECOVERY, "it was long ago");
    }

    #[test]
    fn a_turn_of_others_now_and_then_costs_little() {
        let mut machine = Machine::new(true).threads(SECOND / 4, 4 * MILLISECOND);
        let (parked, events) = machine.serve(&mut SpinBudget::new(), 2 * SECOND);
        assert!(parked <= events / 5, "{parked} of {events}");
    }

    #[test]
    fn a_long_sleep_makes_good_for_all_that_was() {
        let mut machine = Machine::new(true);
        let mut budget = cut(&mut machine);
        machine.sleep(SECOND);
        budget.begin(&mut machine);
        assert_eq!(budget.limit, MOST);
    }

    #[test]
    fn a_clock_that_runs_backwards_is_no_gap() {
        let (mut machine, mut budget) = (Machine::new(true), SpinBudget::new());
        machine.passed = SECOND;
        let mut spell = budget.begin(&mut machine);
        machine.passed = Duration::ZERO;
        budget.advance(&mut spell, &mut machine);
        assert_eq!((spell.step, budget.limit), (Step::Spin, MOST));
    }
}
