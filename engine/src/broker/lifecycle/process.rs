//! The process that a broker was built in.
//!
//! A child that is made by `fork` has a copy of the broker, and none of its threads: what it
//! published nobody would handle, its messages would bear the numbers of the parent's, and locks
//! that other threads of the parent held at that moment are held for ever. So it is told so where it
//! waits or locks, and what it drops is left as it is.

/// The number of the process that something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    /// Returns whether this is another process by now. Makes a system call.
    pub(crate) fn is_forked(self) -> bool {
        self != Self::current()
    }
}
