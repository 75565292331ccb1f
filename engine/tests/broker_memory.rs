//! Ever-new topics do not grow memory.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{eventually, shut_down};
use ringmain::broker::Broker;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

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

/// So many topics; under a sanitizer, which slows each down as many times as `RINGMAIN_SLOWDOWN`
/// says, so many times fewer.
fn topics() -> u64 {
    let slowdown =
        std::env::var("RINGMAIN_SLOWDOWN").map_or(1, |times| times.parse().expect("a whole number"));
    1_000_000 / slowdown
}

const REMEMBERED: usize = 256;

/// One test, since the bytes are those of the whole process.
#[test]
fn a_million_ever_new_topics_do_not_grow_memory() {
    let broker: Broker<u64> = Broker::builder().build().expect("valid options");
    let _all = broker.subscribe("#", |_| ()).expect("a pattern");
    let mut cached = broker.any_topic_publisher_with_cache(REMEMBERED);
    let mut uncached = broker.any_topic_publisher_with_cache(0);
    let routes = || broker.metrics().get("messaging.broker.routes").expect("a metric");
    let settled = || eventually("routes are freed", || routes() <= REMEMBERED as f64);
    let mut after_a_tenth = 0;
    let topics = topics();
    let mut most_routes = 0.0_f64;
    for number in 0..topics / 2 {
        cached.publish(&format!("cached.{number}"), 0).expect("the consumer makes room");
        uncached.publish(&format!("uncached.{number}"), 0).expect("the consumer makes room");
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
