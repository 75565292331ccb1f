//! Subscriptions: their options, and the handle that ends them.

use super::registry::SubscriptionState;
use crate::broker::account::term::Term;
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::deliver::mailbox::{Latch, Mailbox, Released, Withdrawn};
use crate::broker::error::{DrainError, UnsubscribeError};
use crate::broker::handle::Broker;
use crate::broker::id::SubscriptionId;
use crate::broker::lifecycle::aside::run_aside;
use crate::message::{MessagePayload, Payload};
use crate::sync::edge;
use crate::topic::Pattern;
use crate::wait::Deadline;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Subscriptions that have ended.
struct Ended<P> {
    /// What opens once its handler has been dropped, for each.
    latches: Vec<(Arc<SubscriptionState>, Arc<Latch>)>,
    /// The handlers that are for this thread to drop.
    withdrawn: Vec<Withdrawn<P>>,
}

/// Ends subscriptions in one swap of the table, and those of other brokers one by one.
fn end_all<P: MessagePayload>(
    core: &Arc<Core<P>>,
    subscriptions: impl Iterator<Item = Subscription<P>>,
) -> Ended<P> {
    let (mut ours, mut others): (Vec<_>, Vec<_>) =
        subscriptions.partition(|subscription| Arc::ptr_eq(core, &subscription.core));
    let states =
        ours.iter().chain(&others).map(|subscription| subscription.state.clone()).collect::<Vec<_>>();
    // Before anything is done that may fail half-way, so that none is ended twice.
    ours.iter_mut().chain(&mut others).for_each(|subscription| subscription.is_ended = true);
    let mut released = core.end_subscriptions(ours.iter().map(|subscription| &*subscription.state));
    for other in &others {
        released.extend(other.core.end_subscriptions([&*other.state]));
    }
    let (mut latches, mut withdrawn) = (Vec::with_capacity(states.len()), Vec::new());
    for (state, released) in states.into_iter().zip(released) {
        latches.push((state, released.dropped));
        withdrawn.extend(released.withdrawn);
    }
    Ended { latches, withdrawn }
}

/// Whether this thread may wait for a consumer. A consumer's might wait for itself, one that fills a slot
/// for a consumer that waits for that slot, and without threads there is nobody to wait for.
pub(super) fn may_wait_for<P>(core: &Core<P>) -> bool {
    !core.is_simulated && !context::is_consuming() && !context::is_filling()
}

fn may_wait<P>(core: &Core<P>) -> bool {
    may_wait_for(core) && !edge::left_out("wait-for-release")
}

/// Ends subscriptions, and returns when the last handler has been dropped.
fn unsubscribe_all<P: MessagePayload>(
    core: &Arc<Core<P>>,
    subscriptions: impl Iterator<Item = Subscription<P>>,
) {
    if core.is_forked() {
        return;
    }
    let Ended { latches, withdrawn } = end_all(core, subscriptions);
    drop(withdrawn);
    if may_wait(core) {
        for (_, dropped) in latches {
            dropped.wait(Deadline::NEVER);
        }
    }
}

/// Ends subscriptions, and returns when the last handler has been dropped or the time is up.
fn unsubscribe_all_timeout<P: MessagePayload>(
    core: &Arc<Core<P>>,
    subscriptions: impl Iterator<Item = Subscription<P>>,
    limit: Duration,
) -> Result<(), UnsubscribeError> {
    if core.is_forked() {
        return Err(UnsubscribeError::Forked);
    }
    let deadline = Deadline::after(limit);
    let Ended { latches, withdrawn } = end_all(core, subscriptions);
    if !withdrawn.is_empty() {
        // What handlers have captured is foreign, and may take longer than there is time.
        run_aside(deadline.at(), move || drop(withdrawn));
    }
    if context::is_filling() && !latches.iter().all(|(_, dropped)| dropped.is_open()) {
        return Err(UnsubscribeError::WouldDeadlock);
    }
    if !may_wait(core) {
        return Ok(());
    }
    let late = |(state, dropped): (Arc<SubscriptionState>, Arc<Latch>)| {
        (!dropped.wait(deadline)).then(|| state.name.to_string())
    };
    let subscriptions: Vec<_> = latches.into_iter().filter_map(late).collect();
    if subscriptions.is_empty() { Ok(()) } else { Err(UnsubscribeError::TimedOut { subscriptions, limit }) }
}

/// A subscription. Dropping it unsubscribes without waiting for the consumer, as
/// [`unsubscribe`](Self::unsubscribe) does inside of a handler; [`detach`](Self::detach) leaves it
/// for the life of the broker.
///
/// So it lives as long as what it is bound to:
/// ```
/// # use ringmain::Broker;
/// let broker = Broker::builder().build()?;
/// let _ = broker.subscribe("a", |_| ())?; // bound to nothing: it ends here
/// assert_eq!(broker.match_count("a")?, 0);
/// let _kept = broker.subscribe("a", |_| ())?; // ends with the block
/// broker.subscribe("a", |_| ())?.detach(); // stays
/// assert_eq!(broker.match_count("a")?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// One that is dropped unbound is a warning. `let _ =` is one where the lint is on that watches it:
/// ```compile_fail
/// #![deny(let_underscore_drop)]
/// # use ringmain::Broker;
/// let broker = Broker::builder().build()?;
/// let _ = broker.subscribe("a", |_| ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it unsubscribes, and `let _ =` drops it at once: bind it to a name, or `detach` it"]
pub struct Subscription<P: MessagePayload = Payload> {
    pub(super) core: Arc<Core<P>>,
    pub(super) state: Arc<SubscriptionState>,
    is_ended: bool,
}

impl<P: MessagePayload> Subscription<P> {
    pub(super) fn new(core: Arc<Core<P>>, state: Arc<SubscriptionState>) -> Self {
        Self { core, state, is_ended: false }
    }

    /// The mailbox of its consumer.
    pub(super) fn mailbox(&self) -> &Mailbox<P> {
        &self.core.consumer(self.state.destination.consumer).mailbox
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

    /// Unsubscribes, and returns when no further call of the handler can begin and the handler has
    /// been dropped: by its consumer's thread, or by this one where the consumer has not come to
    /// take the handler over since the subscription began. What was routed here and not yet
    /// delivered is counted as dropped.
    ///
    /// On a consumer thread, of whatever broker, and inside of a publish closure it does not wait,
    /// since that might be for itself: it takes effect when the running call ends. Where a handler
    /// never returns, of this subscription or another of its consumer, it waits for ever, be it
    /// after a shutdown that has reported that handler:
    /// [`unsubscribe_timeout`](Self::unsubscribe_timeout) does not. Where the consumer of that handler
    /// [was replaced](crate::broker::Dispatcher::rescuable), only the stuck subscription itself waits.
    pub fn unsubscribe(self) {
        let core = self.core.clone();
        unsubscribe_all(&core, std::iter::once(self));
    }

    /// As [`unsubscribe`](Self::unsubscribe), waiting no longer than `limit`.
    ///
    /// # Errors
    /// The consumer is busy with a handler, or the calling thread is inside of a publish closure.
    /// The subscription is ended all the same.
    pub fn unsubscribe_timeout(self, limit: Duration) -> Result<(), UnsubscribeError> {
        let core = self.core.clone();
        unsubscribe_all_timeout(&core, std::iter::once(self), limit)
    }

    /// Unsubscribes after what is queued: nothing that is published from now on is routed here, what has been is
    /// delivered, and then the subscription ends, as [`unsubscribe`](Self::unsubscribe) ends it. Waits for what lies
    /// in the ring, in the backlog, for another attempt or a replay, and with tokens, at most for `limit`.
    ///
    /// # Errors
    /// The time is up, and the error tells how much still waits: that is dropped, and counted so. Or the thread must
    /// not wait: a consumer's, or one inside of a publish closure. The subscription has ended in any case.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use std::sync::mpsc::channel;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let (sender, received) = channel();
    /// let orders = broker.subscribe("orders", move |order| sender.send(**order))?;
    /// orders.pause()?;
    /// for order in 0..10 {
    ///     let _ = broker.publisher("orders")?.publish(order)?;
    /// }
    /// orders.resume();
    /// orders.unsubscribe_drained(Duration::from_secs(5))?;
    /// assert_eq!(received.try_iter().count(), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unsubscribe_drained(mut self, limit: Duration) -> Result<(), DrainError> {
        if self.core.is_forked() {
            return Err(DrainError::Forked);
        }
        let deadline = Deadline::after(limit);
        self.is_ended = true;
        let (core, state) = (self.core.clone(), self.state.clone());
        core.unroute(std::iter::once(&*state));
        let drained = if may_wait(&core) {
            core.drain_one(&state, deadline, limit)
        } else {
            Err(DrainError::WouldDeadlock)
        };
        let Released { dropped, withdrawn } = core.dismiss(&state);
        core.reclaim_signal.notify();
        drop(withdrawn);
        drained?;
        if dropped.wait(deadline) { Ok(()) } else { Err(DrainError::TimedOut { limit }) }
    }

    /// Leaves the subscription to itself: it lives as long as the broker.
    pub fn detach(mut self) {
        self.is_ended = true;
    }
}

// It only names what its consumer owns.
impl<P: MessagePayload> UnwindSafe for Subscription<P> {}
impl<P: MessagePayload> RefUnwindSafe for Subscription<P> {}

impl<P: MessagePayload> Drop for Subscription<P> {
    fn drop(&mut self) {
        if self.core.is_forked() {
            return self.core.forsake();
        }
        if !self.is_ended {
            drop(self.core.end_subscriptions([&*self.state]));
        }
    }
}

impl<P: MessagePayload> fmt::Debug for Subscription<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.state.name).finish_non_exhaustive()
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Ends many subscriptions in one swap of the table, and returns as
    /// [`Subscription::unsubscribe`] does, when no further call of any of the handlers can begin.
    /// Those of another broker are ended one by one.
    pub fn unsubscribe_all(&self, subscriptions: impl IntoIterator<Item = Subscription<P>>) {
        unsubscribe_all(self.core(), subscriptions.into_iter());
    }

    /// As [`unsubscribe_all`](Self::unsubscribe_all), waiting no longer than `limit` in all.
    ///
    /// # Errors
    /// As [`Subscription::unsubscribe_timeout`], with the names of all whose handlers have not been
    /// dropped. They are ended all the same.
    pub fn unsubscribe_all_timeout(
        &self,
        subscriptions: impl IntoIterator<Item = Subscription<P>>,
        limit: Duration,
    ) -> Result<(), UnsubscribeError> {
        unsubscribe_all_timeout(self.core(), subscriptions.into_iter(), limit)
    }
}
