use super::super::dead_letter_store::{Change, Damage, DeadLetterStore as _, Loaded};
use super::super::error::{OpenError, StoreError, StoreErrorKind};
use super::entry::{FILE_HEAD, HEAD, file_head};
use super::{Log, SLACK, beside};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

type Records = BTreeMap<u64, Vec<u8>>;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("letters");
    (directory, path)
}

fn record(number: u64) -> Vec<u8> {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(number as usize % 7)).into_bytes()
}

/// What is found at an opening.
#[derive(Debug, Default, PartialEq)]
struct Read {
    records: Records,
    damage: Vec<Damage>,
    highest: Option<u64>,
}

fn load(log: &mut Log) -> Result<Read, StoreError> {
    let mut read = Read::default();
    read.highest = log.load(&mut |loaded| match loaded {
        Loaded::Record { number, record } => {
            assert!(read.damage.is_empty(), "records come first");
            assert!(read.records.last_key_value().is_none_or(|(last, _)| *last < number));
            read.records.insert(number, record.to_vec());
        }
        Loaded::Damaged(damage) => read.damage.push(damage.clone()),
    })?;
    Ok(read)
}

fn open(path: &Path) -> (Log, Read) {
    let mut log = Log::open(path, false).unwrap();
    let read = load(&mut log).unwrap();
    (log, read)
}

fn put(log: &mut Log, numbers: impl IntoIterator<Item = u64>) -> Result<(), StoreError> {
    let records: Vec<_> = numbers.into_iter().map(|number| (number, record(number))).collect();
    let changes: Vec<_> =
        records.iter().map(|(number, record)| Change::Put { number: *number, record }).collect();
    log.commit(&changes)
}

fn remove(log: &mut Log, numbers: impl IntoIterator<Item = u64>) {
    let changes: Vec<_> = numbers.into_iter().map(|number| Change::Remove { number }).collect();
    log.commit(&changes).unwrap();
}

fn records(numbers: impl IntoIterator<Item = u64>) -> Records {
    numbers.into_iter().map(|number| (number, record(number))).collect()
}

#[test]
fn what_was_committed_is_there_at_the_next_opening_and_what_was_removed_is_not() {
    let (_directory, path) = place();
    let (mut log, read) = open(&path);
    assert_eq!(read, Read::default());
    put(&mut log, [0, 3, 5, 6]).unwrap();
    remove(&mut log, [3, 4, 6]);
    log.commit(&[Change::Put { number: 0, record: b"newer" }, Change::Highest { number: 9 }]).unwrap();
    drop(log);
    let (log, read) = open(&path);
    let expected = Records::from([(0, b"newer".to_vec()), (5, record(5))]);
    assert_eq!((read.records, read.damage, read.highest), (expected.clone(), vec![], Some(9)));
    drop(log);
    // The highest number is known when all is gone, and written anew as well.
    let (mut log, _) = open(&path);
    remove(&mut log, [0, 5]);
    log.rewrite().unwrap();
    drop(log);
    assert_eq!(open(&path).1, Read { highest: Some(9), ..Read::default() });
}

/// A file with a bit of everything, and what is in it.
fn sample(path: &Path) -> (Vec<u8>, Records) {
    let (mut log, _) = open(path);
    put(&mut log, 0..4).unwrap();
    remove(&mut log, [1]);
    log.rewrite().unwrap();
    put(&mut log, [4, 5]).unwrap();
    log.commit(&[Change::Put { number: 2, record: b"newer" }, Change::Highest { number: 7 }]).unwrap();
    remove(&mut log, [4]);
    put(&mut log, [8]).unwrap();
    let mut expected = records([0, 3, 5, 8]);
    expected.insert(2, b"newer".to_vec());
    (fs::read(path).unwrap(), expected)
}

#[test]
fn whichever_byte_is_flipped_all_is_read_or_what_is_missing_is_named_and_the_rest_is_read() {
    let (_directory, path) = place();
    let (whole, expected) = sample(&path);
    let (mut unnoticed, mut refused) = (0, 0);
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            let context = format!("byte {at} of {} by {flip:#x}", whole.len());
            let mut log = match Log::open(&path, false) {
                Ok(log) => log,
                Err(error) => {
                    assert_eq!(fs::read(&path).unwrap(), bytes, "{context}: {error}: left as it is");
                    refused += 1;
                    continue;
                }
            };
            let read = load(&mut log).unwrap();
            for (number, record) in &read.records {
                // One that was removed is there again if that was damaged, and an older one if the newer was.
                let is_known =
                    expected.get(number) == Some(record) || record == &super::tests::record(*number);
                assert!(is_known, "{context}: {number} is {record:?}");
            }
            unnoticed += usize::from(read.damage.is_empty());
            if read.damage.is_empty() {
                assert_eq!(read.records, expected, "{context}: nothing is named");
            }
            let missing = expected.iter().filter(|(number, record)| read.records.get(number) != Some(record));
            assert!(missing.count() <= 1, "{context}: {read:?}");
            assert!(read.highest >= Some(8), "{context}: {read:?}");
            // What cannot be read is put aside, once.
            drop(log);
            let again = open(&path).1;
            assert_eq!((again.damage.len(), again.records), (0, read.records), "{context}");
        }
    }
    println!("{} bytes, 3 flips each: {unnoticed} harmless, {refused} refused", whole.len());
    assert_eq!(refused, 0, "the head of the file is not needed to read the rest");
    // What is harmless is an entry that a later one has replaced.
    assert!(unnoticed < whole.len() * 3 / 2, "{unnoticed}");
}

#[test]
fn a_damaged_record_tells_its_number_though_its_head_is_damaged() {
    let (_directory, path) = place();
    let (mut log, _) = open(&path);
    put(&mut log, 0..3).unwrap();
    drop(log);
    let mut bytes = fs::read(&path).unwrap();
    let second = FILE_HEAD + HEAD + record(0).len();
    bytes[second + 8] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_log, read) = open(&path);
    assert_eq!(read.records, records([0, 2]));
    let [damage] = &read.damage[..] else { panic!("{read:?}") };
    assert_eq!(damage.number, Some(1));
    assert!(damage.what.contains("1 entries cannot be read"), "{damage:?}");
    let kept = fs::read(beside(&path, "damaged")).unwrap();
    let stretch = &bytes[second..second + HEAD + record(1).len()];
    assert!(kept.windows(stretch.len()).any(|part| part == stretch), "its bytes are kept");
}

#[test]
fn entries_that_are_cut_out_are_noticed() {
    let (_directory, path) = place();
    let (mut log, _) = open(&path);
    put(&mut log, 0..4).unwrap();
    drop(log);
    let mut bytes = fs::read(&path).unwrap();
    let at = |number: u64| FILE_HEAD + (0..number).map(|it| HEAD + record(it).len()).sum::<usize>();
    bytes.drain(at(1)..at(3));
    fs::write(&path, &bytes).unwrap();
    let (_log, read) = open(&path);
    assert_eq!(read.records, records([0, 3]));
    let [damage] = &read.damage[..] else { panic!("{read:?}") };
    assert!(damage.what.contains("2 entries are missing"), "{damage:?}");
}

#[test]
fn wherever_the_file_ends_what_stands_before_is_read() {
    let (_directory, path) = place();
    let (whole, _) = sample(&path);
    let mut last = usize::MAX;
    for end in (FILE_HEAD + 1..whole.len()).rev() {
        fs::write(&path, &whole[..end]).unwrap();
        let Ok(mut log) = Log::open(&path, false) else { panic!("{end}") };
        let read = load(&mut log).unwrap();
        assert!(read.records.len() <= last.saturating_add(1), "{end}: {read:?}");
        last = read.records.len();
        // What comes then comes behind what is whole.
        put(&mut log, [30]).unwrap();
        drop(log);
        let mut expected = read.records;
        expected.insert(30, record(30));
        assert_eq!(open(&path).1.records, expected, "{end}");
    }
}

#[test]
fn a_log_is_written_anew_when_more_than_half_of_it_is_past() {
    let (_directory, path) = place();
    let (mut log, _) = open(&path);
    let text = "x".repeat(20_000).into_bytes();
    put(&mut log, [1_000]).unwrap();
    for number in 0..300 {
        log.commit(&[Change::Put { number, record: &text }]).unwrap();
        if number >= 3 {
            remove(&mut log, [number - 3]);
        }
        let length = fs::metadata(&path).unwrap().len();
        assert!(length <= SLACK + 2 * 4 * 20_100, "{length}");
        assert_eq!(length, log.end);
    }
    assert!(!beside(&path, "new").exists());
    drop(log);
    let read = open(&path).1;
    assert_eq!(read.records.keys().copied().collect::<Vec<_>>(), [297, 298, 299, 1_000]);
    assert!(read.damage.is_empty(), "{read:?}");
}

#[test]
fn a_record_that_changes_while_the_file_is_open_is_told_and_can_be_put_again() {
    let (_directory, path) = place();
    let (mut log, _) = open(&path);
    put(&mut log, 0..3).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = log.rewrite().unwrap_err();
    assert_eq!((error.kind, &error.lost[..]), (StoreErrorKind::Corrupted, &[2][..]));
    put(&mut log, [2]).unwrap();
    log.rewrite().unwrap();
    drop(log);
    let read = open(&path).1;
    assert_eq!((read.records, read.damage), (records(0..3), vec![]));
}

#[cfg(target_os = "linux")] // for `/dev/full`
#[test]
fn a_commit_that_fails_leaves_nothing_behind_and_the_next_goes_well() {
    let (_directory, path) = place();
    let (mut log, _) = open(&path);
    put(&mut log, [0]).unwrap();
    // A disk that is full, and on which nothing can be cut off either.
    let full = fs::OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let well = std::mem::replace(&mut log.file, full);
    let error = put(&mut log, [1]).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Full, "{error}");
    assert!(error.reason.contains("letters"), "it names the file: {error}");
    log.file = well;
    // The beginning of an entry is there all the same.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0xff, b'r', b'm']).unwrap();
    assert!(log.is_torn);
    put(&mut log, [2]).unwrap();
    drop(log);
    let read = open(&path).1;
    assert_eq!((read.records, read.damage), (records([0, 2]), vec![]));
}

#[test]
fn a_rewriting_that_was_interrupted_leaves_the_log_as_it_was() {
    let (_directory, path) = place();
    let (mut log, _) = open(&path);
    put(&mut log, [0]).unwrap();
    drop(log);
    fs::write(beside(&path, "new"), b"half of a lo").unwrap();
    assert_eq!(open(&path).1.records, records([0]));
    assert!(!beside(&path, "new").exists());
}

#[test]
fn what_cannot_be_opened_is_an_error_that_says_why_and_is_left_as_it_is() {
    let (directory, path) = place();
    let missing = directory.path().join("no").join("letters");
    assert!(matches!(Log::open(&missing, true), Err(OpenError::NoDirectory { .. })));

    let (log, _) = open(&path);
    let error = Log::open(&path, true).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(log);

    let mut newer = file_head()[..FILE_HEAD - 4].to_vec();
    newer[12] = 2;
    newer.extend(crc32fast::hash(&newer).to_le_bytes());
    fs::write(&path, &newer).unwrap();
    let error = Log::open(&path, true).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 2, known: 1, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), newer);

    fs::write(&path, "root:x:0:0:root:/root:/bin/bash\n".repeat(9_000)).unwrap();
    let error = Log::open(&path, false).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("move_aside_if_unreadable"), "{error}");
    let mut log = Log::open(&path, true).unwrap();
    assert_eq!(load(&mut log).unwrap(), Read::default());
    let aside = log.moved_aside().unwrap();
    assert!(fs::read(aside).unwrap().starts_with(b"root:x"));

    drop(log);
    fs::write(&path, b"").unwrap();
    assert_eq!(open(&path).1, Read::default(), "an empty file is a new one");
}
