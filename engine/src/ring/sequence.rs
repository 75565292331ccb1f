//! The numbers of a ring's events.

/// Number of a slot's use: 0 for the first event of a ring, never reused.
pub type Sequence = u64;

/// End of all sequences. A claim that would reach past it fails.
pub(super) const END_OF_SEQUENCES: Sequence = 1 << 62;
