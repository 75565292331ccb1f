//! What has changed in the store of dead letters and is not durable yet.
//!
//! It is a part of the store, under its lock: what is noted here is what has happened there, no more and no less. And
//! it is nothing but numbers. What is to be written of a record is what the store holds under it when its turn comes:
//!
//! ```text
//!              noted                      taken, looked up           committed
//! put, removed ─────► queue of numbers ─────────────────────► writer ─────────► on disk
//!                     │ full                                    ▲
//!                     └──► forgotten: all is compared ──────────┘
//! ```
//!
//! So no order can be swapped, a letter that has gone before its turn is never written, and where the queue has no room
//! nothing is lost: what the store holds is compared with what is on disk, which costs time and no more.

use super::error::StoreError;
use super::status::{Degraded, DurableState, DurableStatus, Refusal};
use crate::sync::Condvar;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The most numbers that wait. Where there are more, all are compared.
pub(super) const QUEUE: usize = 1_024;

/// So many changes are committed at once at the most, and are committed at once when they are there.
pub(super) const BATCH: usize = 256;

/// A commit that takes longer than that says that the disk is not well.
const SLOW: Duration = Duration::from_secs(1);

/// By which the writer and those who wait for it are woken.
#[derive(Debug)]
pub(crate) struct Signal {
    /// There is something to write, or no time to lose.
    pub(crate) work: Condvar,
    /// Something has been written, or will not be.
    pub(crate) done: Condvar,
}

impl Default for Signal {
    fn default() -> Self {
        Self { work: Condvar::new(), done: Condvar::new() }
    }
}

/// What has changed and is not durable yet. All numbers are those of records.
#[derive(Debug)]
pub(crate) struct Changes {
    queue: VecDeque<u64>,
    /// Since when the queue has been too short.
    overflown: Option<SystemTime>,
    /// Since when it has been too short, while all is compared for that.
    catching_up: Option<SystemTime>,
    /// How many changes there were.
    noted: u64,
    /// So many of them are durable, the first ones.
    settled: u64,
    /// By when they were noted that somebody waits for.
    wanted: u64,
    /// How often somebody came to wait.
    pub(super) hurries: u64,
    /// The letter of each record that the store holds.
    held: BTreeMap<u64, u64>,
    /// The letter of each record that is on disk.
    on_disk: BTreeMap<u64, u64>,
    /// Letters of which no record could be made.
    unwritable: BTreeMap<u64, u64>,
    refusal: Option<Refusal>,
    failing: Option<Degraded>,
    busy_since: Option<Instant>,
    committed: u64,
    failed_commits: u64,
    pub(super) is_stopping: bool,
    /// The writer has ended.
    pub(crate) is_over: bool,
    pub(crate) signal: Arc<Signal>,
}

/// What metrics say of the writer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriterNumbers {
    pub(crate) is_running: bool,
    pub(crate) behind: u64,
    pub(crate) unwritable: u64,
    pub(crate) failed_commits: u64,
}

/// What the writer is to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Write what this letter is.
    Put {
        letter: u64,
    },
    Remove,
    Nothing,
}

/// What the writer is to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// These records. So many changes are settled then.
    Records { records: Vec<u64>, settles: u64 },
    /// All of them,
    /// up to this one: what comes meanwhile would have it go on for ever.
    All { last: u64, settles: u64 },
}

/// Which records are looked for, where all are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    ForPuts,
    ForRemoves,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            overflown: None,
            catching_up: None,
            noted: 0,
            settled: 0,
            wanted: 0,
            hurries: 0,
            held: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            unwritable: BTreeMap::new(),
            refusal: None,
            failing: None,
            busy_since: None,
            committed: 0,
            failed_commits: 0,
            is_stopping: false,
            is_over: false,
            signal: Arc::default(),
        }
    }

    /// Notes that the store holds this letter from now on.
    pub(crate) fn note_put(&mut self, record: u64, letter: u64) {
        self.held.insert(record, letter);
        self.unwritable.remove(&record);
        self.note(record);
    }

    /// Notes that the store holds this letter no longer.
    pub(crate) fn note_removed(&mut self, record: u64, letter: u64) {
        if self.held.get(&record) == Some(&letter) {
            self.held.remove(&record);
            self.unwritable.remove(&record);
            self.note(record);
        }
    }

    fn note(&mut self, record: u64) {
        self.noted += 1;
        if self.is_over || self.overflown.is_some() {
            return;
        }
        if self.queue.len() == QUEUE {
            self.queue.clear();
            self.overflown = Some(SystemTime::now());
        } else {
            self.queue.push_back(record);
        }
        if self.overflown.is_some() || matches!(self.queue.len(), 1 | BATCH) {
            self.signal.work.notify_all();
        }
    }

    /// Notes that a record was read back, and which letter it is.
    pub(super) fn was_read(&mut self, record: u64, letter: u64) {
        self.on_disk.insert(record, letter);
    }

    /// Notes that the store holds a letter that was read back.
    pub(crate) fn was_restored(&mut self, record: u64, letter: u64) {
        self.held.insert(record, letter);
    }

    /// Notes that a record stays on disk though the store does not hold it.
    pub(super) fn leave_on_disk(&mut self, record: u64) {
        self.on_disk.remove(&record);
    }

    /// Returns whether there is something to write.
    pub(super) fn has_work(&self) -> bool {
        self.overflown.is_some() || !self.queue.is_empty()
    }

    /// Returns whether it is worth to wait for more.
    pub(super) fn may_wait(&self) -> bool {
        let is_hurried = self.is_stopping || self.wanted > self.settled;
        self.overflown.is_none() && self.queue.len() < BATCH && !is_hurried
    }

    /// Takes what is to be looked at next.
    pub(super) fn take_work(&mut self) -> Work {
        if let Some(since) = self.overflown.take() {
            self.catching_up = Some(since);
            let last = self.held.keys().next_back().max(self.on_disk.keys().next_back());
            return Work::All { last: last.copied().unwrap_or(0), settles: self.noted };
        }
        let count = self.queue.len().min(BATCH);
        let records = self.queue.drain(..count).collect();
        Work::Records { records, settles: self.noted - self.queue.len() as u64 }
    }

    /// Returns what is to be done with a record.
    pub(super) fn due(&self, record: u64) -> Due {
        match (self.held.get(&record), self.on_disk.get(&record)) {
            (Some(letter), on_disk) if on_disk == Some(letter) => Due::Nothing,
            (Some(letter), _) if self.unwritable.get(&record) == Some(letter) => Due::Nothing,
            (Some(letter), _) => Due::Put { letter: *letter },
            (None, Some(_)) => Due::Remove,
            (None, None) => Due::Nothing,
        }
    }

    /// Returns records with which something is to be done, of the first so many of these, and where to go on.
    pub(super) fn compare(
        &self,
        looked: Looked,
        of_records: RangeInclusive<u64>,
        count: usize,
    ) -> (Vec<u64>, Option<u64>) {
        let of = if looked == Looked::ForPuts { &self.held } else { &self.on_disk };
        let (mut records, mut last, mut seen) = (Vec::new(), *of_records.start(), 0);
        for record in of.range(of_records).map(|(record, _)| *record).take(count) {
            (last, seen) = (record, seen + 1);
            let is_due = match self.due(record) {
                Due::Put { .. } => looked == Looked::ForPuts,
                Due::Remove => looked == Looked::ForRemoves,
                Due::Nothing => false,
            };
            records.extend(is_due.then_some(record));
        }
        (records, (seen == count).then(|| last.saturating_add(1)))
    }

    pub(super) fn begin(&mut self) {
        self.busy_since = Some(Instant::now());
    }

    /// Notes what has been committed.
    pub(super) fn committed(&mut self, puts: impl IntoIterator<Item = (u64, u64)>, removed: &[u64]) {
        for (record, letter) in puts {
            self.on_disk.insert(record, letter);
            self.committed += 1;
        }
        removed.iter().for_each(|record| _ = self.on_disk.remove(record));
        self.committed += removed.len() as u64;
        (self.failing, self.busy_since) = (None, None);
    }

    /// Notes that so many changes are durable.
    pub(super) fn settle(&mut self, settles: u64) {
        self.settled = settles;
        (self.failing, self.busy_since, self.catching_up) = (None, None, None);
        self.signal.done.notify_all();
    }

    /// Notes that a commit has failed.
    pub(super) fn failed(&mut self, error: &StoreError) {
        self.failed_commits += 1;
        self.busy_since = None;
        error.lost.iter().for_each(|record| _ = self.on_disk.remove(record));
        let since = self.failing.as_ref().map_or_else(SystemTime::now, |failing| failing.since);
        let kind = Some(error.kind);
        self.failing = Some(Degraded { kind, reason: error.reason.clone(), since });
    }

    /// Notes that no record could be made of a letter.
    pub(super) fn refused(&mut self, record: u64, letter: u64, reason: Box<str>) {
        if self.held.get(&record) == Some(&letter) {
            self.unwritable.insert(record, letter);
        }
        self.refusal = Some(Refusal { number: letter, reason });
    }

    /// Returns how many changes there were, and has them written without waiting for more.
    pub(crate) fn hurry(&mut self) -> u64 {
        self.wanted = self.noted;
        self.hurries += 1;
        self.signal.work.notify_all();
        self.noted
    }

    /// Has the writer end when all is written, or at the first failure.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        self.signal.work.notify_all();
    }

    /// Notes that the writer has ended.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.queue = VecDeque::new();
        self.signal.done.notify_all();
    }

    pub(crate) fn is_settled(&self, noted: u64) -> bool {
        self.settled >= noted
    }

    /// Returns how many changes have not been committed.
    pub(crate) fn behind(&self) -> u64 {
        self.noted - self.settled
    }

    pub(crate) fn unwritable(&self) -> u64 {
        self.unwritable.len() as u64
    }

    /// Returns why the last commit has failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failing.as_ref().map(|failing| &*failing.reason)
    }

    /// Returns the numbers that take no time to find.
    pub(crate) fn numbers(&self) -> WriterNumbers {
        WriterNumbers {
            is_running: !self.is_over,
            behind: self.behind(),
            unwritable: self.unwritable(),
            failed_commits: self.failed_commits,
        }
    }

    pub(crate) fn status(&self) -> DurableStatus {
        let is_durable = |(record, letter): (&u64, &u64)| self.on_disk.get(record) == Some(letter);
        let durable = self.held.iter().filter(|held| is_durable(*held)).count();
        DurableStatus {
            state: self.state(),
            committed: self.committed,
            behind: self.behind(),
            not_durable: (self.held.len() - durable) as u64,
            unwritable: self.unwritable(),
            refusal: self.refusal.clone(),
            failed_commits: self.failed_commits,
            failure: self.failing.clone(),
        }
    }

    fn state(&self) -> DurableState {
        if self.is_over {
            return DurableState::Closed;
        }
        if let Some(failing) = &self.failing {
            return DurableState::Degraded(failing.clone());
        }
        if let Some(busy_for) = self.busy_since.map(|since| since.elapsed()).filter(|busy| *busy >= SLOW) {
            let reason = format!("a commit has taken {busy_for:.1?} so far");
            let since = SystemTime::now().checked_sub(busy_for).unwrap_or(SystemTime::UNIX_EPOCH);
            return DurableState::Degraded(Degraded { kind: None, reason, since });
        }
        if let Some(since) = self.catching_up.or(self.overflown) {
            let reason = "letters come faster than they are written".to_owned();
            return DurableState::Degraded(Degraded { kind: None, reason, since });
        }
        DurableState::Healthy
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::error::StoreErrorKind;
    use super::*;
    use proptest::prelude::*;

    /// Two stores and what is noted between them: numbers of records, and which letter each is.
    struct Both {
        changes: Changes,
        memory: BTreeMap<u64, u64>,
        disk: BTreeMap<u64, u64>,
        next: u64,
    }

    impl Both {
        fn put(&mut self, record: Option<u64>) {
            let letter = self.next;
            self.next += 1;
            let record = record.unwrap_or(letter);
            self.memory.insert(record, letter);
            self.changes.note_put(record, letter);
        }

        fn remove(&mut self, record: u64) {
            if let Some(letter) = self.memory.remove(&record) {
                self.changes.note_removed(record, letter);
            }
        }

        fn nth(&self, index: usize) -> Option<u64> {
            self.memory.keys().nth(index % self.memory.len().max(1)).copied()
        }

        /// Does what the writer does, with `between` done while it commits.
        fn write(&mut self, fails: bool, between: &mut dyn FnMut(&mut Self)) {
            if !self.changes.has_work() {
                return;
            }
            let (batches, settles) = match self.changes.take_work() {
                Work::Records { records, settles } => (vec![records], settles),
                Work::All { last, settles } => {
                    let all = |looked| self.changes.compare(looked, 0..=last, usize::MAX).0;
                    (vec![all(Looked::ForPuts), all(Looked::ForRemoves)], settles)
                }
            };
            for records in batches {
                let due: BTreeMap<u64, Due> =
                    records.iter().map(|record| (*record, self.changes.due(*record))).collect();
                between(self);
                if fails {
                    self.changes.failed(&StoreError::new(StoreErrorKind::Full, "it is full"));
                    // It is done again, as things are by then.
                    return self.write_all(&records, settles);
                }
                self.commit(&due);
            }
            self.changes.settle(settles);
        }

        fn write_all(&mut self, records: &[u64], settles: u64) {
            let due = records.iter().map(|record| (*record, self.changes.due(*record))).collect();
            self.commit(&due);
            // The rest of a comparison that was given up.
            let rest = |looked, changes: &Changes| changes.compare(looked, 0..=u64::MAX, usize::MAX).0;
            for looked in [Looked::ForPuts, Looked::ForRemoves] {
                let due = rest(looked, &self.changes).into_iter();
                let due = due.map(|record| (record, self.changes.due(record))).collect();
                self.commit(&due);
            }
            self.changes.settle(settles);
        }

        fn commit(&mut self, due: &BTreeMap<u64, Due>) {
            let puts: Vec<(u64, u64)> = due
                .iter()
                .filter_map(|(record, due)| match due {
                    Due::Put { letter } => Some((*record, *letter)),
                    _ => None,
                })
                .collect();
            let removes = due.iter().filter(|(_, due)| **due == Due::Remove).map(|(record, _)| *record);
            let removed: Vec<u64> = removes.collect();
            self.disk.extend(puts.iter().copied());
            removed.iter().for_each(|record| _ = self.disk.remove(record));
            self.changes.committed(puts, &removed);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put,
        Burst(usize),
        Again(usize),
        Remove(usize),
        Write { fails: bool, again: usize, removed: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Put),
            1 => (0..2 * QUEUE).prop_map(Step::Burst),
            4 => any::<usize>().prop_map(Step::Again),
            3 => any::<usize>().prop_map(Step::Remove),
            4 => (any::<bool>(), any::<usize>(), any::<usize>())
                .prop_map(|(fails, again, removed)| Step::Write { fails, again, removed }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_disk_and_memory_agree_in_the_end(steps in prop::collection::vec(step(), 1..80)) {
            let (memory, disk) = (BTreeMap::new(), BTreeMap::new());
            let mut both = Both { changes: Changes::new(), memory, disk, next: 0 };
            for step in steps {
                // What is on disk and still there must stay on disk, as it is or as it was.
                let before: Vec<u64> = both.disk.keys().copied().collect();
                match step {
                    Step::Put => both.put(None),
                    Step::Burst(count) => (0..count).for_each(|_| both.put(None)),
                    Step::Again(index) => {
                        if let Some(record) = both.nth(index) {
                            both.put(Some(record));
                        }
                    }
                    Step::Remove(index) => {
                        if let Some(record) = both.nth(index) {
                            both.remove(record);
                        }
                    }
                    Step::Write { fails, again, removed } => both.write(fails, &mut |both| {
                        // One fails again while it is committed, another goes.
                        both.nth(again).into_iter().for_each(|record| both.put(Some(record)));
                        both.nth(removed).into_iter().for_each(|record| both.remove(record));
                    }),
                }
                for record in before.iter().filter(|record| both.memory.contains_key(record)) {
                    prop_assert!(both.disk.contains_key(record), "{} has gone from disk", record);
                }
            }
            while both.changes.has_work() {
                both.write(false, &mut |_| ());
            }
            prop_assert_eq!(&both.disk, &both.memory);
            let status = both.changes.status();
            prop_assert_eq!((status.behind, status.not_durable, status.state), (0, 0, DurableState::Healthy));
        }
    }
}
