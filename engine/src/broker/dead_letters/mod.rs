//! Dead letters: messages that a subscription could not handle, kept until somebody decides.
//!
//! * [`DeadLetter`]: the message, who failed on it, how, when, and each [`Attempt`]
//! * [`DeadLetterOptions`]: how many are kept, and how many bytes of them
//! * [`Selection`]: which of them a query, a purge or a replay is about
//! * [`Group`]: those that failed alike, told by their [`Fingerprint`]
//! * [`DeadLetterCounts`]: where every one of them has gone
//!
//! One message that fails for two subscriptions makes two letters. One that fails again in a replay
//! makes none: its letter is replaced by one that goes on with the history.
//!
//! Letters end with the process, unless they are told not to: see `durable` (feature `durable-dead-letters`).
//!
//! # What the store never does
//!
//! It never calls foreign code. A payload's `Drop`, `Clone` and `Debug` are its author's, and the
//! store works behind a lock: what it lets go of, it returns, to be dropped when the lock is free.

mod attempt;
mod counts;
#[cfg(feature = "durable-dead-letters")]
pub mod durable;
mod entry;
#[cfg(feature = "serde")]
mod export;
mod fingerprint;
mod group;
mod handle;
mod options;
mod query;
#[cfg(all(test, not(ringmain_loom)))]
mod samples;
mod shared;
mod store;
mod to_topic;

pub use attempt::Attempt;
pub(crate) use attempt::{History, error_text};
pub use counts::DeadLetterCounts;
pub use entry::DeadLetter;
pub(crate) use entry::{Key, NewLetter, Past};
#[cfg(feature = "serde")]
pub use export::write_json_lines;
pub use fingerprint::Fingerprint;
pub use group::Group;
pub use handle::{DeadLetters, Replay, ReplayError, Replaying};
pub use options::DeadLetterOptions;
pub use query::Selection;
pub(crate) use shared::SharedStore;
#[cfg(all(test, not(ringmain_loom)))]
pub(crate) use store::MemoryStore;
pub(crate) use store::Put;
pub use to_topic::Republished;
