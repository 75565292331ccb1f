//! Overwriting what is not to stay in memory.

/// Fills bytes, or words, with zeros, also where nobody reads them afterwards.
pub(super) fn wipe<T: Copy + Default>(values: &mut [T]) {
    values.fill(T::default());
    // The compiler must think that somebody does.
    std::hint::black_box(values);
}
