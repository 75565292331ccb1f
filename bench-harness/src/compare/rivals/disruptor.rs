//! The `disruptor` crate, through its event pollers, so that its consumers run on the driver's
//! threads and wait as all do.

use disruptor::{
    BusySpin, EventPoller, MultiConsumerBarrier, MultiProducerBarrier, Polling, Producer,
    SingleConsumerBarrier, SingleProducerBarrier, build_multi_producer, build_single_producer,
};

use super::super::channel::{Channel, Receiver, Sender, Setup, Shape};
use super::super::drive::{Outcome, Receiving, Sending, Task, drive, receiving, sending};
use super::super::event::{Handle, event};
use crate::error::Error;

type Event<const W: usize> = [u64; W];

struct Publishing<P>(P);

impl<const W: usize, P: Producer<Event<W>> + Send> Sender<W> for Publishing<P> {
    #[inline(always)]
    fn try_send(&mut self, event: Event<W>) -> bool {
        self.0.try_publish(|slot| *slot = event).is_ok()
    }

    #[inline(always)]
    fn try_send_value(&mut self, value: u64) -> bool {
        self.0.try_publish(|slot| *slot = event(value)).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, first: u64, count: usize) -> usize {
        // A batch goes whole or not at all.
        let published = self.0.try_batch_publish(count, |slots| {
            for (place, slot) in slots.enumerate() {
                *slot = event(first + place as u64);
            }
        });
        if published.is_ok() { count } else { 0 }
    }
}

// The crate does not export the trait that its barriers share.
macro_rules! receiver_behind {
    ($($barrier:ty),*) => {$(
        impl<const W: usize> Receiver<W> for EventPoller<Event<W>, $barrier> {
            #[inline(always)]
            fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
                match self.take(most as u64) {
                    Ok(mut events) => {
                        let count = (&mut events).len();
                        (&mut events).for_each(|event| handler.handle(event));
                        count
                    }
                    Err(Polling::NoEvents | Polling::Shutdown) => 0,
                }
            }
        }
    )*};
}

receiver_behind!(SingleProducerBarrier, MultiProducerBarrier, SingleConsumerBarrier, MultiConsumerBarrier);

/// One producer.
pub(in crate::compare) struct Single;

impl Channel for Single {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let builder = build_single_producer(setup.capacity, || [0; W], BusySpin);
        let (poller, builder) = builder.new_event_poller();
        Ok((vec![Publishing(builder.build())], poller))
    }
}

/// Several producers.
pub(in crate::compare) struct Multi;

impl Channel for Multi {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let builder = build_multi_producer(setup.capacity, || [0; W], BusySpin);
        let (poller, builder) = builder.new_event_poller();
        let producer = builder.build();
        Ok(((0..setup.senders).map(|_| Publishing(producer.clone())).collect(), poller))
    }
}

/// A section through a graph of consumers, as far as the crate has one of that shape.
pub(in crate::compare) fn through_graph(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    const W: usize = 8;
    let builder = build_single_producer(setup.capacity, || [0; W], BusySpin);
    let (senders, receivers): (Vec<Sending>, Vec<Receiving>) = match setup.shape {
        Shape::Beside(1) if setup.senders > 1 => {
            let (senders, receiver) = Multi::make::<W>(setup)?;
            (senders.into_iter().map(sending).collect(), vec![receiving(receiver)])
        }
        Shape::Beside(1) => {
            let (one, builder) = builder.new_event_poller();
            (vec![sending(Publishing(builder.build()))], vec![receiving(one)])
        }
        Shape::Beside(2) => {
            let (one, builder) = builder.new_event_poller();
            let (two, builder) = builder.new_event_poller();
            (vec![sending(Publishing(builder.build()))], vec![receiving(one), receiving(two)])
        }
        Shape::Beside(_) => {
            let (one, builder) = builder.new_event_poller();
            let (two, builder) = builder.new_event_poller();
            let (three, builder) = builder.new_event_poller();
            let receivers = vec![receiving(one), receiving(two), receiving(three)];
            (vec![sending(Publishing(builder.build()))], receivers)
        }
        Shape::Pipeline(_) => {
            let (one, builder) = builder.new_event_poller();
            let (two, builder) = builder.and_then().new_event_poller();
            let (three, builder) = builder.and_then().new_event_poller();
            let receivers = vec![receiving(one), receiving(two), receiving(three)];
            (vec![sending(Publishing(builder.build()))], receivers)
        }
        Shape::Diamond => {
            let (one, builder) = builder.new_event_poller();
            let (two, builder) = builder.new_event_poller();
            let (three, builder) = builder.and_then().new_event_poller();
            let receivers = vec![receiving(one), receiving(two), receiving(three)];
            (vec![sending(Publishing(builder.build()))], receivers)
        }
    };
    drive(setup, task, senders, receivers)
}
