//! Handing back what has waited, when the broker stops, and ending what handlers keep.

use super::common::Common;
use super::left::{Left, Undropped};
use super::outcome::Outcome;
use super::settle::{settle_delivered, settle_uncalled};
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::account::tally::Tally;
use crate::broker::account::term::FailureKind;
use crate::broker::dead_letters::Attempt;
use crate::broker::lifecycle::report::Undelivered;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::broker::waiting::held::{Held, Returned, Said};
use crate::broker::waiting::hold::Settled;
use crate::broker::waiting::parked::Parked;
use crate::broker::waiting::room::Ended;
use crate::clock::Clock;
use crate::message::{MessagePayload, Origin};
use crate::routing::ConsumerAddr;
use crate::sync::panics::guard;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hands everything back that waits: the broker stops. All of it is counted first, which runs no foreign code, and what
/// is over is dropped last.
#[cold]
#[inline(never)]
pub(super) fn hand_back_waiting<P: MessagePayload>(
    consumer: ConsumerAddr,
    common: &Common<P>,
    left: &mut Left<P>,
) {
    let kept = end_kept(left, None, &common.clock);
    common.threads.list_in_doubt(kept.in_doubt.iter().map(|ended| ended.in_doubt(common.origin)));
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
    kept.drop_one_by_one();
}

/// Makes a message that has waited one to be handed back.
pub(crate) fn undelivered<P: 'static>(
    origin: Origin,
    clock: &Clock,
    state: &SubscriptionState,
    mut parked: Parked<P>,
) -> Undelivered<P> {
    let past = parked.take_past();
    Undelivered::new(parked.into_owned(origin, clock), vec![state.name.clone()], past)
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
pub(crate) fn count_ended<P>(ended: &Ended<P>, consumer: &ConsumerTally) -> bool {
    let tally: &Tally = &ended.state.tally;
    if ended.before == Some(Settled::Well) {
        settle_delivered(tally, consumer);
        return false;
    }
    settle_uncalled(tally, &Outcome::InDoubt);
    true
}

/// What handlers have kept, and has been counted. It is to be dropped, last of all.
pub(super) struct EndedKept<P> {
    pub(super) in_doubt: Vec<Ended<P>>,
    over: Vec<Undropped<P>>,
}

impl<P> EndedKept<P> {
    /// Drops it: payloads and errors are foreign.
    pub(super) fn drop_one_by_one(self) {
        self.in_doubt.into_iter().for_each(|ended| _ = guard(|| drop(ended)));
        self.over.into_iter().for_each(|over| _ = guard(|| drop(over)));
    }
}

/// Ends what handlers keep, of all subscriptions or of one, and counts it. Runs no foreign code.
///
/// What has come back and was not read yet is what its token said, save that a failure is the last: what a subscription
/// leaves behind that ends becomes a dead letter or is given up, and what a broker leaves is in doubt.
pub(super) fn end_kept<P: MessagePayload>(
    left: &mut Left<P>,
    of: Option<u64>,
    clock: &Clock,
) -> EndedKept<P> {
    let mut kept = EndedKept { in_doubt: Vec::new(), over: Vec::new() };
    if left.waiting.in_flight() == 0 {
        return kept;
    }
    let mut said: BTreeMap<u64, Said> = BTreeMap::new();
    for Returned { number, said: it, held, .. } in left.waiting.take_returned(of) {
        // One share is left, in its queue.
        drop(held);
        said.insert(number, it);
    }
    for ended in left.waiting.end_in_flight(of) {
        let said = said.remove(&ended.number);
        if ended.before == Some(Settled::Well) {
            settle_delivered(&ended.state.tally, &left.tally);
            let letter = ended.held.parked.replayed.as_ref();
            let letter = letter.and_then(|key| left.dead_letters.as_ref()?.settle_replayed(key));
            kept.over.extend(letter.map(Undropped::Letter));
            kept.over.push(Undropped::Held(ended.held));
            kept.over.extend(said.map(Undropped::Said));
            continue;
        }
        match said {
            Some(said) if of.is_some() => fail_for_good(left, ended, said, clock, &mut kept.over),
            said => {
                settle_uncalled(&ended.state.tally, &Outcome::InDoubt);
                left.release_letter(&ended.held.parked);
                kept.over.extend(said.map(Undropped::Said));
                kept.in_doubt.push(ended);
            }
        }
    }
    kept.over.extend(said.into_values().map(Undropped::Said));
    if of.is_none() {
        kept.over.extend(left.waiting.take_panics().map(|panic| Undropped::Said(Said::Panicked(panic))));
    }
    left.waiting.settled();
    kept
}

/// Counts a message whose token has said that it failed, and whose subscription has ended. Nothing foreign is asked, so
/// that the letter lacks the error's text.
fn fail_for_good<P: MessagePayload>(
    left: &mut Left<P>,
    ended: Ended<P>,
    said: Said,
    clock: &Clock,
    over: &mut Vec<Undropped<P>>,
) {
    let kind = match &said {
        Said::Panicked(_) | Said::Dropped { in_panic: true } => FailureKind::Panic,
        Said::Dropped { in_panic: false } => FailureKind::Cancelled,
        Said::Done | Said::Failed(_) => FailureKind::Handler,
    };
    over.push(Undropped::Said(said));
    let Ended { state, held, .. } = ended;
    state.tally.count_failure(kind);
    left.tally.failed.bump();
    match (left.dead_letters.clone(), Arc::try_unwrap(held)) {
        (Some(store), Ok(Held { mut parked, .. })) => {
            let now = clock.now();
            let attempt = parked.attempt();
            parked.note(Attempt::new(attempt, clock.wall(now), kind, None), now);
            let put = store.put(parked.into_letter(&state, kind, left.origin, clock), clock);
            settle_uncalled(&state.tally, &Outcome::DeadLettered);
            over.push(Undropped::Letters(put));
        }
        (store, held) => {
            settle_uncalled(&state.tally, &Outcome::GivenUp);
            if let (Some(_), Err(held)) = (store, &held) {
                left.release_letter(&held.parked);
            }
            over.push(held.map_or_else(Undropped::Held, |held| Undropped::Parked(held.parked)));
        }
    }
}
