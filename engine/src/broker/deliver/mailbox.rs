//! A consumer's mailbox: through it comes all that is not a message.
//!
//! A handler whose subscription ends before the consumer has read of it is taken out again, by who
//! ends it: what comes and goes beside a consumer that is stuck does not pile up here. Both is
//! decided under the mailbox's lock. So of one subscription there is never more than one such command.
//! New handlers are fetched first, so that whom another command is about is there. Commands are fetched
//! one by one: what has been fetched cannot be taken out again.
//!
//! Whom mail is announced to is under the same lock: where another consumer has come in the place of the one that was
//! there (`broker/rescue/`), who has put something in before tells the earlier, and the later looks first of all.

use crate::broker::policy::guarded::Force;
use crate::broker::subscribe::handler::{OwnedHandler, drop_handler};
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::broker::waiting::held::{Returned, TakeBack};
use crate::clock::Timestamp;
use crate::message::Envelope;
use crate::ring::Supervisor;
use crate::routing::RouteId;
use crate::sync::{Condvar, Mutex};
use crate::wait::Deadline;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A subscription as its consumer owns it.
pub(crate) struct OwnedSubscription<P> {
    pub(crate) state: Arc<SubscriptionState>,
    /// `None` once it has been released: what still comes for it is counted as dropped.
    pub(crate) handler: Option<OwnedHandler<P>>,
    /// How many cached routes lead here. Released and led to by none, it goes.
    pub(crate) routes: usize,
}

/// A handler that comes back to its subscription.
pub(crate) struct Returning<P> {
    pub(crate) subscription: u64,
    pub(crate) handler: OwnedHandler<P>,
}

/// What a consumer can be sent.
pub(crate) enum Command<P> {
    /// Own this subscription's handler from now on.
    Adopt(Box<OwnedSubscription<P>>),
    /// Drop that subscription's handler and say so.
    Release { subscription: u64, done: Arc<Latch> },
    /// Do with a subscription as was wanted last, and say so.
    Heed(Wish),
    /// Deliver these dead letters to that subscription, each from its moment on.
    Replay { state: Arc<SubscriptionState>, letters: Vec<(Timestamp, u64)> },
    /// A token has come back.
    TakeBack(Returned<P>),
    /// A handler has, from a call on a thread that was replaced.
    ComeBack(Returning<P>),
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
    /// What the consumer is to own and has not read of yet, by subscription.
    unread: BTreeMap<u64, Box<OwnedSubscription<P>>>,
    /// What is wanted of subscriptions: of each, what was wanted last. So their number is bounded, however often
    /// somebody wants something.
    wishes: BTreeMap<u64, Wish>,
    /// All else.
    commands: VecDeque<Command<P>>,
    /// Whether the consumer has gone and nobody will read.
    closed: bool,
    /// The consumer's.
    supervisor: Supervisor<Envelope<P>>,
}

/// What is wanted of a subscription.
pub(crate) struct Wish {
    pub(crate) state: Arc<SubscriptionState>,
    /// Whether it is to be paused, or to go on.
    pub(crate) is_paused: Option<bool>,
    /// What its breaker is to do.
    pub(crate) breaker: Option<Force>,
    /// Opens when it is so, for all that have wanted something meanwhile.
    pub(crate) done: Arc<Latch>,
}

impl<P> Inner<P> {
    fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.commands.is_empty() && self.wishes.is_empty()
    }
}

/// The mailbox of one consumer. Anybody may post; only its consumer fetches.
pub(crate) struct Mailbox<P>(Mutex<Inner<P>>);

impl<P> Mailbox<P> {
    pub(crate) fn new(supervisor: Supervisor<Envelope<P>>) -> Self {
        let inner = Inner {
            unread: BTreeMap::new(),
            wishes: BTreeMap::new(),
            commands: VecDeque::new(),
            closed: false,
            supervisor,
        };
        Self(Mutex::new(inner))
    }

    /// Puts a command in and tells the consumer. Hands it back when the consumer has gone.
    pub(crate) fn post(&self, command: Command<P>) -> Result<(), Command<P>> {
        let supervisor = {
            let mut inner = self.0.lock();
            if inner.closed {
                return Err(command);
            }
            match command {
                Command::Adopt(owned) => {
                    inner.unread.insert(owned.state.id, owned);
                }
                other => inner.commands.push_back(other),
            }
            inner.supervisor.clone()
        };
        supervisor.announce_mail();
        Ok(())
    }

    /// Has the consumer pause a subscription, or go on with it. Returns what opens when it has; at once where it has
    /// gone, and calls no handler any more.
    pub(crate) fn set_paused(&self, state: &Arc<SubscriptionState>, is_paused: bool) -> Arc<Latch> {
        self.wish(state, |wish| {
            // At once, and taken back under the same lock, so that the last wish holds.
            if is_paused {
                state.set(Reason::Paused, true);
            }
            if let Some(wish) = wish {
                wish.is_paused = Some(is_paused);
            }
        })
    }

    /// Has the consumer do something with a subscription's breaker.
    pub(crate) fn force_breaker(&self, state: &Arc<SubscriptionState>, force: Force) {
        self.wish(state, |wish| {
            if let Some(wish) = wish {
                wish.breaker = Some(force);
            }
        });
    }

    /// Has something wanted of a subscription: of nobody, where the consumer has gone.
    fn wish(&self, state: &Arc<SubscriptionState>, want: impl FnOnce(Option<&mut Wish>)) -> Arc<Latch> {
        let done = Arc::new(Latch::new());
        let (done, supervisor) = {
            let mut inner = self.0.lock();
            if inner.closed {
                want(None);
                done.open();
                return done;
            }
            let first = || Wish { state: state.clone(), is_paused: None, breaker: None, done };
            let wish = inner.wishes.entry(state.id).or_insert_with(first);
            want(Some(&mut *wish));
            (wish.done.clone(), inner.supervisor.clone())
        };
        supervisor.announce_mail();
        done
    }

    /// Has a subscription's handler dropped: by the consumer, or by the caller where the consumer
    /// has not read of it.
    pub(crate) fn release(&self, subscription: u64) -> Released<P> {
        let dropped = Arc::new(Latch::new());
        let supervisor = {
            let mut inner = self.0.lock();
            if inner.closed {
                // It has dropped its handlers when it went.
                dropped.open();
                return Released { dropped, withdrawn: None };
            }
            if let Some(owned) = inner.unread.remove(&subscription) {
                if let Some(wish) = inner.wishes.remove(&subscription) {
                    wish.done.open();
                }
                let withdrawn = Some(Withdrawn { owned, dropped: dropped.clone() });
                return Released { dropped, withdrawn };
            }
            inner.commands.push_back(Command::Release { subscription, done: dropped.clone() });
            inner.supervisor.clone()
        };
        supervisor.announce_mail();
        Released { dropped, withdrawn: None }
    }

    /// Returns the next command.
    pub(crate) fn fetch(&self) -> Option<Command<P>> {
        let mut inner = self.0.lock();
        // Whom a command is about is there before the command.
        let command = inner.unread.pop_first().map(|(_, owned)| Command::Adopt(owned));
        let command = command.or_else(|| inner.commands.pop_front());
        command.or_else(|| {
            let (_, wish) = inner.wishes.pop_first()?;
            if wish.is_paused == Some(false) {
                wish.state.set(Reason::Paused, false);
            }
            Some(Command::Heed(wish))
        })
    }

    /// Returns whether no command waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Takes no further command, if none is left. Returns whether that is so.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut inner = self.0.lock();
        inner.closed = inner.is_empty();
        inner.closed
    }

    /// Returns the supervisor of the consumer that reads it at this moment.
    pub(crate) fn supervisor(&self) -> Supervisor<Envelope<P>> {
        self.0.lock().supervisor.clone()
    }

    /// Says that another consumer reads it from now on: it is to look first of all.
    pub(crate) fn hand_to(&self, supervisor: Supervisor<Envelope<P>>) {
        self.0.lock().supervisor = supervisor;
    }
}

impl<P: Send + Sync> TakeBack<P> for Mailbox<P> {
    fn take_back(&self, returned: Returned<P>) {
        // One that comes back to nobody is dropped here, on its own thread.
        let _ = self.post(Command::TakeBack(returned));
    }
}

/// A handler that is about to be dropped.
#[must_use = "a handler that was withdrawn is dropped with it"]
pub(crate) struct Released<P> {
    /// Opens when it has been.
    pub(crate) dropped: Arc<Latch>,
    /// The handler, where it is for the caller to drop: not under a lock, since what it captured
    /// is foreign.
    pub(crate) withdrawn: Option<Withdrawn<P>>,
}

/// A handler that its consumer never had. It is dropped with this.
pub(crate) struct Withdrawn<P> {
    owned: Box<OwnedSubscription<P>>,
    dropped: Arc<Latch>,
}

impl<P> Drop for Withdrawn<P> {
    fn drop(&mut self) {
        drop_handler(self.owned.handler.take());
        self.dropped.open();
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
