//! The noise: how long this machine itself stalls a thread that does nothing but spin.
//!
//! A pinned thread reads its clock as fast as it can, and sees itself stalled as a gap between two
//! readings. Counting gaps would hide them: one gap of a millisecond among a million of 25 ns. What
//! matters is how long a message would have waited that came due in the gap, so one is imagined
//! every [`INTERVAL`], and what is recorded is how late the thread was for it. The percentiles then
//! compare with those of a latency, which counts from the intended time too.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::cores;
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::stats::{LatencyNs, histogram};

/// From this stall of a spinning thread on, one in a hundred, a machine is a noisy one. In
/// nanoseconds.
const NOISY: u64 = 100_000;
/// Nanoseconds between two imagined messages.
const INTERVAL: u64 = 1_000;

/// Spins on each of these cores for a while, all at once; every core's stalls in one histogram.
pub(crate) fn measure(places: &[Option<usize>], lasting: Duration) -> Result<Histogram<u64>, Error> {
    let all = Barrier::new(places.len());
    std::thread::scope(|scope| {
        let spinning: Vec<_> = places
            .iter()
            .map(|&core| {
                let all = &all;
                scope.spawn(move || {
                    let mut stalls = histogram();
                    let pinned = cores::pin(core);
                    all.wait();
                    pinned?;
                    spin(&mut stalls, lasting);
                    Ok::<_, Error>(stalls)
                })
            })
            .collect();
        let mut merged = histogram();
        for thread in spinning {
            merged += thread.join().expect("a spinning thread does not panic")?;
        }
        Ok(merged)
    })
}

/// Spins, and records for every imagined message how late it was seen. The time that recording
/// takes is not counted: messages that came due meanwhile are left out.
fn spin(stalls: &mut Histogram<u64>, lasting: Duration) {
    let started = Instant::now();
    let lasting = lasting.as_nanos() as u64;
    let mut due = INTERVAL;
    while !interrupted() {
        let now = started.elapsed().as_nanos() as u64;
        if now >= due {
            record_late(stalls, due, now);
            due = (started.elapsed().as_nanos() as u64 / INTERVAL + 1) * INTERVAL;
        }
        if now >= lasting {
            return;
        }
    }
}

/// Records the lateness of every message that came due from `due` to `now`.
fn record_late(stalls: &mut Histogram<u64>, due: u64, now: u64) {
    for message in (due..=now).step_by(INTERVAL as usize) {
        stalls.saturating_record(now - message);
    }
}

/// Whether a machine with such noise was busy with other things.
pub(crate) fn is_noisy(noise: &LatencyNs) -> bool {
    noise.p99 >= NOISY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gap_weighs_as_much_as_the_messages_it_would_have_delayed() {
        let mut stalls = histogram();
        for quiet in 1..=900 {
            record_late(&mut stalls, quiet * INTERVAL, quiet * INTERVAL + 20);
        }
        record_late(&mut stalls, 901 * INTERVAL, 1_001 * INTERVAL - 1);
        let noise = LatencyNs::of(&stalls).expect("a thousand messages");
        assert_eq!(noise.count, 1_000);
        assert_eq!(noise.p50, 20);
        // A tenth of the messages fell into one gap of 100 microseconds: half of them waited for
        // more than half of it.
        assert!(noise.p95.abs_diff(50_000) < 1_500, "{noise:?}");
        assert!(noise.max.abs_diff(99_999) < 100, "{noise:?}");
    }

    #[test]
    fn a_round_sees_about_as_many_messages_as_fit() {
        let started = Instant::now();
        let stalls = measure(&cores::place(None, 1), Duration::from_millis(20)).expect("a core of our mask");
        let most = started.elapsed().as_nanos() as u64 / INTERVAL;
        assert!((1..=most).contains(&stalls.len()), "{} of {most}", stalls.len());
    }

    #[test]
    fn a_core_that_does_not_exist_is_an_error_and_no_hang() {
        let places = [cores::place(None, 1)[0], Some(9_999)];
        let error = measure(&places, Duration::from_millis(1));
        assert!(matches!(error, Err(Error::Usage(_))));
    }
}
