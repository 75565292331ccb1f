//! Publishers: bound to one topic, or to topics that come at run time.

use super::backpressure::WaitMode;
use super::batch::Batch;
use super::error::{BatchError, PublishError};
use super::extras::SendOptions;
use super::fill::{Fill, Value, With};
use super::options::{PublishOptions, Published, PublishedBatch};
use super::resolve::ResolvedTopic;
use super::send::PublisherCore;
use crate::broker::account::publishers::PublisherTally;
use crate::broker::core::Core;
use crate::broker::handle::Broker;
use crate::message::{IntoPayload, MessagePayload, Payload, PublisherId};
use crate::topic::{Topic, TopicError};
use crate::wait::Deadline;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// A publisher bound to one topic. It belongs to one thread at a time; a clone is another publisher.
///
/// While the routing table stands still, a publish costs one look at its generation word, one clock read, one
/// read-modify-write and the writing of the slot. Messages of one publisher reach a subscription in the order in which
/// they were published.
///
/// Threads do not share one, because publishing changes it:
/// ```compile_fail,E0596
/// # use ringmain::Broker;
/// # use std::sync::Arc;
/// let broker = Broker::builder().build().unwrap();
/// let shared = Arc::new(broker.publisher("a").unwrap());
/// std::thread::spawn(move || shared.publish("a lock would be needed"));
/// ```
/// Each has a clone of its own:
/// ```
/// # use ringmain::Broker;
/// let broker = Broker::builder().build().unwrap();
/// let publisher = broker.publisher("a").unwrap();
/// let threads = [1, 2].map(|number| {
///     let mut publisher = publisher.clone();
///     std::thread::spawn(move || publisher.publish(format!("{number}")).is_ok())
/// });
/// assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
/// ```
pub struct Publisher<P: MessagePayload = Payload> {
    inner: PublisherCore<P>,
    resolved: ResolvedTopic,
}

impl<P: MessagePayload> Publisher<P> {
    pub(super) fn new(core: Arc<Core<P>>, topic: Topic) -> Self {
        let mut inner = PublisherCore::new(core, PublisherTally::default());
        let mut resolved = ResolvedTopic::later(topic);
        // Should it fail for want of routes, the first publish says so.
        let _ = inner.refresh(&mut resolved);
        Self { inner, resolved }
    }

    /// The topic it is bound to.
    pub fn topic(&self) -> &Topic {
        &self.resolved.topic
    }

    /// Its number in its broker, part of each message's id.
    pub fn id(&self) -> PublisherId {
        self.inner.id()
    }

    /// Whether anybody would get a message at this moment. Costs one load while the routing table stands still.
    pub fn has_subscribers(&mut self) -> bool {
        self.inner.refresh(&mut self.resolved).is_ok() && self.resolved.matched() > 0
    }

    /// Publishes a payload: a `P`, or for the default broker also bytes and text. On a full ring does what that ring's
    /// [`Overflow`](crate::ring::Overflow) policy says. Succeeds also when nobody wants the message.
    ///
    /// A topic may lead to several dispatchers. The message is then offered to one after the other, and `Ok` says that
    /// all took it that are not [best effort](crate::broker::Dispatcher::best_effort).
    ///
    /// # Errors
    /// The reason, with the dispatcher's name where one did not take the message: no room, a consumer that has died,
    /// or a wait that could never end; or the payload is too large, or the broker is shut down. A payload that was
    /// given by value is handed back. Where some dispatchers took the message and others did not, the error is
    /// [`PartlyRefused`](super::error::PublishFailure::PartlyRefused), and the payload is in the message.
    #[inline]
    pub fn publish<S: IntoPayload<P>>(&mut self, payload: S) -> Result<Published, PublishError<S::Returned>> {
        self.send(Value(payload), None, WaitMode::Policy)
    }

    /// Publishes with headers, a correlation id, an expiry, or another way to wait.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_with<S: IntoPayload<P>>(
        &mut self,
        payload: S,
        options: &PublishOptions,
    ) -> Result<Published, PublishError<S::Returned>> {
        let (options, wait) = SendOptions::of(options, &self.inner.core.clock);
        self.send(Value(payload), Some(&options), wait)
    }

    /// Publishes if there is room at this moment, and never waits.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    #[inline]
    pub fn try_publish<S: IntoPayload<P>>(
        &mut self,
        payload: S,
    ) -> Result<Published, PublishError<S::Returned>> {
        self.send(Value(payload), None, WaitMode::None)
    }

    /// Publishes, waiting for room no longer than `limit` in all, whatever the rings' policies.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_timeout<S: IntoPayload<P>>(
        &mut self,
        payload: S,
        limit: Duration,
    ) -> Result<Published, PublishError<S::Returned>> {
        let wait = WaitMode::Until(Deadline::after(limit));
        self.send(Value(payload), None, wait)
    }

    /// Publishes what a closure writes into the slot, in place. The slot still holds an earlier message's payload, so
    /// that its buffers can be used again. The closure holds the ring up: it should be short. If it panics, nothing is
    /// published and the panic goes on. It is not called when there is no room or nobody wants the message.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    #[inline]
    pub fn publish_in_place<F: FnOnce(&mut P)>(&mut self, fill: F) -> Result<Published, PublishError> {
        self.send(With(fill), None, WaitMode::Policy)
    }

    /// Publishes what a closure writes, with headers, a correlation id, an expiry, or another way to wait. See
    /// [`publish_in_place`](Self::publish_in_place).
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_in_place_with<F: FnOnce(&mut P)>(
        &mut self,
        fill: F,
        options: &PublishOptions,
    ) -> Result<Published, PublishError> {
        let (options, wait) = SendOptions::of(options, &self.inner.core.clock);
        self.send(With(fill), Some(&options), wait)
    }

    /// Publishes a [`Batch`] in order. All payloads are checked before any is published. Into one ring as many are
    /// published at once as there is room for. Allocates nothing.
    ///
    /// On a full ring the batch waits as the ring's policy says, for each ring no longer in all than for one message,
    /// counted from when it first waits for that ring. It ends at the first message that a dispatcher does not take,
    /// unless that is [best effort](crate::broker::Dispatcher::best_effort).
    ///
    /// # Errors
    /// As [`publish`](Self::publish), with how many were published before.
    pub fn publish_batch<B: Batch<P>>(&mut self, batch: B) -> Result<PublishedBatch, BatchError> {
        self.send_batch(batch, None, WaitMode::Policy)
    }

    /// Publishes a batch, each message with the same headers, correlation id and expiry. A limit to wait is one for the
    /// whole batch. See [`publish_batch`](Self::publish_batch).
    ///
    /// # Errors
    /// As [`publish_batch`](Self::publish_batch).
    pub fn publish_batch_with<B: Batch<P>>(
        &mut self,
        batch: B,
        options: &PublishOptions,
    ) -> Result<PublishedBatch, BatchError> {
        let (options, wait) = SendOptions::of(options, &self.inner.core.clock);
        self.send_batch(batch, Some(&options), wait)
    }

    #[inline(always)]
    fn send<F: Fill<P>>(
        &mut self,
        fill: F,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        if let Err(failure) = self.inner.refresh(&mut self.resolved) {
            return Err(PublishError::new(failure, fill.into_returned()));
        }
        self.inner.publish(&self.resolved, fill, options, wait)
    }

    fn send_batch<B: Batch<P>>(
        &mut self,
        batch: B,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<PublishedBatch, BatchError> {
        self.inner.refresh(&mut self.resolved).map_err(BatchError::before)?;
        self.inner.publish_batch(&self.resolved, batch, options, wait)
    }
}

impl<P: MessagePayload> Clone for Publisher<P> {
    /// Another publisher to the same topic, with a number and a count of its own.
    fn clone(&self) -> Self {
        Self::new(self.inner.core().clone(), self.resolved.topic.clone())
    }
}

// A publish closure that panics leaves a tombstone in the ring, and nothing half-done here.
impl<P: MessagePayload> UnwindSafe for Publisher<P> {}
impl<P: MessagePayload> RefUnwindSafe for Publisher<P> {}

impl<P: MessagePayload> Drop for Publisher<P> {
    fn drop(&mut self) {
        if !self.inner.core().is_forked() {
            self.inner.release(&mut self.resolved);
        }
    }
}

impl<P: MessagePayload> fmt::Debug for Publisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("topic", &self.resolved.topic)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl<P: MessagePayload> Broker<P> {
    /// A publisher bound to one topic: the fastest way. One for each thread; it can be cloned.
    ///
    /// # Errors
    /// A malformed topic.
    pub fn publisher(&self, topic: &str) -> Result<Publisher<P>, TopicError> {
        Ok(Publisher::new(self.core().clone(), Topic::new(topic)?))
    }
}
