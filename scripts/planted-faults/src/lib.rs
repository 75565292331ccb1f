//! Faults that a sanitizer must report, each beside a twin without the fault that it must let pass.
//!
//! `scripts/sanitize.sh` runs these before the workspace's own tests: a sanitizer that is silent here would be silent
//! about the engine as well, and one that reports a twin would cry wolf there too.

#![cfg(test)]

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

/// A plain number that threads share, right or wrong.
struct Shared {
    number: UnsafeCell<u64>,
    is_written: AtomicBool,
}

// SAFETY: there is none. Whether its users synchronise is what is tested.
unsafe impl Sync for Shared {}

/// One thread writes the number and says so; another waits until it hears that, and reads.
fn hand_over(said: Ordering, heard: Ordering) {
    let shared = Arc::new(Shared { number: UnsafeCell::new(0), is_written: AtomicBool::new(false) });
    let writer = {
        let shared = shared.clone();
        thread::spawn(move || {
            // SAFETY: the reader has not begun. With relaxed orderings it does not know: the planted race.
            unsafe { *shared.number.get() = 7 };
            shared.is_written.store(true, said);
        })
    };
    while !shared.is_written.load(heard) {
        thread::yield_now();
    }
    // SAFETY: the writer has ended. See above.
    black_box(unsafe { *shared.number.get() });
    writer.join().expect("the writer panicked");
}

#[test]
fn race() {
    hand_over(Ordering::Relaxed, Ordering::Relaxed);
}

#[test]
fn race_twin() {
    hand_over(Ordering::Release, Ordering::Acquire);
}

/// What an uninstrumented standard library makes ThreadSanitizer report, though nothing is wrong with it.
#[test]
fn standard_library_twin() {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || sender.send(Arc::new(number)));
        }
    });
    drop(sender);
    let sum: u64 = receiver.iter().map(|number| *number).sum();
    assert_eq!(sum, 6);
    let parked = thread::spawn(|| thread::park());
    parked.thread().unpark();
    parked.join().expect("the parked thread panicked");
}

#[inline(never)]
fn boxed() -> *mut u64 {
    black_box(Box::into_raw(Box::new(7)))
}

#[test]
fn use_after_free() {
    let pointer = boxed();
    // SAFETY: the box is freed once.
    drop(unsafe { Box::from_raw(pointer) });
    // SAFETY: there is none: the planted fault.
    black_box(unsafe { pointer.read_volatile() });
}

#[test]
fn use_after_free_twin() {
    let pointer = boxed();
    // SAFETY: the box is still there.
    black_box(unsafe { pointer.read_volatile() });
    // SAFETY: the box is freed once.
    drop(unsafe { Box::from_raw(pointer) });
}

#[test]
fn leak() {
    // More than one, since a register or the stack may still hold the last.
    for _ in 0..8 {
        boxed();
    }
}

#[test]
fn leak_twin() {
    for _ in 0..8 {
        // SAFETY: each box is freed once.
        drop(unsafe { Box::from_raw(boxed()) });
    }
}
