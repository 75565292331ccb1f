//! Retries: how often, when and in which order a failed delivery is tried again, and where it is counted.

mod broker_support;

use broker_support::tried::{MILLISECOND, Tried};
use broker_support::{LIMIT, drain, eventually, next, panic_quietly};
use ringmain::broker::{
    Broker, Handled, HandlerError, Jitter, Permanent, PublishOptions, Retry, RetryAfter, SubscribeError, Term,
};
use ringmain::clock::Clock;
use ringmain::message::MessageId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A subscription that retries so.
fn retrying<E: Into<HandlerError> + 'static>(
    retry: Retry,
    handler: impl FnMut(u64, u16) -> Result<(), E> + Send + 'static,
) -> Tried {
    Tried::new(|options| options.retry(retry), handler)
}

fn fails(_number: u64, _attempt: u16) -> Result<(), &'static str> {
    Err("it fails")
}

/// Moves the time in steps of a millisecond, and returns at which millisecond which call came.
fn timeline(tried: &Tried, milliseconds: u64, step: u64) -> Vec<(u64, u16)> {
    for _ in 0..milliseconds / step {
        tried.advance(MILLISECOND * step as u32);
    }
    tried.calls().into_iter().map(|call| (call.at, call.attempt)).collect()
}

#[test]
fn a_hundred_that_always_fail_are_tried_three_times_each() {
    let tried = retrying(Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(3), fails);
    tried.publish(0..100);
    tried.advance(MILLISECOND);
    tried.advance(MILLISECOND);
    let mut attempts: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
    tried.calls().iter().for_each(|call| attempts.entry(call.number).or_default().push(call.attempt));
    assert_eq!((attempts.len(), attempts.values().all(|those| *those == [1, 2, 3])), (100, true));
    let account = tried.account();
    assert_eq!((account.failures(), account.retries, account.count(Term::Failed)), (300, 200, 100));
    let _report = tried.shut_down();
}

#[test]
fn the_schedule_is_kept_to_the_millisecond() {
    let retry =
        Retry::exponential(MILLISECOND * 100).cap(MILLISECOND * 1_000).jitter(Jitter::None).attempts(6);
    let tried = retrying(retry.clone(), fails);
    tried.publish([1]);
    assert_eq!(timeline(&tried, 3_000, 50), [(0, 1), (100, 2), (300, 3), (700, 4), (1_500, 5), (2_500, 6)]);
    assert_eq!(tried.account().count(Term::Failed), 1);
    // What would be due after a second is given up when it fails.
    let tried = retrying(retry.max_elapsed(MILLISECOND * 1_000), fails);
    tried.publish([1]);
    assert_eq!(timeline(&tried, 700, 50), [(0, 1), (100, 2), (300, 3), (700, 4)]);
    assert_eq!(tried.account().count(Term::Failed), 1);
}

#[test]
fn a_retry_does_not_come_before_its_moment() {
    let tried = retrying(Retry::constant(MILLISECOND * 10).jitter(Jitter::None), fails);
    tried.publish([1]);
    tried.advance(MILLISECOND * 10 - Duration::from_nanos(1));
    assert_eq!((tried.calls().len(), tried.subscription.status().retrying), (1, 1));
    assert_eq!(tried.account().count(Term::Retrying), 1);
    tried.advance(Duration::from_nanos(1));
    assert_eq!(tried.calls().len(), 1);
}

/// The tenth of a hundred fails twice. Returns the order of the successes, and the number of calls.
fn the_tenth_fails_twice(retry: Retry) -> (Vec<u64>, u64) {
    let successes: Arc<Mutex<Vec<u64>>> = Arc::default();
    let done = successes.clone();
    let tried = retrying(retry, move |number, attempt| {
        if number == 10 && attempt < 3 {
            return Err("not yet");
        }
        done.lock().expect("no panic").push(number);
        Ok(())
    });
    tried.publish(0..100);
    tried.advance(MILLISECOND);
    tried.advance(MILLISECOND);
    let calls = tried.calls().len() as u64;
    let account = tried.account();
    assert_eq!((account.delivered(), account.retries, account.failures()), (100, 2, 2));
    assert_eq!(tried.subscription.status(), Default::default());
    let successes = successes.lock().expect("no panic").clone();
    (successes, calls)
}

#[test]
fn in_order_the_others_wait_for_the_one_that_failed() {
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).in_order();
    assert_eq!(the_tenth_fails_twice(retry), ((0..100).collect(), 102));
}

#[test]
fn deferred_the_one_that_failed_comes_last_and_holds_up_nobody() {
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None);
    let expected = (0..100).filter(|number| *number != 10).chain([10]);
    assert_eq!(the_tenth_fails_twice(retry), (expected.collect(), 102));
}

#[test]
fn a_short_delay_is_not_held_up_by_the_long_one_of_another_message() {
    let tried = retrying(Retry::default().jitter(Jitter::None), |number, _| {
        let delay = if number == 1 { Duration::from_secs(3_600) } else { MILLISECOND };
        Err::<(), _>(RetryAfter::new(delay, "later"))
    });
    tried.publish([1, 2]);
    tried.advance(MILLISECOND);
    let numbers: Vec<_> = tried.calls().iter().map(|call| (call.number, call.attempt)).collect();
    assert_eq!(numbers, [(1, 1), (2, 1), (2, 2)]);
}

#[test]
fn a_handler_says_when_and_whether_a_message_is_tried_again() {
    let (clock, time) = Clock::manual();
    let broker: Broker<u64> = Broker::of().clock(clock).build().expect("valid options");
    let (sender, calls) = channel();
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(2);
    let subscription = broker.subscription().pattern("a").retry(retry).subscribe(move |message| {
        let _ = sender.send((**message, message.attempt()));
        match **message {
            0 => Handled::Done,
            1 => Handled::Failed("by policy".into()),
            2 => Handled::Permanent("never".into()),
            _ => Handled::RetryAfter(Duration::from_secs(1)),
        }
    });
    let subscription = subscription.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..4 {
        let _ = publisher.publish(number).expect("room");
    }
    for _ in 0..4 {
        next(&calls);
    }
    eventually("two wait for another attempt", || subscription.status().retrying == 2);
    time.advance(MILLISECOND);
    assert_eq!(next(&calls), (1, 2));
    eventually("it was the last", || subscription.status().retrying == 1);
    time.advance(Duration::from_secs(1));
    assert_eq!(next(&calls), (3, 2));
    broker.drain(LIMIT).expect("no attempts are left");
    let account = broker.audit().total();
    assert_eq!((account.delivered(), account.failures(), account.count(Term::Failed)), (1, 5, 3));
}

#[test]
fn an_error_by_question_mark_says_that_trying_again_is_of_no_use() {
    let tried = retrying(Retry::constant(MILLISECOND), |number, _| -> Result<(), HandlerError> {
        let _: u64 = "no number".parse().map_err(Permanent::new)?;
        unreachable!("{number}")
    });
    tried.publish([1]);
    assert_eq!((tried.calls().len(), tried.account().count(Term::Failed)), (1, 1));
}

#[test]
fn a_panic_is_tried_again_and_so_is_one_in_order() {
    for retry in [Retry::constant(MILLISECOND), Retry::constant(MILLISECOND).in_order()] {
        let tried = retrying(retry.jitter(Jitter::None), |number, attempt| -> Result<(), HandlerError> {
            if number == 0 && attempt == 1 {
                panic_quietly();
            }
            Ok(())
        });
        tried.publish(0..3);
        tried.advance(MILLISECOND);
        assert_eq!((tried.calls().len(), tried.account().delivered()), (4, 3));
    }
}

#[test]
fn only_errors_of_the_classes_that_were_named_are_tried_again_and_a_class_that_panics_names_none() {
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).retry_if(|error| {
        if error.to_string() == "panics" {
            panic_quietly();
        }
        error.to_string() == "busy"
    });
    let tried = retrying(retry, |number, attempt| match (number, attempt) {
        (0, 1) => Err("busy"),
        (1, _) => Err("broken"),
        (2, _) => Err("panics"),
        _ => Ok(()),
    });
    tried.publish(0..3);
    tried.advance(MILLISECOND);
    let calls: Vec<_> = tried.calls().iter().map(|call| (call.number, call.attempt)).collect();
    assert_eq!(calls, [(0, 1), (1, 1), (2, 1), (0, 2)]);
    let account = tried.account();
    assert_eq!((account.delivered(), account.count(Term::Failed)), (1, 2));
}

#[test]
fn a_message_keeps_its_id_its_headers_and_its_topic_over_all_attempts() {
    let (clock, time) = Clock::manual();
    let broker: Broker<u64> = Broker::of().clock(clock).build().expect("valid options");
    let (sender, seen) = channel();
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(3);
    let subscription = broker.subscription().pattern("a.*").retry(retry).subscribe(move |message| {
        let region = message.headers().get_str("region").map(str::to_owned);
        let _ = sender.send((message.id(), region, message.topic().to_string(), message.published_at()));
        Err::<(), _>("it fails")
    });
    let subscription = subscription.expect("valid");
    let options = PublishOptions::new().header("region", "eu").expect("a header");
    let _ = broker.publisher("a.b").expect("a topic").publish_with(7, &options).expect("room");
    let first: (MessageId, _, _, _) = next(&seen);
    assert_eq!((first.1.as_deref(), &*first.2), (Some("eu"), "a.b"));
    for _ in 0..2 {
        eventually("it waits for another attempt", || subscription.status().retrying == 1);
        time.advance(MILLISECOND);
        assert_eq!(next(&seen), first);
    }
}

#[test]
fn what_has_expired_is_not_tried_again_and_counts_as_expired() {
    let tried = retrying(Retry::constant(MILLISECOND * 10).jitter(Jitter::None), fails);
    let life = tried.clock.now().after(MILLISECOND * 5);
    let options = PublishOptions::new().expires_at(life);
    let _ = tried.broker.publisher("a").expect("a topic").publish_with(1, &options).expect("room");
    tried.run();
    tried.advance(MILLISECOND * 10);
    assert_eq!((tried.calls().len(), tried.account().count(Term::Expired)), (1, 1));
}

#[test]
fn more_than_may_wait_for_another_attempt_are_dropped_and_counted() {
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(2).at_most_waiting(10);
    let tried = retrying(retry, fails);
    tried.publish(0..25);
    let account = tried.account();
    assert_eq!((account.count(Term::Retrying), account.count(Term::Overflow)), (10, 15));
    tried.advance(MILLISECOND);
    let account = tried.account();
    assert_eq!((account.count(Term::Failed), account.count(Term::Overflow), account.retries), (10, 15, 10));
}

#[test]
fn a_retry_in_order_bounds_what_waits_behind_it_by_the_backlog() {
    let tried = retrying(Retry::constant(MILLISECOND).jitter(Jitter::None).in_order(), |number, attempt| {
        if number == 0 && attempt == 1 { Err("not yet") } else { Ok(()) }
    });
    tried.publish(0..2_000);
    assert_eq!(tried.subscription.status().backlogged, 1_024);
    tried.advance(MILLISECOND);
    let numbers: Vec<_> = tried.calls().iter().map(|call| call.number).collect();
    assert_eq!(numbers, [0].into_iter().chain(0..1_025).collect::<Vec<_>>());
    let account = tried.account();
    assert_eq!((account.delivered(), account.count(Term::Overflow)), (1_025, 975));
}

#[test]
fn a_pause_holds_retries_as_well_and_they_come_when_it_ends() {
    for retry in [Retry::constant(MILLISECOND), Retry::constant(MILLISECOND).in_order()] {
        let tried = retrying(
            retry.jitter(Jitter::None),
            |_, attempt| {
                if attempt == 1 { Err("not yet") } else { Ok(()) }
            },
        );
        tried.publish([1]);
        tried.subscription.pause().expect("not forked");
        tried.advance(MILLISECOND * 5);
        assert_eq!((tried.calls().len(), tried.subscription.status().retrying), (1, 1));
        tried.subscription.resume();
        tried.run();
        assert_eq!(tried.account().delivered(), 1);
        assert_eq!(tried.subscription.status(), Default::default());
    }
}

#[test]
fn a_shutdown_hands_retries_back_that_are_due_in_an_hour_and_neither_runs_nor_gives_them_up() {
    for retry in
        [Retry::constant(Duration::from_secs(3_600)), Retry::constant(Duration::from_secs(3_600)).in_order()]
    {
        let broker: Broker<u64> = Broker::of().build().expect("valid options");
        let calls = Arc::new(AtomicU64::new(0));
        let called = calls.clone();
        let is_in_order = format!("{retry:?}");
        let subscription = broker.subscription().pattern("a").retry(retry.jitter(Jitter::None));
        let _subscription = subscription.subscribe(move |_| {
            called.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>("it fails")
        });
        let mut publisher = broker.publisher("a").expect("a topic");
        for number in 0..5 {
            let _ = publisher.publish(number).expect("room");
        }
        drain(&broker);
        let before = calls.load(Ordering::Relaxed);
        let started = Instant::now();
        let report = broker.shutdown(LIMIT).expect("not inside of a closure");
        assert!(started.elapsed() < LIMIT / 2, "it waits for an hour: {is_in_order}");
        assert!(report.ledger.is_balanced(), "{}", report.ledger);
        assert_eq!(report.undelivered.len(), 5);
        assert!(report.undelivered.iter().all(|one| one.message.attempt <= 2));
        assert_eq!((calls.load(Ordering::Relaxed), report.ledger.total().count(Term::Failed)), (before, 0));
    }
}

#[test]
fn what_waits_to_be_tried_again_ends_with_its_subscription() {
    let mut tried = retrying(Retry::constant(MILLISECOND).jitter(Jitter::None), fails);
    tried.publish(0..5);
    tried.unsubscribe("other", |_| ());
    assert_eq!(tried.account().count(Term::Unsubscribed), 5);
    tried.advance(MILLISECOND);
    assert_eq!(tried.calls().len(), 5);
    let _report = tried.shut_down();
}

#[test]
fn retries_come_by_the_hardware_clock_too_while_nothing_else_wakes_the_consumer() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let (sender, calls) = channel();
    let retry = Retry::constant(MILLISECOND * 20).jitter(Jitter::None).attempts(4);
    let _subscription = broker.subscription().pattern("a").retry(retry).subscribe(move |_| {
        let _ = sender.send(Instant::now());
        Err::<(), _>("it fails")
    });
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    let calls: Vec<_> = (0..4).map(|_| next(&calls)).collect();
    assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= MILLISECOND * 20), "{calls:?}");
    broker.drain(LIMIT).expect("no attempts are left");
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused_with_the_reason() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let subscription = broker.subscription().pattern("a").retry(Retry::default().attempts(0));
    let error = subscription.subscribe(|_| ()).map(drop).expect_err("no attempt at all");
    assert!(matches!(error, SubscribeError::Retry { .. }), "{error:?}");
    assert!(error.to_string().contains("attempts"), "{error}");
}

#[test]
fn poison_that_is_retried_at_once_starves_nobody() {
    let retry = Retry::constant(Duration::ZERO).jitter(Jitter::None).attempts(1_000);
    let tried = retrying(retry, |number, _| if number < 2 { Err("poison") } else { Ok(()) });
    tried.publish(0..4_000);
    let account = tried.account();
    assert_eq!(
        (account.delivered(), account.count(Term::Overflow), account.count(Term::Failed)),
        (3_998, 0, 2)
    );
    // And where they wait behind one another, they take turns.
    let retry = Retry::constant(Duration::ZERO).jitter(Jitter::None).attempts(100);
    let tried = retrying(retry, |number, _| if number < 10 { Err("poison") } else { Ok(()) });
    tried.subscription.pause().expect("not forked");
    tried.publish(0..100);
    tried.subscription.resume();
    tried.run();
    let calls = tried.calls();
    let last = calls.iter().rposition(|call| call.number >= 10).expect("they are delivered");
    assert!(last < 250, "the last of them came as number {last} of {}", calls.len());
}

#[test]
fn a_retry_that_finds_no_room_takes_nothing_from_the_budget() {
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).at_most_waiting(1).budget(0.0, 2);
    let tried = retrying(retry, fails);
    tried.publish(0..5);
    let account = tried.account();
    assert_eq!((account.retries, account.count(Term::Overflow)), (1, 4));
    tried.advance(MILLISECOND);
    assert_eq!(tried.account().retries, 2, "the second was taken by one that found no room");
}

/// What panics when it is dropped.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_quietly();
        }
    }
}

#[test]
fn closures_of_a_contract_that_all_panic_when_dropped_do_not_end_the_process() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let fuses = [(); 4].map(|()| Fuse);
    let [first, second, third, fourth] = fuses;
    let retry = Retry::default()
        .retry_if(move |_| {
            let _kept = &first;
            true
        })
        .when(
            move |_| {
                let _kept = &second;
                true
            },
            Retry::default(),
        );
    let subscription = broker.subscription().pattern("a").retry(retry).filter(move |_| {
        let _kept = &third;
        true
    });
    let subscription = subscription.subscribe(move |_| _ = &fourth).expect("valid");
    subscription.unsubscribe();
    let _ledger = broker_support::shut_down(&broker);
}
