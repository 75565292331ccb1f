//! Where the system refuses `membarrier` after the engine has been built on it, consumers sleep and wake,
//! subscriptions and rings end, and nothing is lost.
//!
//! This program has one test: it takes the system call away from all its threads, for good.
#![cfg(all(target_os = "linux", not(miri), not(ringmain_loom)))]

mod broker_support;
mod seccomp_support;

use broker_support::{LIMIT, eventually, shut_down, within};
use ringmain::broker::Broker;
use ringmain::ring::{Polled, RingBuilder};
use ringmain::wait::WaitStrategy;
use seccomp_support::take_membarrier_away;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MESSAGES: u64 = 10_000;
/// Longer than a nap: a consumer that has slept so long pays for its next sleep with a heavy fence.
const IDLE: Duration = Duration::from_millis(30);

#[test]
fn a_filter_that_comes_after_the_build_costs_no_message_and_no_thread() {
    let broker = Broker::of::<u64>().build().expect("valid options");
    let delivered = Arc::new(AtomicU64::new(0));
    let subscribe = |pattern: &str| {
        let delivered = delivered.clone();
        let subscription = broker.subscription().name(pattern).pattern(pattern);
        subscription
            .subscribe(move |_| {
                delivered.fetch_add(1, Ordering::Relaxed);
            })
            .expect("valid")
    };
    let (stays, leaves) = (subscribe("a.#"), subscribe("a.*"));
    let mut publisher = broker.publisher("a.b").expect("a topic");
    let _ = publisher.publish(0).expect("room");
    eventually("the first message", || delivered.load(Ordering::Relaxed) == 2);
    let mut graph = RingBuilder::new(2, u64::default)
        .expect("a power of two")
        .wait(WaitStrategy::Blocking)
        .graph()
        .expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads to start");

    take_membarrier_away();

    // Some of the messages find the consumer spinning, some napping, some past its first nap.
    let started = Instant::now();
    for number in 1..=MESSAGES {
        if number % (MESSAGES / 10) == 0 {
            std::thread::sleep(IDLE);
        }
        let _ = publisher.publish(number).expect("the consumer makes room");
    }
    eventually("all messages", || delivered.load(Ordering::Relaxed) == 2 * (MESSAGES + 1));
    println!("{MESSAGES} messages in {:?}", started.elapsed());
    within("unsubscribe", move || leaves.unsubscribe());
    let _ = publisher.publish(0).expect("an open broker");
    eventually("the last message", || delivered.load(Ordering::Relaxed) == 2 * (MESSAGES + 1) + 1);
    drop(stays);
    let ledger = shut_down(&broker);
    assert_eq!(ledger.total().delivered(), 2 * (MESSAGES + 1) + 1);

    // A ring that was built before: who joins it, and who closes it, makes a heavy fence too.
    let joiner = ring.join_poller(&[], LIMIT).expect("no producer has anything in hand");
    drop(joiner);
    producer.publish(|event| *event = 7).expect("an open ring with room");
    ring.close();
    let mut seen = Vec::new();
    loop {
        assert!(poller.wait(WaitStrategy::Blocking, LIMIT), "the consumer slept on");
        match poller.poll(2, |event, _, _| seen.push(*event)) {
            Polled::Finished => break,
            _ => continue,
        }
    }
    assert_eq!(seen, [7]);
}
