//! Ping-pong: an event goes there through one duct and back through another, and only then the next one.
//!
//! Blocks of round trips are timed together, as the floor's are, because reading a clock costs a good part of one.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::drive::Outcome;
use super::duct::{Duct, Idle, Receiver, Sender, Setup};
use super::event::{Found, Handle, event};
use crate::cores;
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::stats::median;

/// The words of an event, which with a stamp fill a cache line.
const WORDS: usize = 7;
/// Round trips that are timed together.
const BLOCK: u64 = 64;
/// Tells the answering thread to go.
const STOP: u64 = u64::MAX - WORDS as u64;
/// How much longer than it should last a section may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The event that came last.
#[derive(Default)]
struct Latest(Option<[u64; WORDS]>);

impl Handle<WORDS> for Latest {
    #[inline(always)]
    fn handle(&mut self, event: &[u64; WORDS]) {
        self.0 = Some(*event);
    }

    fn found(self) -> Found {
        Found::default()
    }
}

/// Nanoseconds a round trip between the setup's cores, the median of blocks; none where there is nothing to measure, as
/// between a core and itself. A failure where something else came back than was sent.
pub(super) fn round_trip<D: Duct>(setup: &Setup, lasting: Duration) -> Result<Outcome, Error> {
    let (first, second) = (setup.places[0], setup.places[1]);
    if !cores::run_side_by_side(first, second) {
        return Ok(Outcome::default());
    }
    let (mut there, arriving) = D::make::<WORDS>(setup)?;
    let (mut back, returning) = D::make::<WORDS>(setup)?;
    let (Some(there), Some(back)) = (there.pop(), back.pop()) else { return Ok(Outcome::default()) };
    let (both, unpinned, is_over) = (&Barrier::new(2), &AtomicBool::new(false), &AtomicBool::new(false));
    let start = |core| {
        let pinned = cores::pin(core);
        unpinned.fetch_or(pinned.is_err(), Ordering::Relaxed);
        both.wait();
        pinned.map(|()| !unpinned.load(Ordering::Relaxed))
    };
    std::thread::scope(|scope| {
        let answering = scope.spawn(move || {
            if start(second)? {
                answer(arriving, back, is_over);
            }
            Ok::<(), Error>(())
        });
        let asking = scope.spawn(move || {
            let asked = if start(first)? { ask(there, returning, lasting) } else { Ok(Vec::new()) };
            is_over.store(true, Ordering::Relaxed);
            Ok(match asked {
                Ok(blocks) => Outcome { ns: median(&blocks), ..Outcome::default() },
                Err(failure) => Outcome { failures: vec![failure], ..Outcome::default() },
            })
        });
        let asked = asking.join().expect("the asking thread does not panic");
        answering.join().expect("the answering thread does not panic")?;
        asked
    })
}

/// Nanoseconds a round trip of each block; the first one, which warms everything, is left out.
fn ask(
    mut there: impl Sender<WORDS>,
    mut returning: impl Receiver<WORDS>,
    lasting: Duration,
) -> Result<Vec<f64>, String> {
    let mut blocks = Vec::with_capacity((lasting.as_micros() as usize / 4).clamp(16, 1 << 16));
    let started = Instant::now();
    let (mut number, mut is_warm, mut latest) = (0, false, Latest::default());
    'section: while blocks.len() < blocks.capacity() && (blocks.is_empty() || started.elapsed() < lasting) {
        let block_started = Instant::now();
        for _ in 0..BLOCK {
            number += 1;
            if !there.try_send(event(number)) {
                return Err(format!("no room for event {number}, with nothing under way"));
            }
            let mut looks = 0;
            while returning.poll(1, &mut latest) == 0 {
                looks += 1;
                if Idle::Spin.wait(looks) && (interrupted() || started.elapsed() > lasting + PATIENCE) {
                    break 'section;
                }
            }
            if latest.0 != Some(event(number)) {
                return Err(format!("event {number} came back as {:?}", latest.0));
            }
        }
        if is_warm {
            blocks.push(block_started.elapsed().as_nanos() as f64 / BLOCK as f64);
        }
        is_warm = true;
    }
    there.try_send(event(STOP));
    Ok(blocks)
}

/// Sends every event back until it is told to stop.
fn answer(mut arriving: impl Receiver<WORDS>, mut back: impl Sender<WORDS>, is_over: &AtomicBool) {
    let (mut latest, mut looks) = (Latest::default(), 0);
    loop {
        if arriving.poll(1, &mut latest) == 0 {
            looks += 1;
            if Idle::Spin.wait(looks) && is_over.load(Ordering::Relaxed) {
                return;
            }
        } else if let Some(event) = latest.0 {
            looks = 0;
            // The asking thread has taken the one before, so there is room.
            if event[0] == STOP || !back.try_send(event) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::duct::Width;
    use super::super::ours::{Exclusive, Stamped};
    use super::*;

    #[test]
    fn a_round_trip_through_two_rings_takes_time() {
        let setup = Setup::new(Width::Eight, 1_024, None);
        // On a machine that is busy otherwise a round may come to nothing.
        for _attempt in 0..20 {
            let found =
                round_trip::<Exclusive<Stamped>>(&setup, Duration::from_millis(20)).expect("our cores");
            assert_eq!(found.failures, [""; 0]);
            if let Some(ns) = found.ns {
                assert!(ns > 1.0);
                return;
            }
        }
        assert!(!cores::run_side_by_side(setup.places[0], setup.places[1]), "two cores, and no round trip");
    }

    #[test]
    fn one_core_has_no_round_trip() {
        let only = cores::place(None, 1)[0];
        let mut setup = Setup::new(Width::Eight, 64, None);
        setup.places = vec![only, only];
        let found = round_trip::<Exclusive<Stamped>>(&setup, Duration::from_secs(3_600)).expect("our core");
        assert!(found.ns.is_none() && found.failures.is_empty());
    }
}
