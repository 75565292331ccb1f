//! Accounts: what is counted, where it stands, and whether the sums hold.

pub(super) mod audit;
pub(super) mod consumer_tally;
mod display;
pub(super) mod ledger;
pub(super) mod publishers;
pub(super) mod tally;
pub(super) mod term;
