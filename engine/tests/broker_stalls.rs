//! The watchdog: what stands still is told with its names, once and at each doubling; what is merely busy is not.

mod broker_support;

use broker_support::{LIMIT, eventually, next, panic_quietly, within};
use ringmain::broker::{
    Acknowledgement, Broker, BrokerBuilder, Dispatcher, Retry, Stall, StallCause, StallKind, Subscription,
    Token,
};
use ringmain::message::MessagePayload;
use ringmain::ring::SlotPolicy;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing::field::Field;
use tracing::span;

/// When a call is a stall here.
const AGE: Duration = Duration::from_millis(40);

/// One test after the other: they are about time, and one of them counts threads.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A door that threads come to and wait at, until it is opened for all.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<(u64, bool)>, Condvar)>);

impl Door {
    fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("no panic");
        state.0 += 1;
        changed.notify_all();
        let deadline = Instant::now() + LIMIT;
        while !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = changed.wait_timeout(state, left).expect("no panic").0;
        }
    }

    fn wait_for(&self, arrived: u64) {
        eventually("somebody comes to the door", || self.0.0.lock().expect("no panic").0 >= arrived);
    }

    fn open(&self) {
        self.0.0.lock().expect("no panic").1 = true;
        self.0.1.notify_all();
    }
}

/// A builder whose stalls come to the receiver.
fn watched<P: MessagePayload>(age: Duration) -> (BrokerBuilder<P>, Receiver<Stall>) {
    let (sender, stalls) = channel();
    let sender = Mutex::new(sender);
    let builder = Broker::of::<P>().stall_after(age).on_stall(move |stall| {
        let _ = sender.lock().expect("no panic").send(stall.clone());
    });
    (builder, stalls)
}

fn broker() -> (Broker<u64>, Receiver<Stall>) {
    let (builder, stalls) = watched(AGE);
    (builder.dispatcher(Dispatcher::new("d").capacity(64)).build().expect("valid options"), stalls)
}

/// A subscription that waits at the door.
fn at_door(broker: &Broker<u64>, name: &str, pattern: &str, door: &Door) -> Subscription<u64> {
    let door = door.clone();
    broker.subscription().name(name).pattern(pattern).subscribe(move |_| door.pass()).expect("valid")
}

/// The next stall, which is a call of that subscription.
#[track_caller]
fn next_call(stalls: &Receiver<Stall>, subscription: &str) -> Stall {
    let stall = next(stalls);
    assert_eq!((stall.kind, stall.cause), (StallKind::Call, StallCause::Call), "{stall}");
    assert_eq!(stall.subscription.as_deref(), Some(subscription), "{stall}");
    assert_eq!((&*stall.dispatcher, &*stall.thread), ("d", "rm-d-0"));
    assert!(stall.age >= AGE && stall.call_age == Some(stall.age), "{stall:?}");
    stall
}

#[track_caller]
fn end(broker: &Broker<u64>, door: &Door) {
    door.open();
    broker.drain(LIMIT).expect("the door is open");
    let _ = broker_support::shut_down(broker);
}

#[test]
fn a_call_of_an_event_is_named() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let (door, quick) = (Door::default(), Arc::new(AtomicU64::new(0)));
    let counted = quick.clone();
    let _before = broker.subscription().name("before").pattern("#").subscribe(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let _stuck = at_door(&broker, "stuck", "orders.eu", &door);
    let mut publisher = broker.publisher("orders.eu").expect("a topic");
    for number in 0..3 {
        let _ = publisher.publish(number).expect("room");
    }
    let stall = next_call(&stalls, "stuck");
    assert_eq!(stall.topic.as_ref().map(|topic| topic.as_str()), Some("orders.eu"));
    assert_eq!((stall.sequence, stall.message, stall.behind), (Some(0), None, 3));
    assert_eq!(quick.load(Ordering::Relaxed), 1);
    let text = stall.to_string();
    for part in ["rm-d-0", "subscription stuck", "topic orders.eu", "sequence 0"] {
        assert!(text.contains(part), "{text}");
    }
    end(&broker, &door);
}

#[test]
fn a_topic_is_told_only_where_it_is_certain() {
    let _turn = turn();
    for (others, expected) in [(0, Some("orders.eu")), (1, None)] {
        let (broker, stalls) = broker();
        let door = Door::default();
        let _stuck = at_door(&broker, "stuck", "orders.*", &door);
        let mut publisher = broker.publisher("orders.eu").expect("a topic");
        let _elsewhere = broker.publisher("trades.eu").expect("a topic");
        let _others: Vec<_> = (0..others).map(|_| broker.publisher("orders.us").expect("a topic")).collect();
        let _ = publisher.publish(1).expect("room");
        let stall = next_call(&stalls, "stuck");
        assert_eq!(stall.topic.as_ref().map(|topic| topic.as_str()), expected);
        end(&broker, &door);
    }
}

#[test]
fn a_call_of_what_has_waited_is_named_with_its_message() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let door = Door::default();
    let stuck = at_door(&broker, "stuck", "orders.*", &door);
    stuck.pause().expect("not forked");
    let mut publisher = broker.publisher("orders.eu").expect("a topic");
    let published = publisher.publish(1).expect("room");
    let _others = broker.publisher("orders.us").expect("a topic");
    broker_support::drain(&broker);
    stuck.resume();
    let stall = next_call(&stalls, "stuck");
    assert_eq!(stall.message, Some(published.id));
    assert_eq!(stall.topic.as_ref().map(|topic| topic.as_str()), Some("orders.eu"));
    assert_eq!(stall.sequence, None);
    end(&broker, &door);
}

#[test]
fn a_retry_is_named_with_its_message() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let door = Door::default();
    let held = door.clone();
    let retried = broker.subscription().name("retried").pattern("a");
    let retried =
        retried.retry(Retry::constant(Duration::from_millis(1)).attempts(2)).subscribe(move |message| {
            if message.attempt() == 1 {
                return Err("once more");
            }
            held.pass();
            Ok(())
        });
    let _retried = retried.expect("valid");
    let published = broker.publisher("a").expect("a topic").publish(1).expect("room");
    assert_eq!(next_call(&stalls, "retried").message, Some(published.id));
    end(&broker, &door);
}

#[test]
fn a_call_with_a_token_is_named_with_its_message() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let door = Door::default();
    let held = door.clone();
    let (sender, tokens) = channel();
    let kept = broker.subscription().name("kept").pattern("a");
    let kept =
        kept.subscribe_with_tokens(Acknowledgement::within(LIMIT).in_flight(4), move |token: Token<u64>| {
            let number = *token.message();
            let _ = sender.send(token);
            if number == 1 {
                held.pass();
            }
        });
    let _kept = kept.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let [_first, second] = [0, 1].map(|number| publisher.publish(number).expect("room"));
    let stall = next_call(&stalls, "kept");
    assert_eq!(stall.message, Some(second.id), "the one that was handed out last");
    assert_eq!(stall.topic.as_ref().map(|topic| topic.as_str()), Some("a"));
    for token in [next(&tokens), next(&tokens)] {
        token.ack().expect("in time");
    }
    end(&broker, &door);
}

#[test]
fn a_filter_that_hangs_is_named() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let door = Door::default();
    let held = door.clone();
    let filter = move |_: &ringmain::message::Message<'_, u64>| {
        held.pass();
        true
    };
    let filtered = broker.subscription().name("filtered").pattern("a").filter(filter).subscribe(|_| ());
    let _filtered = filtered.expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    assert_eq!(next_call(&stalls, "filtered").sequence, Some(0));
    end(&broker, &door);
}

static CLEARING: Mutex<Option<Door>> = Mutex::new(None);

/// A payload whose drop waits at a door, where it holds something.
#[derive(Clone, Default)]
struct Cleared(bool);

impl Drop for Cleared {
    fn drop(&mut self) {
        let door = if self.0 { CLEARING.lock().expect("no panic").clone() } else { None };
        if let Some(door) = door {
            door.pass();
        }
    }
}

#[test]
fn a_slot_that_is_being_cleared_is_told_by_its_sequence() {
    let _turn = turn();
    let (builder, stalls) = watched::<Cleared>(AGE);
    let dispatcher = Dispatcher::new("d").capacity(64).slot_policy(SlotPolicy::Clear);
    let broker = builder.dispatcher(dispatcher).build().expect("valid options");
    let _handled = broker.subscription().name("handled").pattern("a").subscribe(|_| ()).expect("valid");
    let door = Door::default();
    *CLEARING.lock().expect("no panic") = Some(door.clone());
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish_in_place(|payload| payload.0 = true).expect("room");
    let stall = next(&stalls);
    assert_eq!((stall.kind, stall.subscription, stall.sequence), (StallKind::Call, None, Some(0)));
    *CLEARING.lock().expect("no panic") = None;
    door.open();
    let _ = broker_support::shut_down(&broker);
}

/// Runs for so long, as a handler does that works.
fn work(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// The pace of a consumer: the longest time between the ends of two of its calls. On a busy machine one short call may
/// take long, when its thread has no core; no call takes longer than two such times.
struct Pace(Mutex<(Option<Instant>, Duration)>);

impl Pace {
    const fn new() -> Self {
        Self(Mutex::new((None, Duration::ZERO)))
    }

    /// Says that a call is about to end, or that the first may begin.
    fn mark(&self) {
        let mut pace = self.0.lock().expect("no panic");
        let now = Instant::now();
        let since = pace.0.replace(now).map_or(Duration::ZERO, |before| now - before);
        pace.1 = pace.1.max(since);
    }

    /// Checks that no call has been told of that has taken less time.
    fn check(&self, stalls: &Receiver<Stall>) {
        let longest = self.0.lock().expect("no panic").1;
        for stall in stalls.try_iter().filter(|stall| stall.kind == StallKind::Call) {
            assert!(stall.age <= 2 * longest, "no call took longer than {:?}: {stall:?}", 2 * longest);
        }
    }
}

#[test]
fn many_short_calls_in_a_row_are_no_stall() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let (pace, calls) = (Arc::new(Pace::new()), Arc::new(AtomicU64::new(0)));
    let (marked, counted) = (pace.clone(), calls.clone());
    let busy = broker.subscription().name("busy").pattern("a").subscribe(move |_| {
        work(Duration::from_micros(50));
        counted.fetch_add(1, Ordering::Relaxed);
        marked.mark();
    });
    let _busy = busy.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let end = Instant::now() + 15 * AGE;
    while Instant::now() < end || calls.load(Ordering::Relaxed) < 2_000 {
        let _ = publisher.publish(1).expect("the consumer makes room");
    }
    broker.drain(LIMIT).expect("nothing hangs");
    let _ = broker_support::shut_down(&broker);
    pace.check(&stalls);
}

#[test]
fn a_backlog_that_is_caught_up_with_in_many_short_calls_is_no_stall() {
    let _turn = turn();
    let (builder, stalls) = watched(AGE);
    let broker: Broker<u64> =
        builder.dispatcher(Dispatcher::new("d").capacity(512)).build().expect("valid options");
    let pace = Arc::new(Pace::new());
    let marked = pace.clone();
    let behind = broker.subscription().name("behind").pattern("a").subscribe(move |_| {
        work(Duration::from_millis(1));
        marked.mark();
    });
    let behind = behind.expect("valid");
    behind.pause().expect("not forked");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..400 {
        let _ = publisher.publish(number).expect("room");
    }
    broker_support::drain(&broker);
    pace.mark();
    behind.resume();
    broker.drain(LIMIT).expect("nothing hangs");
    let _ = broker_support::shut_down(&broker);
    pace.check(&stalls);
}

/// How long the drops of copies take.
static DROPS: Pace = Pace::new();

/// A payload whose drop takes a moment, where it is a copy.
#[derive(Default)]
struct Heavy(bool);

impl Clone for Heavy {
    fn clone(&self) -> Self {
        Self(true)
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        if self.0 {
            work(Duration::from_millis(1));
            DROPS.mark();
        }
    }
}

/// Each message that comes back is settled in calls of its own, all of them about one subscription, with no other call
/// in between.
#[test]
fn many_tokens_that_come_back_in_a_row_are_no_stall() {
    const MESSAGES: u64 = 400;
    let _turn = turn();
    let (builder, stalls) = watched::<Heavy>(AGE);
    let broker = builder.dispatcher(Dispatcher::new("d").capacity(512)).build().expect("valid options");
    let (sender, tokens) = channel();
    let terms = Acknowledgement::within(LIMIT).in_flight(MESSAGES as usize);
    let kept = broker.subscription().name("kept").pattern("a").subscribe_with_tokens(terms, move |token| {
        let _ = sender.send(token);
    });
    let _kept = kept.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for _ in 0..MESSAGES {
        let _ = publisher.publish_in_place(|payload| payload.0 = false).expect("room");
    }
    let tokens: Vec<Token<Heavy>> = (0..MESSAGES).map(|_| next(&tokens)).collect();
    DROPS.mark();
    for token in tokens {
        token.ack().expect("in time");
    }
    broker.drain(LIMIT).expect("nothing hangs");
    let _ = broker_support::shut_down(&broker);
    DROPS.check(&stalls);
}

#[test]
fn a_stall_is_told_again_at_each_doubling_of_its_age_and_at_no_other() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let door = Door::default();
    let _stuck = at_door(&broker, "stuck", "a", &door);
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    let begun = Instant::now();
    let mut least = AGE;
    for _ in 0..4 {
        let stall = next_call(&stalls, "stuck");
        assert!(stall.age >= least, "told at {:?}, not before {least:?}", stall.age);
        while least <= stall.age {
            least *= 2;
        }
    }
    assert!(begun.elapsed() >= 8 * AGE, "told four times");
    end(&broker, &door);
}

#[test]
fn what_stands_still_now_is_listed_and_nothing_else() {
    let _turn = turn();
    let (broker, stalls) = broker();
    let door = Door::default();
    let _stuck = at_door(&broker, "stuck", "a", &door);
    assert_eq!(broker.stalls(), []);
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    let told = next_call(&stalls, "stuck");
    let listed = broker.stalls();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].age >= told.age);
    let mut as_told = listed[0].clone();
    (as_told.age, as_told.call_age) = (told.age, told.call_age);
    assert_eq!(as_told, told);
    door.open();
    broker.drain(LIMIT).expect("the door is open");
    eventually("it is not listed any more", || broker.stalls().is_empty());
    let _ = broker_support::shut_down(&broker);
}

/// What was logged of stalls.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "ringmain::stall"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            let _ = write!(text, " {field}={value:?}");
        });
        LOGGED.lock().expect("no panic").push(text);
    }
}

#[test]
fn a_stall_is_logged_and_so_is_its_end() {
    static INSTALL: Once = Once::new();
    let _turn = turn();
    INSTALL.call_once(|| tracing::subscriber::set_global_default(Log).expect("the only one"));
    let (broker, stalls) = broker();
    let door = Door::default();
    let _stuck = at_door(&broker, "to-be-logged", "a", &door);
    let lines = |level: &str| {
        let logged = LOGGED.lock().expect("no panic");
        let of_it =
            |line: &&String| line.starts_with(level) && line.contains("subscription=\"to-be-logged\"");
        logged.iter().filter(of_it).cloned().collect::<Vec<_>>()
    };
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    next_call(&stalls, "to-be-logged");
    assert!(lines("WARN")[0].contains("thread=\"rm-d-0\"") && lines("WARN")[0].contains("topic=a"));
    assert_eq!(lines("INFO"), [""; 0], "it is not over");
    door.open();
    eventually("the end is logged", || !lines("INFO").is_empty());
    assert!(lines("INFO")[0].contains("at_least="), "{:?}", lines("INFO"));
    assert_eq!(lines("INFO").len(), 1);
    let _ = broker_support::shut_down(&broker);
}

/// Fills a dispatcher of 8 slots, and has one more publish wait on a thread of its own.
fn fill(broker: &Broker<u64>) -> thread::JoinHandle<()> {
    let mut publisher = broker.publisher("a").expect("a topic");
    while publisher.try_publish(1).is_ok() {}
    thread::spawn(move || _ = publisher.publish(1).expect("there is room in the end"))
}

fn small(age: Duration) -> (Broker<u64>, Receiver<Stall>) {
    let (builder, stalls) = watched(age);
    (builder.dispatcher(Dispatcher::new("d").capacity(8)).build().expect("valid options"), stalls)
}

/// The next stall of a publisher.
#[track_caller]
fn next_of_publisher(stalls: &Receiver<Stall>) -> Stall {
    loop {
        let stall = next(stalls);
        if stall.kind == StallKind::Publisher {
            return stall;
        }
    }
}

#[test]
fn a_publisher_that_waits_is_told_whose_call_it_waits_for() {
    let _turn = turn();
    let (broker, stalls) = small(AGE);
    let door = Door::default();
    let _stuck = at_door(&broker, "stuck", "a", &door);
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    door.wait_for(1);
    let blocked = fill(&broker);
    let stall = next_of_publisher(&stalls);
    assert_eq!((stall.cause, stall.subscription.as_deref()), (StallCause::Call, Some("stuck")), "{stall}");
    assert_eq!((&*stall.thread, stall.behind, stall.waiting_publishers), ("rm-d-0", 8, 1));
    assert_eq!(stall.topic.as_ref().map(|topic| topic.as_str()), Some("a"));
    assert!(stall.call_age >= Some(AGE) && stall.age >= AGE, "{stall:?}");
    let text = stall.to_string();
    for part in
        ["dispatcher d has had no room", "rm-d-0 is 8 messages behind", "in a call of subscription stuck"]
    {
        assert!(text.contains(part), "{text}");
    }
    let listed: Vec<_> = broker.stalls().into_iter().map(|stall| stall.kind).collect();
    assert_eq!(listed, [StallKind::Call, StallKind::Publisher]);
    door.open();
    within("the publisher goes on", move || blocked.join().expect("no panic"));
    broker.drain(LIMIT).expect("the door is open");
    eventually("it is over", || broker.stalls().is_empty());
    let _ = broker_support::shut_down(&broker);
}

#[test]
fn of_several_consumers_the_one_is_named_that_the_others_and_the_publishers_wait_for() {
    let _turn = turn();
    for (stages, stage, thread) in
        [(&[1, 1][..], 0, "rm-d-0"), (&[1, 1], 1, "rm-d-1"), (&[2], 0, "rm-d-0"), (&[1, 1, 1], 1, "rm-d-1")]
    {
        let (builder, stalls) = watched(AGE);
        let dispatcher = Dispatcher::new("d").capacity(8).stages(stages);
        let broker: Broker<u64> = builder.dispatcher(dispatcher).build().expect("valid options");
        let (door, held) = (Door::default(), Door::default());
        let waits = held.clone();
        let stuck = broker.subscription().name("stuck").pattern("a").stage(stage);
        let _stuck = stuck.subscribe(move |_| waits.pass()).expect("valid");
        let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
        held.wait_for(1);
        let blocked = fill(&broker);
        let stall = next_of_publisher(&stalls);
        assert_eq!((&*stall.thread, stall.cause), (thread, StallCause::Call), "{stages:?}: {stall}");
        assert_eq!(stall.subscription.as_deref(), Some("stuck"));
        held.open();
        within("the publisher goes on", move || blocked.join().expect("no panic"));
        end(&broker, &door);
    }
}

#[test]
fn a_full_ring_that_nobody_waits_for_is_no_stall() {
    let _turn = turn();
    let (broker, stalls) = small(AGE);
    let door = Door::default();
    let _stuck = at_door(&broker, "stuck", "a", &door);
    let mut publisher = broker.publisher("a").expect("a topic");
    while publisher.try_publish(1).is_ok() {}
    door.wait_for(1);
    while publisher.try_publish(1).is_ok() {}
    // The second telling of the call: by then a stall of the ring would have been told.
    for _ in 0..2 {
        next_call(&stalls, "stuck");
    }
    end(&broker, &door);
    assert!(stalls.try_iter().all(|stall| stall.kind == StallKind::Call));
}

#[test]
fn publishers_who_have_waited_and_do_not_any_more_are_no_stall() {
    let _turn = turn();
    let (broker, stalls) = small(AGE);
    let [first, second] = [(); 2].map(|()| Door::default());
    let _first = at_door(&broker, "first", "a", &first);
    let _second = at_door(&broker, "second", "b", &second);
    let blocked = fill(&broker);
    next_of_publisher(&stalls);
    first.open();
    within("the publisher goes on", move || blocked.join().expect("no panic"));
    broker.drain(LIMIT).expect("the door is open");
    let _ = broker.publisher("b").expect("a topic").publish(1).expect("room");
    // What was told while they waited comes before. By the third telling of this call one of the ring would have come:
    // nothing is claimed meanwhile.
    while next(&stalls).subscription.as_deref() != Some("second") {}
    for _ in 0..2 {
        next_call(&stalls, "second");
    }
    end(&broker, &second);
}

#[test]
fn publishers_who_give_up_and_come_again_are_told_of_as_well() {
    let _turn = turn();
    let (broker, stalls) = small(AGE);
    let door = Door::default();
    let _stuck = at_door(&broker, "stuck", "a", &door);
    let mut publisher = broker.publisher("a").expect("a topic");
    let deadline = Instant::now() + LIMIT;
    let told = loop {
        // Mostly between two waits, when the watchdog looks.
        if publisher.publish_timeout(1, Duration::ZERO).is_err() {
            thread::park_timeout(Duration::from_millis(1));
        }
        if let Some(stall) = stalls.try_iter().find(|stall| stall.kind == StallKind::Publisher) {
            break stall;
        }
        assert!(Instant::now() < deadline, "it is not told");
    };
    assert_eq!((told.cause, told.behind), (StallCause::Call, 8));
    end(&broker, &door);
}

#[test]
fn a_publisher_that_waits_for_another_ones_closure_is_told_so() {
    let _turn = turn();
    let (broker, stalls) = small(AGE);
    let _quick = broker.subscription().name("quick").pattern("a").subscribe(|_| ()).expect("valid");
    let door = Door::default();
    let (held, mut slow) = (door.clone(), broker.publisher("a").expect("a topic"));
    let filling = thread::spawn(move || _ = slow.publish_in_place(|_| held.pass()).expect("room"));
    door.wait_for(1);
    let blocked = fill(&broker);
    let stall = next_of_publisher(&stalls);
    assert_eq!((stall.cause, stall.subscription), (StallCause::Publish, None));
    assert_eq!((stall.sequence, stall.behind), (Some(0), 8));
    door.open();
    within("both go on", move || (filling.join().expect("no panic"), blocked.join().expect("no panic")));
    broker.drain(LIMIT).expect("the door is open");
    let _ = broker_support::shut_down(&broker);
}

#[test]
fn a_consumer_that_is_in_no_call_and_does_not_run_is_told_so() {
    struct Hangs(Door);
    impl Drop for Hangs {
        fn drop(&mut self) {
            self.0.pass();
        }
    }
    let _turn = turn();
    let (broker, stalls) = small(AGE);
    let _quick = broker.subscription().name("quick").pattern("a").subscribe(|_| ()).expect("valid");
    let door = Door::default();
    let hangs = Hangs(door.clone());
    let ended =
        broker.subscription().name("ended").pattern("b").subscribe(move |_| _ = &hangs).expect("valid");
    // Its consumer is to have it.
    let _ = broker.publisher("b").expect("a topic").publish(1).expect("room");
    broker.drain(LIMIT).expect("nothing hangs yet");
    let ending = thread::spawn(move || ended.unsubscribe());
    door.wait_for(1);
    let blocked = fill(&broker);
    let stall = next_of_publisher(&stalls);
    assert_eq!(
        (stall.cause, stall.subscription.as_deref(), stall.call_age),
        (StallCause::NotRunning, None, None)
    );
    assert!(stall.sequence.is_some() && stall.behind == 8, "{stall:?}");
    door.open();
    within("both go on", move || (ending.join().expect("no panic"), blocked.join().expect("no panic")));
    broker.drain(LIMIT).expect("the door is open");
    let _ = broker_support::shut_down(&broker);
}

#[test]
fn a_publisher_that_waits_for_slow_calls_is_told_so() {
    let _turn = turn();
    let limit = Duration::from_millis(100);
    let (builder, stalls) = watched(limit);
    let broker: Broker<u64> =
        builder.dispatcher(Dispatcher::new("d").capacity(512)).build().expect("valid options");
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let slow = broker.subscription().name("slow").pattern("a").subscribe(move |_| {
        if !over.load(Ordering::Relaxed) {
            work(Duration::from_millis(10));
        }
    });
    let _slow = slow.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let stop = is_over.clone();
    let publishing = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let _ = publisher.publish(1).expect("there is room in the end");
        }
    });
    // 64 calls make room at once, 640 ms later. On a machine that is busy with other things one call may be a stall.
    loop {
        let stall = next_of_publisher(&stalls);
        if stall.cause == StallCause::SlowCalls {
            break;
        }
        assert!(stall.cause != StallCause::Call || stall.call_age >= Some(limit), "{stall:?}");
    }
    is_over.store(true, Ordering::Relaxed);
    within("it goes on", move || publishing.join().expect("no panic"));
    broker.drain(LIMIT).expect("it is quick now");
    let _ = broker_support::shut_down(&broker);
}

#[test]
fn a_callback_that_panics_is_counted_and_called_again() {
    let _turn = turn();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let broker: Broker<u64> = Broker::of()
        .stall_after(AGE)
        .on_stall(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            panic_quietly()
        })
        .build()
        .expect("valid options");
    let door = Door::default();
    let _stuck = at_door(&broker, "stuck", "a", &door);
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    let panics = || broker.metrics().get("messaging.stall_callback.panics");
    eventually("both panics are counted", || panics() >= Some(2.0));
    assert!(calls.load(Ordering::Relaxed) >= 2);
    end(&broker, &door);
}

#[test]
fn a_shutdown_keeps_to_its_limit_beside_a_stuck_call_and_a_callback_that_hangs() {
    let _turn = turn();
    let (told, callback) = (Door::default(), Door::default());
    let hangs = callback.clone();
    let broker: Broker<u64> =
        Broker::of().stall_after(AGE).on_stall(move |_| hangs.pass()).build().expect("valid options");
    let _stuck = at_door(&broker, "stuck", "a", &told);
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    callback.wait_for(1);
    // It is the watchdog alone that hangs: who asks looks.
    assert_eq!(broker.stalls().len(), 1);
    let limit = Duration::from_millis(300);
    let begun = Instant::now();
    let report = broker.shutdown(limit).expect("not inside of a closure");
    // Generous: the machine may be busy. A wait for the callback, or for the handler, would last far longer.
    assert!(begun.elapsed() < limit + LIMIT / 3, "{:?}", begun.elapsed());
    assert_eq!(report.abandoned.len(), 1);
    assert_eq!(broker.stalls(), [], "what was taken over is in the report");
    assert!(report.abandoned[0].subscription == "stuck", "{:?}", report.abandoned);
    callback.open();
    told.open();
    eventually("the watchdog ends", || broker_support::threads_named("rm-watchdog") == 0);
}

#[test]
fn a_watchdog_that_is_switched_off_has_no_thread_and_says_nothing() {
    let _turn = turn();
    let watchdogs = || broker_support::threads_named("rm-watchdog");
    eventually("those of the other tests are gone", || watchdogs() == 0);
    let (builder, stalls) = watched::<u64>(AGE);
    let broker = builder.stall_after(None).build().expect("valid options");
    let door = Door::default();
    let _stuck = at_door(&broker, "stuck", "a", &door);
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    door.wait_for(1);
    // Another broker's watchdog tells how time passes.
    let (other, others) = self::broker();
    let other_door = Door::default();
    let _other = at_door(&other, "other", "a", &other_door);
    let _ = other.publisher("a").expect("a topic").publish(1).expect("room");
    for _ in 0..2 {
        next_call(&others, "other");
    }
    assert_eq!(watchdogs(), 1, "the other's");
    assert_eq!(broker.stalls(), []);
    assert!(stalls.try_recv().is_err());
    assert_eq!(broker.metrics().get("messaging.threads.total"), Some(2.0));
    assert_eq!(other.metrics().get("messaging.threads.total"), Some(3.0));
    end(&other, &other_door);
    end(&broker, &door);
    eventually("it ends with its broker", || watchdogs() == 0);
}

#[test]
fn a_simulation_has_no_watchdog() {
    let _turn = turn();
    eventually("those of the other tests are gone", || broker_support::threads_named("rm-watchdog") == 0);
    let (builder, stalls) = watched::<u64>(Duration::ZERO);
    let mut simulation = builder.simulate().expect("valid options");
    let broker = simulation.broker();
    let listed = Arc::new(AtomicU64::new(0));
    let (inside, weak) = (listed.clone(), broker.downgrade());
    let subscription = broker.subscription().pattern("a").subscribe(move |_| {
        let stalls = || weak.upgrade().map_or(9, |broker| broker.stalls().len() as u64);
        let before = stalls();
        work(Duration::from_millis(5));
        inside.store(1 + before + stalls(), Ordering::Relaxed);
    });
    let _subscription = subscription.expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    simulation.run();
    assert_eq!(listed.load(Ordering::Relaxed), 1);
    assert_eq!(broker_support::threads_named("rm-watchdog"), 0);
    assert!(stalls.try_recv().is_err());
}
