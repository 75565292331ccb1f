//! Our ring as a contender: each layout and each sequencer it can have is a duct of its own.
//!
//! Senders call `publish`, which does its own waiting for room by the ring's strategy, because that is what users call.

use std::marker::PhantomData;
use std::sync::Arc;

use ringmain::ring::{ConsumerId, Graph, Polled, Poller, Producer, Ring, RingBuilder, Sequencer};

use super::drive::{Outcome, Task, drive, receiving, sending};
use super::duct::{Duct, Receiver, Sender, Setup, Shape, for_each_sender};
use super::event::{Handle, event};
use crate::error::Error;

type Event<const W: usize> = [u64; W];

/// A producer, and the ring, which would close if it were dropped.
pub(super) struct Publishing<const W: usize, S: Sequencer> {
    producer: Producer<Event<W>, S>,
    _ring: Arc<Ring<Event<W>>>,
}

impl<const W: usize, S: Sequencer + Send> Sender<W> for Publishing<W, S> {
    #[inline(always)]
    fn try_send(&mut self, event: Event<W>) -> bool {
        self.producer.publish(|slot| *slot = event).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, first: u64, count: usize) -> usize {
        let fill = |place: usize, slot: &mut Event<W>| *slot = event(first + place as u64);
        self.producer.publish_batch(count, fill).map_or_else(|error| error.published, |()| count)
    }
}

impl<const W: usize> Receiver<W> for Poller<Event<W>> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        match Self::poll(self, most as u64, |event, _sequence, _end_of_batch| handler.handle(event)) {
            Polled::Events(count) => count as usize,
            _ => 0,
        }
    }

    fn lag(&self) -> Option<u64> {
        Some(Self::lag(self))
    }
}

/// How slots are laid out. A further layout is a further type here, and a line in each list of `contenders`.
pub(super) trait Layout {
    /// Asks for it.
    fn lay<E: Send + Sync + 'static>(builder: RingBuilder<E>) -> RingBuilder<E>;
}

/// A slot's stamp stands beside its event, which is what a ring does unasked.
pub(super) struct Stamped;

impl Layout for Stamped {
    fn lay<E: Send + Sync + 'static>(builder: RingBuilder<E>) -> RingBuilder<E> {
        builder
    }
}

fn graph<const W: usize, L: Layout>(setup: &Setup) -> Result<Graph<Event<W>>, Error> {
    let builder = RingBuilder::new(setup.capacity, || [0; W])?.wait(setup.idle.strategy());
    Ok(L::lay(builder).graph())
}

/// The ring with its only producer.
pub(super) struct Exclusive<L>(PhantomData<L>);

impl<L: Layout> Duct for Exclusive<L> {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let mut graph = graph::<W, L>(setup)?;
        let (_id, poller) = graph.poller(&[])?;
        let (producer, ring) = graph.exclusive()?;
        Ok((vec![Publishing { producer, _ring: Arc::new(ring) }], poller))
    }
}

/// The ring with as many producers as like.
pub(super) struct Multi<L>(PhantomData<L>);

impl<L: Layout> Duct for Multi<L> {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let mut graph = graph::<W, L>(setup)?;
        let (_id, poller) = graph.poller(&[])?;
        let (producer, ring) = graph.multi()?;
        let rings = for_each_sender(setup, &Arc::new(ring)).into_iter();
        Ok((rings.map(|_ring| Publishing { producer: producer.clone(), _ring }).collect(), poller))
    }
}

/// A section through a graph of consumers.
pub(super) fn through_graph(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    const W: usize = 8;
    let mut graph = graph::<W, Stamped>(setup)?;
    let receivers = receivers(&mut graph, setup.shape)?.into_iter().map(receiving).collect();
    let senders = if setup.senders == 1 {
        let (producer, ring) = graph.exclusive()?;
        vec![sending(Publishing { producer, _ring: Arc::new(ring) })]
    } else {
        let (producer, ring) = graph.multi()?;
        let rings = for_each_sender(setup, &Arc::new(ring)).into_iter();
        rings.map(|_ring| sending(Publishing { producer: producer.clone(), _ring })).collect()
    };
    drive(setup, task, senders, receivers)
}

fn receivers<const W: usize>(
    graph: &mut Graph<Event<W>>,
    shape: Shape,
) -> Result<Vec<Poller<Event<W>>>, Error> {
    let (mut ids, mut pollers): (Vec<ConsumerId>, _) = (Vec::new(), Vec::new());
    for number in 0..shape.receivers() {
        let after = match shape {
            Shape::Beside(_) => &[],
            Shape::Pipeline(_) => &ids[number.saturating_sub(1)..number],
            Shape::Diamond if number < 2 => &[],
            Shape::Diamond => &ids[..2],
        };
        let (id, poller) = graph.poller(after)?;
        ids.push(id);
        pollers.push(poller);
    }
    Ok(pollers)
}
