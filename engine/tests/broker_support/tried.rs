//! A subscription under a clock that is moved by hand, and a record of its handler's calls.

use super::{drain, eventually};
use ringmain::broker::{Broker, HandlerError, Subscription, SubscriptionBuilder, SubscriptionLedger, Term};
use ringmain::clock::{Clock, VirtualTime};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

pub const MILLISECOND: Duration = Duration::from_millis(1);

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
    pub broker: Broker<u64>,
    pub clock: Clock,
    pub time: VirtualTime,
    pub subscription: Subscription<u64>,
    pub calls: Receiver<Call>,
}

impl Tried {
    /// Subscribes with these options.
    pub fn new<E: Into<HandlerError> + 'static>(
        options: impl FnOnce(SubscriptionBuilder<u64>) -> SubscriptionBuilder<u64>,
        mut handler: impl FnMut(u64, u16) -> Result<(), E> + Send + 'static,
    ) -> Self {
        let (clock, time) = Clock::manual();
        let broker: Broker<u64> = Broker::of().clock(clock.clone()).build().expect("valid options");
        let (sender, calls) = channel();
        let now = clock.clone();
        let subscription = options(broker.subscription().name("tried").pattern("a"));
        let subscription = subscription.subscribe(move |message| {
            let at = now.now().as_nanos() / 1_000_000;
            let _ = sender.send(Call { number: **message, attempt: message.attempt(), at });
            handler(**message, message.attempt())
        });
        Self { broker, clock, time, subscription: subscription.expect("valid"), calls }
    }

    pub fn publish(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut publisher = self.broker.publisher("a").expect("a topic");
        for number in numbers {
            let _ = publisher.publish(number).expect("room");
        }
        self.settle();
    }

    /// Waits until nothing happens any more without the time being moved.
    pub fn settle(&self) {
        drain(&self.broker);
        eventually("nothing is due", || {
            let before = self.broker.audit().total();
            let waiting = self.subscription.status();
            let idle = !waiting.is_catching_up && before.count(Term::InFlight) == 0;
            // What is due is delivered within no time; a moment is long.
            std::thread::park_timeout(Duration::from_millis(2));
            idle && before == self.broker.audit().total() && before.is_balanced()
        });
    }

    pub fn advance(&self, by: Duration) {
        self.time.advance(by);
        self.settle();
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }

    pub fn account(&self) -> SubscriptionLedger {
        let ledger = self.broker.audit();
        assert!(ledger.is_balanced(), "{ledger}");
        ledger.total()
    }
}
