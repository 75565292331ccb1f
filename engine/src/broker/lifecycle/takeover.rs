//! The take-over: what a consumer that is stuck in a handler has left.
//!
//! First all of it is counted, which runs no foreign code and takes no longer than it is given.
//! Then it is copied for the report, aside: the payload's `Clone` may panic, and may never return.

use super::aside::run_aside;
use super::report::{Abandoned, Undelivered};
use crate::broker::core::Core;
use crate::broker::deliver::outcome::{CallMark, Outcome};
use crate::broker::deliver::settle::settle_uncalled;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::message::{Envelope, Message, MessagePayload};
use crate::ring::{Call, Sequence, Takeover};
use crate::routing::ConsumerAddr;
use std::sync::Arc;
use std::time::Instant;

/// A consumer whose position has been taken over.
pub(super) struct Taken<P> {
    pub(super) addr: ConsumerAddr,
    pub(super) thread: String,
    pub(super) takeover: Takeover<Envelope<P>>,
}

/// A message that has been counted as undelivered, and the names of the subscriptions that it was
/// not delivered to.
type Counted = (Sequence, Vec<Box<str>>);

/// Accounts for what stuck consumers have left: the calls in doubt, and all that came behind them.
/// All of it together takes until then at most, save what is copied aside.
pub(super) fn account_for<P: MessagePayload>(core: &Arc<Core<P>>, taken: Vec<Taken<P>>, until: Instant) {
    let mut rest = Vec::new();
    for taken in taken {
        let (abandoned, counted) = count(core, &taken, until);
        let mut threads = core.threads.lock();
        threads.abandoned.push(abandoned);
        threads.withheld += counted.len() as u64;
        if !counted.is_empty() {
            rest.push((taken, counted));
        }
    }
    if !rest.is_empty() {
        // Without waiting for it: the shutdown does, beside other things.
        let copying = core.clone();
        core.threads.lock().pending += 1;
        run_aside(Instant::now(), move || copy(&copying, rest));
    }
}

/// Counts what a consumer has left.
fn count<P: MessagePayload>(core: &Core<P>, taken: &Taken<P>, until: Instant) -> (Abandoned, Vec<Counted>) {
    let takeover = &taken.takeover;
    let tally = &core.consumer(taken.addr).tally;
    let settle = |state: &SubscriptionState, outcome| settle_uncalled(&state.tally, tally, outcome);
    // None where it was clearing the slot of a message that it had handled.
    let call = takeover.call().delivery().map(CallMark::from_lease);
    let in_doubt = call.and_then(|call| core.registry.find(call.subscription));
    if let Some(state) = &in_doubt
        && call.is_some_and(|call| !call.is_settled)
    {
        settle(state, Outcome::InDoubt);
    }
    let mut abandoned = Abandoned::outside_of_a_handler(&taken.thread);
    if let Some(state) = in_doubt {
        abandoned.subscription = state.name.to_string();
    }
    let mut counted = Vec::new();
    let limit = until.saturating_duration_since(Instant::now());
    takeover.for_each(limit, |sequence, envelope| {
        let Some(route) = core.routes.get(envelope.route) else { return };
        let is_in_call = matches!(takeover.call(), Call::Event { sequence: of, .. } if of == sequence);
        let in_doubt = call.filter(|_| is_in_call);
        if in_doubt.is_some() {
            let message = Message::new(envelope, &route.topic, core.origin, &core.clock);
            abandoned.message = Some(message.id());
            abandoned.topic = Some(route.topic.clone());
        }
        let mut subscriptions = Vec::new();
        for subscription in route.destinations.of(taken.addr) {
            // Of the event in doubt, deliveries were made in ascending order of subscription.
            let is_open = in_doubt.is_none_or(|call| subscription > call.subscription);
            if is_open && let Some(state) = core.registry.find(subscription) {
                settle(&state, Outcome::Undelivered);
                subscriptions.push(state.name.clone());
            }
        }
        if !subscriptions.is_empty() {
            counted.push((sequence, subscriptions));
        }
    });
    (abandoned, counted)
}

/// Copies what has been counted, and hands it back.
fn copy<P: MessagePayload>(core: &Core<P>, rest: Vec<(Taken<P>, Vec<Counted>)>) {
    struct Copied<'c, P>(&'c Core<P>);
    impl<P> Drop for Copied<'_, P> {
        fn drop(&mut self) {
            self.0.threads.lock().pending -= 1;
            self.0.threads.notify();
        }
    }
    let _copied = Copied(core);
    for (Taken { takeover, .. }, counted) in rest {
        for (sequence, subscriptions) in counted {
            let copied = takeover.read(sequence, |envelope| {
                let route = core.routes.get(envelope.route)?;
                let message = Message::new(envelope, &route.topic, core.origin, &core.clock);
                Undelivered::copy(&message, subscriptions)
            });
            if let Some(undelivered) = copied.flatten() {
                let mut threads = core.threads.lock();
                threads.withheld -= 1;
                threads.handed_back.push(Arc::new(undelivered));
            }
        }
    }
}
