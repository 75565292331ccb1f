//! Messages that their handlers keep: begun, and not settled.

use super::hold::{Hold, Settled};
use super::parked::Parked;
use crate::broker::policy::breaker::circuit::Permit;
use crate::broker::subscribe::handled::HandlerError;
use crate::clock::Timestamp;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A message that a handler keeps. Its token has a share of it, and its subscription's queue has one.
pub(crate) struct Held<P> {
    pub(crate) parked: Parked<P>,
    pub(crate) hold: Hold,
    /// When it was handed out.
    pub(crate) begun: Timestamp,
}

/// What a token says when it is given back, or is dropped.
#[derive(Debug)]
pub(crate) enum Said {
    /// The message has been handled.
    Done,
    /// It has failed.
    Failed(HandlerError),
    /// The handler has panicked, and has dropped the token.
    Panicked(Box<dyn Any + Send>),
    /// The token was dropped: in a panic or not.
    Dropped { in_panic: bool },
}

/// A token that has come back.
pub(crate) struct Returned<P> {
    pub(crate) subscription: u64,
    pub(crate) number: u64,
    pub(crate) said: Said,
    /// The token's share.
    pub(crate) held: Arc<Held<P>>,
}

/// Where tokens come back to.
pub(crate) trait TakeBack<P>: Send + Sync {
    /// Takes a token back that has settled its message.
    fn take_back(&self, returned: Returned<P>);
}

/// A message that was kept, and its breaker's permit.
pub(crate) type Taken<P> = (Arc<Held<P>>, Option<Permit>);

/// What is known of a message that is kept.
pub(super) struct InFlight<P> {
    held: Arc<Held<P>>,
    permit: Option<Permit>,
}

/// The messages of one subscription that its handler keeps.
pub(super) struct InFlights<P> {
    messages: BTreeMap<u64, InFlight<P>>,
    /// When the time of each is up, as far as is known: it may have been extended since.
    moments: BTreeSet<(Timestamp, u64)>,
}

impl<P> Default for InFlights<P> {
    fn default() -> Self {
        Self { messages: BTreeMap::new(), moments: BTreeSet::new() }
    }
}

impl<P> InFlights<P> {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn insert(
        &mut self,
        number: u64,
        held: Arc<Held<P>>,
        until: Timestamp,
        permit: Option<Permit>,
    ) {
        self.moments.insert((until, number));
        self.messages.insert(number, InFlight { held, permit });
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.messages.contains_key(&number)
    }

    /// Returns the message that was handed out last, of those that are kept.
    pub(super) fn last(&self) -> Option<&Held<P>> {
        self.messages.values().next_back().map(|in_flight| &*in_flight.held)
    }

    /// Lists the messages.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Parked<P>> {
        self.messages.values().map(|in_flight| &in_flight.held.parked)
    }

    /// Takes one out that has come back.
    pub(super) fn remove(&mut self, number: u64) -> Option<Taken<P>> {
        let InFlight { held, permit } = self.messages.remove(&number)?;
        if self.messages.is_empty() {
            // Those whose moments had not come are over.
            self.moments.clear();
        }
        Some((held, permit))
    }

    /// Takes one out whose time is up. If there is none, returns a moment before which none will be.
    pub(super) fn time_out(&mut self, now: Timestamp) -> TimedOut<P> {
        while let Some(&(moment, number)) = self.moments.first() {
            if moment > now {
                return TimedOut::NotBefore(moment);
            }
            self.moments.pop_first();
            let Some(InFlight { held, .. }) = self.messages.get(&number) else { continue };
            match held.hold.time_out(now) {
                Ok(None) => return self.remove(number).map_or(TimedOut::Nothing, TimedOut::Message),
                Ok(Some(until)) => _ = self.moments.insert((until, number)),
                // It is on its way back.
                Err(_) => {}
            }
        }
        TimedOut::Nothing
    }

    /// Ends all of them: nobody waits for them any more. Returns each, and who had settled it before.
    pub(super) fn end(&mut self) -> Vec<(u64, Arc<Held<P>>, Option<Settled>)> {
        let all = std::mem::take(&mut self.messages).into_iter();
        all.map(|(number, InFlight { held, .. })| {
            let before = held.hold.settle(Settled::Ended).err();
            (number, held, before)
        })
        .collect()
    }
}

/// What has become of messages that are kept.
pub(crate) enum TimedOut<P> {
    /// The time of this one is up.
    Message(Taken<P>),
    /// None is, and none will be before.
    NotBefore(Timestamp),
    /// None is kept.
    Nothing,
}
