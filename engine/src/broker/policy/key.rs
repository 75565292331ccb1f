//! Keys: what tells messages apart where one takes another's place, or is the same one once more.
//!
//! A key is made of a message by [`id`], [`topic`], [`header`], or a closure's value ([`of`]). A message can have none:
//! then it is as if nothing had been asked of it.
//!
//! ```
//! use ringmain::Broker;
//! use ringmain::broker::{Idempotency, key};
//!
//! let broker = Broker::of::<u64>().build()?;
//! // Of each instrument, the latest price.
//! let prices = broker.subscription().pattern("prices.*").conflate(key::topic());
//! let _display = prices.subscribe(|price| println!("{}: {}", price.topic(), **price))?;
//! // Each order once, however often it is sent.
//! let orders = broker.subscription().pattern("orders").idempotent(Idempotency::by(key::header("order")));
//! let _billing = orders.subscribe(|order| println!("{}", **order))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Size
//!
//! What is kept of a key is 128 bits: an id as it is, and anything else as two hashes with secret keys that are drawn
//! for each subscription (SipHash, as the standard library's maps have it). Two of a million keys have the same
//! hashes with a probability of 1 in 10^26.

use crate::message::{HeaderName, Message};
use crate::sync::panics::guard;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

/// The key of a message, as it is kept.
pub(crate) type Key = u128;

/// What a closure makes of a message.
type Closure<P> = Box<dyn FnMut(&Message<'_, P>, &Hashes) -> Option<Key> + Send>;

/// How the key of a message is found. See the [module](self).
#[must_use = "a key does nothing until a subscription is told what for"]
pub struct KeyBy<P> {
    hashes: Hashes,
    source: Source<P>,
}

enum Source<P> {
    Id,
    Topic,
    Header(HeaderName),
    Closure(Closure<P>),
}

/// Two hash functions with keys of their own.
struct Hashes([RandomState; 2]);

impl Hashes {
    fn of(&self, value: &(impl Hash + ?Sized)) -> Key {
        let [one, other] = self.0.each_ref().map(|hash| hash.hash_one(value));
        Key::from(one) << 64 | Key::from(other)
    }
}

/// The message's id. Two messages of one broker never share one: what has the same id is the same message, brought
/// again by who keeps messages beside the broker.
pub fn id<P>() -> KeyBy<P> {
    KeyBy::new(Source::Id)
}

/// The message's topic.
pub fn topic<P>() -> KeyBy<P> {
    KeyBy::new(Source::Topic)
}

/// The value of that header. A message without it has no key.
pub fn header<P>(name: &str) -> KeyBy<P> {
    KeyBy::new(Source::Header(HeaderName::new(name)))
}

/// What a closure makes of the message: whatever can be hashed, or none. It is called on the consumer's thread, once
/// for each message. Where it panics, the delivery has failed, as if a filter had panicked.
///
/// ```
/// use ringmain::broker::key;
///
/// let by_instrument = key::of::<(u32, f64), _>(|price| Some(price.payload().0));
/// # let _ = by_instrument;
/// ```
pub fn of<P, K: Hash>(mut key: impl FnMut(&Message<'_, P>) -> Option<K> + Send + 'static) -> KeyBy<P> {
    KeyBy::new(Source::Closure(Box::new(move |message, hashes| Some(hashes.of(&key(message)?)))))
}

#[inline(always)]
fn id_of<P>(message: &Message<'_, P>) -> Key {
    Key::from(message.publisher().get()) << 64 | Key::from(message.sequence())
}

impl<P> KeyBy<P> {
    fn new(source: Source<P>) -> Self {
        Self { hashes: Hashes([RandomState::new(), RandomState::new()]), source }
    }

    /// Returns a message's key, if it has one. May run foreign code.
    #[inline(always)]
    pub(crate) fn key(&mut self, message: &Message<'_, P>) -> Option<Key> {
        match self.source {
            // Where it is asked: a call would cost more.
            Source::Id => Some(id_of(message)),
            _ => self.find(message),
        }
    }

    fn find(&mut self, message: &Message<'_, P>) -> Option<Key> {
        let Self { hashes, source } = self;
        match source {
            Source::Id => Some(id_of(message)),
            Source::Topic => Some(hashes.of(message.topic())),
            Source::Header(name) => Some(hashes.of(message.header(name)?)),
            Source::Closure(key) => key(message, hashes),
        }
    }

    /// Has a closure watched while it runs.
    pub(crate) fn watched(
        self,
        mut watch: impl FnMut(&Message<'_, P>, &mut dyn FnMut() -> Option<Key>) -> Option<Key> + Send + 'static,
    ) -> Self
    where
        P: 'static,
    {
        let Self { hashes, source } = self;
        let source = match source {
            Source::Closure(mut key) => {
                Source::Closure(Box::new(move |message, hashes| watch(message, &mut || key(message, hashes))))
            }
            other => other,
        };
        Self { hashes, source }
    }

    /// Drops it. A closure is foreign: its panic is caught.
    pub(crate) fn dismantle(self) {
        guard(|| drop(self.source));
    }
}

impl<P> fmt::Debug for KeyBy<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Id => f.write_str("id"),
            Source::Topic => f.write_str("topic"),
            Source::Header(name) => write!(f, "header {name:?}"),
            Source::Closure(_) => f.write_str("closure"),
        }
    }
}
