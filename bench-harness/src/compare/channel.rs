//! What the contest asks of a contender: a way in and a way out, and nothing about threads.
//!
//! Both ends are *tried*: an attempt returns at once, and it is the driver who spins or yields
//! between two attempts, alike for all. No contender parks a thread here, whatever else it can do.

#[cfg(feature = "rivals")]
use std::sync::Arc;

use ringmain::wait::WaitStrategy;

use super::event::{Handle, Work, event};
use crate::error::Error;
use crate::machine::cores;

/// How a thread waits between two attempts that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// Tries again at once; for threads with a core of their own.
    Spin,
    /// Tries some hundred times, then offers its core at each attempt; for more threads than cores.
    Yield,
}

impl Idle {
    /// Spins where each thread has a core of its own.
    fn of(places: &[Option<usize>]) -> Self {
        let shared =
            |(thread, core): (usize, &Option<usize>)| core.is_none() || places[..thread].contains(core);
        if places.iter().enumerate().any(shared) { Self::Yield } else { Self::Spin }
    }

    /// Waits after the `attempt`th attempt in a row; whether it is time to see if the run is to
    /// end.
    #[inline(always)]
    pub(super) fn wait(self, attempt: u32) -> bool {
        match self {
            Self::Spin => attempt.is_multiple_of(1 << 14),
            Self::Yield if attempt < 100 => {
                std::hint::spin_loop();
                false
            }
            Self::Yield => {
                std::thread::yield_now();
                attempt.is_multiple_of(64)
            }
        }
    }

    /// The same for a ring that does its own waiting.
    pub(super) fn strategy(self) -> WaitStrategy {
        match self {
            Self::Spin => WaitStrategy::BusySpin,
            Self::Yield => WaitStrategy::Yielding,
        }
    }
}

/// Who waits for whom among receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// So many, each of which gets every event.
    Beside(usize),
    /// So many, each behind the one before.
    Pipeline(usize),
    /// Two side by side, and one behind both.
    Diamond,
}

impl Shape {
    pub(super) fn receivers(self) -> usize {
        match self {
            Self::Beside(count) | Self::Pipeline(count) => count,
            Self::Diamond => 3,
        }
    }
}

/// The words of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Eight,
    Fifteen,
}

impl Width {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::One => 8,
            Self::Eight => 64,
            Self::Fifteen => 120,
        }
    }
}

/// The slots of a ring that fits into a core's own cache, and of one that does not.
pub(super) const SMALL: usize = 1_024;
pub(super) const LARGE: usize = 65_536;

/// What a section is to be like, whoever the contender.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) width: Width,
    /// A power of two.
    pub(super) capacity: usize,
    pub(super) senders: usize,
    pub(super) shape: Shape,
    /// Events that are sent, and at most taken, at once; with 1, senders send one at a time and
    /// receivers take what is there.
    pub(super) batch: usize,
    /// What the handler does beside reading.
    pub(super) work: Work,
    /// The core of each thread, senders first.
    pub(super) places: Vec<Option<usize>>,
    pub(super) idle: Idle,
}

impl Setup {
    /// One sender and one receiver, one event at a time, a handler that only reads.
    pub(super) fn new(width: Width, capacity: usize, named: Option<&[usize]>) -> Self {
        Self::of(width, capacity, 1, Shape::Beside(1), named)
    }

    pub(super) fn of(
        width: Width,
        capacity: usize,
        senders: usize,
        shape: Shape,
        named: Option<&[usize]>,
    ) -> Self {
        let places = cores::place(named, senders + shape.receivers());
        let idle = Idle::of(&places);
        Self { width, capacity, senders, shape, batch: 1, work: Work::default(), places, idle }
    }

    /// The most that a receiver takes in one go.
    pub(super) fn most(&self) -> usize {
        if self.batch > 1 { self.batch } else { self.capacity }
    }
}

/// The way in.
pub(super) trait Sender<const W: usize>: Send {
    /// Sends an event, or does nothing where there is no room.
    fn try_send(&mut self, event: [u64; W]) -> bool;

    /// Sends the event of a first word, written in place by those that can.
    #[inline(always)]
    fn try_send_value(&mut self, value: u64) -> bool {
        self.try_send(event(value))
    }

    /// Sends up to `count` events with consecutive first words, as many as there is room for; how
    /// many it sent.
    fn try_send_batch(&mut self, first: u64, count: usize) -> usize {
        (0..count).take_while(|&place| self.try_send(event(first + place as u64))).count()
    }
}

/// The way out.
pub(super) trait Receiver<const W: usize>: Send {
    /// Handles up to `most` of the events that are there, in order; how many it handled.
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize;

    /// How many events are waiting, where one can ask without taking them.
    fn lag(&self) -> Option<u64> {
        None
    }
}

/// A contender with one way out, and one way in for each sender.
pub(super) trait Channel {
    /// Makes it anew for a section.
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error>;
}

/// As many clones as there are senders.
#[cfg(feature = "rivals")]
pub(super) fn for_each_sender<T>(setup: &Setup, sender: &Arc<T>) -> Vec<Arc<T>> {
    vec![sender.clone(); setup.senders]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_spin_only_where_each_has_a_core_of_its_own() {
        assert_eq!(Idle::of(&[Some(0), Some(1)]), Idle::Spin);
        assert_eq!(Idle::of(&[Some(0), Some(0)]), Idle::Yield);
        assert_eq!(Idle::of(&[None, None]), Idle::Yield);
    }
}
