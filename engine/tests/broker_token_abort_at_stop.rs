//! Tokens that come back while the broker stops, with what panics when it is dropped. A program of its own, likewise.

use ringmain::broker::{Acknowledgement, Broker, Dispatcher, Subscription, Token};
use std::fmt;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// An error that panics when a consumer drops it.
#[derive(Debug)]
struct Bomb;

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl std::error::Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        if std::thread::current().name().is_some_and(|name| name.starts_with("rm-")) {
            std::panic::resume_unwind(Box::new("a panic on purpose"));
        }
    }
}

fn keeping(broker: &Broker<u64>, name: &str, dispatcher: &str) -> (Subscription<u64>, Receiver<Token<u64>>) {
    let (sender, tokens) = channel();
    let subscription = broker.subscription().name(name).pattern(name).dispatcher(dispatcher);
    let terms = Acknowledgement::within(LIMIT).in_flight(2);
    let subscription = subscription.subscribe_with_tokens(terms, move |token| _ = sender.send(token));
    (subscription.expect("valid"), tokens)
}

#[test]
fn two_errors_that_panic_when_they_are_dropped_after_the_stop_do_not_end_the_process() {
    let broker = Broker::of::<u64>()
        .dispatcher(Dispatcher::new("one"))
        .dispatcher(Dispatcher::new("two"))
        .build()
        .expect("valid");
    let publish = |topic: &str, number: u64| {
        let _ = broker.publisher(topic).expect("a topic").publish(number).expect("room");
    };
    // Its token tells when the broker has stopped its consumers.
    let (_bell, bells) = keeping(&broker, "bell", "two");
    publish("bell", 0);
    let bell = bells.recv_timeout(LIMIT).expect("it comes");
    let (_kept, tokens) = keeping(&broker, "kept", "one");
    publish("kept", 1);
    publish("kept", 2);
    let kept: Vec<_> = (0..2).map(|_| tokens.recv_timeout(LIMIT).expect("it comes")).collect();
    let (busy, is_busy) = channel();
    let gate = broker.subscription().name("gate").pattern("gate").dispatcher("one").subscribe(move |_| {
        let _ = busy.send(());
        let deadline = Instant::now() + LIMIT;
        while bell.extend().is_ok() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    });
    let _gate = gate.expect("valid");
    publish("gate", 3);
    is_busy.recv_timeout(LIMIT).expect("it is called");
    // The consumer reads of both after it has ended what was in flight.
    kept.into_iter().for_each(|token| token.fail(Bomb).expect("in time"));
    let report = broker.shutdown(Duration::from_millis(400)).expect("no closure");
    assert!(report.dead.is_empty() && report.abandoned.is_empty());
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    // Its thread may still be dropping.
    drop((report, broker));
    std::thread::sleep(Duration::from_millis(300));
}
