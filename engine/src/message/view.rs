//! What a handler sees: a borrowed, immutable view of a message in its slot; and its owned twin.

use super::envelope::Envelope;
use super::header_word::{HeaderName, HeaderPair};
use super::occasion::Occasion;
use super::{CorrelationId, Headers, MessageId, Origin, Priority, PublisherId};
use crate::clock::Timestamp;
use crate::topic::Topic;
use std::fmt;
use std::time::{Duration, SystemTime};

/// No headers, for messages that have none.
static NO_HEADERS: Headers = Headers::new();

/// A message, read in place. It lives as long as the handler's call; [`to_owned`](Self::to_owned) keeps it.
///
/// It dereferences to its payload. Reading it costs nothing but what the method says.
///
/// A message cannot outlive its call:
/// ```compile_fail
/// # use ringmain::broker::Broker;
/// let broker = Broker::builder().build().unwrap();
/// let mut kept = None;
/// let subscription = broker.subscribe("a", move |message| kept = Some(message));
/// ```
/// An owned one can:
/// ```
/// # use ringmain::broker::Broker;
/// let broker = Broker::builder().build().unwrap();
/// let mut kept = None;
/// let subscription = broker.subscribe("a", move |message| kept = Some(message.to_owned()));
/// ```
pub struct Message<'a, P> {
    envelope: &'a Envelope<P>,
    topic: &'a Topic,
    origin: Origin,
    occasion: &'a Occasion,
}

impl<'a, P> Message<'a, P> {
    pub(crate) fn new(
        envelope: &'a Envelope<P>,
        topic: &'a Topic,
        origin: Origin,
        occasion: &'a Occasion,
    ) -> Self {
        Self { envelope, topic, origin, occasion }
    }

    /// Returns the same message, as it is seen on another occasion.
    pub(crate) fn on<'o>(&'o self, occasion: &'o Occasion) -> Message<'o, P> {
        Message { occasion, ..*self }
    }

    pub(crate) fn occasion(&self) -> &'a Occasion {
        self.occasion
    }

    pub(crate) fn envelope(&self) -> &'a Envelope<P> {
        self.envelope
    }

    /// Returns the message with a payload that is its own.
    pub(crate) fn owned<Q>(&self, payload: Q) -> OwnedMessage<Q> {
        OwnedMessage {
            id: self.id(),
            topic: self.topic.clone(),
            published_at: self.published_at(),
            published_at_wall: self.published_at_wall(),
            headers: self.headers().clone(),
            correlation: self.correlation(),
            parent: self.parent(),
            expires_at: self.expires_at(),
            attempt: self.attempt(),
            priority: self.priority(),
            payload,
        }
    }

    /// What was published.
    #[inline]
    pub fn payload(&self) -> &'a P {
        &self.envelope.payload
    }

    /// The topic it was published to.
    pub fn topic(&self) -> &'a Topic {
        self.topic
    }

    /// Its identity, unique across brokers and processes.
    pub fn id(&self) -> MessageId {
        self.envelope.id(self.origin)
    }

    /// Who published it.
    pub fn publisher(&self) -> PublisherId {
        self.envelope.publisher
    }

    /// Its publisher's own count: 0 for the first message, then one more each. A gap means that what lies between was
    /// not routed here.
    pub fn sequence(&self) -> u64 {
        self.envelope.sequence
    }

    /// When it was published, by the broker's clock; the clock's beginning, if that was in an earlier process, as of a
    /// dead letter that has outlived it.
    pub fn published_at(&self) -> Timestamp {
        self.occasion.clock.moment(self.envelope.published_at)
    }

    /// When it was published, by the wall clock.
    pub fn published_at_wall(&self) -> SystemTime {
        #[cfg(feature = "durable-dead-letters")]
        if let Some(earlier) = self.envelope.published_at_wall() {
            return earlier;
        }
        self.occasion.clock.wall(self.published_at())
    }

    /// How long ago it was published. Reads the clock.
    pub fn age(&self) -> Duration {
        #[cfg(feature = "durable-dead-letters")]
        if let Some(earlier) = self.envelope.published_at_wall() {
            return self
                .occasion
                .clock
                .wall(self.occasion.clock.now())
                .duration_since(earlier)
                .unwrap_or_default();
        }
        self.occasion.clock.now().since(self.published_at())
    }

    /// Its headers; none for most messages.
    pub fn headers(&self) -> &'a Headers {
        self.envelope.extras().map_or(&NO_HEADERS, |extras| &extras.headers)
    }

    /// The value of one of its headers.
    #[inline(always)]
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.envelope.extras()?.headers.find(name)
    }

    /// Whether it has that header with that value.
    #[inline(always)]
    pub(crate) fn has_header(&self, pair: &HeaderPair) -> bool {
        self.envelope.extras().is_some_and(|extras| extras.headers.has(pair))
    }

    /// What ties it to other messages of one conversation.
    pub fn correlation(&self) -> Option<CorrelationId> {
        self.envelope.extras().and_then(|extras| extras.correlation)
    }

    /// The message in whose handler it was published.
    pub fn parent(&self) -> Option<MessageId> {
        self.envelope.extras().and_then(|extras| extras.parent)
    }

    /// From when on it is of no use to anybody.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.envelope.extras().and_then(|extras| extras.expires_at)
    }

    /// The moment, of the broker's clock, by which the handler's call is to have returned: what comes of it later is
    /// discarded. None where the subscription has no [time limit](crate::broker::SubscriptionBuilder::time_limit), and
    /// in what is not the handler's own call, such as a filter, a fallback or a callback. How long a message may be
    /// kept with a token says [`Token::deadline`](crate::broker::Token::deadline).
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use std::time::Duration;
    /// let mut simulation = Broker::of::<u32>().simulate()?;
    /// let broker = simulation.broker();
    /// let (sender, deadlines) = std::sync::mpsc::channel();
    /// let jobs = broker.subscription().pattern("jobs").time_limit(Duration::from_millis(20));
    /// let _jobs = jobs.subscribe(move |job| sender.send(job.deadline()))?;
    /// simulation.advance(Duration::from_secs(1));
    /// let _ = broker.publisher("jobs")?.publish(1)?;
    /// simulation.run();
    /// let deadline = deadlines.try_recv()?.ok_or("there is one")?;
    /// assert_eq!(deadline.as_nanos(), 1_020_000_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deadline(&self) -> Option<Timestamp> {
        self.occasion.deadline()
    }

    /// Returns whether there is no use in going on with the handler's call: its [deadline](Self::deadline) has passed,
    /// or the broker is being shut down and the time for that is up, or the call has been given up already. It stays
    /// so.
    ///
    /// For handlers that take long, to look at from time to time and return; no call is ever interrupted. What a call
    /// returns after its deadline is discarded. A shutdown that is out of time says so shortly before its limit: a call
    /// that returns then still counts, and one that fails is handed back where it would have been tried again.
    ///
    /// Works without a time limit too, for the shutdown alone. From any thread, as long as the message is borrowed. A
    /// look at one word, and at the clock where there is a deadline. Of a message that is kept with a token ask
    /// [`Token::is_cancelled`](crate::broker::Token::is_cancelled).
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let search = broker.subscription().pattern("search").time_limit(Duration::from_millis(5));
    /// let _search = search.subscribe(|query| {
    ///     for _candidate in 0.. {
    ///         if query.is_cancelled() {
    ///             return Err("found nothing in time");
    ///         }
    ///     }
    ///     Ok(())
    /// })?;
    /// let _ = broker.publisher("search")?.publish(1)?;
    /// broker.drain(Duration::from_secs(60))?;
    /// assert_eq!(broker.audit().total().late, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.occasion.is_cancelled()
    }

    /// Returns which attempt at delivering it this is, from 1. Only a subscription that is told to
    /// [retry](crate::broker::SubscriptionBuilder::retry) makes a second one.
    pub fn attempt(&self) -> u16 {
        self.envelope.attempt
    }

    /// Returns how urgent its publisher has said it is. It changes nothing about the order of deliveries.
    pub fn priority(&self) -> Priority {
        self.envelope.priority
    }
}

impl<P: Clone> Message<'_, P> {
    /// A copy to keep. Clones the payload and the headers.
    pub fn to_owned(&self) -> OwnedMessage<P> {
        self.owned(self.payload().clone())
    }
}

impl<P> std::ops::Deref for Message<'_, P> {
    type Target = P;

    #[inline]
    fn deref(&self) -> &P {
        &self.envelope.payload
    }
}

impl<P> fmt::Debug for Message<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id()).field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A message that was copied out of its slot.
#[derive(Clone)]
#[non_exhaustive]
pub struct OwnedMessage<P> {
    /// Its identity.
    pub id: MessageId,
    /// The topic it was published to.
    pub topic: Topic,
    /// When it was published, by the broker's clock.
    pub published_at: Timestamp,
    /// When it was published, by the wall clock.
    pub published_at_wall: SystemTime,
    /// Its headers.
    pub headers: Headers,
    /// What ties it to other messages.
    pub correlation: Option<CorrelationId>,
    /// The message in whose handler it was published.
    pub parent: Option<MessageId>,
    /// From when on it is of no use.
    pub expires_at: Option<Timestamp>,
    /// Which attempt at delivering it it was, from 1; of one that waits to be tried again, which is next.
    pub attempt: u16,
    /// Its rank.
    pub priority: Priority,
    /// What was published.
    pub payload: P,
}

impl OwnedMessage<()> {
    /// Returns the message with that payload.
    pub(crate) fn with_payload<P>(self, payload: P) -> OwnedMessage<P> {
        let Self {
            id,
            topic,
            published_at,
            published_at_wall,
            headers,
            correlation,
            parent,
            expires_at,
            attempt,
            priority,
            payload: (),
        } = self;
        OwnedMessage {
            id,
            topic,
            published_at,
            published_at_wall,
            headers,
            correlation,
            parent,
            expires_at,
            attempt,
            priority,
            payload,
        }
    }
}

impl<P> OwnedMessage<P> {
    /// Returns how long ago it was published, by the wall clock: zero where that has been set back
    /// since.
    pub fn age(&self) -> Duration {
        self.published_at_wall.elapsed().unwrap_or_default()
    }
}

impl<P> fmt::Debug for OwnedMessage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedMessage")
            .field("id", &self.id)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
