//! A broker without threads, for models: its consumers take their turns, and memory is reclaimed,
//! where the model says so.

use super::builder::BrokerBuilder;
use super::deliver::consumer::Consumer;
use super::error::BrokerBuildError;
use super::handle::Broker;
use super::lifecycle::report::ShutdownReport;
use super::lifecycle::shutdown;
use super::stall::report::Stall;
use crate::message::MessagePayload;
use crate::ring::Call;
use crate::routing::ConsumerAddr;
use std::time::Duration;

/// The consumers of a broker that has no threads.
pub struct UnstartedConsumers<P>(Vec<Consumer<P>>);

impl<P: MessagePayload> BrokerBuilder<P> {
    /// Builds a broker and starts no thread.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_unstarted(self) -> Result<(Broker<P>, UnstartedConsumers<P>), BrokerBuildError> {
        let (broker, planned) = self.assemble()?;
        let consumers: Vec<_> = planned.consumers.into_iter().map(|planned| planned.consumer).collect();
        for consumer in &consumers {
            consumer.threads().start(consumer.addr());
        }
        Ok((broker, UnstartedConsumers(consumers)))
    }
}

impl<P: MessagePayload> UnstartedConsumers<P> {
    /// Has each consumer read its mail and handle what is there, up to `max` events.
    pub fn turn(&mut self, max: u64) {
        for consumer in &mut self.0 {
            consumer.turn_of_its_kind(max);
        }
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Runs a round of the reclaimer.
    pub fn reclaim(&self) {
        self.core().reclaim();
    }

    /// Shuts down without any time: stops all consumers, and takes those over that are in a call and do not return at
    /// once. Returns whether there were any. The others hand over by themselves in their next turns.
    pub fn cut_short(&self) -> bool {
        shutdown::cut_short(self.core())
    }

    /// Puts another consumer in the place of the only one, if that is in a call of a handler: a rescue, whose new
    /// consumer takes its turns where the model says so.
    pub fn replace_stuck(&self) -> Option<UnstartedConsumers<P>> {
        let (core, addr) = (self.core(), ConsumerAddr::default());
        let consumer = core.consumer(addr);
        let lending = &consumer.standby.as_ref()?.lending;
        let call = consumer.mailbox.supervisor().current_call()?;
        let Call::Parked { number, .. } = call else { return None };
        let stall = Stall::of_a_call(core.dispatcher(0).name.clone(), &consumer.thread, Duration::ZERO);
        let is_lent = lending.is_lent(number);
        let fresh = is_lent.then(|| core.replace(addr, number, &stall).ok()).flatten()?;
        Some(UnstartedConsumers(vec![fresh]))
    }

    /// Says what the shutdown has come to by now, when what was taken over has been copied.
    pub fn report(&self) -> ShutdownReport<P> {
        shutdown::report_when_copied(self.core())
    }
}

impl<P> std::fmt::Debug for UnstartedConsumers<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnstartedConsumers").field("consumers", &self.0.len()).finish()
    }
}
