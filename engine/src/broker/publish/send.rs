//! The way out of a publisher: from a resolved topic into the rings.
//!
//! One ring: the slot is filled in place. Several: the first ring that has room has the payload written into the publisher's
//! scratch copy, and each ring gets a clone of it. No claim is held while another ring is waited for.

use super::backpressure::{WaitMode, reserve};
use super::fill::{Fill, Value};
use super::options::{PublishOptions, Published};
use super::producers::Producers;
use super::resolve::{Direct, ResolvedTopic};
use crate::broker::account::publishers::PublisherTally;
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::error::{BatchError, PublishError, PublishFailure};
use crate::message::{
    Envelope, Extras, IntoPayload, MessageId, MessagePayload, Priority, PublisherId, Stamp,
};
use crate::observe::Counter;
use crate::ring::Write;
use crate::routing::{Destination, Route, RouteId};
use crate::sync::CachePadded;
use crate::topic::Topic;
use std::sync::Arc;

/// What every publisher has: an identity, a producer for each ring, a scratch copy.
pub(crate) struct PublisherCore<P> {
    core: Arc<Core<P>>,
    id: PublisherId,
    /// The number of the next message.
    sequence: u64,
    producers: Producers<P>,
    tally: Arc<CachePadded<PublisherTally>>,
    scratch: P,
    /// What a message inherits, put together.
    inherited: Extras,
    found: Vec<Destination>,
}

impl<P: MessagePayload> PublisherCore<P> {
    pub(crate) fn new(core: Arc<Core<P>>, tally: PublisherTally) -> Self {
        // First: it is foreign and may panic, and whoever has entered must leave.
        let scratch = P::default();
        let (id, tally) = core.publishers.enter(tally);
        let producers = Producers::new(&core.rings);
        Self {
            core,
            id: PublisherId::new(id),
            sequence: 0,
            producers,
            tally,
            scratch,
            inherited: Extras::default(),
            found: Vec::new(),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core<P>> {
        &self.core
    }

    pub(crate) fn id(&self) -> PublisherId {
        self.id
    }

    pub(super) fn tally(&self) -> &PublisherTally {
        &self.tally
    }

    /// Resolves a topic for the first time.
    pub(crate) fn resolve(&mut self, topic: Topic) -> Result<ResolvedTopic, PublishFailure> {
        let mut resolved = ResolvedTopic::later(topic);
        resolved.resolve(&self.core, &mut self.found)?;
        Ok(resolved)
    }

    /// Whether the table is still the one that a topic was resolved in.
    #[inline(always)]
    pub(crate) fn is_current(&self, resolved: &ResolvedTopic) -> bool {
        resolved.is_current(&self.core)
    }

    /// Resolves a topic anew if the table has changed since.
    #[inline(always)]
    pub(crate) fn refresh(&mut self, resolved: &mut ResolvedTopic) -> Result<(), PublishFailure> {
        if resolved.is_current(&self.core) { Ok(()) } else { resolved.resolve(&self.core, &mut self.found) }
    }

    /// Lets a topic go.
    pub(crate) fn release(&self, resolved: &mut ResolvedTopic) {
        resolved.release(&self.core);
    }

    /// Resolves a topic anew, and publishes to it.
    #[cold]
    #[inline(never)]
    pub(crate) fn refresh_and_publish<F: Fill<P>>(
        &mut self,
        resolved: &mut ResolvedTopic,
        fill: F,
        options: Option<&PublishOptions>,
        wait: WaitMode,
    ) -> Result<Published, PublishError<F::Returned>> {
        match self.refresh(resolved) {
            Ok(()) => self.publish(resolved, fill, options, wait),
            Err(failure) => Err(PublishError::new(failure, fill.into_returned())),
        }
    }

    /// Publishes one message to a topic that has been resolved.
    #[inline(always)]
    pub(crate) fn publish<F: Fill<P>>(
        &mut self,
        resolved: &ResolvedTopic,
        fill: F,
        options: Option<&PublishOptions>,
        wait: WaitMode,
    ) -> Result<Published, PublishError<F::Returned>> {
        if let Err(error) = fill.check() {
            return Err(PublishError::new(error.into(), fill.into_returned()));
        }
        let Some(Direct { route, target }) = &resolved.direct else {
            return match resolved.route.as_deref() {
                None => self.publish_to_nobody(fill),
                Some(route) => self.publish_to_many(route, fill, options, wait),
            };
        };
        let stamp = self.stamp(*route);
        let extras = extras(&mut self.inherited, options);
        let producer = self.producers.take_up(target.ring);
        let run = match reserve(&self.core, producer, target, 1, wait) {
            Ok(run) => run,
            Err(failure) => return Err(PublishError::new(failure, fill.into_returned())),
        };
        let (accepted, published) = (&**target.accepted, &self.tally.published);
        producer.fill_one(run, Writing { stamp, extras, fill, accepted, published });
        // Not before: what is not asked for need not be kept meanwhile.
        let id = MessageId::new(self.core.origin, self.id, self.sequence);
        self.sequence += 1;
        Ok(Published { id, accepted: 1, refused: 0 })
    }

    #[inline(always)]
    fn stamp(&self, route: RouteId) -> Stamp {
        Stamp {
            route,
            sequence: self.sequence,
            published_at: self.core.clock.ticks(),
            publisher: self.id,
            priority: Priority::Normal,
        }
    }

    #[inline(never)]
    fn publish_to_nobody<F: Fill<P>>(&mut self, fill: F) -> Result<Published, PublishError<F::Returned>> {
        if self.core.is_closed() {
            return Err(PublishError::new(PublishFailure::Closed, fill.into_returned()));
        }
        let id = MessageId::new(self.core.origin, self.id, self.sequence);
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
        wait: WaitMode,
    ) -> Result<Published, PublishError<F::Returned>> {
        let stamp = self.stamp(route.id);
        let mut published = Published {
            id: MessageId::new(self.core.origin, self.id, self.sequence),
            accepted: 0,
            refused: 0,
        };
        let extras = extras(&mut self.inherited, options);
        let tally = &self.tally;
        let mut unwritten = Some(fill);
        let mut last_failure = PublishFailure::Closed;
        for target in &route.targets {
            let producer = self.producers.get(target.ring);
            match reserve(&self.core, producer, target, 1, wait) {
                Ok(run) => {
                    let scratch = &mut self.scratch;
                    producer.fill_one(run, |envelope: &mut Envelope<P>| {
                        if let Some(fill) = unwritten.take() {
                            fill.write(scratch);
                        }
                        envelope.address(&stamp, extras);
                        let filling = context::begin_filling();
                        envelope.payload.clone_from(scratch);
                        drop(filling);
                        target.accepted.bump();
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
    pub(crate) fn publish_batch<S, I>(
        &mut self,
        resolved: &ResolvedTopic,
        batch: I,
    ) -> Result<usize, BatchError>
    where
        S: IntoPayload<P>,
        I: ExactSizeIterator<Item = S> + Clone,
    {
        for payload in batch.clone() {
            payload.check().map_err(|error| BatchError { published: 0, failure: error.into() })?;
        }
        let mut published = 0;
        let mut batch = batch;
        let Some(Direct { route, target }) = &resolved.direct else {
            for payload in batch {
                self.publish(resolved, Value(payload), None, WaitMode::Policy)
                    .map_err(|error| BatchError { published, failure: error.kind().clone() })?;
                published += 1;
            }
            return Ok(published);
        };
        while batch.len() > 0 {
            let mut stamp = self.stamp(*route);
            let extras = extras(&mut self.inherited, None);
            let wanted = batch.len() as u64;
            let producer = self.producers.take_up(target.ring);
            let run = reserve(&self.core, producer, target, wanted, WaitMode::Policy)
                .map_err(|failure| BatchError { published, failure })?;
            let mut claimed = producer.claimed_run(run);
            let (tally, sequence) = (&self.tally, &mut self.sequence);
            // An iterator that does not keep what its length and its clone have promised leaves tombstones, not a hole.
            let filling = context::begin_filling();
            let is_whole = (|| {
                while claimed.is_open() {
                    let Some(payload) = batch.next() else { return Ok(false) };
                    payload.check()?;
                    claimed.publish_next(|envelope: &mut Envelope<P>| {
                        envelope.address(&stamp, extras);
                        payload.write_into(&mut envelope.payload);
                        target.accepted.bump();
                        tally.published.bump();
                    });
                    *sequence += 1;
                    stamp.sequence = *sequence;
                    published += 1;
                }
                Ok(true)
            })();
            drop(filling);
            match is_whole {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(BatchError { published, failure: PublishFailure::TooLarge(error) }),
            }
        }
        Ok(published)
    }
}

/// Writes a message into its slot, and counts it.
struct Writing<'a, F> {
    stamp: Stamp,
    extras: Option<&'a Extras>,
    fill: F,
    accepted: &'a Counter,
    published: &'a Counter,
}

impl<P, F: Fill<P>> Write<Envelope<P>> for Writing<'_, F> {
    #[inline(always)]
    fn write(self, envelope: &mut Envelope<P>) {
        envelope.address(&self.stamp, self.extras);
        self.fill.write(&mut envelope.payload);
        // Before the slot is stamped: what has been delivered has been counted.
        self.accepted.bump();
        self.published.bump();
    }
}

impl<P> Drop for PublisherCore<P> {
    fn drop(&mut self) {
        if self.core.is_forked() {
            return self.core.forsake();
        }
        self.core.publishers.leave(self.id.get());
    }
}

/// Returns the extras of a message: those of its options, and what it inherits from the message in whose handler it is
/// published.
#[inline(always)]
fn extras<'a>(inherited: &'a mut Extras, options: Option<&'a PublishOptions>) -> Option<&'a Extras> {
    match context::handling() {
        None => options.map(|options| &options.extras),
        Some(handling) => {
            inherited.headers.clear();
            inherited.expires_at = None;
            inherited.correlation = None;
            if let Some(options) = options {
                inherited.copy_from(&options.extras);
            }
            inherited.parent = Some(handling.id);
            inherited.correlation = inherited.correlation.or(handling.correlation);
            Some(inherited)
        }
    }
}
