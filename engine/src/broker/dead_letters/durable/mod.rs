//! Dead letters that outlive their process.
//!
//! * [`DurableDeadLetters`]: where they are kept, for
//!   [`BrokerBuilder::durable_dead_letters`](crate::broker::BrokerBuilder::durable_dead_letters)
//! * [`Codec`]: how payloads of a type of yours become bytes
//! * [`DurableStatus`]: how it stands, by [`DeadLetters::durable`](super::DeadLetters::durable)
//! * [`OpenReport`]: what was read back, by [`DeadLetters::opened`](super::DeadLetters::opened)
//! * [`DeadLetterStore`]: for who keeps them elsewhere than in a file
//!
//! # What it promises
//!
//! The store in memory stays what it is: queries, replays, purges and bounds know nothing of a disk. Behind it one
//! thread writes what has changed, 10 ms after the first change or when there are 256, whichever comes first. No
//! consumer ever waits for it.
//!
//! * What was in the store when [`DeadLetters::flush`](super::DeadLetters::flush) was called, and `flush` has returned
//!   `Ok`, is there after a crash of the process or the machine, unless it has left the store since.
//! * What came later is in memory alone, for 10 ms and the time of a commit. A crash loses it.
//! * What has left the store, purged, evicted or replayed, may be there again after a crash, if that came before the
//!   commit: a replay is *at least once*.
//! * A letter that is being replayed stays there until the replay is over, and then what came of it takes its place in
//!   one step.
//! * What a shutdown hands back is kept as well, in letters of kind
//!   [`Undelivered`](crate::broker::FailureKind::Undelivered), as far as there is room beside the letters: none of
//!   these makes room for it. [`ShutdownReport::kept`](crate::broker::ShutdownReport::kept) says how many. Another
//!   process replays them; or purges them, where this one has handled what the report handed back.
//!   What a shutdown has no time to copy is kept later, as long as the process lives: a later call waits for it, and
//!   until then the file stays this broker's.
//! * Where the disk is full, slow or broken, letters stay in memory within the store's bounds, the
//!   [status](DurableStatus) says so and since when, and it is tried again, at most 5 seconds later each time. When it
//!   goes well all is made up for.
//! * The file is at most twice as long as its records, and 1 MiB: then it is written anew, beside the old one.
//! * What has changed on disk since it was written is never taken for a letter. It is named when the broker is built,
//!   kept beside the file, and all else is read.

pub(super) mod changes;
mod codec;
mod dead_letter_store;
mod error;
mod handle;
mod log;
mod open;
mod options;
mod record;
mod status;
mod writer;

pub use codec::Codec;
pub use dead_letter_store::{Change, Damage, DeadLetterStore, Loaded, MAX_RECORD_BYTES};
pub use error::{FlushError, OpenError, StoreError, StoreErrorKind};
pub(crate) use open::{Unstarted, open};
pub use options::DurableDeadLetters;
pub use status::{Degraded, DurableState, DurableStatus, OpenReport, Refusal};
