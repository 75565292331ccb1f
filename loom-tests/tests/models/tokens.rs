//! Messages that handlers keep: their tokens, the time limit, and the end of their subscription, at once. With a whole
//! broker, which only models can have without threads.

use ringmain::broker::unstarted::UnstartedConsumers;
use ringmain::broker::{
    Acknowledgement, Broker, Dispatcher, FailureKind, Subscription, Term, Token, TokenError,
};
use ringmain::clock::{Clock, VirtualTime};
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::Mutex;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1);

/// A broker whose handler keeps its only message, and the token.
struct Kept {
    broker: Broker<u64>,
    consumers: UnstartedConsumers<u64>,
    subscription: Subscription<u64>,
    time: VirtualTime,
    token: Token<u64>,
}

impl Kept {
    fn new() -> Self {
        let dispatcher = Dispatcher::new("only").capacity(2).wait(WaitStrategy::BusySpin);
        let (clock, time) = Clock::manual();
        let broker = Broker::of().dispatcher(dispatcher).clock(clock);
        let (broker, mut consumers) = broker.build_unstarted().expect("valid options");
        let tokens: Arc<Mutex<Option<Token<u64>>>> = Arc::default();
        let kept = tokens.clone();
        let subscription = broker
            .subscription()
            .pattern("a")
            .subscribe_with_tokens(Acknowledgement::within(LIMIT), move |token| *kept.lock() = Some(token))
            .expect("a pattern");
        let _ = broker.publisher("a").expect("a topic").publish(7).expect("room");
        consumers.turn(4);
        let token = tokens.lock().take().expect("it was handed out");
        Self { broker, consumers, subscription, time, token }
    }
}

/// What has come of the message: delivered, failed for its time, in doubt, in flight.
fn account(broker: &Broker<u64>) -> [u64; 4] {
    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger}");
    let total = ledger.total();
    [
        total.delivered(),
        total.failures_of(FailureKind::TimedOut),
        total.count(Term::InDoubt),
        total.count(Term::InFlight),
    ]
}

/// Of a token that is given back and a limit that passes, one settles the message, and both sides agree on which.
#[test]
fn a_token_and_its_time_limit_agree_on_who_settles() {
    explore("a token and its limit", Bound::Preemptions(3), || {
        let Kept { broker, mut consumers, subscription, time, token } = Kept::new();
        time.advance(LIMIT);
        let consumer = thread::spawn(move || {
            consumers.turn(4);
            consumers
        });
        let acknowledged = token.ack();
        let mut consumers = consumer.join().expect("the consumer panicked");
        consumers.turn(4);
        consumers.turn(4);
        let expected = if acknowledged.is_ok() { [1, 0, 0, 0] } else { [0, 1, 0, 0] };
        assert_eq!(account(&broker), expected, "it was settled twice, or not at all");
        assert!(matches!(acknowledged, Ok(()) | Err(TokenError::TooLate)));
        subscription.detach();
        acknowledged.is_ok()
    })
    .saw_exactly([false, true])
    .in_at_least(10);
}

/// An extension that was granted holds.
#[test]
fn a_limit_that_was_extended_does_not_pass() {
    explore("an extension", Bound::Preemptions(3), || {
        let Kept { broker, mut consumers, subscription, time, token } = Kept::new();
        time.advance(LIMIT);
        let consumer = thread::spawn(move || {
            consumers.turn(4);
            consumers
        });
        let extended = token.extend();
        let mut consumers = consumer.join().expect("the consumer panicked");
        consumers.turn(4);
        let expected = if extended.is_ok() { [0, 0, 0, 1] } else { [0, 1, 0, 0] };
        assert_eq!(account(&broker), expected, "what was granted does not hold");
        drop(token);
        consumers.turn(4);
        subscription.detach();
        extended.is_ok()
    })
    .saw_exactly([false, true])
    .in_at_least(5);
}

/// What was acknowledged before its subscription has ended was delivered, and a token is told which of both was first.
#[test]
fn a_token_and_the_end_of_its_subscription_agree_on_who_settles() {
    explore("a token and an end", Bound::Preemptions(3), || {
        let Kept { broker, mut consumers, subscription, token, .. } = Kept::new();
        let consumer = thread::spawn(move || {
            consumers.turn(4);
            consumers
        });
        let ending = thread::spawn(move || drop(subscription));
        let acknowledged = token.ack();
        ending.join().expect("no panic");
        let mut consumers = consumer.join().expect("the consumer panicked");
        consumers.turn(4);
        consumers.turn(4);
        let expected = if acknowledged.is_ok() { [1, 0, 0, 0] } else { [0, 0, 1, 0] };
        assert_eq!(account(&broker), expected, "it was settled twice, or not at all");
        acknowledged.is_ok()
    })
    .saw_exactly([false, true])
    .in_at_least(10);
}
