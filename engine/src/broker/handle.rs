//! The broker's handle: all clones of it are the same broker.
//!
//! Each feature has an `impl Broker` block of its own, beside the feature.

use super::core::Core;
use crate::clock::Clock;
use crate::message::{MessagePayload, Payload};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Weak};

/// The handles of a broker; when the last is dropped, the broker closes.
struct Handle<P>(Arc<Core<P>>);

impl<P> Drop for Handle<P> {
    fn drop(&mut self) {
        if self.0.is_forked() {
            return self.0.forsake();
        }
        // Nobody waits for what handlers keep.
        self.0.threads.leave_alone();
        self.0.close();
    }
}

/// A publish/subscribe broker. Cheap to clone; all clones are the same broker.
///
/// Dropping the last clone closes it as [`shutdown`](Self::shutdown) does, but waits for nothing:
/// consumers handle what is there, drop their handlers, and end.
pub struct Broker<P = Payload> {
    handle: Arc<Handle<P>>,
}

/// A handle that does not keep its broker open: what a handler that publishes, subscribes or shuts
/// down holds.
///
/// A broker keeps its handlers, and a handler keeps what it has captured. If that is a
/// [`Broker`], the two keep each other, and the last clone is never dropped: a
/// [detached](super::Subscription::detach) subscription of that kind lives until the broker is shut
/// down, as do its threads. With a weak handle it ends when its users have dropped theirs.
///
/// ```
/// # use ringmain::broker::Broker;
/// # use std::time::Duration;
/// let broker = Broker::builder().build()?;
/// let weak = broker.downgrade();
/// broker
///     .subscribe("admin.stop", move |_| {
///         if let Some(broker) = weak.upgrade() {
///             let _report = broker.shutdown(Duration::from_secs(5));
///         }
///     })?
///     .detach();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WeakBroker<P = Payload> {
    handle: Weak<Handle<P>>,
}

impl<P> WeakBroker<P> {
    /// Returns the broker, unless all of its handles have been dropped.
    pub fn upgrade(&self) -> Option<Broker<P>> {
        self.handle.upgrade().map(|handle| Broker { handle })
    }
}

impl<P> Clone for WeakBroker<P> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<P> fmt::Debug for WeakBroker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakBroker").field("is_open", &(self.handle.strong_count() > 0)).finish()
    }
}

// A panic in a handler or a publish closure leaves a broker as it was: it is caught, or passes
// through where nothing is half-done.
impl<P> UnwindSafe for Broker<P> {}
impl<P> RefUnwindSafe for Broker<P> {}
impl<P> UnwindSafe for WeakBroker<P> {}
impl<P> RefUnwindSafe for WeakBroker<P> {}

impl<P> Broker<P> {
    /// Returns a handle that does not keep the broker open. See [`WeakBroker`].
    pub fn downgrade(&self) -> WeakBroker<P> {
        WeakBroker { handle: Arc::downgrade(&self.handle) }
    }
}

impl<P: MessagePayload> Broker<P> {
    pub(crate) fn from_core(core: Arc<Core<P>>) -> Self {
        Self { handle: Arc::new(Handle(core)) }
    }

    pub(crate) fn core(&self) -> &Arc<Core<P>> {
        &self.handle.0
    }

    /// Returns the clock by which the broker tells time, such as whether a message has expired.
    ///
    /// ```
    /// use ringmain::broker::{Broker, PublishOptions};
    /// use std::time::Duration;
    ///
    /// let broker: Broker = Broker::builder().build()?;
    /// let end_of_bar = broker.clock().now().after(Duration::from_secs(60));
    /// let options = PublishOptions::new().expires_at(end_of_bar);
    /// let published = broker.publisher("bars.eurusd")?.publish_with("9.75", &options)?;
    /// assert_eq!(published.accepted, 0, "nobody has subscribed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(&self) -> &Clock {
        &self.core().clock
    }
}

impl<P> Clone for Broker<P> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<P> fmt::Debug for Broker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = &self.handle.0;
        f.debug_struct("Broker").field("origin", &core.origin).field("is_closed", &core.is_closed()).finish()
    }
}
