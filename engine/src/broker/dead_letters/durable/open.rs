//! Reading back the letters of earlier processes.

use super::super::entry::DeadLetter;
use super::super::options::DeadLetterOptions;
use super::super::shared::SharedStore;
use super::super::store::{MemoryStore, Restored, discard};
use super::changes::Changes;
use super::codec::Codec;
use super::dead_letter_store::{DeadLetterStore, Loaded};
use super::error::{OpenError, StoreError, StoreErrorKind};
use super::options::{DurableDeadLetters, Opened};
use super::record;
use super::status::{OpenReport, Refusal};
use super::writer::{self, TARGET, Writer};
use crate::clock::Clock;
use crate::message::MessagePayload;
use crate::sync::panics::guard;
use std::sync::Arc;

/// A store that was opened, and whose writer has not been started.
#[must_use]
pub(crate) struct Unstarted<P> {
    store: Box<dyn DeadLetterStore>,
    codec: Codec<P>,
    /// The highest number that the store knows to be in use.
    named: Option<u64>,
}

/// Opens a store, and reads its letters back into one in memory.
pub(crate) fn open<P: MessagePayload>(
    durable: DurableDeadLetters<P>,
    options: DeadLetterOptions,
    clock: &Clock,
) -> Result<(Arc<SharedStore<P>>, Unstarted<P>), OpenError> {
    let keeps_error_texts = options.keeps_error_texts();
    let (Opened { mut store, moved_aside }, codec) = durable.open()?;
    let mut memory = MemoryStore::new(options);
    memory.note_changes(Changes::new());
    let mut report = OpenReport { moved_aside, ..OpenReport::default() };
    let mut letters = Vec::new();
    let loaded = guard(|| {
        store.load(&mut |found| match found {
            Loaded::Damaged(damage) => report.damaged.push(damage.clone()),
            Loaded::Record { number, record } => {
                let read = guard(|| record::read(number, record, &codec, clock));
                match read.unwrap_or_else(|| Err("the payload has panicked".into())) {
                    Ok(read) => letters.push(read),
                    Err(reason) => report.unread.push(Refusal { number, reason }),
                }
            }
        })
    });
    let panicked = || Err(StoreError::new(StoreErrorKind::Other, "it has panicked while it was read"));
    let highest = match loaded.unwrap_or_else(panicked) {
        Ok(highest) => highest,
        Err(error) => {
            discard(letters.into_iter().map(|read| Arc::new(read.letter)));
            return Err(error.into());
        }
    };
    // A letter that was replayed and failed again has a higher number than its record.
    letters.sort_by_key(|read| read.letter.number);
    for read in letters {
        let DeadLetter { record, number, .. } = read.letter;
        if let Some(changes) = memory.changes() {
            changes.was_read(record, number);
        }
        match memory.restore(read.letter, read.message_bytes) {
            Ok(Restored { superseded, evicted }) => {
                report.superseded += u64::from(superseded.is_some());
                report.evicted += evicted.len() as u64;
                discard(superseded.into_iter().chain(evicted));
            }
            Err(letter) => {
                if let Some(changes) = memory.changes() {
                    changes.leave_on_disk(record);
                }
                let reason = "it alone is larger than the store may be".into();
                report.unread.push(Refusal { number, reason });
                discard([Arc::from(letter)]);
            }
        }
    }
    report.restored = memory.counts().held;
    let (damaged, unread) = (report.damaged.len(), report.unread.len());
    if damaged + unread > 0 || report.moved_aside.is_some() {
        let is_moved_aside = report.moved_aside.is_some();
        let restored = report.restored;
        guard(|| {
            tracing::warn!(
                target: TARGET,
                restored,
                damaged,
                unread,
                is_moved_aside,
                "not all dead letters of earlier processes can be read; `DeadLetters::opened` tells which"
            );
        });
    }
    highest.into_iter().for_each(|highest| memory.go_on_behind(highest));
    let shared = Arc::new(SharedStore::of(memory, keeps_error_texts, Some(report)));
    Ok((shared, Unstarted { store, codec, named: highest }))
}

impl<P: MessagePayload> Unstarted<P> {
    /// Starts the thread that writes what changes in that store.
    pub(crate) fn start(self, shared: &Arc<SharedStore<P>>) -> Result<(), OpenError> {
        let Self { store, codec, named } = self;
        writer::start(Writer::new(shared.clone(), store, codec, named))
            .map_err(|error| OpenError::Thread { kind: error.kind() })
    }
}
