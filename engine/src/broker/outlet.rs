//! The way out of a publisher: from a resolved topic into the rings.
//!
//! One ring: the slot is filled in place. Several: the first ring that has room has the payload written into the publisher's
//! scratch copy, and each ring gets a clone of it. No claim is held while another ring is waited for.

use super::context;
use super::error::{BatchError, PublishError, PublishFailure};
use super::producers::Producers;
use super::roster::PublisherTally;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::message::{
    CorrelationId, Envelope, HeaderError, IntoPayload, MessageId, PayloadTooLarge, Priority, PublisherId,
    Rare, Stamp,
};
use crate::ring::{self, MultiProducer, Overflow, Run};
use crate::routing::{Destination, Leg, Route, RouteId};
use crate::sync::CachePadded;
use crate::topic::Topic;
use crate::wait::Deadline;
use std::sync::Arc;
use std::time::Duration;

/// How long a consumer's thread waits for room in a ring that is not its own.
const LONGEST_WAIT_OF_A_CONSUMER: Duration = Duration::from_secs(1);

/// A publisher that finds so many routes unlinked since the housekeeper last looked does its work for once.
const MOST_UNLINKED: usize = 4_096;

/// A message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its identity.
    pub id: MessageId,
    /// How many rings took it: one for each dispatcher with a matching subscription, 0 if nobody wants it.
    pub accepted: u16,
    /// How many rings refused it, being full.
    pub refused: u16,
}

/// What a message carries beside topic and payload. Can be used for any number of messages.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    rare: Rare,
}

impl PublishOptions {
    /// Nothing beside topic and payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header, or replaces the one of that key.
    ///
    /// # Errors
    /// A limit of [`Headers`](crate::message::Headers) is exceeded.
    pub fn header(mut self, key: &str, value: impl AsRef<[u8]>) -> Result<Self, HeaderError> {
        self.rare.headers.insert(key, value)?;
        Ok(self)
    }

    /// Ties the message to others. Else it inherits that of the message in whose handler it is published.
    #[must_use]
    pub fn correlation(mut self, id: CorrelationId) -> Self {
        self.rare.correlation = Some(id);
        self
    }

    /// From that moment of the broker's clock on the message is not delivered any more, and counted as expired.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.rare.expires_at = Some(at);
        self
    }
}

/// What writes a payload.
pub(crate) trait Fill<P> {
    /// What goes back to the publisher where nothing was published.
    type Returned;
    fn into_returned(self) -> Self::Returned;
    fn check(&self) -> Result<(), PayloadTooLarge>;
    fn write(self, payload: &mut P);
}

/// A value to be written.
pub(crate) struct Value<S>(pub(crate) S);

impl<P, S: IntoPayload<P>> Fill<P> for Value<S> {
    type Returned = S::Returned;

    fn into_returned(self) -> S::Returned {
        self.0.into_returned()
    }

    #[inline(always)]
    fn check(&self) -> Result<(), PayloadTooLarge> {
        self.0.check()
    }

    #[inline(always)]
    fn write(self, payload: &mut P) {
        // It may be user code, and it drops what the slot held, which may be user code too.
        context::fill(|| self.0.write_into(payload));
    }
}

/// A closure that writes in place.
pub(crate) struct With<F>(pub(crate) F);

impl<P, F: FnOnce(&mut P)> Fill<P> for With<F> {
    type Returned = ();

    fn into_returned(self) {}

    #[inline(always)]
    fn check(&self) -> Result<(), PayloadTooLarge> {
        Ok(())
    }

    #[inline(always)]
    fn write(self, payload: &mut P) {
        context::fill(|| (self.0)(payload));
    }
}

/// How long a publish waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// As each ring's policy says.
    Policy,
    /// Not at all.
    None,
    /// Until then, whatever the policy.
    Until(Deadline),
}

/// A topic, resolved in one snapshot of the routing table.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) topic: Topic,
    generation: u64,
    /// `None` while nobody wants the topic.
    route: Option<Arc<Route>>,
    /// What a publish needs of a route that leads to one ring, at hand without going through the route: among a thousand
    /// topics each line that is not touched counts.
    direct: Option<Direct>,
}

/// A route that leads to one ring.
#[derive(Debug)]
struct Direct {
    route: RouteId,
    leg: Leg,
}

impl Direct {
    fn of(route: &Route) -> Option<Self> {
        match &route.legs[..] {
            [leg] => Some(Self { route: route.id, leg: leg.clone() }),
            _ => None,
        }
    }
}

/// What every publisher has: an identity, a producer for each ring, a scratch copy.
pub(crate) struct Outlet<P> {
    shared: Arc<Shared<P>>,
    id: PublisherId,
    /// The number of the next message.
    sequence: u64,
    producers: Producers<P>,
    tally: Arc<CachePadded<PublisherTally>>,
    scratch: P,
    /// What a message inherits, put together.
    inherited: Rare,
    found: Vec<Destination>,
}

impl<P> Outlet<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    pub(crate) fn new(shared: Arc<Shared<P>>) -> Self {
        let (id, tally) = shared.publishers.enter();
        let producers = Producers::new(&shared.dispatchers);
        Self {
            shared,
            id: PublisherId::new(id),
            sequence: 0,
            producers,
            tally,
            scratch: P::default(),
            inherited: Rare::default(),
            found: Vec::new(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<P>> {
        &self.shared
    }

    pub(crate) fn id(&self) -> PublisherId {
        self.id
    }

    /// Resolves a topic for the first time.
    pub(crate) fn hold(&mut self, topic: Topic) -> Result<Hold, PublishFailure> {
        let mut hold = Hold { topic, generation: 0, route: None, direct: None };
        self.resolve(&mut hold)?;
        Ok(hold)
    }

    /// A topic that is yet to be resolved.
    pub(crate) fn hold_later(topic: Topic) -> Hold {
        Hold { topic, generation: 0, route: None, direct: None }
    }

    /// Whether the table is still the one that a topic was resolved in.
    #[inline(always)]
    pub(crate) fn is_current(&self, hold: &Hold) -> bool {
        self.shared.table.generation() <= hold.generation
    }

    /// Resolves a topic anew, and publishes to it.
    #[cold]
    #[inline(never)]
    pub(crate) fn refresh_and_publish<F: Fill<P>>(
        &mut self,
        hold: &mut Hold,
        fill: F,
        options: Option<&PublishOptions>,
        patience: Patience,
    ) -> Result<Published, PublishError<F::Returned>> {
        match self.refresh(hold) {
            Ok(()) => self.publish(hold, fill, options, patience),
            Err(failure) => Err(PublishError::new(failure, fill.into_returned())),
        }
    }

    /// Resolves a topic anew if the table has changed since.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, hold: &mut Hold) -> Result<(), PublishFailure> {
        if self.is_current(hold) { Ok(()) } else { self.resolve(hold) }
    }

    #[cold]
    fn resolve(&mut self, hold: &mut Hold) -> Result<(), PublishFailure> {
        if self.shared.is_closed() {
            // Nobody frees routes any more.
            return Err(PublishFailure::Closed);
        }
        if let Some(generation) = self.shared.table.still_holds(hold.generation, &hold.topic) {
            hold.generation = generation;
            return Ok(());
        }
        let generation = {
            let snapshot = self.shared.table.load();
            snapshot.trie.matches(hold.topic.as_str(), &mut self.found);
            snapshot.generation
        };
        // What leads where it led stays: no consumer has to learn it anew.
        let is_unchanged = hold
            .route
            .as_ref()
            .map_or(self.found.is_empty(), |route| route.destinations[..] == self.found[..]);
        if !is_unchanged {
            // Unlinked first, so that a publisher at the limit can go on.
            self.release(hold);
            self.shared.roster.attach(&mut self.found);
            if !self.found.is_empty() {
                hold.route = match self.shared.routes.link(&hold.topic, &self.found) {
                    Ok(route) => Some(route),
                    Err(error) => {
                        self.shared.roster.detach(&self.found);
                        return Err(error.into());
                    }
                };
            }
        }
        hold.direct = hold.route.as_deref().and_then(Direct::of);
        hold.generation = generation;
        Ok(())
    }

    /// Lets a topic go: its route is freed, by the housekeeper, when its last message has been consumed.
    pub(crate) fn release(&self, hold: &mut Hold) {
        hold.direct = None;
        if let Some(route) = hold.route.take() {
            hold.generation = 0;
            let claimed = |dispatcher: u16| self.shared.dispatchers[usize::from(dispatcher)].ring.claimed();
            if self.shared.routes.unlink(route, claimed) >= MOST_UNLINKED {
                self.shared.free_routes();
            }
            // After the help: what could not be freed was in our hand, where the housekeeper did not see it.
            self.shared.bell.ring();
        }
    }

    /// How many subscriptions a topic reaches.
    pub(crate) fn matched(hold: &Hold) -> usize {
        hold.route.as_ref().map_or(0, |route| route.destinations.len())
    }

    /// Publishes one message to a topic that has been resolved.
    #[inline(always)]
    pub(crate) fn publish<F: Fill<P>>(
        &mut self,
        hold: &Hold,
        fill: F,
        options: Option<&PublishOptions>,
        patience: Patience,
    ) -> Result<Published, PublishError<F::Returned>> {
        if let Err(error) = fill.check() {
            return Err(PublishError::new(error.into(), fill.into_returned()));
        }
        let Some(Direct { route, leg }) = &hold.direct else {
            return match hold.route.as_deref() {
                None => self.publish_to_nobody(fill),
                Some(route) => self.publish_to_many(route, fill, options, patience),
            };
        };
        let stamp = self.stamp(*route);
        let rare = rare(&mut self.inherited, options);
        let producer = self.producers.take_up(leg.dispatcher);
        let run = match reserve(&self.shared, producer, leg.dispatcher, 1, patience) {
            Ok(run) => run,
            Err(failure) => return Err(PublishError::new(failure, fill.into_returned())),
        };
        let tally = &self.tally;
        producer.fill_one(run, |envelope| {
            envelope.address(&stamp, rare);
            fill.write(&mut envelope.payload);
            // Before the slot is stamped: what has been delivered has been counted.
            leg.accepted.bump();
            tally.published.bump();
        });
        // Not before: what is not asked for need not be kept meanwhile.
        let id = MessageId::new(self.shared.origin, self.id, self.sequence);
        self.sequence += 1;
        Ok(Published { id, accepted: 1, refused: 0 })
    }

    #[inline(always)]
    fn stamp(&self, route: RouteId) -> Stamp {
        Stamp {
            route,
            sequence: self.sequence,
            published_at: self.shared.clock.ticks(),
            publisher: self.id,
            priority: Priority::Normal,
        }
    }

    #[inline(never)]
    fn publish_to_nobody<F: Fill<P>>(&mut self, fill: F) -> Result<Published, PublishError<F::Returned>> {
        if self.shared.is_closed() {
            return Err(PublishError::new(PublishFailure::Closed, fill.into_returned()));
        }
        let id = MessageId::new(self.shared.origin, self.id, self.sequence);
        self.sequence += 1;
        self.tally.published.bump();
        self.tally.unrouted.bump();
        Ok(Published { id, accepted: 0, refused: 0 })
    }

    #[inline(never)]
    fn publish_to_many<F: Fill<P>>(
        &mut self,
        route: &Route,
        fill: F,
        options: Option<&PublishOptions>,
        patience: Patience,
    ) -> Result<Published, PublishError<F::Returned>> {
        let stamp = self.stamp(route.id);
        let mut published = Published {
            id: MessageId::new(self.shared.origin, self.id, self.sequence),
            accepted: 0,
            refused: 0,
        };
        let rare = rare(&mut self.inherited, options);
        let tally = &self.tally;
        let mut unwritten = Some(fill);
        let mut last_failure = PublishFailure::Closed;
        for leg in &route.legs {
            let producer = self.producers.get(leg.dispatcher);
            match reserve(&self.shared, producer, leg.dispatcher, 1, patience) {
                Ok(run) => {
                    let scratch = &mut self.scratch;
                    producer.fill_one(run, |envelope| {
                        if let Some(fill) = unwritten.take() {
                            fill.write(scratch);
                        }
                        envelope.address(&stamp, rare);
                        context::fill(|| envelope.payload.clone_from(scratch));
                        leg.accepted.bump();
                        if published.accepted == 0 {
                            tally.published.bump();
                        }
                    });
                    if published.accepted == 0 {
                        // At once: should a later clone panic, its number has been used.
                        self.sequence += 1;
                    }
                    published.accepted += 1;
                }
                Err(failure) => {
                    published.refused += 1;
                    last_failure = failure;
                }
            }
        }
        if let Some(fill) = unwritten {
            return Err(PublishError::new(last_failure, fill.into_returned()));
        }
        self.tally.refused.add(u64::from(published.refused));
        Ok(published)
    }

    /// Publishes a batch to a topic that has been resolved: all of it is checked, then as much at once as fits is
    /// claimed.
    pub(crate) fn publish_batch<S, I>(&mut self, hold: &Hold, batch: I) -> Result<usize, BatchError>
    where
        S: IntoPayload<P>,
        I: ExactSizeIterator<Item = S> + Clone,
    {
        for payload in batch.clone() {
            payload.check().map_err(|error| BatchError { published: 0, failure: error.into() })?;
        }
        let mut published = 0;
        let mut batch = batch;
        let Some(Direct { route, leg }) = &hold.direct else {
            for payload in batch {
                self.publish(hold, Value(payload), None, Patience::Policy)
                    .map_err(|error| BatchError { published, failure: error.failure().clone() })?;
                published += 1;
            }
            return Ok(published);
        };
        while batch.len() > 0 {
            let mut stamp = self.stamp(*route);
            let rare = rare(&mut self.inherited, None);
            let wanted = batch.len() as u64;
            let producer = self.producers.take_up(leg.dispatcher);
            let run = reserve(&self.shared, producer, leg.dispatcher, wanted, Patience::Policy)
                .map_err(|failure| BatchError { published, failure })?;
            let mut claimed = producer.claimed(run);
            let (tally, sequence) = (&self.tally, &mut self.sequence);
            // An iterator that does not keep what its length and its clone have promised leaves tombstones, not a hole.
            let is_whole = context::fill(|| {
                while claimed.is_open() {
                    let Some(payload) = batch.next() else { return Ok(false) };
                    payload.check()?;
                    claimed.publish_next(|envelope| {
                        envelope.address(&stamp, rare);
                        payload.write_into(&mut envelope.payload);
                        leg.accepted.bump();
                        tally.published.bump();
                    });
                    *sequence += 1;
                    stamp.sequence = *sequence;
                    published += 1;
                }
                Ok(true)
            });
            match is_whole {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(BatchError { published, failure: PublishFailure::TooLarge(error) }),
            }
        }
        Ok(published)
    }
}

impl<P> Drop for Outlet<P> {
    fn drop(&mut self) {
        self.shared.publishers.leave(self.id.get());
    }
}

/// The rare fields of a message: those of its options, and what it inherits from the message in whose handler it is
/// published.
#[inline(always)]
fn rare<'a>(inherited: &'a mut Rare, options: Option<&'a PublishOptions>) -> Option<&'a Rare> {
    match context::handling() {
        None => options.map(|options| &options.rare),
        Some(handling) => {
            inherited.headers.clear();
            inherited.expires_at = None;
            inherited.correlation = None;
            if let Some(options) = options {
                inherited.copy_from(&options.rare);
            }
            inherited.parent = Some(handling.id);
            inherited.correlation = inherited.correlation.or(handling.correlation);
            Some(inherited)
        }
    }
}

/// Reserves up to `count` slots of a dispatcher's ring.
#[inline(always)]
fn reserve<P>(
    shared: &Shared<P>,
    producer: &mut MultiProducer<Envelope<P>>,
    dispatcher: u16,
    count: u64,
    patience: Patience,
) -> Result<Run, PublishFailure> {
    match producer.reserve(count) {
        Ok(run) => Ok(run),
        Err(ring::PublishError::Closed) => Err(PublishFailure::Closed),
        Err(_) => wait_for_room(shared, producer, dispatcher, count, patience),
    }
}

#[cold]
fn wait_for_room<P>(
    shared: &Shared<P>,
    producer: &mut MultiProducer<Envelope<P>>,
    dispatcher: u16,
    count: u64,
    patience: Patience,
) -> Result<Run, PublishFailure> {
    let deadline = match (patience, producer.overflow()) {
        (Patience::Until(deadline), _) => deadline,
        (Patience::Policy, Overflow::Block { limit }) => limit.map_or(Deadline::NEVER, Deadline::after),
        // No dispatcher drops: the builder sees to that.
        (Patience::None, _) | (Patience::Policy, _) => return Err(PublishFailure::Full),
    };
    // The slot that is being filled holds its ring up, and perhaps, through it, any other.
    if context::is_filling() {
        return Err(PublishFailure::WouldDeadlock);
    }
    let outcome = match context::consuming(shared.key()) {
        None if !context::is_consuming() => producer.reserve_until(count, deadline),
        // Another broker's: the two may wait for each other, which neither can see.
        None => producer.reserve_until(count, deadline.or_after(LONGEST_WAIT_OF_A_CONSUMER)),
        Some(me) => {
            let Some(_waiting) = shared.waits.begin(me, dispatcher) else {
                return Err(PublishFailure::WouldDeadlock);
            };
            producer.reserve_until(count, deadline.or_after(LONGEST_WAIT_OF_A_CONSUMER))
        }
    };
    outcome.map_err(|error| match error {
        ring::PublishError::Full | ring::PublishError::Dropped => PublishFailure::Full,
        ring::PublishError::TimedOut => PublishFailure::TimedOut,
        ring::PublishError::WouldDeadlock => PublishFailure::WouldDeadlock,
        // To the user a ring that has used up its sequences is one that takes no more.
        ring::PublishError::Closed | ring::PublishError::Exhausted => PublishFailure::Closed,
    })
}
