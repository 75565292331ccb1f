//! Where slots are cleared, nothing of a message is in memory any more after it was handled.
//!
//! A program of its own, whose allocator knows all that is allocated, so that all of it can be searched.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::{eventually, next, shut_down};
use ringmain::broker::{Broker, Dispatcher, PublishOptions};
use ringmain::message::{CorrelationId, Message, Payload};
use ringmain::ring::SlotPolicy;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc;

/// The allocations that can be alive at once.
const PLACES: usize = 1 << 14;

/// The system's allocator, which fills what it grants with zeros and notes where it is.
struct Noting;

static AT: [AtomicPtr<u8>; PLACES] = [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];
static ARE_TOO_MANY: AtomicBool = AtomicBool::new(false);
static SIZES: [AtomicUsize; PLACES] = [const { AtomicUsize::new(0) }; PLACES];

/// The places where an allocation may be noted, likeliest first.
fn places(memory: *mut u8) -> impl Iterator<Item = usize> {
    let first = memory.addr() >> 4;
    (0..PLACES).map(move |step| first.wrapping_add(step) % PLACES)
}

// SAFETY: each method hands its arguments on to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { System.alloc_zeroed(layout) };
        let takes = |place: &usize| {
            AT[*place].compare_exchange(ptr::null_mut(), memory, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        match places(memory).find(takes) {
            Some(place) => SIZES[place].store(layout.size(), Ordering::SeqCst),
            None => ARE_TOO_MANY.store(true, Ordering::SeqCst),
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if let Some(place) = places(memory).find(|place| AT[*place].load(Ordering::SeqCst) == memory) {
            SIZES[place].store(0, Ordering::SeqCst);
            AT[place].store(ptr::null_mut(), Ordering::SeqCst);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// A byte of the secret, which never stands anywhere as a whole but where it is sent.
fn secret(index: usize) -> u8 {
    b'A' + (index * 7 % 26) as u8
}

/// The bytes of the secret that are enough to know it.
const KNOWN: usize = 8;

/// How often the secret stands in memory that is allocated.
fn occurrences() -> usize {
    let mut found = 0;
    for (at, size) in AT.iter().zip(&SIZES) {
        let (at, size) = (at.load(Ordering::SeqCst), size.load(Ordering::SeqCst));
        let mut known = 0;
        for offset in 0..size {
            // SAFETY: it is allocated, and was filled with zeros then. Nobody frees it meanwhile, and who writes there
            // is not concerned by a read.
            let byte = unsafe { ptr::read_volatile(at.add(offset)) };
            known = if byte == secret(known) { known + 1 } else { usize::from(byte == secret(0)) };
            if known == KNOWN {
                (found, known) = (found + 1, 0);
            }
        }
    }
    found
}

/// The secret, as long as asked for.
fn told<const LEN: usize>() -> [u8; LEN] {
    std::array::from_fn(|index| secret(index % 26))
}

/// One test, since it searches the memory of the whole process.
#[test]
fn nothing_of_a_secret_is_left_after_it_was_handled() {
    let dispatcher = Dispatcher::new("one").capacity(16).slot_policy(SlotPolicy::Clear);
    let broker: Broker = Broker::builder().dispatcher(dispatcher).build().expect("valid options");
    let (sender, searched) = mpsc::sync_channel(1);
    let handler = move |_: &Message<'_, Payload>| sender.send(occurrences());
    broker.subscribe("a", handler).expect("a pattern").detach();
    let mut publisher = broker.publisher("a").expect("a topic");
    let gone = |sent: &str| {
        assert_ne!(next(&searched), 0, "{sent}: the search finds what is there");
        eventually(sent, || occurrences() == 0);
    };
    assert_eq!(occurrences(), 0, "there was no secret yet");
    let _ = publisher.publish(&told::<40>()).expect("room");
    gone("inline");
    let _ = publisher.publish(&told::<1_000>()).expect("room");
    gone("in a buffer that is kept");
    let _ = publisher.publish(&told::<10_000>()).expect("room");
    gone("in a buffer that is not kept");
    let _ = publisher
        .publish_in_place(|payload| {
            payload.set(&told::<60>()).expect("short");
            payload.extend_from_slice(&told::<60>()).expect("short");
        })
        .expect("room");
    gone("inline first, and then in a buffer");
    let correlation = told::<40>();
    let correlation = CorrelationId::new(std::str::from_utf8(&correlation).expect("text")).expect("valid");
    let options = PublishOptions::new().header("token", told::<100>()).expect("within limits");
    let _ = publisher.publish_with(b"", &options.correlation(correlation)).expect("room");
    gone("in a header and a correlation id");
    shut_down(&broker);
    assert!(!ARE_TOO_MANY.load(Ordering::SeqCst), "not all memory was searched");
}
