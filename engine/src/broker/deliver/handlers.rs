//! A consumer's handler table: the handlers that it owns, its cache of routes, and the handling of
//! one event.

use super::common::Common;
use super::delivery::{Delivery, has_expired};
use super::hand_back::{end_kept, hand_back_waiting};
use super::mailbox::{Command, Mailbox, OwnedSubscription, Wish};
use super::outcome::Outcome;
use super::route_cache::{CachedRoute, RouteCache};
use super::settle::{settle_delivered, settle_uncalled};
use super::source::{Event, Left};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::lifecycle::report::Undelivered;
use crate::broker::subscribe::handler::drop_handler;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::subscribe::token::Issuer;
use crate::broker::waiting::room::WaitingRoom;
use crate::broker::waiting::side::ConsumerSide;
use crate::clock::Timestamp;
use crate::message::{Envelope, Message, MessagePayload, Occasion};
use crate::ring::{Called, Lease, Sequence};
use crate::routing::{ConsumerAddr, RouteId};
use crate::sync::edge;
use crate::sync::panics::guard;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// What a consumer needs to handle events.
pub(crate) struct HandlerTable<P> {
    pub(crate) consumer: ConsumerAddr,
    pub(crate) common: Common<P>,
    /// On which its handlers see messages.
    pub(super) occasion: Occasion,
    pub(crate) mailbox: Arc<Mailbox<P>>,
    route_cache: RouteCache,
    pub(super) owned: Vec<Option<OwnedSubscription<P>>>,
    free: Vec<u32>,
    /// Places in `owned` by subscription.
    pub(super) places: HashMap<u64, u32, ahash::RandomState>,
    pub(super) left: Left<P>,
    #[cfg(all(test, not(ringmain_loom)))]
    pub(super) panics_in_turn: bool,
}

impl<P: MessagePayload> HandlerTable<P> {
    pub(crate) fn new(
        consumer: ConsumerAddr,
        common: Common<P>,
        mailbox: Arc<Mailbox<P>>,
        room: Arc<WaitingRoom<P>>,
        tally: Arc<ConsumerTally>,
    ) -> Self {
        let left = Left {
            refused: Vec::new(),
            undropped: Vec::new(),
            waiting: ConsumerSide::new(room, common.registry.clone()),
            dead_letters: common.dead_letters.clone(),
            origin: common.origin,
            tally,
            issuer: Issuer {
                home: mailbox.clone(),
                origin: common.origin,
                clock: common.clock.clone(),
                process: common.process,
            },
        };
        let occasion = Occasion::of_calls(&common.clock, mailbox.supervisor().stop_sign());
        Self {
            consumer,
            common,
            occasion,
            mailbox,
            route_cache: RouteCache::default(),
            owned: Vec::new(),
            free: Vec::new(),
            places: HashMap::default(),
            left,
            #[cfg(all(test, not(ringmain_loom)))]
            panics_in_turn: false,
        }
    }

    /// Delivers one event to each of this consumer's subscriptions that it was routed to.
    #[inline(always)]
    pub(crate) fn handle(
        &mut self,
        envelope: &Envelope<P>,
        sequence: Sequence,
        lease: &Lease,
        tally: &ConsumerTally,
    ) {
        // A subscription's handler was posted before a message could be routed there, and whoever
        // sees the message sees that there is mail. So when a route is met for the first time, the
        // handlers that it leads to are here.
        if lease.has_commands() && !edge::left_out("mail-before-message") {
            self.read_mail(lease);
        }
        if !self.route_cache.is_cached(envelope.route) {
            self.cache_route(envelope.route);
        }
        let Some(cached) = self.route_cache.get(envelope.route.index) else { return };
        let topic = &cached.route.topic;
        let message = Message::new(envelope, topic, self.common.origin, &self.occasion);
        let has_expired = envelope.extras().is_some() && has_expired(&message, &self.common.clock);
        let clock = &self.common.clock;
        // Put together where it is needed: one that lies in memory all the time costs ten instructions.
        let delivery =
            || Delivery { message: &message, source: Event { lease, sequence }, tally, clock, retried: None };
        for &place in &cached.deliveries {
            let Some(Some(owned)) = self.owned.get_mut(place as usize) else { continue };
            let OwnedSubscription { state, handler, .. } = owned;
            let left = &mut self.left;
            let handler = match handler {
                Some(handler) if state.is_plain() && !has_expired => handler,
                handler => {
                    if !delivery().deliver_in_steps(state, handler, has_expired, left) {
                        return;
                    }
                    continue;
                }
            };
            let called = delivery().call(state, &mut **handler);
            if matches!(called, Called::Returned(Ok(Ok(())))) {
                settle_delivered(&state.tally, tally);
            } else if !delivery().end_otherwise(state, handler, called, left) {
                return;
            }
        }
        if !self.left.refused.is_empty() {
            if !self.left.waiting.is_empty() {
                // It came before.
                hand_back_waiting(self.consumer, &self.common, &mut self.left);
            }
            // At once: what comes next may never return.
            self.common.threads.withhold();
            let refused = std::mem::take(&mut self.left.refused);
            self.common.threads.hand_back(self.consumer, Undelivered::copy(&message, refused));
        }
    }

    /// Hands everything back that waits: the broker stops.
    pub(super) fn hand_back(&mut self) {
        hand_back_waiting(self.consumer, &self.common, &mut self.left);
    }

    /// Finds out where a route leads among this consumer's subscriptions.
    #[cold]
    fn cache_route(&mut self, id: RouteId) {
        self.forget(id.index);
        let Some(route) = self.common.routes.get(id) else {
            debug_assert!(false, "a message travels a route that is not linked");
            guard(|| {
                tracing::error!(target: "ringmain::consumer", route = id.index, "a message travels an unknown route");
            });
            return;
        };
        let subscriptions: SmallVec<[u64; 8]> = route.destinations.of(self.consumer).collect();
        let mut deliveries = SmallVec::new();
        for subscription in subscriptions {
            if let Some(place) = self.place_of(subscription) {
                if let Some(Some(owned)) = self.owned.get_mut(place as usize) {
                    owned.routes += 1;
                }
                deliveries.push(place);
            }
        }
        self.route_cache.insert(id, CachedRoute::new(id, route, deliveries));
    }

    /// Where a subscription is kept. One that has been released already comes back without its
    /// handler, so that what is dropped for it is counted.
    fn place_of(&mut self, subscription: u64) -> Option<u32> {
        if let Some(&place) = self.places.get(&subscription) {
            return Some(place);
        }
        let state = self.common.registry.find(subscription)?;
        Some(self.insert(OwnedSubscription { state, handler: None, routes: 0 }))
    }

    fn insert(&mut self, owned: OwnedSubscription<P>) -> u32 {
        let subscription = owned.state.id;
        let place = self.free.pop().unwrap_or_else(|| {
            self.owned.push(None);
            (self.owned.len() - 1) as u32
        });
        self.owned[place as usize] = Some(owned);
        self.places.insert(subscription, place);
        place
    }

    /// Carries out all commands. A panic there is the end of this consumer.
    #[cold]
    pub(crate) fn read_mail(&mut self, lease: &Lease) {
        if lease.is_lost() {
            self.left.waiting.forsake();
        }
        while guard(|| self.read_commands(lease)).is_none() {
            self.die();
        }
    }

    /// Says that this consumer has died. It calls no handler any more: what is left in its ring it
    /// hands back. Publishers are refused.
    #[cold]
    pub(crate) fn die(&self) {
        // First of all: who finds the ring closed is to find out why.
        self.common.threads.note_death(self.consumer);
        let supervisor = self.mailbox.supervisor();
        supervisor.close_ring();
        // By the consumer itself, between two calls.
        let _ = supervisor.stop();
    }

    fn read_commands(&mut self, lease: &Lease) {
        lease.take_mail();
        while let Some(command) = self.mailbox.fetch() {
            self.read(command);
        }
    }

    fn read(&mut self, command: Command<P>) {
        match command {
            Command::Adopt(owned) => {
                self.insert(*owned);
            }
            Command::Release { subscription, done } => {
                self.release(subscription);
                done.open();
            }
            Command::Heed(wish) => self.heed(wish),
            Command::TakeBack(returned) => {
                if let Some(unwanted) = self.left.waiting.note_returned(returned) {
                    guard(|| drop(unwanted));
                }
            }
            Command::Replay { state, letters } => self.replay(&state, letters),
            Command::Forget(routes) => {
                for id in routes.iter() {
                    if self.route_cache.is_cached(*id) {
                        self.forget(id.index);
                    }
                }
            }
            #[cfg(all(test, not(ringmain_loom)))]
            Command::Panic => panic!("planted"),
            #[cfg(all(test, not(ringmain_loom)))]
            Command::PanicInTurn => self.panics_in_turn = true,
        }
    }

    fn replay(&mut self, state: &Arc<SubscriptionState>, letters: Vec<(Timestamp, u64)>) {
        let place = self.places.get(&state.id).copied();
        let owned = place.and_then(|place| self.owned.get(place as usize)?.as_ref());
        if owned.is_some_and(|owned| owned.handler.is_some()) {
            self.left.waiting.replay(state, letters);
        } else {
            self.left.cancel_replays(letters.into_iter().map(|(_, number)| number));
        }
    }

    fn heed(&mut self, Wish { state, is_paused, breaker, done }: Wish) {
        let Self { owned, places, left, .. } = self;
        let owned = places.get(&state.id).and_then(|&place| owned.get_mut(place as usize)?.as_mut());
        let guarded = owned.and_then(|owned| owned.handler.as_mut()?.breaker());
        if let (Some(guarded), Some(force)) = (guarded, breaker) {
            guarded.force(force);
            left.waiting.note_breaker(&state, &guarded.circuit);
        }
        if is_paused.is_some() {
            left.waiting.look_at(&state);
        }
        done.open();
    }

    /// Drops a subscription's handler, and what waits for it, here and now.
    fn release(&mut self, subscription: u64) {
        let Some(&place) = self.places.get(&subscription) else { return };
        if let Some(Some(owned)) = self.owned.get_mut(place as usize) {
            let clock = &self.common.clock;
            let ended = end_kept(&mut self.left, Some(subscription), clock);
            let (waited, replays) = self.left.waiting.close(subscription);
            for parked in &waited {
                settle_uncalled(&owned.state.tally, &Outcome::Unsubscribed);
                self.left.release_letter(parked);
            }
            self.left.cancel_replays(replays);
            self.left.waiting.settled();
            self.left.waiting.let_go(subscription);
            drop_handler(owned.handler.take());
            waited.into_iter().for_each(|parked| _ = guard(|| drop(parked)));
            ended.drop_one_by_one();
        }
        self.discard_if_unused(place);
    }

    fn forget(&mut self, index: u32) {
        let Some(cached) = self.route_cache.remove(index) else { return };
        for place in cached.deliveries {
            if let Some(Some(owned)) = self.owned.get_mut(place as usize) {
                owned.routes -= 1;
            }
            self.discard_if_unused(place);
        }
    }

    fn discard_if_unused(&mut self, place: u32) {
        let slot = &mut self.owned[place as usize];
        if let Some(owned) = slot
            && owned.handler.is_none()
            && owned.routes == 0
        {
            self.places.remove(&owned.state.id);
            *slot = None;
            self.free.push(place);
        }
    }

    /// The end: all handlers are dropped, and no further command is taken. In that order: whoever
    /// finds the mailbox closed takes his handler for dropped.
    pub(crate) fn clear(&mut self, lease: &Lease) {
        if lease.is_lost() {
            self.left.waiting.forsake();
        }
        for undropped in self.left.undropped.drain(..) {
            guard(|| drop(undropped));
        }
        loop {
            for owned in self.owned.iter_mut().flatten() {
                drop_handler(owned.handler.take());
            }
            if self.mailbox.close_if_empty() {
                break;
            }
            while let Some(command) = self.mailbox.fetch() {
                self.read(command);
            }
        }
    }
}
