//! A consumer: its position in its ring, its desk, and `turn`, which makes it do up to so many events' work.
//!
//! Who calls `turn` is the only difference between a pinned thread and any other way of consuming. Here it is a thread.

use super::context::{self, Consuming};
use super::desk::Desk;
use super::shutdown::Exits;
use crate::message::Envelope;
use crate::observe::{Counter, Recorder};
use crate::ring::{Polled, Poller};
use crate::sync::CachePadded;
use crate::wait::{Deadline, WaitStrategy, wait_until};
use std::sync::Arc;

/// How many events a thread handles between two looks at whether it should stop.
const EVENTS_A_TURN: u64 = 1_024;

/// Of so many batches, the first message's latency is recorded once.
const BATCHES_A_SAMPLE: u32 = 16;

/// What a consumer has done. Written by the consumer.
#[derive(Debug, Default)]
pub(crate) struct ConsumerTally {
    /// Events gone through and released.
    pub(crate) consumed: CachePadded<Counter>,
    pub(crate) tombstones: Counter,
    /// From publish to reading.
    pub(crate) latency: Recorder,
}

/// A consumer of one ring.
pub(crate) struct Consumer<P> {
    pub(crate) poller: Poller<Envelope<P>>,
    pub(crate) desk: Desk<P>,
    pub(crate) tally: Arc<ConsumerTally>,
    pub(crate) wait: WaitStrategy,
    pub(crate) exits: Arc<Exits<P>>,
    /// The address that tells this broker from others.
    pub(crate) broker: usize,
    pub(crate) batches: u32,
}

impl<P: Clone> Consumer<P> {
    /// Reads the mail and handles up to `max` events.
    #[inline]
    pub(crate) fn turn(&mut self, max: u64) -> Polled {
        let Self { poller, desk, tally, batches, .. } = self;
        if poller.is_summoned() {
            desk.read_mail(poller.lease());
        }
        let mut unreleased = 0;
        let mut is_sampled = batches.is_multiple_of(BATCHES_A_SAMPLE);
        let polled = poller.poll_leased(max, |envelope, sequence, end_of_batch, lease| {
            if is_sampled {
                is_sampled = false;
                tally.latency.record(desk.clock.now().since(desk.clock.moment(envelope.published_at)).as_nanos() as u64);
            }
            desk.handle(envelope, sequence, lease);
            unreleased += 1;
            // Counted before it is released, so that what has been released is never more than what is counted; and
            // not at all once somebody else has taken the position over.
            if end_of_batch && !lease.is_lost() {
                tally.consumed.add(unreleased);
                unreleased = 0;
            }
        });
        if !poller.lease().is_lost() {
            // What is left where a batch ends with a tombstone.
            if unreleased > 0 {
                tally.consumed.add(unreleased);
            }
            let tombstones = poller.tombstones() - tally.tombstones.get();
            if tombstones > 0 {
                tally.tombstones.add(tombstones);
            }
        }
        if matches!(polled, Polled::Events(_)) {
            *batches = batches.wrapping_add(1);
        }
        polled
    }

    /// The life of a consumer's thread.
    pub(crate) fn run(mut self) {
        let exits = self.exits.clone();
        let _leaving = exits.leaving();
        let consuming =
            Consuming { broker: self.broker, dispatcher: self.desk.dispatcher, consumer: self.desk.consumer };
        context::enter_consumer(consuming);
        let readers = self.poller.readers();
        loop {
            match self.turn(EVENTS_A_TURN) {
                Polled::Events(_) => {}
                Polled::Empty => {
                    let poller = &self.poller;
                    wait_until(self.wait, &readers, Deadline::NEVER, || {
                        (poller.is_ready() || poller.is_summoned()).then_some(())
                    });
                }
                Polled::Finished => break,
            }
        }
        // Handlers and what they captured are dropped here, on their own thread, while it still counts as a consumer: a
        // captured publisher may publish when it is dropped.
        self.desk.clear();
        self.exits.hand_back(std::mem::take(&mut self.desk.handed_back));
        context::leave_consumer();
    }
}
