//! In the steady state nothing is allocated and nothing is freed, on any thread.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{eventually, shut_down};
use ringmain::broker::{Broker, Dispatcher};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, with its calls counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);

// SAFETY: each method hands its arguments on to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        FREES.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAYLOAD: [u8; 64] = [7; 64];
const CAPACITY: usize = 256;
const MESSAGES: u64 = 20_000;

/// How often memory was allocated and freed while `f` ran.
fn counted(f: impl FnOnce()) -> (u64, u64) {
    let before = (ALLOCATIONS.load(Ordering::SeqCst), FREES.load(Ordering::SeqCst));
    f();
    (ALLOCATIONS.load(Ordering::SeqCst) - before.0, FREES.load(Ordering::SeqCst) - before.1)
}

/// One test, since the counts are those of the whole process.
#[test]
fn the_steady_state_neither_allocates_nor_frees() {
    let broker: Broker = Broker::builder()
        .dispatcher(Dispatcher::new("first").capacity(CAPACITY))
        .dispatcher(Dispatcher::new("second").capacity(CAPACITY))
        .build()
        .expect("valid options");
    let delivered = Arc::new(AtomicU64::new(0));
    let count = |pattern: &str, dispatcher: &str| {
        let delivered = delivered.clone();
        broker
            .subscription()
            .pattern(pattern)
            .dispatcher(dispatcher)
            .subscribe(move |message| {
                assert_eq!(message.payload().as_slice(), PAYLOAD);
                delivered.fetch_add(1, Ordering::Relaxed);
            })
            .expect("valid")
            .detach();
    };
    count("plain.*", "first");
    count("both.#", "first");
    count("both.#", "second");
    count("chain.end", "second");
    let mut onwards = broker.publisher("chain.end").expect("a topic");
    broker
        .subscription()
        .pattern("chain.start")
        .dispatcher("first")
        .subscribe(move |_| {
            // Inherits parent and correlation.
            let _ = onwards.publish(&PAYLOAD).expect("room, or the other consumer makes some");
        })
        .expect("valid")
        .detach();

    let mut bound = broker.publisher("plain.bound").expect("a topic");
    let mut both = broker.publisher("both.rings").expect("a topic");
    let mut chain = broker.publisher("chain.start").expect("a topic");
    let mut warm_up = chain.clone();
    let mut any = broker.any_topic_publisher_with_cache(4);
    let topics = ["plain.1", "plain.2", "plain.3", "nobody"];
    let expected = std::cell::Cell::new(0);
    // So many messages are to be delivered in a round: plain and batch, both rings, topics, and the end of the chain.
    let mut round = |messages: u64| {
        for number in 0..messages {
            let _ = bound.publish(&PAYLOAD).expect("the consumer makes room");
            let _ = bound
                .publish_in_place(|payload| payload.set(&PAYLOAD).expect("it fits"))
                .expect("the consumer makes room");
            let _ = bound.publish_batch([&PAYLOAD; 4]).expect("the consumer makes room");
            let _ = both.publish(&PAYLOAD).expect("the consumers make room");
            let _ = any.publish(topics[(number % 4) as usize], &PAYLOAD).expect("the consumer makes room");
            expected.set(expected.get() + 8 + u64::from(number % 4 < 3));
            if number % 8 == 0 {
                let _ = chain.publish(&PAYLOAD).expect("the consumer makes room");
                expected.set(expected.get() + 1);
                // The chain's first consumer must not find the second ring full for a second.
                while delivered.load(Ordering::Relaxed) + 64 < expected.get() {
                    std::thread::yield_now();
                }
            }
        }
        while delivered.load(Ordering::Relaxed) < expected.get() {
            std::thread::yield_now();
        }
    };
    // Warms up. First each slot of the second ring carries a message with a parent once, which
    // allocates its rare fields.
    let before = delivered.load(Ordering::Relaxed);
    for number in 1..=2 * CAPACITY as u64 {
        let _ = warm_up.publish(&PAYLOAD).expect("the consumer makes room");
        eventually("the chain's end is delivered", || delivered.load(Ordering::Relaxed) == before + number);
    }
    expected.set(expected.get() + 2 * CAPACITY as u64);
    round(1_000);
    eventually("the reclaimer has nothing left to do", || {
        broker.metrics().get("messaging.queue.depth.max") == Some(0.0)
    });
    let quiet = || counted(|| std::thread::park_timeout(std::time::Duration::from_millis(150)));
    eventually("the process is quiet", || quiet() == (0, 0));

    let steady = counted(|| round(MESSAGES));
    assert_eq!(steady, (0, 0), "allocations and frees in {MESSAGES} rounds");
    shut_down(&broker);
}
