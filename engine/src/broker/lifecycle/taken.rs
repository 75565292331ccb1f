//! What a take-over has in its hands.

use crate::message::Envelope;
use crate::ring::{Sequence, Takeover};
use crate::routing::ConsumerAddr;
use std::sync::Arc;

/// A consumer whose position has been taken over.
pub(super) struct Taken<P> {
    pub(super) addr: ConsumerAddr,
    pub(super) thread: String,
    pub(super) takeover: Takeover<Envelope<P>>,
}

/// The slots that publishers, or earlier stages, still had in hand when a consumer was taken over.
pub(super) struct InHand<P> {
    pub(super) taken: Arc<Taken<P>>,
    pub(super) sequences: Vec<Sequence>,
}

impl<P> InHand<P> {
    pub(super) fn count(&self) -> u64 {
        self.sequences.len() as u64
    }
}
