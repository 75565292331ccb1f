//! Options of the dead-letter store.

/// How many dead letters are kept, how many bytes of them, and whether with their errors' texts.
///
/// Both limits hold at any time. Where a new letter would pass one, the oldest go first.
///
/// ```
/// use ringmain::broker::dead_letters::DeadLetterOptions;
///
/// let options = DeadLetterOptions::new().entries(1_000).bytes(8 << 20).error_texts(false);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct DeadLetterOptions {
    pub(super) entries: usize,
    pub(super) bytes: usize,
    pub(super) error_texts: bool,
}

impl DeadLetterOptions {
    /// 10,000 letters and 64 MiB, with error texts.
    pub const fn new() -> Self {
        Self { entries: 10_000, bytes: 64 << 20, error_texts: true }
    }

    /// Sets the most letters that are kept. With 0, each is lost.
    pub const fn entries(mut self, most: usize) -> Self {
        self.entries = most;
        self
    }

    /// Sets the most bytes that letters take, by estimate: messages, names, histories, and what it
    /// takes to find them. A letter that alone would take more is lost.
    pub const fn bytes(mut self, most: usize) -> Self {
        self.bytes = most;
        self
    }

    /// Sets whether the texts of errors and panics are kept. Switch them off where they may tell what
    /// a message holds. Letters are then grouped by their kind of failure alone.
    pub const fn error_texts(mut self, kept: bool) -> Self {
        self.error_texts = kept;
        self
    }

    /// Returns whether error texts are worth making.
    pub(crate) const fn keeps_error_texts(&self) -> bool {
        self.error_texts
    }
}

impl Default for DeadLetterOptions {
    fn default() -> Self {
        Self::new()
    }
}
