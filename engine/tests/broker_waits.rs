//! Publishing from handlers, which wait for room: for as long as was asked, unless that would never end.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{LIMIT, Random, eventually, next, shut_down, within};
use ringmain::affinity::Pinning;
use ringmain::broker::{Broker, Dispatcher, PublishFailure, Publisher};
use ringmain::message::Message;
use ringmain::ring::Overflow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than a handler's publish was once allowed to wait.
const LONG: Duration = Duration::from_millis(1_500);

fn numbers(dispatchers: impl IntoIterator<Item = Dispatcher>) -> Broker<u64> {
    let mut builder = Broker::of();
    for dispatcher in dispatchers {
        builder = builder.dispatcher(dispatcher);
    }
    builder.build().expect("valid options")
}

/// A broker with a dispatcher `asks`, whose handler has published by `publish` into the full ring of dispatcher `busy`,
/// whose own handler stays at its message until it is told to go on.
struct Asked {
    broker: Broker<u64>,
    go_on: mpsc::Sender<()>,
    outcome: Receiver<(Result<(), PublishFailure>, Duration)>,
}

fn ask(
    overflow: Overflow,
    publish: impl Fn(&mut Publisher<u64>) -> Result<(), PublishFailure> + Send + 'static,
) -> Asked {
    let broker = numbers([Dispatcher::new("asks"), Dispatcher::new("busy").capacity(1).overflow(overflow)]);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let busy = broker.subscription().pattern("busy").dispatcher("busy");
    // Ends, too, when the test does.
    busy.subscribe(move |_| _ = may_go_on.recv_timeout(LIMIT)).expect("valid").detach();
    let _ = broker.publisher("busy").expect("a topic").publish(1).expect("room");
    let mut publisher = broker.publisher("busy").expect("a topic");
    let (told, outcome) = mpsc::channel();
    let asks = move |_: &Message<'_, u64>| {
        let started = Instant::now();
        let outcome = publish(&mut publisher);
        told.send((outcome, started.elapsed())).unwrap();
    };
    broker.subscription().pattern("ask").dispatcher("asks").subscribe(asks).expect("valid").detach();
    let _ = broker.publisher("ask").expect("a topic").publish(1).expect("room");
    Asked { broker, go_on, outcome }
}

fn by_policy(publisher: &mut Publisher<u64>) -> Result<(), PublishFailure> {
    publisher.publish(2).map(drop).map_err(|error| error.kind().clone())
}

fn within_time(limit: Duration) -> impl Fn(&mut Publisher<u64>) -> Result<(), PublishFailure> {
    move |publisher| publisher.publish_timeout(2, limit).map(drop).map_err(|error| error.kind().clone())
}

/// Has room come once that time has passed.
fn accepted_after(wait: Duration, asked: &Asked) {
    assert_eq!(
        asked.outcome.recv_timeout(wait),
        Err(mpsc::RecvTimeoutError::Timeout),
        "it gave up, or got in"
    );
    asked.go_on.send(()).unwrap();
    asked.go_on.send(()).unwrap();
    let (outcome, waited) = next(&asked.outcome);
    assert_eq!(outcome, Ok(()));
    assert!(waited >= wait / 2, "{waited:?}");
}

#[test]
fn a_handlers_publish_with_a_limit_of_three_seconds_gets_in_after_one_and_a_half() {
    let asked = ask(Overflow::default(), within_time(Duration::from_secs(3)));
    accepted_after(LONG, &asked);
    shut_down(&asked.broker);
}

#[test]
fn a_handlers_publish_with_a_limit_waits_for_all_of_it() {
    let asked = ask(Overflow::default(), within_time(LONG));
    let (outcome, waited) = next(&asked.outcome);
    assert!(matches!(outcome, Err(PublishFailure::TimedOut { .. })), "{outcome:?}");
    assert!(waited >= LONG, "{waited:?}");
    asked.go_on.send(()).unwrap();
    shut_down(&asked.broker);
}

#[test]
fn a_handlers_publish_waits_as_long_as_it_takes_where_the_policy_has_no_limit() {
    let asked = ask(Overflow::Block { limit: None }, by_policy);
    accepted_after(LONG, &asked);
    shut_down(&asked.broker);
}

#[test]
fn a_handlers_publish_waits_as_long_as_the_policy_says() {
    let asked = ask(Overflow::Block { limit: Some(LONG) }, by_policy);
    let (outcome, waited) = next(&asked.outcome);
    assert!(matches!(outcome, Err(PublishFailure::TimedOut { .. })), "{outcome:?}");
    assert!(waited >= LONG, "{waited:?}");
    asked.go_on.send(()).unwrap();
    shut_down(&asked.broker);
}

#[test]
fn a_shutdown_ends_in_time_with_handlers_that_wait_for_room_without_limit() {
    let asked = ask(Overflow::Block { limit: None }, by_policy);
    let waiting = asked.outcome.recv_timeout(Duration::from_millis(100));
    assert_eq!(waiting, Err(mpsc::RecvTimeoutError::Timeout));
    let (broker, limit) = (asked.broker.clone(), LIMIT / 3);
    let shutting_down = thread::spawn(move || {
        let started = Instant::now();
        let report = broker.shutdown(limit).expect("not inside of a publish closure");
        (report, started.elapsed())
    });
    // The closed ring refuses whoever waits for it, with its consumer still at its message.
    assert_eq!(next(&asked.outcome).0, Err(PublishFailure::Closed));
    asked.go_on.send(()).unwrap();
    let (report, took) = shutting_down.join().expect("no panic");
    assert!(report.abandoned.is_empty(), "{:?}", report.abandoned);
    assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    assert!(took < limit, "{took:?}");
}

/// Runs messages in two dispatchers that publish into each other: each message is passed on until its time is up.
/// There are fewer of them than slots, so that never both rings are full, and more than one ring has, so that each is
/// at times.
fn pass_to_and_fro(pinning: &Pinning) {
    const CAPACITY: u64 = 8;
    const MESSAGES: u64 = CAPACITY + CAPACITY / 2;
    const TIMES: u64 = 400;

    let mut random = Random::new();
    let dispatcher = |name| Dispatcher::new(name).capacity(CAPACITY as usize).pinning(pinning.clone());
    let broker = numbers([dispatcher("left"), dispatcher("right")]);
    let (refused, full, ended) =
        (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let begins = Arc::new(AtomicBool::new(false));
    for (own, other) in [("left", "right"), ("right", "left")] {
        let mut publisher = broker.publisher(other).expect("a topic");
        let (refused, full, ended, begins) = (refused.clone(), full.clone(), ended.clone(), begins.clone());
        let mut now_and_then = Random::seeded(random.next());
        let handler = move |message: &Message<'_, u64>| {
            while !begins.load(Ordering::Acquire) {
                thread::yield_now();
            }
            let Some(left) = message.checked_sub(1) else {
                ended.fetch_add(1, Ordering::Relaxed);
                return;
            };
            // Now and then it takes its time, and the other ring fills.
            if now_and_then.below(16) == 0 {
                let until = Instant::now() + Duration::from_micros(now_and_then.below(3_000));
                while Instant::now() < until {
                    thread::yield_now();
                }
            }
            if publisher.try_publish(left).is_ok() {
                return;
            }
            full.fetch_add(1, Ordering::Relaxed);
            if publisher.publish(left).is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
                ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        let subscription = broker.subscription().pattern(own).dispatcher(own);
        subscription.subscribe(handler).expect("valid").detach();
    }
    let mut publishers =
        [broker.publisher("left").expect("a topic"), broker.publisher("right").expect("a topic")];
    for number in 0..MESSAGES {
        let publisher = &mut publishers[usize::from(number >= CAPACITY)];
        let _ = publisher.publish(TIMES + random.below(TIMES)).expect("room");
    }
    begins.store(true, Ordering::Release);
    eventually("all messages come to their end", || ended.load(Ordering::Relaxed) == MESSAGES);
    let (refused, full) = (refused.load(Ordering::Relaxed), full.load(Ordering::Relaxed));
    println!("{full} waits, of which {refused} were refused");
    assert_eq!(refused, 0, "of {full} that found a ring full");
    assert!(full > 0, "no ring was ever full");
    shut_down(&broker);
}

#[test]
fn two_dispatchers_that_publish_into_each_other_are_refused_nothing_while_one_of_them_has_room() {
    pass_to_and_fro(&Pinning::Unpinned);
}

#[test]
fn nor_are_they_where_they_share_a_core() {
    pass_to_and_fro(&Pinning::Cores(vec![0]));
}

/// How each handler's publish in a circle ended, and how long it took.
type Ends = Vec<(Result<(), PublishFailure>, Duration)>;

/// Handlers of as many rings of one slot each, of which each publishes into the next one's ring once all are at their
/// message. Gives how each ended.
fn close_a_circle<const N: usize>(
    brokers: [Broker<u64>; N],
    names: [&'static str; N],
    publish: fn(&mut Publisher<u64>) -> Result<(), PublishFailure>,
) -> Ends {
    let all_there = Arc::new(Barrier::new(N));
    let (told, ends) = mpsc::channel();
    for number in 0..N {
        let onward = (number + 1) % N;
        let mut publisher = brokers[onward].publisher(names[onward]).expect("a topic");
        let (all_there, told) = (all_there.clone(), told.clone());
        let handler = move |message: &Message<'_, u64>| {
            if **message == 1 {
                all_there.wait();
                let started = Instant::now();
                let outcome = publish(&mut publisher);
                told.send((outcome, started.elapsed())).unwrap();
            }
        };
        let subscription = brokers[number].subscription().pattern(names[number]).dispatcher(names[number]);
        subscription.subscribe(handler).expect("valid").detach();
    }
    for (broker, name) in brokers.iter().zip(names) {
        let _ = broker.publisher(name).expect("a topic").publish(1).expect("room");
    }
    (0..N).map(|_| next(&ends)).collect()
}

/// One of a circle was told, and the others went on. Returns how long that one waited.
#[track_caller]
fn broken_by_one(ends: &Ends) -> Duration {
    let refused = ends
        .iter()
        .filter(|(outcome, _)| matches!(outcome, Err(PublishFailure::WouldDeadlock { .. })))
        .count();
    let accepted = ends.iter().filter(|(outcome, _)| outcome.is_ok()).count();
    assert!(refused == 1 && accepted + 1 == ends.len(), "{ends:?}");
    let waited = ends.iter().find_map(|(outcome, waited)| outcome.is_err().then_some(*waited));
    waited.expect("one was refused")
}

/// A circle is seen soon. The machine may take a thread's core away for longer than that, but not each time.
#[track_caller]
fn soon(mut circle: impl FnMut() -> Duration) {
    let waits: Vec<_> = (0..10).map(|_| circle()).collect();
    assert!(waits.iter().any(|waited| *waited < Duration::from_millis(100)), "{waits:?}");
}

fn circle_of_dispatchers<const N: usize>(names: [&'static str; N]) {
    let ways: [fn(&mut Publisher<u64>) -> _; 2] = [by_policy, |publisher| within_time(LIMIT)(publisher)];
    for publish in ways {
        soon(|| {
            let broker = numbers(names.map(|name| Dispatcher::new(name).capacity(1)));
            let waited = broken_by_one(&close_a_circle([(); N].map(|()| broker.clone()), names, publish));
            shut_down(&broker);
            waited
        });
    }
}

#[test]
fn a_circle_of_two_dispatchers_is_refused_to_who_closes_it() {
    circle_of_dispatchers(["one", "two"]);
}

#[test]
fn a_circle_of_three_dispatchers_is_refused_to_who_closes_it() {
    circle_of_dispatchers(["one", "two", "three"]);
}

#[test]
fn a_circle_of_two_brokers_is_refused_to_who_closes_it() {
    soon(|| {
        let brokers = [(); 2].map(|()| numbers([Dispatcher::new("d").capacity(1)]));
        let waited = broken_by_one(&close_a_circle(brokers.clone(), ["d", "d"], by_policy));
        brokers.iter().for_each(|broker| drop(shut_down(broker)));
        waited
    });
}

/// That a thread waits by other means than a ring's, no ring knows: the limit of the helper's publish ends it.
#[test]
fn a_handler_that_waits_for_a_helper_which_publishes_into_its_ring_goes_on_at_the_helpers_limit() {
    const LIMIT_OF_HELPER: Duration = Duration::from_millis(200);
    let broker = numbers([Dispatcher::new("d").capacity(1)]);
    let mut publisher = Some(broker.publisher("d").expect("a topic"));
    let (told, outcome) = mpsc::channel();
    let handler = move |_: &Message<'_, u64>| {
        let Some(mut publisher) = publisher.take() else { return };
        let helper = thread::spawn(move || within_time(LIMIT_OF_HELPER)(&mut publisher));
        told.send(helper.join().expect("no panic")).unwrap();
    };
    broker.subscribe("d", handler).expect("valid").detach();
    let _ = broker.publisher("d").expect("a topic").publish(1).expect("room");
    assert_eq!(next(&outcome), Err(broker_support::timed_out("d")));
    shut_down(&broker);
}

/// The last handle of a publisher, which says its last words when it is dropped.
struct LastWords(Publisher<u64>, mpsc::Sender<Result<(), PublishFailure>>);

impl Drop for LastWords {
    fn drop(&mut self) {
        for _ in 0..3 {
            let _ = self.1.send(by_policy(&mut self.0));
        }
    }
}

#[test]
fn what_a_handler_captured_is_told_when_its_last_words_would_wait_for_their_own_consumer() {
    let broker = numbers([Dispatcher::new("d").capacity(2)]);
    let (told, said) = mpsc::channel();
    let last_words = LastWords(broker.publisher("a").expect("a topic"), told);
    let _keeps = broker.subscribe("a", |_| ()).expect("valid");
    let talker = broker.subscribe("b", move |_| _ = &last_words).expect("valid");
    // What it has not read of when it ends is not its own yet.
    let _ = broker.publisher("b").expect("a topic").publish(0).expect("room");
    eventually("it is called", || talker.delivered() == 1);
    // Dropped by the consumer, between two of its polls.
    within("it does not wait for itself", move || talker.unsubscribe());
    let outcomes: Vec<_> = said.iter().collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(broker_support::would_deadlock("d"))]);
    shut_down(&broker);
}

#[test]
fn a_handler_waits_for_another_consumer_of_its_own_ring_while_that_one_is_behind() {
    let broker = numbers([Dispatcher::new("d").capacity(2).stages(&[1, 1])]);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let mut publisher = broker.publisher("other").expect("a topic");
    let (told, outcome) = mpsc::channel();
    let ahead = move |message: &Message<'_, u64>| {
        // The second message: the stage behind is at the first.
        if **message == 2 {
            told.send(by_policy(&mut publisher)).unwrap();
        }
    };
    let on = |stage| broker.subscription().pattern("d").stage(stage);
    on(0).subscribe(ahead).expect("valid").detach();
    on(1).subscribe(move |_| _ = may_go_on.recv_timeout(LIMIT)).expect("valid").detach();
    let _other = broker.subscribe("other", |_| ()).expect("valid");
    let mut first = broker.publisher("d").expect("a topic");
    let _ = first.publish(1).expect("room");
    let _ = first.publish(2).expect("room");
    assert_eq!(outcome.recv_timeout(Duration::from_millis(200)), Err(mpsc::RecvTimeoutError::Timeout));
    go_on.send(()).unwrap();
    assert_eq!(next(&outcome), Ok(()));
    drop(go_on);
    shut_down(&broker);
}
