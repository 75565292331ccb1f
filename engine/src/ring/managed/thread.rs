//! A managed consumer on the way to its thread.

use super::drive::{consume, work};
use super::handler::{EventHandler, Hooked, Managed};
use crate::ring::consumer::{EachMut, MutPoller, Poller};
use crate::ring::group::Worker;
use crate::ring::options::{ConsumerId, ConsumerOptions};
use crate::ring::sequence::Sequence;
use crate::sync::atomic::AtomicU64;

/// A managed consumer whose thread has not started.
pub(in crate::ring) struct PlannedThread {
    pub(in crate::ring) id: ConsumerId,
    pub(in crate::ring) name: String,
    /// How it is asked to leave.
    pub(in crate::ring) ask_to_leave: Box<dyn Fn() + Send + Sync>,
    /// What its thread does, given where to count panics.
    pub(in crate::ring) life: Box<dyn FnOnce(&AtomicU64) + Send>,
}

impl PlannedThread {
    /// A consumer whose handler is made on its thread.
    pub(in crate::ring) fn hooked<E: Send + Sync + 'static, H: EventHandler<E> + 'static>(
        id: ConsumerId,
        options: ConsumerOptions<'_>,
        poller: Poller<E>,
        make: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
        Self::new(id, options, poller, || Hooked::new(make()))
    }

    /// A consumer that is alone at its stage.
    pub(in crate::ring) fn mutating<E: Send + Sync + 'static>(
        id: ConsumerId,
        options: ConsumerOptions<'_>,
        poller: MutPoller<E>,
        handler: impl FnMut(&mut E, Sequence, bool) + Send + 'static,
    ) -> Self {
        Self::new(id, options, poller.into_poller(), || EachMut(handler))
    }

    /// One worker of a group, whose handler is made on its thread.
    pub(in crate::ring) fn worker<E: Send + Sync + 'static, H: EventHandler<E> + 'static>(
        group: ConsumerId,
        name: &str,
        worker: Worker<E>,
        make: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
        let supervisor = worker.supervisor();
        Self {
            id: group,
            name: format!("{name}-{}", worker.number()),
            ask_to_leave: Box::new(move || supervisor.announce_mail()),
            life: Box::new(move |panics| work(worker, Hooked::new(make()), panics)),
        }
    }

    fn new<E: Send + Sync + 'static, V: Managed<E> + 'static>(
        id: ConsumerId,
        options: ConsumerOptions<'_>,
        poller: Poller<E>,
        make: impl FnOnce() -> V + Send + 'static,
    ) -> Self {
        let supervisor = poller.supervisor();
        let most = options.max_batch.min(poller.capacity());
        Self {
            id,
            name: options.name.to_owned(),
            ask_to_leave: Box::new(move || supervisor.announce_mail()),
            life: Box::new(move |panics| consume(poller, make(), most, panics)),
        }
    }
}
