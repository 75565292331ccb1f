//! Any number of lines, sorted bytewise and each once, in bounded memory.
//!
//! External merge sort (D. Knuth, "The Art of Computer Programming", volume 3, section 5.4): a
//! chunk that fits in memory is sorted and written to a temporary file as a run, the last one stays
//! in memory, and reading merges them. Where one chunk is enough there is no file. The file has no
//! name, so it is gone with the process, however that ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;

/// What a merge buffers of all runs together, and of one run at least and at most, in bytes.
const BUFFERS: usize = 16 << 20;
const MIN_BUFFER: usize = 4 << 10;
const MAX_BUFFER: usize = 64 << 10;

/// Takes the lines.
#[derive(Debug)]
pub(super) struct Sorter {
    /// The lines of the chunk, and where each stands.
    text: String,
    lines: Vec<Range<u32>>,
    chunk_bytes: usize,
    file: Option<File>,
    runs: Vec<Range<u64>>,
}

/// The sorted lines, which can be read more than once.
#[derive(Debug)]
pub(super) struct Sorted {
    memory: Vec<u8>,
    file: Option<File>,
    /// Where each run stands in the file.
    runs: Vec<Range<u64>>,
}

impl Sorter {
    /// For chunks of so many bytes, 1 GiB at most.
    pub(super) fn new(chunk_bytes: usize) -> Self {
        debug_assert!(chunk_bytes <= 1 << 30);
        Self { text: String::new(), lines: Vec::new(), chunk_bytes, file: None, runs: Vec::new() }
    }

    /// Adds a line, which has no line end.
    pub(super) fn push(&mut self, line: &str) -> io::Result<()> {
        let taken = self.text.len() + self.lines.len() * size_of::<Range<u32>>();
        if taken >= self.chunk_bytes {
            self.write_run()?;
        }
        let start = self.text.len() as u32;
        self.text.push_str(line);
        self.lines.push(start..self.text.len() as u32);
        Ok(())
    }

    /// Ends the last chunk.
    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        let mut memory = Vec::with_capacity(self.text.len() + self.lines.len());
        self.sort_into(&mut memory)?;
        Ok(Sorted { memory, file: self.file, runs: self.runs })
    }

    fn write_run(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        let mut out = BufWriter::with_capacity(MAX_BUFFER, file);
        let bytes = self.sort_into(&mut out)?;
        self.file = Some(out.into_inner()?);
        let start = self.runs.last().map_or(0, |last| last.end);
        self.runs.push(start..start + bytes);
        Ok(())
    }

    /// Writes the chunk's lines and empties it; how many bytes they were.
    fn sort_into(&mut self, out: &mut impl Write) -> io::Result<u64> {
        let text = &self.text;
        let line = |place: &Range<u32>| &text[place.start as usize..place.end as usize];
        self.lines.sort_unstable_by(|one, other| line(one).cmp(line(other)));
        self.lines.dedup_by(|one, other| line(one) == line(other));
        let mut bytes = 0;
        for place in &self.lines {
            out.write_all(line(place).as_bytes())?;
            out.write_all(b"\n")?;
            bytes += u64::from(place.end - place.start) + 1;
        }
        self.text.clear();
        self.lines.clear();
        Ok(bytes)
    }
}

impl Sorted {
    /// Reads the lines from the first one on. One merge at a time.
    pub(super) fn merge(&self) -> io::Result<Merge<'_>> {
        let buffer = (BUFFERS / self.runs.len().max(1)).clamp(MIN_BUFFER, MAX_BUFFER);
        let mut runs: Vec<BufReader<Run<'_>>> = vec![BufReader::new(Run::Memory(&self.memory))];
        if let Some(file) = &self.file {
            let place = |place: &Range<u64>| BufReader::with_capacity(buffer, Run::File(file, place.clone()));
            runs.extend(self.runs.iter().map(place));
        }
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            let mut line = String::new();
            if read_line(run, &mut line)? {
                heads.push(Reverse((line, number)));
            }
        }
        Ok(Merge { runs, heads, line: String::new() })
    }
}

/// The lines, from all runs at once.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    runs: Vec<BufReader<Run<'a>>>,
    /// The next line of each run that has one, with the run's number.
    heads: BinaryHeap<Reverse<(String, usize)>>,
    /// The line that was read last. No line is empty.
    line: String,
}

impl Merge<'_> {
    /// The next line.
    pub(super) fn next(&mut self) -> io::Result<Option<&str>> {
        while let Some(mut head) = self.heads.peek_mut() {
            let Reverse((line, run)) = &mut *head;
            let is_new = *line != self.line;
            std::mem::swap(line, &mut self.line);
            if !read_line(&mut self.runs[*run], line)? {
                PeekMut::pop(head);
            }
            if is_new {
                return Ok(Some(&self.line));
            }
        }
        Ok(None)
    }
}

/// Reads a line without its end; false if there is none.
fn read_line(run: &mut impl BufRead, line: &mut String) -> io::Result<bool> {
    line.clear();
    let is_there = run.read_line(line)? > 0;
    line.pop();
    Ok(is_there)
}

/// Reads a run. Where several read one file in turns, each first goes to where it left off.
#[derive(Debug)]
enum Run<'a> {
    Memory(&'a [u8]),
    File(&'a File, Range<u64>),
}

impl Read for Run<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(rest) => rest.read(buffer),
            Self::File(file, rest) => {
                file.seek(SeekFrom::Start(rest.start))?;
                let count = file.take(rest.end - rest.start).read(buffer)?;
                rest.start += count as u64;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn sorted(lines: &[String], chunk_bytes: usize) -> Sorted {
        let mut sorter = Sorter::new(chunk_bytes);
        for line in lines {
            sorter.push(line).expect("room for a temporary file");
        }
        sorter.finish().expect("room for a temporary file")
    }

    fn read(sorted: &Sorted) -> Vec<String> {
        let mut merge = sorted.merge().expect("the runs");
        let mut lines = Vec::new();
        while let Some(line) = merge.next().expect("the runs") {
            lines.push(line.to_owned());
        }
        lines
    }

    #[test]
    fn however_many_runs_there_are_the_lines_are_sorted_and_each_is_there_once() {
        // Multiples of an odd number, so that each number below 2,000 comes up in a disorder, and
        // some of them twice.
        let lines: Vec<String> = (0..3_000).map(|number| format!("t{}", number * 1_237 % 2_000)).collect();
        let wanted: Vec<String> = lines.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        for chunk_bytes in [1, 100, 10_000, 1 << 20] {
            let sorted = sorted(&lines, chunk_bytes);
            let runs = sorted.runs.len();
            assert_eq!(runs == 0, chunk_bytes == 1 << 20, "{runs} runs of {chunk_bytes} bytes");
            assert_eq!(read(&sorted), wanted);
            assert_eq!(read(&sorted), wanted, "for a second time");
        }
        assert_eq!(read(&sorted(&[], 1)), [""; 0]);
    }
}
