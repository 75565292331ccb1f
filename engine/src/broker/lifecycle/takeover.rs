//! The take-over: what a consumer that is stuck in a handler has left.

use super::threads::{Undelivered, owned_copy};
use crate::broker::account::term::Term;
use crate::broker::core::Core;
use crate::broker::deliver::outcome::CallMark;
use crate::message::{Envelope, Message, MessageId, MessagePayload};
use crate::ring::Takeover;
use crate::routing::ConsumerAddr;
use crate::topic::Topic;
use std::time::Duration;

/// A consumer that had not come back when the time limit passed: it is stuck in a handler; or else in the drop of what a
/// handler had captured, or behind a publish closure that does not return.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Abandoned {
    /// The thread's name.
    pub thread: String,
    /// The subscription whose handler it is stuck in; empty where it is not in a handler.
    pub subscription: String,
    /// The message that the handler was called with, which is in doubt; where it can be told.
    pub message: Option<MessageId>,
    /// The topic of that message.
    pub topic: Option<Topic>,
}

impl Abandoned {
    pub(super) fn outside_of_a_handler(thread: &str) -> Self {
        Self { thread: thread.to_owned(), subscription: String::new(), message: None, topic: None }
    }
}

/// Takes over what a stuck consumer has left: the call in doubt, and all that came behind it.
pub(super) fn abandon<P: MessagePayload>(
    core: &Core<P>,
    consumer: ConsumerAddr,
    thread: &str,
    takeover: &Takeover<Envelope<P>>,
    limit: Duration,
) -> Abandoned {
    let call = CallMark::from_lease(takeover.delivery());
    let in_doubt = core.registry.find(call.subscription);
    if let Some(state) = &in_doubt
        && !call.is_settled
    {
        state.tally.count(Term::InDoubt);
    }
    let mut stuck = Abandoned {
        thread: thread.to_owned(),
        subscription: in_doubt.map_or_else(String::new, |state| state.name.to_string()),
        message: None,
        topic: None,
    };
    let mut handed_back = Vec::new();
    takeover.for_each(limit, |sequence, envelope| {
        let Some(route) = core.routes.get(envelope.route) else { return };
        let message = Message::new(envelope, &route.topic, core.origin, &core.clock);
        let is_in_doubt = sequence == takeover.sequence();
        if is_in_doubt {
            stuck.message = Some(message.id());
            stuck.topic = Some(route.topic.clone());
        }
        let mut subscriptions = Vec::new();
        for subscription in route.destinations.of(consumer) {
            // Of the event in doubt, deliveries were made in ascending order of subscription.
            let is_open = !is_in_doubt || subscription > call.subscription;
            if is_open && let Some(state) = core.registry.find(subscription) {
                state.tally.count(Term::Undelivered);
                subscriptions.push(state.name.clone());
            }
        }
        if !subscriptions.is_empty() {
            handed_back.extend(owned_copy(&message).map(|message| Undelivered { message, subscriptions }));
        }
    });
    core.threads.hand_back(handed_back);
    stuck
}
