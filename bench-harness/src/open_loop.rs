//! An open-loop pacer: messages come due at a fixed rate, whether or not the last one has been sent.
//!
//! A load generator that waits for the system under test sends less while that is slow, and measures least where
//! there is most to measure: coordinated omission (Gil Tene). Here the intended time of message `n` is
//! `start + n / rate`, computed anew for each `n` so that nothing drifts, and latency counts from it: a message that
//! was sent late because the one before it was held up has waited as a customer would have.

use std::time::Duration;

use hdrhistogram::Histogram;
use ringmain::clock::{Clock, Timestamp};

use crate::interrupt::interrupted;
use crate::stats::histogram;

/// On a core that is shared, the part of a wait that is left to the scheduler ends so much before the message is due.
const EARLY: Duration = Duration::from_micros(500);

/// Hands out intended times, waits for them, and keeps how late the sender was.
#[derive(Debug)]
pub(crate) struct Pacer {
    clock: Clock,
    start: u64,
    /// Nanoseconds between two messages of this sender.
    interval: f64,
    /// Nanoseconds from the start to the first message.
    phase: f64,
    /// Whether other threads need this core while there is nothing to send.
    shares_core: bool,
    /// Messages that were handed out.
    handed_out: u64,
    gave_up: bool,
    lateness: Histogram<u64>,
}

/// Until when messages are sent, and until when at the latest where the sender is behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Messages that come due at this moment or later are not sent.
    pub(crate) end: Timestamp,
    /// A sender that has not caught up by then gives up: the rate is beyond what can be sent.
    pub(crate) latest: Timestamp,
}

impl Pacer {
    /// A pacer for one of `senders` threads that together send `rate` messages a second from `start` on. Their
    /// messages come due in turn, not at the same time. Allocates; `rate` is positive, `sender` below `senders`.
    pub(crate) fn new(
        rate: f64,
        clock: Clock,
        start: Timestamp,
        (sender, senders): (usize, usize),
        shares_core: bool,
    ) -> Self {
        debug_assert!(rate > 0.0 && rate.is_finite() && sender < senders);
        let all = 1e9 / rate;
        Self {
            clock,
            start: start.as_nanos(),
            interval: all * senders as f64,
            phase: all * sender as f64,
            shares_core,
            handed_out: 0,
            gave_up: false,
            lateness: histogram(),
        }
    }

    /// The intended time of the next message, without waiting and without handing it out.
    pub(crate) fn next_intended(&self) -> Timestamp {
        // A double counts nanoseconds exactly for a hundred days, and the product is rounded once.
        let offset = (self.phase + self.handed_out as f64 * self.interval) as u64;
        Timestamp::from_nanos(self.start.saturating_add(offset))
    }

    /// Waits until the next message is due, and hands out its intended time; `None` when the run was interrupted, the
    /// message comes due at the end or later, or the sender is hopelessly behind. Never allocates.
    pub(crate) fn wait_until_due(&mut self, span: &Span) -> Option<Timestamp> {
        let intended = self.next_intended();
        if intended >= span.end {
            return None;
        }
        loop {
            if interrupted() {
                return None;
            }
            let now = self.clock.now();
            if now >= span.latest {
                self.gave_up = true;
                return None;
            }
            if now >= intended {
                self.handed_out += 1;
                self.lateness.saturating_record(now.since(intended).as_nanos() as u64);
                return Some(intended);
            }
            if self.shares_core {
                leave_core(intended.since(now));
            }
        }
    }

    /// Whether the sender gave up because it was too far behind.
    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// How late the sender was for its messages, in nanoseconds.
    pub(crate) fn into_lateness(self) -> Histogram<u64> {
        self.lateness
    }
}

/// Lets others have the core for a part of a wait; not so long that an interrupt would go unseen.
fn leave_core(wait: Duration) {
    const LONGEST: Duration = Duration::from_millis(50);
    match wait.checked_sub(2 * EARLY) {
        Some(rest) => std::thread::sleep((rest + EARLY).min(LONGEST)),
        None => std::thread::yield_now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer(rate: f64, clock: &Clock, turn: (usize, usize)) -> Pacer {
        Pacer::new(rate, clock.clone(), Timestamp::default(), turn, false)
    }

    fn until(end: Duration, latest: Duration) -> Span {
        let start = Timestamp::default();
        Span { end: start.after(end), latest: start.after(latest) }
    }

    #[test]
    fn intended_times_do_not_drift() {
        let (clock, _time) = Clock::manual();
        let mut pacer = pacer(3e6, &clock, (0, 1));
        for sent in [0, 1, 2, 3_000_000, 3_000_000_000] {
            pacer.handed_out = sent;
            assert!(pacer.next_intended().as_nanos().abs_diff(sent * 1_000 / 3) <= 1, "{sent}");
        }
    }

    #[test]
    fn several_senders_take_turns() {
        let (clock, _time) = Clock::manual();
        let mut due: Vec<_> = (0..4)
            .flat_map(|sender| {
                let mut pacer = pacer(1_000.0, &clock, (sender, 4));
                [0, 1].map(|sent| {
                    pacer.handed_out = sent;
                    pacer.next_intended().as_nanos() / 1_000_000
                })
            })
            .collect();
        due.sort_unstable();
        assert_eq!(due, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_stalled_sender_catches_up_and_its_messages_are_late() {
        let (clock, time) = Clock::manual();
        let mut pacer = pacer(1_000.0, &clock, (0, 1));
        time.advance(Duration::from_millis(20));
        let span = until(Duration::from_millis(10), Duration::from_millis(21));
        let due: Vec<_> = std::iter::from_fn(|| pacer.wait_until_due(&span)).collect();
        assert_eq!(due.len(), 10, "every message that came due, none left out");
        assert!(due.is_sorted_by(|a, b| a < b) && !pacer.gave_up());
        let lateness = pacer.into_lateness();
        for (found, expected) in [(lateness.min(), 11_000_000), (lateness.max(), 20_000_000)] {
            assert!(found.abs_diff(expected) * 1_000 <= expected, "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_sender_that_cannot_catch_up_gives_up() {
        let (clock, time) = Clock::manual();
        let mut pacer = pacer(1_000.0, &clock, (0, 1));
        let span = until(Duration::from_millis(10), Duration::from_millis(15));
        let mut sent = 0;
        while pacer.wait_until_due(&span).is_some() {
            sent += 1;
            time.advance(Duration::from_millis(3));
        }
        assert_eq!(sent, 5);
        assert!(pacer.gave_up());
    }

    #[test]
    fn nothing_is_handed_out_before_it_is_due() {
        for shares_core in [false, true] {
            let clock = Clock::hardware();
            let start = clock.now();
            let mut pacer = Pacer::new(2_000.0, clock.clone(), start, (0, 1), shares_core);
            let end = start.after(Duration::from_millis(5));
            let span = Span { end, latest: end.after(Duration::from_secs(60)) };
            let mut sent = 0;
            while let Some(intended) = pacer.wait_until_due(&span) {
                assert!(clock.now() >= intended);
                sent += 1;
            }
            assert_eq!(sent, 10);
        }
    }
}
