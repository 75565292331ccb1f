//! Pausing a subscription while its consumer takes its turns. With a whole broker, which only models can
//! have without threads.

use ringmain::broker::unstarted::UnstartedConsumers;
use ringmain::broker::{Broker, Dispatcher, Subscription};
use ringmain::clock::Clock;
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::Mutex;
use ringmain_loom_tests::sync::atomic::{AtomicBool, Ordering};
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;

/// What a handler has been called with.
type Calls = Arc<Mutex<Vec<u64>>>;

/// A broker whose only consumer never sleeps, and a subscription that notes its calls, which may not come while it is
/// said to be paused.
fn broker(is_paused: &Arc<AtomicBool>) -> (Broker<u64>, UnstartedConsumers<u64>, Subscription<u64>, Calls) {
    let dispatcher = Dispatcher::new("only").capacity(2).wait(WaitStrategy::BusySpin);
    let (clock, _time) = Clock::manual();
    let broker = Broker::of().dispatcher(dispatcher).clock(clock);
    let (broker, consumers) = broker.build_unstarted().expect("valid options");
    let (calls, is_paused) = (Calls::default(), is_paused.clone());
    let noted = calls.clone();
    let subscription = broker.subscribe("a", move |message| {
        assert!(!is_paused.load(Ordering::Relaxed), "a call began, or was running");
        noted.lock().push(**message);
    });
    (broker, consumers, subscription.expect("a pattern"), calls)
}

/// Takes turns until nothing is left to do. For when all others have ended.
fn finish(consumers: &mut UnstartedConsumers<u64>) {
    for _ in 0..3 {
        consumers.turn(4);
    }
}

/// Once `pause` has returned no call runs and none begins, and what comes is neither lost nor doubled, and keeps its
/// order: it was delivered before, or it waits, and comes when the subscription goes on.
#[test]
fn no_call_begins_after_pause_has_returned_and_what_comes_waits() {
    explore("pause", Bound::Preemptions(3), || {
        let is_paused = Arc::new(AtomicBool::new(false));
        let (broker, mut consumers, subscription, calls) = broker(&is_paused);
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish(1).expect("room");
        let _ = publisher.publish(2).expect("room");
        let consumer = {
            let is_paused = is_paused.clone();
            thread::spawn(move || {
                while !is_paused.load(Ordering::Relaxed) {
                    consumers.turn(1);
                    thread::yield_now();
                }
                finish(&mut consumers);
                consumers
            })
        };
        subscription.pause().expect("not forked");
        is_paused.store(true, Ordering::Relaxed);
        let mut consumers = consumer.join().expect("the consumer panicked");
        let before = calls.lock().len();
        assert_eq!(subscription.status().backlogged as usize, 2 - before, "a message was lost");
        is_paused.store(false, Ordering::Relaxed);
        subscription.resume();
        finish(&mut consumers);
        assert_eq!(*calls.lock(), [1, 2]);
        assert_eq!(subscription.status(), Default::default(), "it does not know that nothing waits");
        subscription.detach();
        before
    })
    .saw_exactly([0, 1, 2])
    .in_at_least(100);
}

/// Of a pause and a resumption that race, one is the last, and everybody agrees on which.
#[test]
fn of_a_pause_and_a_resumption_that_race_the_last_one_holds() {
    explore("pause and resume", Bound::Preemptions(3), || {
        let is_paused = Arc::new(AtomicBool::new(false));
        let (broker, mut consumers, subscription, calls) = broker(&is_paused);
        let subscription = Arc::new(subscription);
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish(1).expect("room");
        let resuming = {
            let subscription = subscription.clone();
            thread::spawn(move || subscription.resume())
        };
        let consumer = thread::spawn(move || {
            consumers.turn(1);
            consumers
        });
        let _ = subscription.pause_timeout(std::time::Duration::ZERO);
        resuming.join().expect("no panic");
        let mut consumers = consumer.join().expect("the consumer panicked");
        finish(&mut consumers);
        let status = subscription.status();
        let called = calls.lock().len();
        assert_eq!(called + status.backlogged as usize, 1, "a message was lost or doubled");
        assert!(status.is_paused || called == 1, "nobody delivers what waits");
        // Whatever was last: a resumption is.
        subscription.resume();
        finish(&mut consumers);
        assert_eq!((calls.lock().len(), subscription.status()), (1, Default::default()));
        if let Ok(subscription) = Arc::try_unwrap(subscription) {
            subscription.detach();
        }
        status.is_paused
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}
