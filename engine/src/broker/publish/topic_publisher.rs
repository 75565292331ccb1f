//! The publisher to topics that come at run time.

use super::backpressure::Patience;
use super::fill::{Fill, Value, With};
use super::options::{PublishOptions, Published};
use super::resolve::Hold;
use super::send::Outlet;
use crate::broker::core::Core;
use crate::broker::error::{BatchError, PublishError, PublishFailure};
use crate::broker::handle::Broker;
use crate::message::{IntoPayload, Payload, PublisherId};
use crate::routing::TopicCache;
use crate::topic::Topic;
use crate::wait::Deadline;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The topics that an [`AnyTopicPublisher`] remembers unless told otherwise.
const DEFAULT_TOPIC_CACHE: usize = 4_096;

/// A publisher to topics that come at run time. It remembers what its last topics resolved to, so that a topic it has in
/// its cache costs one hash and one comparison more than a bound publisher. Ever-new topics cost their resolution,
/// thrash this publisher's cache alone, and do not grow it.
pub struct AnyTopicPublisher<P = Payload>
where
    P: Clone + Default + Send + Sync + 'static,
{
    outlet: Outlet<P>,
    cache: TopicCache<Hold>,
}

impl<P> AnyTopicPublisher<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    pub(super) fn new(core: Arc<Core<P>>, topics: usize) -> Self {
        Self { outlet: Outlet::new(core), cache: TopicCache::new(topics) }
    }

    /// Its number in its broker, part of each message's id.
    pub fn id(&self) -> PublisherId {
        self.outlet.id()
    }

    /// Publishes a payload to a topic. See [`Publisher::publish`].
    ///
    /// # Errors
    /// As [`Publisher::publish`], and a malformed topic.
    #[inline]
    pub fn publish<S: IntoPayload<P>>(
        &mut self,
        topic: &str,
        payload: S,
    ) -> Result<Published, PublishError<S::Returned>> {
        self.send(topic, Value(payload), None, Patience::Policy)
    }

    /// Publishes if there is room at this moment. See [`Publisher::try_publish`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    #[inline]
    pub fn try_publish<S: IntoPayload<P>>(
        &mut self,
        topic: &str,
        payload: S,
    ) -> Result<Published, PublishError<S::Returned>> {
        self.send(topic, Value(payload), None, Patience::None)
    }

    /// Publishes, waiting no longer than `limit`. See [`Publisher::publish_timeout`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_timeout<S: IntoPayload<P>>(
        &mut self,
        topic: &str,
        payload: S,
        limit: Duration,
    ) -> Result<Published, PublishError<S::Returned>> {
        let patience = Patience::Until(Deadline::after(limit));
        self.send(topic, Value(payload), None, patience)
    }

    /// Publishes with headers, a correlation id or an expiry. See [`Publisher::publish_with_options`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_with_options<S: IntoPayload<P>>(
        &mut self,
        topic: &str,
        payload: S,
        options: &PublishOptions,
    ) -> Result<Published, PublishError<S::Returned>> {
        self.send(topic, Value(payload), Some(options), Patience::Policy)
    }

    /// Publishes what a closure writes. See [`Publisher::publish_with`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    #[inline]
    pub fn publish_with<F: FnOnce(&mut P)>(
        &mut self,
        topic: &str,
        fill: F,
    ) -> Result<Published, PublishError> {
        self.send(topic, With(fill), None, Patience::Policy)
    }

    /// Publishes a batch to one topic. See [`Publisher::publish_batch`].
    ///
    /// # Errors
    /// As [`Publisher::publish_batch`], and a malformed topic.
    pub fn publish_batch<S, I>(&mut self, topic: &str, batch: I) -> Result<usize, BatchError>
    where
        S: IntoPayload<P>,
        I: IntoIterator<Item = S, IntoIter: ExactSizeIterator + Clone>,
    {
        let batch = batch.into_iter();
        self.with_hold(topic, batch, |outlet, hold, batch| outlet.publish_batch(hold, batch))
            .unwrap_or_else(|(failure, _)| Err(BatchError { published: 0, failure }))
    }

    #[inline(always)]
    fn send<F: Fill<P>>(
        &mut self,
        topic: &str,
        fill: F,
        options: Option<&PublishOptions>,
        patience: Patience,
    ) -> Result<Published, PublishError<F::Returned>> {
        let Self { outlet, cache } = self;
        // The one way that is hot, inline: what comes back by way of a closure or a further result is copied through memory
        // sooner than it can be read again.
        match cache.get(topic) {
            Some(hold) if outlet.is_current(hold) => outlet.publish(hold, fill, options, patience),
            Some(hold) => outlet.refresh_and_publish(hold, fill, options, patience),
            None => self.resolve_and_send(topic, fill, options, patience),
        }
    }

    #[cold]
    #[inline(never)]
    fn resolve_and_send<F: Fill<P>>(
        &mut self,
        topic: &str,
        fill: F,
        options: Option<&PublishOptions>,
        patience: Patience,
    ) -> Result<Published, PublishError<F::Returned>> {
        self.with_new_hold(topic, fill, |outlet, hold, fill| outlet.publish(hold, fill, options, patience))
            .unwrap_or_else(|(failure, fill)| Err(PublishError::new(failure, fill.into_returned())))
    }

    /// Calls `f` with the resolved topic, from the cache or into it; hands `input` back if it cannot be resolved.
    fn with_hold<A, R>(
        &mut self,
        topic: &str,
        input: A,
        f: impl FnOnce(&mut Outlet<P>, &Hold, A) -> R,
    ) -> Result<R, (PublishFailure, A)> {
        let Self { outlet, cache } = self;
        let Some(hold) = cache.get(topic) else { return self.with_new_hold(topic, input, f) };
        match outlet.refresh(hold) {
            Ok(()) => Ok(f(outlet, hold, input)),
            Err(failure) => Err((failure, input)),
        }
    }

    /// Resolves a topic that is not in the cache, calls `f` with it, and puts it there.
    fn with_new_hold<A, R>(
        &mut self,
        topic: &str,
        input: A,
        f: impl FnOnce(&mut Outlet<P>, &Hold, A) -> R,
    ) -> Result<R, (PublishFailure, A)> {
        let Self { outlet, cache } = self;
        match Topic::new(topic).map_err(PublishFailure::from).and_then(|topic| outlet.hold(topic)) {
            Ok(hold) => {
                let mut held = Held { outlet, hold: Some(hold) };
                let result = held.publish(|outlet, hold| f(outlet, hold, input));
                if let Some(hold) = held.hold.take()
                    && let Some((_, mut evicted)) = cache.insert(hold.topic.clone(), hold)
                {
                    held.outlet.release(&mut evicted);
                }
                Ok(result)
            }
            Err(failure) => Err((failure, input)),
        }
    }

    /// How many topics were found in the cache, were not, and were pushed out of it.
    pub fn cache_counts(&self) -> (u64, u64, u64) {
        (self.cache.hits(), self.cache.misses(), self.cache.evictions())
    }
}

/// A topic that is not in the cache yet, and is let go should a publish closure panic.
struct Held<'a, P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    outlet: &'a mut Outlet<P>,
    hold: Option<Hold>,
}

impl<P> Held<'_, P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    fn publish<R>(&mut self, f: impl FnOnce(&mut Outlet<P>, &Hold) -> R) -> R {
        let Some(hold) = &self.hold else { unreachable!("it is taken when it has been published to") };
        f(self.outlet, hold)
    }
}

impl<P> Drop for Held<'_, P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            self.outlet.release(&mut hold);
        }
    }
}

impl<P> Drop for AnyTopicPublisher<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    fn drop(&mut self) {
        for mut hold in self.cache.drain() {
            self.outlet.release(&mut hold);
        }
    }
}

impl<P> fmt::Debug for AnyTopicPublisher<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyTopicPublisher").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<P> Broker<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    /// A publisher to topics that are only known at run time. It remembers what the last 4,096 topics resolved to.
    pub fn any_topic_publisher(&self) -> AnyTopicPublisher<P> {
        self.any_topic_publisher_remembering(DEFAULT_TOPIC_CACHE)
    }

    /// As [`any_topic_publisher`](Self::any_topic_publisher), with a cache of so many topics; 0 resolves each message's
    /// topic anew. A topic in the cache takes some 600 bytes.
    pub fn any_topic_publisher_remembering(&self, topics: usize) -> AnyTopicPublisher<P> {
        AnyTopicPublisher::new(self.core().clone(), topics)
    }
}
