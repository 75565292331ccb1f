//! Batches: checked whole, then published as many at once as there is room for.

use super::backpressure::{BatchWaits, WaitMode, reserve};
use super::error::{BatchError, BatchRefusal, PublishFailure};
use super::extras::{SendOptions, extras};
use super::fill::Value;
use super::options::PublishedBatch;
use super::resolve::ResolvedTopic;
use super::send::PublisherCore;
use crate::broker::deliver::context;
use crate::message::{Envelope, Extras, IntoPayload, MessagePayload, PayloadTooLarge};
use crate::routing::RouteTarget;
use smallvec::SmallVec;
use std::{array, slice, vec};

/// Payloads that are published together: a vector or an array of what can be published, or a slice, a vector or an
/// array by reference, if what can be published is a reference to its elements.
///
/// They lie in memory before anything is claimed, and nothing of the caller's runs while slots are claimed but the
/// writing of each payload. Of an iterator make a vector first.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no batch for a broker of `{P}`",
    note = "a batch is a vector or an array of payloads, or a slice of them: collect an iterator into a `Vec` first"
)]
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

/// Implements the trait for payloads that are lent, and for those that are given away.
macro_rules! batches {
    (lent: $([$($generics:tt)*] $lent:ty),+; given: $([$($others:tt)*] $given:ty, $items:ty),+;) => {
        $(impl<'a, P, S, $($generics)*> Batch<P> for &'a $lent
        where
            &'a S: IntoPayload<P>,
        {
            type Item = &'a S;
            type Items = slice::Iter<'a, S>;

            fn check_all(&self) -> Result<(), PayloadTooLarge> {
                self.iter().try_for_each(|payload| <&'a S as IntoPayload<P>>::check(&payload))
            }

            fn into_items(self) -> Self::Items {
                self.iter()
            }
        })+

        $(impl<P, S: IntoPayload<P>, $($others)*> Batch<P> for $given {
            type Item = S;
            type Items = $items;

            fn check_all(&self) -> Result<(), PayloadTooLarge> {
                self.iter().try_for_each(<S as IntoPayload<P>>::check)
            }

            fn into_items(self) -> Self::Items {
                self.into_iter()
            }
        })+
    };
}

batches! {
    lent: [] [S], [] Vec<S>, [const N: usize] [S; N];
    given: [] Vec<S>, vec::IntoIter<S>, [const N: usize] [S; N], array::IntoIter<S, N>;
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
        // All of a batch live from its own call on.
        let nothing = Extras::default();
        let living = resolved.life.map(|life| SendOptions::living(options, life, &nothing, &self.core.clock));
        let options = living.as_ref().or(options);
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
        let Some((route, target)) = resolved.only_target(&self.core) else {
            for payload in items {
                let _ = self
                    .publish(resolved, Value(payload), options, wait)
                    .map_err(|error| error.into_kind())?;
                *published += 1;
            }
            return Ok(());
        };
        while items.len() > 0 {
            let mut stamp = self.stamp(route, options);
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
