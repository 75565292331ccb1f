//! A managed consumer on the way to its thread.

use super::drive::{Turn, drive};
use super::handler::{EventHandler, Hooked, Managed};
use crate::ring::consumer::{EachMut, MutPoller, Polled, Poller};
use crate::ring::group::Worker;
use crate::ring::options::{ConsumerId, ConsumerOptions};
use crate::ring::reentrancy::inside;
use crate::ring::sequence::Sequence;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::wait::Sleeper;

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
        mut worker: Worker<E>,
        make: impl FnOnce() -> H + Send + 'static,
    ) -> Self {
        let supervisor = worker.supervisor();
        worker.join_crew();
        Self {
            id: group,
            name: format!("{name}-{}", worker.number()),
            ask_to_leave: Box::new(move || supervisor.announce_mail()),
            life: Box::new(move |panics| {
                let (max, ring) = (worker.max_turn(), worker.core().clone());
                // Making and dropping a handler may publish too.
                let part = worker.part_between_polls();
                let visitor = inside(&part, || Hooked::new(make()));
                let mut work = Working { visitor, worker, panics };
                drive(&mut work, max, &ring);
                // What a handler captured may take its time to go.
                work.worker.leave_lanes_to_others();
                inside(&part, || drop(work));
            }),
        }
    }

    fn new<E: Send + Sync + 'static, V: Managed<E> + 'static>(
        id: ConsumerId,
        options: ConsumerOptions<'_>,
        poller: Poller<E>,
        make: impl FnOnce() -> V + Send + 'static,
    ) -> Self {
        let supervisor = poller.supervisor();
        let max = options.max_batch.min(poller.capacity());
        Self {
            id,
            name: options.name.to_owned(),
            ask_to_leave: Box::new(move || supervisor.announce_mail()),
            life: Box::new(move |panics| {
                let ring = poller.core().clone();
                // Making and dropping a handler may publish too.
                let part = poller.part().clone();
                inside(&part, || drive(&mut Consuming { visitor: make(), poller, panics }, max, &ring));
            }),
        }
    }
}

/// A consumer's work on its thread. The handler is dropped before the poller leaves the ring.
struct Consuming<'r, E, V> {
    visitor: V,
    poller: Poller<E>,
    panics: &'r AtomicU64,
}

impl<E, V: Managed<E>> Turn for Consuming<'_, E, V> {
    #[inline]
    fn turn(&mut self, max: u64) -> Polled {
        let polled = self.poller.poll_visiting(max, &mut self.visitor);
        if let Polled::Missed(missed) = polled {
            self.visitor.missed(missed);
        }
        polled
    }

    fn is_ready(&self) -> bool {
        self.poller.is_ready()
    }

    fn is_stopping(&self) -> bool {
        self.poller.has_commands()
    }

    fn sleeper(&self) -> Sleeper {
        self.poller.place().sleeper
    }

    fn panicked(&mut self) {
        count_one(self.panics);
    }
}

/// A worker's work on its thread. The handler is dropped before the worker leaves its group.
struct Working<'r, E, V> {
    visitor: V,
    worker: Worker<E>,
    panics: &'r AtomicU64,
}

// Rings of workers do not drop their oldest events, so a worker misses none.
impl<E, V: Managed<E>> Turn for Working<'_, E, V> {
    #[inline]
    fn turn(&mut self, max: u64) -> Polled {
        self.worker.poll_visiting(max, &mut self.visitor)
    }

    fn is_ready(&self) -> bool {
        self.worker.is_ready()
    }

    fn is_stopping(&self) -> bool {
        self.worker.may_leave()
    }

    fn sleeper(&self) -> Sleeper {
        self.worker.sleeper()
    }

    fn woken(&self) {
        self.worker.call_others();
    }

    fn panicked(&mut self) {
        count_one(self.panics);
        // What the panic carries is dropped next.
        self.worker.leave_lanes_to_others();
    }
}

/// Counts a panic. Only the consumer's own thread writes.
fn count_one(panics: &AtomicU64) {
    panics.store(panics.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
