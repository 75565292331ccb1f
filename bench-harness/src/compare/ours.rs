//! Our ring as a contender, with the options that it can be built with.
//!
//! Its receivers are managed consumers, which wait and linger as the ring has them do; only
//! [`Slices`] is polled by the driver. Senders call `publish`, which does its own waiting for room
//! by the ring's strategy, because that is what users call.

use std::time::Duration;

use ringmain::affinity::Pinning;
use ringmain::ring::{Layout, Polled, Poller, Producer, Ring, RingBuilder, Sequencer};

use super::channel::{Channel, Receiver, Sender, Setup, Width};
use super::drive::{Outcome, Sending, Task, sending};
use super::event::{Handle, event};
use super::managed::Consumers;
use crate::error::Error;

pub(super) type Event<const W: usize> = [u64; W];

/// A producer.
pub(super) struct Publishing<const W: usize, S: Sequencer>(pub(super) Producer<Event<W>, S>);

impl<const W: usize, S: Sequencer + Send> Sender<W> for Publishing<W, S> {
    #[inline(always)]
    fn try_send(&mut self, event: Event<W>) -> bool {
        self.0.publish(|slot| *slot = event).is_ok()
    }

    #[inline(always)]
    fn try_send_value(&mut self, value: u64) -> bool {
        self.0.publish(|slot| *slot = event(value)).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, first: u64, count: usize) -> usize {
        let fill = |place: usize, slot: &mut Event<W>| *slot = event(first + place as u64);
        self.0.publish_batch(count, fill).map_or_else(|error| error.published, |()| count)
    }
}

/// How our ring is built.
#[derive(Clone, Copy, Default)]
struct Options {
    layout: Layout,
    never_lingers: bool,
    has_many_producers: bool,
}

/// Its only producer's, as it comes.
pub(super) fn single(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    section(setup, task, Options::default())
}

/// The same in the dense layout.
pub(super) fn dense(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    section(setup, task, Options { layout: Layout::Dense, ..Options::default() })
}

/// The same with consumers that never linger.
pub(super) fn no_linger(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    section(setup, task, Options { never_lingers: true, ..Options::default() })
}

/// With as many producers as there are senders, be it one.
pub(super) fn multi(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    section(setup, task, Options { has_many_producers: true, ..Options::default() })
}

/// With the producer that the setup's senders ask for.
pub(super) fn of_any_number(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    section(setup, task, Options { has_many_producers: setup.senders > 1, ..Options::default() })
}

fn section(setup: &Setup, task: &Task, options: Options) -> Result<Outcome, Error> {
    match setup.width {
        Width::One => of_width::<1>(setup, task, options),
        Width::Eight => of_width::<8>(setup, task, options),
        Width::Fifteen => of_width::<15>(setup, task, options),
    }
}

fn of_width<const W: usize>(setup: &Setup, task: &Task, options: Options) -> Result<Outcome, Error> {
    let mut ring = builder::<W>(setup)?.layout(options.layout);
    if options.never_lingers {
        ring = ring.linger(Duration::ZERO);
    }
    let mut graph = ring.graph()?;
    let consumers = Consumers::add(&mut graph, setup, task)?;
    if options.has_many_producers {
        let (producer, ring) = graph.build_multi_producer()?;
        let senders: Vec<Sending> =
            (0..setup.senders).map(|_| sending(Publishing(producer.clone()))).collect();
        consumers.drive(setup, task, senders, ring, None)
    } else {
        let (producer, ring) = graph.build_single_producer()?;
        consumers.drive(setup, task, vec![sending(Publishing(producer))], ring, None)
    }
}

/// A ring for the setup, its consumers pinned where receivers are.
pub(super) fn builder<const W: usize>(setup: &Setup) -> Result<RingBuilder<Event<W>>, Error> {
    let builder = RingBuilder::new(setup.capacity, || [0; W])?;
    Ok(builder.wait(setup.idle.strategy()).pinning(pinning(&setup.places[setup.senders..])))
}

/// On these cores; nowhere where one of them is not known.
pub(super) fn pinning(places: &[Option<usize>]) -> Pinning {
    let cores: Option<Vec<usize>> = places.iter().copied().collect();
    cores.map_or(Pinning::Unpinned, Pinning::Cores)
}

/// The dense ring with a consumer that the driver polls, by the slice.
pub(super) struct Slices;

struct Sliced<const W: usize> {
    poller: Poller<Event<W>>,
    /// Would close if it were dropped.
    _ring: Ring<Event<W>>,
}

impl<const W: usize> Receiver<W> for Sliced<W> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        let handle = |events: &[Event<W>], _first| events.iter().for_each(|event| handler.handle(event));
        match self.poller.poll_slices(most as u64, handle) {
            Polled::Events(count) => count as usize,
            _ => 0,
        }
    }

    fn lag(&self) -> Option<u64> {
        Some(self.poller.lag())
    }
}

impl Channel for Slices {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let mut graph = builder::<W>(setup)?.layout(Layout::Dense).graph()?;
        let (_id, poller) = graph.poller(&[])?;
        let (producer, ring) = graph.build_single_producer()?;
        Ok((vec![Publishing(producer)], Sliced { poller, _ring: ring }))
    }
}
