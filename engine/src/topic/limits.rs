//! How large a topic or a pattern may be.

/// The most words a topic or a pattern may have.
pub const MAX_WORDS: usize = 32;

/// The most bytes of UTF-8 a topic or a pattern may have, its dots included.
pub const MAX_BYTES: usize = 255;
