//! Every call that may wait, from every place that user code is called at: none waits for itself.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{LIMIT, eventually, next};
use ringmain::broker::{Broker, Dispatcher, DrainError, ShutdownError, Subscription, UnsubscribeError};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Whoever waits for itself waits so long.
const HOUR: Duration = Duration::from_secs(3_600);

/// Calls that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Drain,
    Shutdown,
    Unsubscribe,
    UnsubscribeTimeout,
    UnsubscribeAll,
    UnsubscribeAllTimeout,
}

const CALLS: [Call; 6] = [
    Call::Drain,
    Call::Shutdown,
    Call::Unsubscribe,
    Call::UnsubscribeTimeout,
    Call::UnsubscribeAll,
    Call::UnsubscribeAllTimeout,
];

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It did what it is for, or as much of that as does not take a wait.
    Done,
    WouldDeadlock,
}

/// What code in some place is to do, once.
type Job = Box<dyn FnOnce() + Send>;

/// A payload that does something when it is copied or dropped.
#[derive(Default)]
struct Loaded {
    on_clone: Option<Arc<Mutex<Option<Job>>>>,
    #[expect(dead_code, reason = "dropped with the payload")]
    on_drop: Option<Bomb>,
}

impl Clone for Loaded {
    fn clone(&self) -> Self {
        if let Some(job) = self.on_clone.as_ref().and_then(|job| job.lock().unwrap().take()) {
            job();
        }
        Self { on_clone: self.on_clone.clone(), on_drop: None }
    }
}

fn on_clone(job: Job) -> Loaded {
    Loaded { on_clone: Some(Arc::new(Mutex::new(Some(job)))), on_drop: None }
}

/// Does its job when it is dropped.
struct Bomb(Mutex<Option<Job>>);

impl Bomb {
    fn new(job: Job) -> Self {
        Self(Mutex::new(Some(job)))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(job) = self.0.lock().unwrap().take() {
            job();
        }
    }
}

impl fmt::Debug for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // User code, called on the consumer's thread.
        if let Some(job) = self.0.lock().unwrap().take() {
            job();
        }
        f.write_str("a bomb")
    }
}

impl std::error::Error for Bomb {}

/// A broker of two dispatchers, a subscription that a call may end, and what the place needs.
struct Scene {
    broker: Broker<Loaded>,
    victim: Subscription<Loaded>,
}

impl Scene {
    fn new() -> Self {
        let broker = Broker::of()
            .dispatcher(Dispatcher::new("one").capacity(32))
            .dispatcher(Dispatcher::new("two").capacity(32))
            .build()
            .expect("valid options");
        let victim = broker.subscribe("victim", |_| ()).expect("a pattern");
        Self { broker, victim }
    }

    /// What makes the call, and says how it ended and how long it took.
    fn job(self, call: Call, told: mpsc::Sender<(End, Duration)>) -> (Broker<Loaded>, Job) {
        let Self { broker, victim } = self;
        let weak = broker.downgrade();
        let job = move || {
            let Some(broker) = weak.upgrade() else { return };
            let started = Instant::now();
            let unsubscribed = |outcome| match outcome {
                Ok(()) => End::Done,
                Err(UnsubscribeError::WouldDeadlock) => End::WouldDeadlock,
                Err(error) => panic!("{error}"),
            };
            let end = match call {
                Call::Drain => match broker.drain(HOUR) {
                    Ok(()) => End::Done,
                    Err(DrainError::WouldDeadlock) => End::WouldDeadlock,
                    Err(error) => panic!("{error}"),
                },
                Call::Shutdown => match broker.shutdown(HOUR) {
                    Ok(_) => End::Done,
                    Err(ShutdownError::WouldDeadlock) => End::WouldDeadlock,
                    Err(error) => panic!("{error}"),
                },
                Call::Unsubscribe => {
                    victim.unsubscribe();
                    End::Done
                }
                Call::UnsubscribeTimeout => unsubscribed(victim.unsubscribe_timeout(HOUR)),
                Call::UnsubscribeAll => {
                    broker.unsubscribe_all([victim]);
                    End::Done
                }
                Call::UnsubscribeAllTimeout => unsubscribed(broker.unsubscribe_all_timeout([victim], HOUR)),
            };
            let _ = told.send((end, started.elapsed()));
        };
        (broker, Box::new(job))
    }
}

/// Makes each call from a place, and checks how it ends there.
#[track_caller]
fn from(place: &str, expected: impl Fn(Call) -> &'static [End], play: impl Fn(Broker<Loaded>, Job)) {
    for call in CALLS {
        let (tell, told) = mpsc::channel();
        let (broker, job) = Scene::new().job(call, tell);
        let held = broker.clone();
        play(broker, job);
        let (end, took) = next(&told);
        assert!(took < LIMIT / 2, "{call:?} in {place} waited for itself: {took:?}");
        assert!(expected(call).contains(&end), "{call:?} in {place}: {end:?}");
        let report = held.shutdown(LIMIT).expect("not inside of a publish closure");
        assert!(report.ledger.is_balanced(), "{call:?} in {place}: {:#?}", report.ledger);
    }
}

/// Where a slot is being filled, nothing may wait.
fn while_filling(call: Call) -> &'static [End] {
    match call {
        // It has no way to say so.
        Call::Unsubscribe | Call::UnsubscribeAll => &[End::Done],
        // The consumer may have come before it was asked.
        Call::UnsubscribeTimeout | Call::UnsubscribeAllTimeout => &[End::Done, End::WouldDeadlock],
        Call::Drain | Call::Shutdown => &[End::WouldDeadlock],
    }
}

/// A consumer waits for others, and not for itself.
fn on_a_consumer(call: Call) -> &'static [End] {
    if call == Call::Drain { &[End::WouldDeadlock] } else { &[End::Done] }
}

fn subscribe(broker: &Broker<Loaded>, dispatcher: &str) {
    let subscription = broker.subscription().pattern("a").dispatcher(dispatcher);
    subscription.subscribe(|_| ()).expect("valid").detach();
}

#[test]
fn inside_of_a_publish_closure() {
    from("a publish closure", while_filling, |broker, job| {
        subscribe(&broker, "one");
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish_in_place(|_| job()).expect("room");
    });
}

#[test]
fn inside_of_a_copy_for_the_second_ring() {
    from("a copy", while_filling, |broker, job| {
        subscribe(&broker, "one");
        subscribe(&broker, "two");
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish(on_clone(job)).expect("room");
    });
}

#[test]
fn inside_of_the_drop_of_what_a_slot_held() {
    from("the drop of an old payload", while_filling, |broker, job| {
        subscribe(&broker, "one");
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish(Loaded { on_clone: None, on_drop: Some(Bomb::new(job)) }).expect("room");
        for _ in 0..32 {
            let _ = publisher.publish(Loaded::default()).expect("the consumer makes room");
        }
    });
}

#[test]
fn inside_of_a_handler() {
    from("a handler", on_a_consumer, |broker, job| {
        let mut job = Some(job);
        broker.subscribe("a", move |_| job.take().into_iter().for_each(|job| job())).expect("valid").detach();
        let _ = broker.publisher("a").expect("a topic").publish(Loaded::default()).expect("room");
    });
}

#[test]
fn inside_of_the_drop_of_an_error() {
    from("the drop of an error", on_a_consumer, |broker, job| {
        let mut job = Some(job);
        let subscription = broker.subscription().pattern("a");
        let subscription =
            subscription.subscribe(move |_| job.take().map_or(Ok(()), |job| Err(Bomb::new(job))));
        subscription.expect("valid").detach();
        let _ = broker.publisher("a").expect("a topic").publish(Loaded::default()).expect("room");
    });
}

#[test]
fn inside_of_the_text_of_an_error() {
    from("the text of an error", on_a_consumer, |broker, job| {
        let mut job = Some(job);
        broker
            .subscription()
            .pattern("a")
            .on_error(|_, failed| drop(failed.error.map(ToString::to_string)))
            .subscribe(move |_| job.take().map_or(Ok(()), |job| Err(Bomb::new(job))))
            .expect("valid")
            .detach();
        let _ = broker.publisher("a").expect("a topic").publish(Loaded::default()).expect("room");
    });
}

#[test]
fn inside_of_the_drop_of_a_panics_payload() {
    from("the drop of a panic's payload", on_a_consumer, |broker, job| {
        let mut job = Some(job);
        let subscription = broker.subscribe("a", move |_| {
            if let Some(job) = job.take() {
                std::panic::resume_unwind(Box::new(Bomb::new(job)));
            }
        });
        subscription.expect("a pattern").detach();
        let _ = broker.publisher("a").expect("a topic").publish(Loaded::default()).expect("room");
    });
}

#[test]
fn inside_of_the_drop_of_what_a_handler_captured() {
    from("the drop of a handler", on_a_consumer, |broker, job| {
        let bomb = Bomb::new(job);
        let subscription = broker.subscribe("a", move |_| _ = &bomb).expect("a pattern");
        let _ = broker.publisher("a").expect("a topic").publish(Loaded::default()).expect("room");
        eventually("the consumer owns the handler", || subscription.delivered() == 1);
        drop(subscription);
    });
}

#[test]
fn inside_of_the_drop_of_a_handler_when_its_consumer_ends() {
    from("the end of a consumer", on_a_consumer, |broker, job| {
        let bomb = Bomb::new(job);
        broker.subscribe("a", move |_| _ = &bomb).expect("a pattern").detach();
        let _report = broker.shutdown(LIMIT).expect("not inside of a publish closure");
    });
}

/// A door that a handler waits at.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<(bool, bool)>, Condvar)>);

impl Door {
    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.1 = true;
        self.0.1.notify_all();
        drop(self.0.1.wait_timeout_while(state, LIMIT, |state| !state.0).unwrap());
    }

    fn wait_for_one(&self) {
        let state = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(state, LIMIT, |state| !state.1).unwrap());
    }

    fn open(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }
}

#[test]
fn inside_of_a_copy_that_a_stopped_consumer_hands_back() {
    from("a copy for a report", on_a_consumer, |broker, job| {
        let slow = broker.subscribe("a", |_| std::thread::sleep(Duration::from_millis(20)));
        slow.expect("a pattern").detach();
        let mut publisher = broker.publisher("a").expect("a topic");
        for _ in 0..30 {
            let _ = publisher.publish(Loaded::default()).expect("room");
        }
        let _ = publisher.publish(on_clone(job)).expect("room");
        let _report = broker.shutdown(Duration::from_millis(400)).expect("no closure");
    });
}

#[test]
fn inside_of_a_copy_that_is_handed_back_for_a_stuck_consumer() {
    from("a copy for a report, aside", while_filling, |broker, job| {
        let door = Door::default();
        let held = door.clone();
        broker.subscribe("a", move |_| held.pass()).expect("a pattern").detach();
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish(Loaded::default()).expect("room");
        door.wait_for_one();
        let _ = publisher.publish(on_clone(job)).expect("room");
        let report = broker.shutdown(Duration::from_millis(50)).expect("no closure");
        assert_eq!(report.abandoned.len(), 1);
        door.open();
    });
}

#[test]
fn ending_many_with_a_limit_names_those_whose_handlers_are_busy() {
    let broker: Broker = Broker::builder()
        .dispatcher(Dispatcher::new("stuck"))
        .dispatcher(Dispatcher::new("free"))
        .build()
        .expect("valid options");
    let door = Door::default();
    let on = |name: &str, dispatcher: &str| {
        let held = door.clone();
        let subscription = broker.subscription().name(name).pattern(dispatcher).dispatcher(dispatcher);
        subscription.subscribe(move |_| held.pass()).expect("valid")
    };
    let all = [on("first", "stuck"), on("second", "stuck"), on("third", "free")];
    let _ = broker.publisher("stuck").expect("a topic").publish("x").expect("room");
    door.wait_for_one();
    let limit = Duration::from_millis(30);
    let started = Instant::now();
    let outcome = broker.unsubscribe_all_timeout(all, limit);
    let subscriptions = vec!["first".to_owned(), "second".to_owned()];
    assert_eq!(outcome, Err(UnsubscribeError::TimedOut { subscriptions, limit }));
    assert!(started.elapsed() < LIMIT / 2);
    assert_eq!(broker.match_count("stuck"), Ok(0), "they are ended all the same");
    door.open();
}
