//! The thread that writes what has changed.
//!
//! It holds the store's lock only to look numbers up and to note what came of them: up to [`BATCH`] of them, or
//! [`PAGE`] where all are compared. It encodes and commits without it. One batch after the other: what has failed is
//! done before anything else is begun.

use super::super::entry::DeadLetter;
use super::super::shared::SharedStore;
use super::super::store::{MemoryStore, discard};
use super::changes::{BATCH, Due, Looked, Signal, Work};
use super::codec::Codec;
use super::dead_letter_store::{Change, DeadLetterStore, MAX_RECORD_BYTES};
use super::error::{StoreError, StoreErrorKind};
use super::record;
use crate::message::MessagePayload;
use crate::sync::panics::guard;
use crate::sync::{MutexGuard, thread};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the first change of a batch waits for others.
const WINDOW: Duration = Duration::from_millis(10);

/// How much is committed at once.
const BATCH_BYTES: usize = 16 << 20;

/// So many records are compared at once.
const PAGE: usize = 1_024;

/// The pause after a commit has failed; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Under which it is logged that something fails, and that it does no more.
pub(super) const TARGET: &str = "ringmain::dead_letters";

/// What writes.
pub(super) struct Writer<P> {
    shared: Arc<SharedStore<P>>,
    store: Box<dyn DeadLetterStore>,
    codec: Codec<P>,
    /// The highest number that the store knows to be in use.
    named: Option<u64>,
    signal: Arc<Signal>,
}

/// Starts the thread of a writer. It ends when it is told to stop.
pub(super) fn start<P: MessagePayload>(writer: Writer<P>) -> io::Result<()> {
    // Dropped last, with the store closed.
    struct Over<P>(Arc<SharedStore<P>>);
    impl<P> Drop for Over<P> {
        fn drop(&mut self) {
            if let Some(changes) = self.0.lock().changes() {
                changes.end();
            }
        }
    }
    let over = Over(writer.shared.clone());
    let body = move || {
        let _over = over;
        let mut writer = writer;
        guard(|| writer.run());
        guard(|| drop(writer));
    };
    thread::Builder::new().name("rm-dead-letters".to_owned()).spawn(body).map(drop)
}

impl<P: MessagePayload> Writer<P> {
    pub(super) fn new(
        shared: Arc<SharedStore<P>>,
        store: Box<dyn DeadLetterStore>,
        codec: Codec<P>,
        named: Option<u64>,
    ) -> Self {
        let signal = shared.lock().changes().map(|changes| changes.signal.clone()).unwrap_or_default();
        Self { shared, store, codec, named, signal }
    }

    fn run(&mut self) {
        while let Some(work) = self.next_work() {
            let (is_done, settles) = match work {
                Work::Records { records, settles } => (self.write(records), settles),
                Work::All { last, settles } => (self.compare(last), settles),
            };
            if !is_done {
                return;
            }
            if let Some(changes) = self.shared.lock().changes() {
                changes.settle(settles);
            }
        }
    }

    /// Waits for something to write, and for a while for more of it. Nothing when it is to end.
    fn next_work(&self) -> Option<Work> {
        let mut memory = self.shared.lock();
        while !memory.changes()?.has_work() {
            if memory.changes()?.is_stopping {
                return None;
            }
            memory = self.signal.work.wait_until(memory, None);
        }
        let until = Instant::now() + WINDOW;
        while memory.changes()?.may_wait() && Instant::now() < until {
            memory = self.signal.work.wait_until(memory, Some(until));
        }
        Some(memory.changes()?.take_work())
    }

    /// Compares what the store holds with what is on disk, and writes what differs. Returns whether all is written.
    fn compare(&mut self, last: u64) -> bool {
        // What is new comes first: where the disk fails, it fails before anything is removed.
        for looked in [Looked::ForPuts, Looked::ForRemoves] {
            let mut from = Some(0);
            while let Some(start) = from.filter(|start| *start <= last) {
                let page =
                    self.shared.lock().changes().map(|changes| changes.compare(looked, start..=last, PAGE));
                let (records, next) = page.unwrap_or_default();
                if !records.chunks(BATCH).all(|records| self.write(records.to_vec())) {
                    return false;
                }
                from = next;
            }
        }
        true
    }

    /// Writes what has become of records, as often as it takes. Returns whether it is written; it may not be when the
    /// writer is to end.
    fn write(&mut self, mut records: Vec<u64>) -> bool {
        records.sort_unstable();
        records.dedup();
        let mut pause = FIRST_PAUSE;
        loop {
            let hurries = self.hurries();
            let Err(error) = self.commit(&records) else {
                if pause > FIRST_PAUSE {
                    guard(|| tracing::info!(target: TARGET, "dead letters are durable again"));
                }
                return true;
            };
            if pause == FIRST_PAUSE {
                // The reason may name what is not ours to log.
                guard(|| tracing::warn!(target: TARGET, kind = ?error.kind, "dead letters are not durable"));
            }
            let mut memory = self.shared.lock();
            if let Some(changes) = memory.changes() {
                changes.failed(&error);
                if changes.is_stopping {
                    return false;
                }
            }
            // Those it has lost are written with the others.
            records.extend(error.lost);
            let until = Instant::now() + pause;
            let is_to_wait = |memory: &mut MutexGuard<'_, MemoryStore<P>>| {
                let changes = memory.changes();
                changes.is_some_and(|changes| !changes.is_stopping && changes.hurries == hurries)
            };
            while Instant::now() < until && is_to_wait(&mut memory) {
                memory = self.signal.work.wait_until(memory, Some(until));
            }
            pause = MAX_PAUSE.min(pause * 2);
        }
    }

    fn hurries(&self) -> u64 {
        self.shared.lock().changes().map_or(0, |changes| changes.hurries)
    }

    /// Writes what has become of records, once.
    fn commit(&mut self, records: &[u64]) -> Result<(), StoreError> {
        let (mut puts, mut removed) = (Vec::new(), Vec::new());
        let last = {
            let mut memory = self.shared.lock();
            for &record in records {
                let due = memory.changes().map_or(Due::Nothing, |changes| changes.due(record));
                match due {
                    Due::Put { letter } => puts.extend(memory.get(letter).cloned()),
                    Due::Remove => removed.push(record),
                    Due::Nothing => {}
                }
            }
            if let Some(changes) = memory.changes() {
                changes.begin();
            }
            memory.last_number()
        };
        let mut puts = puts.into_iter();
        let committed = self.commit_letters(&mut puts, &removed, last);
        // Where it has failed, some are left.
        discard(puts);
        committed
    }

    fn commit_letters(
        &mut self,
        letters: &mut impl Iterator<Item = Arc<DeadLetter<P>>>,
        removed: &[u64],
        last: Option<u64>,
    ) -> Result<(), StoreError> {
        let (mut written, mut bytes) = (Vec::new(), 0);
        for letter in letters {
            if let Some(text) = self.encode(&letter) {
                bytes += text.len();
                written.push(Written { record: letter.record, letter: letter.number, text });
            }
            // It may have left the store meanwhile.
            discard([letter]);
            if bytes >= BATCH_BYTES {
                self.commit_written(&mut written, &[], None)?;
                written.clear();
                bytes = 0;
            }
        }
        self.commit_written(&mut written, removed, last)
    }

    /// Makes the record of a letter.
    fn encode(&self, letter: &DeadLetter<P>) -> Option<String> {
        let text = guard(|| record::write(letter, &self.codec));
        let text = text.unwrap_or_else(|| Err("it has panicked".into()));
        let text = text.and_then(|text| match text.len() {
            0..=MAX_RECORD_BYTES => Ok(text),
            bytes => Err(format!("its record has {bytes} bytes, and may have {MAX_RECORD_BYTES}").into()),
        });
        match text {
            Ok(text) => Some(text),
            Err(reason) => {
                if let Some(changes) = self.shared.lock().changes() {
                    changes.refused(letter.record, letter.number, reason);
                }
                None
            }
        }
    }

    /// Commits what was made, and that numbers up to the last are in use, where no record tells that.
    fn commit_written(
        &mut self,
        written: &mut Vec<Written>,
        removed: &[u64],
        last: Option<u64>,
    ) -> Result<(), StoreError> {
        // What has left the store while records were made is not written.
        if let Some(changes) = self.shared.lock().changes() {
            written.retain(|one| changes.due(one.record) == Due::Put { letter: one.letter });
        }
        let named = self.named.max(written.iter().map(|one| one.record).max());
        let highest = last.filter(|last| Some(*last) > named);
        if written.is_empty() && removed.is_empty() && highest.is_none() {
            return Ok(());
        }
        let puts = written.iter().map(|one| Change::Put { number: one.record, record: one.text.as_bytes() });
        let in_use = highest.map(|number| Change::Highest { number });
        let removes = removed.iter().map(|&number| Change::Remove { number });
        let changes: Vec<Change<'_>> = puts.chain(in_use).chain(removes).collect();
        let committed = guard(|| self.store.commit(&changes));
        let panicked = || Err(StoreError::new(StoreErrorKind::Other, "it has panicked"));
        committed.unwrap_or_else(panicked)?;
        self.named = named.max(highest);
        if let Some(changes) = self.shared.lock().changes() {
            changes.committed(written.iter().map(|one| (one.record, one.letter)), removed);
        }
        Ok(())
    }
}

/// A record that was made.
struct Written {
    record: u64,
    letter: u64,
    text: String,
}
