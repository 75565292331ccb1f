//! Records in a file: a log that only grows at its end, and is written anew when more than half of it is past.
//!
//! # What it rests on
//!
//! * Each byte stands under a checksum ([`entry`]), and each is read at every opening. So whatever has become of the
//!   file, a record is read as it was written, or not at all.
//! * Each entry has its place. Where entries are missing the places do not follow one another.
//! * A commit is one write behind the last entry, then `fdatasync`. What a crash leaves of it is a beginning, whole
//!   entries and at most one that is cut, so that no change is there without those before it.
//! * Where a commit fails nothing is taken for granted of it, also where it is `fdatasync` that has failed: it is cut
//!   off, and written once more.
//! * It is written anew into another file, which takes the name of the old one when it is durable (`rename`).
//!
//! The letters are in memory while their broker lives, so nothing is ever looked up here: a database would bring pages,
//! free lists and trees, each of which a damaged byte can break, and check them when it is told to.
//!
//! # Files
//!
//! `PATH` is the log, `PATH.lock` is locked by the process that has it, `PATH.new` is a log that is being written anew,
//! and `PATH.damaged` has the bytes that could not be read, each stretch of them behind a line that says what it is.
//!
//! Not noticed: that a file was cut, from outside, exactly between two entries, or replaced by an older copy of itself.

mod entry;
mod scan;

use super::dead_letter_store::{Change, Damage, DeadLetterStore, Loaded, MAX_RECORD_BYTES};
use super::error::{OpenError, StoreError, StoreErrorKind};
use entry::{FILE_HEAD, HEAD, Head, Kind, VERSION, file_head, read_file_head};
use scan::{Found, Window, scan};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much longer than what is in use the log may be.
const SLACK: u64 = 1 << 20;

/// For how long an opening waits for another broker to let go of the file.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    head: Head,
}

/// The log of a broker.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// Locked as long as it is open.
    _lock: File,
    /// How long the file is, as far as it is good.
    end: u64,
    /// There may be something behind `end`, of a commit that has failed.
    is_torn: bool,
    /// The file has its name, and it is not known that this is durable.
    is_name_due: bool,
    next_place: u64,
    highest: Option<u64>,
    records: BTreeMap<u64, Place>,
    /// How many bytes the records take with their heads.
    used: u64,
    /// It is not written anew before it is so long.
    rewrite_from: u64,
    moved_aside: Option<PathBuf>,
}

impl Log {
    /// Opens the log at a path, or makes one. Reads no more than its beginning, unless that is damaged.
    pub(super) fn open(path: &Path, moves_aside: bool) -> Result<Self, OpenError> {
        let directory = directory(path);
        if !directory.is_dir() {
            return Err(OpenError::NoDirectory { path: path.to_owned() });
        }
        let lock = lock(path)?;
        let failed = |doing: &str, error: &io::Error| io_error(path, doing, error);
        match fs::remove_file(beside(path, "new")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("cannot remove what an earlier rewriting has left", &error).into());
            }
            _ => {}
        }
        let mut moved_aside = None;
        let existing = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("cannot open it", &error).into()),
        };
        let file = match existing {
            Some(mut file) => {
                let is_log = is_log(&mut file).map_err(|error| failed("cannot read it", &error))?;
                match is_log {
                    IsLog::Yes => Some(file),
                    IsLog::Empty => None,
                    IsLog::OfVersion(found) => {
                        return Err(OpenError::Version { path: path.to_owned(), found, known: VERSION });
                    }
                    IsLog::No if moves_aside => {
                        let aside = free_name(path);
                        fs::rename(path, &aside).map_err(|error| failed("cannot move it aside", &error))?;
                        moved_aside = Some(aside);
                        None
                    }
                    IsLog::No => return Err(OpenError::Unreadable { path: path.to_owned() }),
                }
            }
            None => None,
        };
        let mut log = Self {
            path: path.to_owned(),
            file: match file {
                Some(file) => file,
                None => {
                    let file = Rewritten::begin(path, None)?.finish(path)?.0;
                    sync_directory(path).map_err(|error| failed("cannot make it", &error))?;
                    file
                }
            },
            _lock: lock,
            end: 0,
            is_torn: false,
            is_name_due: false,
            next_place: 0,
            highest: None,
            records: BTreeMap::new(),
            used: 0,
            rewrite_from: 0,
            moved_aside,
        };
        log.end = log.file.seek(SeekFrom::End(0)).map_err(|error| failed("cannot read it", &error))?;
        Ok(log)
    }

    /// Returns where the file went that had to be moved aside.
    pub(super) fn moved_aside(&self) -> Option<&Path> {
        self.moved_aside.as_deref()
    }

    fn failed(&self, doing: &str, error: &io::Error) -> StoreError {
        io_error(&self.path, doing, error)
    }

    /// Goes through the file. Returns what cannot be read.
    fn read(&mut self) -> Result<Vec<Unread>, StoreError> {
        let mut first = [0; FILE_HEAD];
        let has_head = self.file.rewind().and_then(|()| self.file.read_exact(&mut first)).is_ok();
        let mut unread = Vec::new();
        if !has_head || read_file_head(&first) != Some(VERSION) {
            let why = "the head of the file is damaged".to_owned();
            unread.push(Unread { at: 0, bytes: FILE_HEAD as u64, number: None, why });
        }
        let mut damaged = BTreeMap::<u64, Unread>::new();
        let (mut gap, mut next, mut highest) = (None::<(u64, u64)>, 0, None::<u64>);
        let records = &mut self.records;
        let result = scan(&mut self.file, FILE_HEAD as u64, |found| match found {
            Found::Gap { at, bytes } => gap = Some((at, bytes)),
            Found::Entry { at, head, is_whole } => {
                let missing = head.place.saturating_sub(next);
                match gap.take() {
                    Some((at, bytes)) => {
                        let why = format!("{missing} entries cannot be read");
                        unread.push(Unread { at, bytes, number: None, why });
                    }
                    None if missing > 0 => {
                        let why = format!("{missing} entries are missing before this place");
                        unread.push(Unread { at, bytes: 0, number: None, why });
                    }
                    None => {}
                }
                next = head.place.saturating_add(1);
                highest = highest.max(Some(head.number));
                match head.kind {
                    Kind::Put if is_whole => {
                        damaged.remove(&head.number);
                        records.insert(head.number, Place { at, head });
                    }
                    Kind::Put => {
                        records.remove(&head.number);
                        let (bytes, number) = (head.whole(), Some(head.number));
                        let why = "its checksum does not match".to_owned();
                        damaged.insert(head.number, Unread { at, bytes, number, why });
                    }
                    Kind::Remove => {
                        damaged.remove(&head.number);
                        records.remove(&head.number);
                    }
                    Kind::Highest => {}
                }
            }
        });
        result.map_err(|error| self.failed("cannot read it", &error))?;
        if let Some((at, bytes)) = gap {
            let why = "the end of the file: a commit that was not finished, or damage".to_owned();
            unread.push(Unread { at, bytes, number: None, why });
        }
        unread.extend(damaged.into_values());
        (self.next_place, self.highest) = (next, highest);
        self.used = self.records.values().map(|place| place.head.whole()).sum();
        Ok(unread)
    }

    /// Puts what cannot be read into a file of its own, and says so of each.
    fn set_aside(&mut self, unread: Vec<Unread>) -> io::Result<Vec<Damage>> {
        let aside = beside(&self.path, "damaged");
        let mut to = OpenOptions::new().append(true).create(true).open(&aside)?;
        let mut damage = Vec::new();
        for Unread { at, bytes, number, why } in unread {
            let mut window = Window::new(&mut self.file);
            let number = match number {
                Some(number) => Some(number),
                None => number_in(window.bytes(at, usize::try_from(bytes.min(4_096)).unwrap_or(0))?),
            };
            let letter = number.map(|number| format!("record {number}: ")).unwrap_or_default();
            let place = format!("{letter}{bytes} bytes at {at} of {}: {why}", self.path.display());
            writeln!(to, "# {place}")?;
            self.file.seek(SeekFrom::Start(at))?;
            io::copy(&mut io::Read::by_ref(&mut self.file).take(bytes), &mut to)?;
            writeln!(to)?;
            damage.push(Damage { number, what: format!("{place}; they are in {}", aside.display()) });
        }
        to.sync_all()?;
        sync_directory(&self.path)?;
        Ok(damage)
    }

    /// Writes the log anew, with nothing but the records that are there.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        let mut new = Rewritten::begin(&self.path, self.highest)?;
        let (mut record, mut lost) = (Vec::new(), Vec::new());
        for (&number, place) in &self.records {
            record.resize(place.head.length as usize, 0);
            let at = place.at + HEAD as u64;
            let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut record));
            read.map_err(|error| io_error(&self.path, "cannot read it", &error))?;
            if place.head.has(&record) {
                new.put(&self.path, number, &record)?;
            } else {
                let (bytes, why) = (place.head.whole(), "it has changed since it was written".to_owned());
                lost.push(Unread { at: place.at, bytes, number: Some(number), why });
            }
        }
        if !lost.is_empty() {
            let numbers: Vec<u64> = lost.iter().filter_map(|unread| unread.number).collect();
            self.set_aside(lost).map_err(|error| self.failed("cannot set aside what is damaged", &error))?;
            numbers.iter().for_each(|number| _ = self.records.remove(number));
            let reason = format!("{}: records have changed since they were written", self.path.display());
            return Err(StoreError { kind: StoreErrorKind::Corrupted, reason, lost: numbers });
        }
        let (file, records, next_place, end) = new.finish(&self.path)?;
        (self.file, self.records, self.next_place, self.end) = (file, records, next_place, end);
        self.used = self.records.values().map(|place| place.head.whole()).sum();
        (self.is_torn, self.rewrite_from, self.is_name_due) = (false, 0, true);
        self.sync_name().map_err(|error| self.failed("cannot write it anew", &error))
    }

    /// Has it durable that the file has its name: before that, nothing that is written to it is.
    fn sync_name(&mut self) -> io::Result<()> {
        if self.is_name_due {
            sync_directory(&self.path)?;
            self.is_name_due = false;
        }
        Ok(())
    }

    /// Writes at the end, and has it durable.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sync_name()?;
        if self.is_torn {
            self.file.set_len(self.end)?;
            self.is_torn = false;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        let result = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        if result.is_err() {
            // What is there of it goes, at once if it can, else before the next: entries stand one behind another.
            self.is_torn = self.file.set_len(self.end).is_err();
        }
        result
    }
}

impl DeadLetterStore for Log {
    fn load(&mut self, each: &mut dyn FnMut(Loaded<'_>)) -> Result<Option<u64>, StoreError> {
        let unread = self.read()?;
        let mut damage = Vec::new();
        if !unread.is_empty() {
            damage = self
                .set_aside(unread)
                .map_err(|error| self.failed("cannot set aside what is damaged", &error))?;
            self.highest = self.highest.max(damage.iter().filter_map(|damage| damage.number).max());
            if damage.iter().any(|damage| damage.number.is_none()) {
                // Of some the number is not known: they are not used again.
                self.highest = Some(self.highest.unwrap_or(0).saturating_add(UNKNOWN));
            }
            self.rewrite()?;
        }
        let mut record = Vec::new();
        for (&number, place) in &self.records {
            record.resize(place.head.length as usize, 0);
            let at = place.at + HEAD as u64;
            let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut record));
            read.map_err(|error| io_error(&self.path, "cannot read it", &error))?;
            if !place.head.has(&record) {
                let reason = format!("{} changes while it is read", self.path.display());
                return Err(StoreError::new(StoreErrorKind::Corrupted, reason));
            }
            each(Loaded::Record { number, record: &record });
        }
        damage.iter().for_each(|damage| each(Loaded::Damaged(damage)));
        Ok(self.highest)
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        let mut place = self.next_place;
        for change in changes {
            let (head, record): (_, &[u8]) = match *change {
                Change::Put { number, record } if record.len() > MAX_RECORD_BYTES => {
                    let reason = format!("the record of letter {number} has {} bytes", record.len());
                    return Err(StoreError::new(StoreErrorKind::Other, reason));
                }
                Change::Put { number, record } => (Head::of(Kind::Put, place, number, record), record),
                Change::Remove { number } if !self.records.contains_key(&number) => continue,
                Change::Remove { number } => (Head::of(Kind::Remove, place, number, &[]), &[]),
                Change::Highest { number } if self.highest >= Some(number) => continue,
                Change::Highest { number } => (Head::of(Kind::Highest, place, number, &[]), &[]),
            };
            places.push(Place { at: self.end + bytes.len() as u64, head });
            head.write(&mut bytes);
            bytes.extend(record);
            place += 1;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.append(&bytes).map_err(|error| self.failed("cannot write to it", &error))?;
        self.end += bytes.len() as u64;
        self.next_place = place;
        for place in places {
            let Head { kind, number, .. } = place.head;
            self.highest = self.highest.max(Some(number));
            let before = match kind {
                Kind::Put => self.records.insert(number, place),
                Kind::Remove => self.records.remove(&number),
                Kind::Highest => None,
            };
            self.used -= before.map_or(0, |before| before.head.whole());
            self.used += if kind == Kind::Put { place.head.whole() } else { 0 };
        }
        let limit = (2 * self.used + SLACK).max(self.rewrite_from);
        if self.end <= limit {
            return Ok(());
        }
        match self.rewrite() {
            Err(error) if error.kind == StoreErrorKind::Corrupted || self.is_name_due => Err(error),
            Err(_) => {
                // What was to be committed is. The log is longer than it should be until there is room for another.
                let _ = fs::remove_file(beside(&self.path, "new"));
                self.rewrite_from = self.end + SLACK;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// How many numbers are skipped where it is not known which were in use.
const UNKNOWN: u64 = 1 << 20;

/// A stretch of the file that cannot be read.
struct Unread {
    at: u64,
    bytes: u64,
    number: Option<u64>,
    why: String,
}

/// A log that is being written to take another's place.
struct Rewritten {
    file: io::BufWriter<File>,
    records: BTreeMap<u64, Place>,
    next_place: u64,
    end: u64,
    head: Vec<u8>,
}

impl Rewritten {
    fn begin(path: &Path, highest: Option<u64>) -> Result<Self, StoreError> {
        let failed = |error| io_error(path, "cannot write it anew", &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(beside(path, "new")).map_err(failed)?;
        let file = io::BufWriter::with_capacity(1 << 20, file);
        let (records, head) = (BTreeMap::new(), file_head());
        let mut new = Self { file, records, next_place: 0, end: 0, head };
        new.write_head(&[]).map_err(failed)?;
        if let Some(highest) = highest {
            Head::of(Kind::Highest, 0, highest, &[]).write(&mut new.head);
            new.next_place = 1;
            new.write_head(&[]).map_err(failed)?;
        }
        Ok(new)
    }

    fn put(&mut self, path: &Path, number: u64, record: &[u8]) -> Result<(), StoreError> {
        let head = Head::of(Kind::Put, self.next_place, number, record);
        let at = self.end;
        head.write(&mut self.head);
        self.write_head(record).map_err(|error| io_error(path, "cannot write it anew", &error))?;
        self.records.insert(number, Place { at, head });
        self.next_place += 1;
        Ok(())
    }

    /// Writes the head that is at hand, and a record behind it.
    fn write_head(&mut self, record: &[u8]) -> io::Result<()> {
        self.file.write_all(&self.head)?;
        self.file.write_all(record)?;
        self.end += (self.head.len() + record.len()) as u64;
        self.head.clear();
        Ok(())
    }

    /// Has it durable, and gives it the name of the old one.
    fn finish(self, path: &Path) -> Result<(File, BTreeMap<u64, Place>, u64, u64), StoreError> {
        let failed = |error: &io::Error| io_error(path, "cannot write it anew", error);
        let file = self.file.into_inner().map_err(|error| failed(error.error()))?;
        file.sync_all().map_err(|error| failed(&error))?;
        fs::rename(beside(path, "new"), path).map_err(|error| failed(&error))?;
        Ok((file, self.records, self.next_place, self.end))
    }
}

fn io_error(path: &Path, doing: &str, error: &io::Error) -> StoreError {
    StoreError::from_io(error, &format!("{}: {doing}", path.display()))
}

/// What a file's beginning says that it is.
enum IsLog {
    Yes,
    Empty,
    OfVersion(u32),
    No,
}

/// Returns whether it is a log. One whose beginning is damaged is, if it has an entry.
fn is_log(file: &mut File) -> io::Result<IsLog> {
    let mut window = Window::new(file);
    let head = window.bytes(0, FILE_HEAD)?;
    match read_file_head(head) {
        Some(VERSION) => return Ok(IsLog::Yes),
        Some(found) => return Ok(IsLog::OfVersion(found)),
        None if head.is_empty() => return Ok(IsLog::Empty),
        None => {}
    }
    let mut has_entry = false;
    scan(file, FILE_HEAD as u64, |found| has_entry |= matches!(found, Found::Entry { .. }))?;
    Ok(if has_entry { IsLog::Yes } else { IsLog::No })
}

/// Returns the number of a letter whose head is damaged, where its record begins as records do.
fn number_in(bytes: &[u8]) -> Option<u64> {
    const BEGINNING: &[u8] = b"{\"number\":";
    let at = bytes.windows(BEGINNING.len()).position(|part| part == BEGINNING)?;
    let digits = bytes[at + BEGINNING.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let digits: Vec<u8> = digits.copied().collect();
    str::from_utf8(&digits).ok()?.parse().ok()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Returns a name beside it that nothing has.
fn free_name(path: &Path) -> PathBuf {
    let names = (1..).map(|number: u32| beside(path, &format!("aside-{number}")));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| beside(path, "aside"))
}

/// Has it durable which files a directory has.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory(path))?.sync_all() } else { Ok(()) }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |error: &io::Error| io_error(path, "cannot lock it", error);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(beside(path, "lock"));
    let file = file.map_err(|error| failed(&error))?;
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(&error).into()),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(OpenError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => crate::sync::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests;
