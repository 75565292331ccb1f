//! An entry of the log: a head of fixed length, and a record.
//!
//! ```text
//! mark 4 │ kind 4 │ length 4 │ crc of number and record 4 │ place 8 │ number 8 │ crc of all that 4 │ record …
//! ```
//!
//! Numbers are little-endian. Each byte stands under one of the two checksums. The head has one of its own, so that an
//! entry whose record is damaged still tells its number, and where the next one begins. Where a head is damaged the
//! next is found by its mark: that has bytes which no UTF-8 text has, and records are texts.

pub(super) const HEAD: usize = 36;
const MARK: [u8; 4] = [FIRST_OF_MARK, b'r', b'm', 0xfe];
/// The byte by which a mark is looked for.
pub(super) const FIRST_OF_MARK: u8 = 0xff;

/// What an entry says of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has this record from here on.
    Put,
    /// It has none from here on.
    Remove,
    /// No number above it was put before.
    Highest,
}

/// The head of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) length: u32,
    crc: u32,
    /// One more than that of the entry before it.
    pub(super) place: u64,
    pub(super) number: u64,
}

impl Head {
    /// The head of an entry with that record.
    pub(super) fn of(kind: Kind, place: u64, number: u64, record: &[u8]) -> Self {
        // A record's length has been checked.
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        Self { kind, length, crc: crc(number, record), place, number }
    }

    /// Returns whether that is its record.
    pub(super) fn has(&self, record: &[u8]) -> bool {
        record.len() as u64 == u64::from(self.length) && crc(self.number, record) == self.crc
    }

    /// Returns how many bytes the entry takes.
    pub(super) fn whole(&self) -> u64 {
        HEAD as u64 + u64::from(self.length)
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let start = to.len();
        let kind: u32 = match self.kind {
            Kind::Put => 1,
            Kind::Remove => 2,
            Kind::Highest => 3,
        };
        to.extend(MARK);
        to.extend(kind.to_le_bytes());
        to.extend(self.length.to_le_bytes());
        to.extend(self.crc.to_le_bytes());
        to.extend(self.place.to_le_bytes());
        to.extend(self.number.to_le_bytes());
        to.extend(crc32fast::hash(&to[start..]).to_le_bytes());
    }

    /// Reads a head. Nothing where the bytes are none, or too few, or not as they were written.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (bytes, sum) = bytes.get(..HEAD)?.split_last_chunk::<4>()?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (mark, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (place, rest) = rest.split_first_chunk::<8>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        if *mark != MARK {
            return None;
        }
        let kind = match u32::from_le_bytes(*kind) {
            1 => Kind::Put,
            2 => Kind::Remove,
            3 => Kind::Highest,
            _ => return None,
        };
        Some(Self {
            kind,
            length: u32::from_le_bytes(*length),
            crc: u32::from_le_bytes(*crc),
            place: u64::from_le_bytes(*place),
            number: u64::from_le_bytes(*number),
        })
    }
}

fn crc(number: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

/// The beginning of the file: who wrote it, and in which form.
pub(super) const FILE_HEAD: usize = 20;
const NAME: [u8; 12] = *b"ringmain-dlq";
/// The version of the form.
pub(super) const VERSION: u32 = 1;

pub(super) fn file_head() -> Vec<u8> {
    let mut head = Vec::with_capacity(FILE_HEAD);
    head.extend(NAME);
    head.extend(VERSION.to_le_bytes());
    head.extend(crc32fast::hash(&head).to_le_bytes());
    head
}

/// Returns the version of the form, if these bytes are the beginning of such a file and undamaged.
pub(super) fn read_file_head(bytes: &[u8]) -> Option<u32> {
    let (head, sum) = bytes.get(..FILE_HEAD)?.split_last_chunk::<4>()?;
    let is_well = head.starts_with(&NAME) && crc32fast::hash(head) == u32::from_le_bytes(*sum);
    let version = head.last_chunk::<4>().filter(|_| is_well)?;
    Some(u32::from_le_bytes(*version))
}
