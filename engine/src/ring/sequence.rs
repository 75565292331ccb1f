//! The numbers of a ring's events.

/// The number of a slot's use: 0 for the first event of a ring, never reused.
pub type Sequence = u64;

/// All sequences lie below it: a claim that would not, fails.
pub(super) const END_OF_SEQUENCES: Sequence = 1 << 62;
