//! Batches: checked whole, then published as many at once as there is room for.

use super::backpressure::{BatchWaits, WaitMode, reserve};
use super::error::{BatchError, BatchRefusal, PublishFailure};
use super::extras::{SendOptions, extras};
use super::fill::Value;
use super::options::PublishedBatch;
use super::resolve::{Direct, ResolvedTopic};
use super::send::PublisherCore;
use crate::broker::deliver::context;
use crate::message::{Envelope, IntoPayload, MessagePayload, PayloadTooLarge};
use crate::routing::RouteTarget;
use smallvec::SmallVec;
use std::{array, slice, vec};

/// Payloads that are published together: a vector or an array of what can be published, or a slice, a vector or an
/// array by reference, if what can be published is a reference to its elements.
///
/// They lie in memory before anything is claimed, and nothing of the caller's runs while slots are claimed but the
/// writing of each payload. Of an iterator make a vector first.
pub trait Batch<P>: private::Sealed {
    /// A payload.
    type Item: IntoPayload<P>;
    #[doc(hidden)]
    type Items: ExactSizeIterator<Item = Self::Item>;
    #[doc(hidden)]
    fn check_all(&self) -> Result<(), PayloadTooLarge>;
    #[doc(hidden)]
    fn into_items(self) -> Self::Items;
}

mod private {
    pub trait Sealed {}

    impl<S> Sealed for &[S] {}
    impl<S> Sealed for &Vec<S> {}
    impl<S, const N: usize> Sealed for &[S; N] {}
    impl<S> Sealed for Vec<S> {}
    impl<S, const N: usize> Sealed for [S; N] {}
}

/// Checks payloads that are published by value.
fn check_values<P, S: IntoPayload<P>>(payloads: &[S]) -> Result<(), PayloadTooLarge> {
    payloads.iter().try_for_each(S::check)
}

/// Checks payloads that are published by reference.
fn check_each<'a, P, S>(payloads: &'a [S]) -> Result<(), PayloadTooLarge>
where
    &'a S: IntoPayload<P>,
{
    payloads.iter().try_for_each(|payload| payload.check())
}

impl<'a, P, S> Batch<P> for &'a [S]
where
    &'a S: IntoPayload<P>,
{
    type Item = &'a S;
    type Items = slice::Iter<'a, S>;

    fn check_all(&self) -> Result<(), PayloadTooLarge> {
        check_each(self)
    }

    fn into_items(self) -> Self::Items {
        self.iter()
    }
}

impl<'a, P, S> Batch<P> for &'a Vec<S>
where
    &'a S: IntoPayload<P>,
{
    type Item = &'a S;
    type Items = slice::Iter<'a, S>;

    fn check_all(&self) -> Result<(), PayloadTooLarge> {
        check_each(self)
    }

    fn into_items(self) -> Self::Items {
        self.iter()
    }
}

impl<'a, P, S, const N: usize> Batch<P> for &'a [S; N]
where
    &'a S: IntoPayload<P>,
{
    type Item = &'a S;
    type Items = slice::Iter<'a, S>;

    fn check_all(&self) -> Result<(), PayloadTooLarge> {
        check_each(self.as_slice())
    }

    fn into_items(self) -> Self::Items {
        self.iter()
    }
}

impl<P, S: IntoPayload<P>> Batch<P> for Vec<S> {
    type Item = S;
    type Items = vec::IntoIter<S>;

    fn check_all(&self) -> Result<(), PayloadTooLarge> {
        check_values(self)
    }

    fn into_items(self) -> Self::Items {
        self.into_iter()
    }
}

impl<P, S: IntoPayload<P>, const N: usize> Batch<P> for [S; N] {
    type Item = S;
    type Items = array::IntoIter<S, N>;

    fn check_all(&self) -> Result<(), PayloadTooLarge> {
        check_values(self)
    }

    fn into_items(self) -> Self::Items {
        self.into_iter()
    }
}

impl<P: MessagePayload> PublisherCore<P> {
    /// Publishes a batch to a topic that has been resolved.
    pub(super) fn publish_batch<B: Batch<P>>(
        &mut self,
        resolved: &ResolvedTopic,
        batch: B,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
    ) -> Result<PublishedBatch, BatchError> {
        batch.check_all().map_err(|error| BatchError::before(error.into()))?;
        let targets = resolved.route.as_deref().map_or(&[][..], |route| &route.targets);
        let refused_before: SmallVec<[u64; 1]> =
            targets.iter().map(|target| target.tally.refused.get()).collect();
        let waits = BatchWaits::default();
        let wait = if let WaitMode::Policy = wait { WaitMode::PolicyOfBatch(&waits) } else { wait };
        let mut published = 0;
        let failure = self.publish_items(resolved, batch.into_items(), options, wait, &mut published);
        let refused = self.refused_since(targets, &refused_before);
        match failure {
            Ok(()) => Ok(PublishedBatch { published, refused }),
            Err(failure) => Err(BatchError { published, failure, refused }),
        }
    }

    fn publish_items<S: IntoPayload<P>>(
        &mut self,
        resolved: &ResolvedTopic,
        mut items: impl ExactSizeIterator<Item = S>,
        options: Option<&SendOptions<'_>>,
        wait: WaitMode<'_>,
        published: &mut usize,
    ) -> Result<(), PublishFailure> {
        let Some(Direct { route, target }) = &resolved.direct else {
            for payload in items {
                let _ = self
                    .publish(resolved, Value(payload), options, wait)
                    .map_err(|error| error.into_kind())?;
                *published += 1;
            }
            return Ok(());
        };
        while items.len() > 0 {
            let mut stamp = self.stamp(*route);
            let extras = extras(&mut self.inherited, options);
            let producer = self.producers.take_up(target.ring);
            let run = reserve(&self.core, producer, target, items.len() as u64, wait)?;
            let mut claimed = producer.claimed_run(run);
            // Dropped before the run is: what a payload's writing drops may be the caller's code too.
            let _filling = context::begin_filling();
            while claimed.is_open()
                && let Some(payload) = items.next()
            {
                claimed.publish_next(|envelope: &mut Envelope<P>| {
                    envelope.address(&stamp, extras);
                    payload.write_into(&mut envelope.payload);
                    target.tally.accepted.bump();
                    self.tally.published.bump();
                });
                self.sequence += 1;
                stamp.sequence = self.sequence;
                *published += 1;
            }
        }
        Ok(())
    }

    /// Returns what dispatchers that are best effort have refused of a route since.
    fn refused_since(&self, targets: &[RouteTarget], before: &[u64]) -> Vec<BatchRefusal> {
        let refused = targets.iter().zip(before).filter_map(|(target, before)| {
            let dispatcher = self.core.dispatcher(target.dispatcher);
            let messages = target.tally.refused.get() - before;
            let is_told = messages > 0 && dispatcher.is_best_effort;
            is_told.then(|| BatchRefusal { dispatcher: dispatcher.name.clone(), messages })
        });
        refused.collect()
    }
}
