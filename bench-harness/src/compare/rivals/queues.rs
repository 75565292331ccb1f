//! Queues that leave waiting to their user: crossbeam's `ArrayQueue`, and `ThingBuf`, which is
//! filled and read in place.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use thingbuf::ThingBuf;
use thingbuf::recycling::Recycle;

use super::super::channel::{Channel, Receiver, Sender, Setup, for_each_sender};
use super::super::event::Handle;
use crate::error::Error;

pub(in crate::compare) struct CrossbeamQueue;

impl Channel for CrossbeamQueue {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let queue = Arc::new(ArrayQueue::<[u64; W]>::new(setup.capacity));
        Ok((for_each_sender(setup, &queue), queue))
    }
}

impl<const W: usize> Sender<W> for Arc<ArrayQueue<[u64; W]>> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        self.push(event).is_ok()
    }
}

impl<const W: usize> Receiver<W> for Arc<ArrayQueue<[u64; W]>> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        let mut count = 0;
        while count < most
            && let Some(event) = self.pop()
        {
            handler.handle(&event);
            count += 1;
        }
        count
    }

    fn lag(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}

pub(in crate::compare) struct Things;

/// Leaves events as they are between two uses of a slot.
#[derive(Clone, Copy)]
struct Kept;

impl<const W: usize> Recycle<[u64; W]> for Kept {
    fn new_element(&self) -> [u64; W] {
        [0; W]
    }

    fn recycle(&self, _element: &mut [u64; W]) {}
}

impl Channel for Things {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let queue = Arc::new(ThingBuf::<[u64; W], Kept>::with_recycle(setup.capacity, Kept));
        Ok((for_each_sender(setup, &queue), queue))
    }
}

impl<const W: usize> Sender<W> for Arc<ThingBuf<[u64; W], Kept>> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        self.push_with(|slot| *slot = event).is_ok()
    }
}

impl<const W: usize> Receiver<W> for Arc<ThingBuf<[u64; W], Kept>> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        let mut count = 0;
        while count < most && self.pop_with(|event| handler.handle(event)).is_some() {
            count += 1;
        }
        count
    }

    fn lag(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}
