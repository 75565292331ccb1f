//! A broker without threads and under a clock that is moved by hand, for tests: the same code, and nothing
//! happens unless it is told to.
//!
//! ```
//! use ringmain::Broker;
//! use ringmain::broker::{Jitter, Retry};
//! use std::sync::mpsc::channel;
//! use std::time::Duration;
//!
//! let mut simulation = Broker::of::<u32>().simulate()?;
//! let broker = simulation.broker();
//! let (sender, attempts) = channel();
//! let now = simulation.clock();
//! let retry = Retry::exponential(Duration::from_millis(100)).jitter(Jitter::None).attempts(4);
//! let _payments = broker.subscription().pattern("payments").retry(retry).subscribe(move |_| {
//!     let _ = sender.send(now.now().as_nanos() / 1_000_000);
//!     Err::<(), _>("the bank does not answer")
//! })?;
//! broker.publisher("payments")?.publish(100)?;
//!
//! // An hour passes, at once.
//! simulation.advance(Duration::from_secs(3_600));
//! assert_eq!(attempts.try_iter().collect::<Vec<_>>(), [0, 100, 300, 700]);
//! assert!(simulation.shutdown().ledger.is_balanced());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Retries with jitter and breakers draw from chance, unless they are told a seed
//! ([`Retry::seed`](crate::broker::Retry::seed), [`Breaker::seed`](crate::broker::Breaker::seed)) or none
//! ([`Jitter::None`](crate::broker::Jitter::None), [`Breaker::exact`](crate::broker::Breaker::exact)). Time
//! begins at 0, and so does the wall clock of messages and letters, in 1970.
//!
//! # What is different
//!
//! Handlers run inside of [`run`](Simulation::run) and [`advance`](Simulation::advance), on the thread that calls
//! them. Nobody could be waited for, so nothing waits: a full ring refuses, whatever its dispatcher was told;
//! `pause` and `unsubscribe` return at once, and hold from the next run on, which begins no call any more; `drain` is
//! an error. Several consumers take their turns one after the other, in the order of dispatchers and stages. So a
//! simulation says nothing of races. It ends by its own [`shutdown`](Simulation::shutdown): that of the broker has no
//! thread to wait for, and leaves in the rings what is there.

use super::builder::BrokerBuilder;
use super::deliver::consumer::Consumer;
use super::error::BrokerBuildError;
use super::handle::Broker;
use super::lifecycle::report::ShutdownReport;
use crate::clock::{Clock, Timestamp, VirtualTime};
use crate::message::MessagePayload;
use std::fmt;
use std::time::Duration;

/// A broker without threads, and its time. See the [module](self).
pub struct Simulation<P: MessagePayload> {
    broker: Broker<P>,
    consumers: Vec<Consumer<P>>,
    clock: Clock,
    time: VirtualTime,
}

impl<P: MessagePayload> BrokerBuilder<P> {
    /// Builds a broker that is driven by hand, under a clock of its own that stands still. See
    /// [`simulation`](crate::broker::simulation).
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn simulate(self) -> Result<Simulation<P>, BrokerBuildError> {
        let (clock, time) = Clock::manual();
        let (broker, planned) = self.clock(clock.clone()).without_waiting().assemble()?;
        let consumers = planned.consumers.into_iter().map(|planned| planned.consumer).collect();
        Ok(Simulation { broker, consumers, clock, time })
    }
}

impl<P: MessagePayload> Simulation<P> {
    /// Returns a handle of the broker.
    pub fn broker(&self) -> Broker<P> {
        self.broker.clone()
    }

    /// Returns the broker's clock.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Returns what moves the clock, for handlers that take their time. Elsewhere use [`advance`](Self::advance).
    pub fn time(&self) -> VirtualTime {
        self.time.clone()
    }

    /// Has everything done that is due at this moment: what was published is delivered, and so is what handlers publish
    /// meanwhile. Where they go on for ever, so does this.
    pub fn run(&mut self) {
        while self.turn() {}
        self.broker.core().reclaim();
    }

    /// Has each consumer take a turn. Returns whether one of them has found something to do.
    fn turn(&mut self) -> bool {
        let mut has_found = false;
        for consumer in &mut self.consumers {
            has_found |= consumer.take_turn();
        }
        has_found
    }

    /// Lets the time pass: does what is due now, goes on to the next moment at which something is, and so on.
    pub fn advance(&mut self, by: Duration) {
        let end = self.clock.now().after(by);
        self.run();
        while let Some(moment) = self.next_due().filter(|moment| (self.clock.now()..=end).contains(moment)) {
            let before = self.clock.now();
            self.time.advance(moment.since(before));
            self.run();
            if self.clock.now() == before && self.next_due() == Some(moment) {
                // It waits for something else.
                break;
            }
        }
        self.time.advance(end.since(self.clock.now()));
        self.run();
    }

    /// Returns the next moment for which something that waits was put off, as far as is known: nothing may
    /// come of it, and what is due now is not meant.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.consumers.iter().filter_map(Consumer::next_moment).min()
    }

    /// Delivers what may be delivered now, hands the rest back, and ends the broker.
    pub fn shutdown(mut self) -> ShutdownReport<P> {
        let core = self.broker.core().clone();
        core.close();
        while self.turn() {}
        for consumer in &mut self.consumers {
            consumer.end();
        }
        super::lifecycle::shutdown::report_of(&core)
    }
}

impl<P: MessagePayload> fmt::Debug for Simulation<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("now", &self.clock.now()).finish_non_exhaustive()
    }
}
