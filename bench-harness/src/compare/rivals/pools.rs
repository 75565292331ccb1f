//! Channels with several receivers, through the calls that wait.

use std::thread::JoinHandle;

use crossfire::{BlockingRxTrait, BlockingTxTrait};

use super::super::channel::Setup;
use super::super::pool::{Input, Pool, W, WorkerHandlers};
use crate::error::Error;
use crate::machine::cores;

type Event = [u64; W];

/// Threads that take events until all senders are gone.
pub(in crate::compare) struct Threads<T>(Vec<JoinHandle<()>>, std::marker::PhantomData<fn(T)>);

impl<T> Threads<T> {
    fn start(
        setup: &Setup,
        handlers: &WorkerHandlers,
        take: impl Fn() -> Option<Event> + Clone + Send + 'static,
    ) -> Self {
        let worker = |core: &Option<usize>| {
            let (core, take, handlers) = (*core, take.clone(), handlers.clone());
            std::thread::spawn(move || {
                // Senders are pinned to the same cores, and report it.
                let _ = cores::pin(core);
                let mut handler = handlers.make();
                while let Some(event) = take() {
                    handler.handle(&event);
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
            type Input = Sending<$sender>;

            fn start($setup: &Setup, handlers: &WorkerHandlers) -> Result<(Self, Vec<Self::Input>), Error> {
                let (sender, $receiver) = $channel;
                let senders = (0..$setup.senders).map(|_| Sending(sender.clone())).collect();
                Ok((Self::start($setup, handlers, move || $take), senders))
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
pool!(
    CrossfireSender,
    setup => crossfire::mpmc::bounded_blocking(setup.capacity),
    receiver => receiver.recv().ok()
);
pool!(KanalSender, setup => kanal::bounded(setup.capacity), receiver => receiver.recv().ok());

impl Input for Sending<CrossbeamSender> {
    #[inline(always)]
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}

impl Input for Sending<CrossfireSender> {
    #[inline(always)]
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}

impl Input for Sending<KanalSender> {
    #[inline(always)]
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}
