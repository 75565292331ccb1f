//! `rtrb`: a ring of one producer and one consumer. One item at a time, and by chunks where batches
//! are asked for.

use rtrb::{Consumer, Producer, RingBuffer};

use super::super::channel::{Channel, Receiver, Sender, Setup};
use super::super::event::{Handle, event};
use crate::error::Error;

/// One item at a time.
pub(in crate::compare) struct Items;
/// By chunks.
pub(in crate::compare) struct Chunks;

struct Pushing<const W: usize>(Producer<[u64; W]>);
struct Popping<const W: usize>(Consumer<[u64; W]>);
struct Writing<const W: usize>(Producer<[u64; W]>);
struct Reading<const W: usize>(Consumer<[u64; W]>);

impl Channel for Items {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (producer, consumer) = RingBuffer::new(setup.capacity);
        Ok((vec![Pushing(producer)], Popping(consumer)))
    }
}

impl Channel for Chunks {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (producer, consumer) = RingBuffer::new(setup.capacity);
        Ok((vec![Writing(producer)], Reading(consumer)))
    }
}

impl<const W: usize> Sender<W> for Pushing<W> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        self.0.push(event).is_ok()
    }
}

impl<const W: usize> Receiver<W> for Popping<W> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        let mut count = 0;
        while count < most
            && let Ok(event) = self.0.pop()
        {
            handler.handle(&event);
            count += 1;
        }
        count
    }

    fn lag(&self) -> Option<u64> {
        Some(self.0.slots() as u64)
    }
}

impl<const W: usize> Sender<W> for Writing<W> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        self.0.push(event).is_ok()
    }

    #[inline(always)]
    fn try_send_batch(&mut self, first: u64, count: usize) -> usize {
        // The whole batch at once, or what there is room for.
        let chunk = match self.0.write_chunk_uninit(count) {
            Ok(chunk) => chunk,
            Err(_) => match self.0.write_chunk_uninit(self.0.cached_slots()) {
                Ok(chunk) => chunk,
                Err(_) => return 0,
            },
        };
        chunk.fill_from_iter((0..count).map(|place| event(first + place as u64)))
    }
}

impl<const W: usize> Receiver<W> for Reading<W> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        let there = self.0.slots().min(most);
        let Ok(chunk) = self.0.read_chunk(there) else { return 0 };
        let (one, two) = chunk.as_slices();
        one.iter().chain(two).for_each(|event| handler.handle(event));
        chunk.commit_all();
        there
    }

    fn lag(&self) -> Option<u64> {
        Some(self.0.slots() as u64)
    }
}
