//! Keys: what is handled once however often it comes, and what gives way to its newer self.

mod broker_support;

use broker_support::panic_quietly;
use broker_support::tried::{MILLISECOND, Tried, once, retry, with_store};
use ringmain::broker::dead_letters::{Replay, Selection};
use ringmain::broker::{
    Backlog, Breaker, Broker, Feature, Idempotency, PublishOptions, SubscribeError, Term, Together, WhenFull,
    key,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn duplicates(tried: &Tried) -> u64 {
    tried.account().count(Term::Duplicate)
}

fn conflated(tried: &Tried) -> u64 {
    tried.account().count(Term::Conflated)
}

#[test]
fn fifty_keys_three_times_are_fifty_deliveries() {
    let tried = Tried::new(|options| options.idempotent(once()), |_, _| Ok::<_, &str>(()));
    tried.publish((0..150).map(|number| number % 50));
    assert_eq!(tried.numbers(), (0..50).collect::<Vec<_>>());
    assert_eq!((tried.account().delivered(), duplicates(&tried)), (50, 100));
    let _report = tried.shut_down();
}

#[test]
fn a_first_attempt_that_fails_leaves_the_key_to_its_own_retry() {
    let options =
        |options: ringmain::broker::SubscriptionBuilder<u64>| options.idempotent(once()).retry(retry(2));
    let fails_first = |_, attempt| if attempt == 1 { Err("not yet") } else { Ok(()) };
    let tried = Tried::on(with_store, options, fails_first);
    tried.publish((0..150).map(|number| number % 50));
    tried.advance(SECOND);
    assert_eq!((tried.calls().len(), tried.account().delivered(), duplicates(&tried)), (100, 50, 100));
    let _report = tried.shut_down();
}

#[test]
fn without_dead_letters_a_duplicate_is_a_second_chance_and_one_of_both_is_handled() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let sick = is_sick.clone();
    let handler = move |_, _| if sick.load(Ordering::Relaxed) { Err("it is sick") } else { Ok(()) };
    let tried = Tried::new(|options| options.idempotent(once()).retry(retry(5)), handler);
    tried.publish([7]);
    is_sick.store(false, Ordering::Relaxed);
    tried.publish([7]);
    assert_eq!(tried.calls().len(), 2);
    tried.advance(SECOND);
    assert_eq!(tried.calls(), [], "the one that waited is a duplicate by now");
    assert_eq!((tried.account().delivered(), duplicates(&tried)), (1, 1));
    let _report = tried.shut_down();
}

#[test]
fn a_message_that_expires_where_it_waits_gives_its_own_key_back() {
    let tried = Tried::on(with_store, |options| options.idempotent(once()), |_, _| Ok::<_, &str>(()));
    tried.subscription.pause().expect("no child");
    tried.run();
    let brief = PublishOptions::new().expires_after(MILLISECOND);
    let mut publisher = tried.broker.publisher("a").expect("a topic");
    let _ = publisher.publish_with(7, &brief).expect("room");
    // The last key that was asked for is another's.
    tried.publish([8]);
    tried.advance(MILLISECOND);
    tried.publish([7, 8]);
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.numbers(), [8, 7]);
    assert_eq!((tried.account().count(Term::Expired), duplicates(&tried)), (1, 1));
    let _report = tried.shut_down();
}

#[test]
fn it_may_be_told_that_a_duplicate_is_lost_with_the_first() {
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        options.idempotent(once().may_lose()).retry(retry(2))
    };
    let tried = Tried::new(options, |_, _| Err::<(), _>("always"));
    tried.publish([7, 7, 7]);
    assert_eq!((tried.calls().len(), duplicates(&tried)), (1, 2));
    tried.advance(SECOND);
    assert_eq!(tried.account().count(Term::Failed), 1);
    let _report = tried.shut_down();
}

#[test]
fn what_has_failed_for_good_may_come_again_and_a_replay_is_not_asked() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let sick = is_sick.clone();
    let handler = move |_, _| if sick.load(Ordering::Relaxed) { Err("it is sick") } else { Ok(()) };
    let tried = Tried::on(with_store, |options| options.idempotent(once()).retry(retry(2)), handler);
    tried.publish([7]);
    tried.advance(SECOND);
    assert_eq!(tried.account().count(Term::DeadLettered), 1);
    is_sick.store(false, Ordering::Relaxed);
    tried.publish([7, 7]);
    assert_eq!((tried.calls().len(), duplicates(&tried)), (3, 1));
    let letters = tried.broker.dead_letters().expect("it keeps them");
    let _replaying = letters.replay(&Selection::all(), Replay::to_subscription()).expect("it is there");
    tried.run();
    tried.advance(SECOND);
    assert_eq!((tried.calls().len(), letters.count(&Selection::all())), (1, 0), "somebody wants it handled");
    let _report = tried.shut_down();
}

#[test]
fn what_was_handled_in_a_replay_is_not_handled_again() {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let tried = Tried::on(
        with_store,
        |options| options.idempotent(once()),
        move |_, _| if is_mended.load(Ordering::Relaxed) { Ok(()) } else { Err("not yet") },
    );
    tried.publish([7]);
    mended.store(true, Ordering::Relaxed);
    let letters = tried.broker.dead_letters().expect("letters are kept");
    let _replaying = letters.replay(&Selection::all(), Replay::to_subscription()).expect("it is there");
    tried.run();
    assert_eq!((tried.account().delivered(), letters.counts().held), (1, 0));

    tried.publish([7]); // its sender repeats it
    assert_eq!((tried.account().delivered(), duplicates(&tried)), (1, 1));
    let _report = tried.shut_down();
}

#[test]
fn what_waits_has_its_key_and_gives_it_back_when_it_gives_way() {
    let backlog = Backlog::new(2).when_full(WhenFull::DropOldest);
    let tried = Tried::new(
        |options| options.idempotent(once().may_lose()).backlog(backlog),
        |_, _| Ok::<_, &str>(()),
    );
    tried.subscription.pause().expect("no child");
    tried.run();
    tried.publish([1, 1, 2, 3]);
    assert_eq!(duplicates(&tried), 1);
    // The first has given way to the third: it may come again.
    tried.publish([1]);
    assert_eq!((duplicates(&tried), tried.account().count(Term::Overflow)), (1, 2));
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.numbers(), [3, 1]);
    tried.publish([1, 2, 3]);
    assert_eq!((tried.numbers(), duplicates(&tried)), (vec![2], 3));
    let _report = tried.shut_down();
}

#[test]
fn a_key_is_forgotten_after_its_time_and_when_there_are_too_many() {
    let once = once().keys(3).remember_for(SECOND * 10);
    let tried = Tried::new(|options| options.idempotent(once), |_, _| Ok::<_, &str>(()));
    tried.publish([1, 2, 3, 1]);
    assert_eq!((tried.calls().len(), duplicates(&tried)), (3, 1));
    tried.publish([4, 1]);
    assert_eq!(tried.numbers(), [4, 1], "the oldest was forgotten");
    tried.advance(SECOND * 10);
    tried.publish([4]);
    assert_eq!((tried.numbers(), duplicates(&tried)), (vec![], 2));
    tried.advance(MILLISECOND);
    tried.publish([4]);
    assert_eq!(tried.numbers(), [4]);
    let _report = tried.shut_down();
}

#[test]
fn a_message_without_a_key_is_delivered_each_time() {
    let once = Idempotency::by(key::of(|message| (**message > 0).then_some(**message)));
    let tried = Tried::new(|options| options.idempotent(once), |_, _| Ok::<_, &str>(()));
    tried.publish([0, 0, 1, 1]);
    assert_eq!(tried.numbers(), [0, 0, 1]);
    let _report = tried.shut_down();
}

#[test]
fn what_a_filter_does_not_want_is_not_remembered() {
    let wants = Arc::new(AtomicBool::new(false));
    let wanted = wants.clone();
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        options.idempotent(once()).filter(move |_| wanted.load(Ordering::Relaxed))
    };
    let tried = Tried::new(options, |_, _| Ok::<_, &str>(()));
    tried.publish([7]);
    wants.store(true, Ordering::Relaxed);
    tried.publish([7, 7]);
    assert_eq!((tried.numbers(), tried.account().count(Term::Filtered), duplicates(&tried)), (vec![7], 1, 1));
    let _report = tried.shut_down();
}

#[test]
fn a_key_that_panics_fails_its_own_delivery_and_says_nothing_of_the_handler() {
    let (sender, told) = channel();
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        let key = key::of(|message: &ringmain::message::Message<'_, u64>| {
            if **message < 3 {
                panic_quietly();
            }
            Some(**message)
        });
        let told = move |_: &ringmain::message::Message<'_, u64>,
                         _: &ringmain::broker::FailedDelivery<'_>| {
            let _ = sender.send(());
        };
        options.idempotent(Idempotency::by(key)).breaker(Breaker::consecutive(2)).on_error(told)
    };
    let tried = Tried::new(options, |_, _| Ok::<_, &str>(()));
    tried.publish([0, 1, 2, 3, 3]);
    assert_eq!((tried.numbers(), tried.account().failures(), duplicates(&tried)), (vec![3], 3, 1));
    assert_eq!(told.try_iter().count(), 3);
    let _report = tried.shut_down();
}

#[test]
fn a_header_is_a_key_and_what_lacks_it_has_none() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (sender, handled) = channel();
    let subscription = broker.subscription().pattern("a").idempotent(Idempotency::by(key::header("order")));
    let _subscription = subscription.subscribe(move |message| sender.send(**message)).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for (number, order) in [(1, Some("x")), (2, Some("y")), (3, Some("x")), (4, None), (5, None)] {
        let mut options = PublishOptions::new();
        if let Some(order) = order {
            options = options.header("order", order).expect("short");
        }
        let _ = publisher.publish_with(number, &options).expect("room");
    }
    let report = broker.shutdown(SECOND * 30).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(handled.try_iter().collect::<Vec<_>>(), [1, 2, 4, 5]);
}

#[test]
fn a_number_of_keys_that_cannot_be_is_refused() {
    let broker = Broker::of::<u64>().build().expect("valid");
    for keys in [0, (1 << 24) + 1] {
        let refused = broker.subscription().pattern("a").idempotent(once().keys(keys)).subscribe(|_| ());
        assert!(matches!(refused, Err(SubscribeError::Keys { .. })), "{keys}");
    }
}

/// Messages whose numbers are the same but for their tens.
fn by_last_digit() -> key::KeyBy<u64> {
    key::of(|message| Some(**message % 10))
}

#[test]
fn of_a_thousand_with_ten_keys_the_last_ten_are_delivered_in_order() {
    let tried = Tried::new(|options| options.conflate(by_last_digit()), |_, _| Ok::<_, &str>(()));
    let mut publisher = tried.broker.publisher("a").expect("a topic");
    for number in 0..1_000 {
        let _ = publisher.publish(number).expect("room");
    }
    tried.run();
    assert_eq!(tried.numbers(), (990..1_000).collect::<Vec<_>>());
    assert_eq!((tried.account().delivered(), conflated(&tried)), (10, 990));
    let _report = tried.shut_down();
}

#[test]
fn a_newer_value_takes_the_place_of_the_older_and_all_keys_have_their_turn() {
    let tried = Tried::new(|options| options.conflate(by_last_digit()), |_, _| Ok::<_, &str>(()));
    tried.subscription.pause().expect("no child");
    tried.run();
    tried.publish([1, 2, 3, 12, 11, 21]);
    assert_eq!(tried.account().count(Term::Backlogged), 3);
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.numbers(), [21, 12, 3]);
    // A key that left comes last.
    tried.subscription.pause().expect("no child");
    tried.run();
    tried.publish([4, 1]);
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.numbers(), [4, 1]);
    let _report = tried.shut_down();
}

#[test]
fn a_handler_that_is_slow_gets_the_newest_after_each_call() {
    let simulation = Broker::of().simulate().expect("valid");
    let broker = simulation.broker();
    let (sender, handled) = channel();
    let own = broker.clone();
    let subscription = broker.subscription().pattern("a").conflate(by_last_digit());
    let _subscription = subscription
        .subscribe(move |message| {
            let _ = sender.send(**message);
            // Meanwhile newer ones come.
            if **message < 30 {
                let mut publisher = own.publisher("a").expect("a topic");
                for newer in [**message + 5, **message + 10] {
                    let _ = publisher.publish(newer).expect("room");
                }
            }
        })
        .expect("valid");
    let mut simulation = simulation;
    let _ = broker.publisher("a").expect("a topic").publish(0).expect("room");
    simulation.run();
    let handled: Vec<u64> = handled.try_iter().collect();
    // After each call, first the ring: 5 and 10; then 5 makes 10 and 15, of which 10 takes the place of 10.
    assert_eq!(handled[..3], [0, 5, 10], "{handled:?}");
    let last: BTreeMap<u64, u64> = handled.iter().map(|number| (number % 10, *number)).collect();
    assert!(last.values().all(|&number| number >= 30), "{handled:?}");
    let report = simulation.shutdown();
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

#[test]
fn a_ring_that_is_never_empty_does_not_keep_the_handler_waiting_for_ever() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (sender, handled) = channel();
    let subscription = broker.subscription().pattern("a").conflate(key::of(|_| Some(())));
    let _subscription = subscription.subscribe(move |message| sender.send(**message)).expect("valid");
    let is_done = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..2)
        .map(|_| {
            let (broker, is_done) = (broker.clone(), is_done.clone());
            std::thread::spawn(move || {
                let mut publisher = broker.publisher("a").expect("a topic");
                while !is_done.load(Ordering::Relaxed) {
                    let _ = publisher.publish(1);
                }
            })
        })
        .collect();
    let deadline = Instant::now() + SECOND * 30;
    for call in 0..20 {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(handled.recv_timeout(left).is_ok(), "call {call} did not come");
    }
    is_done.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.join().expect("no panic");
    }
    let report = broker.shutdown(SECOND * 30).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

#[test]
fn a_newer_value_takes_the_place_of_one_that_waits_to_be_tried_again() {
    let fails_below_ten = |number, _| if number < 10 { Err("too small") } else { Ok(()) };
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        options.conflate(by_last_digit()).retry(retry(5))
    };
    let tried = Tried::new(options, fails_below_ten);
    tried.publish([1, 2]);
    assert_eq!(tried.numbers(), [1, 2]);
    tried.publish([11]);
    assert_eq!(tried.numbers(), [11], "it does not wait for the delay of the other");
    tried.advance(MILLISECOND * 100);
    assert_eq!(tried.numbers(), [2], "what was replaced is not tried again");
    assert_eq!(conflated(&tried), 1);
    let _report = tried.shut_down();
}

#[test]
fn in_order_a_newer_value_replaces_the_head_and_its_attempts_start_anew() {
    let fails_below_ten = |number, _| if number < 10 { Err("too small") } else { Ok(()) };
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        options.conflate(by_last_digit()).retry(retry(5).in_order()).backlog(Backlog::new(1))
    };
    let tried = Tried::new(options, fails_below_ten);
    tried.publish([1]);
    assert_eq!(tried.numbers(), [1]);
    tried.publish([12]);
    // The backlog is full: what takes the head's place needs none.
    tried.publish([11]);
    assert_eq!(tried.numbers(), [0; 0], "all wait for the head");
    tried.advance(MILLISECOND * 100);
    let calls: Vec<_> = tried.calls().iter().map(|call| (call.number, call.attempt)).collect();
    assert_eq!(calls, [(11, 1), (12, 1)]);
    assert_eq!((conflated(&tried), tried.account().count(Term::Overflow)), (1, 0));
    let _report = tried.shut_down();
}

#[test]
fn what_fails_while_a_newer_value_waits_is_not_tried_again() {
    let simulation = Broker::of().simulate().expect("valid");
    let broker = simulation.broker();
    let (sender, handled) = channel();
    let own = broker.clone();
    let subscription = broker.subscription().pattern("a").conflate(by_last_digit()).retry(retry(5));
    let _subscription = subscription
        .subscribe(move |message| {
            let _ = sender.send((**message, message.attempt()));
            if **message == 1 {
                let _ = own.publisher("a").expect("a topic").publish(11).expect("room");
                return Err("the newer one is under way");
            }
            Ok(())
        })
        .expect("valid");
    let mut simulation = simulation;
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    simulation.run();
    simulation.advance(SECOND);
    assert_eq!(handled.try_iter().collect::<Vec<_>>(), [(1, 1), (11, 1)]);
    let report = simulation.shutdown();
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(report.ledger.total().count(Term::Conflated), 1);
}

#[test]
fn a_full_backlog_has_room_for_a_newer_value_of_a_key_that_it_has() {
    let backlog = Backlog::new(2).when_full(WhenFull::DropNewest);
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        options.conflate(by_last_digit()).backlog(backlog)
    };
    let tried = Tried::new(options, |_, _| Ok::<_, &str>(()));
    tried.subscription.pause().expect("no child");
    tried.run();
    tried.publish([1, 2, 3, 11, 12, 13]);
    assert_eq!((conflated(&tried), tried.account().count(Term::Overflow)), (2, 2));
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.numbers(), [11, 12]);
    let _report = tried.shut_down();
}

#[test]
fn the_places_are_right_after_some_have_expired_or_given_way() {
    let backlog = Backlog::new(3).when_full(WhenFull::DropOldest);
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        options.conflate(by_last_digit()).backlog(backlog)
    };
    let tried = Tried::new(options, |_, _| Ok::<_, &str>(()));
    tried.subscription.pause().expect("no child");
    tried.run();
    let mut publisher = tried.broker.publisher("a").expect("a topic");
    let brief = PublishOptions::new().expires_after(MILLISECOND);
    for (number, options) in [(1, &brief), (2, &PublishOptions::new()), (3, &brief)] {
        let _ = publisher.publish_with(number, options).expect("room");
    }
    tried.run();
    tried.advance(MILLISECOND * 2);
    // The two that have expired make room; the third gives way to the fifth.
    tried.publish([4, 5, 6, 14, 15]);
    assert_eq!(tried.account().count(Term::Expired), 2);
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.numbers(), [14, 15, 6]);
    let _report = tried.shut_down();
}

#[test]
fn what_excludes_each_other_is_refused_with_both_names_and_the_reason() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let subscription = broker.subscription().pattern("a").idempotent(once()).conflate(by_last_digit());
    let error = subscription.subscribe(|_| ()).expect_err("they exclude each other");
    assert_eq!(
        error.to_string(),
        "a subscription cannot have both idempotency and conflation: of messages with one key the one keeps the \
         first, the other the last"
    );
    assert!(matches!(Feature::Conflation.with(Feature::Idempotency), Together::Refused(_)));
}
