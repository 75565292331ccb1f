//! A subscription of a simulated broker, and a record of its handler's calls.

use ringmain::broker::dead_letters::DeadLetterOptions;
use ringmain::broker::simulation::Simulation;
use ringmain::broker::{
    Broker, BrokerBuilder, HandlerError, Idempotency, Jitter, Retry, ShutdownReport, Subscription,
    SubscriptionBuilder, SubscriptionLedger, key,
};
use ringmain::clock::Clock;
use std::cell::RefCell;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub const MILLISECOND: Duration = Duration::from_millis(1);

/// A broker with a store of dead letters.
pub fn with_store(broker: BrokerBuilder<u64>) -> BrokerBuilder<u64> {
    broker.dead_letters(DeadLetterOptions::new())
}

/// Of messages with the same number, one is handled.
pub fn once() -> Idempotency<u64> {
    Idempotency::by(key::of(|message| Some(**message)))
}

/// A retry each 100 ms.
pub fn retry(attempts: u16) -> Retry {
    Retry::constant(MILLISECOND * 100).jitter(Jitter::None).attempts(attempts)
}

/// A call of a handler: which message, which attempt, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: u64,
    pub attempt: u16,
    /// In milliseconds of the clock.
    pub at: u64,
}

/// A broker whose time is moved by hand, with one subscription whose handler fails as it is told.
pub struct Tried {
    simulation: RefCell<Simulation<u64>>,
    pub broker: Broker<u64>,
    pub clock: Clock,
    pub subscription: Subscription<u64>,
    calls: Receiver<Call>,
}

impl Tried {
    /// Subscribes with these options.
    pub fn new<E: Into<HandlerError> + 'static>(
        options: impl FnOnce(SubscriptionBuilder<u64>) -> SubscriptionBuilder<u64>,
        handler: impl FnMut(u64, u16) -> Result<(), E> + Send + 'static,
    ) -> Self {
        Self::on(|broker| broker, options, handler)
    }

    /// Subscribes with these options to a broker with those.
    pub fn on<E: Into<HandlerError> + 'static>(
        broker: impl FnOnce(BrokerBuilder<u64>) -> BrokerBuilder<u64>,
        options: impl FnOnce(SubscriptionBuilder<u64>) -> SubscriptionBuilder<u64>,
        mut handler: impl FnMut(u64, u16) -> Result<(), E> + Send + 'static,
    ) -> Self {
        let simulation = broker(Broker::of()).simulate().expect("valid options");
        let (broker, clock) = (simulation.broker(), simulation.clock());
        let (sender, calls) = channel();
        let now = clock.clone();
        let subscription = options(broker.subscription().name("tried").pattern("a"));
        let subscription = subscription.subscribe(move |message| {
            let at = now.now().as_nanos() / 1_000_000;
            let _ = sender.send(Call { number: **message, attempt: message.attempt(), at });
            handler(**message, message.attempt())
        });
        let simulation = RefCell::new(simulation);
        Self { simulation, broker, clock, subscription: subscription.expect("valid"), calls }
    }

    pub fn publish(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut publisher = self.broker.publisher("a").expect("a topic");
        for number in numbers {
            if publisher.publish(number).is_err() {
                self.run();
                let _ = publisher.publish(number).expect("room");
            }
        }
        self.run();
    }

    /// Has everything done that is due.
    pub fn run(&self) {
        self.simulation.borrow_mut().run();
    }

    pub fn advance(&self, by: Duration) {
        self.simulation.borrow_mut().advance(by);
    }

    /// Moves the clock for a handler that takes its time.
    pub fn time(&self) -> ringmain::clock::VirtualTime {
        self.simulation.borrow().time()
    }

    /// The calls since the last look.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }

    /// The messages of the calls since the last look.
    pub fn numbers(&self) -> Vec<u64> {
        self.calls().iter().map(|call| call.number).collect()
    }

    pub fn account(&self) -> SubscriptionLedger {
        let ledger = self.broker.audit();
        assert!(ledger.is_balanced(), "{ledger}");
        ledger.total()
    }

    /// Ends the subscription.
    pub fn unsubscribe(&mut self, name: &str, handler: impl FnMut(u64) + Send + 'static) {
        let mut handler = handler;
        let other =
            self.broker.subscription().name(name).pattern("nothing").subscribe(move |it| handler(**it));
        drop(std::mem::replace(&mut self.subscription, other.expect("valid")));
        self.run();
    }

    /// Shuts the broker down. Its ledger must hold.
    pub fn shut_down(self) -> ShutdownReport<u64> {
        let report = self.simulation.into_inner().shutdown();
        assert!(report.ledger.is_balanced(), "{}", report.ledger);
        assert!(report.dead.is_empty() && report.abandoned.is_empty(), "{report:?}");
        report
    }
}
