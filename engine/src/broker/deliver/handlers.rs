//! A consumer's handler table: the subscriptions that it owns, and the handling of one event and of its mail.

use super::common::Common;
use super::delivery::{Delivery, has_expired};
use super::hand_back::{end_kept, hand_back_waiting};
use super::left::Away;
use super::left::Left;
use super::lending::{Lending, LentCall};
use super::mailbox::{Command, Mailbox, OwnedSubscription, Returning, Wish};
use super::outcome::Outcome;
use super::owned::Owned;
use super::settle::{settle_delivered, settle_uncalled};
use super::source::Event;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::lifecycle::report::Undelivered;
use crate::broker::subscribe::handler::drop_handler;
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::broker::waiting::room::WaitingRoom;
use crate::clock::Timestamp;
use crate::message::{Envelope, Message, MessagePayload, Occasion};
use crate::ring::{Called, Lease, Sequence};
use crate::routing::{ConsumerAddr, RouteId};
use crate::sync::edge;
use crate::sync::panics::guard;
use std::sync::Arc;

/// What a consumer needs to handle events.
pub(crate) struct HandlerTable<P> {
    pub(crate) consumer: ConsumerAddr,
    pub(crate) common: Common<P>,
    /// On which its handlers see messages.
    pub(super) occasion: Occasion,
    pub(crate) mailbox: Arc<Mailbox<P>>,
    pub(super) owned: Owned<P>,
    pub(super) left: Left<P>,
    /// Where that is during calls, if this consumer may be replaced then.
    pub(super) lending: Option<Arc<Lending<P>>>,
    /// The number of the last such call.
    pub(super) last_lent: u64,
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
        let left = Left::nothing(&common, &mailbox, room, tally);
        let occasion = Occasion::of_calls(&common.clock, mailbox.supervisor().stop_sign());
        Self {
            consumer,
            common,
            occasion,
            mailbox,
            owned: Owned::default(),
            left,
            lending: None,
            last_lent: 0,
            #[cfg(all(test, not(ringmain_loom)))]
            panics_in_turn: false,
        }
    }

    /// Has what this consumer has lent during calls, there: it may be replaced then.
    pub(crate) fn lend_to(&mut self, lending: Arc<Lending<P>>) {
        self.lending = Some(lending);
    }

    /// Takes up what the consumer had that was replaced during the call of that number. Returns what is known of the
    /// call.
    pub(crate) fn take_up(&mut self, number: u64) -> Option<LentCall<P>> {
        let call = self.lending.as_ref()?.take(number, &mut self.owned, &mut self.left);
        for handler in self.owned.all().filter_map(|owned| owned.handler.as_mut()) {
            handler.go_with(&self.occasion);
        }
        call
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
        if !self.owned.knows(envelope.route) {
            self.learn_route(envelope.route);
        }
        let Some((cached, places)) = self.owned.on_route(envelope.route) else { return };
        let topic = &cached.route.topic;
        let message = Message::new(envelope, topic, self.common.origin, &self.occasion);
        let has_expired = envelope.extras().is_some() && has_expired(&message, &self.common.clock);
        let clock = &self.common.clock;
        // Put together where it is needed: one that lies in memory all the time costs ten instructions.
        let delivery =
            || Delivery { message: &message, source: Event { lease, sequence }, tally, clock, retried: None };
        for &place in &cached.deliveries {
            let Some(Some(owned)) = places.get_mut(place as usize) else { continue };
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

    /// Returns whether there is something that comes back, or whose time is up, and for which a consumer waits that is
    /// at the end of its ring: messages that handlers keep, and handlers that are away.
    pub(super) fn wait_for_others(&self, lease: &Lease) -> bool {
        (self.left.waiting.in_flight() > 0 || !self.left.away.is_empty())
            && !lease.is_stopped()
            && !self.common.threads.are_left_alone()
    }

    /// Hands everything back that waits: the broker stops.
    pub(super) fn hand_back(&mut self) {
        hand_back_waiting(self.consumer, &self.common, &mut self.left);
    }

    /// Finds out where a route leads among this consumer's subscriptions.
    #[cold]
    fn learn_route(&mut self, id: RouteId) {
        self.owned.forget(id.index);
        match self.common.routes.get(id) {
            Some(route) => self.owned.learn(id, route, self.consumer, &self.common.registry),
            None => {
                debug_assert!(false, "a message travels a route that is not linked");
                guard(|| {
                    tracing::error!(
                        target: "ringmain::consumer",
                        route = id.index,
                        "a message travels an unknown route"
                    );
                });
            }
        }
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
            Command::Adopt(mut owned) => {
                if let (Some(_), Some(handler)) = (&self.lending, &mut owned.handler) {
                    // It was made for the consumer that was there then.
                    handler.go_with(&self.occasion);
                }
                self.owned.insert(*owned);
            }
            Command::Release { subscription, done } => {
                self.release(subscription);
                match self.left.away.get_mut(&subscription) {
                    // Not before its handler has come back, and was dropped.
                    Some(away) => away.dropped = Some(done),
                    None => done.open(),
                }
            }
            Command::ComeBack(returning) => self.come_back(returning),
            Command::Heed(wish) => self.heed(wish),
            Command::TakeBack(returned) => {
                if let Some(unwanted) = self.left.waiting.note_returned(returned) {
                    guard(|| drop(unwanted));
                }
            }
            Command::Replay { state, letters } => self.replay(&state, letters),
            Command::Forget(routes) => {
                for id in routes.iter() {
                    if self.owned.knows(*id) {
                        self.owned.forget(id.index);
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
        // To one that is away as well: they wait for it.
        let has_handler =
            |owned: &mut OwnedSubscription<P>| owned.handler.is_some() || state.waits_for(Reason::Away);
        if self.owned.get(state.id).is_some_and(has_handler) {
            self.left.waiting.replay(state, letters);
        } else {
            self.left.cancel_replays(letters.into_iter().map(|(_, number)| number));
        }
    }

    /// Has a handler again that was away.
    fn come_back(&mut self, Returning { subscription, mut handler }: Returning<P>) {
        let Self { owned, left, occasion, .. } = self;
        let mut away = left.away.remove(&subscription);
        // Its call is over.
        away.iter_mut().flat_map(|away| away.paused.drain(..)).for_each(|paused| paused.open());
        let (Some(Away { released, force, dropped: None, .. }), Some(owned)) =
            (&away, owned.get(subscription))
        else {
            drop_handler(Some(handler));
            away.and_then(|away| away.dropped).into_iter().for_each(|done| done.open());
            return;
        };
        if let Some(contract) = handler.contract() {
            for &(key, id) in released {
                contract.release(Some(key), id);
            }
            if let Some(guarded) = &mut contract.breaker {
                force.iter().for_each(|force| guarded.force(*force));
                left.waiting.note_breaker(&owned.state, &guarded.circuit);
            }
        }
        handler.go_with(occasion);
        owned.handler = Some(handler);
        owned.state.set(Reason::Away, false);
        left.waiting.look_at(&owned.state);
    }

    fn heed(&mut self, Wish { state, is_paused, breaker, done }: Wish) {
        let Self { owned, left, .. } = self;
        let mut done = Some(done);
        if let Some(away) = left.away.get_mut(&state.id) {
            away.force = breaker.or(away.force.take());
            match is_paused {
                Some(true) => {
                    // As bounded as those who wait: some have given up.
                    away.paused.retain(|paused| Arc::strong_count(paused) > 1);
                    away.paused.extend(done.take());
                }
                Some(false) => away.paused.drain(..).for_each(|paused| paused.open()),
                None => {}
            }
        }
        let guarded = owned.get(state.id).and_then(|owned| owned.handler.as_mut()?.breaker());
        if let (Some(guarded), Some(force)) = (guarded, breaker) {
            guarded.force(force);
            left.waiting.note_breaker(&state, &guarded.circuit);
        }
        if is_paused.is_some() {
            left.waiting.look_at(&state);
        }
        done.into_iter().for_each(|done| done.open());
    }

    /// Drops a subscription's handler, and what waits for it, here and now.
    fn release(&mut self, subscription: u64) {
        if let Some(owned) = self.owned.get(subscription) {
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
            owned.state.set(Reason::Away, false);
            drop_handler(owned.handler.take());
            waited.into_iter().for_each(|parked| _ = guard(|| drop(parked)));
            ended.drop_one_by_one();
        }
        self.owned.discard(subscription);
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
            for owned in self.owned.all() {
                drop_handler(owned.handler.take());
            }
            if self.mailbox.close_if_empty() {
                break;
            }
            while let Some(command) = self.mailbox.fetch() {
                self.read(command);
            }
        }
        // Nobody is to wait for what may never come back: who is in that call drops it.
        for away in std::mem::take(&mut self.left.away).into_values() {
            away.dropped.into_iter().chain(away.paused).for_each(|done| done.open());
        }
    }
}
