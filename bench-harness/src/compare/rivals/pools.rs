//! Channels with several receivers, through the calls that wait.

use std::thread::JoinHandle;

use crossfire::{BlockingRxTrait, BlockingTxTrait};

use super::super::duct::Setup;
use super::super::pool::{Desk, Inlet, Pool, W};
use crate::cores;
use crate::error::Error;

type Event = [u64; W];

/// Threads that take events until all senders are gone.
pub(in crate::compare) struct Threads<T>(Vec<JoinHandle<()>>, std::marker::PhantomData<fn(T)>);

impl<T> Threads<T> {
    fn start(setup: &Setup, desk: &Desk, take: impl Fn() -> Option<Event> + Clone + Send + 'static) -> Self {
        let worker = |core: &Option<usize>| {
            let (core, take, desk) = (*core, take.clone(), desk.clone());
            std::thread::spawn(move || {
                // Senders are pinned to the same cores, and report it.
                let _ = cores::pin(core);
                let mut hand = desk.hand();
                while let Some(event) = take() {
                    hand.handle(&event);
                }
            })
        };
        Self(setup.places[setup.senders..].iter().map(worker).collect(), std::marker::PhantomData)
    }

    fn end(self) -> Option<String> {
        let ended: Vec<_> = self.0.into_iter().map(JoinHandle::join).collect();
        ended.iter().any(Result::is_err).then(|| "a worker panicked".to_owned())
    }
}

macro_rules! pool {
    ($sender:ty, $setup:ident => $channel:expr, $receiver:ident => $take:expr) => {
        impl Pool for Threads<$sender> {
            type Inlet = Sending<$sender>;

            fn start($setup: &Setup, desk: &Desk) -> Result<(Self, Vec<Self::Inlet>), Error> {
                let (sender, $receiver) = $channel;
                let senders = (0..$setup.senders).map(|_| Sending(sender.clone())).collect();
                Ok((Self::start($setup, desk, move || $take), senders))
            }

            // Workers that take what there is until senders are gone are not stuck.
            fn halt(&self) {}

            fn end(self) -> Option<String> {
                self.end()
            }
        }
    };
}

/// A sender.
pub(in crate::compare) struct Sending<T>(T);

pub(in crate::compare) type CrossbeamSender = crossbeam_channel::Sender<Event>;
pub(in crate::compare) type CrossfireSender = crossfire::MTx<crossfire::mpmc::Array<Event>>;
pub(in crate::compare) type KanalSender = kanal::Sender<Event>;

pool!(CrossbeamSender, setup => crossbeam_channel::bounded(setup.capacity), receiver => receiver.recv().ok());
pool!(CrossfireSender, setup => crossfire::mpmc::bounded_blocking(setup.capacity), receiver => receiver.recv().ok());
pool!(KanalSender, setup => kanal::bounded(setup.capacity), receiver => receiver.recv().ok());

impl Inlet for Sending<CrossbeamSender> {
    #[inline(always)]
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}

impl Inlet for Sending<CrossfireSender> {
    #[inline(always)]
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}

impl Inlet for Sending<KanalSender> {
    #[inline(always)]
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}
