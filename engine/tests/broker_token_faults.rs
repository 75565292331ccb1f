//! Messages that handlers keep, with threads: beside payloads and errors that panic and hang, at the stop, and after
//! it.

mod broker_support;

use broker_support::{LIMIT, eventually, next, panic_quietly};
use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
use ringmain::broker::{Acknowledgement, Broker, Dispatcher, Subscription, Term, Token};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn within(limit: Duration) -> Acknowledgement {
    Acknowledgement::within(limit)
}

/// What is done when a payload is copied.
type AtClone = Box<dyn FnOnce() + Send>;

/// What the payload does when it is copied or dropped.
#[derive(Default)]
struct Manners {
    clones: AtomicU64,
    /// The copy of that number, from 1, calls this first.
    at_clone: Mutex<Option<(u64, AtClone)>>,
    /// Whether each drop on a consumer's thread panics.
    drops_badly: AtomicBool,
}

#[derive(Default)]
struct Payload(u64, Option<Arc<Manners>>);

impl Clone for Payload {
    fn clone(&self) -> Self {
        if let Some(manners) = &self.1 {
            let number = manners.clones.fetch_add(1, SeqCst) + 1;
            let mut planned = manners.at_clone.lock().unwrap();
            let now = planned.take_if(|(at, _)| *at == number);
            drop(planned);
            if let Some((_, call)) = now {
                call();
            }
        }
        Self(self.0, self.1.clone())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let is_consumer = std::thread::current().name().is_some_and(|name| name.starts_with("rm-"));
        if is_consumer
            && !std::thread::panicking()
            && self.1.as_ref().is_some_and(|it| it.drops_badly.load(SeqCst))
        {
            panic_quietly();
        }
    }
}

fn publish(broker: &Broker<Payload>, topic: &str, number: u64, manners: Option<&Arc<Manners>>) {
    let (mut publisher, manners) = (broker.publisher(topic).expect("a topic"), manners.cloned());
    let _ = publisher.publish_in_place(|slot| *slot = Payload(number, manners)).expect("room");
}

fn keeping(
    broker: &Broker<Payload>,
    name: &str,
    dispatcher: &str,
    terms: Acknowledgement,
) -> (Subscription<Payload>, Receiver<Token<Payload>>) {
    let (sender, tokens) = channel();
    let subscription = broker.subscription().name(name).pattern(name).dispatcher(dispatcher);
    let subscription = subscription.subscribe_with_tokens(terms, move |token| _ = sender.send(token));
    (subscription.expect("valid"), tokens)
}

/// Two dispatchers, the second of which keeps a message whose token tells when the broker has stopped its consumers.
fn with_bell(with_letters: bool) -> (Broker<Payload>, Subscription<Payload>, Token<Payload>) {
    let builder = Broker::of().dispatcher(Dispatcher::new("one")).dispatcher(Dispatcher::new("two"));
    let builder = if with_letters { builder.dead_letters(DeadLetterOptions::new()) } else { builder };
    let broker = builder.build().expect("valid");
    let (subscription, tokens) = keeping(&broker, "bell", "two", within(LIMIT));
    publish(&broker, "bell", 0, None);
    let bell = next(&tokens);
    (broker, subscription, bell)
}

/// Waits until the broker has stopped its consumers, and leaves what comes afterwards to them.
fn until_stopped(bell: &Token<Payload>) {
    let deadline = Instant::now() + LIMIT;
    while bell.extend().is_ok() && Instant::now() < deadline {
        std::thread::yield_now();
    }
}

/// Publishes a message to "kept", and returns when it is being copied, meanwhile `then` is done.
fn publish_and_copy(broker: &Broker<Payload>, manners: &Arc<Manners>, then: impl FnOnce() + Send + 'static) {
    let (copying, is_copying) = channel();
    let copied = move || {
        let _ = copying.send(());
        then();
    };
    *manners.at_clone.lock().unwrap() = Some((1, Box::new(copied)));
    publish(broker, "kept", 7, Some(manners));
    next(&is_copying);
}

/// A sanitizer makes everything slower.
const SHORT: Duration = Duration::from_millis(if cfg!(ringmain_sanitized) { 4_000 } else { 400 });

#[test]
fn a_payload_that_panics_when_a_late_message_is_let_go_of_costs_no_consumer_its_life() {
    let broker = Broker::of::<Payload>().build().expect("valid");
    let (_subscription, tokens) = keeping(&broker, "kept", "default", within(Duration::from_millis(20)));
    let (copying, is_copying) = channel();
    let (go_on, goes_on) = channel::<()>();
    let manners = Arc::new(Manners::default());
    // The first copy is for the token, the second is made when its time is up and the token is still there.
    let copied = move || {
        let _ = copying.send(());
        let _ = goes_on.recv_timeout(LIMIT);
    };
    *manners.at_clone.lock().unwrap() = Some((2, Box::new(copied)));
    publish(&broker, "kept", 7, Some(&manners));
    let token = next(&tokens);
    next(&is_copying);
    // Now the consumer's share is the last.
    manners.drops_badly.store(true, SeqCst);
    drop(token);
    go_on.send(()).expect("it waits");
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert_eq!(report.dead, [""; 0], "a payload's drop may panic: it costs its own delivery");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

#[test]
fn a_payload_that_panics_when_it_is_not_handed_out_after_all_costs_no_consumer_its_life() {
    let (broker, _bell, bell) = with_bell(false);
    let (_subscription, _tokens) = keeping(&broker, "kept", "one", within(LIMIT));
    let manners = Arc::new(Manners::default());
    let misbehaves = manners.clone();
    publish_and_copy(&broker, &manners, move || {
        until_stopped(&bell);
        misbehaves.drops_badly.store(true, SeqCst);
    });
    let report = broker.shutdown(SHORT).expect("no closure");
    manners.drops_badly.store(false, SeqCst);
    assert_eq!(report.abandoned.len(), 0, "it came back in time");
    assert_eq!(report.dead, [""; 0], "a payload's drop may panic: it costs its own delivery");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

#[test]
fn a_room_that_is_empty_after_a_shutdown_says_so() {
    let (broker, _bell, bell) = with_bell(false);
    let (_subscription, _tokens) = keeping(&broker, "kept", "one", within(LIMIT));
    publish_and_copy(&broker, &Arc::default(), move || until_stopped(&bell));
    let report = broker.shutdown(SHORT).expect("no closure");
    assert_eq!((report.abandoned.len(), report.undelivered.len()), (0, 1), "it is handed back");
    assert_eq!(broker.drain(Duration::from_millis(200)), Ok(()), "nothing waits any more");
}

#[test]
fn a_replayed_letter_whose_token_came_back_at_the_stop_stays_in_the_store_and_nowhere_else() {
    let (broker, _bell, bell) = with_bell(true);
    let (sender, tokens): (Sender<Token<Payload>>, _) = channel();
    let (go_on, goes_on) = channel::<Token<Payload>>();
    let mut calls = 0;
    let _subscription = broker
        .subscription()
        .name("kept")
        .pattern("kept")
        .dispatcher("one")
        .subscribe_with_tokens(within(LIMIT), move |token| {
            calls += 1;
            let _ = sender.send(token);
            if calls == 2 {
                // The replay: it has failed when the handler returns, after the stop.
                if let Ok(bell) = goes_on.recv_timeout(LIMIT) {
                    until_stopped(&bell);
                }
            }
        })
        .expect("valid");
    publish(&broker, "kept", 7, None);
    next(&tokens).fail("at first").expect("in time");
    let letters = broker.dead_letters().expect("it keeps them");
    eventually("it is a dead letter", || letters.count(&Selection::all()) == 1);
    let _replaying = letters.replay(&Selection::all(), Replay::to_subscription()).expect("it is there");
    next(&tokens).fail("again").expect("in time");
    go_on.send(bell).expect("it waits");
    let report = broker.shutdown(SHORT).expect("no closure");
    assert_eq!(report.abandoned.len(), 0, "it came back in time");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let back: Vec<_> = report.undelivered.iter().map(|back| &back.subscriptions).collect();
    assert_eq!((letters.count(&Selection::all()), back.len()), (1, 0), "{back:?} and {}", report.ledger);
}

#[test]
fn a_handler_that_never_returns_with_a_token_of_a_message_that_had_waited_is_reported_with_its_message() {
    let broker = Broker::of::<Payload>().build().expect("valid");
    let (stuck, is_stuck) = channel();
    let (release, released) = channel::<()>();
    let subscription = broker.subscription().name("kept").pattern("kept");
    let subscription = subscription
        .subscribe_with_tokens(within(LIMIT), move |token: Token<Payload>| {
            if token.message().0 == 2 {
                let _ = stuck.send(token.message().id());
                let _ = released.recv();
            }
            let _ = token.ack();
        })
        .expect("valid");
    subscription.pause().expect("no child");
    for number in [1, 2] {
        publish(&broker, "kept", number, None);
    }
    eventually("both wait", || subscription.status().backlogged == 2);
    subscription.resume();
    let id = next(&is_stuck);
    let report = broker.shutdown(Duration::from_millis(100)).expect("no closure");
    assert_eq!(report.abandoned.len(), 1);
    drop(release);
    assert_eq!(report.abandoned[0].message, Some(id), "the message that the handler was called with");
}

#[test]
#[cfg(target_os = "linux")]
fn a_broker_whose_last_handle_was_dropped_ends_beside_a_token_that_was_leaked() {
    let broker = Broker::of::<Payload>().dispatcher(Dispatcher::new("leaky")).build().expect("valid");
    let (subscription, tokens) = keeping(&broker, "kept", "leaky", within(Duration::MAX));
    subscription.detach();
    publish(&broker, "kept", 7, None);
    broker_support::leak(next(&tokens));
    assert_eq!(broker_support::threads_named("rm-leaky"), 1);
    drop((broker, tokens));
    // Consumers handle what is there, drop their handlers, and end.
    let deadline = Instant::now() + Duration::from_secs(5);
    while broker_support::threads_named("rm-leaky") > 0 {
        assert!(Instant::now() < deadline, "its thread lives for ever");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn an_error_whose_drop_hangs_at_the_stop_costs_no_message_that_waits() {
    /// Hangs when it is dropped on a consumer's thread.
    #[derive(Debug)]
    struct Hanging(Mutex<Receiver<()>>);
    impl std::fmt::Display for Hanging {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("hanging")
        }
    }
    impl std::error::Error for Hanging {}
    impl Drop for Hanging {
        fn drop(&mut self) {
            let _ = self.0.lock().unwrap().recv_timeout(LIMIT);
        }
    }
    let (broker, _bell, bell) = with_bell(false);
    let (_subscription, tokens) = keeping(&broker, "kept", "one", within(LIMIT));
    let (busy, is_busy) = channel();
    let (go_on, goes_on) = channel::<()>();
    let _gate = broker
        .subscription()
        .name("gate")
        .pattern("gate")
        .dispatcher("one")
        .subscribe(move |message| {
            let _ = busy.send(());
            if message.0 < 2 {
                // The consumer reads its mail before the next one.
                let _ = goes_on.recv_timeout(LIMIT);
            } else {
                until_stopped(&bell);
            }
        })
        .expect("valid");
    for number in 0..4 {
        publish(&broker, "kept", number, None);
    }
    let token = next(&tokens);
    publish(&broker, "gate", 0, None);
    next(&is_busy);
    // They come in one batch, between whose messages nothing that has waited is seen to.
    publish(&broker, "gate", 1, None);
    publish(&broker, "gate", 2, None);
    go_on.send(()).expect("it waits");
    next(&is_busy);
    let (release, released) = channel::<()>();
    token.fail(Hanging(Mutex::new(released))).expect("in time");
    go_on.send(()).expect("it waits");
    next(&is_busy);
    let report = broker.shutdown(SHORT).expect("no closure");
    let account =
        report.ledger.subscriptions.iter().find(|one| one.name == "kept").expect("it is there").clone();
    drop(release);
    assert_eq!(
        (account.count(Term::Undelivered), report.undelivered.len(), report.withheld),
        (3, 3, 0),
        "three messages waited, and are handed back: {account:?}"
    );
}
