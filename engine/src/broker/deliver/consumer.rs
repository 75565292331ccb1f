//! A consumer: its position in its ring, its handler table, and `turn`, which makes it do up to so
//! many events' work.
//!
//! Who calls `turn` is the only difference between a pinned thread and any other way of consuming.
//! Here it is a thread.

use super::context::{self, Consuming};
use super::handlers::HandlerTable;
use super::sampler::Sampler;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::lifecycle::threads::ThreadRegistry;
use crate::message::Envelope;
use crate::ring::{LINGER, Linger, Polled, Poller};
use crate::routing::ConsumerAddr;
use crate::sync::panics::discard_panic;
use crate::wait::{Deadline, Waiter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The most events of one turn.
const EVENTS_PER_TURN: u64 = 64;

/// A consumer of one ring.
pub(crate) struct Consumer<P> {
    poller: Poller<Envelope<P>>,
    handlers: HandlerTable<P>,
    tally: Arc<ConsumerTally>,
    sampler: Sampler,
}

impl<P: Clone> Consumer<P> {
    pub(crate) fn new(
        poller: Poller<Envelope<P>>,
        handlers: HandlerTable<P>,
        tally: Arc<ConsumerTally>,
    ) -> Self {
        let ConsumerAddr { dispatcher, number } = handlers.consumer;
        let sampler = Sampler::new(u64::from(dispatcher) << 32 | u64::from(number) << 1);
        Self { poller, handlers, tally, sampler }
    }

    /// The threads of the broker, where this one's is to sign off.
    pub(crate) fn threads(&self) -> &Arc<ThreadRegistry<P>> {
        &self.handlers.common.threads
    }

    /// Reads the mail and handles up to `max` events, no more than the poller releases at once:
    /// whatever call of a handler does not return, all that has been released before it is counted.
    #[inline]
    pub(crate) fn turn(&mut self, max: u64) -> Polled {
        let Self { poller, handlers, tally, sampler, .. } = self;
        let max = max.min((poller.capacity() / 8).clamp(1, EVENTS_PER_TURN));
        if poller.has_commands() {
            handlers.read_mail(poller.lease());
        }
        let mut unreleased = 0;
        let polled = poller.poll_leased(max, |envelope, sequence, end_of_batch, lease| {
            if sampler.takes(sequence) {
                let clock = &handlers.common.clock;
                let latency = clock.now().since(clock.moment(envelope.published_at));
                tally.latency.record(latency.as_nanos() as u64);
            }
            handlers.handle(envelope, sequence, lease, tally);
            unreleased += 1;
            // Counted before it is released, so that what has been released is never more than what
            // is counted; and not at all once somebody else has taken the position over.
            if end_of_batch && !lease.is_lost() {
                tally.consumed.add(unreleased);
                unreleased = 0;
            }
        });
        self.count();
        polled
    }

    /// Counts what has been released and is not yet counted: what a batch ends with that is a
    /// tombstone, or that a panic has cut short.
    #[inline]
    fn count(&self) {
        let Self { poller, tally, .. } = self;
        if poller.lease().is_lost() {
            return;
        }
        let tombstones = poller.tombstones();
        if tombstones > tally.tombstones.get() {
            tally.tombstones.add(tombstones - tally.tombstones.get());
        }
        let consumed = poller.next_sequence() - tombstones;
        if consumed > tally.consumed.get() {
            tally.consumed.add(consumed - tally.consumed.get());
        }
    }

    /// A turn that no panic leaves. Handlers' panics are caught where they are called; this one
    /// catches those of what else runs here and is not ours: the drop of a late result, a log's
    /// subscriber.
    fn safe_turn(&mut self) -> Polled {
        catch_unwind(AssertUnwindSafe(|| self.turn(EVENTS_PER_TURN))).unwrap_or_else(|payload| {
            discard_panic(payload);
            self.count();
            Polled::Events(0)
        })
    }

    /// The life of a consumer's thread.
    pub(crate) fn run(mut self) {
        let threads = self.handlers.common.threads.clone();
        let _exit_guard = threads.exit_guard(Some(self.handlers.mailbox.clone()));
        let consuming = Consuming { broker: self.handlers.common.id, consumer: self.handlers.consumer };
        context::enter_consumer(consuming);
        let readers = self.poller.readers();
        let mut waiter = Waiter::new();
        let mut linger = Linger::new(LINGER);
        loop {
            match self.safe_turn() {
                Polled::Events(handled) => linger.after(handled, EVENTS_PER_TURN),
                // A dispatcher's ring never drops.
                Polled::Missed(_) => {}
                Polled::Empty => {
                    let (poller, mailbox) = (&self.poller, &self.handlers.mailbox);
                    waiter.wait_until(
                        || poller.wait_strategy(),
                        &readers,
                        Deadline::NEVER,
                        || {
                            // A stop stays set, and what it waits for may be long in the hands of a
                            // publisher.
                            let has_mail = || {
                                poller.has_commands() && !(poller.lease().is_stopped() && mailbox.is_empty())
                            };
                            (poller.is_ready_leased() || has_mail()).then_some(())
                        },
                    );
                }
                Polled::Finished => break,
            }
        }
        // Handlers and what they captured are dropped here, on their own thread, while it still
        // counts as a consumer: a captured publisher may publish when it is dropped.
        self.handlers.clear();
        threads.hand_back(std::mem::take(&mut self.handlers.handed_back));
        context::leave_consumer();
    }
}
