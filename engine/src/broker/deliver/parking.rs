//! How a message comes to wait: room is made for it, and it is copied.

use super::delivery::Delivery;
use super::failed::{How, Then, bury, keep};
use super::left::Away;
use super::left::{Left, Undropped};
use super::outcome::{CallMark, Outcome};
use super::settle::settle_uncalled;
use super::source::{Event, discard};
use crate::broker::account::term::FailureKind;
use crate::broker::dead_letters::Put;
use crate::broker::policy::breaker::circuit::Permit;
use crate::broker::policy::key::Key;
use crate::broker::subscribe::contract::Expired;
use crate::broker::subscribe::handler::OwnedHandler;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::backlog::{Backlog, WhenFull};
use crate::broker::waiting::line::GivenUp;
use crate::broker::waiting::parked::Parked;
use crate::message::{MessageId, MessagePayload};
use crate::ring::Called;
use crate::sync::panics::guard;
use std::sync::Arc;

/// What becomes of a message before its handler is called.
pub(super) enum Gated {
    /// The handler may be called, and its breaker, if there is one, wants to know how it went.
    Go(Option<Permit>),
    /// The message waits, or is a dead letter.
    Kept,
    /// The delivery has ended.
    Ended(Outcome),
    /// Somebody else has the consumer's position.
    TakenOver,
}

/// What says how messages of a subscription wait: its handler, or, as long as that is in a call that does not return,
/// what is known of it.
pub(super) enum Waiting<'h, P> {
    Of(&'h mut OwnedHandler<P>),
    Away(&'h mut Away<P>),
}

impl<P> Waiting<'_, P> {
    fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    fn backlog(&mut self) -> Backlog {
        match self {
            Self::Of(handler) => handler.backlog(),
            Self::Away(away) => away.terms.backlog,
        }
    }

    /// The key of the message at hand. While the handler is away nobody can be asked for it.
    fn key(&mut self) -> Option<Key> {
        match self {
            Self::Of(handler) => handler.contract()?.key,
            Self::Away(_) => None,
        }
    }

    fn expired(&mut self) -> Option<&Expired<P>> {
        match self {
            Self::Of(handler) => handler.contract()?.expired.as_ref(),
            Self::Away(away) => away.terms.expired.as_ref(),
        }
    }

    /// Says that a message waits.
    fn reserve(&mut self, key: Option<Key>, id: MessageId) {
        if let Self::Of(handler) = self
            && let Some(contract) = handler.contract()
        {
            contract.reserve(key, id);
        }
    }

    /// Says that a message that has waited is at its end, and was not handled.
    fn release(&mut self, key: Option<Key>, id: MessageId) {
        match self {
            Self::Of(handler) => {
                if let Some(contract) = handler.contract() {
                    contract.release(key, id);
                }
            }
            Self::Away(away) => away.released.extend(key.map(|key| (key, id))),
        }
    }
}

impl<P: MessagePayload> Delivery<'_, '_, P, Event<'_>> {
    /// Has the message wait, as far as there is room.
    pub(super) fn park(
        &mut self,
        state: &Arc<SubscriptionState>,
        waiting: &mut Waiting<'_, P>,
        left: &mut Left<P>,
    ) -> Gated {
        if self.source.lease.is_stopped() {
            // What waits shall not give way for one that is handed back.
            return Gated::Ended(Outcome::Undelivered);
        }
        let (size, key) = (Parked::size_of(self.message), waiting.key());
        let made = if state.is_only_copied() {
            left.copies += 1;
            GivenUp { expired: Vec::new(), dropped: Vec::new(), has_room: true }
        } else {
            left.waiting.make_room(state, size, key, waiting.backlog(), self.clock.now())
        };
        let has_given_way = !made.is_nothing();
        let GivenUp { expired, dropped: mut given_up, has_room } = made;
        for _ in &given_up {
            settle_uncalled(&state.tally, &Outcome::Overflow);
        }
        for parked in given_up.iter().chain(&expired) {
            waiting.release(parked.key, parked.id(left.origin));
        }
        let mut swept = self.count_expired(state, waiting, expired, left);
        if has_given_way {
            left.waiting.settled();
        }
        let gated = self.copy_to_wait(state, waiting, has_room, &mut given_up, left);
        if matches!(gated, Gated::TakenOver) {
            given_up.into_iter().chain(swept.parked).for_each(|parked| _ = guard(|| drop(parked)));
            swept.letters.into_iter().for_each(|put| _ = guard(|| put.discard()));
            return gated;
        }
        let (gated, is_ours) = match gated {
            Gated::Ended(outcome) => (Gated::Kept, self.end_event(state, None, outcome, left)),
            gated => (gated, true),
        };
        // Last: while this hangs, the delivery at hand is settled, or its message waits.
        let is_ours = is_ours && self.tell_of_expired(state, waiting, &mut swept, left);
        given_up.append(&mut swept.parked);
        let is_ours = is_ours && discard(&mut self.source, state, given_up, left);
        if is_ours { gated } else { Gated::TakenOver }
    }

    /// Counts messages that have expired where they waited. Runs no foreign code.
    fn count_expired(
        &self,
        state: &SubscriptionState,
        waiting: &mut Waiting<'_, P>,
        expired: Vec<Parked<P>>,
        left: &Left<P>,
    ) -> Swept<P> {
        let are_dead = waiting.expired().is_some_and(|it| it.are_dead);
        let mut swept = Swept { parked: Vec::new(), letters: Vec::new() };
        for parked in expired {
            match &left.dead_letters {
                Some(store) if are_dead => {
                    let kind = FailureKind::Expired;
                    state.tally.count_failure(kind);
                    swept.letters.push(bury(state, parked, kind, store, self.clock, left));
                }
                _ => {
                    settle_uncalled(&state.tally, &Outcome::Expired);
                    swept.parked.push(parked);
                }
            }
        }
        swept
    }

    /// Tells of messages that have expired where they waited, and drops what the store has let go of for them. Returns
    /// whether the consumer still has its position.
    fn tell_of_expired(
        &mut self,
        state: &SubscriptionState,
        waiting: &mut Waiting<'_, P>,
        swept: &mut Swept<P>,
        left: &mut Left<P>,
    ) -> bool {
        if swept.parked.is_empty() && swept.letters.is_empty() {
            return true;
        }
        let callback = waiting.expired().and_then(|it| it.callback.clone());
        let (origin, occasion) = (left.origin, self.message.occasion());
        let Swept { parked, letters } = swept;
        let called = self.call_foreign(CallMark::settled(state.id), || {
            for parked in callback.iter().flat_map(|_| &*parked) {
                guard(|| callback.as_ref().map(|callback| callback(&parked.message(origin, occasion))));
            }
            letters.drain(..).for_each(Put::discard);
        });
        left.undropped.extend(letters.drain(..).map(Undropped::Letters));
        !matches!(called, Called::TakenOver)
    }

    /// Copies the message to wait, or to be a dead letter. Adds the one whose place it takes to those that are given
    /// up.
    fn copy_to_wait(
        &mut self,
        state: &Arc<SubscriptionState>,
        waiting: &mut Waiting<'_, P>,
        has_room: bool,
        given_up: &mut Vec<Parked<P>>,
        left: &mut Left<P>,
    ) -> Gated {
        let bounds = waiting.backlog();
        if !has_room && bounds.when_full_in(left.dead_letters.is_some()) != WhenFull::DeadLetter {
            return Gated::Ended(Outcome::Overflow);
        }
        let (key, message) = (waiting.key(), self.message);
        match self.call_foreign(state.id, || Parked::copy(message, key)) {
            Called::Returned(Ok(parked)) if !has_room => {
                let then = Then::Dead(FailureKind::Overflow);
                let how = How { attempt: None, first_at: self.clock.now(), then };
                let is_ours = keep(&mut self.source, state, parked, how, self.clock, left);
                if is_ours { Gated::Kept } else { Gated::TakenOver }
            }
            Called::Returned(Ok(mut parked)) => {
                waiting.reserve(key, self.message.id());
                parked.is_unasked = waiting.is_away();
                if let Some(outdated) = left.waiting.push(state, parked) {
                    settle_uncalled(&state.tally, &Outcome::Conflated);
                    given_up.push(outdated);
                }
                Gated::Kept
            }
            Called::Returned(Err(payload)) => Gated::Ended(Outcome::Uncopied(payload)),
            Called::Refused => Gated::Ended(Outcome::Undelivered),
            Called::TakenOver => Gated::TakenOver,
        }
    }

    /// Has a message wait whose handler is away: what its subscription wants asked is asked when the handler is back.
    pub(super) fn park_for_absent(&mut self, state: &Arc<SubscriptionState>, left: &mut Left<P>) -> Gated {
        let Some(mut away) = left.away.remove(&state.id) else { return Gated::Ended(Outcome::Undelivered) };
        let gated = self.park(state, &mut Waiting::Away(&mut away), left);
        left.away.insert(state.id, away);
        gated
    }
}

/// Messages that have expired where they waited, and have been counted.
struct Swept<P> {
    parked: Vec<Parked<P>>,
    /// What the store has let go of, for those that have become dead letters.
    letters: Vec<Put<P>>,
}
