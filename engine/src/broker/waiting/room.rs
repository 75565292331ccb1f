//! The waiting room of one consumer: a queue for each subscription that has something to wait for.

use super::backlog::Backlog;
use super::held::{Held, Taken, TimedOut};
use super::hold::Settled;
use super::line::GivenUp;
use super::parked::Parked;
use super::queue::{Next, PutBack, Queue, Sizes};
use crate::broker::lifecycle::report::InDoubt;
use crate::broker::policy::breaker::circuit::Permit;
use crate::broker::policy::key::Key;
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::clock::Timestamp;
use crate::message::{MessageId, Origin};
use crate::sync::{Mutex, edge};
use crate::topic::Topic;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A message that was taken out to be delivered.
#[derive(Clone)]
pub(crate) struct InCall {
    pub(crate) subscription: u64,
    pub(crate) message: MessageId,
    pub(crate) topic: Topic,
}

impl InCall {
    fn of<P: 'static>(subscription: u64, parked: &Parked<P>, origin: Origin) -> Self {
        Self { subscription, message: parked.id(origin), topic: parked.topic().clone() }
    }
}

/// What lies under the lock.
struct Inner<P> {
    /// By subscription.
    queues: BTreeMap<u64, Queue<P>>,
    /// The message that was taken out and has not been settled.
    in_call: Option<InCall>,
    /// Whether others were, to be settled at once; or a dead letter, to be copied.
    is_settling: bool,
}

impl<P> Inner<P> {
    /// Takes note of the message that was taken out to be delivered, under the same lock: so it is in one place for
    /// whoever looks.
    fn note_in_call(&mut self, in_call: InCall) {
        if !edge::left_out("note-in-call") {
            self.in_call = Some(in_call);
        }
    }

    /// Takes note that something was taken out to be settled, likewise.
    fn note_settling(&mut self) {
        self.is_settling |= !edge::left_out("note-settling");
    }
}

/// A message that its handler keeps, and for which nobody waits any more.
pub(crate) struct Ended<P> {
    pub(crate) state: Arc<SubscriptionState>,
    pub(crate) number: u64,
    pub(crate) held: Arc<Held<P>>,
    /// How it had been settled before, if it had.
    pub(crate) before: Option<Settled>,
}

impl<P: 'static> Ended<P> {
    /// Says what it is.
    pub(crate) fn in_doubt(&self, origin: Origin) -> InDoubt {
        let Held { parked, .. } = &*self.held;
        let (message, topic) = (parked.id(origin), parked.topic().clone());
        InDoubt { subscription: self.state.name.clone(), message, topic }
    }
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
    /// Makes room for a message of that size and key. What has given way is to be settled, and then
    /// [said](Self::settled) to be.
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
        let given_up = queue.make_room(size, key, bounds, now);
        if !given_up.is_nothing() {
            inner.note_settling();
        }
        given_up
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
    ) -> PutBack<P> {
        let mut inner = self.0.lock();
        let queue = inner.queues.entry(state.id).or_insert_with(|| Queue::new(state.clone()));
        let put_back = queue.push_retry(parked, due, is_head);
        if put_back.outdated.is_none() {
            (inner.in_call, inner.is_settling) = (None, false);
        }
        put_back
    }

    /// Takes the subscription's next message out that may be delivered; or the number of a dead letter, of which
    /// [`begin_call`](Self::begin_call) is to tell when it has been copied.
    pub(crate) fn pop(&self, subscription: u64, now: impl Fn() -> Timestamp, origin: Origin) -> Next<P> {
        let mut inner = self.0.lock();
        let next = inner.queues.get_mut(&subscription).map_or(Next::Nothing, |queue| queue.pop(now));
        match &next {
            Next::Now(parked, _) => inner.note_in_call(InCall::of(subscription, parked, origin)),
            Next::Replay(..) => inner.note_settling(),
            Next::At(_) | Next::Nothing => {}
        }
        next
    }

    /// Takes a message out of the subscription that has expired, while none may be delivered. Returns when the next one
    /// does, if there is none now.
    pub(crate) fn take_expired(
        &self,
        subscription: u64,
        now: impl Fn() -> Timestamp,
        origin: Origin,
    ) -> Next<P> {
        let mut inner = self.0.lock();
        let Some(queue) = inner.queues.get_mut(&subscription) else { return Next::Nothing };
        match queue.first_expiry() {
            Some(moment) if moment > now() => Next::At(moment),
            Some(_) => match queue.take_expired(now()) {
                Some(parked) => {
                    let others = queue.others();
                    inner.note_in_call(InCall::of(subscription, &parked, origin));
                    Next::Now(parked, others)
                }
                None => Next::Nothing,
            },
            None => Next::Nothing,
        }
    }

    /// Puts a message in that its handler keeps. Returns how many of its subscription are in flight now.
    pub(crate) fn hand_out(
        &self,
        state: &Arc<SubscriptionState>,
        number: u64,
        held: Arc<Held<P>>,
        until: Timestamp,
        permit: Option<Permit>,
    ) -> usize {
        let mut inner = self.0.lock();
        let queue = inner.queues.entry(state.id).or_insert_with(|| Queue::new(state.clone()));
        queue.in_flight.insert(number, held, until, permit);
        let in_flight = queue.in_flight.len();
        inner.in_call = None;
        in_flight
    }

    /// Returns whether a message is waited for that its handler keeps.
    pub(crate) fn is_in_flight(&self, subscription: u64, number: u64) -> bool {
        let inner = self.0.lock();
        inner.queues.get(&subscription).is_some_and(|queue| queue.in_flight.contains(number))
    }

    /// Takes a message out that its handler kept and that has come back.
    pub(crate) fn take_back(&self, subscription: u64, number: u64) -> Option<Taken<P>> {
        let mut inner = self.0.lock();
        let taken = inner.queues.get_mut(&subscription)?.in_flight.remove(number)?;
        inner.note_settling();
        Some(taken)
    }

    /// Takes a message out that its handler keeps and whose time is up.
    pub(crate) fn time_out(&self, subscription: u64, now: Timestamp) -> TimedOut<P> {
        let mut inner = self.0.lock();
        let Some(queue) = inner.queues.get_mut(&subscription) else { return TimedOut::Nothing };
        let timed_out = queue.in_flight.time_out(now);
        if matches!(timed_out, TimedOut::Message(..)) {
            inner.note_settling();
        }
        timed_out
    }

    /// Takes all out that handlers keep, of all subscriptions or of one: nobody waits for them any more. Returns each,
    /// and who had settled it before. All of it is to be settled, and then [said](Self::settled) to be.
    pub(crate) fn end_in_flight(&self, of: Option<u64>) -> Vec<Ended<P>> {
        let mut inner = self.0.lock();
        inner.note_settling();
        let mut ended = Vec::new();
        for (_, queue) in
            inner.queues.iter_mut().filter(|(subscription, _)| of.is_none_or(|of| of == **subscription))
        {
            let state = queue.state.clone();
            let these = queue.in_flight.end().into_iter();
            ended.extend(these.map(|(number, held, before)| Ended {
                state: state.clone(),
                number,
                held,
                before,
            }));
        }
        ended
    }

    /// Says which message is being delivered.
    pub(crate) fn begin_call(&self, subscription: u64, parked: &Parked<P>, origin: Origin) {
        let mut inner = self.0.lock();
        inner.note_in_call(InCall::of(subscription, parked, origin));
        inner.is_settling = false;
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
        inner.note_settling();
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
        inner.note_settling();
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

    /// Returns whether nothing of it is being handled, or could be at this moment.
    pub(crate) fn is_quiet(&self, now: Timestamp) -> bool {
        let inner = self.0.lock();
        inner.in_call.is_none()
            && !inner.is_settling
            && inner.queues.values().all(|queue| queue.is_quiet(now))
    }

    /// Returns whether nothing of a subscription waits, is kept, or is being handled.
    pub(crate) fn is_empty_for(&self, subscription: u64) -> bool {
        let inner = self.0.lock();
        let is_in_call = inner.in_call.as_ref().is_some_and(|in_call| in_call.subscription == subscription);
        !is_in_call
            && !inner.is_settling
            && inner.queues.get(&subscription).is_none_or(|queue| queue.sizes().is_nothing())
    }

    /// Says that what was taken out last has been settled.
    pub(crate) fn settled(&self) {
        let mut inner = self.0.lock();
        (inner.in_call, inner.is_settling) = (None, false);
    }

    /// Returns the message that was taken out and has not been settled.
    pub(crate) fn in_call(&self) -> Option<InCall> {
        self.0.lock().in_call.clone()
    }

    /// Returns the message of a subscription that was handed out last, of those that are kept.
    pub(crate) fn last_handed_out(&self, subscription: u64, origin: Origin) -> Option<(MessageId, Topic)> {
        let inner = self.0.lock();
        let held = inner.queues.get(&subscription)?.in_flight.last()?;
        Some((held.parked.id(origin), held.parked.topic().clone()))
    }

    /// Returns how much of the subscription's messages waits.
    pub(crate) fn sizes_of(&self, subscription: u64) -> Sizes {
        self.0.lock().queues.get(&subscription).map_or_else(Sizes::default, Queue::sizes)
    }

    /// Returns how much waits in all.
    pub(crate) fn total(&self) -> Sizes {
        self.0.lock().queues.values().map(Queue::sizes).sum()
    }

    /// Returns how much waits of each subscription that has a queue.
    pub(crate) fn sizes(&self) -> Vec<(u64, Sizes)> {
        self.0.lock().queues.iter().map(|(&subscription, queue)| (subscription, queue.sizes())).collect()
    }
}
