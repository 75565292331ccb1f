//! The take-over: what a consumer that is stuck in a handler has left.
//!
//! First all of it is counted, which runs no foreign code and takes no longer than it is given.
//! Then it is copied for the report, aside: the payload's `Clone` may panic, and may never return.

use super::aside::run_aside;
use super::report::{Abandoned, Undelivered};
use super::taken::{InHand, Taken};
use super::threads::Threads;
use crate::broker::core::Core;
use crate::broker::dead_letters::DeadLetter;
use crate::broker::deliver::delivery::has_expired;
use crate::broker::deliver::hand_back::{count_ended, undelivered};
use crate::broker::deliver::outcome::{CallMark, Outcome};
use crate::broker::deliver::settle::settle_uncalled;
use crate::broker::waiting::parked::Parked;
use crate::broker::waiting::room::Ended;
use crate::message::{Envelope, Message, MessagePayload, Occasion};
use crate::ring::{Call, Sequence, Takeover};
use crate::routing::ConsumerAddr;
use crate::sync::edge;
use crate::sync::panics::guard;
use std::sync::Arc;
use std::time::Instant;

/// A message that has been counted as undelivered, and the names of the subscriptions that it was
/// not delivered to.
type Counted = (Sequence, Vec<Box<str>>);

/// Accounts for what stuck consumers have left: the calls in doubt, and all that came behind them.
/// All of it together takes until then at most, save what is copied aside.
pub(super) fn account_for<P: MessagePayload>(core: &Arc<Core<P>>, taken: Vec<Taken<P>>, until: Instant) {
    let mut rest = Vec::new();
    let mut over = Over::nothing();
    for taken in taken.into_iter().map(Arc::new) {
        let (abandoned, counted, in_hand) = count(core, &taken, until);
        account_for_waiting(core, taken.addr, &mut over);
        let mut threads = core.threads.lock();
        threads.abandoned.push(abandoned);
        threads.withheld += counted.len() as u64;
        if !in_hand.is_empty() {
            threads.in_hand.push(InHand { taken: taken.clone(), sequences: in_hand });
        }
        rest.push((taken, counted));
    }
    hand_back(core, rest, over);
}

/// Accounts for what waits beside a stuck consumer: counts it, and hands back what is to be. It was copied when it came
/// to wait. The others are to be dropped aside.
fn account_for_waiting<P: MessagePayload>(core: &Core<P>, addr: ConsumerAddr, over: &mut Over<P>) {
    let waiting = &core.consumer(addr).waiting;
    if let Some(store) = &core.dead_letters {
        store.cancel(waiting.take_replays());
    }
    for (state, parked) in waiting.take_all() {
        if let (Some(store), Some(key)) = (&core.dead_letters, &parked.replayed) {
            store.release(key);
        }
        let outcome = Outcome::uncalled(&state, parked.has_expired(core.clock.now()));
        settle_uncalled(&state.tally, &outcome);
        // A dead letter that was being replayed is in the store.
        if matches!(outcome, Outcome::Undelivered) && parked.replayed.is_none() {
            let undelivered = undelivered(core.origin, &core.clock, &state, parked);
            core.threads.lock().handed_back.push(Arc::new(undelivered));
        } else {
            over.parked.push(parked);
        }
    }
    let mut kept = waiting.end_in_flight(None);
    for ended in &kept {
        let is_in_doubt = count_ended(ended, &core.consumer(addr).tally);
        if is_in_doubt {
            core.threads.list_in_doubt(std::iter::once(ended.in_doubt(core.origin)));
        }
        if let (Some(store), Some(key)) = (&core.dead_letters, &ended.held.parked.replayed) {
            if is_in_doubt {
                store.release(key);
            } else {
                over.letters.extend(store.settle_replayed(key));
            }
        }
    }
    over.kept.append(&mut kept);
    waiting.settled();
}

/// What is over, and is to be dropped.
struct Over<P> {
    parked: Vec<Parked<P>>,
    kept: Vec<Ended<P>>,
    letters: Vec<Arc<DeadLetter<P>>>,
}

impl<P> Over<P> {
    fn nothing() -> Self {
        Self { parked: Vec::new(), kept: Vec::new(), letters: Vec::new() }
    }

    fn is_nothing(&self) -> bool {
        self.parked.is_empty() && self.kept.is_empty() && self.letters.is_empty()
    }
}

/// Accounts for what publishers had in hand when consumers were taken over, and have let go of since.
pub(super) fn account_for_in_hand<P: MessagePayload>(core: &Arc<Core<P>>) {
    let mut rest = Vec::new();
    {
        // Under the lock, so that each is counted once, and who counts it says so in his report.
        let mut threads = core.threads.lock();
        let Threads { in_hand, withheld, .. } = &mut *threads;
        for InHand { taken, sequences } in in_hand.iter_mut() {
            let mut counted = Vec::new();
            sequences.retain(|&sequence| {
                let is_in_hand = taken.takeover.is_in_hand(sequence);
                if !is_in_hand {
                    // Nothing where it has become a tombstone.
                    let left =
                        taken.takeover.read(sequence, |envelope| count_one(core, taken, sequence, envelope));
                    counted.extend(left.flatten());
                }
                is_in_hand
            });
            *withheld += counted.len() as u64;
            rest.push((taken.clone(), counted));
        }
        in_hand.retain(|left| !left.sequences.is_empty());
    }
    hand_back(core, rest, Over::nothing());
}

/// Counts what a consumer has left. Returns also what publishers have in hand.
fn count<P: MessagePayload>(
    core: &Core<P>,
    taken: &Taken<P>,
    until: Instant,
) -> (Abandoned, Vec<Counted>, Vec<Sequence>) {
    let takeover = &taken.takeover;
    // None where it was clearing the slot of a message that it had handled.
    let call = takeover.call().delivery().map(CallMark::from_lease);
    let in_doubt = call.and_then(|call| core.registry.find(call.subscription));
    if let Some(state) = &in_doubt
        && call.is_some_and(|call| !call.is_settled || edge::left_out("doubt-what-is-open"))
    {
        settle_uncalled(&state.tally, &Outcome::InDoubt);
    }
    let mut abandoned = Abandoned::outside_of_a_handler(&taken.thread);
    if let Some(state) = in_doubt {
        abandoned.subscription = state.name.to_string();
    }
    if let Call::Parked { .. } = takeover.call()
        && let Some(in_call) = core.consumer(taken.addr).waiting.in_call()
    {
        (abandoned.message, abandoned.topic) = (Some(in_call.message), Some(in_call.topic));
    }
    // What was handed out is in flight, and in no call.
    if let Some(call) = call.filter(|call| call.is_handed_out)
        && let Some((message, topic)) =
            core.consumer(taken.addr).waiting.last_handed_out(call.subscription, core.origin)
    {
        (abandoned.message, abandoned.topic) = (Some(message), Some(topic));
    }
    let mut counted = Vec::new();
    let limit = until.saturating_duration_since(Instant::now());
    let in_hand = takeover.for_each(limit, |sequence, envelope| {
        let occasion = Occasion::apart(&core.clock);
        if is_in_call(takeover, sequence)
            && let Some(route) = core.routes.get(envelope.route)
        {
            let message = Message::new(envelope, &route.topic, core.origin, &occasion);
            abandoned.message = Some(message.id());
            abandoned.topic = Some(route.topic.clone());
        }
        counted.extend(count_one(core, taken, sequence, envelope));
    });
    (abandoned, counted, in_hand)
}

/// Whether the call in doubt handles that event.
fn is_in_call<E>(takeover: &Takeover<E>, sequence: Sequence) -> bool {
    matches!(takeover.call(), Call::Event { sequence: of, .. } if of == sequence)
}

/// Settles what a consumer has left of one message. Returns it where it is to be handed back.
fn count_one<P>(
    core: &Core<P>,
    taken: &Taken<P>,
    sequence: Sequence,
    envelope: &Envelope<P>,
) -> Option<Counted> {
    let Taken { addr, takeover, .. } = taken;
    let route = core.routes.get(envelope.route)?;
    let occasion = Occasion::apart(&core.clock);
    let message = Message::new(envelope, &route.topic, core.origin, &occasion);
    let has_expired = envelope.extras().is_some() && has_expired(&message, &core.clock);
    let in_doubt = takeover.call().delivery().map(CallMark::from_lease);
    let in_doubt = in_doubt.filter(|_| is_in_call(takeover, sequence));
    let mut subscriptions = Vec::new();
    for subscription in route.destinations.of(*addr) {
        // Of the event in doubt, deliveries were made in ascending order of subscription.
        let is_open = in_doubt.is_none_or(|call| subscription > call.subscription);
        if is_open && let Some(state) = core.registry.find(subscription) {
            // As the consumer would have found it.
            let outcome = Outcome::uncalled(&state, has_expired);
            if matches!(outcome, Outcome::Undelivered) {
                subscriptions.push(state.name.clone());
            }
            settle_uncalled(&state.tally, &outcome);
        }
    }
    (!subscriptions.is_empty()).then_some((sequence, subscriptions))
}

/// Has what was counted copied and handed back, aside. Does not wait for it: the shutdown does, beside
/// other things.
fn hand_back<P: MessagePayload>(
    core: &Arc<Core<P>>,
    mut rest: Vec<(Arc<Taken<P>>, Vec<Counted>)>,
    over: Over<P>,
) {
    rest.retain(|(_, counted)| !counted.is_empty());
    if !rest.is_empty() || !over.is_nothing() {
        let copying = core.clone();
        core.threads.lock().pending += 1;
        run_aside(Instant::now(), move || copy(&copying, rest, over));
    }
}

/// Something that a shutdown waits for, and that was counted as pending. It is over when this is dropped.
pub(super) struct Pending<'c, P>(&'c Core<P>);

impl<'c, P> Pending<'c, P> {
    pub(super) fn of(core: &'c Core<P>) -> Self {
        Self(core)
    }
}

impl<P> Drop for Pending<'_, P> {
    fn drop(&mut self) {
        self.0.threads.lock().pending -= 1;
        self.0.threads.notify();
    }
}

/// Copies what has been counted, and hands it back.
fn copy<P: MessagePayload>(core: &Core<P>, rest: Vec<(Arc<Taken<P>>, Vec<Counted>)>, over: Over<P>) {
    let _pending = Pending::of(core);
    over.parked.into_iter().for_each(|parked| _ = guard(|| drop(parked)));
    over.kept.into_iter().for_each(|ended| _ = guard(|| drop(ended)));
    over.letters.into_iter().for_each(|letter| _ = guard(|| drop(letter)));
    for (taken, counted) in rest {
        for (sequence, subscriptions) in counted {
            let copied = taken.takeover.read(sequence, |envelope| {
                let route = core.routes.get(envelope.route)?;
                let occasion = Occasion::apart(&core.clock);
                let message = Message::new(envelope, &route.topic, core.origin, &occasion);
                Undelivered::copy(&message, subscriptions)
            });
            if let Some(undelivered) = copied.flatten() {
                core.threads.lock().take_back(undelivered);
            }
        }
    }
}
