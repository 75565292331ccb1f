//! The way out of a publisher: from a resolved topic into the rings.
//!
//! One ring that must take the message: the slot is filled in place. Else the first ring that has room has the payload
//! written into the publisher's scratch copy, and each ring gets a clone of it. No claim is held while another ring is
//! waited for.
//!
//! A ring that has no room refuses. Each refusal is counted, for the dispatcher and for the route, whatever the
//! publisher is told: of a dispatcher that is best effort, that the message is published; of any other, an error.

use super::backpressure::{WaitMode, reserve};
use super::error::{PublishError, PublishFailure, Refusal};
use super::extras::{SendOptions, extras};
use super::fill::Fill;
use super::options::Published;
use super::producers::Producers;
use super::resolve::{Direct, ResolvedTopic};
use crate::broker::account::publishers::PublisherTally;
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::message::{Envelope, Extras, MessageId, MessagePayload, Priority, PublisherId, Stamp};
use crate::observe::Counter;
use crate::ring::Write;
use crate::routing::{Destination, Route, RouteId, RouteTarget};
use crate::sync::CachePadded;
use crate::topic::Topic;
use std::sync::Arc;
use std::time::Duration;

/// What every publisher has: an identity, a producer for each ring, a scratch copy.
pub(crate) struct PublisherCore<P> {
    pub(super) core: Arc<Core<P>>,
    id: PublisherId,
    /// The number of the next message.
    pub(super) sequence: u64,
    pub(super) producers: Producers<P>,
    pub(super) tally: Arc<CachePadded<PublisherTally>>,
    /// On the heap, since a payload may be large.
    scratch: Box<P>,
    /// What a message inherits, put together.
    pub(super) inherited: Extras,
    found: Vec<Destination>,
}

impl<P: MessagePayload> PublisherCore<P> {
    pub(crate) fn new(core: Arc<Core<P>>, tally: PublisherTally) -> Self {
        // First: it is foreign and may panic, and whoever has entered must leave.
        let scratch = Box::default();
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
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
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
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        if let Err(error) = fill.check() {
            return Err(PublishError::new(error.into(), fill.into_returned()));
        }
        let Some(Direct { route, target }) = &resolved.direct else {
            return self.publish_elsewhere(resolved, fill, options, wait);
        };
        self.publish_to_one(*route, target, fill, options, wait)
    }

    /// Publishes to a topic that has no direct way to one ring.
    #[inline(never)]
    fn publish_elsewhere<F: Fill<P>>(
        &mut self,
        resolved: &ResolvedTopic,
        fill: F,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        match (resolved.route.as_deref(), resolved.life) {
            (None, _) => self.publish_to_nobody(fill),
            (Some(_), Some(life)) => self.publish_for(life, resolved, fill, options, wait),
            (Some(route), None) => self.publish_to_many(route, fill, options, wait),
        }
    }

    /// Publishes a message that is to live for so long, unless it is told itself.
    fn publish_for<F: Fill<P>>(
        &mut self,
        life: Duration,
        resolved: &ResolvedTopic,
        fill: F,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        let nothing = Extras::default();
        let options = SendOptions::living(options, life, &nothing, &self.core.clock);
        match (resolved.only_target(&self.core), resolved.route.as_deref()) {
            (Some((route, target)), _) => self.publish_to_one(route, target, fill, Some(&options), wait),
            (None, Some(route)) => self.publish_to_many(route, fill, Some(&options), wait),
            (None, None) => self.publish_to_nobody(fill),
        }
    }

    /// Publishes to the one ring that must take the message.
    #[inline(always)]
    fn publish_to_one<F: Fill<P>>(
        &mut self,
        route: RouteId,
        target: &RouteTarget,
        fill: F,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        let stamp = self.stamp(route, options);
        let extras = extras(&mut self.inherited, options);
        let producer = self.producers.take_up(target.ring);
        let run = match reserve(&self.core, producer, target, 1, wait) {
            Ok(run) => run,
            Err(failure) => return Err(PublishError::new(failure, fill.into_returned())),
        };
        let (accepted, published) = (&target.tally.accepted, &self.tally.published);
        producer.fill_one(run, Writing { stamp, extras, fill, accepted, published });
        // Not before: what is not asked for need not be kept meanwhile.
        Ok(Published { id: self.take_id(), accepted: 1, refused: 0 })
    }

    #[inline(always)]
    pub(super) fn stamp(&self, route: RouteId, options: Option<&SendOptions<'_>>) -> Stamp {
        Stamp {
            route,
            sequence: self.sequence,
            published_at: self.core.clock.ticks(),
            publisher: self.id,
            priority: options.map_or(Priority::Normal, |options| options.priority),
        }
    }

    /// Returns the identity of the message that is published now, and goes on to the next.
    #[inline(always)]
    fn take_id(&mut self) -> MessageId {
        let id = MessageId::new(self.core.origin, self.id, self.sequence);
        self.sequence += 1;
        id
    }

    #[inline(never)]
    fn publish_to_nobody<F: Fill<P>>(&mut self, fill: F) -> Result<Published, PublishError<F::Returned>> {
        if self.core.is_closed() {
            return Err(PublishError::new(PublishFailure::Closed, fill.into_returned()));
        }
        self.tally.published.bump();
        self.tally.unrouted.bump();
        Ok(Published { id: self.take_id(), accepted: 0, refused: 0 })
    }

    #[inline(never)]
    fn publish_to_many<F: Fill<P>>(
        &mut self,
        route: &Route,
        fill: F,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<Published, PublishError<F::Returned>> {
        let stamp = self.stamp(route.id, options);
        let id = MessageId::new(self.core.origin, self.id, self.sequence);
        let (mut accepted, mut refused) = (0, 0);
        let (mut refusals, mut first_failure) = (Vec::new(), None);
        let extras = extras(&mut self.inherited, options);
        let tally = &self.tally;
        let mut unwritten = Some(fill);
        for target in &route.targets {
            let producer = self.producers.get(target.ring);
            match reserve(&self.core, producer, target, 1, wait) {
                Ok(run) => {
                    let scratch = &mut *self.scratch;
                    producer.fill_one(run, |envelope: &mut Envelope<P>| {
                        if let Some(fill) = unwritten.take() {
                            fill.write(scratch);
                        }
                        envelope.address(&stamp, extras);
                        let filling = context::begin_filling();
                        envelope.payload.clone_from(scratch);
                        drop(filling);
                        target.tally.accepted.bump();
                        if accepted == 0 {
                            tally.published.bump();
                        }
                    });
                    if accepted == 0 {
                        // At once: should a later clone panic, its number has been used.
                        self.sequence += 1;
                    }
                    accepted += 1;
                }
                Err(failure) => {
                    let dispatcher = self.core.dispatcher(target.dispatcher);
                    if dispatcher.is_best_effort && failure.reason().is_refusal() {
                        refused += 1;
                        continue;
                    }
                    let dispatcher = dispatcher.name.clone();
                    refusals.push(Refusal { dispatcher, reason: failure.reason() });
                    first_failure.get_or_insert(failure);
                }
            }
        }
        match (unwritten, first_failure) {
            (None, None) => Ok(Published { id, accepted, refused }),
            (None, Some(_)) => {
                Err(PublishError::partly(PublishFailure::PartlyRefused { id, accepted, refusals }))
            }
            (Some(fill), Some(failure)) => Err(PublishError::new(failure, fill.into_returned())),
            // All are best effort.
            (Some(_), None) => {
                self.tally.published.bump();
                Ok(Published { id: self.take_id(), accepted, refused })
            }
        }
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
