//! What comes and goes does not grow memory: topics, subscriptions, publishers; also beside a
//! consumer that is stuck.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{eventually, next, panic_quietly, shut_down};
use ringmain::broker::{Broker, Dispatcher, Subscription, Term};
use ringmain::message::Message;
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};

/// The system's allocator, with the bytes that are alive counted.
struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);

// SAFETY: each method hands its arguments on to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many; under a sanitizer, which slows each down as many times as `RINGMAIN_SLOWDOWN` says, so
/// many times fewer.
fn times(count: u64) -> u64 {
    let slowdown =
        std::env::var("RINGMAIN_SLOWDOWN").map_or(1, |times| times.parse().expect("a whole number"));
    count / slowdown
}

/// One test at a time: the bytes are those of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Does something so many times, and waits until the bytes that are alive are no more than so many
/// above those after a tenth of it.
#[track_caller]
fn does_not_grow(bytes: i64, count: u64, mut f: impl FnMut(u64)) {
    (0..count / 10).for_each(&mut f);
    let after_a_tenth = BYTES.load(Ordering::Relaxed);
    (count / 10..count).for_each(&mut f);
    let grown = || BYTES.load(Ordering::Relaxed) - after_a_tenth;
    println!("{} bytes more than after a tenth, at once", grown());
    eventually("what came has gone", || grown() <= bytes);
    println!("{} bytes more than after a tenth, in the end", grown());
}

const SLOTS: u64 = 64;

/// A broker of one consumer, which is stuck in a handler until something is sent, or the sender is
/// dropped.
fn stuck_broker() -> (Broker<u64>, Subscription<u64>, Sender<()>) {
    let dispatcher = Dispatcher::new("stuck").capacity(SLOTS as usize);
    let broker = Broker::of().dispatcher(dispatcher).build().expect("valid options");
    let (is_stuck, has_come) = channel();
    let (let_go, go) = channel::<()>();
    let handler = move |_: &Message<'_, u64>| {
        is_stuck.send(()).expect("the test waits for it");
        let _ = go.recv();
    };
    let stuck = broker.subscribe("stuck", handler).expect("a pattern");
    let _ = broker.publisher("stuck").expect("a topic").publish(0).expect("room");
    next(&has_come);
    (broker, stuck, let_go)
}

/// Counts its drops.
struct Witness(Arc<AtomicU64>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn subscriptions_that_come_and_go_beside_a_stuck_consumer_do_not_grow_memory() {
    let _alone = alone();
    let (broker, stuck, let_go) = stuck_broker();
    let dropped = Arc::new(AtomicU64::new(0));
    let mut publisher = broker.publisher("comes.and.goes").expect("a topic");
    let (count, mut accepted) = (times(100_000), 0);
    does_not_grow(100_000, count, |number| {
        let witness = Witness(dropped.clone());
        let handler = move |_: &Message<'_, u64>| {
            let _kept = &witness;
            unreachable!("its consumer is stuck");
        };
        let subscription = broker.subscribe("comes.#", handler).expect("a pattern");
        accepted += u64::from(publisher.try_publish(number).is_ok());
        if number % 2 == 0 {
            // It waits for no consumer that has not seen the handler.
            subscription.unsubscribe();
        }
    });
    assert_eq!(dropped.load(Ordering::Relaxed), count, "each handler is dropped once");
    assert_eq!(accepted, SLOTS - 1, "as many as there is room for");
    drop(let_go);
    let total = shut_down(&broker).total();
    assert_eq!(dropped.load(Ordering::Relaxed), count, "each handler is dropped once");
    assert_eq!((total.delivered(), total.count(Term::Unsubscribed)), (1, accepted));
    assert_eq!(stuck.delivered(), 1);
}

/// Thousands that the consumer has not seen, and that end the first before the last.
#[test]
fn handlers_that_a_stuck_consumer_has_not_seen_go_in_any_order() {
    let _alone = alone();
    let (broker, _stuck, let_go) = stuck_broker();
    let dropped = Arc::new(AtomicU64::new(0));
    let before = BYTES.load(Ordering::Relaxed);
    let prepared = (0..times(20_000)).map(|number| {
        let witness = Witness(dropped.clone());
        let handler = move |_: &Message<'_, u64>| {
            let _kept = &witness;
        };
        broker.subscription().pattern(&format!("many.{number}")).prepare(handler)
    });
    let mut subscriptions = broker.subscribe_all(prepared).expect("valid patterns");
    let (count, last) = (subscriptions.len() as u64, subscriptions.split_off(subscriptions.len() - 2));
    broker.unsubscribe_all(subscriptions);
    assert_eq!(dropped.load(Ordering::Relaxed), count - 2);
    eventually("what came has gone", || BYTES.load(Ordering::Relaxed) - before <= 1_000_000);
    drop(let_go);
    // By the consumer, which has it now.
    broker.unsubscribe_all(last);
    assert_eq!(dropped.load(Ordering::Relaxed), count);
    shut_down(&broker);
}

#[test]
fn ever_new_topics_that_a_stuck_consumers_ring_refuses_do_not_grow_memory() {
    let _alone = alone();
    let (broker, _stuck, let_go) = stuck_broker();
    let all = broker.subscribe("#", |_| ()).expect("a pattern");
    let mut publisher = broker.any_topic_publisher_with_cache(16);
    let mut accepted = 0;
    while publisher.try_publish("fits", 0).is_ok() {
        accepted += 1;
    }
    // Less than was left of them once, and more than the list of routes takes when its reclaimer gets no core.
    does_not_grow(400_000, times(100_000), |number| {
        let refused = publisher.try_publish(&format!("refused.{number}"), number);
        assert_eq!(refused.map_err(|error| error.kind().clone()), Err(broker_support::full("stuck")));
    });
    drop(let_go);
    shut_down(&broker);
    assert_eq!(all.delivered(), accepted);
}

static DEFAULT_PANICS: AtomicBool = AtomicBool::new(false);

#[derive(Clone)]
struct Treacherous;

impl Default for Treacherous {
    fn default() -> Self {
        if DEFAULT_PANICS.load(Ordering::Relaxed) {
            panic_quietly();
        }
        Self
    }
}

#[test]
fn publishers_whose_payload_panics_in_its_default_leave_nothing_behind() {
    let _alone = alone();
    let broker: Broker<Treacherous> = Broker::of().build().expect("valid options");
    let all = broker.subscribe("#", |_| ()).expect("a pattern");
    DEFAULT_PANICS.store(true, Ordering::Relaxed);
    does_not_grow(10_000, times(10_000), |number| {
        let panicked = if number % 2 == 0 {
            catch_unwind(|| broker.publisher("a").map(drop)).map(drop)
        } else {
            catch_unwind(|| drop(broker.any_topic_publisher()))
        };
        assert!(panicked.is_err(), "its default did not panic");
    });
    DEFAULT_PANICS.store(false, Ordering::Relaxed);
    let _ = broker.publisher("a").expect("a topic").publish(Treacherous).expect("room");
    shut_down(&broker);
    assert_eq!(all.delivered(), 1);
}

const REMEMBERED: usize = 256;

#[test]
fn a_million_ever_new_topics_do_not_grow_memory() {
    let _alone = alone();
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let _all = broker.subscribe("#", |_| ()).expect("a pattern");
    let mut cached = broker.any_topic_publisher_with_cache(REMEMBERED);
    let mut uncached = broker.any_topic_publisher_with_cache(0);
    let routes = || broker.metrics().get("messaging.broker.routes").expect("a metric");
    let settled = || eventually("routes are freed", || routes() <= REMEMBERED as f64);
    let mut after_a_tenth = 0;
    let topics = times(1_000_000);
    let mut most_routes = 0.0_f64;
    for number in 0..topics / 2 {
        let _ = cached.publish(&format!("cached.{number}"), 0).expect("the consumer makes room");
        let _ = uncached.publish(&format!("uncached.{number}"), 0).expect("the consumer makes room");
        if number % 1_000 == 0 {
            most_routes = most_routes.max(routes());
        }
        if number == topics / 20 {
            settled();
            after_a_tenth = BYTES.load(Ordering::Relaxed);
        }
    }
    settled();
    let grown = BYTES.load(Ordering::Relaxed) - after_a_tenth;
    println!("{grown} bytes more than after a tenth; {most_routes} routes at most when looked at");
    assert_eq!(broker.metrics().get("messaging.broker.topics"), Some(REMEMBERED as f64));
    // Those that are remembered, those under way in the ring, and those that publishers leave to the reclaimer.
    assert!(most_routes < 3.0 * 4_096.0, "{most_routes} routes");
    // Lists keep the room that they once needed; a leak of one word a topic would be over it.
    assert!(grown < 4_000_000, "{grown} bytes more than after a tenth");
    let ledger = shut_down(&broker);
    assert_eq!(ledger.total().delivered(), topics);
}
