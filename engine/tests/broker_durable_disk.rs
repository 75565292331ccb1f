//! Dead letters that outlive their process, on a disk that is full, slow, stuck or broken: nobody waits for it, and
//! when it is well again all is made up for.

mod broker_support;

use broker_support::{LIMIT, eventually, panic_quietly};
use ringmain::broker::dead_letters::durable::{
    Change, Codec, DeadLetterStore, Degraded, DurableDeadLetters, DurableState, DurableStatus, FlushError,
    Loaded, StoreError, StoreErrorKind,
};
use ringmain::broker::dead_letters::{DeadLetterOptions, DeadLetters, Replay, Selection};
use ringmain::broker::{Broker, Subscription, Term};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How a disk is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Full,
    Panicking,
    Slow(Duration),
    Stuck,
}

/// A disk in memory, which does as it is told.
#[derive(Default)]
struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    mood: Option<Mood>,
    records: BTreeMap<u64, Vec<u8>>,
    /// How many changes each commit had.
    commits: Vec<usize>,
    attempts: usize,
    /// The texts of all records that were ever put.
    seen: Vec<String>,
    /// What must hold after each commit.
    broken: Option<String>,
    must_have: Vec<String>,
    /// The records that the next commit loses.
    loses: Vec<u64>,
}

impl Disk {
    fn new(mood: Mood) -> Arc<Self> {
        let disk = Self::default();
        disk.be(mood);
        Arc::new(disk)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn be(&self, mood: Mood) {
        self.state().mood = Some(mood);
        self.changed.notify_all();
    }

    fn payloads(&self) -> Vec<u64> {
        self.state().records.values().map(|record| payload(&String::from_utf8_lossy(record))).collect()
    }
}

/// The payload of a record of a number.
fn payload(record: &str) -> u64 {
    let (_, after) = record.split_once("\"payload\":\"").expect("a record has one");
    after.split('"').next().and_then(|digits| digits.parse().ok()).expect("a number")
}

struct Handle(Arc<Disk>);

impl DeadLetterStore for Handle {
    fn load(&mut self, each: &mut dyn FnMut(Loaded<'_>)) -> Result<Option<u64>, StoreError> {
        let state = self.0.state();
        state.records.iter().for_each(|(&number, record)| each(Loaded::Record { number, record }));
        Ok(state.records.keys().next_back().copied())
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let mut state = self.0.state();
        state.attempts += 1;
        while state.mood == Some(Mood::Stuck) {
            state = self.0.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        match state.mood {
            Some(Mood::Full) => {
                let error = io::Error::from(io::ErrorKind::StorageFull);
                return Err(StoreError::from_io(&error, "the disk of a test"));
            }
            Some(Mood::Panicking) => {
                drop(state);
                panic_quietly();
            }
            Some(Mood::Slow(by)) => {
                drop(state);
                std::thread::sleep(by);
                state = self.0.state();
            }
            _ => {}
        }
        let loses = std::mem::take(&mut state.loses);
        if !loses.is_empty() {
            loses.iter().for_each(|number| _ = state.records.remove(number));
            let mut error = StoreError::new(StoreErrorKind::Corrupted, "some have changed");
            error.lost = loses;
            return Err(error);
        }
        for change in changes {
            match *change {
                Change::Put { number, record } => {
                    state.seen.push(String::from_utf8_lossy(record).into_owned());
                    state.records.insert(number, record.to_vec());
                }
                Change::Remove { number } => _ = state.records.remove(&number),
                _ => {}
            }
        }
        state.commits.push(changes.len());
        let missing = state.must_have.iter().find_map(|text| {
            let has = |record: &&Vec<u8>| String::from_utf8_lossy(record).contains(text);
            let count = state.records.values().filter(has).count();
            (count != 1).then(|| format!("{count} records have {text}"))
        });
        state.broken = state.broken.take().or(missing);
        Ok(())
    }
}

fn numbers() -> Codec<u64> {
    Codec::new(
        |number: &u64| Ok::<_, Infallible>(number.to_string().into_bytes()),
        |bytes| str::from_utf8(bytes).unwrap_or_default().parse::<u64>(),
    )
}

/// A broker whose one subscription fails while it is sick, and whose letters go to a disk.
struct Sick {
    broker: Broker<u64>,
    dead: DeadLetters<u64>,
    billing: Subscription<u64>,
    is_sick: Arc<AtomicBool>,
}

fn on(disk: &Arc<Disk>, codec: Codec<u64>, options: DeadLetterOptions) -> Sick {
    let durable = DurableDeadLetters::in_store(Handle(disk.clone()), codec);
    let broker = Broker::of().dead_letters(options).durable_dead_letters(durable).build().expect("valid");
    let is_sick = Arc::new(AtomicBool::new(true));
    let looked = is_sick.clone();
    let billing = broker
        .subscription()
        .name("billing")
        .pattern("a")
        .subscribe(move |_| if looked.load(Ordering::Relaxed) { Err("it is sick") } else { Ok(()) });
    let dead = broker.dead_letters().expect("they are kept");
    Sick { broker, dead, billing: billing.expect("valid"), is_sick }
}

impl Sick {
    fn publish(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut publisher = self.broker.publisher("a").expect("a topic");
        for number in numbers {
            let _ = publisher.publish(number).expect("room");
        }
        self.broker.drain(LIMIT).expect("it drains");
    }

    fn status(&self) -> DurableStatus {
        self.dead.durable().expect("it is durable")
    }

    fn degraded(&self) -> Option<Degraded> {
        match self.status().state {
            DurableState::Degraded(degraded) => Some(degraded),
            _ => None,
        }
    }

    fn replay(&self) {
        let _ = self.dead.replay(&Selection::all(), Replay::to_subscription().rate(1_000_000));
        self.broker.drain(LIMIT).expect("it drains");
    }
}

fn sick(disk: &Arc<Disk>) -> Sick {
    on(disk, numbers(), DeadLetterOptions::new())
}

#[test]
fn what_is_there_is_written_within_milliseconds_and_in_few_commits() {
    let disk = Disk::new(Mood::Well);
    let sick = sick(&disk);
    sick.publish(0..1_000);
    eventually("all is written without being asked for", || disk.payloads().len() == 1_000);
    assert_eq!(disk.payloads(), Vec::from_iter(0..1_000));
    eventually("all is noted", || sick.status().behind == 0);
    let status = sick.status();
    assert_eq!((status.state, status.committed, status.not_durable), (DurableState::Healthy, 1_000, 0));
    assert!(disk.state().commits.iter().all(|count| *count <= 257), "{:?}", disk.state().commits);
}

#[test]
fn a_full_disk_holds_nobody_up_and_is_told_and_all_is_made_up_for() {
    let disk = Disk::new(Mood::Full);
    let sick = sick(&disk);
    let before = std::time::SystemTime::now();
    sick.publish(0..3_000); // more than may wait
    assert_eq!(sick.broker.audit().total().count(Term::DeadLettered), 3_000);
    let limit = Duration::from_millis(100);
    match sick.dead.flush(limit) {
        Err(FlushError::TimedOut { limit: told, behind, reason: Some(reason) }) => {
            assert_eq!((told, behind), (limit, 3_000));
            assert!(reason.contains("the disk of a test"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let degraded = sick.degraded().expect("it is not well");
    assert_eq!(degraded.kind, Some(StoreErrorKind::Full));
    assert!(degraded.since >= before && degraded.since <= std::time::SystemTime::now());
    let since = degraded.since;
    eventually("it is tried again", || sick.status().failed_commits >= 3);
    let metrics = sick.broker.metrics();
    assert_eq!(metrics.get("messaging.dead_letters.behind"), Some(3_000.0));
    assert!(metrics.get("messaging.dead_letters.failed_commits") >= Some(3.0));
    assert_eq!(metrics.get("messaging.dead_letters.unwritable"), Some(0.0));
    assert_eq!(sick.degraded().expect("it is not well").since, since, "it is one failure");
    assert_eq!((sick.status().not_durable, disk.payloads().len()), (3_000, 0));

    disk.be(Mood::Well);
    sick.dead.flush(LIMIT).expect("it is well again");
    assert_eq!(disk.payloads(), Vec::from_iter(0..3_000));
    let status = sick.status();
    assert_eq!((status.state, status.behind, status.not_durable), (DurableState::Healthy, 0, 0));
    assert_eq!(status.failure, None);
}

#[test]
fn what_has_gone_before_it_was_written_is_never_written() {
    let disk = Disk::new(Mood::Full);
    let sick = on(&disk, numbers(), DeadLetterOptions::new().entries(100));
    sick.publish(0..200);
    sick.dead.purge(&Selection::all().numbers(150..));
    assert_eq!(sick.dead.counts().held, 50);
    // What was being committed when they went has failed by then.
    let failed = sick.status().failed_commits;
    eventually("two commits fail", || {
        let _ = sick.dead.flush(Duration::from_millis(1));
        sick.status().failed_commits >= failed + 2
    });
    disk.be(Mood::Well);
    sick.dead.flush(LIMIT).expect("it is well again");
    assert_eq!(disk.payloads(), Vec::from_iter(100..150));
    assert_eq!(disk.state().seen.len(), 50, "each was written once, and no other");
}

#[test]
fn what_was_removed_while_the_disk_failed_is_removed_when_it_is_well() {
    let disk = Disk::new(Mood::Well);
    let sick = sick(&disk);
    sick.publish(0..2_000);
    sick.dead.flush(LIMIT).expect("it is well");
    disk.be(Mood::Full);
    sick.publish(2_000..2_010);
    sick.dead.purge(&Selection::all().at_most(1_500)); // more than may wait
    sick.is_sick.store(false, Ordering::Relaxed);
    let some = Selection::all().at_most(100);
    sick.dead.replay(&some, Replay::to_subscription().rate(1_000_000)).expect("they are there");
    sick.broker.drain(LIMIT).expect("it drains");
    assert_eq!(disk.payloads().len(), 2_000);
    disk.be(Mood::Well);
    sick.dead.flush(LIMIT).expect("it is well again");
    assert_eq!(disk.payloads(), Vec::from_iter(1_600..2_010));
}

#[test]
fn a_store_that_panics_is_one_that_fails() {
    let disk = Disk::new(Mood::Panicking);
    let sick = sick(&disk);
    sick.publish(0..10);
    eventually("it is told", || sick.degraded().is_some_and(|degraded| degraded.reason.contains("panicked")));
    disk.be(Mood::Well);
    sick.dead.flush(LIMIT).expect("it is well again");
    assert_eq!(disk.payloads(), Vec::from_iter(0..10));
}

#[test]
fn a_stuck_disk_holds_up_neither_consumers_nor_a_shutdown() {
    let limit = Duration::from_millis(300);
    // A machine that is busy with other things may be late once.
    let took: Vec<Duration> = (0..5).map(|_| shut_down_beside_a_stuck_disk(limit)).collect();
    assert!(took.iter().any(|took| *took < limit + Duration::from_millis(100)), "{took:?}");
}

/// Returns how long the shutdown took.
fn shut_down_beside_a_stuck_disk(limit: Duration) -> Duration {
    let disk = Disk::new(Mood::Stuck);
    let sick = sick(&disk);
    sick.publish(0..1);
    eventually("it is stuck", || disk.state().attempts == 1);
    sick.publish(1..5_000);
    assert_eq!(sick.broker.audit().total().count(Term::DeadLettered), 5_000);
    eventually("it is told", || sick.degraded().is_some());
    let begun = Instant::now();
    let report = sick.broker.shutdown(limit).expect("not inside of a publish closure");
    let took = begun.elapsed();
    assert!(report.abandoned.is_empty() && report.ledger.is_balanced());
    let durable = report.dead_letters.expect("it is durable");
    assert_eq!((durable.behind, durable.not_durable), (5_000, 5_000));
    // It goes on by itself when it can.
    disk.be(Mood::Well);
    eventually("all is written", || disk.payloads().len() == 5_000);
    eventually("it is closed", || sick.status().state == DurableState::Closed);
    assert_eq!(sick.status().behind, 0);
    took
}

#[test]
fn a_shutdown_on_a_full_disk_says_what_is_not_durable_and_why() {
    let disk = Disk::new(Mood::Full);
    let sick = sick(&disk);
    sick.publish(0..5);
    let begun = Instant::now();
    let report = sick.broker.shutdown(LIMIT).expect("not inside of a publish closure");
    assert!(begun.elapsed() < LIMIT / 2, "nobody waits for a disk that is full: {:?}", begun.elapsed());
    let durable = report.dead_letters.expect("it is durable");
    assert_eq!((durable.state, durable.behind, durable.not_durable), (DurableState::Closed, 5, 5));
    assert_eq!(durable.failure.and_then(|failure| failure.kind), Some(StoreErrorKind::Full));
}

#[test]
fn consumers_go_on_at_full_speed_beside_a_slow_disk() {
    let count = 20_000;
    let alone = in_memory_alone(count);
    // A consumer that waited for each commit would take many times as long as one that does not.
    let commits = u32::try_from(count / 256).expect("few");
    let pause = Duration::from_millis(100).max(alone * 16 / commits);
    let slow = Disk::new(Mood::Slow(pause));
    let sick = sick(&slow);
    let begun = Instant::now();
    sick.publish(0..count);
    let took = begun.elapsed();
    println!("{count} letters in {took:?} beside commits of {pause:?}, in {alone:?} in memory alone");
    assert!(took < pause * commits / 2, "{took:?}");
    assert!(slow.payloads().len() < 10_000);
    slow.be(Mood::Well);
    sick.dead.flush(LIMIT).expect("it is well");
    // 10,000 are held; the others had to go, most of them before they were written.
    assert_eq!(slow.payloads(), Vec::from_iter(10_000..count));
}

/// How long so many letters take where they are kept in memory alone.
fn in_memory_alone(count: u64) -> Duration {
    let broker: Broker<u64> = Broker::of().dead_letters(DeadLetterOptions::new()).build().expect("valid");
    let billing =
        broker.subscription().name("billing").pattern("a").subscribe(|_| Err::<(), _>("it is sick"));
    let _billing = billing.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let begun = Instant::now();
    (0..count).for_each(|number| _ = publisher.publish(number).expect("room"));
    broker.drain(LIMIT).expect("it drains");
    begun.elapsed()
}

#[test]
fn a_codec_that_fails_or_panics_costs_its_own_letter() {
    let disk = Disk::new(Mood::Well);
    let encode = |number: &u64| match number % 10 {
        3 => Err(format!("{number} has no bytes")),
        7 => panic_quietly(),
        8 => Ok(vec![b'8'; 1 << 20]),
        _ => Ok(number.to_string().into_bytes()),
    };
    let codec = Codec::new(encode, |_| Err::<u64, _>("never"));
    let sick = on(&disk, codec, DeadLetterOptions::new());
    sick.publish(0..100);
    assert_eq!(sick.dead.flush(LIMIT), Err(FlushError::Unwritable { letters: 30 }));
    let expected: Vec<u64> = (0..100).filter(|number| ![3, 7, 8].contains(&(number % 10))).collect();
    assert_eq!(disk.payloads(), expected);
    let status = sick.status();
    assert_eq!((status.not_durable, status.unwritable, status.behind), (30, 30, 0));
    assert_eq!(status.state, DurableState::Healthy);
    let refusal = status.refusal.expect("one was refused");
    assert_eq!(refusal.number, 98);
    assert!(!format!("{refusal:?}").contains(&*refusal.reason), "it may quote the payload");
    // When these have gone all is durable.
    for number in 0..100 {
        if [3, 7, 8].contains(&(number % 10)) {
            sick.dead.purge(&Selection::all().numbers(number..=number));
        }
    }
    assert_eq!(sick.dead.flush(LIMIT), Ok(()));
}

/// A payload that does not want to go.
#[derive(Clone, Default)]
struct Touchy(u64);

impl Drop for Touchy {
    fn drop(&mut self) {
        if self.0 > 0 && !std::thread::panicking() {
            panic_quietly();
        }
    }
}

#[test]
fn payloads_that_panic_when_they_are_dropped_end_no_thread() {
    let disk = Disk::new(Mood::Slow(Duration::from_millis(20)));
    let codec = Codec::new(
        |touchy: &Touchy| Ok::<_, Infallible>(touchy.0.to_string().into_bytes()),
        |_| Ok::<_, Infallible>(Touchy(1)),
    );
    let build = |options: DeadLetterOptions| {
        let durable = DurableDeadLetters::in_store(Handle(disk.clone()), codec.clone());
        Broker::of().dead_letters(options).durable_dead_letters(durable).build().expect("valid")
    };
    let broker: Broker<Touchy> = build(DeadLetterOptions::new().entries(10));
    let billing = broker.subscription().name("billing").pattern("a").subscribe(|_| Err::<(), _>("no"));
    let _billing = billing.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 1..2_000 {
        // What the slot held panics when it goes, and the message is there all the same.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| publisher.publish(Touchy(number))));
    }
    broker.drain(LIMIT).expect("it drains");
    let dead = broker.dead_letters().expect("they are kept");
    dead.flush(LIMIT).expect("the writer lives");
    assert!(dead.durable().expect("it is durable").not_durable == 0 && dead.counts().taken > 100);
    assert_eq!(disk.payloads().len(), 10);
    let _ = broker.shutdown(LIMIT).expect("not inside of a publish closure");
    // Nine of those that are read back have to go.
    let few = build(DeadLetterOptions::new().entries(1));
    let dead = few.dead_letters().expect("they are kept");
    assert_eq!(dead.opened().map(|report| (report.restored, report.evicted)), Some((1, 9)));
    dead.flush(LIMIT).expect("the writer lives");
    assert_eq!(disk.payloads().len(), 1);
}

#[test]
fn a_letter_that_fails_again_and_again_is_on_disk_at_each_commit() {
    let disk = Disk::new(Mood::Well);
    let sick = sick(&disk);
    sick.publish(0..40);
    sick.dead.flush(LIMIT).expect("it is well");
    disk.state().must_have = (0..40).map(|number| format!("\"payload\":\"{number}\"")).collect();
    for round in 0..60 {
        // At some rounds it is behind by more than one failure, at some by more than may wait.
        disk.be(if round % 3 == 0 { Mood::Full } else { Mood::Well });
        sick.replay();
        if round % 10 == 9 {
            disk.be(Mood::Well);
            sick.dead.flush(LIMIT).expect("it is well");
        }
    }
    disk.be(Mood::Well);
    sick.dead.flush(LIMIT).expect("it is well");
    let state = disk.state();
    assert_eq!(state.broken, None);
    assert_eq!(state.records.len(), 40);
    let is_last = |record: &Vec<u8>| String::from_utf8_lossy(record).contains("\"episodes\":61");
    assert!(state.records.values().all(is_last), "each is as it is now");
}

#[test]
fn what_the_store_has_lost_is_written_again() {
    let disk = Disk::new(Mood::Well);
    let sick = sick(&disk);
    sick.publish(0..10);
    sick.dead.flush(LIMIT).expect("it is well");
    disk.state().loses = vec![2, 5];
    sick.publish([10]);
    sick.dead.flush(LIMIT).expect("it is well again");
    assert_eq!(disk.payloads(), Vec::from_iter(0..11));
    assert_eq!(sick.status().not_durable, 0);
}

#[test]
fn the_last_to_go_ends_the_thread() {
    let disk = Disk::new(Mood::Well);
    let sick = sick(&disk);
    sick.publish(0..3);
    let Sick { broker, dead, billing, .. } = sick;
    drop((broker, billing));
    assert!(dead.durable().is_some());
    drop(dead);
    eventually("nobody has the store", || Arc::strong_count(&disk) == 1);
    assert_eq!(disk.payloads(), [0, 1, 2]);
}
