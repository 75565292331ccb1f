//! Messages that their handlers keep: begun, and not settled.

use super::hold::{Hold, Settled};
use super::parked::Parked;
use crate::broker::policy::breaker::circuit::Permit;
use crate::broker::subscribe::handled::HandlerError;
use crate::clock::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A message that a handler keeps. Its token has a share of it, and its subscription's queue has one.
pub(crate) struct Held<P> {
    pub(crate) parked: Parked<P>,
    pub(crate) hold: Hold,
}

/// What a token says when it is given back, or is dropped.
#[derive(Debug)]
pub(crate) enum Said {
    /// The message has been handled.
    Done,
    /// It has failed.
    Failed(HandlerError),
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
    /// No message's time is up before.
    first: Timestamp,
}

impl<P> Default for InFlights<P> {
    fn default() -> Self {
        Self { messages: BTreeMap::new(), first: Timestamp::default() }
    }
}

impl<P> InFlights<P> {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns the one that was handed out last.
    pub(super) fn last(&self) -> Option<&Held<P>> {
        self.messages.last_key_value().map(|(_, InFlight { held, .. })| &**held)
    }

    pub(super) fn insert(
        &mut self,
        number: u64,
        held: Arc<Held<P>>,
        until: Timestamp,
        permit: Option<Permit>,
    ) {
        self.first = if self.messages.is_empty() { until } else { self.first.min(until) };
        self.messages.insert(number, InFlight { held, permit });
    }

    /// Takes one out that has come back.
    pub(super) fn remove(&mut self, number: u64) -> Option<Taken<P>> {
        self.messages.remove(&number).map(|InFlight { held, permit }| (held, permit))
    }

    /// Takes one out whose time is up. If there is none, returns a moment before which none will be.
    pub(super) fn time_out(&mut self, now: Timestamp) -> TimedOut<P> {
        if self.messages.is_empty() {
            return TimedOut::Nothing;
        }
        if now < self.first {
            return TimedOut::NotBefore(self.first);
        }
        let mut first: Option<Timestamp> = None;
        for (&number, InFlight { held, .. }) in &self.messages {
            match held.hold.time_out(now) {
                Ok(None) => {
                    let taken = self.remove(number);
                    return taken.map_or(TimedOut::Nothing, TimedOut::Message);
                }
                Ok(Some(until)) => first = Some(first.map_or(until, |first| first.min(until))),
                // It is on its way back.
                Err(_) => {}
            }
        }
        let Some(first) = first else { return TimedOut::Nothing };
        self.first = first;
        TimedOut::NotBefore(first)
    }

    /// Ends all of them: nobody waits for them any more. Returns each, and who had settled it before.
    pub(super) fn end(&mut self) -> Vec<(Arc<Held<P>>, Option<Settled>)> {
        let all = std::mem::take(&mut self.messages).into_values();
        all.map(|InFlight { held, .. }| {
            let before = held.hold.settle(Settled::Ended).err();
            (held, before)
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
