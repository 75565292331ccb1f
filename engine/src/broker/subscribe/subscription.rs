//! Subscriptions: their options, and the handle that ends them.

use super::registry::SubscriptionState;
use crate::broker::account::term::Term;
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::deliver::mailbox::Latch;
use crate::broker::error::UnsubscribeTimeout;
use crate::broker::handle::Broker;
use crate::broker::id::SubscriptionId;
use crate::message::{MessagePayload, Payload};
use crate::sync::edge;
use crate::topic::Pattern;
use crate::wait::Deadline;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Ends subscriptions in one swap of the table, and returns when the last handler has been dropped.
pub(super) fn unsubscribe_all<P: MessagePayload>(
    core: &Arc<Core<P>>,
    subscriptions: impl Iterator<Item = Subscription<P>>,
) {
    let (mut ours, others): (Vec<_>, Vec<_>) =
        subscriptions.partition(|subscription| Arc::ptr_eq(core, &subscription.core));
    for subscription in &mut ours {
        subscription.is_ended = true;
    }
    let ended = core.end_subscriptions(ours.iter().map(|subscription| &*subscription.state));
    others.into_iter().for_each(Subscription::unsubscribe);
    for done in ended {
        is_over(&done, Deadline::NEVER);
    }
}

/// Waits until a handler has been dropped. On a consumer's thread, which might wait for itself, it does not wait.
fn is_over(done: &Latch, deadline: Deadline) -> bool {
    context::is_consuming() || edge::left_out("wait-for-release") || done.wait(deadline)
}

/// A subscription. Dropping it unsubscribes without waiting; [`detach`](Self::detach) leaves it for the life of the broker.
#[must_use = "dropping it unsubscribes; use `detach` to leave it for the life of the broker"]
pub struct Subscription<P: MessagePayload = Payload> {
    core: Arc<Core<P>>,
    state: Arc<SubscriptionState>,
    is_ended: bool,
}

impl<P: MessagePayload> Subscription<P> {
    pub(super) fn new(core: Arc<Core<P>>, state: Arc<SubscriptionState>) -> Self {
        Self { core, state, is_ended: false }
    }

    /// Its number.
    pub fn id(&self) -> SubscriptionId {
        SubscriptionId(self.state.id)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Its patterns.
    pub fn patterns(&self) -> &[Pattern] {
        &self.state.patterns
    }

    /// Calls of its handler that have returned without an error so far.
    pub fn delivered(&self) -> u64 {
        self.state.tally.get(Term::Delivered)
    }

    /// Unsubscribes, and returns when no further call of the handler can begin and the handler has been dropped, by its
    /// consumer's thread. What was routed here and not yet delivered is counted as dropped.
    ///
    /// On a consumer thread, of whatever broker, it does not wait, since that might be for itself: it takes effect when the
    /// running call ends. Where a handler never returns, of this subscription or another of its consumer, it waits for ever,
    /// be it after a shutdown that has reported that handler: [`unsubscribe_timeout`](Self::unsubscribe_timeout) does not.
    pub fn unsubscribe(self) {
        // Without a limit there is no timeout.
        let _ = self.finish(Deadline::NEVER, Duration::MAX);
    }

    /// As [`unsubscribe`](Self::unsubscribe), waiting no longer than `limit`.
    ///
    /// # Errors
    /// The consumer is busy with a handler. The subscription is ended all the same.
    pub fn unsubscribe_timeout(self, limit: Duration) -> Result<(), UnsubscribeTimeout> {
        self.finish(Deadline::after(limit), limit)
    }

    fn finish(mut self, deadline: Deadline, limit: Duration) -> Result<(), UnsubscribeTimeout> {
        self.is_ended = true;
        let ended = self.core.end_subscriptions([&*self.state]);
        if ended.iter().all(|done| is_over(done, deadline)) {
            return Ok(());
        }
        Err(UnsubscribeTimeout { subscription: self.state.name.to_string(), limit })
    }

    /// Leaves the subscription to itself: it lives as long as the broker.
    pub fn detach(mut self) {
        self.is_ended = true;
    }
}

impl<P: MessagePayload> Drop for Subscription<P> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.core.end_subscriptions([&*self.state]);
        }
    }
}

impl<P: MessagePayload> fmt::Debug for Subscription<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.state.name).finish_non_exhaustive()
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Ends many subscriptions in one swap of the table, and returns as [`Subscription::unsubscribe`] does, when no further
    /// call of any of the handlers can begin. Those of another broker are ended one by one.
    pub fn unsubscribe_all(&self, subscriptions: impl IntoIterator<Item = Subscription<P>>) {
        unsubscribe_all(self.core(), subscriptions.into_iter());
    }
}
