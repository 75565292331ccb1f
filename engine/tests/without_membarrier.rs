//! Where the system has no `membarrier`, both halves of the asymmetric fence are full fences, and all works as before.
//!
//! This program has one test: it takes the system call away from itself, before the first ring is built, and for good.
#![cfg(all(target_os = "linux", not(miri)))]

mod seccomp_support;

use ringmain::ring::{Polled, RingBuilder};
use ringmain::wait::WaitStrategy;
use seccomp_support::take_membarrier_away;
use std::sync::mpsc::channel;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: u64 = 20_000;

#[test]
fn threads_sleep_and_wake_and_rings_close_without_membarrier() {
    take_membarrier_away();
    for strategy in [WaitStrategy::Blocking, WaitStrategy::Adaptive] {
        // Of two slots, so that both sides wait for each other all the time.
        let mut graph = RingBuilder::new(2, u64::default)
            .expect("a power of two")
            .wait(strategy)
            .graph()
            .expect("memory");
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        let (ended, has_ended) = channel();
        std::thread::spawn(move || {
            let mut next = 0;
            let seen = loop {
                assert!(poller.wait(strategy, LIMIT), "the consumer slept on");
                let polled = poller.poll(2, |event, _, _| {
                    assert_eq!(*event, next);
                    next += 1;
                });
                if polled == Polled::Finished {
                    break next;
                }
            };
            ended.send(seen).expect("the test waits");
        });
        for number in 0..EVENTS {
            producer.publish_timeout(LIMIT, |event| *event = number).expect("the consumer goes on");
        }
        ring.close();
        assert_eq!(has_ended.recv_timeout(LIMIT), Ok(EVENTS), "{strategy}");
    }
}
