//! The machine that a run is on: its cores, how fast it is between them, how it disturbs, and what
//! the process has used.

// Counting allocations, waking a thread by a bare futex, and asking the system for memory and
// processor time are the only things here that need it.
#[allow(unsafe_code)]
pub(crate) mod allocations;
pub(crate) mod baseline;
pub(crate) mod cores;
pub(crate) mod fingerprint;
pub(crate) mod floor;
#[allow(unsafe_code)]
pub(crate) mod futex;
pub(crate) mod instructions;
pub(crate) mod noise;
#[allow(unsafe_code)]
pub(crate) mod usage;
