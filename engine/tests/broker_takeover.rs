//! What a take-over counts of what a stuck consumer has left: the same as the consumer would have counted.

mod broker_support;

use broker_support::{drain, eventually, next, panic_quietly};
use ringmain::broker::{Broker, Dispatcher, DropReason, PublishOptions, ShutdownReport, Subscription, Term};
use ringmain::clock::Clock;
use ringmain::ring::SlotPolicy;
use ringmain::wait::WaitStrategy;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Until a consumer is taken over.
const SHORT: Duration = Duration::from_millis(200);

/// A handler that says with which number it was called, and does not return until its door is dropped.
fn held() -> (impl FnMut(u64) + Send + 'static, Receiver<u64>, Sender<()>) {
    let (entered, enters) = channel();
    let (door, opened) = channel::<()>();
    let handler = move |number| {
        let _ = entered.send(number);
        let _ = opened.recv();
    };
    (handler, enters, door)
}

/// Shuts a broker down whose consumer is stuck with a message to "s" before whatever `then` does to the subscription
/// "other" to the topic "o".
fn taken_over(then: impl FnOnce(&Broker<u64>, Subscription<u64>)) -> ShutdownReport<u64> {
    let (clock, time) = Clock::manual();
    let broker: Broker<u64> = Broker::of().clock(clock).build().expect("valid options");
    let (mut handler, enters, door) = held();
    let stuck = broker.subscription().name("stuck").pattern("s").subscribe(move |it| handler(**it));
    let other = broker.subscription().name("other").pattern("o").subscribe(|_| ()).expect("valid");
    let _ = broker.publisher("s").expect("a topic").publish(0).expect("room");
    next(&enters);
    then(&broker, other);
    time.advance(Duration::from_secs(60));
    let report = broker.shutdown(SHORT).expect("not inside of a closure");
    assert_eq!(report.abandoned.len(), 1);
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    drop((stuck, door));
    report
}

#[test]
fn what_had_ended_counts_as_unsubscribed_and_is_not_handed_back() {
    let report = taken_over(|broker, other| {
        let _ = broker.publisher("o").expect("a topic").publish_batch([1, 2, 3]).expect("room");
        other.unsubscribe_timeout(Duration::from_millis(10)).expect_err("its consumer is stuck");
    });
    let total = report.ledger.total();
    assert_eq!((total.dropped_for(DropReason::Unsubscribed), total.count(Term::Undelivered)), (3, 0));
    assert!(report.undelivered.is_empty());
}

#[test]
fn what_had_expired_counts_as_expired_and_is_not_handed_back() {
    let report = taken_over(|broker, other| {
        let options = PublishOptions::new().expires_after(Duration::from_secs(1));
        let mut publisher = broker.publisher("o").expect("a topic");
        let _ = publisher.publish_batch_with([1, 2, 3], &options).expect("room");
        let _ = publisher.publish(4).expect("room");
        other.detach();
    });
    let total = report.ledger.total();
    assert_eq!((total.count(Term::Expired), total.count(Term::Undelivered)), (3, 1));
    assert_eq!(report.undelivered.iter().map(|it| it.message.payload).collect::<Vec<_>>(), [4]);
}

/// A publisher is in its closure while the consumer is taken over. It is told that its message is published, and so the
/// message is somewhere.
#[test]
fn what_is_published_behind_a_takeover_is_counted_and_handed_back() {
    for becomes_a_tombstone in [false, true] {
        let broker: Broker<u64> = Broker::of().build().expect("valid options");
        let (mut handler, enters, door) = held();
        let _stuck = broker.subscribe("s", move |it| handler(**it)).expect("valid");
        let mut publisher = broker.publisher("s").expect("a topic");
        let _ = publisher.publish(1).expect("room");
        next(&enters);
        let (inside, is_inside) = channel();
        let (open, opened) = channel::<()>();
        let publisher = thread::spawn(move || {
            catch_unwind(AssertUnwindSafe(|| {
                publisher.publish_in_place(|number| {
                    *number = 2;
                    inside.send(()).expect("the test waits");
                    let _ = opened.recv();
                    if becomes_a_tombstone {
                        panic_quietly();
                    }
                })
            }))
        });
        next(&is_inside);
        let report = broker.shutdown(SHORT).expect("not inside of a closure");
        assert_eq!((report.in_hand, report.undelivered.len()), (1, 0), "{}", report.ledger);
        drop(open);
        let told = publisher.join().expect("it catches its panic");
        assert_eq!(told.is_err(), becomes_a_tombstone);
        for _ in 0..2 {
            let later = broker.shutdown(SHORT).expect("not inside of a closure");
            assert_eq!((later.in_hand, later.withheld), (0, 0));
            let numbers: Vec<_> = later.undelivered.iter().map(|it| it.message.payload).collect();
            let expected: &[u64] = if becomes_a_tombstone { &[] } else { &[2] };
            assert_eq!(numbers, expected);
            let subscriptions = &later.ledger.subscriptions;
            assert!(
                subscriptions.iter().all(|account| account.accounted() == account.routed),
                "{}",
                later.ledger
            );
        }
        drop(door);
    }
}

/// Says that it is being dropped, and does not come back from it on a consumer's thread.
struct Clings(Sender<()>);

impl Drop for Clings {
    fn drop(&mut self) {
        let _ = self.0.send(());
        while thread::current().name().is_some_and(|name| name.starts_with("rm-")) {
            thread::park();
        }
    }
}

/// Alone in its batch, or with others behind it.
#[test]
fn a_clearing_that_is_taken_over_leaves_the_rings_account_balanced() {
    for behind in [0, 3] {
        let dispatcher = Dispatcher::new("c").capacity(64).slot_policy(SlotPolicy::Clear);
        let broker: Broker<Option<Arc<Clings>>> =
            Broker::of().dispatcher(dispatcher).build().expect("valid options");
        let subscription = broker.subscribe("a", |_| ()).expect("valid");
        let (sender, dropping) = channel();
        let mut publisher = broker.publisher("a").expect("a topic");
        let mut publish = || {
            let _ = publisher.publish(Some(Arc::new(Clings(sender.clone())))).expect("room");
        };
        publish();
        next(&dropping);
        (0..behind).for_each(|_| publish());
        let report = broker.shutdown(SHORT).expect("not inside of a closure");
        assert_eq!((subscription.delivered(), report.undelivered.len()), (1, behind));
        assert!(report.ledger.is_balanced(), "{}", report.ledger);
    }
}

/// A later stage goes on, in one turn, from a run with a tombstone into one whose handler does not return.
#[test]
fn a_tombstone_before_a_stuck_call_of_the_same_turn_is_counted() {
    let dispatcher = Dispatcher::new("d").capacity(512).stages(&[1, 1]);
    let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("valid options");
    let on = |pattern: &str, stage| broker.subscription().pattern(pattern).stage(stage);
    let ahead = on("a", 0).subscribe(|_| ()).expect("valid");
    let (entered, enters) = channel();
    let (doors, opened): (Vec<_>, Vec<_>) = (0..3).map(|_| channel::<()>()).unzip();
    let behind = on("a", 1).subscribe(move |message| {
        let _ = entered.send(**message);
        let _ = opened[**message as usize].recv();
    });
    let behind = behind.expect("valid");
    // One run of the first stage for both: it is held up until both are there.
    let (hold, held) = channel::<()>();
    let holding = on("h", 0).subscribe(move |_| {
        let _ = held.recv();
    });
    let _holding = holding.expect("valid");
    let _ = broker.publisher("h").expect("a topic").publish(0).expect("room");
    let mut publisher = broker.publisher("a").expect("a topic");
    let panicked = catch_unwind(AssertUnwindSafe(|| _ = publisher.publish_in_place(|_| panic_quietly())));
    assert!(panicked.is_err());
    let _ = publisher.publish(1).expect("room");
    hold.send(()).expect("it is held");
    assert_eq!(next(&enters), 1);
    let _ = publisher.publish(2).expect("room");
    eventually("the first stage is done", || ahead.delivered() == 2);
    let mut doors = doors.into_iter();
    drop((doors.next(), doors.next()));
    assert_eq!(next(&enters), 2);
    let report = broker.shutdown(SHORT).expect("not inside of a closure");
    assert_eq!(behind.delivered(), 1);
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

/// What has been released has been counted, tombstones too.
#[test]
fn an_audit_after_a_drain_is_exact_whatever_comes_last() {
    let dispatcher = Dispatcher::new("d").capacity(64).stages(&[1, 1]).wait(WaitStrategy::Blocking);
    let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("valid options");
    let _subscription = broker.subscribe("a", |_| ()).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let _ = publisher.publish(1).expect("room");
        let panicked = catch_unwind(AssertUnwindSafe(|| _ = publisher.publish_in_place(|_| panic_quietly())));
        assert!(panicked.is_err());
        drain(&broker);
        let ledger = broker.audit();
        assert!(ledger.is_balanced(), "{ledger}");
    }
}

#[derive(Default)]
struct Hangs(u64);

impl Clone for Hangs {
    fn clone(&self) -> Self {
        while self.0 > 0 && thread::current().name().is_some_and(|name| name.starts_with("rm-")) {
            thread::park();
        }
        Self(self.0)
    }
}

/// A consumer that was stopped hands back what is left, and its first copy does not return.
#[test]
fn what_is_being_copied_by_a_consumer_is_withheld() {
    let broker: Broker<Hangs> = Broker::of().build().expect("valid options");
    let (entered, enters) = channel();
    let subscription = broker.subscribe("s", move |_| {
        let _ = entered.send(());
        // Until after it was stopped, and before it is taken over.
        thread::sleep(Duration::from_millis(160));
    });
    let _subscription = subscription.expect("valid");
    let mut publisher = broker.publisher("s").expect("a topic");
    let _ = publisher.publish(Hangs(0)).expect("room");
    next(&enters);
    for number in 1..4 {
        let _ = publisher.publish(Hangs(number)).expect("room");
    }
    let report = broker.shutdown(SHORT).expect("not inside of a closure");
    let counted = report.ledger.total().count(Term::Undelivered);
    assert_eq!(counted, report.undelivered.len() as u64 + report.withheld, "{}", report.ledger);
}
