//! A broker without threads, for models: its consumers take their turns, and memory is reclaimed,
//! where the model says so.

use super::builder::BrokerBuilder;
use super::deliver::consumer::Consumer;
use super::error::BrokerBuildError;
use super::handle::Broker;
use crate::message::MessagePayload;
use crate::ring::managed::drive::Turn;

/// The consumers of a broker that has no threads.
pub struct UnstartedConsumers<P>(Vec<Consumer<P>>);

impl<P: MessagePayload> BrokerBuilder<P> {
    /// Builds a broker and starts no thread.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_unstarted(self) -> Result<(Broker<P>, UnstartedConsumers<P>), BrokerBuildError> {
        let (broker, planned) = self.assemble()?;
        Ok((
            broker,
            UnstartedConsumers(planned.consumers.into_iter().map(|planned| planned.consumer).collect()),
        ))
    }
}

impl<P: MessagePayload> UnstartedConsumers<P> {
    /// Has each consumer read its mail and handle what is there, up to `max` events.
    pub fn turn(&mut self, max: u64) {
        for consumer in &mut self.0 {
            consumer.turn(max);
        }
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Runs a round of the reclaimer.
    pub fn reclaim(&self) {
        self.core().reclaim();
    }
}

impl<P> std::fmt::Debug for UnstartedConsumers<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnstartedConsumers").field("consumers", &self.0.len()).finish()
    }
}
