//! Time limits on real threads: who is named while a call is over its limit, and what a handler that goes on is told.

mod broker_support;

use broker_support::{LIMIT, eventually, next};
use ringmain::broker::{
    Acknowledgement, Broker, BrokerBuilder, Dispatcher, FailureKind, Retry, Stall, StallKind, Term,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time limit of calls here.
const SHORT: Duration = Duration::from_millis(40);
/// At which nothing is told here, and no call is over.
const NEVER: Duration = Duration::from_secs(3_600);

/// One test after the other: they are about time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A broker whose stalls come to the receiver: at its own limit, which is `general`.
fn watched(general: Duration) -> (BrokerBuilder<u64>, Receiver<Stall>) {
    let (sender, stalls) = channel();
    let sender = Mutex::new(sender);
    let builder = Broker::of::<u64>().stall_after(general).on_stall(move |stall| {
        let _ = sender.lock().expect("no panic").send(stall.clone());
    });
    (builder, stalls)
}

/// Opened once, by the test. A handler that waits for it gives up in the end, so that a test that fails ends.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn wait(&self) {
        let deadline = Instant::now() + LIMIT * 2;
        while !self.is_open() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Waits until the message says that its call is cancelled. Returns whether it did.
fn wait_until_cancelled(is_cancelled: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + LIMIT;
    while !is_cancelled() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    is_cancelled()
}

#[test]
fn a_stuck_call_is_named_at_its_own_limit_is_told_and_what_it_returns_is_late() {
    let _turn = turn();
    let (builder, stalls) = watched(NEVER);
    let broker = builder.dispatcher(Dispatcher::new("d")).build().expect("valid options");
    let (gate, (sender, told)) = (Gate::default(), channel());
    let door = gate.clone();
    let stuck = broker.subscription().name("stuck").pattern("orders.eu").time_limit(SHORT);
    let stuck = stuck
        .subscribe(move |message| {
            let before = message.is_cancelled();
            let _ = sender.send((before, wait_until_cancelled(|| message.is_cancelled())));
            door.wait();
        })
        .expect("valid");
    let _ = broker.publisher("orders.eu").expect("a topic").publish(1).expect("room");

    let stall = next(&stalls);
    assert_eq!((stall.kind, stall.subscription.as_deref()), (StallKind::Call, Some("stuck")));
    assert_eq!((stall.sequence, stall.time_limit), (Some(0), Some(SHORT)));
    assert_eq!(stall.topic.as_ref().map(|topic| topic.as_str()), Some("orders.eu"));
    assert!(stall.age >= SHORT, "{stall}");
    let text = stall.to_string();
    assert!(text.contains("subscription stuck") && text.contains("over its time limit of 40ms;"), "{text}");
    let again = next(&stalls);
    assert!(again.age >= SHORT * 2, "told at each doubling of its limit: {again}");
    let listed = broker.stalls();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].subscription.as_deref(), listed[0].time_limit), (Some("stuck"), Some(SHORT)));
    let (before, after) = next(&told);
    assert!(after, "it is told that nobody waits");
    // On a machine that is busy the first look may come late.
    println!("cancelled at first: {before}");
    assert_eq!(
        (stuck.delivered(), broker.audit().total().late),
        (0, 0),
        "nothing is counted before it returns"
    );

    gate.open();
    broker.drain(LIMIT).expect("the call returns");
    let account = broker.audit().total();
    assert_eq!((account.delivered(), account.late, account.count(Term::Failed)), (0, 1, 1));
    assert_eq!(account.failures_of(FailureKind::TimedOut), 1);
    assert!(broker.stalls().is_empty());
    let _ledger = broker_support::shut_down(&broker);
}

#[test]
fn no_retry_starts_beside_a_late_call() {
    let _turn = turn();
    let broker = Broker::of::<u64>().build().expect("valid options");
    let (sender, attempts) = channel();
    let running = Arc::new(AtomicBool::new(false));
    let retry = Retry::constant(Duration::from_millis(1)).attempts(2);
    let limited = broker.subscription().pattern("a").time_limit(SHORT).retry(retry);
    let _limited = limited
        .subscribe(move |message| {
            let is_beside = running.swap(true, Ordering::AcqRel);
            if message.attempt() == 1 {
                wait_until_cancelled(|| message.is_cancelled());
                // Long enough for a retry that did not wait for it.
                std::thread::sleep(SHORT);
            }
            running.store(false, Ordering::Release);
            let _ = sender.send((message.attempt(), is_beside));
        })
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    assert_eq!([next(&attempts), next(&attempts)], [(1, false), (2, false)]);
    let ledger = broker_support::shut_down(&broker);
    let account = ledger.total();
    assert_eq!(
        (account.late + account.failures_of(FailureKind::Handler), account.retries),
        (account.failures(), 1)
    );
    assert!(account.late >= 1);
}

#[test]
fn a_call_within_a_limit_that_is_longer_than_the_brokers_is_no_stall() {
    let _turn = turn();
    let (builder, stalls) = watched(SHORT);
    let dispatchers = ["patient", "other"].map(Dispatcher::new);
    let broker =
        dispatchers.into_iter().fold(builder, BrokerBuilder::dispatcher).build().expect("valid options");
    let (gate, has_come) = (Gate::default(), Gate::default());
    let door = |name: &str, limit: Option<Duration>| {
        let (gate, has_come) = (gate.clone(), has_come.clone());
        let options = broker.subscription().name(name).pattern(name).dispatcher(name);
        let options = limit.into_iter().fold(options, |options, limit| options.time_limit(limit));
        options.subscribe(move |_| {
            has_come.open();
            gate.wait();
        })
    };
    let _patient = door("patient", Some(NEVER)).expect("valid");
    let _other = door("other", None).expect("valid");
    let _ = broker.publisher("patient").expect("a topic").publish(1).expect("room");
    eventually("the first call begins", || has_come.is_open());
    let _ = broker.publisher("other").expect("a topic").publish(1).expect("room");
    // Of both calls the one that began later is told, more than once.
    for _ in 0..2 {
        let stall = next(&stalls);
        assert_eq!((stall.subscription.as_deref(), stall.time_limit), (Some("other"), None), "{stall}");
    }
    assert!(broker.stalls().iter().all(|stall| stall.subscription.as_deref() == Some("other")));
    gate.open();
    let ledger = broker_support::shut_down(&broker);
    assert_eq!((ledger.total().delivered(), ledger.total().late), (2, 0));
}

#[test]
fn a_call_that_hands_a_message_out_is_named_at_the_limit() {
    let _turn = turn();
    let (builder, stalls) = watched(NEVER);
    let broker = builder.build().expect("valid options");
    let gate = Gate::default();
    let door = gate.clone();
    let kept = broker.subscription().name("kept").pattern("a").time_limit(SHORT);
    let _kept = kept
        .subscribe_with_tokens(Acknowledgement::default(), move |token| {
            door.wait();
            let _ = token.ack();
        })
        .expect("both go together");
    let sent = broker.publisher("a").expect("a topic").publish(1).expect("room");
    let stall = next(&stalls);
    assert_eq!((stall.subscription.as_deref(), stall.message), (Some("kept"), Some(sent.id)));
    assert_eq!(stall.time_limit, Some(SHORT));
    gate.open();
    broker.drain(LIMIT).expect("it is settled");
    let account = broker_support::shut_down(&broker).total();
    assert_eq!(account.delivered() + account.failures_of(FailureKind::TimedOut), 1);
}

#[test]
fn without_a_watchdog_a_call_is_told_and_is_late_all_the_same() {
    let _turn = turn();
    let broker = Broker::of::<u64>().stall_after(None).build().expect("valid options");
    let (sender, told) = channel();
    let limited = broker.subscription().pattern("a").time_limit(SHORT);
    let _limited = limited
        .subscribe(move |message| sender.send(wait_until_cancelled(|| message.is_cancelled())))
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    assert!(next(&told));
    assert!(broker.stalls().is_empty());
    assert_eq!(broker_support::shut_down(&broker).total().late, 1);
}

#[test]
fn a_shutdown_that_is_out_of_time_cancels_a_call_without_a_limit() {
    let _turn = turn();
    let broker = Broker::of::<u64>().build().expect("valid options");
    let (sender, told) = channel();
    let (started, (begun, has_begun)) = (Instant::now(), channel());
    let _patient = broker
        .subscription()
        .pattern("a")
        .subscribe(move |message| {
            let _ = begun.send(());
            let _ = sender.send((wait_until_cancelled(|| message.is_cancelled()), message.deadline()));
        })
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    next(&has_begun);
    let report = broker.shutdown(Duration::from_millis(200)).expect("not inside of a closure");
    assert_eq!(next(&told), (true, None));
    assert!(started.elapsed() < LIMIT, "it is not its own limit that has ended it");
    // As a rule it comes back in the time that is kept for that; else it is in doubt.
    let account = report.ledger.total();
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(account.delivered() + account.count(Term::InDoubt), 1, "{account:?}");
}

#[test]
fn a_call_that_was_taken_over_is_cancelled_and_stays_so() {
    let _turn = turn();
    let broker = Broker::of::<u64>().build().expect("valid options");
    let (gate, (sender, told), (begun, has_begun)) = (Gate::default(), channel(), channel());
    let door = gate.clone();
    let limited = broker.subscription().pattern("a").time_limit(NEVER);
    let _limited = limited.subscribe(move |message| {
        let _ = begun.send(message.is_cancelled());
        door.wait();
        let _ = sender.send(message.is_cancelled());
    });
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    assert!(!next(&has_begun));
    let report = broker.shutdown(Duration::from_millis(50)).expect("not inside of a closure");
    assert_eq!((report.abandoned.len(), report.ledger.total().count(Term::InDoubt)), (1, 1));
    gate.open();
    assert!(next(&told));
    assert!(broker.audit().is_balanced());
    assert_eq!(broker.audit().total().late, 0, "it is in doubt, and nothing more is counted");
}
