//! Orderly ends: follow-ups of handlers before a shutdown, and what is queued before a subscription leaves.

mod broker_support;

use broker_support::{eventually, panic_quietly};
use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
use ringmain::broker::{
    Acknowledgement, Backlog, Broker, Dispatcher, DrainError, Jitter, PublishFailure, Retry, Subscription,
    Term, Token, WhenFull,
};
use ringmain::message::Message;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(30);

/// Two dispatchers, and handlers that publish each for the next, to and fro between both, `hops` times.
fn chain(hops: u64) -> (Broker<u64>, std::sync::mpsc::Receiver<u64>) {
    let broker = Broker::of()
        .dispatcher(Dispatcher::new("even").capacity(64))
        .dispatcher(Dispatcher::new("odd").capacity(64))
        .build()
        .expect("valid");
    let (sender, ends) = channel();
    for hop in 0..=hops {
        let mut next = broker.publisher(&format!("hop.{}", hop + 1)).expect("a topic");
        let sender = sender.clone();
        let dispatcher = if hop % 2 == 0 { "even" } else { "odd" };
        let subscription = broker.subscription().pattern(&format!("hop.{hop}")).dispatcher(dispatcher);
        let subscription = subscription.subscribe(move |message| {
            if hop == hops {
                let _ = sender.send(**message);
                return Ok(());
            }
            // Outsiders are refused meanwhile: it takes a moment.
            std::thread::sleep(MILLISECOND);
            next.publish(**message).map(drop)
        });
        subscription.expect("valid").detach();
    }
    (broker, ends)
}

#[test]
fn a_chain_of_handlers_comes_to_its_end_while_outsiders_are_refused() {
    let (broker, ends) = chain(4);
    let mut first = broker.publisher("hop.0").expect("a topic");
    let mut any = broker.any_topic_publisher();
    for number in 0..20 {
        let _ = first.publish(number).expect("room");
    }
    let _ = any.publish("hop.0", 20).expect("room");
    assert_eq!(broker.quiesce(LIMIT), Ok(()));
    assert_eq!(ends.try_iter().count(), 21, "all hops are over when it returns");
    let refused = |failure: &PublishFailure| matches!(failure, PublishFailure::Closed);
    assert!(refused(first.publish(1).expect_err("an outsider").kind()));
    assert!(refused(any.publish("hop.0", 1).expect_err("an outsider").kind()));
    assert!(refused(any.publish("another", 1).expect_err("an outsider").kind()));
    assert!(first.publish_batch([1, 2]).is_err());
    assert!(refused(broker.publisher("hop.0").expect("a topic").publish(1).expect_err("an outsider").kind()));
    assert_eq!(broker.quiesce(LIMIT), Ok(()), "it is quiet still");
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let total = report.ledger.total();
    assert_eq!((total.delivered(), total.failures(), report.undelivered.len()), (21 * 5, 0, 0));
}

#[test]
fn what_waits_for_long_is_not_waited_for_and_handed_back() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let latest = Backlog::new(1).when_full(WhenFull::DropOldest);
    let paused = broker.subscription().pattern("paused").backlog(latest).subscribe(|_| ()).expect("valid");
    paused.pause().expect("no child");
    let retry = Retry::constant(SECOND * 3_600).jitter(Jitter::None).attempts(2);
    let subscription = broker.subscription().pattern("fails").retry(retry);
    let _failing = subscription.subscribe(|_| Err::<(), _>("in an hour")).expect("valid");
    for topic in ["fails", "paused", "paused"] {
        let _ = broker.publisher(topic).expect("a topic").publish(1).expect("room");
    }
    assert_eq!(broker.quiesce(LIMIT), Ok(()));
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(report.undelivered.len(), 2, "one has given way");
}

#[test]
fn it_waits_for_tokens_and_its_limit_holds_beside_handlers_that_go_on_for_ever() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let kept: Arc<Mutex<Option<Token<u64>>>> = Arc::default();
    let (sender, is_kept) = channel();
    let keeping = kept.clone();
    let _keeper = broker
        .subscription()
        .name("keeper")
        .pattern("a")
        .subscribe_with_tokens(Acknowledgement::within(LIMIT), move |token| {
            *keeping.lock().expect("no panic") = Some(token);
            let _ = sender.send(());
        })
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    is_kept.recv_timeout(LIMIT).expect("it is handed out");
    let waited = broker.quiesce(MILLISECOND * 20);
    assert!(
        matches!(&waited, Err(DrainError::Waiting { subscriptions, .. }) if subscriptions[0] == "keeper"),
        "{waited:?}"
    );
    kept.lock().expect("no panic").take().expect("it was kept").ack().expect("in time");
    assert_eq!(broker.quiesce(LIMIT), Ok(()));

    let broker = Broker::of::<u64>().build().expect("valid");
    let mut again = broker.publisher("b").expect("a topic");
    let _endless = broker.subscribe("b", move |message| again.publish(**message).map(drop)).expect("valid");
    let _ = broker.publisher("b").expect("a topic").publish(1).expect("room");
    let begun = Instant::now();
    assert_eq!(broker.quiesce(MILLISECOND * 50), Err(DrainError::TimedOut { limit: MILLISECOND * 50 }));
    assert!(begun.elapsed() < SECOND * 10, "{:?}", begun.elapsed());
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

/// A payload whose clones may be held up, or panic.
#[derive(Default)]
struct Slow(Arc<AtomicU32>);

const FREE: u32 = 0;
const HELD_UP: u32 = 1;
const CLONING: u32 = 2;
const PANICS: u32 = 3;

impl Clone for Slow {
    fn clone(&self) -> Self {
        if self.0.compare_exchange(PANICS, FREE, SeqCst, SeqCst).is_ok() {
            panic_quietly();
        }
        if self.0.compare_exchange(HELD_UP, CLONING, SeqCst, SeqCst).is_ok() {
            eventually("the clone goes on", || self.0.load(SeqCst) == FREE);
        }
        Self(self.0.clone())
    }
}

/// A broker whose only message has failed once, with the calls of its handler so far, and then has its letter replayed
/// with a payload in that state.
fn replaying(to: u32) -> (Broker<Slow>, Subscription<Slow>, Arc<AtomicU32>, Arc<AtomicU32>) {
    let broker = Broker::of::<Slow>().dead_letters(DeadLetterOptions::new()).build().expect("valid options");
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let fails_once = move |_: &Message<'_, Slow>| {
        if counted.fetch_add(1, SeqCst) == 0 { Err("not yet") } else { Ok(()) }
    };
    let subscription = broker.subscribe("a", fails_once).expect("valid");
    let state = Arc::new(AtomicU32::new(FREE));
    let _ = broker.publisher("a").expect("a topic").publish(Slow(state.clone())).expect("room");
    broker.drain(LIMIT).expect("it has failed");
    state.store(to, SeqCst);
    let letters = broker.dead_letters().expect("they are kept");
    let _ = letters.replay(&Selection::all(), Replay::to_subscription()).expect("there is one");
    (broker, subscription, calls, state)
}

#[test]
fn a_letter_that_cannot_be_copied_for_its_replay_is_not_waited_for() {
    let (broker, _subscription, calls, state) = replaying(PANICS);
    eventually("it has been tried", || state.load(SeqCst) == FREE);
    assert_eq!(broker.quiesce(LIMIT), Ok(()));
    assert_eq!(calls.load(SeqCst), 1);
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

#[test]
fn a_letter_that_is_being_copied_for_its_replay_is_waited_for() {
    for whole_broker in [true, false] {
        let (broker, subscription, calls, state) = replaying(HELD_UP);
        eventually("it is being copied", || state.load(SeqCst) == CLONING);
        let limit = MILLISECOND * 20;
        let timed_out = Err(DrainError::TimedOut { limit });
        if whole_broker {
            assert_eq!(broker.quiesce(limit), timed_out);
            state.store(FREE, SeqCst);
            assert_eq!(broker.quiesce(LIMIT), Ok(()));
            assert_eq!(calls.load(SeqCst), 2, "it is quiet once the letter was delivered");
        } else {
            assert_eq!(subscription.unsubscribe_drained(limit), timed_out);
            state.store(FREE, SeqCst);
        }
        let report = broker.shutdown(LIMIT).expect("no closure");
        assert!(report.ledger.is_balanced(), "{}", report.ledger);
    }
}

#[test]
fn a_handler_cannot_wait_for_itself_and_refuses_nobody() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (sender, answers) = channel();
    let weak = broker.downgrade();
    let _asking = broker
        .subscribe("a", move |_| {
            let _ = sender.send(weak.upgrade().map(|broker| broker.quiesce(LIMIT)));
        })
        .expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish(1).expect("room");
    assert_eq!(answers.recv_timeout(LIMIT), Ok(Some(Err(DrainError::WouldDeadlock))));
    assert!(publisher.publish(2).is_ok());
}

#[test]
fn a_subscription_leaves_after_what_is_queued() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (sender, handled) = channel();
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(3);
    let subscription = broker.subscription().name("leaving").pattern("a").retry(retry);
    let subscription = subscription
        .subscribe(move |message| {
            if message.attempt() < 3 {
                return Err("not yet");
            }
            let _ = sender.send(**message);
            Ok(())
        })
        .expect("valid");
    let _sibling = broker.subscribe("a", |_| ()).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..200 {
        let _ = publisher.publish(number).expect("room");
    }
    assert_eq!(subscription.unsubscribe_drained(LIMIT), Ok(()));
    assert_eq!(handled.try_iter().count(), 200);
    // Nothing is routed there any more, and others go on.
    assert_eq!(publisher.publish(200).expect("room").accepted, 1);
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    // It is past as soon as the last of its routes has been freed.
    let leaving = report.ledger.named("leaving").unwrap_or_default().delivered();
    assert_eq!(leaving + report.ledger.past.delivered(), 200);
    assert_eq!(report.ledger.total().count(Term::Unsubscribed), 0);
    assert_eq!(report.ledger.total().delivered(), 401);
}

#[test]
fn one_that_is_paused_leaves_when_its_time_is_up_and_says_what_it_dropped() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let subscription = broker.subscription().name("paused").pattern("a").subscribe(|_| ()).expect("valid");
    subscription.pause().expect("no child");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..3 {
        let _ = publisher.publish(number).expect("room");
    }
    let left = subscription.unsubscribe_drained(MILLISECOND * 20);
    assert!(matches!(left, Err(DrainError::Waiting { messages: 3, .. })), "{left:?}");
    assert_eq!(broker.match_count("a"), Ok(0));
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(report.ledger.total().count(Term::Unsubscribed), 3);
}

#[test]
fn in_a_handler_it_leaves_at_once_and_says_so() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (sender, answers) = channel();
    let own = Arc::new(Mutex::new(None));
    let held = own.clone();
    let subscription = broker.subscribe("a", move |_| {
        let subscription: Option<ringmain::broker::Subscription<u64>> = held.lock().expect("no panic").take();
        let _ = sender.send(subscription.map(|subscription| subscription.unsubscribe_drained(LIMIT)));
    });
    *own.lock().expect("no panic") = Some(subscription.expect("valid"));
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish(1).expect("room");
    assert_eq!(answers.recv_timeout(LIMIT), Ok(Some(Err(DrainError::WouldDeadlock))));
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}
