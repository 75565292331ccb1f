//! Pausing: what waits, in which order it comes, what its bounds cost, and where it is counted.

mod broker_support;

use broker_support::{LIMIT, drain, eventually, next, panic_quietly, shut_down, within};
use ringmain::broker::{
    Backlog, Broker, Dispatcher, DrainError, PauseError, PublishOptions, Subscription, SubscriptionLedger,
    Term, WhenFull,
};
use ringmain::clock::Clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn broker() -> Broker<u64> {
    Broker::of().build().expect("valid options")
}

/// A subscription that sends what it gets.
fn sending(broker: &Broker<u64>, name: &str, backlog: Option<Backlog>) -> (Subscription<u64>, Receiver<u64>) {
    let (sender, received) = channel();
    let mut options = broker.subscription().name(name).pattern("a");
    if let Some(backlog) = backlog {
        options = options.backlog(backlog);
    }
    let subscription = options.subscribe(move |message| sender.send(**message)).expect("valid");
    (subscription, received)
}

fn publish(broker: &Broker<u64>, numbers: impl IntoIterator<Item = u64>) {
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in numbers {
        let _ = publisher.publish(number).expect("room");
    }
    drain(broker);
}

fn account(broker: &Broker<u64>, name: &str) -> SubscriptionLedger {
    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger}");
    ledger.subscriptions.into_iter().find(|account| account.name == name).expect("its account")
}

/// Waits until a subscription has nothing waiting, and returns what has come.
fn all(broker: &Broker<u64>, received: &Receiver<u64>) -> Vec<u64> {
    broker.drain(LIMIT).expect("nothing holds it up");
    received.try_iter().collect()
}

#[test]
fn what_comes_while_paused_waits_and_comes_in_order_before_what_comes_later() {
    let broker = broker();
    let (paused, received) = sending(&broker, "paused", None);
    let (_sibling, siblings) = sending(&broker, "sibling", None);
    publish(&broker, 0..10);
    paused.pause().expect("not forked");
    publish(&broker, 10..20);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!(siblings.try_iter().count(), 20, "another one is held up");
    assert_eq!(account(&broker, "paused").count(Term::Backlogged), 10);
    let status = paused.status();
    assert_eq!((status.is_paused, status.backlogged), (true, 10));
    paused.resume();
    publish(&broker, 20..30);
    assert_eq!(all(&broker, &received), (10..30).collect::<Vec<_>>());
    assert_eq!(paused.status(), Default::default());
    assert_eq!(account(&broker, "paused").delivered(), 30);
    let _ledger = shut_down(&broker);
}

#[test]
fn a_pause_inside_of_a_batch_stops_the_next_call_and_not_the_next_batch() {
    let broker = broker();
    let (sender, received) = channel();
    let slot: Arc<Mutex<Option<Subscription<u64>>>> = Arc::default();
    let own = slot.clone();
    let subscription = broker.subscribe("a", move |message| {
        if **message == 3
            && let Some(own) = &*own.lock().expect("no panic")
        {
            own.pause().expect("not forked");
        }
        sender.send(**message)
    });
    *slot.lock().expect("no panic") = Some(subscription.expect("valid"));
    // One batch, all of which is in the ring before the first is handled.
    let _ = broker.publisher("a").expect("a topic").publish_batch((0..10).collect::<Vec<_>>()).expect("room");
    drain(&broker);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    let subscription = slot.lock().expect("no panic").take().expect("it was put there");
    assert_eq!(subscription.status().backlogged, 6);
    subscription.resume();
    assert_eq!(all(&broker, &received), (4..10).collect::<Vec<_>>());
}

#[test]
fn pause_returns_when_the_running_call_has_ended_and_no_other_begins() {
    let broker = broker();
    let (in_call, has_ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (entered, ended) = (in_call.clone(), has_ended.clone());
    let (begun, has_begun) = channel();
    let subscription = broker.subscribe("a", move |_| {
        entered.store(true, Ordering::SeqCst);
        let _ = begun.send(());
        std::thread::sleep(Duration::from_millis(20));
        entered.store(false, Ordering::SeqCst);
        ended.fetch_add(1, Ordering::SeqCst);
    });
    let subscription = subscription.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for round in 0..10 {
        let _ = publisher.publish(2 * round).expect("room");
        let _ = publisher.publish(2 * round + 1).expect("room");
        next(&has_begun);
        subscription.pause().expect("not forked");
        assert!(!in_call.load(Ordering::SeqCst), "a call runs");
        let calls = has_ended.load(Ordering::SeqCst);
        drain(&broker);
        assert_eq!(has_ended.load(Ordering::SeqCst), calls, "a call has begun");
        subscription.resume();
        broker.drain(LIMIT).expect("it goes on");
        while has_begun.try_recv().is_ok() {}
    }
    assert_eq!(has_ended.load(Ordering::SeqCst), 20);
}

#[test]
fn pauses_and_resumptions_that_race_lose_nothing_double_nothing_and_keep_the_order() {
    const MESSAGES: u64 = 20_000;
    let broker = broker();
    let (subscription, received) = sending(&broker, "raced", Some(Backlog::new(1 << 20).bytes(1 << 30)));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    subscription.pause().expect("not forked");
                    subscription.resume();
                }
            });
        }
        let mut publisher = broker.publisher("a").expect("a topic");
        for number in 0..MESSAGES {
            let _ = publisher.publish(number).expect("room");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    subscription.resume();
    assert_eq!(all(&broker, &received), (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(account(&broker, "raced").delivered(), MESSAGES);
    assert_eq!(subscription.status(), Default::default());
}

/// Pauses, publishes 150 numbers to a backlog of 100, and resumes. Returns what is delivered, and how many are dropped.
fn overfilled(when_full: WhenFull) -> (Vec<u64>, u64) {
    let broker = broker();
    let (subscription, received) = sending(&broker, "full", Some(Backlog::new(100).when_full(when_full)));
    let (_sibling, siblings) = sending(&broker, "sibling", None);
    subscription.pause().expect("not forked");
    publish(&broker, 0..150);
    assert_eq!(subscription.status().backlogged, 100);
    subscription.resume();
    let delivered = all(&broker, &received);
    assert_eq!(siblings.try_iter().collect::<Vec<_>>(), (0..150).collect::<Vec<_>>());
    (delivered, account(&broker, "full").count(Term::Overflow))
}

#[test]
fn a_full_backlog_drops_the_newest_or_the_oldest_as_it_was_told() {
    assert_eq!(overfilled(WhenFull::DropNewest), ((0..100).collect(), 50));
    assert_eq!(overfilled(WhenFull::DropOldest), ((50..150).collect(), 50));
}

#[test]
fn the_bound_in_bytes_holds_and_one_message_that_is_too_large_costs_no_other() {
    let broker: Broker = Broker::builder().build().expect("valid options");
    let (sender, received) = channel();
    let backlog = Backlog::new(1_000).bytes(32 * 1024).when_full(WhenFull::DropOldest);
    let subscription = broker.subscription().name("a").pattern("a").backlog(backlog);
    let subscription = subscription.subscribe(move |message| sender.send(message.payload().to_vec()[0]));
    let subscription = subscription.expect("valid");
    subscription.pause().expect("not forked");
    let mut publisher = broker.publisher("a").expect("a topic");
    for (first, size) in
        [(1, 1_000), (2, 29_000), (3, 1_000), (4, 32_000), (5, 1_000), (6, 30_000), (7, 33_000)]
    {
        let _ = publisher.publish(vec![first; size]).expect("room");
    }
    drain(&broker);
    subscription.resume();
    broker.drain(LIMIT).expect("it goes on");
    // 4 fits only when 1 to 3 have gone, 5 only when 4 has; 6 fits beside 5, and 7 fits nowhere.
    let delivered: Vec<u8> = received.try_iter().collect();
    assert_eq!(delivered, [5, 6]);
    let ledger = shut_down(&broker);
    assert_eq!(ledger.total().count(Term::Overflow), 5);
}

#[test]
fn what_has_expired_makes_room_and_is_counted_as_expired() {
    let (clock, time) = Clock::manual();
    let broker: Broker<u64> = Broker::of().clock(clock.clone()).build().expect("valid options");
    let (subscription, received) = sending(&broker, "a", Some(Backlog::new(100)));
    subscription.pause().expect("not forked");
    let mut publisher = broker.publisher("a").expect("a topic");
    let short = PublishOptions::new().expires_at(clock.now().after(Duration::from_secs(1)));
    for number in 0..100 {
        let _ = publisher.publish_with(number, &short).expect("room");
    }
    drain(&broker);
    time.advance(Duration::from_secs(2));
    publish(&broker, 100..200);
    let before = account(&broker, "a");
    assert_eq!((before.count(Term::Expired), before.count(Term::Backlogged)), (100, 100));
    subscription.resume();
    assert_eq!(all(&broker, &received), (100..200).collect::<Vec<_>>());
    let account = account(&broker, "a");
    assert_eq!((account.count(Term::Expired), account.delivered(), account.dropped()), (100, 100, 0));
}

#[test]
fn what_expires_while_it_waits_is_not_delivered() {
    let (clock, time) = Clock::manual();
    let broker: Broker<u64> = Broker::of().clock(clock.clone()).build().expect("valid options");
    let (subscription, received) = sending(&broker, "a", None);
    subscription.pause().expect("not forked");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..10 {
        let life = Duration::from_secs(1 + number % 2);
        let options = PublishOptions::new().expires_at(clock.now().after(life));
        let _ = publisher.publish_with(number, &options).expect("room");
    }
    drain(&broker);
    time.advance(Duration::from_secs(1));
    subscription.resume();
    assert_eq!(all(&broker, &received), [1, 3, 5, 7, 9]);
    assert_eq!(account(&broker, "a").count(Term::Expired), 5);
}

#[test]
fn filters_are_asked_when_a_message_comes_and_what_they_do_not_want_does_not_wait() {
    let broker = broker();
    let (sender, received) = channel();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let subscription = broker.subscription().name("a").pattern("a").filter(move |message| {
        count.fetch_add(1, Ordering::Relaxed);
        **message % 2 == 0
    });
    let subscription = subscription.subscribe(move |message| sender.send(**message)).expect("valid");
    subscription.pause().expect("not forked");
    publish(&broker, 0..10);
    assert_eq!(subscription.status().backlogged, 5);
    subscription.resume();
    assert_eq!(all(&broker, &received), [0, 2, 4, 6, 8]);
    assert_eq!((asked.load(Ordering::Relaxed), account(&broker, "a").count(Term::Filtered)), (10, 5));
}

#[test]
fn what_waits_when_a_subscription_ends_is_dropped_and_counted_before_unsubscribe_returns() {
    let broker = broker();
    let (subscription, _received) = sending(&broker, "a", None);
    subscription.pause().expect("not forked");
    publish(&broker, 0..10);
    // The routes that brought the messages are gone, and still the record is there to count with.
    subscription.unsubscribe();
    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger}");
    assert_eq!(ledger.total().count(Term::Unsubscribed), 10);
    eventually("nothing is kept of it", || broker.audit().subscriptions.is_empty());
    let ledger = shut_down(&broker);
    assert_eq!((ledger.past.routed, ledger.past.count(Term::Unsubscribed)), (10, 10));
}

#[test]
fn what_waits_when_the_broker_shuts_down_is_handed_back_at_once_in_order() {
    let broker = broker();
    let (subscription, _received) = sending(&broker, "paused", None);
    subscription.pause().expect("not forked");
    publish(&broker, 0..10);
    let started = Instant::now();
    let report = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert!(started.elapsed() < LIMIT / 2, "it waits for what nobody resumes");
    let back: Vec<_> = report.undelivered.iter().map(|one| one.message.payload).collect();
    assert_eq!(back, (0..10).collect::<Vec<_>>());
    assert!(report.undelivered.iter().all(|one| *one.subscriptions == [Box::from("paused")]));
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(report.ledger.total().count(Term::Undelivered), 10);
}

#[test]
fn a_shutdown_lets_a_resumed_subscription_catch_up() {
    let broker = broker();
    let (subscription, received) = sending(&broker, "a", None);
    subscription.pause().expect("not forked");
    publish(&broker, 0..1_000);
    subscription.resume();
    let ledger = shut_down(&broker);
    assert_eq!(received.try_iter().collect::<Vec<_>>(), (0..1_000).collect::<Vec<_>>());
    assert_eq!(ledger.total().delivered(), 1_000);
}

/// A door that a handler waits at until it is opened.
fn door() -> (Sender<()>, impl Fn() + Send + 'static) {
    let (open, opened) = channel::<()>();
    (open, move || _ = opened.recv())
}

#[test]
fn what_waits_beside_a_stuck_handler_is_handed_back_and_the_stuck_call_is_named() {
    for is_stuck_in_what_waited in [false, true] {
        let broker = broker();
        let (paused, _received) = sending(&broker, "paused", None);
        let (open, pass) = door();
        let (entered, has_entered) = channel();
        let stuck = broker.subscription().name("stuck").pattern("b").subscribe(move |_| {
            let _ = entered.send(());
            pass();
        });
        let stuck = stuck.expect("valid");
        paused.pause().expect("not forked");
        publish(&broker, 0..5);
        if is_stuck_in_what_waited {
            stuck.pause().expect("not forked");
        }
        let mut publisher = broker.publisher("b").expect("a topic");
        let _ = publisher.publish(7).expect("room");
        let _ = publisher.publish(8).expect("room");
        stuck.resume();
        next(&has_entered);
        let report = broker.shutdown(Duration::from_millis(300)).expect("not inside of a closure");
        assert!(report.ledger.is_balanced(), "{}", report.ledger);
        let [abandoned] = &report.abandoned[..] else { panic!("{:?}", report.abandoned) };
        assert_eq!(abandoned.subscription, "stuck");
        assert_eq!(abandoned.topic.as_ref().map(|topic| topic.as_str()), Some("b"), "{abandoned:?}");
        assert!(abandoned.message.is_some());
        let mut back: Vec<_> = report.undelivered.iter().map(|one| one.message.payload).collect();
        back.sort_unstable();
        assert_eq!(back, [0, 1, 2, 3, 4, 8]);
        let total = report.ledger.total();
        assert_eq!((total.count(Term::InDoubt), total.count(Term::Undelivered)), (1, 6));
        assert_eq!(total.count(Term::Backlogged), 0);
        drop(open);
    }
}

#[test]
fn a_drain_says_which_paused_subscription_it_waits_for() {
    let broker = broker();
    let (subscription, _received) = sending(&broker, "paused", None);
    subscription.pause().expect("not forked");
    publish(&broker, 0..3);
    let limit = Duration::from_millis(20);
    let subscriptions = vec!["paused".to_owned()];
    assert_eq!(broker.drain(limit), Err(DrainError::Waiting { subscriptions, messages: 3, limit }));
    subscription.resume();
    assert_eq!(broker.drain(LIMIT), Ok(()));
}

#[test]
fn a_drain_waits_for_the_call_with_the_last_that_has_waited() {
    let broker = broker();
    let (open, pass) = door();
    let (entered, has_entered) = channel();
    let subscription = broker.subscribe("a", move |_| {
        let _ = entered.send(());
        pass();
    });
    let subscription = subscription.expect("valid");
    subscription.pause().expect("not forked");
    publish(&broker, [1]);
    subscription.resume();
    next(&has_entered);
    let limit = Duration::from_millis(50);
    assert_eq!(broker.drain(limit), Err(DrainError::TimedOut { limit }));
    drop(open);
    assert_eq!(broker.drain(LIMIT), Ok(()));
    assert_eq!(subscription.delivered(), 1);
}

#[test]
fn a_pause_while_it_catches_up_holds_before_the_next_call() {
    let broker = broker();
    let (entered, has_entered) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let subscription = broker.subscribe("a", move |message| {
        let _ = entered.send(**message);
        let _ = may_go_on.recv();
    });
    let subscription = subscription.expect("valid");
    let (sibling, siblings) = channel();
    let _sibling = broker.subscribe("b", move |message| sibling.send(**message)).expect("valid");
    subscription.pause().expect("not forked");
    publish(&broker, 0..10);
    subscription.resume();
    for number in 0..3 {
        assert_eq!(next(&has_entered), number);
        // It holds when the call ends, which waits for this thread.
        assert!(subscription.pause_timeout(Duration::ZERO).is_err());
        go_on.send(()).expect("the handler is there");
        subscription.pause().expect("not forked");
        // The consumer goes on to others, which it would not from inside of a call.
        let _ = broker.publisher("b").expect("a topic").publish(number).expect("room");
        assert_eq!(next(&siblings), number);
        assert_eq!((has_entered.try_iter().count(), subscription.status().backlogged), (0, 9 - number));
        subscription.resume();
    }
    assert_eq!(next(&has_entered), 3);
    drop(go_on);
}

#[test]
fn a_pause_beside_a_stuck_handler_gives_up_in_time_and_holds_all_the_same() {
    let broker = broker();
    let (subscription, received) = sending(&broker, "a", None);
    let (open, pass) = door();
    let (entered, has_entered) = channel();
    let _stuck = broker.subscribe("b", move |_| {
        let _ = entered.send(());
        pass();
    });
    let _ = broker.publisher("b").expect("a topic").publish(0).expect("room");
    next(&has_entered);
    let limit = Duration::from_millis(10);
    for _ in 0..1_000 {
        // Nothing piles up: see `Mailbox::set_paused`.
        subscription.resume();
        let _ = subscription.pause_timeout(Duration::ZERO);
    }
    let timed_out = PauseError::TimedOut { subscription: "a".to_owned(), limit };
    assert_eq!(subscription.pause_timeout(limit), Err(timed_out));
    drop(open);
    publish(&broker, 0..3);
    assert_eq!((received.try_iter().count(), subscription.status().backlogged), (0, 3));
}

/// A payload whose copies panic, or hang, as it is told.
#[derive(Default)]
struct Fragile(u64);

static COPIES: AtomicU64 = AtomicU64::new(0);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        COPIES.fetch_add(1, Ordering::SeqCst);
        if self.0 % 2 == 1 {
            panic_quietly();
        }
        Self(self.0)
    }
}

#[test]
fn a_message_whose_copy_panics_is_counted_as_failed_and_the_others_wait() {
    let broker: Broker<Fragile> = Broker::of().build().expect("valid options");
    let (sender, received) = channel();
    let subscription = broker.subscribe("a", move |message| sender.send(message.0)).expect("valid");
    subscription.pause().expect("not forked");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..10 {
        let _ = publisher.publish(Fragile(number)).expect("room");
    }
    drain(&broker);
    subscription.resume();
    broker.drain(LIMIT).expect("it goes on");
    assert_eq!(received.try_iter().collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
    let ledger = shut_down(&broker);
    let total = ledger.total();
    assert_eq!((total.count(Term::Failed), total.failures(), total.delivered()), (5, 5, 5));
}

#[test]
fn a_handler_that_panics_with_what_has_waited_costs_that_message_alone() {
    let broker = broker();
    let (sender, received) = channel();
    let subscription = broker.subscription().name("a").pattern("a").subscribe(move |message| {
        if **message % 3 == 0 {
            panic_quietly();
        }
        sender.send(**message)
    });
    let subscription = subscription.expect("valid");
    subscription.pause().expect("not forked");
    publish(&broker, 0..10);
    subscription.resume();
    assert_eq!(all(&broker, &received), [1, 2, 4, 5, 7, 8]);
    assert_eq!(account(&broker, "a").count(Term::Failed), 4);
}

#[test]
fn a_publish_in_a_handler_of_what_has_waited_names_its_parent_and_one_that_would_deadlock_is_refused() {
    let broker: Broker<u64> =
        Broker::of().dispatcher(Dispatcher::new("one").capacity(2)).build().expect("valid options");
    let (sender, outcomes) = channel();
    let weak = broker.downgrade();
    let subscription = broker.subscribe("a", move |message| {
        let broker = weak.upgrade().expect("it lives");
        let mut publisher = broker.publisher("b").expect("a topic");
        // More than the ring holds, which this consumer alone can free.
        let refused = (0..5).find_map(|number| publisher.publish(number).err());
        let _ = sender.send((message.id(), refused.map(|error| error.kind().clone())));
    });
    let subscription = subscription.expect("valid");
    let (parents, parent) = channel();
    let _behind = broker.subscribe("b", move |message| parents.send(message.parent()));
    subscription.pause().expect("not forked");
    publish(&broker, [1]);
    subscription.resume();
    let (id, refused) = within("it does not hang", move || next(&outcomes));
    assert_eq!(refused, Some(broker_support::would_deadlock("one")));
    assert_eq!(next(&parent), Some(id));
}

#[test]
fn others_are_delivered_to_while_one_catches_up() {
    let broker = broker();
    let (slow, handled) = channel();
    let subscription = broker.subscribe("a", move |message| {
        std::thread::sleep(Duration::from_millis(1));
        slow.send(**message)
    });
    let subscription = subscription.expect("valid");
    subscription.pause().expect("not forked");
    publish(&broker, 0..1_000);
    let (sender, received) = channel();
    let _other = broker.subscribe("b", move |message| sender.send(**message));
    subscription.resume();
    next(&handled);
    let _ = broker.publisher("b").expect("a topic").publish(7).expect("room");
    assert_eq!(next(&received), 7);
    let behind = subscription.status();
    assert!(behind.backlogged > 500, "it comes only when the other has caught up: {behind:?}");
}

/// A payload that hangs when it is dropped, if it is told to.
#[derive(Clone, Default)]
struct Heavy(u64, Option<Arc<Mutex<Receiver<()>>>>);

impl Drop for Heavy {
    fn drop(&mut self) {
        if let Some(door) = self.1.take() {
            let _ = door.lock().expect("no panic").recv();
        }
    }
}

#[test]
fn what_gives_way_hangs_when_dropped_and_costs_no_other() {
    let broker: Broker<Heavy> = Broker::of().build().expect("valid options");
    let backlog = Backlog::new(2).when_full(WhenFull::DropOldest);
    let subscription = broker.subscription().name("paused").pattern("a").backlog(backlog);
    let subscription = subscription.subscribe(|_| ()).expect("valid");
    subscription.pause().expect("not forked");
    let (open, door) = channel::<()>();
    let door = Arc::new(Mutex::new(door));
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..5 {
        // The oldest hangs, whoever drops a copy of it.
        let door = (number == 0).then(|| door.clone());
        let _ = publisher.publish(Heavy(number, door)).expect("room");
    }
    eventually("the oldest gives way", || broker.audit().total().count(Term::Overflow) == 1);
    let report = broker.shutdown(Duration::from_millis(300)).expect("not inside of a closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let total = report.ledger.total();
    assert_eq!((total.count(Term::Overflow), total.count(Term::Undelivered)), (1, 4));
    let mut back: Vec<_> = report.undelivered.iter().map(|one| one.message.payload.0).collect();
    back.sort_unstable();
    assert_eq!(back, [1, 2, 3, 4]);
    drop(open);
}

#[test]
fn what_waits_is_handed_back_before_what_was_still_in_the_ring() {
    let broker = broker();
    let (paused, _received) = sending(&broker, "paused", None);
    let (open, pass) = door();
    let (entered, has_entered) = channel();
    let slow = broker.subscription().name("slow").pattern("b").subscribe(move |_| {
        let _ = entered.send(());
        pass();
    });
    let _slow = slow.expect("valid");
    paused.pause().expect("not forked");
    publish(&broker, 0..5);
    let mut slowly = broker.publisher("b").expect("a topic");
    let _ = slowly.publish(8).expect("room");
    next(&has_entered);
    // All of it is in the ring when the consumer looks again.
    let _ = slowly.publish(9).expect("room");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 5..10 {
        let _ = publisher.publish(number).expect("room");
    }
    open.send(()).expect("the handler is there");
    next(&has_entered);
    let report = std::thread::scope(|scope| {
        let shutdown =
            scope.spawn(|| broker.shutdown(Duration::from_millis(400)).expect("not inside of a closure"));
        // After the consumer has been stopped; the order is the same where it is too late, and it is taken over.
        std::thread::sleep(Duration::from_millis(330));
        drop(open);
        shutdown.join().expect("no panic")
    });
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let back: Vec<_> = report.undelivered.iter().map(|one| one.message.payload).collect();
    assert_eq!(back, (0..10).collect::<Vec<_>>(), "{:?}", report.abandoned);
}

#[test]
fn a_pause_says_so_at_once_also_when_the_consumer_has_gone() {
    let broker = broker();
    let (subscription, _received) = sending(&broker, "a", None);
    let _ledger = shut_down(&broker);
    subscription.pause().expect("nobody is called any more");
    assert!(subscription.status().is_paused);
}
