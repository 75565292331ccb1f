//! The waiting room of one consumer: a queue for each subscription that has something to wait for.

use super::backlog::Backlog;
use super::line::GivenUp;
use super::parked::Parked;
use super::queue::{Next, Queue, Sizes};
use crate::broker::policy::key::Key;
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::clock::Timestamp;
use crate::message::MessageId;
use crate::sync::Mutex;
use crate::topic::Topic;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What lies under the lock.
struct Inner<P> {
    /// By subscription.
    queues: BTreeMap<u64, Queue<P>>,
    /// The message that was taken out and has not been settled.
    in_call: Option<(MessageId, Topic)>,
    /// Whether others were, to be settled at once.
    is_settling: bool,
}

/// The messages of a consumer that wait. Only the consumer puts in and takes out, as long as nobody has
/// taken its position over.
pub(crate) struct WaitingRoom<P>(Mutex<Inner<P>>);

impl<P> Default for WaitingRoom<P> {
    fn default() -> Self {
        Self(Mutex::new(Inner { queues: BTreeMap::new(), in_call: None, is_settling: false }))
    }
}

impl<P: 'static> WaitingRoom<P> {
    /// Makes room for a message of that size and key.
    pub(crate) fn make_room(
        &self,
        state: &Arc<SubscriptionState>,
        size: usize,
        key: Option<Key>,
        bounds: Backlog,
        now: Timestamp,
    ) -> GivenUp<P> {
        let mut inner = self.0.lock();
        let queue = inner.queues.entry(state.id).or_insert_with(|| Queue::new(state.clone()));
        queue.make_room(size, key, bounds, now)
    }

    /// Puts a message in behind the others of its subscription. Returns the one whose place it has taken.
    pub(crate) fn push(&self, state: &Arc<SubscriptionState>, parked: Parked<P>) -> Option<Parked<P>> {
        let mut inner = self.0.lock();
        inner.queues.entry(state.id).or_insert_with(|| Queue::new(state.clone())).push(parked)
    }

    /// Puts a message in that is to be tried again at that moment. Hands it back where a newer one waits that takes its
    /// place.
    pub(crate) fn push_retry(
        &self,
        state: &Arc<SubscriptionState>,
        parked: Parked<P>,
        due: Timestamp,
        is_head: bool,
    ) -> Option<Parked<P>> {
        let mut inner = self.0.lock();
        let queue = inner.queues.entry(state.id).or_insert_with(|| Queue::new(state.clone()));
        let outdated = queue.push_retry(parked, due, is_head);
        if outdated.is_none() {
            inner.in_call = None;
        }
        outdated
    }

    /// Takes the subscription's next message out that may be delivered.
    pub(crate) fn pop(
        &self,
        subscription: u64,
        now: impl FnOnce() -> Timestamp,
        id: impl FnOnce(&Parked<P>) -> (MessageId, Topic),
    ) -> Next<P> {
        let mut inner = self.0.lock();
        let next = inner.queues.get_mut(&subscription).map_or(Next::Nothing, |queue| queue.pop(now));
        if let Next::Now(parked, _) = &next {
            inner.in_call = Some(id(parked));
        }
        next
    }

    /// Says which message is being delivered.
    pub(crate) fn begin_call(&self, id: MessageId, topic: Topic) {
        self.0.lock().in_call = Some((id, topic));
    }

    /// Has dead letters of a subscription's replayed.
    pub(crate) fn replay(&self, state: &Arc<SubscriptionState>, letters: Vec<(Timestamp, u64)>) {
        let mut inner = self.0.lock();
        inner.queues.entry(state.id).or_insert_with(|| Queue::new(state.clone())).replay(letters);
    }

    /// Closes the subscription's queue, and returns what was in it, in order, and which dead letters it was to
    /// get. All of it is to be settled, and then [said](Self::settled) to be.
    pub(crate) fn remove(&self, subscription: u64) -> (Vec<Parked<P>>, Vec<u64>) {
        let mut inner = self.0.lock();
        inner.is_settling = true;
        let queue = inner.queues.remove(&subscription);
        drop(inner);
        queue.map_or_else(Default::default, |mut queue| {
            let replays = queue.take_replays().collect();
            (queue.take_all().collect(), replays)
        })
    }

    /// Takes the numbers of all dead letters out that are to be replayed.
    pub(crate) fn take_replays(&self) -> Vec<u64> {
        self.0.lock().queues.values_mut().flat_map(Queue::take_replays).collect()
    }

    /// Takes everything out, in order for each subscription. All of it is to be settled, and then
    /// [said](Self::settled) to be.
    pub(crate) fn take_all(&self) -> Vec<(Arc<SubscriptionState>, Parked<P>)> {
        let mut inner = self.0.lock();
        inner.is_settling = true;
        for queue in inner.queues.values() {
            queue.state.set(Reason::CatchingUp, false);
            queue.state.set(Reason::RetryHead, false);
        }
        let all = inner.queues.values_mut().flat_map(|queue| {
            let state = queue.state.clone();
            queue.take_all().map(move |parked| (state.clone(), parked))
        });
        all.collect()
    }

    /// Returns whether nothing waits, and nothing that has waited is being delivered.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.0.lock();
        inner.in_call.is_none()
            && !inner.is_settling
            && inner.queues.values().all(|queue| queue.sizes().is_nothing())
    }

    /// Says that what was taken out last has been settled.
    pub(crate) fn settled(&self) {
        let mut inner = self.0.lock();
        (inner.in_call, inner.is_settling) = (None, false);
    }

    /// Returns the message that was taken out and has not been settled.
    pub(crate) fn in_call(&self) -> Option<(MessageId, Topic)> {
        self.0.lock().in_call.clone()
    }

    /// Returns how much of the subscription's messages waits.
    pub(crate) fn sizes_of(&self, subscription: u64) -> Sizes {
        self.0.lock().queues.get(&subscription).map_or_else(Sizes::default, Queue::sizes)
    }

    /// Returns how much waits of each subscription that has a queue.
    pub(crate) fn sizes(&self) -> Vec<(u64, Sizes)> {
        self.0.lock().queues.iter().map(|(&subscription, queue)| (subscription, queue.sizes())).collect()
    }
}
