//! Overwriting what is not to stay in memory.

/// Fills bytes with zeros, also where nobody reads them afterwards.
pub(super) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // The compiler must think that somebody does.
    std::hint::black_box(bytes);
}
