//! The consumer's side of its waiting room.

use super::backlog::Backlog;
use super::parked::Parked;
use super::queue::GivenUp;
use super::room::WaitingRoom;
use super::schedule::Schedule;
use crate::broker::subscribe::registry::{Reason, Registry, SubscriptionState};
use crate::clock::Timestamp;
use crate::message::MessageId;
use crate::topic::Topic;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a consumer knows of what waits, without the room's lock.
pub(crate) struct ConsumerSide<P> {
    room: Arc<WaitingRoom<P>>,
    registry: Arc<Registry>,
    schedule: Schedule,
    /// How many messages are in the room.
    len: usize,
    /// The subscriptions that have a queue, and whose records are held for it.
    queues: BTreeSet<u64>,
    /// How many messages have been taken out to be delivered.
    taken: u64,
}

impl<P: 'static> ConsumerSide<P> {
    pub(crate) fn new(room: Arc<WaitingRoom<P>>, registry: Arc<Registry>) -> Self {
        Self { room, registry, schedule: Schedule::default(), len: 0, queues: BTreeSet::new(), taken: 0 }
    }

    /// Returns whether nothing waits.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether something that waits may be delivered.
    pub(crate) fn is_due(&self) -> bool {
        !self.schedule.is_empty()
    }

    /// Returns the number of the next call that delivers what has waited.
    pub(crate) fn call_number(&self) -> u64 {
        self.taken
    }

    /// Makes room for a message of that size.
    pub(crate) fn make_room(
        &mut self,
        state: &Arc<SubscriptionState>,
        size: usize,
        bounds: Backlog,
        now: Timestamp,
    ) -> GivenUp<P> {
        if self.queues.insert(state.id) {
            self.registry.hold(state.id);
        }
        let given_up = self.room.make_room(state, size, bounds, now);
        self.len -= given_up.expired.len() + given_up.dropped.len();
        given_up
    }

    /// Puts a message in, for which room has been made.
    pub(crate) fn push(&mut self, state: &Arc<SubscriptionState>, parked: Parked<P>) {
        self.room.push(state, parked);
        self.len += 1;
    }

    /// Has a subscription paused, or goes on with what has waited since it was.
    pub(crate) fn set_paused(&mut self, state: &SubscriptionState, is_paused: bool) {
        if !is_paused && self.queues.contains(&state.id) {
            state.set(Reason::CatchingUp, true);
            self.schedule.add(state.id);
        }
        state.set(Reason::Paused, is_paused);
    }

    /// Returns the subscription whose turn it is.
    pub(crate) fn next_turn(&mut self) -> Option<u64> {
        self.schedule.next()
    }

    /// Takes the subscription's next message out, if it may be delivered, and gives the subscription another turn.
    pub(crate) fn pop(
        &mut self,
        state: &SubscriptionState,
        id: impl FnOnce(&Parked<P>) -> (MessageId, Topic),
    ) -> Option<Parked<P>> {
        if state.waits_for(Reason::Paused) {
            return None;
        }
        let Some(parked) = self.room.pop(state.id, id) else {
            state.set(Reason::CatchingUp, false);
            return None;
        };
        self.len -= 1;
        self.taken += 1;
        self.schedule.add(state.id);
        Some(parked)
    }

    /// Says that the message that was taken out last has been settled.
    pub(crate) fn settled(&self) {
        self.room.settled();
    }

    /// Closes a subscription's queue. Returns what was in it, to be settled before
    /// [`let_go`](Self::let_go).
    pub(crate) fn close(&mut self, subscription: u64) -> Option<Vec<Parked<P>>> {
        if !self.queues.contains(&subscription) {
            return None;
        }
        let left = self.room.remove(subscription).unwrap_or_default();
        self.len -= left.len();
        Some(left)
    }

    /// Lets the record go of a subscription whose queue was closed.
    pub(crate) fn let_go(&mut self, subscription: u64) {
        if self.queues.remove(&subscription) {
            self.registry.let_go(subscription);
        }
    }

    /// Leaves the room to whoever has taken the consumer's position over.
    pub(crate) fn forsake(&mut self) {
        self.len = 0;
        self.queues.clear();
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<(Arc<SubscriptionState>, Parked<P>)> {
        self.len = 0;
        self.room.take_all()
    }
}
