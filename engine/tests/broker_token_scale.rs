//! What it costs to find the kept messages whose time is up.

use ringmain::broker::{Acknowledgement, Backlog, Broker, Dispatcher, FailureKind, Token};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Keeps `count` messages, extends the first half of them, and lets the time of the others pass. Returns how long the
/// consumer is busy with that.
fn time_out_half_of(count: u64) -> Duration {
    let mut simulation =
        Broker::of::<u64>().dispatcher(Dispatcher::new("one").capacity(1 << 16)).simulate().expect("valid");
    let broker = simulation.broker();
    let (sender, tokens) = channel();
    let terms = Acknowledgement::within(SECOND * 10).in_flight(1 << 20);
    let _subscription = broker
        .subscription()
        .pattern("a")
        .backlog(Backlog::new(1 << 20).bytes(1 << 30))
        .subscribe_with_tokens(terms, move |token: Token<u64>| _ = sender.send(token))
        .expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..count {
        let _ = publisher.publish(number).expect("room");
    }
    simulation.run();
    let mut tokens: Vec<_> = tokens.try_iter().collect();
    assert_eq!(tokens.len() as u64, count);
    let others = tokens.split_off(tokens.len() / 2);
    simulation.advance(SECOND * 9);
    tokens.iter().for_each(|token| token.extend().expect("in time"));
    let started = Instant::now();
    simulation.advance(SECOND);
    let took = started.elapsed();
    assert_eq!(broker.audit().total().failures_of(FailureKind::TimedOut), count / 2);
    drop((tokens, others));
    took
}

#[test]
fn who_keeps_four_times_as_many_messages_pays_four_times_as_much_and_not_sixteen_times() {
    // Of three, the fastest: other programs take their time as well.
    let best = |count| (0..3).map(|_| time_out_half_of(count)).min().unwrap_or_default();
    let (few, many) = (best(2_000), best(8_000));
    println!("2,000: {few:?}, 8,000: {many:?}");
    assert!(many < few * 9, "2,000: {few:?}, 8,000: {many:?}");
}
