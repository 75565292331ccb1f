//! Ping-pong between two threads that poll channels of one kind.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::channel::{Channel, Idle, Receiver, Sender, Setup};
use super::super::drive::Outcome;
use super::super::event::{Found, Handle, event};
use super::super::ping_pong::{BLOCK, PATIENCE, WORDS, max_blocks};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::machine::cores;
use crate::stats::median;

/// Tells the answering thread to go.
const STOP: u64 = u64::MAX - WORDS as u64;

/// The event that came last.
#[derive(Default)]
struct Latest(Option<[u64; WORDS]>);

impl Handle<WORDS> for Latest {
    #[inline(always)]
    fn handle(&mut self, event: &[u64; WORDS]) {
        self.0 = Some(*event);
    }

    fn found(&mut self) -> Found {
        Found::default()
    }
}

/// As [`ours`](super::super::ping_pong::ours), through two channels of one kind.
pub(in crate::compare) fn round_trip<D: Channel>(setup: &Setup, lasting: Duration) -> Result<Outcome, Error> {
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
    let mut blocks = Vec::with_capacity(max_blocks(lasting));
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
