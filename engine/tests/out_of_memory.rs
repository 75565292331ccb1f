//! A ring that takes more memory than there is cannot be built, which is an error: nothing is left of it, and a smaller
//! one can be built afterwards.
//!
//! A program of its own, whose allocator refuses what is large. Not under a sanitizer: instrumented code takes more of
//! the stack than is measured here, and the compiler takes minutes for payloads of this size.

#![cfg(not(any(ringmain_loom, ringmain_sanitized)))]

use ringmain::broker::{Broker, BrokerBuildError, Dispatcher};
use ringmain::ring::{BuildError, Graph, Layout, Polled, RingBuilder};
use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The largest allocation that is granted.
const MOST: usize = 1 << 20;

/// Allocations from here on are counted: those of slots, and of nothing else.
const LARGE: usize = 1 << 18;

/// The slots of a ring of words that is too large, and of one that is not.
const TOO_MANY: usize = 1 << 20;
const FEW: usize = 1 << 15;

/// The stack of a test that builds events which are large for it.
const STACK: usize = 2 << 20;

/// The system's allocator, which refuses what is larger than a limit.
struct Limited;

/// The bytes of all large allocations that have not been freed.
static LARGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The limit: for all tests but those of large events, `MOST`.
static LIMIT: AtomicUsize = AtomicUsize::new(MOST);

// SAFETY: each method hands its arguments on to the system's allocator, whose contract is the same, or returns null,
// which is to say that there is no memory.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        if layout.size() > LIMIT.load(Ordering::Relaxed) {
            return std::ptr::null_mut();
        }
        if layout.size() >= LARGE {
            LARGE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Memory) {
        if layout.size() >= LARGE {
            LARGE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Runs a test by itself, since the allocator is that of the whole process, with a limit to allocations. Checks that
/// what it has allocated is freed: at once, or by a broker's threads when they end.
fn alone(limit: usize, test: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    LIMIT.store(limit, Ordering::Relaxed);
    let before = LARGE_BYTES.load(Ordering::Relaxed);
    test();
    let deadline = Instant::now() + Duration::from_secs(30);
    while LARGE_BYTES.load(Ordering::Relaxed) != before {
        assert!(Instant::now() < deadline, "not all has been freed");
        thread::yield_now();
    }
}

fn graph(layout: Layout, capacity: usize) -> Result<Graph<u64>, BuildError> {
    RingBuilder::new(capacity, || 7).expect("a power of two").layout(layout).graph()
}

/// What a ring of words is refused with.
fn too_large(layout: Layout) -> BuildError {
    let slot = if layout == Layout::Stamped { 16 } else { 8 };
    BuildError::Memory { capacity: TOO_MANY, bytes: TOO_MANY * slot }
}

#[test]
fn a_ring_that_does_not_fit_the_memory_is_refused_and_a_smaller_one_works() {
    for layout in [Layout::Stamped, Layout::Dense] {
        alone(MOST, || {
            assert_eq!(graph(layout, TOO_MANY).map(drop), Err(too_large(layout)));
            let mut graph = graph(layout, FEW).expect("it is small enough");
            let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
            let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
            producer.publish(|event| *event += 1).expect("room");
            assert_eq!(poller.poll(1, |event, _, _| assert_eq!(*event, 8)), Polled::Events(1));
        });
    }
}

#[test]
fn the_factory_of_a_ring_that_is_refused_is_not_called_and_is_dropped() {
    alone(MOST, || {
        let witness = Arc::new(());
        let held = witness.clone();
        let factory = move || -> u64 { panic!("called with {held:?}") };
        let builder = RingBuilder::new(TOO_MANY, factory).expect("a power of two");
        assert_eq!(builder.graph().map(drop), Err(too_large(Layout::Stamped)));
        assert_eq!(Arc::strong_count(&witness), 1);
    });
}

#[test]
fn workers_work_in_a_smaller_ring_after_one_that_was_refused() {
    for is_keyed in [false, true] {
        alone(MOST, || {
            assert_eq!(graph(Layout::Stamped, TOO_MANY).map(drop), Err(too_large(Layout::Stamped)));
            let mut graph = graph(Layout::Stamped, FEW).expect("it is small enough");
            let (_group, mut workers) = if is_keyed {
                graph.keyed_worker_pollers(&[], 2, None, |event| *event).expect("valid options")
            } else {
                graph.worker_pollers(&[], 2).expect("valid options")
            };
            let (mut producer, _ring) = graph.build_multi_producer().expect("no threads");
            producer.publish(|event| *event += 1).expect("room");
            let mut seen = Vec::new();
            for worker in &mut workers {
                let _polled = worker.poll(1, |event, _, _| seen.push(*event));
            }
            assert_eq!(seen, [8]);
        });
    }
}

#[test]
fn a_broker_one_of_whose_rings_is_refused_is_an_error_and_leaves_nothing() {
    alone(MOST, || {
        let with = |capacity| {
            let builder = Broker::of::<u64>().dispatcher(Dispatcher::new("fits").capacity(64));
            builder.dispatcher(Dispatcher::new("large").capacity(capacity)).build()
        };
        let error = with(TOO_MANY).map(drop).expect_err("it does not fit");
        let BrokerBuildError::Ring { dispatcher, reason: BuildError::Memory { capacity, bytes } } = &error
        else {
            panic!("another error: {error}")
        };
        assert_eq!((dispatcher.as_str(), *capacity), ("large", TOO_MANY));
        assert!(*bytes >= TOO_MANY * 64, "{bytes}");
        assert!(error.to_string().contains("smaller capacity"), "{error}");

        let broker = with(64).expect("it is small enough");
        let subscription = broker.subscription().pattern("a").dispatcher("large").subscribe(|_| ());
        let subscription = subscription.expect("valid options");
        let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
        let report = broker.shutdown(Duration::from_secs(30)).expect("not inside of a closure");
        assert_eq!(subscription.delivered(), 1);
        assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    });
}

/// An event so large that a ring of it has a size which is no number, or no size of an allocation. It is never made.
#[derive(Clone)]
#[allow(dead_code, reason = "only its size matters")]
struct Huge<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Default for Huge<BYTES> {
    fn default() -> Self {
        panic!("there is no memory for it")
    }
}

/// Such a ring is refused, by itself and in a broker. Returns how many bytes it would take.
fn refused<const BYTES: usize>(layout: Layout) -> usize {
    let builder = RingBuilder::new(1 << 30, Huge::<BYTES>::default).expect("a power of two");
    let error = builder.layout(layout).graph().map(drop).expect_err("it does not fit");
    let broker = Broker::of::<Huge<BYTES>>().dispatcher(Dispatcher::new("huge").capacity(1 << 30));
    let in_broker = broker.build().map(drop).expect_err("it does not fit");
    assert!(matches!(in_broker, BrokerBuildError::Ring { reason: BuildError::Memory { .. }, .. }));
    let BuildError::Memory { bytes, .. } = error else { panic!("another error: {error}") };
    bytes
}

#[test]
#[cfg(target_pointer_width = "64")]
fn sizes_beyond_the_address_space_are_refused() {
    alone(usize::MAX, || {
        for layout in [Layout::Stamped, Layout::Dense] {
            assert!(refused::<{ 1 << 33 }>(layout) > isize::MAX as usize);
            assert_eq!(refused::<{ 1 << 34 }>(layout), usize::MAX);
        }
    });
}

/// Runs a test on a stack of 2 MiB.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK).spawn(test).expect("a thread");
    thread.join().expect("no panic");
}

#[test]
fn a_ring_of_events_of_768_kib_is_built_on_a_stack_of_2_mib() {
    const BYTES: usize = 768 << 10;
    for layout in [Layout::Stamped, Layout::Dense] {
        alone(usize::MAX, || {
            on_a_small_stack(move || {
                let builder = RingBuilder::new(4, || [7_u8; BYTES]).expect("a power of two");
                let mut graph = builder.layout(layout).graph().expect("memory");
                let (_id, mut poller) = graph.poller(&[]).expect("no dependency");
                let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
                producer.publish(|event| event[BYTES - 1] = 8).expect("room");
                let handler = |event: &[u8; BYTES], _, _| assert_eq!((event[0], event[BYTES - 1]), (7, 8));
                assert_eq!(poller.poll(1, handler), Polled::Events(1));
            });
        });
    }
}

/// How large a payload may be for a stack of 2 MiB: less in a build without optimisation, where each function that
/// hands it on has it on the stack once more.
const LARGEST_PAYLOAD: usize = if cfg!(debug_assertions) { 512 << 10 } else { 768 << 10 };

#[derive(Clone)]
struct LargePayload([u8; LARGEST_PAYLOAD]);

impl Default for LargePayload {
    fn default() -> Self {
        Self([7; LARGEST_PAYLOAD])
    }
}

#[test]
fn a_broker_of_large_payloads_is_built_on_a_stack_of_2_mib() {
    alone(usize::MAX, || {
        on_a_small_stack(|| {
            let dispatcher = Dispatcher::new("large").capacity(4);
            let broker = Broker::of::<LargePayload>().dispatcher(dispatcher).build().expect("memory");
            broker
                .subscribe("a", |message| assert_eq!(message.payload().0[1], 7))
                .expect("a pattern")
                .detach();
            let report = broker.shutdown(Duration::from_secs(30)).expect("not inside of a closure");
            assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
        });
    });
}
