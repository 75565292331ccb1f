//! A consumer's mailbox: through it comes all that is not a message.

use crate::broker::subscribe::handler::BoxedHandler;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::message::Envelope;
use crate::ring::Supervisor;
use crate::routing::RouteId;
use crate::sync::{Condvar, Mutex};
use crate::wait::Deadline;
use std::collections::VecDeque;
use std::sync::Arc;

/// A subscription as its consumer owns it.
pub(crate) struct OwnedSubscription<P> {
    pub(crate) state: Arc<SubscriptionState>,
    /// `None` once it has been released: what still comes for it is counted as dropped.
    pub(crate) handler: Option<BoxedHandler<P>>,
    /// How many cached routes lead here. Released and led to by none, it goes.
    pub(crate) routes: usize,
}

/// What a consumer can be sent.
pub(crate) enum Command<P> {
    /// Own this subscription's handler from now on.
    Adopt(Box<OwnedSubscription<P>>),
    /// Drop that subscription's handler and say so.
    Release { subscription: u64, done: Arc<Latch> },
    /// No message will carry these routes any more.
    Forget(Arc<[RouteId]>),
    /// Panic, as only a fault of this crate does.
    #[cfg(all(test, not(ringmain_loom)))]
    Panic,
    /// Panic at the beginning of the next turn.
    #[cfg(all(test, not(ringmain_loom)))]
    PanicInTurn,
}

struct Inner<P> {
    commands: VecDeque<Command<P>>,
    /// Whether the consumer has gone and nobody will read.
    closed: bool,
}

/// The mailbox of one consumer. Anybody may post; only its consumer fetches.
pub(crate) struct Mailbox<P> {
    inner: Mutex<Inner<P>>,
    supervisor: Supervisor<Envelope<P>>,
}

impl<P> Mailbox<P> {
    pub(crate) fn new(supervisor: Supervisor<Envelope<P>>) -> Self {
        Self { inner: Mutex::new(Inner { commands: VecDeque::new(), closed: false }), supervisor }
    }

    /// Puts a command in and tells the consumer. Hands it back when the consumer has gone.
    pub(crate) fn post(&self, command: Command<P>) -> Result<(), Command<P>> {
        {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Err(command);
            }
            inner.commands.push_back(command);
        }
        self.supervisor.announce_mail();
        Ok(())
    }

    /// Returns the next command.
    pub(crate) fn fetch(&self) -> Option<Command<P>> {
        self.inner.lock().commands.pop_front()
    }

    /// Returns whether no command waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().commands.is_empty()
    }

    /// Takes no further command, if none is left. Returns whether that is so.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.closed = inner.commands.is_empty();
        inner.closed
    }

    pub(crate) fn supervisor(&self) -> &Supervisor<Envelope<P>> {
        &self.supervisor
    }
}

/// Something that happens once and can be waited for.
pub(crate) struct Latch {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self { is_open: Mutex::new(false), opened: Condvar::new() }
    }

    pub(crate) fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.is_open.lock()
    }

    /// Waits until it is open. Returns whether it is.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let mut is_open = self.is_open.lock();
        while !*is_open {
            if deadline.has_passed() {
                return false;
            }
            is_open = self.opened.wait_until(is_open, deadline.at());
        }
        true
    }
}
