//! Foreign code beside the handler: a log that panics or hangs, error callbacks, errors whose drop
//! panics. It may cost its own delivery, and nothing else. The log is that of the whole process, so
//! the tests take turns.

mod broker_support;

use broker_support::eventually;
use ringmain::broker::{Broker, Term};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tracing::field::Field;
use tracing::span;

const QUIET: u8 = 0;
const PANICS: u8 = 1;
/// At the first event.
const HANGS: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(QUIET);
static EVENTS: AtomicU64 = AtomicU64::new(0);
/// The events: target, level, and all fields as text.
static TEXTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A log whose writer is broken.
struct Log;

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let metadata = event.metadata();
        let mut text = format!("{} {}", metadata.target(), metadata.level());
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            let _ = write!(text, " {field}={value:?}");
        });
        TEXTS.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        let is_first = EVENTS.fetch_add(1, SeqCst) == 0;
        if MODE.load(SeqCst) == PANICS {
            panic!("planted: the log's writer is broken");
        }
        while is_first && MODE.load(SeqCst) == HANGS {
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// Sets how the log behaves until it is dropped.
fn log_that(mode: u8) -> impl Drop {
    static TURN: Mutex<()> = Mutex::new(());
    static INSTALL: Once = Once::new();
    struct Quiet(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);
    impl Drop for Quiet {
        fn drop(&mut self) {
            MODE.store(QUIET, SeqCst);
        }
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    INSTALL.call_once(|| tracing::subscriber::set_global_default(Log).expect("the only one"));
    EVENTS.store(0, SeqCst);
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    MODE.store(mode, SeqCst);
    Quiet(turn)
}

#[test]
fn a_log_that_panics_costs_no_delivery() {
    let _quiet = log_that(PANICS);
    let broker: Broker = Broker::builder().build().expect("a broker");
    let failing = broker.subscribe("a", |_| Err::<(), _>("planted")).expect("a pattern");
    let panicking = broker.subscribe("a", |_| panic!("planted")).expect("a pattern");
    let healthy = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    for _ in 0..100 {
        let _ = publisher.publish("x").expect("it waits for room");
    }
    let report = broker.shutdown(Duration::from_secs(20)).expect("not inside of a publish closure");
    assert!(EVENTS.load(SeqCst) >= 14, "each logs its failures 1, 2, 4, .. 64");
    assert_eq!((failing.delivered(), panicking.delivered(), healthy.delivered()), (0, 0, 100));
    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
    assert!(report.abandoned.is_empty(), "{:?}", report.abandoned);
}

#[test]
fn a_log_that_hangs_costs_no_message() {
    let quiet = log_that(HANGS);
    let broker: Broker = Broker::builder().build().expect("a broker");
    let _failing = broker
        .subscribe("a", |message| if message.as_str() == Some("bad") { Err("planted") } else { Ok(()) })
        .expect("a pattern");
    let later = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish("bad").expect("there is room");
    for _ in 0..10 {
        let _ = publisher.publish("good").expect("there is room");
    }
    eventually("the log to hang", || EVENTS.load(SeqCst) == 1);
    let total = broker.audit().total();
    assert_eq!((total.count(Term::Failed), total.count(Term::InFlight)), (1, 0), "it is counted once");
    let start = Instant::now();
    let report = broker.shutdown(Duration::from_millis(500)).expect("not inside of a publish closure");
    assert!(start.elapsed() < Duration::from_millis(1_500), "it took {:?}", start.elapsed());
    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
    // The failure had been counted before it was logged, so nothing is in doubt.
    assert_eq!(report.ledger.total().count(Term::InDoubt), 0);
    assert_eq!(later.delivered(), 0);
    assert_eq!(report.undelivered.len(), 11);
    assert_eq!(report.abandoned.len(), 1);
    drop(quiet);
}

#[test]
fn a_wildcard_of_another_system_is_warned_of_once_a_call() {
    let _quiet = log_that(QUIET);
    let broker: Broker = Broker::builder().build().expect("a broker");
    let texts = || std::mem::take(&mut *TEXTS.lock().unwrap_or_else(PoisonError::into_inner));
    broker.subscribe("orders.#.*.x+.a>", |_| ()).expect("a pattern").detach();
    assert_eq!(texts(), [""; 0]);
    let hint = r##"">" stands for itself here; write "#" for any number of words"##;
    broker.subscribe("orders.>", |_| ()).expect("a pattern").detach();
    let says = |name: &str, others: usize| {
        format!(
            "ringmain::subscribe WARN message=in a pattern {hint} subscription={name:?} pattern=orders.> \
             others={others}"
        )
    };
    assert_eq!(texts(), [says("subscription-1", 0)]);
    let patterns = ["orders.#", "orders.>", "orders/+/x", "$SYS.load", "orders"];
    let named = |(number, pattern)| broker.subscription().name(&format!("s{number}")).pattern(pattern);
    let prepared = patterns.into_iter().enumerate().map(named).map(|options| options.prepare(|_| ()));
    let subscriptions = broker.subscribe_all(prepared).expect("patterns");
    assert_eq!(texts(), [says("s1", 2)]);
    broker.unsubscribe_all(subscriptions);
    assert_eq!(texts(), [""; 0]);
}

#[test]
fn a_log_that_panics_leaves_a_subscription_as_it_is() {
    let _quiet = log_that(PANICS);
    let broker: Broker = Broker::builder().build().expect("a broker");
    let literal = broker.subscribe("orders.>", |_| ()).expect("a pattern");
    assert_eq!(EVENTS.load(SeqCst), 1);
    let _ = broker.publisher("orders.>").expect("a topic").publish("x").expect("room");
    let report = broker.shutdown(Duration::from_secs(20)).expect("not inside of a publish closure");
    assert_eq!(literal.delivered(), 1);
    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
}

#[test]
fn a_log_that_hangs_at_a_subscription_holds_nobody_else_up() {
    let quiet = log_that(HANGS);
    let broker: Broker = Broker::builder().build().expect("a broker");
    let (sender, delivered) = mpsc::channel();
    let subscriber = {
        let broker = broker.clone();
        thread::spawn(move || broker.subscribe("orders.>", move |_| sender.send(()).expect("the test waits")))
    };
    eventually("the log to hang", || EVENTS.load(SeqCst) == 1);
    let _ = broker.publisher("orders.>").expect("a topic").publish("x").expect("room");
    delivered.recv_timeout(Duration::from_secs(30)).expect("the subscription stands");
    broker.subscribe("events.>", |_| ()).expect("a pattern").unsubscribe();
    assert!(!subscriber.is_finished());
    drop(quiet);
    let subscription = subscriber.join().expect("the subscriber panicked").expect("a pattern");
    eventually("the delivery is counted", || subscription.delivered() == 1);
}

/// An error that shows nothing to anybody.
#[derive(Debug)]
struct Hostile;

impl fmt::Display for Hostile {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("planted: an error's text")
    }
}

impl std::error::Error for Hostile {}

impl Drop for Hostile {
    fn drop(&mut self) {
        panic!("planted: an error's drop")
    }
}

#[test]
fn callbacks_are_told_of_each_failure_and_may_panic() {
    let _quiet = log_that(QUIET);
    let told_broker = Arc::new(AtomicU64::new(0));
    let counter = told_broker.clone();
    let broker: Broker = Broker::builder()
        .on_error(move |_, _| {
            counter.fetch_add(1, SeqCst);
        })
        .build()
        .expect("a broker");
    let (sender, told) = mpsc::channel();
    let fails = Arc::new(AtomicBool::new(true));
    let still_fails = fails.clone();
    let mut calls = 0;
    let _subscription = broker
        .subscription()
        .name("billing")
        .pattern("a")
        .on_error(move |message, failed| {
            let text = failed.error.is_some().then_some("an error").or(failed.panic);
            let told = (
                message.topic().to_string(),
                failed.subscription.to_owned(),
                failed.attempt,
                text.map(str::to_owned),
            );
            sender.send(told).expect("somebody listens");
            panic!("planted: a callback");
        })
        .subscribe(move |_| {
            calls += 1;
            match calls {
                1 => Err(Hostile),
                2 => panic!("call number {calls}"),
                _ => {
                    still_fails.store(false, SeqCst);
                    Ok(())
                }
            }
        })
        .expect("a pattern");
    let healthy = broker.subscribe("a", |_| ()).expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    for _ in 0..3 {
        let _ = publisher.publish("x").expect("there is room");
    }
    eventually("the last call", || !fails.load(SeqCst));
    let report = broker.shutdown(Duration::from_secs(20)).expect("not inside of a publish closure");
    let told: Vec<_> = told.try_iter().collect();
    let expected = |text: &str| ("a".to_owned(), "billing".to_owned(), 1, Some(text.to_owned()));
    assert_eq!(told, [expected("an error"), expected("call number 2")]);
    assert_eq!(told_broker.load(SeqCst), 2);
    assert_eq!(healthy.delivered(), 3);
    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
}
