//! Beginning and end: the threads, the shutdown, what is taken over from a stuck consumer, and what
//! frees memory.

pub(super) mod reclaimer;
pub(super) mod shutdown;
pub(super) mod takeover;
pub(super) mod threads;
