//! An open-loop pacer: messages come due at a fixed rate, whether or not the last one has been sent.
//!
//! A load generator that waits for the system under test sends less while that is slow, and measures least where
//! there is most to measure: coordinated omission (Gil Tene). Here the intended time of message `n` is
//! `start + n / rate`, computed anew for each `n` so that nothing drifts, and latency counts from it: a message that
//! was sent late because the one before it was held up has waited as a customer would have.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::interrupt::interrupted;
use crate::stats::histogram;

/// Hands out intended times, waits for them by spinning, and keeps how late the sender was.
#[derive(Debug)]
pub(crate) struct Pacer {
    start: Instant,
    /// Nanoseconds between two messages of this sender.
    interval: f64,
    /// Nanoseconds from the start to the first message.
    phase: f64,
    /// Messages that were handed out.
    handed_out: u64,
    lateness: Histogram<u64>,
}

impl Pacer {
    /// A pacer for one of `senders` threads that together send `rate` messages a second from `start` on. Their
    /// messages come due in turn, not at the same time. Allocates; `rate` is positive, `sender` below `senders`.
    pub(crate) fn new(rate: f64, start: Instant, sender: usize, senders: usize) -> Self {
        debug_assert!(rate > 0.0 && rate.is_finite() && sender < senders);
        let all = 1e9 / rate;
        Self {
            start,
            interval: all * senders as f64,
            phase: all * sender as f64,
            handed_out: 0,
            lateness: histogram(),
        }
    }

    /// The intended time of the next message, without waiting and without handing it out.
    pub(crate) fn next_intended(&self) -> Instant {
        // A double counts nanoseconds exactly for a hundred days, and the product is rounded once.
        self.start + Duration::from_nanos((self.phase + self.handed_out as f64 * self.interval) as u64)
    }

    /// Spins until the next message is due, and hands out its intended time; `None` when the run was interrupted, or
    /// the message comes due at `end` or later. Never allocates.
    pub(crate) fn wait_until_due(&mut self, end: Instant) -> Option<Instant> {
        let intended = self.next_intended();
        if intended >= end {
            return None;
        }
        loop {
            if interrupted() {
                return None;
            }
            let now = Instant::now();
            if now >= intended {
                self.handed_out += 1;
                self.lateness.saturating_record((now - intended).as_nanos() as u64);
                return Some(intended);
            }
        }
    }

    /// Messages that were handed out.
    pub(crate) fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// How late the sender was for its messages, in nanoseconds.
    pub(crate) fn into_lateness(self) -> Histogram<u64> {
        self.lateness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intended_times_do_not_drift() {
        let start = Instant::now();
        let mut pacer = Pacer::new(3e6, start, 0, 1);
        for sent in [0, 1, 2, 3_000_000, 3_000_000_000] {
            pacer.handed_out = sent;
            let expected = Duration::from_nanos(sent * 1_000 / 3);
            assert!((pacer.next_intended() - start).abs_diff(expected) <= Duration::from_nanos(1), "{sent}");
        }
    }

    #[test]
    fn several_senders_take_turns() {
        let start = Instant::now();
        let mut due: Vec<_> = (0..4)
            .flat_map(|sender| {
                let mut pacer = Pacer::new(1_000.0, start, sender, 4);
                [0, 1].map(|sent| {
                    pacer.handed_out = sent;
                    (pacer.next_intended() - start).as_millis()
                })
            })
            .collect();
        due.sort_unstable();
        assert_eq!(due, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_stalled_sender_catches_up_and_its_messages_are_late() {
        let stall = Duration::from_millis(20);
        let start = Instant::now().checked_sub(stall).expect("a machine that is up for 20 ms");
        let mut pacer = Pacer::new(1_000.0, start, 0, 1);
        let end = start + Duration::from_millis(10);
        let mut last = None;
        while let Some(intended) = pacer.wait_until_due(end) {
            assert!(last.is_none_or(|last| last < intended));
            last = Some(intended);
        }
        assert_eq!(pacer.handed_out(), 10, "every message that came due, none left out");
        let lateness = pacer.into_lateness();
        assert!(lateness.min() >= 10_990_000, "{}", lateness.min());
        assert!(lateness.max() >= 19_990_000, "{}", lateness.max());
    }

    #[test]
    fn nothing_is_handed_out_before_it_is_due() {
        let start = Instant::now();
        let mut pacer = Pacer::new(2_000.0, start, 0, 1);
        let end = start + Duration::from_millis(5);
        while let Some(intended) = pacer.wait_until_due(end) {
            assert!(Instant::now() >= intended);
        }
        assert_eq!(pacer.handed_out(), 10);
    }
}
