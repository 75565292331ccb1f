//! The loop of a consumer's thread: take a turn, linger, wait, and go on after a panic.

use crate::ring::consumer::Polled;
use crate::ring::control::Core;
use crate::ring::pace::Linger;
use crate::sync::panics::discard_panic;
use crate::wait::{Deadline, Place, Sleeper, Waiter};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Work that a thread does in turns, and what it waits for between them. [`drive`] runs it.
pub(crate) trait Turn {
    /// Does the work of at most `max` events, and whatever else is due. Returns what it found.
    ///
    /// User code in it may panic: [`panicked`](Self::panicked) is called, and the next turn comes.
    fn turn(&mut self, max: u64) -> Polled;

    /// Returns whether a turn would find something at this moment.
    fn is_ready(&self) -> bool;

    /// Returns whether the thread is to end instead of taking another turn.
    fn is_stopping(&self) -> bool;

    /// Returns the moment of the next turn in case nothing becomes ready before. That turn must do
    /// what is due, or the thread spins.
    fn next_due(&self) -> Deadline {
        Deadline::NEVER
    }

    /// Returns what the thread is to be woken for.
    fn sleeper(&self) -> Sleeper {
        Sleeper::ANY
    }

    /// Does what is due between a wait and the turn that follows it, before any user code runs.
    fn woken(&self) {}

    /// Takes note of a panic that has left a turn. Must not panic.
    fn panicked(&mut self);
}

/// Takes turns of at most `max` events until a turn finds the ring finished, or the work is to
/// stop. Waits as consumers of this ring do.
pub(crate) fn drive<E>(work: &mut impl Turn, max: u64, ring: &Core<E>) {
    let control = &ring.control;
    let mut waiter = Waiter::new();
    let mut linger = Linger::new(control.linger);
    while !work.is_stopping() {
        match catch_unwind(AssertUnwindSafe(|| work.turn(max))) {
            Ok(Polled::Events(handled)) => linger.after(handled, max),
            Ok(Polled::Missed(_)) => {}
            Ok(Polled::Empty) => {
                let ready = || (work.is_ready() || work.is_stopping()).then_some(());
                let strategy = || control.wait.get();
                let place = Place { parking: &control.signals.consumers, sleeper: work.sleeper() };
                waiter.wait_at(place, strategy, work.next_due(), ready);
                work.woken();
            }
            Ok(Polled::Finished) => return,
            Err(payload) => {
                work.panicked();
                discard_panic(payload);
            }
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::ring::{Polled, RingBuilder};
    use crate::wait::WaitStrategy;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Work whose turns follow a script, and which counts them.
    #[derive(Default)]
    struct Scripted {
        turns: u32,
        panics: u32,
        due: Option<Duration>,
        turn: Option<fn(u32) -> Polled>,
        last: Option<u32>,
    }

    impl Turn for Scripted {
        fn turn(&mut self, _max: u64) -> Polled {
            self.turns += 1;
            self.turn.map_or(Polled::Finished, |turn| turn(self.turns))
        }

        fn is_ready(&self) -> bool {
            false
        }

        fn is_stopping(&self) -> bool {
            self.last == Some(self.turns)
        }

        fn next_due(&self) -> Deadline {
            self.due.map_or(Deadline::NEVER, Deadline::after)
        }

        fn panicked(&mut self) {
            self.panics += 1;
        }
    }

    /// Drives the work on a thread of its own. Returns its turns and panics.
    fn driven(mut work: Scripted) -> (u32, u32) {
        let (done, is_done) = channel();
        std::thread::spawn(move || {
            let ring = RingBuilder::new(1, || ()).expect("a capacity").wait(WaitStrategy::Blocking);
            let (_id, poller) = ring.graph().expect("memory").poller(&[]).expect("no dependency");
            drive(&mut work, 1, poller.core());
            let _ = done.send((work.turns, work.panics));
        });
        is_done.recv_timeout(LIMIT).expect("the work ends")
    }

    #[test]
    fn a_turn_that_is_due_comes_although_nothing_is_ready() {
        let turn = |turn| if turn < 3 { Polled::Empty } else { Polled::Finished };
        let work = Scripted { due: Some(Duration::from_millis(1)), turn: Some(turn), ..Scripted::default() };
        assert_eq!(driven(work), (3, 0));
    }

    #[test]
    fn a_turn_that_panics_is_noted_and_the_next_one_comes() {
        let turn = |turn| match turn {
            1 => panic!("user code"),
            _ => Polled::Finished,
        };
        assert_eq!(driven(Scripted { turn: Some(turn), ..Scripted::default() }), (2, 1));
    }

    #[test]
    fn work_that_is_to_stop_takes_no_further_turn() {
        let turn = |_| Polled::Events(1);
        assert_eq!(driven(Scripted { turn: Some(turn), last: Some(2), ..Scripted::default() }), (2, 0));
    }
}
