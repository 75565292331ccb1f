//! Finds loads that a store buffer cannot forward in a trace of `valgrind --tool=lackey --trace-mem=yes`.
//!
//! A load takes its bytes from the youngest store that overlaps it, where that store has all of them. Where
//! it has only some, processors wait until the store has left the buffer. Only what runs inside one of the
//! functions whose addresses are given is looked at.
//!
//! usage: forwarding BIAS ADDRESS... <TRACE
//!   BIAS      is added to each address, which is what the symbol table says
//!
//! Prints how much was looked at, and then for each such load its address in the symbol table, how often
//! it was met, and its width.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::process::ExitCode;

/// Stores that a store buffer holds, about: 48 on Zen 3, 64 on Zen 4, 72 on Golden Cove.
const BUFFERED: usize = 56;
/// What happens less often than once in so many instructions is no part of what is repeated.
const SELDOM: u64 = 4_096;

/// A piece of memory.
#[derive(Clone, Copy)]
struct Piece {
    at: u64,
    bytes: u64,
}

impl Piece {
    fn overlaps(self, other: Self) -> bool {
        self.at < other.at + other.bytes && other.at < self.at + self.bytes
    }

    fn holds(self, other: Self) -> bool {
        self.at <= other.at && other.at + other.bytes <= self.at + self.bytes
    }
}

#[derive(Default)]
struct Trace {
    /// The youngest first.
    stores: VecDeque<Piece>,
    /// The instruction that runs, and where the next one lies if it is no jump.
    instruction: u64,
    next: u64,
    /// Where the function returns to that is looked at.
    returns_to: Option<u64>,
    instructions: u64,
    /// By the instruction's address: how often, and how wide.
    found: BTreeMap<u64, (u64, u64)>,
}

impl Trace {
    fn run(&mut self, instruction: Piece, starts: &[u64]) {
        if self.returns_to == Some(instruction.at) {
            self.returns_to = None;
        }
        if self.returns_to.is_none() && starts.contains(&instruction.at) {
            // The last instruction was the call.
            self.returns_to = Some(self.next);
        }
        self.instruction = instruction.at;
        self.next = instruction.at + instruction.bytes;
        self.instructions += u64::from(self.returns_to.is_some());
    }

    fn load(&mut self, wanted: Piece) {
        if self.returns_to.is_none() {
            return;
        }
        if let Some(youngest) = self.stores.iter().find(|store| store.overlaps(wanted))
            && !youngest.holds(wanted)
        {
            let (times, bytes) = self.found.entry(self.instruction).or_default();
            *times += 1;
            *bytes = wanted.bytes;
        }
    }

    fn store(&mut self, stored: Piece) {
        self.stores.push_front(stored);
        self.stores.truncate(BUFFERED);
    }
}

/// A line of the trace: what it is, and where. Valgrind says other things too.
fn parsed(line: &str) -> Option<(&str, Piece)> {
    let (kind, piece) = line.split_at_checked(2)?;
    let (at, bytes) = piece.trim().split_once(',')?;
    Some((kind.trim(), Piece { at: u64::from_str_radix(at, 16).ok()?, bytes: bytes.parse().ok()? }))
}

fn main() -> ExitCode {
    let number = |text: String| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let Some(numbers) = std::env::args().skip(1).map(number).collect::<Option<Vec<_>>>() else {
        eprintln!("forwarding: addresses are hexadecimal numbers");
        return ExitCode::FAILURE;
    };
    let Some((bias, starts)) = numbers.split_first() else {
        eprintln!("usage: forwarding BIAS ADDRESS... <TRACE");
        return ExitCode::FAILURE;
    };
    let starts: Vec<u64> = starts.iter().map(|start| start + bias).collect();
    let mut trace = Trace::default();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match parsed(&line) {
            Some(("I", instruction)) => trace.run(instruction, &starts),
            Some(("L", wanted)) => trace.load(wanted),
            Some(("S", stored)) => trace.store(stored),
            Some(("M", both)) => {
                trace.load(both);
                trace.store(both);
            }
            _ => {}
        }
    }
    if trace.instructions == 0 {
        eprintln!("forwarding: none of the functions was met");
        return ExitCode::FAILURE;
    }
    let often = trace.instructions / SELDOM;
    trace.found.retain(|_, (times, _)| *times >= often);
    println!("{} of {} instructions", trace.found.len(), trace.instructions);
    for (at, (times, bytes)) in trace.found {
        println!("{:x} {times} {bytes}", at - bias);
    }
    ExitCode::SUCCESS
}
