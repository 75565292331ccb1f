//! What a broker's slot holds: the message's metadata, the id of its route, and its payload.
//!
//! With the default payload (64 bytes inline) slot and envelope together are two cache lines. What most messages lack
//! stands behind one pointer, whose box stays with the slot and is used again.

use super::{
    CorrelationId, Headers, MessageId, MessagePayload, Origin, OwnedMessage, Payload, Priority, PublisherId,
};
use crate::clock::{Ticks, Timestamp};
use crate::routing::RouteId;
use std::any::Any;
#[cfg(feature = "durable-dead-letters")]
use std::time::SystemTime;

/// The message has extras: what the box holds is of this message and not of an earlier use of the slot.
const HAS_EXTRAS: u8 = 1;

/// A message as it lies in its slot.
#[derive(Debug, Default)]
pub(crate) struct Envelope<P> {
    pub(crate) route: RouteId,
    /// The publisher's own count of its messages.
    pub(crate) sequence: u64,
    pub(crate) published_at: Ticks,
    pub(crate) publisher: PublisherId,
    pub(crate) priority: Priority,
    flags: u8,
    /// Which delivery of this message it is; above 1 only for what a retry brings back.
    pub(crate) attempt: u16,
    extras: Option<Box<Extras>>,
    pub(crate) payload: P,
}

/// Fields that most messages lack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub(crate) headers: Headers,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) correlation: Option<CorrelationId>,
    pub(crate) parent: Option<MessageId>,
    /// What a message of an earlier process has of its own, of a letter that is replayed.
    #[cfg(feature = "durable-dead-letters")]
    pub(crate) earlier: Option<Earlier>,
}

/// Where and when a message was published, if that may have been elsewhere.
#[cfg(feature = "durable-dead-letters")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Earlier {
    pub(crate) origin: Origin,
    pub(crate) published_at_wall: SystemTime,
}

impl Extras {
    /// Takes over another's fields into the buffers that are there.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.headers.clone_from(&other.headers);
        self.expires_at = other.expires_at;
        self.correlation = other.correlation;
        self.parent = other.parent;
        #[cfg(feature = "durable-dead-letters")]
        {
            self.earlier = other.earlier;
        }
    }

    /// Fills what was there with zeros. Keeps the buffers.
    fn wipe(&mut self) {
        self.headers.wipe();
        self.expires_at = None;
        if let Some(correlation) = &mut self.correlation {
            correlation.wipe();
        }
        self.correlation = None;
        self.parent = None;
        #[cfg(feature = "durable-dead-letters")]
        {
            self.earlier = None;
        }
    }

    /// Forgets everything but the buffers.
    pub(crate) fn clear(&mut self) {
        self.headers.clear();
        self.expires_at = None;
        self.correlation = None;
        self.parent = None;
        #[cfg(feature = "durable-dead-letters")]
        {
            self.earlier = None;
        }
    }
}

/// The plain part of an envelope: all but the extras and the payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) route: RouteId,
    pub(crate) sequence: u64,
    pub(crate) published_at: Ticks,
    pub(crate) publisher: PublisherId,
    pub(crate) priority: Priority,
}

impl<P> Envelope<P> {
    /// Writes the metadata. The payload is its publisher's to write.
    #[inline(always)]
    pub(crate) fn address(&mut self, stamp: &Stamp, extras: Option<&Extras>) {
        self.route = stamp.route;
        self.sequence = stamp.sequence;
        self.published_at = stamp.published_at;
        self.publisher = stamp.publisher;
        self.priority = stamp.priority;
        self.attempt = 1;
        self.flags = 0;
        if let Some(extras) = extras {
            self.set_extras(extras);
        }
    }

    /// Allocates the first time that this slot carries extras.
    #[cold]
    fn set_extras(&mut self, extras: &Extras) {
        self.extras.get_or_insert_default().copy_from(extras);
        self.flags |= HAS_EXTRAS;
    }

    /// Clears what its publisher has written: payload, headers, correlation and parent. Ids, route and
    /// time stay. Runs the payload's `Default` and `Drop`, last, which may panic.
    pub(crate) fn clear(&mut self)
    where
        P: MessagePayload,
    {
        if self.flags & HAS_EXTRAS != 0
            && let Some(extras) = &mut self.extras
        {
            extras.wipe();
        }
        self.flags = 0;
        match (&mut self.payload as &mut dyn Any).downcast_mut::<Payload>() {
            Some(bytes) => bytes.wipe(),
            None => self.payload = P::default(),
        }
    }

    /// Copies a message out of its slot. Runs the payload's `Default` and `Clone`, which may panic.
    #[inline(never)]
    pub(crate) fn copy(&self) -> Box<Self>
    where
        P: MessagePayload,
    {
        // Where it stays: a payload may be large for a consumer's stack.
        let mut copy = Box::<Self>::default();
        copy.payload.clone_from(&self.payload);
        copy.extras = self.extras().cloned().map(Box::new);
        let Self { route, sequence, published_at, publisher, priority, flags, attempt, .. } = *self;
        (copy.route, copy.sequence, copy.published_at) = (route, sequence, published_at);
        (copy.publisher, copy.priority, copy.flags, copy.attempt) = (publisher, priority, flags, attempt);
        copy
    }

    /// Makes a message of one that was copied out of its slot, as its first attempt. Runs the payload's `Default` and
    /// `Clone`, which may panic.
    #[inline(never)]
    pub(crate) fn again(message: &OwnedMessage<P>, published_at: Ticks) -> Box<Self>
    where
        P: MessagePayload,
    {
        let mut copy = Box::<Self>::default();
        copy.payload.clone_from(&message.payload);
        let (publisher, sequence) = (message.id.publisher(), message.id.sequence());
        (copy.publisher, copy.sequence, copy.published_at) = (publisher, sequence, published_at);
        (copy.priority, copy.attempt) = (message.priority, 1);
        let OwnedMessage { headers, expires_at, correlation, parent, .. } = message;
        let extras = Extras {
            headers: headers.clone(),
            expires_at: *expires_at,
            correlation: *correlation,
            parent: *parent,
            #[cfg(feature = "durable-dead-letters")]
            earlier: Some(Earlier {
                origin: message.id.origin(),
                published_at_wall: message.published_at_wall,
            }),
        };
        copy.set_extras(&extras);
        copy
    }

    /// Returns the payload of a copy.
    #[expect(
        clippy::boxed_local,
        reason = "no more than a payload, which may be large, is moved to the stack"
    )]
    pub(crate) fn into_payload(self: Box<Self>) -> P {
        let Self { payload, .. } = *self;
        payload
    }

    /// Returns how many bytes of memory a copy takes: exactly of a [`Payload`], and of any other type
    /// without what it has on the heap, which only the type knows.
    pub(crate) fn size(&self) -> usize
    where
        P: 'static,
    {
        let headers = self.extras().map_or(0, |extras| Self::size_of_extras(&extras.headers));
        size_of::<Self>() + Self::size_on_heap(&self.payload) + headers
    }

    /// Returns how many bytes more than itself a message takes that was copied out of its slot: as many as there.
    #[cfg(feature = "durable-dead-letters")]
    pub(crate) fn size_elsewhere(message: &OwnedMessage<P>) -> usize
    where
        P: 'static,
    {
        let OwnedMessage { headers, expires_at, correlation, parent, .. } = message;
        let is_plain =
            headers.is_empty() && expires_at.is_none() && correlation.is_none() && parent.is_none();
        let extras = if is_plain { 0 } else { Self::size_of_extras(headers) };
        Self::size_on_heap(&message.payload) + extras
    }

    fn size_on_heap(payload: &P) -> usize
    where
        P: 'static,
    {
        (payload as &dyn Any).downcast_ref::<Payload>().map_or(0, Payload::len)
    }

    fn size_of_extras(headers: &Headers) -> usize {
        size_of::<Extras>() + headers.total_bytes()
    }

    pub(crate) fn extras(&self) -> Option<&Extras> {
        if self.flags & HAS_EXTRAS == 0 { None } else { self.extras.as_deref() }
    }

    /// Returns when it was published by the wall clock, where that is not what the broker's clock says.
    #[cfg(feature = "durable-dead-letters")]
    pub(crate) fn published_at_wall(&self) -> Option<SystemTime> {
        self.extras()?.earlier.map(|earlier| earlier.published_at_wall)
    }

    pub(crate) fn id(&self, origin: Origin) -> MessageId {
        #[cfg(feature = "durable-dead-letters")]
        let origin = self.extras().and_then(|extras| extras.earlier).map_or(origin, |earlier| earlier.origin);
        MessageId::new(origin, self.publisher, self.sequence)
    }
}

// Two cache lines with the slot's stamp.
const _: () = assert!(size_of::<Envelope<super::Payload>>() + size_of::<u64>() <= 128);
