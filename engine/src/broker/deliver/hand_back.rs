//! Handing back what has waited, when the broker stops, and ending what handlers keep.

use super::common::Common;
use super::outcome::Outcome;
use super::settle::settle_uncalled;
use super::source::Left;
use crate::broker::account::tally::Tally;
use crate::broker::account::term::Term;
use crate::broker::lifecycle::report::Undelivered;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::hold::Settled;
use crate::broker::waiting::parked::Parked;
use crate::broker::waiting::room::Ended;
use crate::clock::Clock;
use crate::message::{MessagePayload, Origin};
use crate::routing::ConsumerAddr;
use crate::sync::panics::guard;

/// Hands everything back that waits: the broker stops. All of it is counted first, which runs no foreign code, and what
/// is over is dropped last.
#[cold]
#[inline(never)]
pub(super) fn hand_back_waiting<P: MessagePayload>(
    consumer: ConsumerAddr,
    common: &Common<P>,
    left: &mut Left<P>,
) {
    let kept = end_kept(left, None);
    common.threads.list_in_doubt(kept.iter().map(|ended| ended.in_doubt(common.origin)));
    let replays = left.waiting.take_replays();
    left.cancel_replays(replays);
    let (mut back, mut over) = (Vec::new(), Vec::new());
    for (state, parked) in left.waiting.take_all() {
        let outcome = Outcome::uncalled(&state, parked.has_expired(common.clock.now()));
        settle_uncalled(&state.tally, &outcome);
        // A dead letter that was being replayed goes on lying in the store, and nowhere else.
        left.release_letter(&parked);
        if matches!(outcome, Outcome::Undelivered) && parked.replayed.is_none() {
            common.threads.withhold();
            back.push((state, parked));
        } else {
            over.push(parked);
        }
    }
    left.waiting.settled();
    for (state, parked) in back {
        let undelivered = undelivered(common.origin, &common.clock, &state, parked);
        common.threads.hand_back(consumer, Some(undelivered));
    }
    over.into_iter().for_each(|parked| _ = guard(|| drop(parked)));
    kept.into_iter().for_each(|ended| _ = guard(|| drop(ended)));
}

/// Makes a message that has waited one to be handed back.
pub(crate) fn undelivered<P: 'static>(
    origin: Origin,
    clock: &Clock,
    state: &SubscriptionState,
    parked: Parked<P>,
) -> Undelivered<P> {
    Undelivered { message: parked.into_owned(origin, clock), subscriptions: vec![state.name.clone()] }
}

impl<P: MessagePayload> Common<P> {
    /// Hands a message back that has waited, and has been counted.
    pub(super) fn hand_back(&self, consumer: ConsumerAddr, state: &SubscriptionState, parked: Parked<P>) {
        self.threads.withhold();
        self.threads.hand_back(consumer, Some(undelivered(self.origin, &self.clock, state, parked)));
    }
}

/// Counts what is in flight of a subscription that has ended, or when the broker stops: what was given back well is
/// delivered, and the rest is in doubt. Returns whether it is in doubt.
pub(crate) fn count_ended<P>(ended: &Ended<P>) -> bool {
    let tally: &Tally = &ended.state.tally;
    if ended.before == Some(Settled::Well) {
        tally.count(Term::Delivered);
        return false;
    }
    settle_uncalled(tally, &Outcome::InDoubt);
    true
}

/// Ends what handlers keep, of all subscriptions or of one. Returns what is in doubt.
pub(super) fn end_kept<P: MessagePayload>(left: &mut Left<P>, of: Option<u64>) -> Vec<Ended<P>> {
    if left.waiting.in_flight() == 0 {
        return Vec::new();
    }
    let (in_doubt, delivered): (Vec<_>, Vec<_>) =
        left.waiting.end_in_flight(of).into_iter().partition(count_ended);
    in_doubt.iter().for_each(|ended| left.release_letter(&ended.held.parked));
    left.waiting.settled();
    let returned = left.waiting.take_returned(of);
    delivered.into_iter().for_each(|ended| _ = guard(|| drop(ended)));
    returned.into_iter().for_each(|returned| _ = guard(|| drop(returned)));
    in_doubt
}
