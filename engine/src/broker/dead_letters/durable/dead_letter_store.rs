//! What keeps records of dead letters where they outlive the process.

use super::error::StoreError;

/// A place in which records of dead letters outlive their process: the engine's own is a file, see
/// [`DurableDeadLetters::at`](super::DurableDeadLetters::at).
///
/// One thread at a time calls it, first [`load`](Self::load) once, then [`commit`](Self::commit) as often as there is
/// something to commit. It may take its time and it may panic: neither holds up a consumer, and a panic counts as an
/// error. What it is given is bytes: what they mean is none of its business.
pub trait DeadLetterStore: Send {
    /// Hands over each record that is there, from the lowest number, and then each that is there and cannot be read,
    /// which stays where it is or is put aside, and is not handed over again as a record. Returns the highest
    /// number that was ever named in a change, as far as it is known, also of records that have been removed.
    ///
    /// # Errors
    /// The records cannot be told from what they are not, or not be read at all. Nothing is to be changed then.
    fn load(&mut self, each: &mut dyn FnMut(Loaded<'_>)) -> Result<Option<u64>, StoreError>;

    /// Makes changes, in this order. They outlive the process and the machine when it returns.
    ///
    /// A record that is put under a number that is there replaces it, and one that is not there may be removed: what
    /// has failed is committed again, as the letters are by then.
    ///
    /// # Errors
    /// The changes are not durable, or not all of them. None of them may be there by halves; of several, those may
    /// be there that stand before others, but never a later one without those before it.
    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError>;
}

/// A change of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Keep this record.
    Put {
        /// The number of the record: that which its letter had first. It is never used for another letter.
        number: u64,
        /// At most [`MAX_RECORD_BYTES`] of it.
        record: &'a [u8],
    },
    /// Keep it no longer.
    Remove {
        /// The number of the record.
        number: u64,
    },
    /// Remember that numbers up to this one are in use.
    Highest {
        /// A number without a record of its own.
        number: u64,
    },
}

/// The most bytes of a record.
pub const MAX_RECORD_BYTES: usize = 8 << 20;

/// What a store has found while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded<'a> {
    /// A record, as it was put.
    Record {
        /// The number under which it was put.
        number: u64,
        /// It.
        record: &'a [u8],
    },
    /// One that cannot be read.
    Damaged(&'a Damage),
}

/// Something in a store that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The number of the record, where it can be told: that which its letter has, or had first.
    pub number: Option<u64>,
    /// What is wrong, where, and where it is kept now.
    pub what: String,
}
