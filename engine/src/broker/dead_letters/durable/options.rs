//! Options of dead letters that are to outlive their process.

use super::codec::Codec;
use super::dead_letter_store::DeadLetterStore;
use super::error::OpenError;
use super::log::Log;
use crate::message::{MessagePayload, Payload};
use std::fmt;
use std::path::PathBuf;

/// Where dead letters are kept so that they outlive the process, and how their payloads become bytes.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// use ringmain::Broker;
/// use ringmain::broker::dead_letters::Selection;
/// use ringmain::broker::dead_letters::durable::DurableDeadLetters;
/// use std::time::Duration;
///
/// let path = directory.path().join("dead-letters");
/// let broker = Broker::builder().durable_dead_letters(DurableDeadLetters::at(&path)).build()?;
/// broker.subscribe("orders", |_| Err("no such customer"))?.detach();
/// broker.publisher("orders")?.publish("two crates of lemons")?;
/// broker.drain(Duration::from_secs(5))?;
/// let dead = broker.dead_letters().ok_or("this broker keeps them")?;
/// dead.flush(Duration::from_secs(5))?; // durable from here on
/// # drop(dead);
/// # let _ = broker.shutdown(Duration::from_secs(5))?;
/// drop(broker);
///
/// // Another time, in another process:
/// let broker = Broker::builder().durable_dead_letters(DurableDeadLetters::at(&path)).build()?;
/// let dead = broker.dead_letters().ok_or("this broker keeps them")?;
/// assert_eq!(dead.query(&Selection::all())[0].last_error(), Some("no such customer"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct DurableDeadLetters<P> {
    place: Place,
    pub(super) codec: Codec<P>,
    moves_aside: bool,
}

enum Place {
    File(PathBuf),
    Store(Box<dyn DeadLetterStore>),
}

/// A store that was opened.
pub(super) struct Opened {
    pub(super) store: Box<dyn DeadLetterStore>,
    pub(super) moved_aside: Option<PathBuf>,
}

impl DurableDeadLetters<Payload> {
    /// In a file, which is made if it is not there; its directory must be. A file belongs to one broker at a time:
    /// where another has it, building waits for it, a second at most. Payloads are bytes.
    ///
    /// Beside it, with its name, stand `….lock`, which a broker locks as long as it has the file; `….new` while the
    /// file is written anew; and `….damaged`, if something could not be read: each stretch of it behind a line that
    /// says what it is.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::at_with(path, Codec::bytes())
    }
}

impl<P: MessagePayload> DurableDeadLetters<P> {
    /// In a file, as by [`at`](DurableDeadLetters::at), with payloads of a type of yours.
    pub fn at_with(path: impl Into<PathBuf>, codec: Codec<P>) -> Self {
        Self { place: Place::File(path.into()), codec, moves_aside: false }
    }

    /// In a store of yours.
    pub fn in_store(store: impl DeadLetterStore + 'static, codec: Codec<P>) -> Self {
        Self { place: Place::Store(Box::new(store)), codec, moves_aside: false }
    }

    /// Has a file moved aside in which nothing can be read, and begins a new one; else it is an error. The
    /// [report](super::OpenReport) of the opening tells. One in which something can be read is read, and one of another
    /// version is an error in any case.
    pub fn move_aside_if_unreadable(mut self, moves_aside: bool) -> Self {
        self.moves_aside = moves_aside;
        self
    }

    pub(super) fn open(self) -> Result<(Opened, Codec<P>), OpenError> {
        let opened = match self.place {
            Place::Store(store) => Opened { store, moved_aside: None },
            Place::File(path) => {
                let log = Log::open(&path, self.moves_aside)?;
                let moved_aside = log.moved_aside().map(Into::into);
                Opened { store: Box::new(log), moved_aside }
            }
        };
        Ok((opened, self.codec))
    }
}

impl<P> fmt::Debug for DurableDeadLetters<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DurableDeadLetters");
        if let Place::File(path) = &self.place {
            debug.field("path", path);
        }
        debug.field("moves_aside", &self.moves_aside).finish_non_exhaustive()
    }
}
