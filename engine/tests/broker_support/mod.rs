//! What the tests of the broker have in common: waiting with a deadline, and numbers that come from a printed seed.

// Each test binary uses some of it.
#![allow(dead_code, unreachable_pub)]

pub mod stuck;
pub mod tried;

use ringmain::broker::{Broker, Ledger, PublishFailure, Term};
use ringmain::message::MessagePayload;
use std::any::Any;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for what must come. Far longer than it takes, for machines that are busy with other things.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `holds`, and fails the test if it does not in time.
#[track_caller]
pub fn eventually(claim: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {claim}");
        thread::park_timeout(Duration::from_micros(200));
    }
}

/// Calls `f` on a thread of its own, and fails the test if it does not return in time.
#[track_caller]
pub fn within<R: Send + 'static>(claim: &str, f: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(f()));
    match receiver.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not within {LIMIT:?}: {claim}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(_) => unreachable!("the thread sends before it ends"),
        },
    }
}

/// The next thing that comes.
#[track_caller]
pub fn next<T>(receiver: &Receiver<T>) -> T {
    match receiver.recv_timeout(LIMIT) {
        Ok(value) => value,
        Err(error) => panic!("nothing came within {LIMIT:?}: {error}"),
    }
}

/// That dispatcher has no room.
pub fn full(dispatcher: &str) -> PublishFailure {
    PublishFailure::Full { dispatcher: dispatcher.into() }
}

/// That dispatcher has had no room for the whole limit.
pub fn timed_out(dispatcher: &str) -> PublishFailure {
    PublishFailure::TimedOut { dispatcher: dispatcher.into() }
}

/// A wait for that dispatcher would never end.
pub fn would_deadlock(dispatcher: &str) -> PublishFailure {
    PublishFailure::WouldDeadlock { dispatcher: dispatcher.into() }
}

/// Waits until all that was published has been consumed.
#[track_caller]
pub fn drain<P: MessagePayload>(broker: &Broker<P>) {
    eventually("the rings drain", || broker.audit().rings.iter().all(|ring| ring.depth == 0));
}

/// Shuts down, and checks that nobody was abandoned and that the ledger holds, which it returns.
#[track_caller]
pub fn shut_down<P: MessagePayload>(broker: &Broker<P>) -> Ledger {
    let report = broker.shutdown(LIMIT).expect("not inside of a publish closure");
    assert!(report.abandoned.is_empty(), "abandoned: {:?}", report.abandoned);
    assert!(report.undelivered.is_empty(), "undelivered: {:?}", report.undelivered);
    assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    assert_eq!(report.ledger.total().count(Term::InFlight), 0);
    report.ledger
}

/// Leaks a value, as `mem::forget` does, but where a leak detector finds it: what is leaked on purpose is no finding.
pub fn leak<T: Send + 'static>(value: T) {
    static LEAKED: Mutex<Vec<Box<dyn Any + Send>>> = Mutex::new(Vec::new());
    LEAKED.lock().expect("nobody panics").push(Box::new(value));
}

/// Panics without a word to the standard error stream.
pub fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("a panic on purpose"))
}

/// Numbers that look random and come from a seed, which is printed: a failing test shows it.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let seed =
            std::env::var("RINGMAIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
                now | 1
            });
        println!("RINGMAIN_SEED={seed}");
        Self(seed)
    }

    /// Numbers from a number of another's, whose seed is printed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        // G. Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The threads of this process.
#[cfg(target_os = "linux")]
pub fn thread_count() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process about itself");
    let line =
        status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("and how many threads it has");
    line.trim().parse().expect("a number")
}

/// How many threads of this process bear names that begin so.
#[cfg(target_os = "linux")]
pub fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists a process's threads");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}
