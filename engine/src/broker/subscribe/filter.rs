//! Filters: which of the messages that are routed to a subscription its handler gets.
//!
//! A filter is a closure that takes a message and says whether it is wanted. For what many want there
//! are ready-made ones, and [`Filter`] puts filters together.
//!
//! ```
//! use ringmain::Broker;
//! use ringmain::broker::PublishOptions;
//! use ringmain::broker::filter::{Filter, header, payload};
//! use std::sync::mpsc::channel;
//! use std::time::Duration;
//!
//! let broker = Broker::of::<u64>().build()?;
//! let (sender, received) = channel();
//! let large_ones_from_europe = header("region").is("eu").and(payload(|amount| *amount >= 1_000));
//! let _subscription = broker
//!     .subscription()
//!     .pattern("orders")
//!     .filter(large_ones_from_europe)
//!     .subscribe(move |message| sender.send(**message))?;
//! let mut publisher = broker.publisher("orders")?;
//! for (region, amount) in [("eu", 10), ("us", 5_000), ("eu", 2_000)] {
//!     publisher.publish_with(amount, &PublishOptions::new().header("region", region)?)?;
//! }
//! assert_eq!(received.recv_timeout(Duration::from_secs(5))?, 2_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::message::{HeaderName, HeaderPair, Message, Priority};

/// A filter as its subscription's consumer owns it.
pub(crate) type BoxedFilter<P> = Box<dyn FnMut(&Message<'_, P>) -> bool + Send>;

/// What puts filters together. Every closure of a filter's form has these methods.
pub trait Filter<P: 'static>: FnMut(&Message<'_, P>) -> bool + Send + Sized + 'static {
    /// Wants what both want. The second is asked only about what the first wants.
    fn and(
        mut self,
        mut other: impl FnMut(&Message<'_, P>) -> bool + Send + 'static,
    ) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        move |message: &Message<'_, P>| self(message) && other(message)
    }

    /// Wants what one of both wants. The second is asked only about what the first does not want.
    fn or(
        mut self,
        mut other: impl FnMut(&Message<'_, P>) -> bool + Send + 'static,
    ) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        move |message: &Message<'_, P>| self(message) || other(message)
    }

    /// Wants what this one does not want.
    fn not(mut self) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        move |message: &Message<'_, P>| !self(message)
    }
}

impl<P: 'static, F: FnMut(&Message<'_, P>) -> bool + Send + 'static> Filter<P> for F {}

/// A header that a filter looks at. See [`header`].
#[derive(Clone, Debug)]
#[must_use = "a header alone is no filter"]
pub struct Header {
    key: HeaderName,
}

/// A filter that looks at the header of that key. A message without it has no value, and so none that
/// is asked for.
pub fn header(key: &str) -> Header {
    Header { key: HeaderName::new(key) }
}

impl Header {
    /// Wants messages that have this header, whatever its value.
    pub fn exists<P: 'static>(self) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        self.has(|_| true)
    }

    /// Wants messages whose header has this value.
    pub fn is<P: 'static>(
        self,
        value: impl Into<Vec<u8>>,
    ) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        let wanted = HeaderPair::new(self.key, value.into());
        move |message: &Message<'_, P>| message.has_header(&wanted)
    }

    /// Wants messages whose header has one of these values.
    pub fn is_one_of<P: 'static, V: Into<Vec<u8>>>(
        self,
        values: impl IntoIterator<Item = V>,
    ) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        let wanted: Vec<Vec<u8>> = values.into_iter().map(Into::into).collect();
        self.has(move |value| wanted.iter().any(|one| one == value))
    }

    /// Wants messages whose header's value begins so.
    pub fn starts_with<P: 'static>(
        self,
        prefix: impl Into<Vec<u8>>,
    ) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        let prefix = prefix.into();
        self.has(move |value| value.starts_with(&prefix))
    }

    /// Wants messages for whose header's value the closure says so.
    pub fn has<P: 'static>(
        self,
        mut wanted: impl FnMut(&[u8]) -> bool + Send + 'static,
    ) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
        move |message: &Message<'_, P>| message.header(&self.key).is_some_and(&mut wanted)
    }
}

/// Wants messages that are at least as urgent.
///
/// ```
/// use ringmain::broker::filter::priority_at_least;
/// use ringmain::message::Priority;
///
/// let urgent = priority_at_least::<u64>(Priority::High);
/// # let _ = urgent;
/// ```
pub fn priority_at_least<P: 'static>(
    least: Priority,
) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
    move |message: &Message<'_, P>| message.priority().index() <= least.index()
}

/// A filter that looks at the payload alone.
pub fn payload<P: 'static>(
    mut wanted: impl FnMut(&P) -> bool + Send + 'static,
) -> impl FnMut(&Message<'_, P>) -> bool + Send + 'static {
    move |message: &Message<'_, P>| wanted(message.payload())
}
