//! The publisher to topics that come at run time.

use super::backpressure::WaitMode;
use super::batch::Batch;
use super::error::{BatchError, PublishError, PublishFailure};
use super::extras::SendOptions;
use super::fill::{Fill, Value, With};
use super::options::{PublishOptions, Published, PublishedBatch};
#[cfg(doc)]
use super::publisher::Publisher;
use super::resolve::ResolvedTopic;
use super::send::PublisherCore;
use crate::broker::account::publishers::{CacheTally, PublisherTally};
use crate::broker::core::Core;
use crate::broker::handle::Broker;
use crate::message::{IntoPayload, MessagePayload, Payload, PublisherId};
use crate::routing::TopicCache;
use crate::topic::Topic;
use crate::wait::Deadline;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// The topics that an [`AnyTopicPublisher`] remembers unless told otherwise.
const DEFAULT_TOPIC_CACHE: usize = 4_096;

/// The counts of an [`AnyTopicPublisher`]'s cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCounts {
    /// Topics that were found in it.
    pub hits: u64,
    /// Topics that were not.
    pub misses: u64,
    /// Topics that were pushed out of it by others.
    pub evictions: u64,
}

/// A publisher to topics that come at run time. It remembers what its last topics resolved to, so that a topic it has
/// in its cache costs one hash and one comparison more than a bound publisher. Ever-new topics cost their resolution,
/// thrash this publisher's cache alone, and do not grow it.
pub struct AnyTopicPublisher<P: MessagePayload = Payload> {
    inner: PublisherCore<P>,
    cache: TopicCache<ResolvedTopic>,
}

impl<P: MessagePayload> AnyTopicPublisher<P> {
    pub(crate) fn new(core: Arc<Core<P>>, topics: usize) -> Self {
        let inner = PublisherCore::new(core, PublisherTally::with_cache());
        Self { inner, cache: TopicCache::new(topics) }
    }

    /// Its number in its broker, part of each message's id.
    pub fn id(&self) -> PublisherId {
        self.inner.id()
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
        self.send(topic, Value(payload), None, WaitMode::Policy)
    }

    /// Publishes with options. See [`Publisher::publish_with`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_with<S: IntoPayload<P>>(
        &mut self,
        topic: &str,
        payload: S,
        options: &PublishOptions,
    ) -> Result<Published, PublishError<S::Returned>> {
        let (options, wait) = SendOptions::of(options, &self.inner.core.clock);
        self.send(topic, Value(payload), Some(&options), wait)
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
        self.send(topic, Value(payload), None, WaitMode::None)
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
        let wait = WaitMode::Until(Deadline::after(limit));
        self.send(topic, Value(payload), None, wait)
    }

    /// Publishes what a closure writes. See [`Publisher::publish_in_place`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    #[inline]
    pub fn publish_in_place<F: FnOnce(&mut P)>(
        &mut self,
        topic: &str,
        fill: F,
    ) -> Result<Published, PublishError> {
        self.send(topic, With(fill), None, WaitMode::Policy)
    }

    /// Publishes what a closure writes, with options. See [`Publisher::publish_in_place_with`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_in_place_with<F: FnOnce(&mut P)>(
        &mut self,
        topic: &str,
        fill: F,
        options: &PublishOptions,
    ) -> Result<Published, PublishError> {
        let (options, wait) = SendOptions::of(options, &self.inner.core.clock);
        self.send(topic, With(fill), Some(&options), wait)
    }

    /// Publishes a batch to one topic. See [`Publisher::publish_batch`].
    ///
    /// # Errors
    /// As [`Publisher::publish_batch`], and a malformed topic.
    pub fn publish_batch<B: Batch<P>>(
        &mut self,
        topic: &str,
        batch: B,
    ) -> Result<PublishedBatch, BatchError> {
        self.send_batch(topic, batch, None, WaitMode::Policy)
    }

    /// Publishes a batch to one topic, with options. See [`Publisher::publish_batch_with`].
    ///
    /// # Errors
    /// As [`publish_batch`](Self::publish_batch).
    pub fn publish_batch_with<B: Batch<P>>(
        &mut self,
        topic: &str,
        batch: B,
        options: &PublishOptions,
    ) -> Result<PublishedBatch, BatchError> {
        let (options, wait) = SendOptions::of(options, &self.inner.core.clock);
        self.send_batch(topic, batch, Some(&options), wait)
    }

    #[inline(always)]
    fn send<F: Fill<P>>(
        &mut self,
        topic: &str,
        fill: F,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        let Self { inner, cache } = self;
        // The one way that is hot, inline: what comes back by way of a closure or a further result is copied through
        // memory sooner than it can be read again.
        match cache.get(topic) {
            Some(resolved) if inner.is_current(resolved) => inner.publish(resolved, fill, options, wait),
            Some(resolved) => inner.refresh_and_publish(resolved, fill, options, wait),
            None => self.resolve_and_send(topic, fill, options, wait),
        }
    }

    #[cold]
    #[inline(never)]
    fn resolve_and_send<F: Fill<P>>(
        &mut self,
        topic: &str,
        fill: F,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        self.with_new_topic(topic, fill, |inner, resolved, fill| inner.publish(resolved, fill, options, wait))
            .unwrap_or_else(|(failure, fill)| Err(PublishError::new(failure, fill.into_returned())))
    }

    fn send_batch<B: Batch<P>>(
        &mut self,
        topic: &str,
        batch: B,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<PublishedBatch, BatchError> {
        self.with_topic(topic, batch, |inner, resolved, batch| {
            inner.publish_batch(resolved, batch, options, wait)
        })
        .unwrap_or_else(|(failure, _)| Err(BatchError::before(failure)))
    }

    /// Calls `f` with the resolved topic, from the cache or into it; hands `input` back if it cannot be resolved.
    fn with_topic<A, R>(
        &mut self,
        topic: &str,
        input: A,
        f: impl FnOnce(&mut PublisherCore<P>, &ResolvedTopic, A) -> R,
    ) -> Result<R, (PublishFailure, A)> {
        let Self { inner, cache } = self;
        let Some(resolved) = cache.get(topic) else { return self.with_new_topic(topic, input, f) };
        match inner.refresh(resolved) {
            Ok(()) => Ok(f(inner, resolved, input)),
            Err(failure) => Err((failure, input)),
        }
    }

    /// Resolves a topic that is not in the cache, calls `f` with it, and puts it there.
    fn with_new_topic<A, R>(
        &mut self,
        topic: &str,
        input: A,
        f: impl FnOnce(&mut PublisherCore<P>, &ResolvedTopic, A) -> R,
    ) -> Result<R, (PublishFailure, A)> {
        let Self { inner, cache } = self;
        if let Some(CacheTally { misses, .. }) = &inner.tally.cache {
            misses.bump();
        }
        match Topic::new(topic).map_err(PublishFailure::from).and_then(|topic| inner.resolve(topic)) {
            Ok(resolved) => {
                let published = inner.tally.published.get();
                let mut guard = ReleasedOnDrop { inner, published, resolved: Some(resolved) };
                let result = guard.publish(|inner, resolved| f(inner, resolved, input));
                if let Some(resolved) = guard.resolved.take()
                    && let Some((_, mut evicted)) = cache.insert(resolved.topic.clone(), resolved)
                {
                    guard.inner.release(&mut evicted);
                }
                Ok(result)
            }
            Err(failure) => Err((failure, input)),
        }
    }

    /// Returns what has come of the looks into its cache: one look a message, or a batch, whether it
    /// was published or not. [`Broker::metrics`] has the sums over all publishers, where a hit is a
    /// message that was published.
    pub fn cache_counts(&self) -> CacheCounts {
        let cache = &self.cache;
        CacheCounts { hits: cache.hits(), misses: cache.misses(), evictions: cache.evictions() }
    }
}

/// A topic that is not in the cache yet, and is let go should a publish closure panic. What was
/// published to it is counted.
struct ReleasedOnDrop<'a, P: MessagePayload> {
    inner: &'a mut PublisherCore<P>,
    /// How many messages the publisher had published before.
    published: u64,
    resolved: Option<ResolvedTopic>,
}

impl<P: MessagePayload> ReleasedOnDrop<'_, P> {
    fn publish<R>(&mut self, f: impl FnOnce(&mut PublisherCore<P>, &ResolvedTopic) -> R) -> R {
        let Some(resolved) = &self.resolved else {
            unreachable!("it is taken when it has been published to")
        };
        f(self.inner, resolved)
    }
}

impl<P: MessagePayload> Drop for ReleasedOnDrop<'_, P> {
    fn drop(&mut self) {
        let PublisherTally { published, cache, .. } = &**self.inner.tally;
        if let Some(cache) = cache {
            cache.published.add(published.get() - self.published);
        }
        if let Some(mut resolved) = self.resolved.take() {
            self.inner.release(&mut resolved);
        }
    }
}

// A publish closure that panics leaves a tombstone in the ring, and nothing half-done here.
impl<P: MessagePayload> UnwindSafe for AnyTopicPublisher<P> {}
impl<P: MessagePayload> RefUnwindSafe for AnyTopicPublisher<P> {}

impl<P: MessagePayload> Drop for AnyTopicPublisher<P> {
    fn drop(&mut self) {
        if self.inner.core().is_forked() {
            return;
        }
        for mut resolved in self.cache.drain() {
            self.inner.release(&mut resolved);
        }
    }
}

impl<P: MessagePayload> fmt::Debug for AnyTopicPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyTopicPublisher").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<P: MessagePayload> Broker<P> {
    /// A publisher to topics that are only known at run time. It remembers what the last 4,096 topics resolved to.
    pub fn any_topic_publisher(&self) -> AnyTopicPublisher<P> {
        self.any_topic_publisher_with_cache(DEFAULT_TOPIC_CACHE)
    }

    /// As [`any_topic_publisher`](Self::any_topic_publisher), with a cache of so many topics; 0 resolves each message's
    /// topic anew. A topic in the cache takes some 600 bytes.
    pub fn any_topic_publisher_with_cache(&self, topics: usize) -> AnyTopicPublisher<P> {
        AnyTopicPublisher::new(self.core().clone(), topics)
    }
}
