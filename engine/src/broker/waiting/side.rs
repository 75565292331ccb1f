//! The consumer's side of its waiting room.

use super::backlog::Backlog;
use super::held::{Held, Returned, Said, Taken, TimedOut};
use super::line::GivenUp;
use super::parked::Parked;
use super::queue::{Next, Others, PutBack};
use super::room::{Ended, WaitingRoom};
use super::schedule::Schedule;
use crate::broker::policy::breaker::circuit::{Circuit, Permit};
use crate::broker::policy::breaker::{BreakerState, WhileOpen};
use crate::broker::policy::key::Key;
use crate::broker::subscribe::registry::{Reason, Registry, SubscriptionState};
use crate::clock::Timestamp;
use crate::message::Origin;
use crate::sync::edge;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a consumer has taken out to be delivered.
pub(crate) enum Popped<P> {
    Message(Parked<P>),
    /// A dead letter of that number.
    Replay(u64),
}

/// What a handler has panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// What a consumer knows of what waits, without the room's lock.
pub(crate) struct ConsumerSide<P> {
    room: Arc<WaitingRoom<P>>,
    registry: Arc<Registry>,
    schedule: Schedule,
    /// Those who get another turn in the consumer's next one.
    postponed: Vec<u64>,
    /// Turns in which something was to be delivered that has waited.
    turn: u64,
    /// How many messages are in the room.
    len: usize,
    /// The subscriptions that have a queue, and whose records are held for it.
    queues: BTreeSet<u64>,
    /// How many messages have been taken out to be delivered, or to be settled that handlers have kept.
    taken: u64,
    /// How many messages handlers keep.
    in_flight: usize,
    /// How many have been handed out to be kept.
    handed_out: u64,
    /// What handlers have panicked with that dropped their tokens, by the numbers of these.
    panics: BTreeMap<u64, Panic>,
    /// Tokens that have come back, of each subscription from the first.
    returned: BTreeMap<u64, VecDeque<Returned<P>>>,
    /// Whether the room is somebody else's.
    is_forsaken: bool,
}

impl<P: 'static> ConsumerSide<P> {
    pub(crate) fn new(room: Arc<WaitingRoom<P>>, registry: Arc<Registry>) -> Self {
        Self {
            room,
            registry,
            schedule: Schedule::default(),
            postponed: Vec::new(),
            turn: 0,
            len: 0,
            queues: BTreeSet::new(),
            taken: 0,
            in_flight: 0,
            handed_out: 0,
            panics: BTreeMap::new(),
            returned: BTreeMap::new(),
            is_forsaken: false,
        }
    }

    /// Returns whether nothing waits.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether something that waits may be delivered, as far as is known.
    pub(crate) fn is_due(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.len > 0 && (!self.postponed.is_empty() || self.schedule.is_due(now))
    }

    /// Returns the next moment at which something that waits may be delivered, in case that nothing may now.
    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        if self.len == 0 { None } else { self.schedule.next_moment() }
    }

    /// Begins a turn: finds out whose moment has come.
    pub(crate) fn begin_turn(&mut self, now: impl FnOnce() -> Timestamp) {
        self.turn += 1;
        for subscription in self.postponed.drain(..) {
            self.schedule.add(subscription);
        }
        self.schedule.advance(now);
    }

    /// Returns the number of the present turn.
    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// Returns the number of the calls that deliver the message that was taken out last.
    pub(crate) fn call_number(&self) -> u64 {
        self.taken
    }

    /// Returns the number of the calls that settle a message which a handler has kept. No other message's calls have
    /// it: whoever watches takes calls of one number for the same.
    pub(crate) fn next_call_number(&mut self) -> u64 {
        self.taken += 1;
        self.taken
    }

    /// Makes room for a message of that size and key. If something has given way, it is to be settled, and then
    /// [said](Self::settled) to be.
    pub(crate) fn make_room(
        &mut self,
        state: &Arc<SubscriptionState>,
        size: usize,
        key: Option<Key>,
        bounds: Backlog,
        now: Timestamp,
    ) -> GivenUp<P> {
        self.hold(state);
        let given_up = self.room.make_room(state, size, key, bounds, now);
        self.len -= given_up.expired.len() + given_up.dropped.len();
        given_up
    }

    /// Holds the record of a subscription for which something is about to wait.
    fn hold(&mut self, state: &SubscriptionState) {
        if self.queues.insert(state.id) {
            self.registry.hold(state.id);
        }
    }

    /// Returns how many messages of a subscription wait to be tried again.
    pub(crate) fn retrying(&self, subscription: u64) -> usize {
        self.room.sizes_of(subscription).retrying
    }

    /// Puts a message in that has failed, to be tried again at that moment: as the head of all others of its
    /// subscription, which wait for it, or on its own. Hands it back where a newer one waits that takes its place.
    pub(crate) fn retry(
        &mut self,
        state: &Arc<SubscriptionState>,
        parked: Parked<P>,
        due: Timestamp,
        is_head: bool,
    ) -> Option<Parked<P>> {
        self.hold(state);
        let moment = parked.expires_at().map_or(due, |expires_at| due.min(expires_at));
        if edge::left_out("put-back-at-once") {
            self.room.settled();
        }
        let PutBack { waits, outdated } = self.room.push_retry(state, parked, due, is_head);
        if !waits {
            return outdated;
        }
        if outdated.is_none() {
            self.len += 1;
        }
        if is_head {
            state.set(Reason::RetryHead, true);
        }
        self.schedule.add_at(moment, state.id);
        outdated
    }

    /// Puts a message in, for which room has been made, or that needs none. Returns the one whose place it has taken.
    pub(crate) fn push(&mut self, state: &Arc<SubscriptionState>, parked: Parked<P>) -> Option<Parked<P>> {
        self.hold(state);
        let expires_at = parked.expires_at();
        let outdated = self.room.push(state, parked);
        if outdated.is_none() {
            self.len += 1;
        }
        if let Some(moment) = expires_at {
            self.schedule.add_at(moment, state.id);
        }
        if state.waits_for(Reason::Conflating) || state.is_only_copied() {
            self.schedule.add(state.id);
        }
        outdated
    }

    /// Takes note of the state that a subscription's breaker is in.
    pub(crate) fn note_breaker(&mut self, state: &SubscriptionState, circuit: &Circuit) {
        let is_closed = circuit.state() == BreakerState::Closed;
        state.set_breaker(circuit.state(), circuit.changes());
        state.set(Reason::Breaker, !is_closed && circuit.while_open() == WhileOpen::Pause);
        self.look_at(state);
    }

    /// Has the consumer look whether something of a subscription that waits may be delivered now.
    pub(crate) fn look_at(&mut self, state: &SubscriptionState) {
        let sizes = self.room.sizes_of(state.id);
        if !sizes.is_nothing() {
            state.set(Reason::CatchingUp, !is_held(state) && sizes.backlogged > 0);
            self.schedule.add(state.id);
        }
    }

    /// Has the consumer do so at that moment, or in its next turn.
    pub(crate) fn look_later(&mut self, state: &SubscriptionState, moment: Option<Timestamp>) {
        match moment {
            Some(moment) => self.schedule.add_at(moment, state.id),
            None => self.postponed.push(state.id),
        }
    }

    /// Returns the subscription whose turn it is.
    pub(crate) fn next_turn(&mut self) -> Option<u64> {
        self.schedule.next()
    }

    /// Takes the next message out of a subscription that is not held, if it may be delivered or has expired, and
    /// gives the subscription another turn.
    pub(crate) fn pop(
        &mut self,
        state: &SubscriptionState,
        now: impl Fn() -> Timestamp,
        origin: Origin,
    ) -> Option<Popped<P>> {
        let (popped, others) = match self.room.pop(state.id, now, origin) {
            Next::Now(parked, others) => (Popped::Message(parked), others),
            Next::Replay(number, others) => (Popped::Replay(number), others),
            other => {
                if let Next::At(due) = other {
                    self.schedule.add_at(due, state.id);
                }
                // Where there is a head, that is a reason of its own.
                state.set(Reason::CatchingUp, false);
                return None;
            }
        };
        // What comes while this one is delivered comes behind it: the consumer reads it afterwards.
        state.set(Reason::CatchingUp, others.are_behind);
        self.note_popped(state, others);
        Some(popped)
    }

    /// Takes a message out of a subscription that is held, if one has expired, and gives the subscription another turn.
    pub(crate) fn take_expired(
        &mut self,
        state: &SubscriptionState,
        now: impl Fn() -> Timestamp,
        origin: Origin,
    ) -> Option<Popped<P>> {
        match self.room.take_expired(state.id, now, origin) {
            Next::Now(parked, others) => {
                // What comes next waits for what is left, and not for what has gone.
                state.set(Reason::CatchingUp, !is_held(state) && others.are_behind);
                self.note_popped(state, others);
                Some(Popped::Message(parked))
            }
            Next::At(moment) => {
                self.schedule.add_at(moment, state.id);
                None
            }
            Next::Replay(..) | Next::Nothing => None,
        }
    }

    fn note_popped(&mut self, state: &SubscriptionState, others: Others) {
        state.set(Reason::RetryHead, others.have_a_head);
        if others.are_there {
            self.schedule.add(state.id);
        }
        self.len -= 1;
        self.taken += 1;
    }

    /// Says that what was taken out last has been settled.
    pub(crate) fn settled(&self) {
        if !self.is_forsaken || edge::left_out("forsake-the-room") {
            self.room.settled();
        }
    }

    /// Closes a subscription's queue. Returns what was in it, to be settled before [`let_go`](Self::let_go), and the
    /// dead letters that it was to get.
    pub(crate) fn close(&mut self, subscription: u64) -> (Vec<Parked<P>>, Vec<u64>) {
        if !self.queues.contains(&subscription) {
            return (Vec::new(), Vec::new());
        }
        let (waited, replays) = self.room.remove(subscription);
        self.len -= waited.len() + replays.len();
        self.schedule.forget(subscription);
        (waited, replays)
    }

    /// Returns the number of the next message that is handed out to be kept.
    pub(crate) fn next_to_hand_out(&self) -> u64 {
        self.handed_out
    }

    /// Puts a message in that its handler is about to keep until then, together with at most so many.
    pub(crate) fn hand_out(
        &mut self,
        state: &Arc<SubscriptionState>,
        held: Arc<Held<P>>,
        permit: Option<Permit>,
        until: Timestamp,
        most: usize,
    ) {
        self.hold(state);
        let in_flight = self.room.hand_out(state, self.handed_out, held, until, permit);
        self.handed_out += 1;
        self.in_flight += 1;
        self.len += 1;
        state.set(Reason::InFlight, in_flight >= most);
        self.schedule.add_at(until, state.id);
    }

    /// Keeps what a handler has panicked with that dropped its token, until that has come back.
    pub(crate) fn note_panic(&mut self, number: u64, panic: Panic) {
        self.panics.insert(number, panic);
    }

    /// Takes what handlers have panicked with whose tokens nobody waits for.
    pub(crate) fn take_panics(&mut self) -> impl Iterator<Item = Panic> + use<P> {
        std::mem::take(&mut self.panics).into_values()
    }

    /// Takes note of a token that has come back. Hands it back where nobody waits for it any more.
    pub(crate) fn note_returned(&mut self, returned: Returned<P>) -> Option<Returned<P>> {
        let subscription = returned.subscription;
        if !self.room.is_in_flight(subscription, returned.number) {
            return Some(returned);
        }
        self.returned.entry(subscription).or_default().push_back(returned);
        self.schedule.add(subscription);
        None
    }

    /// Takes the next message of a subscription back whose token has come back, with what that said.
    pub(crate) fn take_back(&mut self, state: &SubscriptionState) -> Option<(Said, Taken<P>)> {
        let returned = self.returned.get_mut(&state.id)?.pop_front()?;
        if self.returned.get(&state.id).is_some_and(VecDeque::is_empty) {
            self.returned.remove(&state.id);
        }
        let Returned { number, mut said, held, .. } = returned;
        if let Some(panic) = self.panics.remove(&number) {
            said = Said::Panicked(panic);
        }
        // The token's share goes: one is left.
        drop(held);
        let taken = self.room.take_back(state.id, number)?;
        self.note_taken_back(state);
        Some((said, taken))
    }

    /// Takes a message out of a subscription that its handler keeps, and whose time is up.
    pub(crate) fn time_out(
        &mut self,
        state: &SubscriptionState,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<Taken<P>> {
        if self.in_flight == 0 {
            return None;
        }
        match self.room.time_out(state.id, now()) {
            TimedOut::Message(taken) => {
                self.note_taken_back(state);
                Some(taken)
            }
            TimedOut::NotBefore(moment) => {
                self.schedule.add_at(moment, state.id);
                None
            }
            TimedOut::Nothing => None,
        }
    }

    /// Takes a message out that was not handed out after all. It is to be settled, and then [said](Self::settled) to
    /// be.
    pub(crate) fn revoke(&mut self, state: &SubscriptionState, number: u64) -> Option<Arc<Held<P>>> {
        let (held, _) = self.room.take_back(state.id, number)?;
        self.note_taken_back(state);
        Some(held)
    }

    /// There is one less in flight, and perhaps room for another.
    fn note_taken_back(&mut self, state: &SubscriptionState) {
        self.in_flight -= 1;
        self.len -= 1;
        state.set(Reason::InFlight, false);
        self.look_at(state);
        self.schedule.add(state.id);
    }

    /// Returns how many messages handlers keep.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes all out that handlers keep, of all subscriptions or of one. All of it is to be settled, and then
    /// [said](Self::settled) to be.
    pub(crate) fn end_in_flight(&mut self, of: Option<u64>) -> Vec<Ended<P>> {
        let ended = self.room.end_in_flight(of);
        self.in_flight -= ended.len();
        self.len -= ended.len();
        ended
    }

    /// Takes the tokens out that have come back, of all subscriptions or of one.
    pub(crate) fn take_returned(&mut self, of: Option<u64>) -> Vec<Returned<P>> {
        match of {
            Some(subscription) => self.returned.remove(&subscription).unwrap_or_default().into(),
            None => std::mem::take(&mut self.returned).into_values().flatten().collect(),
        }
    }

    /// Has dead letters of a subscription's replayed.
    pub(crate) fn replay(&mut self, state: &Arc<SubscriptionState>, letters: Vec<(Timestamp, u64)>) {
        self.hold(state);
        self.len += letters.len();
        self.room.replay(state, letters);
        self.look_at(state);
    }

    /// Says which message is being delivered.
    pub(crate) fn begin_call(&self, subscription: u64, parked: &Parked<P>, origin: Origin) {
        self.room.begin_call(subscription, parked, origin);
    }

    /// Lets the record go of a subscription whose queue was closed.
    pub(crate) fn let_go(&mut self, subscription: u64) {
        if self.queues.remove(&subscription) {
            self.registry.let_go(subscription);
        }
    }

    /// Leaves the room to whoever has taken the consumer's position over.
    pub(crate) fn forsake(&mut self) {
        (self.len, self.in_flight, self.is_forsaken) = (0, 0, true);
        self.queues.clear();
    }

    /// Takes the numbers of all dead letters out that are to be replayed.
    pub(crate) fn take_replays(&mut self) -> Vec<u64> {
        let replays = self.room.take_replays();
        self.len -= replays.len();
        replays
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<(Arc<SubscriptionState>, Parked<P>)> {
        self.len = self.in_flight;
        self.room.take_all()
    }
}

/// Whether nothing of a subscription may be delivered for a reason of its own, beside what came before.
fn is_held(state: &SubscriptionState) -> bool {
    [Reason::Paused, Reason::Breaker, Reason::InFlight, Reason::Away]
        .into_iter()
        .any(|reason| state.waits_for(reason))
}
