//! What a shutdown hands back, kept with durable dead letters: another process finds it there.

mod broker_support;

use broker_support::{LIMIT, eventually, next, panic_quietly};
use ringmain::broker::dead_letters::durable::{Codec, DurableDeadLetters, DurableState};
use ringmain::broker::dead_letters::{DeadLetter, DeadLetterOptions, DeadLetters, Replay, Selection};
use ringmain::broker::{
    Broker, BrokerBuilder, FailureKind, Jitter, PublishOptions, Retry, ShutdownReport, Subscription, Term,
};
use ringmain::message::MessagePayload;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SHORT: Duration = Duration::from_millis(200);
/// For how much longer than its limit a shutdown waits for what hangs, and some time for machines that are busy.
const LONGER: Duration = Duration::from_secs(2);

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("letters");
    (directory, path)
}

fn at(path: &Path) -> BrokerBuilder<u64> {
    let codec = Codec::new(
        |number: &u64| Ok::<_, Infallible>(number.to_string().into_bytes()),
        |bytes| str::from_utf8(bytes).unwrap_or_default().parse::<u64>(),
    );
    Broker::of().durable_dead_letters(DurableDeadLetters::at_with(path, codec))
}

fn open(path: &Path) -> Broker<u64> {
    at(path).build().expect("it opens")
}

fn dead<P: MessagePayload>(broker: &Broker<P>) -> DeadLetters<P> {
    broker.dead_letters().expect("they are kept")
}

fn letters(broker: &Broker<u64>) -> Vec<Arc<DeadLetter<u64>>> {
    dead(broker).query(&Selection::all())
}

fn payloads(broker: &Broker<u64>) -> Vec<u64> {
    letters(broker).iter().map(|letter| letter.message.payload).collect()
}

fn publish(broker: &Broker<u64>, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut publisher = broker.publisher(topic).expect("a topic");
    for number in numbers {
        let _ = publisher.publish(number).expect("room");
    }
}

/// A subscription that is paused, so that what comes to it waits.
fn paused(broker: &Broker<u64>, name: &str) -> Subscription<u64> {
    let subscription = broker.subscription().name(name).pattern("a").subscribe(|_| ()).expect("valid");
    subscription.pause().expect("open");
    subscription
}

/// A subscription to "s" whose handler says when it is called, and does not return until its door is dropped.
fn stuck(broker: &Broker<u64>) -> (Subscription<u64>, Receiver<()>, Sender<()>) {
    let (entered, enters) = channel();
    let (door, opened) = channel::<()>();
    let stuck = broker.subscription().name("stuck").pattern("s").subscribe(move |_| {
        let _ = entered.send(());
        let _ = opened.recv();
    });
    (stuck.expect("valid"), enters, door)
}

/// Shuts a broker down that has all the time it needs.
fn shut_down(broker: &Broker<u64>) -> ShutdownReport<u64> {
    let report = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert!(report.abandoned.is_empty() && report.ledger.is_balanced(), "{report:?}");
    report
}

fn handed_back(report: &ShutdownReport<u64>) -> Vec<u64> {
    report.undelivered.iter().map(|it| it.message.payload).collect()
}

#[test]
fn what_has_waited_is_there_after_a_restart_in_order_and_can_be_replayed() {
    let (_directory, path) = place();
    let broker = open(&path);
    let billing = paused(&broker, "billing");
    let options = PublishOptions::new().header("region", "eu").expect("fits");
    let mut publisher = broker.publisher("a").expect("a topic");
    let first = publisher.publish_with(1, &options).expect("room").id;
    publish(&broker, "a", 2..=100);
    let report = shut_down(&broker);
    assert_eq!(handed_back(&report), (1..=100).collect::<Vec<_>>());
    assert_eq!(report.kept, 100);
    assert_eq!(report.ledger.total().count(Term::Undelivered), 100);
    assert_eq!(report.ledger.total().count(Term::DeadLettered), 0);
    assert_eq!(report.ledger.total().failures(), 0);
    assert!(report.dead_letters.is_some_and(|status| status.not_durable == 0 && status.behind == 0));
    // Once more, it changes nothing.
    let again = shut_down(&broker);
    assert_eq!((again.kept, again.undelivered.len()), (100, 100));
    drop((billing, publisher, broker));

    let broker = open(&path);
    assert_eq!(payloads(&broker), (1..=100).collect::<Vec<_>>());
    let found = letters(&broker);
    assert!(found.iter().all(|letter| letter.kind == FailureKind::Undelivered && letter.attempts.is_empty()));
    assert_eq!((&*found[0].subscription, found[0].message.id), ("billing", first));
    assert_eq!(found[0].message.headers.get_str("region"), Some("eu"));
    let (sender, seen) = channel();
    let billing = broker.subscription().name("billing").pattern("a");
    let _billing = billing.subscribe(move |message| sender.send(**message)).expect("valid");
    let undelivered = Selection::all().kind(FailureKind::Undelivered);
    let replaying =
        dead(&broker).replay(&undelivered, Replay::to_subscription().rate(1_000_000)).expect("open");
    assert_eq!(replaying.letters, 100);
    broker.drain(LIMIT).expect("it drains");
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    assert!(payloads(&broker).is_empty());
    let report = shut_down(&broker);
    assert!(report.ledger.is_balanced());
    assert_eq!((report.kept, report.undelivered.len()), (0, 0));
}

#[test]
fn a_message_that_was_to_be_tried_again_in_an_hour_keeps_its_attempts() {
    let (_directory, path) = place();
    let broker = open(&path);
    let hourly = Retry::constant(Duration::from_secs(3_600)).jitter(Jitter::None).attempts(5);
    let retried = broker.subscription().name("billing").pattern("a").retry(hourly);
    let _billing = retried.subscribe(|_| Err::<(), _>("the bank is closed")).expect("valid");
    publish(&broker, "a", [7]);
    eventually("it has failed", || broker.audit().total().count(Term::Retrying) == 1);
    assert_eq!(shut_down(&broker).kept, 1);
    drop(broker);

    let broker = open(&path);
    let found = letters(&broker);
    let [letter] = &found[..] else { panic!("{found:?}") };
    assert_eq!((letter.kind, letter.last_error()), (FailureKind::Undelivered, Some("the bank is closed")));
    assert_eq!(letter.attempts.len(), 1);
    assert_eq!(letter.attempts[0].kind, FailureKind::Handler);
}

#[test]
fn each_subscription_of_a_message_has_a_letter_of_its_own() {
    let (_directory, path) = place();
    let broker = open(&path);
    let (_stuck, enters, door) = stuck(&broker);
    let named = |name: &str| broker.subscription().name(name).pattern("a").subscribe(|_| ()).expect("valid");
    let _others = (named("mail"), named("billing"));
    publish(&broker, "s", [0]);
    next(&enters);
    publish(&broker, "a", [1, 2]);
    // Its consumer is taken over: what is in its ring is copied from there.
    let begun = Instant::now();
    let report = broker.shutdown(SHORT).expect("not inside of a closure");
    assert!(begun.elapsed() <= SHORT + LONGER, "{:?}", begun.elapsed());
    assert_eq!((handed_back(&report), report.kept, report.abandoned.len()), (vec![1, 2], 4, 1));
    drop(door);
    eventually("it has ended", || broker.shutdown(SHORT).is_ok_and(|report| report.kept == 4));
    drop(broker);

    let broker = reopen(&path);
    let found = letters(&broker);
    let mut found: Vec<_> = found.iter().map(|it| (it.message.payload, &*it.subscription)).collect();
    found.sort_unstable();
    assert_eq!(found, [(1, "billing"), (1, "mail"), (2, "billing"), (2, "mail")]);
}

/// Opens it again, where a thread that was left to itself may have it for some moments yet.
fn reopen(path: &Path) -> Broker<u64> {
    let mut opened = None;
    eventually("it can be opened", || {
        opened = at(path).build().ok();
        opened.is_some()
    });
    opened.expect("it was opened")
}

#[test]
fn no_letter_makes_room_for_what_is_undelivered() {
    let (_directory, path) = place();
    let broker = at(&path).dead_letters(DeadLetterOptions::new().entries(3)).build().expect("it opens");
    let failing = broker.subscription().name("failing").pattern("f").subscribe(|_| Err::<(), _>("no"));
    let _failing = failing.expect("valid");
    publish(&broker, "f", [1, 2]);
    broker.drain(LIMIT).expect("it drains");
    let _billing = paused(&broker, "billing");
    publish(&broker, "a", [3, 4, 5]);
    let report = shut_down(&broker);
    assert_eq!((handed_back(&report), report.kept), (vec![3, 4, 5], 1));
    assert_eq!(dead(&broker).counts().evicted, 0);
    assert!(dead(&broker).counts().is_balanced());
    drop(broker);
    assert_eq!(payloads(&open(&path)), [1, 2, 3]);
}

#[test]
fn nor_do_bytes() {
    let (_directory, path) = place();
    let broker = at(&path).dead_letters(DeadLetterOptions::new().bytes(16 << 10)).build().expect("it opens");
    let _billing = paused(&broker, "billing");
    publish(&broker, "a", 0..200);
    let report = shut_down(&broker);
    assert_eq!(report.undelivered.len(), 200);
    assert!((1..200).contains(&report.kept), "{}", report.kept);
    assert_eq!(dead(&broker).counts().evicted, 0);
    drop(broker);
    assert_eq!(payloads(&open(&path)), (0..report.kept).collect::<Vec<_>>());
}

#[test]
fn a_store_that_ends_with_its_process_takes_nothing() {
    let broker = Broker::of().dead_letters(DeadLetterOptions::new()).build().expect("valid");
    let _billing = paused(&broker, "billing");
    publish(&broker, "a", [1, 2]);
    let report = shut_down(&broker);
    assert_eq!((handed_back(&report), report.kept), (vec![1, 2], 0));
    assert_eq!(dead(&broker).counts().taken, 0);
}

#[test]
fn a_letter_that_is_being_replayed_lies_in_the_store_once() {
    let (_directory, path) = place();
    let broker = open(&path);
    let failing = broker.subscription().name("billing").pattern("a").subscribe(|_| Err::<(), _>("no"));
    let failing = failing.expect("valid");
    publish(&broker, "a", [1]);
    broker.drain(LIMIT).expect("it drains");
    failing.pause().expect("open");
    let _ = dead(&broker).replay(&Selection::all(), Replay::to_subscription()).expect("open");
    publish(&broker, "a", [2]);
    eventually("the other waits", || broker.audit().total().count(Term::Backlogged) >= 1);
    let report = shut_down(&broker);
    assert_eq!((handed_back(&report), report.kept), (vec![2], 1));
    drop((failing, broker));
    let broker = open(&path);
    let found = letters(&broker);
    let kinds: Vec<_> = found.iter().map(|letter| (letter.message.payload, letter.kind)).collect();
    assert_eq!(kinds, [(1, FailureKind::Handler), (2, FailureKind::Undelivered)]);
}

#[test]
fn threads_that_shut_down_together_keep_each_message_once() {
    let (_directory, path) = place();
    let broker = open(&path);
    let _billing = paused(&broker, "billing");
    publish(&broker, "a", 0..500);
    let start = Arc::new(Barrier::new(4));
    let callers = [(); 4].map(|()| {
        let (broker, start) = (broker.clone(), start.clone());
        thread::spawn(move || {
            start.wait();
            broker.shutdown(LIMIT).expect("not inside of a closure").kept
        })
    });
    let kept = callers.map(|caller| caller.join().expect("no panic"));
    assert_eq!(kept, [500; 4]);
    assert_eq!(dead(&broker).counts().taken, 500);
}

#[test]
fn what_a_publisher_had_in_hand_is_kept_by_the_shutdown_that_hands_it_back() {
    let (_directory, path) = place();
    let broker = open(&path);
    let (_stuck, enters, door) = stuck(&broker);
    publish(&broker, "s", [0]);
    next(&enters);
    // A publisher still writes when the consumer is taken over.
    let (writing, writes) = channel();
    let (written, may_end) = channel::<()>();
    let mut publisher = broker.publisher("s").expect("a topic");
    let publishing = thread::spawn(move || {
        let published = publisher.publish_in_place(|slot| {
            let _ = writing.send(());
            let _ = may_end.recv();
            *slot = 7;
        });
        assert!(published.is_ok(), "{published:?}");
    });
    next(&writes);
    let report = broker.shutdown(SHORT).expect("not inside of a closure");
    assert_eq!((report.in_hand, report.kept), (1, 0));
    drop(written);
    publishing.join().expect("no panic");
    let report = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert_eq!((handed_back(&report), report.kept), (vec![7], 1));
    assert_eq!(
        report.dead_letters.map(|status| (status.not_durable, status.state)),
        Some((0, DurableState::Closed))
    );
    drop(door);
    drop(broker);
    assert_eq!(payloads(&reopen(&path)), [7]);
}

/// What takes its time to be copied.
#[derive(Debug, Default)]
struct Heavy(u64);

/// Whether copies wait.
static IS_HEAVY: AtomicBool = AtomicBool::new(false);

impl Clone for Heavy {
    fn clone(&self) -> Self {
        while IS_HEAVY.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        Self(self.0)
    }
}

#[test]
fn what_is_copied_late_is_durable_once_a_later_shutdown_has_waited_for_it() {
    let (_directory, path) = place();
    let codec = || {
        Codec::new(
            |it: &Heavy| Ok::<_, Infallible>(it.0.to_string().into_bytes()),
            |bytes| str::from_utf8(bytes).unwrap_or_default().parse().map(Heavy),
        )
    };
    let open = || Broker::of().durable_dead_letters(DurableDeadLetters::at_with(&path, codec())).build();
    let broker = open().expect("it opens");
    let billing = broker.subscription().name("billing").pattern("a").subscribe(|_| ()).expect("valid");
    billing.pause().expect("open");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..20 {
        let _ = publisher.publish(Heavy(number)).expect("room");
    }
    eventually("all wait", || broker.audit().total().count(Term::Backlogged) == 20);
    IS_HEAVY.store(true, Ordering::Relaxed);
    let report = broker.shutdown(SHORT).expect("not inside of a closure");
    assert_eq!((report.undelivered.len(), report.kept), (20, 0));
    IS_HEAVY.store(false, Ordering::Relaxed);
    let report = broker.shutdown(LIMIT).expect("not inside of a closure");
    assert_eq!(report.kept, 20);
    assert_eq!(
        report.dead_letters.map(|status| (status.not_durable, status.state)),
        Some((0, DurableState::Closed))
    );
    drop((billing, publisher, broker));
    assert_eq!(dead(&open().expect("it opens")).count(&Selection::all()), 20);
}

/// What is copied when it is kept: one of them panics, another never returns.
#[derive(Debug, Default)]
struct Fragile(u64, Arc<AtomicU64>);

const PANICS: u64 = 13;
const HANGS: u64 = 14;

impl Clone for Fragile {
    fn clone(&self) -> Self {
        // Copied once to wait, and once more to be kept.
        let copies = self.1.fetch_add(1, Ordering::Relaxed) + 1;
        match self.0 {
            PANICS if copies == 2 => panic_quietly(),
            HANGS if copies == 2 => thread::park(),
            _ => {}
        }
        Self(self.0, self.1.clone())
    }
}

#[test]
fn a_payload_whose_copy_panics_or_hangs_is_handed_back_all_the_same() {
    let (_directory, path) = place();
    let codec = Codec::new(
        |it: &Fragile| Ok::<_, Infallible>(it.0.to_string().into_bytes()),
        |bytes| {
            str::from_utf8(bytes).unwrap_or_default().parse::<u64>().map(|it| Fragile(it, Arc::default()))
        },
    );
    let durable = DurableDeadLetters::at_with(&path, codec);
    let broker = Broker::of().durable_dead_letters(durable).build().expect("it opens");
    let billing = broker.subscription().name("billing").pattern("a").subscribe(|_| ()).expect("valid");
    billing.pause().expect("open");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in [1, PANICS, 2, HANGS, 3] {
        let _ = publisher.publish(Fragile(number, Arc::default())).expect("room");
    }
    eventually("all wait", || broker.audit().total().count(Term::Backlogged) == 5);
    let begun = Instant::now();
    let report = broker.shutdown(SHORT).expect("not inside of a closure");
    assert!(begun.elapsed() <= SHORT + LONGER, "{:?}", begun.elapsed());
    let back: Vec<_> = report.undelivered.iter().map(|it| it.message.payload.0).collect();
    assert_eq!((back, report.kept, report.withheld), (vec![1, PANICS, 2, HANGS, 3], 2, 0));
    assert!(report.ledger.is_balanced());
}
