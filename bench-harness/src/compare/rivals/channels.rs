//! Bounded channels, through the calls that return at once: crossbeam, crossfire, kanal, flume, and
//! the standard library's.

use std::sync::mpsc;

use crossfire::{BlockingRxTrait, BlockingTxTrait};

use super::super::channel::{Channel, Receiver, Sender, Setup};
use super::super::event::Handle;
use crate::error::Error;

/// Takes one event after the other.
#[inline(always)]
fn drain<const W: usize>(
    most: usize,
    handler: &mut impl Handle<W>,
    mut next: impl FnMut() -> Option<[u64; W]>,
) -> usize {
    let mut count = 0;
    while count < most
        && let Some(event) = next()
    {
        handler.handle(&event);
        count += 1;
    }
    count
}

pub(in crate::compare) struct CrossbeamChannel;

impl Channel for CrossbeamChannel {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (sender, receiver) = crossbeam_channel::bounded::<[u64; W]>(setup.capacity);
        Ok((vec![sender; setup.senders], receiver))
    }
}

impl<const W: usize> Sender<W> for crossbeam_channel::Sender<[u64; W]> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        Self::try_send(self, event).is_ok()
    }
}

impl<const W: usize> Receiver<W> for crossbeam_channel::Receiver<[u64; W]> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        drain(most, handler, || self.try_recv().ok())
    }

    fn lag(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}

/// crossfire's channel of one sender.
pub(in crate::compare) struct CrossfireSpsc;
/// crossfire's channel of many senders.
pub(in crate::compare) struct CrossfireMpsc;

struct Sending<T>(T);
struct Taking<R>(R);

impl Channel for CrossfireSpsc {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (sender, receiver) = crossfire::spsc::bounded_blocking::<[u64; W]>(setup.capacity);
        Ok((vec![Sending(sender)], Taking(receiver)))
    }
}

impl Channel for CrossfireMpsc {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (sender, receiver) = crossfire::mpsc::bounded_blocking::<[u64; W]>(setup.capacity);
        let senders = (0..setup.senders).map(|_| Sending(sender.clone())).collect();
        Ok((senders, Taking(receiver)))
    }
}

impl<const W: usize, T: BlockingTxTrait<[u64; W]> + Send> Sender<W> for Sending<T> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        self.0.try_send(event).is_ok()
    }
}

impl<const W: usize, R: BlockingRxTrait<[u64; W]> + Send> Receiver<W> for Taking<R> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        drain(most, handler, || self.0.try_recv().ok())
    }
}

pub(in crate::compare) struct Kanal;

impl Channel for Kanal {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (sender, receiver) = kanal::bounded::<[u64; W]>(setup.capacity);
        Ok((vec![sender; setup.senders], receiver))
    }
}

impl<const W: usize> Sender<W> for kanal::Sender<[u64; W]> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        Self::try_send(self, event) == Ok(true)
    }
}

impl<const W: usize> Receiver<W> for kanal::Receiver<[u64; W]> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        drain(most, handler, || self.try_recv().ok().flatten())
    }

    fn lag(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}

pub(in crate::compare) struct Flume;

impl Channel for Flume {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (sender, receiver) = flume::bounded::<[u64; W]>(setup.capacity);
        Ok((vec![sender; setup.senders], receiver))
    }
}

impl<const W: usize> Sender<W> for flume::Sender<[u64; W]> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        Self::try_send(self, event).is_ok()
    }
}

impl<const W: usize> Receiver<W> for flume::Receiver<[u64; W]> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        drain(most, handler, || self.try_recv().ok())
    }

    fn lag(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}

/// The standard library's `sync_channel`.
pub(in crate::compare) struct Std;

impl Channel for Std {
    fn make<const W: usize>(
        setup: &Setup,
    ) -> Result<(Vec<impl Sender<W> + 'static>, impl Receiver<W> + 'static), Error> {
        let (sender, receiver) = mpsc::sync_channel::<[u64; W]>(setup.capacity);
        Ok((vec![sender; setup.senders], receiver))
    }
}

impl<const W: usize> Sender<W> for mpsc::SyncSender<[u64; W]> {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        Self::try_send(self, event).is_ok()
    }
}

impl<const W: usize> Receiver<W> for mpsc::Receiver<[u64; W]> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        drain(most, handler, || self.try_recv().ok())
    }
}
