//! Reading a log from its beginning to its end, whatever became of it.

use super::entry::{FIRST_OF_MARK, HEAD, Head};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

/// The bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// What stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry whose head is well.
    Entry {
        /// Where it begins.
        at: u64,
        head: Head,
        /// Whether its record is, too.
        is_whole: bool,
    },
    /// Bytes that belong to no entry whose head is well.
    Gap { at: u64, bytes: u64 },
}

/// A file of which the part that was read last is at hand.
pub(super) struct Window<'f> {
    file: &'f mut File,
    buffer: Vec<u8>,
    at: u64,
}

impl<'f> Window<'f> {
    pub(super) fn new(file: &'f mut File) -> Self {
        Self { file, buffer: Vec::new(), at: 0 }
    }

    /// Returns that many bytes from there on, or as many as there are.
    pub(super) fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let has = |buffer: &[u8], start: u64| {
            let skipped = usize::try_from(at.checked_sub(start)?).ok()?;
            (skipped.checked_add(count)? <= buffer.len()).then_some(skipped)
        };
        if let Some(skipped) = has(&self.buffer, self.at) {
            return Ok(&self.buffer[skipped..skipped + count]);
        }
        self.buffer.clear();
        self.at = at;
        self.file.seek(SeekFrom::Start(at))?;
        let most = count.max(CHUNK) as u64;
        self.file.by_ref().take(most).read_to_end(&mut self.buffer)?;
        Ok(&self.buffer[..count.min(self.buffer.len())])
    }
}

/// Tells what stands in a log from there on, in order. No byte is left out.
pub(super) fn scan(file: &mut File, from: u64, mut on: impl FnMut(Found)) -> io::Result<()> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut window = Window::new(file);
    let mut at = from;
    while at < end {
        match Head::read(window.bytes(at, HEAD)?) {
            Some(head) if head.whole() <= end - at => {
                let record = window.bytes(at + HEAD as u64, head.length as usize)?;
                on(Found::Entry { at, head, is_whole: head.has(record) });
                at += head.whole();
            }
            _ => {
                let next = next_head(&mut window, at + 1, end)?;
                on(Found::Gap { at, bytes: next - at });
                at = next;
            }
        }
    }
    Ok(())
}

/// Returns where the next entry begins whose head is well, or the end.
fn next_head(window: &mut Window<'_>, mut at: u64, end: u64) -> io::Result<u64> {
    while at < end {
        let chunk = window.bytes(at, CHUNK)?;
        let looked_at = chunk.len() as u64;
        let marks = chunk.iter().enumerate().filter(|(_, byte)| **byte == FIRST_OF_MARK);
        let candidates: Vec<u64> = marks.map(|(index, _)| at + index as u64).collect();
        for candidate in candidates {
            if let Some(head) = Head::read(window.bytes(candidate, HEAD)?)
                && head.whole() <= end - candidate
            {
                return Ok(candidate);
            }
        }
        if looked_at == 0 {
            break; // the file has become shorter meanwhile
        }
        at += looked_at;
    }
    Ok(end)
}
