//! A consumer is replaced while it may be in a call of a handler: it goes on, or another does in its place. With a
//! whole broker, which only models can have without threads.

use ringmain::broker::unstarted::UnstartedConsumers;
use ringmain::broker::{Broker, Dispatcher, Subscription, Term};
use ringmain::clock::Clock;
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::Mutex;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;

/// What a handler has been called with.
type Calls = Arc<Mutex<Vec<u64>>>;

/// A broker whose only consumer may be replaced.
fn rescuable() -> (Broker<u64>, UnstartedConsumers<u64>) {
    let dispatcher = Dispatcher::new("only").capacity(4).wait(WaitStrategy::BusySpin).rescuable();
    let (clock, _time) = Clock::manual();
    Broker::of().dispatcher(dispatcher).clock(clock).build_unstarted().expect("valid options")
}

fn subscribe(broker: &Broker<u64>) -> (Subscription<u64>, Calls) {
    let calls = Calls::default();
    let noted = calls.clone();
    let subscription = broker.subscribe("a", move |message| noted.lock().push(**message));
    (subscription.expect("a pattern"), calls)
}

fn publish(broker: &Broker<u64>, messages: u64) {
    let mut publisher = broker.publisher("a").expect("a topic");
    for message in 0..messages {
        let _ = publisher.publish(message).expect("room");
    }
}

fn turns(consumers: &mut UnstartedConsumers<u64>, count: u32) {
    (0..count).for_each(|_| consumers.turn(4));
}

/// How many of a subscription's messages were delivered, and are in doubt.
fn fates(broker: &Broker<u64>, subscription: &Subscription<u64>) -> (u64, u64) {
    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger}");
    let account = ledger.named(subscription.name()).expect("it is there");
    (account.delivered(), account.count(Term::InDoubt))
}

/// Two subscriptions get two messages, each once and in order, whoever calls them; and a message is in doubt only if a
/// consumer was replaced during its call.
#[test]
fn each_message_is_handled_once_by_one_consumer_or_the_other() {
    explore("a rescue", Bound::Preemptions(2), || {
        let (broker, mut consumers) = rescuable();
        let all = [subscribe(&broker), subscribe(&broker)];
        publish(&broker, 2);
        let consumer = thread::spawn(move || {
            turns(&mut consumers, 3);
            consumers
        });
        let mut other = broker.replace_stuck();
        other.iter_mut().for_each(|other| turns(other, 3));
        let mut first = consumer.join().expect("the consumer panicked");
        // What the call that was replaced has sent back since.
        turns(other.as_mut().unwrap_or(&mut first), 4);
        let fates = all.each_ref().map(|(subscription, calls)| {
            assert!(!subscription.status().is_away, "its handler has not come back");
            assert_eq!(*calls.lock(), [0, 1], "called twice, not at all, or out of order");
            fates(&broker, subscription)
        });
        let in_doubt: u64 = fates.iter().map(|(_, in_doubt)| in_doubt).sum();
        assert_eq!(in_doubt, u64::from(other.is_some()), "settled and in doubt, or neither: {fates:?}");
        assert!(fates.iter().all(|(delivered, in_doubt)| delivered + in_doubt == 2), "{fates:?}");
        all.into_iter().for_each(|(subscription, _)| subscription.detach());
        fates
    })
    .saw_exactly([[(2, 0), (2, 0)], [(1, 1), (2, 0)], [(2, 0), (1, 1)]])
    .in_at_least(500);
}

/// Mail that comes beside a rescue reaches whoever goes on: here that somebody leaves, and somebody else subscribes.
#[test]
fn mail_beside_a_rescue_is_read_by_whoever_goes_on() {
    explore("mail beside a rescue", Bound::Preemptions(2), || {
        let (broker, mut consumers) = rescuable();
        let (leaving, _calls) = subscribe(&broker);
        publish(&broker, 1);
        let consumer = thread::spawn(move || {
            turns(&mut consumers, 2);
            consumers
        });
        let posting = broker.clone();
        let poster = thread::spawn(move || {
            drop(leaving);
            let newcomer = subscribe(&posting);
            publish(&posting, 1);
            newcomer
        });
        let mut other = broker.replace_stuck();
        let mut first = consumer.join().expect("the consumer panicked");
        let (newcomer, _calls) = poster.join().expect("the poster panicked");
        turns(other.as_mut().unwrap_or(&mut first), 4);
        let (delivered, in_doubt) = fates(&broker, &newcomer);
        assert_eq!(delivered + in_doubt, 1, "the newcomer was not heard of");
        let total = broker.audit().total();
        let ended = [Term::Delivered, Term::InDoubt, Term::Unsubscribed].map(|term| total.count(term));
        assert_eq!(ended[1], u64::from(other.is_some()), "settled and in doubt, or neither: {ended:?}");
        newcomer.detach();
        (ended, in_doubt == 1)
    })
    .saw_exactly([([2, 0, 0], false), ([1, 0, 1], false), ([1, 1, 0], false), ([0, 1, 1], true)])
    .in_at_least(500);
}
