//! What the tests of the ring have in common: rings, waiting with a deadline, panics on purpose, and numbers from a
//! printed seed.

// Each test binary uses some of it.
#![allow(dead_code, unreachable_pub)]

use ringmain::ring::{
    ConsumerId, ConsumerReport, Graph, Layout, Overflow, Polled, Poller, Ring, RingBuilder, Sequence,
};
use ringmain::wait::WaitStrategy;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Long enough for the slowest machine; reached only where something hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

pub const ALL_STRATEGIES: [WaitStrategy; 4] =
    [WaitStrategy::BusySpin, WaitStrategy::Yielding, WaitStrategy::Backoff, WaitStrategy::Blocking];

pub const BOTH_LAYOUTS: [Layout; 2] = [Layout::Stamped, Layout::Dense];

/// How often a test repeats what takes long. Where all is slowed down, as under a sanitizer, the environment variable
/// `RINGMAIN_SLOWDOWN` says how many times, and it repeats it so many times less.
pub fn rounds(full: u64) -> u64 {
    let slowdown = std::env::var("RINGMAIN_SLOWDOWN").map(|times| times.parse().expect("a whole number"));
    (full / slowdown.unwrap_or(1)).max(1)
}

// Rings.

pub fn graph(capacity: usize) -> Graph<u64> {
    graph_in(Layout::Stamped, capacity)
}

pub fn graph_in(layout: Layout, capacity: usize) -> Graph<u64> {
    RingBuilder::new(capacity, || 0_u64).expect("a power of two").layout(layout).graph().expect("memory")
}

pub fn rejecting(capacity: usize) -> Graph<u64> {
    RingBuilder::new(capacity, || 0_u64)
        .expect("a power of two")
        .overflow(Overflow::Reject)
        .graph()
        .expect("memory")
}

/// A handler that stops at a gate: what it has come to, and how to open the gate.
pub fn gated(graph: &mut Graph<u64>, name: &str) -> (ConsumerId, Receiver<u64>, Arc<Barrier>) {
    let (entered, has_entered) = channel();
    let gate = Arc::new(Barrier::new(2));
    let inner = gate.clone();
    let handler = move |event: &u64, _, _| {
        entered.send(*event).expect("the test listens");
        inner.wait();
    };
    (graph.consumer(name, &[], handler).expect("no dependency"), has_entered, gate)
}

/// Takes exactly `count` events.
pub fn take(poller: &mut Poller<u64>, count: usize) -> Vec<u64> {
    let started = Instant::now();
    let mut seen = Vec::with_capacity(count);
    while seen.len() < count {
        assert!(started.elapsed() < LIMIT, "{} of {count} events came", seen.len());
        let polled = poller.poll((count - seen.len()) as u64, |event, _, _| seen.push(*event));
        assert_ne!(polled, Polled::Finished, "finished after {} of {count} events", seen.len());
        if polled == Polled::Empty {
            thread::yield_now();
        }
    }
    seen
}

/// All that is there, and whether the ring has ended.
pub fn rest(poller: &mut Poller<u64>) -> (Vec<(Sequence, u64)>, bool) {
    let started = Instant::now();
    let mut seen = Vec::new();
    loop {
        assert!(started.elapsed() < LIMIT, "the ring does not run empty");
        match poller.poll(16, |event, sequence, _| seen.push((sequence, *event))) {
            Polled::Events(_) | Polled::Missed(_) => {}
            Polled::Empty => return (seen, false),
            Polled::Finished => return (seen, true),
        }
    }
}

/// Takes all there is until the end.
pub fn drain<E>(poller: &mut Poller<E>, mut handler: impl FnMut(&E)) {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < LIMIT, "the ring does not end");
        match poller.poll(64, |event, _, _| handler(event)) {
            Polled::Events(_) => {}
            Polled::Empty | Polled::Missed(_) => thread::yield_now(),
            Polled::Finished => return,
        }
    }
}

pub fn shut_down<E: Send + Sync + 'static>(ring: &mut Ring<E>) -> Vec<ConsumerReport> {
    ring.shutdown(LIMIT).expect("the consumers end in time")
}

// Deadlines.

/// Runs `body` on a thread of its own and fails if it hangs. What `body` itself waits for fails earlier, and says more.
pub fn within_limit<R: Send + 'static>(what: &str, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, is_done) = channel();
    let thread = thread::spawn(move || {
        let result = body();
        let _ = done.send(());
        result
    });
    assert_ne!(is_done.recv_timeout(2 * LIMIT), Err(RecvTimeoutError::Timeout), "{what} hangs");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LIMIT, "it never came to: {what}");
        thread::yield_now();
    }
}

/// Waits until the thread of that name has slept for several times as long as a nap may last: only
/// what wakes it ends such a sleep. Where the system does not tell of threads, that is a matter of
/// time.
pub fn eventually_fast_asleep(name: &str) {
    const LONGER_THAN_NAPS: Duration = Duration::from_millis(50);
    let started = Instant::now();
    let mut before = None;
    loop {
        assert!(started.elapsed() < LIMIT, "{name} does not fall asleep");
        let switches = switches_of(name);
        if before.is_some() && switches == before {
            return;
        }
        before = switches.or(Some(String::new()));
        thread::sleep(LONGER_THAN_NAPS);
    }
}

/// How often a sleeping thread of this process has given up its core; nothing for one that is
/// running.
fn switches_of(name: &str) -> Option<String> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let mut statuses =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok());
    // The system cuts names off.
    let named = format!("Name:\t{}\n", &name[..name.len().min(15)]);
    let status = statuses.find(|status| status.starts_with(&named))?;
    let is_asleep = status.lines().any(|line| line.starts_with("State:\tS"));
    let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
    is_asleep.then(|| switches.collect())
}

// Panics.

/// A panic without a report on standard error.
pub fn quiet_panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

pub fn panics<R>(f: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

/// Panics when it is dropped.
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        quiet_panic();
    }
}

// Random numbers.

/// A small generator of pseudo-random numbers: xorshift64*, Vigna 2016.
pub struct Random(u64);

impl Random {
    /// From the environment variable `RINGMAIN_SEED`, or from the clock; printed, so that a failure can be repeated.
    pub fn seeded() -> Self {
        let given = std::env::var("RINGMAIN_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("after 1970").as_nanos() as u64 | 1
        });
        println!("to repeat: RINGMAIN_SEED={seed}");
        Self(seed)
    }

    /// Another one, whose numbers follow from this one's.
    pub fn fork(&mut self) -> Self {
        Self(self.next() | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end
    }
}
