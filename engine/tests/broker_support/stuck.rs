//! Brokers whose consumers may be replaced, and handlers that are stuck until a test lets them go.

use super::{LIMIT, eventually, next, within};
use ringmain::broker::dead_letters::DeadLetterOptions;
use ringmain::broker::{Broker, BrokerBuilder, Dispatcher, Stall, StallKind, Subscription, Term};
use ringmain::message::Message;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// At which age a call is rescued here.
pub const AGE: Duration = Duration::from_millis(20);

/// Doors that handlers wait at, each message by its number, until it is opened for that.
#[derive(Clone, Debug, Default)]
pub struct Doors(Arc<(Mutex<BTreeMap<u64, bool>>, Condvar)>);

impl Doors {
    /// Waits at the door of that number, if it is closed.
    pub fn pass(&self, number: u64) {
        let (doors, changed) = &*self.0;
        let deadline = Instant::now() + LIMIT;
        let mut doors = doors.lock().expect("no panic");
        while doors.get(&number) == Some(&true) && Instant::now() < deadline {
            doors = changed.wait_timeout(doors, LIMIT).expect("no panic").0;
        }
    }

    pub fn close(&self, number: u64) {
        self.0.0.lock().expect("no panic").insert(number, true);
    }

    pub fn open(&self, number: u64) {
        self.0.0.lock().expect("no panic").insert(number, false);
        self.0.1.notify_all();
    }
}

/// One door for all messages. By default it is open.
#[derive(Clone, Debug, Default)]
pub struct Door(Doors);

impl Door {
    pub fn closed() -> Self {
        let doors = Doors::default();
        doors.close(0);
        Self(doors)
    }

    pub fn pass(&self) {
        self.0.pass(0);
    }

    pub fn open(&self) {
        self.0.open(0);
    }
}

/// What a handler waits at before it handles a message of that number.
pub trait WaitsAt: Clone + Send + 'static {
    fn wait_at(&self, number: u64);
}

impl WaitsAt for Doors {
    fn wait_at(&self, number: u64) {
        self.pass(number);
    }
}

impl WaitsAt for Door {
    fn wait_at(&self, _number: u64) {
        self.pass();
    }
}

/// A broker whose only dispatcher is rescued by itself, and that keeps dead letters.
pub fn builder() -> BrokerBuilder<u64> {
    Broker::of()
        .dispatcher(Dispatcher::new("shared").rescue_after(AGE))
        .dead_letters(DeadLetterOptions::default())
}

pub fn broker() -> Broker<u64> {
    builder().build().expect("valid options")
}

/// A broker whose only dispatcher is rescued when somebody asks for it.
pub fn by_hand() -> Broker<u64> {
    let shared = Dispatcher::new("shared").capacity(4).rescuable();
    Broker::of().dispatcher(shared).stall_after(AGE).build().expect("valid options")
}

/// A subscription that sends what it gets, once it may.
pub fn at(broker: &Broker<u64>, name: &str, door: &impl WaitsAt) -> (Subscription<u64>, Receiver<u64>) {
    let (sender, received) = channel();
    let door = door.clone();
    let handler = move |message: &Message<'_, u64>| {
        door.wait_at(**message);
        let _ = sender.send(**message);
    };
    (broker.subscription().name(name).pattern("a").subscribe(handler).expect("valid"), received)
}

pub fn publish(broker: &Broker<u64>, numbers: impl IntoIterator<Item = u64>) {
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in numbers {
        let _ = publisher.publish(number).expect("room");
    }
}

pub fn take(received: &Receiver<u64>, count: u64) -> Vec<u64> {
    (0..count).map(|_| next(received)).collect()
}

pub fn wait_until_away(subscription: &Subscription<u64>) {
    eventually("its consumer is replaced", || subscription.status().is_away);
}

/// How many of a subscription's messages are counted under that term.
pub fn count(broker: &Broker<u64>, subscription: &Subscription<u64>, term: Term) -> u64 {
    let ledger = broker.audit();
    ledger.named(subscription.name()).expect("it is there").count(term)
}

/// The first stall of that kind that a look finds, of a thread that was not replaced.
pub fn stall_of(broker: &Broker<u64>, kind: StallKind) -> Stall {
    let broker = broker.clone();
    let is_meant = move |stall: &Stall| !stall.is_replaced && stall.kind == kind;
    within("a stall is found", move || {
        loop {
            if let Some(stall) = broker.stalls().into_iter().find(&is_meant) {
                return stall;
            }
            thread::yield_now();
        }
    })
}

/// The first stall of a call.
pub fn stall(broker: &Broker<u64>) -> Stall {
    stall_of(broker, StallKind::Call)
}
