//! A broker without threads, for models: its consumers take their turns, and its house is kept, where the model says so.

use super::builder::BrokerBuilder;
use super::deliver::consumer::Consumer;
use super::error::BrokerBuildError;
use super::handle::Broker;

/// What the threads of a broker would do.
pub struct Hands<P>(Vec<Consumer<P>>);

impl<P> BrokerBuilder<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    /// Builds a broker and starts no thread.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_unstarted(self) -> Result<(Broker<P>, Hands<P>), BrokerBuildError> {
        let (broker, planned) = self.assemble()?;
        Ok((broker, Hands(planned.into_iter().map(|planned| planned.consumer).collect())))
    }
}

impl<P: Clone> Hands<P> {
    /// Has each consumer read its mail and handle what is there, up to `max` events.
    pub fn turn(&mut self, max: u64) {
        for consumer in &mut self.0 {
            consumer.turn(max);
        }
    }
}

impl<P> Broker<P>
where
    P: Clone + Default + Send + Sync + 'static,
{
    /// A round of the housekeeper.
    pub fn keep_house(&self) {
        self.core().keep_house();
    }
}

impl<P> std::fmt::Debug for Hands<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("consumers", &self.0.len()).finish()
    }
}
