//! Publishers that tell each message the same.

use super::batch::Batch;
use super::error::{BatchError, PublishError};
use super::options::{PublishOptions, Published, PublishedBatch};
use super::publisher::Publisher;
use crate::message::{IntoPayload, MessagePayload, Payload};
use std::fmt;

/// A [`Publisher`] whose messages all have the same options: a time to live, headers, a priority, how long to wait for
/// room. Made by [`Publisher::with_options`]. A publish costs what
/// [`publish_with`](Publisher::publish_with) costs.
///
/// ```
/// use ringmain::Broker;
/// use ringmain::broker::PublishOptions;
/// use std::time::Duration;
///
/// let broker = Broker::of::<u64>().build()?;
/// let options = PublishOptions::new().header("source", "feed-7")?.expires_after(Duration::from_secs(2));
/// let mut quotes = broker.publisher("quotes.eurusd")?.with_options(options);
/// let (sender, received) = std::sync::mpsc::channel();
/// let _subscription = broker.subscribe("quotes.*", move |quote| {
///     sender.send((quote.headers().get_str("source").map(str::to_owned), quote.expires_at().is_some()))
/// })?;
/// let _ = quotes.publish(975)?;
/// assert_eq!(received.recv_timeout(Duration::from_secs(5))?, (Some("feed-7".to_owned()), true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ConfiguredPublisher<P: MessagePayload = Payload> {
    publisher: Publisher<P>,
    options: PublishOptions,
}

impl<P: MessagePayload> Publisher<P> {
    /// Returns a publisher whose messages all have these options.
    pub fn with_options(self, options: PublishOptions) -> ConfiguredPublisher<P> {
        ConfiguredPublisher { publisher: self, options }
    }
}

impl<P: MessagePayload> ConfiguredPublisher<P> {
    /// Publishes a message, as [`Publisher::publish_with`].
    ///
    /// # Errors
    /// As there.
    pub fn publish<S: IntoPayload<P>>(&mut self, payload: S) -> Result<Published, PublishError<S::Returned>> {
        self.publisher.publish_with(payload, &self.options)
    }

    /// Publishes a message that a closure writes, as [`Publisher::publish_in_place_with`].
    ///
    /// # Errors
    /// As there.
    pub fn publish_in_place<F: FnOnce(&mut P)>(&mut self, fill: F) -> Result<Published, PublishError> {
        self.publisher.publish_in_place_with(fill, &self.options)
    }

    /// Publishes a batch, as [`Publisher::publish_batch_with`].
    ///
    /// # Errors
    /// As there.
    pub fn publish_batch<B: Batch<P>>(&mut self, batch: B) -> Result<PublishedBatch, BatchError> {
        self.publisher.publish_batch_with(batch, &self.options)
    }

    /// Returns the options.
    pub fn options(&self) -> &PublishOptions {
        &self.options
    }

    /// Returns the publisher, to publish with other options, or none.
    pub fn publisher(&mut self) -> &mut Publisher<P> {
        &mut self.publisher
    }
}

impl<P: MessagePayload> Clone for ConfiguredPublisher<P> {
    /// Another publisher, as a [`Publisher`]'s clone is.
    fn clone(&self) -> Self {
        Self { publisher: self.publisher.clone(), options: self.options.clone() }
    }
}

impl<P: MessagePayload> fmt::Debug for ConfiguredPublisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfiguredPublisher").field("topic", self.publisher.topic()).finish_non_exhaustive()
    }
}
