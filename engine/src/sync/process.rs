//! The process that something was made in.
//!
//! A child that is made by `fork` has a copy of the memory, and of the threads none but the one that
//! forked. What other threads did there nobody does any more, numbers that were unique are there
//! twice, and locks that other threads held at that moment are held for ever. Whoever waits or locks
//! on behalf of others must therefore know its process.

/// The number of the process that something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// Makes a system call.
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// Returns whether this is another process by now. Makes a system call.
    pub(crate) fn is_forked(self) -> bool {
        self != Self::current()
    }
}
