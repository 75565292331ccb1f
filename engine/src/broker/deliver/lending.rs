//! What a consumer leaves with others while it is in a call of a handler, so that another consumer can go on if the
//! call does not return.
//!
//! A handler that is called is borrowed by the call, and cannot be taken from it. All else that the consumer has can:
//! its other handlers, where routes lead, what it knows of what waits. So before such a call the handler is taken out,
//! and the rest changes places with something hollow behind a lock; after it, they change back. Nothing is made or
//! moved but a few hundred bytes. Who has replaced the consumer (`lifecycle/rescue.rs`) takes the rest out of there.
//! What the call returns to is then hollow: a room that it must not touch, and no handlers.
//!
//! Which call it is, its number says, which no other call of the consumer has.

use super::common::Common;
use super::left::{Away, Left, Terms};
use super::mailbox::Mailbox;
use super::owned::Owned;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::dead_letters::Key as LetterKey;
use crate::broker::waiting::room::WaitingRoom;
use crate::message::MessagePayload;
use crate::sync::Mutex;
use std::sync::Arc;

/// What is known of the subscription whose handler is being called.
#[derive(Clone)]
pub(crate) struct LentCall<P> {
    pub(crate) subscription: u64,
    /// Whether its delivery has been counted, or is known beside the call.
    pub(crate) is_settled: bool,
    /// Which dead letter is being replayed, if one is.
    pub(crate) replayed: Option<LetterKey>,
    pub(crate) terms: Terms<P>,
}

struct Inner<P> {
    /// Hollow, unless a call has lent what its consumer has.
    owned: Owned<P>,
    left: Left<P>,
    /// The number of that call, and the call.
    call: Option<(u64, LentCall<P>)>,
}

/// Where a consumer leaves what it has.
pub(crate) struct Lending<P>(Mutex<Inner<P>>);

impl<P: MessagePayload> Lending<P> {
    /// A place with something hollow in it.
    pub(crate) fn new(
        common: &Common<P>,
        mailbox: &Arc<Mailbox<P>>,
        room: Arc<WaitingRoom<P>>,
        tally: Arc<ConsumerTally>,
    ) -> Self {
        let mut left = Left::nothing(common, mailbox, room, tally);
        left.waiting.forsake();
        Self(Mutex::new(Inner { owned: Owned::default(), left, call: None }))
    }

    /// Returns whether the call of that number has lent what its consumer has.
    pub(crate) fn is_lent(&self, number: u64) -> bool {
        self.0.lock().call.as_ref().is_some_and(|(of, _)| *of == number)
    }

    /// Takes what the call of that number has lent, and leaves what another consumer has, which is nothing. To be
    /// called once the consumer that is in that call cannot take it back any more.
    pub(super) fn take(&self, number: u64, owned: &mut Owned<P>, left: &mut Left<P>) -> Option<LentCall<P>> {
        let mut inner = self.0.lock();
        let (_, call) = inner.call.take_if(|(of, _)| *of == number)?;
        left.waiting.forsake();
        std::mem::swap(&mut inner.owned, owned);
        std::mem::swap(&mut inner.left, left);
        let terms = call.terms.clone();
        let (released, paused) = (Vec::new(), Vec::new());
        left.away.insert(call.subscription, Away { terms, released, force: None, paused, dropped: None });
        Some(call)
    }
}

/// What a consumer lends, and to whom.
pub(super) struct Lender<'c, P> {
    pub(super) lending: &'c Lending<P>,
    pub(super) owned: &'c mut Owned<P>,
    pub(super) call: LentCall<P>,
    /// The number of the consumer's last call that has lent something.
    pub(super) last: &'c mut u64,
}

impl<P: MessagePayload> Lender<'_, P> {
    /// Lends all that the consumer has, for the call of that number.
    pub(super) fn lend(&mut self, left: &mut Left<P>, number: u64, is_settled: bool) {
        *self.last = number;
        let call = LentCall { is_settled, ..self.call.clone() };
        self.change(left, Some((number, call)));
    }

    /// Takes it back, which nobody else may have taken.
    pub(super) fn take_back(&mut self, left: &mut Left<P>) {
        self.change(left, None);
    }

    fn change(&mut self, left: &mut Left<P>, call: Option<(u64, LentCall<P>)>) {
        let mut inner = self.lending.0.lock();
        std::mem::swap(&mut inner.owned, self.owned);
        std::mem::swap(&mut inner.left, left);
        inner.call = call;
    }
}
