//! An open-loop pacer: messages come due at a fixed rate, whether or not the last one has been
//! sent.
//!
//! A load generator that waits for the system under test sends less while that is slow, and
//! measures least where there is most to measure: coordinated omission (Gil Tene). Here message `n`
//! comes due at `start + n / rate`, computed anew for each `n` so that nothing drifts, and latency
//! counts from then: a message that was sent late because the one before it was held up has waited
//! as a customer would have.
//!
//! Every message that came due is accounted for. It is sent, be it late, or it is *omitted*: then
//! its lateness, and with it the least that its latency can have been, counts up to the end of the
//! run. A sender omits messages for two reasons only. The run is interrupted; or the sender is
//! beyond saturation, which it is when it has worked for longer than the messages were due for, and
//! still is not done. Time in which it stood still is no work: whoever can keep a rate catches up
//! after a stall, and is given the time for it.

use std::time::Duration;

use hdrhistogram::Histogram;
use ringmain::clock::{Clock, Timestamp};

use crate::interrupt::interrupted;
use crate::machine::usage::thread_cpu_time;
use crate::report::{OpenLoop, Switches};
use crate::stats::{LatencyNs, Stalls, histogram};
use crate::units;

/// On a core that is shared, the part of a wait that is left to the scheduler ends so much before
/// the message is due.
const EARLY: Duration = Duration::from_micros(500);
/// A message that is sent so long after it was due is counted as late.
pub(crate) const LATE: Duration = Duration::from_millis(1);
/// A thread that is away for so long stands still. Interrupts and time slices are shorter.
pub(crate) const STALL: Duration = Duration::from_millis(10);
/// Stalls of the engine lengthen a sender's patience by so much at most: they may never end.
const MAX_ENGINE_STALL: Duration = Duration::from_secs(10);
/// Between two looks at the processor time of a sender.
const CPU_PAUSE: Duration = Duration::from_millis(100);

/// The moments at which the messages of one sender come due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: u64,
    /// Nanoseconds between two messages.
    interval: f64,
    /// Nanoseconds from the start to the first message.
    phase: f64,
}

impl Schedule {
    /// The schedule of one of `senders` threads that together send `rate` messages a second from
    /// `start` on. Their messages come due in turn, not at the same time. `rate` is positive,
    /// `sender` below `senders`.
    pub(crate) fn new(rate: f64, start: Timestamp, (sender, senders): (usize, usize)) -> Self {
        debug_assert!(rate > 0.0 && rate.is_finite() && sender < senders);
        let all = 1e9 / rate;
        Self { start: start.as_nanos(), interval: all * senders as f64, phase: all * sender as f64 }
    }

    /// Returns when a message comes due.
    pub(crate) fn due(&self, number: u64) -> Timestamp {
        // A double counts nanoseconds exactly for a hundred days, and the product is rounded once.
        let offset = (self.phase + number as f64 * self.interval) as u64;
        Timestamp::from_nanos(self.start.saturating_add(offset))
    }

    /// Returns how many messages come due before a moment.
    fn due_before(&self, end: Timestamp) -> u64 {
        let span = end.as_nanos().saturating_sub(self.start) as f64 - self.phase;
        let mut count = (span / self.interval).max(0.0) as u64;
        // The quotient may be off by the rounding of a double.
        while self.due(count) < end {
            count += 1;
        }
        while count > 0 && self.due(count - 1) >= end {
            count -= 1;
        }
        count
    }
}

/// The span in which messages come due, and the time that a sender beyond saturation is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: Timestamp,
    /// Messages that come due at this moment or later are not sent.
    end: Timestamp,
    /// The time after the end in which a sender may still work.
    patience: Duration,
}

impl Span {
    /// A span whose sender has a quarter of its length more to send what came due.
    pub(crate) fn new(start: Timestamp, lasting: Duration) -> Self {
        Self { start, end: start.after(lasting), patience: lasting / 4 + Duration::from_millis(100) }
    }

    /// A span whose sender stops at its end, whatever has come due: for finding out what it
    /// manages.
    pub(crate) fn without_patience(start: Timestamp, lasting: Duration) -> Self {
        Self { start, end: start.after(lasting), patience: Duration::ZERO }
    }

    /// Returns the moment at which the first message comes due.
    pub(crate) fn start(&self) -> Timestamp {
        self.start
    }

    /// Returns the moment from which on no message comes due.
    pub(crate) fn end(&self) -> Timestamp {
        self.end
    }
}

/// How a sender gets on while it waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// Other threads need this core while there is nothing to send.
    pub(crate) shares_core: bool,
    /// A call that sends may sleep until there is room.
    pub(crate) may_park: bool,
}

/// What became of the messages that came due.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// Messages that came due and were not sent.
    pub(crate) omitted: u64,
    /// Messages that were sent [`LATE`] or later.
    pub(crate) late: u64,
    /// How late each message was sent; for one that was omitted, how late it was at the end.
    pub(crate) lateness: Histogram<u64>,
    /// The machine, or the process, stood still: a sender did not run, and nobody but them had
    /// asked it not to.
    pub(crate) machine_stalls: Stalls,
    /// A call that sends did not come back for so long: the engine held its sender up.
    pub(crate) publish_stalls: Stalls,
    /// A sender could not keep the rate, stalls apart.
    pub(crate) is_saturated: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent: 0,
            omitted: 0,
            late: 0,
            lateness: histogram(),
            machine_stalls: Stalls::default(),
            publish_stalls: Stalls::default(),
            is_saturated: false,
        }
    }
}

impl Tally {
    /// Returns the account as reports have it.
    pub(crate) fn to_report(&self, switches: Option<Switches>) -> OpenLoop {
        let stalls = |stalls: Stalls| (stalls.count > 0).then_some(stalls);
        OpenLoop {
            sent: self.sent,
            late: self.late,
            omitted: self.omitted,
            lateness_ns: LatencyNs::of(&self.lateness),
            saturated: self.is_saturated,
            machine_stalls: stalls(self.machine_stalls),
            publish_stalls: stalls(self.publish_stalls),
            involuntary_switches: switches,
        }
    }

    /// Says in words who stood still, and what became of messages that were not sent.
    pub(crate) fn blame(&self) -> Vec<String> {
        let mut blame = Vec::new();
        let (machine, publish) = (self.machine_stalls, self.publish_stalls);
        let stalls = |stalls: Stalls| {
            let [longest, total] = [stalls.longest_ns, stalls.total_ns].map(|ns| units::time(ns as f64));
            let count = units::times(stalls.count);
            format!("{count} for 10 ms or more, {longest} at most and {total} in all")
        };
        if machine.count > 0 {
            blame.push(format!(
                "the machine, or this process, stood still {}: latencies of that size tell of it, and \
                 not of the engine",
                stalls(machine)
            ));
        }
        if publish.count > 0 {
            blame.push(format!(
                "the engine, or a handler, held a publisher up {}: whatever came due meanwhile counts \
                 with the time it had to wait",
                stalls(publish)
            ));
        }
        if self.omitted > 0 {
            blame.push(format!(
                "{} messages came due and were not sent; each counts with the time it had waited when \
                 its part of the run ended, which is the least that it can have been",
                units::grouped(self.omitted)
            ));
        }
        blame
    }

    /// Adds what became of other messages.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.omitted += other.omitted;
        self.late += other.late;
        self.lateness.add(&other.lateness).expect("histograms of the same bounds");
        self.machine_stalls.add(&other.machine_stalls);
        self.publish_stalls.add(&other.publish_stalls);
        self.is_saturated |= other.is_saturated;
    }
}

/// Hands out due times, waits for them, and accounts for every message that came due.
#[derive(Debug)]
pub(crate) struct Pacer {
    clock: Clock,
    schedule: Schedule,
    span: Span,
    manners: Manners,
    /// The moment at which the sender gives up.
    latest: Timestamp,
    /// The last moment at which the sender was seen at work.
    seen: Timestamp,
    /// When the processor time was looked at, and what it was.
    cpu_seen: (Timestamp, Option<Duration>),
    /// The moment at which the run was seen to be interrupted.
    interrupted_at: Option<Timestamp>,
    has_given_up: bool,
    tally: Tally,
}

impl Pacer {
    /// Makes a pacer, which allocates. Call it on the thread that sends.
    pub(crate) fn new(schedule: Schedule, clock: Clock, span: Span, manners: Manners) -> Self {
        let now = clock.now();
        Self {
            clock,
            schedule,
            span,
            manners,
            latest: span.end.after(span.patience),
            // A thread that is not there when the first message comes due stands still.
            seen: now.max(span.start),
            cpu_seen: (now, thread_cpu_time()),
            interrupted_at: None,
            has_given_up: false,
            tally: Tally::default(),
        }
    }

    /// Waits until the next message is due, and hands out when that was; `None` when the run was
    /// interrupted, no further message comes due, or the sender is beyond saturation. Never
    /// allocates.
    pub(crate) fn wait_until_due(&mut self) -> Option<Timestamp> {
        let due = self.schedule.due(self.tally.sent);
        let mut is_back_from_sending = true;
        loop {
            if interrupted() {
                self.interrupted_at = Some(self.clock.now());
                return None;
            }
            let now = self.clock.now();
            if now.since(self.seen) >= STALL {
                self.account_for_stall(now, is_back_from_sending);
            }
            self.seen = now;
            is_back_from_sending = false;
            if due >= self.span.end {
                return None;
            }
            if now >= self.latest {
                self.has_given_up = true;
                return None;
            }
            if now >= due {
                let lateness = now.since(due);
                self.tally.sent += 1;
                self.tally.late += u64::from(lateness >= LATE);
                self.tally.lateness.saturating_record(lateness.as_nanos() as u64);
                return Some(due);
            }
            if now.since(self.cpu_seen.0) >= CPU_PAUSE {
                self.cpu_seen = (now, thread_cpu_time());
            }
            if self.manners.shares_core {
                // It was asked to be away for so long.
                self.seen = now.after(leave_core(due.since(now)));
            }
        }
    }

    /// Decides who stood still.
    #[cold]
    fn account_for_stall(&mut self, now: Timestamp, is_back_from_sending: bool) {
        let stall = now.since(self.seen);
        let (cpu_then, cpu_now) = (self.cpu_seen, thread_cpu_time());
        self.cpu_seen = (now, cpu_now);
        // A sender that never sleeps has run all the time, unless somebody kept it from running.
        let ran = cpu_then.1.zip(cpu_now).map(|(then, now)| now.saturating_sub(then));
        let was_away = ran.is_some_and(|ran| now.since(cpu_then.0).saturating_sub(ran) >= stall / 2);
        if is_back_from_sending && (self.manners.may_park || !was_away) {
            self.tally.publish_stalls.record(stall);
        } else {
            self.tally.machine_stalls.record(stall);
        }
        if !self.span.patience.is_zero() {
            let by_engine = self.tally.publish_stalls.total().min(MAX_ENGINE_STALL);
            let extension = self.tally.machine_stalls.total() + by_engine;
            self.latest = self.span.end.after(self.span.patience + extension);
        }
    }

    /// Accounts for all messages once the run is over. Those that were omitted are recorded in
    /// `latency` too: none can have been handled sooner than at its end.
    pub(crate) fn finish(mut self, ended: Timestamp, latency: &mut Histogram<u64>) -> Tally {
        let end = self.interrupted_at.map_or(self.span.end, |at| at.min(self.span.end));
        let (first, count) = (self.tally.sent, self.schedule.due_before(end));
        self.tally.omitted = count.saturating_sub(first);
        for times in [&mut self.tally.lateness, latency] {
            record_omitted(times, &self.schedule, first..count, ended);
        }
        let is_stuck = self.tally.publish_stalls.total() > MAX_ENGINE_STALL;
        self.tally.is_saturated = self.has_given_up && !is_stuck;
        self.tally
    }
}

/// Records how late each of some messages was at the end. There may be billions of them: all that
/// fall into one bucket of the histogram are recorded together.
fn record_omitted(
    times: &mut Histogram<u64>,
    schedule: &Schedule,
    numbers: std::ops::Range<u64>,
    ended: Timestamp,
) {
    let lateness = |number| ended.since(schedule.due(number)).as_nanos() as u64;
    let mut rest = numbers;
    while !rest.is_empty() {
        // The one that came due last is the least late.
        let least = lateness(rest.end - 1);
        let most = times.highest_equivalent(least.min(times.high()));
        let is_last_bucket = most >= times.high();
        let earliest_due = Timestamp::from_nanos(ended.as_nanos().saturating_sub(most));
        let others = if is_last_bucket { rest.start } else { schedule.due_before(earliest_due) };
        let others = others.clamp(rest.start, rest.end - 1);
        times.saturating_record_n(least, rest.end - others);
        rest.end = others;
    }
}

/// Lets others have the core for a part of a wait; not so long that an interrupt would go unseen.
/// Returns how long it meant to be away.
fn leave_core(wait: Duration) -> Duration {
    const MAX_NAP: Duration = Duration::from_millis(50);
    match wait.checked_sub(2 * EARLY) {
        Some(rest) => {
            let away = (rest + EARLY).min(MAX_NAP);
            std::thread::sleep(away);
            away
        }
        None => {
            std::thread::yield_now();
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use ringmain::clock::VirtualTime;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A pacer of 1,000 messages a second, on a clock that stands still until it is moved.
    fn pacer(lasting: Duration, manners: Manners) -> (Pacer, VirtualTime) {
        let (clock, time) = Clock::manual();
        let start = Timestamp::default();
        let schedule = Schedule::new(1_000.0, start, (0, 1));
        (Pacer::new(schedule, clock, Span::new(start, lasting), manners), time)
    }

    /// Sends all, each call of which takes as long as `call` says; moves the clock on while nothing
    /// is due. Returns the account, and what was recorded of omitted messages.
    fn send_all(
        (mut pacer, time): (Pacer, VirtualTime),
        mut call: impl FnMut(u64) -> Duration,
    ) -> (Tally, Histogram<u64>) {
        // Nobody else moves this clock: what is not due yet must be made due first.
        loop {
            let (now, due) = (pacer.clock.now(), pacer.schedule.due(pacer.tally.sent));
            if due < pacer.span.end {
                // As a thread that spins: it looks at the clock now and then.
                let mut left = due.since(now);
                while !left.is_zero() {
                    let step = left.min(STALL / 2);
                    time.advance(step);
                    left -= step;
                    pacer.seen = pacer.clock.now();
                }
            }
            if pacer.wait_until_due().is_none() {
                break;
            }
            time.advance(call(pacer.tally.sent - 1));
        }
        let (ended, mut omitted) = (pacer.clock.now(), histogram());
        let tally = pacer.finish(ended, &mut omitted);
        (tally, omitted)
    }

    #[track_caller]
    fn is_about(found: u64, expected: Duration) {
        let expected = expected.as_nanos() as u64;
        assert!(found.abs_diff(expected) * 500 <= expected, "{found} instead of {expected}");
    }

    #[test]
    fn due_times_do_not_drift_and_are_counted_exactly() {
        let schedule = Schedule::new(3e6, Timestamp::from_nanos(7), (0, 1));
        for number in [0, 1, 2, 3_000_000, 3_000_000_000] {
            assert!(schedule.due(number).as_nanos().abs_diff(7 + number * 1_000 / 3) <= 1, "{number}");
            assert_eq!(schedule.due_before(schedule.due(number)), number);
            let next = Timestamp::from_nanos(schedule.due(number).as_nanos() + 1);
            assert_eq!(schedule.due_before(next), number + 1);
        }
    }

    #[test]
    fn several_senders_take_turns() {
        let mut due: Vec<_> = (0..4)
            .flat_map(|sender| {
                let schedule = Schedule::new(1_000.0, Timestamp::default(), (sender, 4));
                [0, 1].map(|number| schedule.due(number).as_nanos() / 1_000_000)
            })
            .collect();
        due.sort_unstable();
        assert_eq!(due, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_sender_that_keeps_up_sends_all_in_time() {
        let (tally, omitted) = send_all(pacer(100 * MS, Manners::default()), |_| MS / 10);
        assert_eq!((tally.sent, tally.omitted, tally.late), (100, 0, 0));
        assert_eq!((tally.lateness.len(), tally.lateness.max(), omitted.len()), (100, 0, 0));
        assert!(!tally.is_saturated && tally.machine_stalls.count + tally.publish_stalls.count == 0);
    }

    #[test]
    fn after_a_stall_that_outlasts_the_span_every_message_is_sent_late() {
        // Long past any patience but for what a stall adds to it.
        let (mut pacer, time) = pacer(100 * MS, Manners::default());
        let mut sent = 0;
        time.advance(3_000 * MS);
        while let Some(due) = pacer.wait_until_due() {
            assert_eq!(due.as_nanos(), sent * 1_000_000);
            sent += 1;
        }
        let ended = pacer.clock.now();
        let tally = pacer.finish(ended, &mut histogram());
        assert_eq!((sent, tally.sent, tally.omitted, tally.late), (100, 100, 0, 100));
        is_about(tally.lateness.max(), 3_000 * MS);
        is_about(tally.lateness.min(), 2_901 * MS);
        assert_eq!((tally.machine_stalls.count, tally.machine_stalls.total()), (1, 3_000 * MS));
        assert!(!tally.is_saturated, "nobody was overloaded: {tally:?}");
    }

    #[test]
    fn a_call_that_stalls_is_blamed_on_the_engine_where_its_sender_may_have_slept() {
        let stalls_once = |number| if number == 20 { 700 * MS } else { MS / 100 };
        let parking = Manners { may_park: true, ..Manners::default() };
        let (tally, _) = send_all(pacer(100 * MS, parking), stalls_once);
        assert_eq!((tally.sent, tally.omitted), (100, 0));
        assert_eq!((tally.publish_stalls.count, tally.machine_stalls.count), (1, 0));
        // Those that came due meanwhile, and those that came due while it caught up.
        assert_eq!(tally.late, 79);
        // This thread has not worked for 700 ms: had it spun, somebody must have kept it from
        // running.
        let (tally, _) = send_all(pacer(100 * MS, Manners::default()), stalls_once);
        assert_eq!(tally.sent, 100);
        if thread_cpu_time().is_some() {
            assert_eq!((tally.publish_stalls.count, tally.machine_stalls.count), (0, 1));
        }
    }

    #[test]
    fn beyond_saturation_what_was_omitted_counts_with_its_lateness_at_the_end() {
        // Each call takes three times as long as there is.
        let (tally, omitted) = send_all(pacer(1_000 * MS, Manners::default()), |_| 3 * MS);
        assert!(tally.is_saturated);
        assert_eq!(tally.sent + tally.omitted, 1_000, "every message that came due");
        // A quarter of the span and 100 ms more.
        assert_eq!(tally.sent, 450);
        assert_eq!((tally.lateness.len(), omitted.len()), (1_000, tally.omitted));
        is_about(omitted.max(), 1_350 * MS - 450 * MS);
        is_about(omitted.min(), 1_350 * MS - 999 * MS);
        is_about(omitted.value_at_quantile(0.5), 1_350 * MS - 725 * MS);
    }

    #[test]
    fn stalls_make_nobody_saturated_who_can_keep_the_rate_and_excuse_nobody_who_cannot() {
        let stalls_often = |busy| move |number| if number % 100 == 50 { 200 * MS } else { busy };
        let (tally, _) = send_all(pacer(1_000 * MS, Manners::default()), stalls_often(MS * 9 / 10));
        assert_eq!((tally.sent, tally.omitted, tally.is_saturated), (1_000, 0, false));
        let (tally, _) = send_all(pacer(1_000 * MS, Manners::default()), stalls_often(3 * MS));
        assert!(tally.is_saturated && tally.omitted > 0 && tally.sent + tally.omitted == 1_000);
    }

    #[test]
    fn an_engine_that_stands_still_for_good_is_neither_waited_for_nor_taken_for_saturation() {
        let parking = Manners { may_park: true, ..Manners::default() };
        let (tally, omitted) = send_all(pacer(1_000 * MS, parking), |_| 6_000 * MS);
        assert_eq!((tally.sent, tally.omitted, omitted.len()), (2, 998, 998));
        assert_eq!((tally.publish_stalls.count, tally.is_saturated), (2, false));
    }

    #[test]
    fn billions_of_omitted_messages_are_recorded_in_no_time() {
        let (clock, time) = Clock::manual();
        let (start, week) = (Timestamp::default(), Duration::from_secs(604_800));
        let schedule = Schedule::new(1e9, start, (0, 1));
        let pacer = Pacer::new(schedule, clock.clone(), Span::new(start, week), Manners::default());
        time.advance(week);
        let mut latency = histogram();
        let tally = pacer.finish(clock.now(), &mut latency);
        assert_eq!(tally.omitted, 604_800_000_000_000);
        assert_eq!((latency.len(), tally.lateness.len()), (tally.omitted, tally.omitted));
        // All but the last hour is longer than the longest time that is recorded as it is.
        is_about(latency.value_at_quantile(0.001), Duration::from_secs_f64(604.8));
        is_about(latency.value_at_quantile(0.5), Duration::from_secs(3_600));
    }

    #[test]
    fn nothing_is_handed_out_before_it_is_due() {
        for shares_core in [false, true] {
            let clock = Clock::hardware();
            let start = clock.now();
            let schedule = Schedule::new(2_000.0, start, (0, 1));
            let manners = Manners { shares_core, ..Manners::default() };
            let mut pacer = Pacer::new(schedule, clock.clone(), Span::new(start, 5 * MS), manners);
            let mut sent = 0;
            while let Some(due) = pacer.wait_until_due() {
                assert!(clock.now() >= due);
                sent += 1;
            }
            assert_eq!(sent, 10);
        }
    }
}
