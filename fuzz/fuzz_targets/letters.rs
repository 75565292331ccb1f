//! Bytes that dead letters may have left behind: a file, or records behind any store, one a line. Opening them never
//! panics and loses nothing: each record is a letter, or its reason is told. What is a letter is the same one when it
//! is opened once more.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::Broker;
use ringmain::broker::dead_letters::Selection;
use ringmain::broker::dead_letters::durable::{
    Change, Codec, DeadLetterStore, DurableDeadLetters, Loaded, OpenReport, StoreError,
};
use ringmain::message::Payload;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'f', file)) => of_a_file(file),
        Some((_, records)) => of_records(records),
        None => {}
    }
});

/// A store in memory.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

impl DeadLetterStore for Shelf {
    fn load(&mut self, each: &mut dyn FnMut(Loaded<'_>)) -> Result<Option<u64>, StoreError> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().for_each(|(&number, record)| each(Loaded::Record { number, record }));
        Ok(records.keys().next_back().copied())
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match *change {
                Change::Put { number, record } => _ = records.insert(number, record.to_vec()),
                Change::Remove { number } => _ = records.remove(&number),
                Change::Highest { .. } => {}
            }
        }
        Ok(())
    }
}

fn of_records(bytes: &[u8]) {
    let shelf = Shelf::default();
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let records: BTreeMap<u64, Vec<u8>> = (0..).zip(lines).collect();
    let count = records.len() as u64;
    *shelf.0.lock().unwrap_or_else(PoisonError::into_inner) = records;
    let open = || DurableDeadLetters::in_store(shelf.clone(), Codec::bytes());
    let (report, letters) = opened(open()).expect("any record is read, or told of");
    let told = report.restored + report.evicted + report.superseded + report.unread.len() as u64;
    assert_eq!(told, count, "{report:?}");
    assert!(report.damaged.is_empty());
    if letters.is_empty() {
        return;
    }
    let (again, same) = opened(open()).expect("what was written is read");
    assert_eq!((again.restored, again.superseded, again.evicted), (report.restored, 0, 0));
    assert_eq!(again.unread.len(), report.unread.len());
    assert_eq!(same, letters);
}

fn of_a_file(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("letters");
    std::fs::write(&path, bytes).expect("a file");
    let open = || DurableDeadLetters::at(&path).move_aside_if_unreadable(true);
    let Ok((_, letters)) = opened(open()) else { return };
    if letters.is_empty() {
        return;
    }
    let (again, same) = opened(open()).expect("what was read once is read again");
    assert_eq!((again.restored as usize, same), (letters.len(), letters));
    assert!(again.moved_aside.is_none(), "{again:?}");
}

/// What tells a letter: its subscription, topic, kind, number of attempts and payload.
type Told = (String, String, String, usize, Vec<u8>);

/// Opens what there is, and ends the broker.
fn opened(durable: DurableDeadLetters<Payload>) -> Result<(OpenReport, Vec<Told>), String> {
    let built = Broker::builder().stall_after(None).durable_dead_letters(durable).build();
    let broker = built.map_err(|error| error.to_string())?;
    let dead = broker.dead_letters().expect("they are kept");
    let letters = dead.query(&Selection::all());
    letters.iter().for_each(|letter| _ = letter.to_json().expect("each letter has its JSON"));
    let told = letters.iter().map(|letter| {
        let (subscription, topic) = (letter.subscription.to_string(), letter.message.topic.to_string());
        let kind = format!("{} of {}", letter.kind, letter.message.id);
        (subscription, topic, kind, letter.attempts.len(), letter.message.payload.to_vec())
    });
    let told = told.collect();
    let report = dead.opened().expect("they are durable").clone();
    let shutdown = broker.shutdown(LIMIT).expect("may wait");
    let status = shutdown.dead_letters.expect("they are durable");
    assert_eq!((status.behind, status.not_durable), (0, 0), "{status:?}");
    Ok((report, told))
}
