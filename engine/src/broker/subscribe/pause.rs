//! Pausing a subscription, and seeing what waits for it.

use super::registry::Reason;
use super::subscription::{Subscription, may_wait_for};
use crate::broker::deliver::mailbox::Latch;
use crate::broker::error::PauseError;
use crate::broker::policy::breaker::BreakerState;
use crate::broker::policy::guarded::Force;
use crate::message::MessagePayload;
use crate::sync::edge;
use crate::wait::Deadline;
use std::sync::Arc;
use std::time::Duration;

/// What a subscription is doing. See [`Subscription::status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStatus {
    /// Whether it is paused: no call of its handler begins.
    pub is_paused: bool,
    /// Whether its handler is in a call that does not return, on a thread that
    /// [was replaced](crate::broker::Dispatcher::rescuable): what comes waits until it does.
    pub is_away: bool,
    /// Whether it is behind: what comes waits behind what came before.
    pub is_catching_up: bool,
    /// Messages in its backlog.
    pub backlogged: u64,
    /// Messages that have failed and wait for another attempt.
    pub retrying: u64,
    /// Messages that its handler keeps with [tokens](crate::broker::Token).
    pub in_flight: u64,
    /// The state of its breaker, if it has one. One whose open time has passed is open until the next message comes
    /// to be delivered.
    pub breaker: Option<BreakerState>,
    /// How often the state of its breaker has changed.
    pub breaker_changes: u64,
}

impl<P: MessagePayload> Subscription<P> {
    /// Pauses the subscription: its messages wait in its [backlog](crate::broker::Backlog) until
    /// [`resume`](Self::resume). Returns when no call of its handler can begin and none runs; on a
    /// thread that must not wait for a consumer, a consumer's own or one inside of a publish closure,
    /// at once: there it holds when the running call ends. What was in the ring by then and has not been
    /// delivered moves into the backlog as the consumer comes to it, and counts there.
    ///
    /// Others of the same consumer go on: a message that waits is copied, so that its slot is free.
    /// Pausing twice is pausing once. What waits when the broker shuts down is handed back; what waits
    /// when the subscription ends is dropped and counted so.
    ///
    /// Where a handler of the same consumer never returns, it waits for ever, as
    /// [`unsubscribe`](Self::unsubscribe) does: [`pause_timeout`](Self::pause_timeout) does not. After
    /// [a rescue](crate::broker::Dispatcher::rescuable) only the stuck subscription itself waits.
    ///
    /// # Errors
    /// In a child made by `fork`.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use std::sync::mpsc::channel;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let (sender, received) = channel();
    /// let orders = broker.subscribe("orders", move |order| sender.send(**order))?;
    ///
    /// orders.pause()?;
    /// broker.publisher("orders")?.publish(4711)?;
    /// assert!(received.recv_timeout(Duration::from_millis(50)).is_err());
    /// assert_eq!(orders.status().backlogged, 1);
    ///
    /// orders.resume();
    /// assert_eq!(received.recv_timeout(Duration::from_secs(5))?, 4711);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pause(&self) -> Result<(), PauseError> {
        let paused = self.post_pause()?;
        if self.may_wait() {
            paused.wait(Deadline::NEVER);
        }
        Ok(())
    }

    /// As [`pause`](Self::pause), waiting no longer than `limit`.
    ///
    /// # Errors
    /// As there; and the consumer is still in a call of a handler. The subscription is paused all the
    /// same: it holds when that call ends.
    pub fn pause_timeout(&self, limit: Duration) -> Result<(), PauseError> {
        let deadline = Deadline::after(limit);
        let paused = self.post_pause()?;
        if self.may_wait() && !paused.wait(deadline) {
            return Err(PauseError::TimedOut { subscription: self.name().to_owned(), limit });
        }
        Ok(())
    }

    /// Whether this thread may wait for the consumer to read its mail. A consumer's might wait for itself,
    /// and one that fills a slot for a consumer that waits for that slot.
    fn may_wait(&self) -> bool {
        may_wait_for(&self.core) && !edge::left_out("wait-for-pause")
    }

    fn post_pause(&self) -> Result<Arc<Latch>, PauseError> {
        if self.core.is_forked() {
            return Err(PauseError::Forked);
        }
        Ok(self.mailbox().set_paused(&self.state, true))
    }

    /// Goes on after a [`pause`](Self::pause): with what has waited, in order, and then with what
    /// comes. Does not wait: it holds, and [`status`](Self::status) says so, when the consumer has read
    /// of it. On one that is not paused it does nothing.
    pub fn resume(&self) {
        if !self.core.is_forked() {
            self.mailbox().set_paused(&self.state, false);
        }
    }

    /// Opens the subscription's breaker until it is [reset](Self::reset_breaker): no call of its handler
    /// begins from when the consumer has read of it. Does not wait. Does nothing where there is no
    /// breaker.
    pub fn open_breaker(&self) {
        self.force_breaker(Force::Open);
    }

    /// Closes the subscription's breaker until it is [reset](Self::reset_breaker), however many calls
    /// fail. Does not wait. Does nothing where there is no breaker.
    pub fn close_breaker(&self) {
        self.force_breaker(Force::Closed);
    }

    /// Has the subscription's breaker begin anew: closed, and watching the calls. Does not wait. Does
    /// nothing where there is no breaker.
    pub fn reset_breaker(&self) {
        self.force_breaker(Force::Reset);
    }

    fn force_breaker(&self, force: Force) {
        if !self.core.is_forked() {
            self.mailbox().force_breaker(&self.state, force);
        }
    }

    /// Returns what the subscription is doing at this moment. Locks briefly.
    pub fn status(&self) -> SubscriptionStatus {
        let sizes = self.core.consumer(self.state.destination.consumer).waiting.sizes_of(self.state.id);
        SubscriptionStatus {
            is_paused: self.state.waits_for(Reason::Paused),
            is_away: self.state.waits_for(Reason::Away),
            is_catching_up: self.state.waits_for(Reason::CatchingUp),
            backlogged: sizes.backlogged as u64,
            retrying: sizes.retrying as u64,
            in_flight: sizes.in_flight as u64,
            breaker: self.state.breaker(),
            breaker_changes: self.state.tally.breaker_changes.get(),
        }
    }
}
