//! Thousands of brokers, publishers, subscriptions and a ring's consumers come and go, and leave nothing behind.

#![cfg(all(not(ringmain_loom), target_os = "linux"))]

mod broker_support;

use broker_support::{eventually, shut_down, thread_count};
use ringmain::broker::{Broker, Dispatcher};
use ringmain::ring::RingBuilder;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator, with what is alive counted.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);

// SAFETY: each method hands its arguments on to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What may be alive more than before: what threads and the epoch collector keep for later.
const LIVE_BOUND: i64 = 500;
const BYTES_BOUND: i64 = 500_000;

#[track_caller]
fn grows_by_little(claim: &str, before: (i64, i64)) {
    let mut grown = (0, 0);
    let deadline = std::time::Instant::now() + broker_support::LIMIT;
    while std::time::Instant::now() < deadline {
        grown = (LIVE.load(Ordering::Relaxed) - before.0, BYTES.load(Ordering::Relaxed) - before.1);
        if grown.0 <= LIVE_BOUND && grown.1 <= BYTES_BOUND {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    panic!("{claim}: {} allocations and {} bytes more than before", grown.0, grown.1);
}

fn alive() -> (i64, i64) {
    (LIVE.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed))
}

/// A life: subscriptions, publishers, messages, a handler that publishes; ended in one way or the other.
fn live(number: usize) {
    let broker: Broker = Broker::builder()
        .dispatcher(Dispatcher::new("one").capacity(8))
        .dispatcher(Dispatcher::new("two").capacity(8).stages(&[1, 1]))
        .build()
        .expect("valid options");
    let mut onwards = broker.publisher("b").expect("a topic");
    broker.subscribe("a", move |_| drop(onwards.publish("onwards"))).expect("a pattern").detach();
    let subscription = broker.subscription().pattern("#").dispatcher("two").subscribe(|_| ()).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let mut any = broker.any_topic_publisher();
    for message in 0..10 {
        let _ = publisher.publish("x").expect("the consumers make room");
        let _ = any.publish(&format!("c.{message}"), &[1; 200]).expect("the consumers make room");
    }
    match number % 3 {
        0 => _ = shut_down(&broker),
        1 => subscription.unsubscribe(),
        _ => drop(broker),
    }
}

/// One test, since the counts are those of the whole process.
#[test]
fn brokers_publishers_and_subscriptions_leave_no_thread_and_no_memory_behind() {
    let threads = thread_count();
    for number in 0..50 {
        live(number);
    }
    eventually("the threads of the first brokers end", || thread_count() == threads);
    let before = alive();
    for number in 0..700 {
        live(number);
        // Those that are dropped end by themselves; they must not pile up.
        eventually("most threads have ended", || thread_count() < threads + 40);
    }
    eventually("all threads end", || thread_count() == threads);
    grows_by_little("brokers", before);

    let broker: Broker = Broker::builder().build().expect("valid options");
    let _stays = broker.subscribe("#", |_| ()).expect("a pattern");
    let turn = |number: usize| {
        let subscription = broker.subscribe("a.*", move |_| _ = number).expect("a pattern");
        let mut publisher = broker.publisher("a.b").expect("a topic");
        let _ = publisher.publish("x").expect("the consumer makes room");
        let mut any = broker.any_topic_publisher_with_cache(2);
        for topic in 0..4 {
            let _ = any.publish(&format!("a.{number}.{topic}"), "x").expect("the consumer makes room");
        }
        let mut clone = publisher.clone();
        let _ = clone.publish("x").expect("the consumer makes room");
        if number.is_multiple_of(2) {
            subscription.unsubscribe();
        }
    };
    let settled = || {
        eventually("what is over is freed", || {
            broker.audit().subscriptions.len() == 1
                && broker.metrics().get("messaging.broker.routes") == Some(0.0)
        });
    };
    (0..2_000).for_each(turn);
    settled();
    let before = alive();
    (0..3_000).for_each(turn);
    settled();
    grows_by_little("publishers and subscriptions", before);
    // A consumer, the reclaimer, the watchdog.
    assert_eq!(thread_count(), threads + 3);
    shut_down(&broker);
    eventually("the last threads end", || thread_count() == threads);
    drop(broker);
    drop(_stays);

    let ring = RingBuilder::new(8, || 0_u64).expect("a power of two");
    let (_producer, ring) =
        ring.graph().expect("memory").build_multi_producer().expect("no threads to start");
    let come_and_go = |_| drop(ring.join_poller(&[], broker_support::LIMIT).expect("nobody is in the way"));
    (0..1_000).for_each(come_and_go);
    let before = alive();
    (0..2_000).for_each(come_and_go);
    grows_by_little("consumers that join and leave a ring", before);
}
