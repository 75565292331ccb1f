//! The consumers' threads: how many run, and what those that stopped early have handed back.

use crate::broker::deliver::mailbox::Mailbox;
use crate::message::{Message, OwnedMessage};
use crate::sync::panics::discard_panic;
use crate::sync::{Condvar, Mutex};
use crate::wait::Deadline;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A message that a shutdown hands back.
#[non_exhaustive]
pub struct Undelivered<P> {
    /// The message.
    pub message: OwnedMessage<P>,
    /// The names of the subscriptions that it was not delivered to.
    pub subscriptions: Vec<Box<str>>,
}

impl<P> fmt::Debug for Undelivered<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered")
            .field("message", &self.message)
            .field("subscriptions", &self.subscriptions)
            .finish()
    }
}

struct Inner<P> {
    running: usize,
    /// Of these, the ones that nobody waits for any more. Below zero for the moment in which one of
    /// them returns before it has been counted.
    abandoned: isize,
    handed_back: Vec<Undelivered<P>>,
}

/// How many consumer threads run, and what those that stopped early have handed back.
pub(crate) struct ThreadRegistry<P> {
    inner: Mutex<Inner<P>>,
    changed: Condvar,
}

/// Says, when it is dropped, that a consumer thread has ended.
pub(crate) struct ExitGuard<'a, P> {
    threads: &'a ThreadRegistry<P>,
    /// Of a consumer that may have been taken over.
    mailbox: Option<Arc<Mailbox<P>>>,
}

impl<P> ThreadRegistry<P> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { running: 0, abandoned: 0, handed_back: Vec::new() }),
            changed: Condvar::new(),
        }
    }

    /// A thread is about to start.
    pub(crate) fn enter(&self) {
        self.inner.lock().running += 1;
    }

    pub(crate) fn exit_guard(&self, mailbox: Option<Arc<Mailbox<P>>>) -> ExitGuard<'_, P> {
        ExitGuard { threads: self, mailbox }
    }

    /// A thread has been taken over, and what it left has been counted.
    pub(super) fn abandon_one(&self) {
        self.inner.lock().abandoned += 1;
        self.changed.notify_all();
    }

    pub(crate) fn hand_back(&self, messages: Vec<Undelivered<P>>) {
        self.inner.lock().handed_back.extend(messages);
    }

    /// Takes what has been handed back so far.
    pub(super) fn take_handed_back(&self) -> Vec<Undelivered<P>> {
        std::mem::take(&mut self.inner.lock().handed_back)
    }

    pub(crate) fn running(&self) -> usize {
        self.inner.lock().running
    }

    /// Waits until no more than `remaining` threads run, beside those that are abandoned. Returns
    /// whether that is so.
    pub(super) fn wait(&self, remaining: usize, deadline: Deadline) -> bool {
        let mut inner = self.inner.lock();
        while inner.running as isize - inner.abandoned > remaining as isize {
            if deadline.has_passed() {
                return false;
            }
            inner = self.changed.wait_until(inner, deadline.at());
        }
        true
    }
}

impl<P> Drop for ExitGuard<'_, P> {
    fn drop(&mut self) {
        let was_taken_over = self.mailbox.as_ref().is_some_and(|mailbox| {
            mailbox.leave();
            mailbox.supervisor().is_taken_over()
        });
        {
            let mut inner = self.threads.inner.lock();
            inner.running -= 1;
            inner.abandoned -= isize::from(was_taken_over);
        }
        self.threads.changed.notify_all();
    }
}

/// A message to be handed back. Nothing where cloning its payload panics.
pub(crate) fn owned_copy<P: Clone>(message: &Message<'_, P>) -> Option<OwnedMessage<P>> {
    catch_unwind(AssertUnwindSafe(|| message.to_owned())).map_err(discard_panic).ok()
}
