//! What waits of one subscription.

use super::backlog::{Backlog, WhenFull};
use super::parked::Parked;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::clock::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The messages of one subscription that wait.
///
/// Those in the backlog wait for those before them, in the order in which they came. Those that have
/// failed wait for a moment: each for its own, or, where they are retried in order, one as the head of all
/// others.
pub(crate) struct Queue<P> {
    pub(super) state: Arc<SubscriptionState>,
    head: Option<(Timestamp, Parked<P>)>,
    /// Retries that keep no order, by their moments and in the order in which they failed.
    deferred: BTreeMap<(Timestamp, u64), Parked<P>>,
    failures: u64,
    /// Whether the message that was taken out last was one that had failed, or a dead letter.
    was_retry: bool,
    /// Dead letters that are to be replayed, by their numbers, and from which moment on.
    replays: VecDeque<(Timestamp, u64)>,
    backlog: VecDeque<Parked<P>>,
    bytes: usize,
    /// No message expires before. The earliest that did may have left since.
    first_expiry: Option<Timestamp>,
}

/// How much of a subscription's messages waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) backlogged: usize,
    pub(crate) retrying: usize,
    /// Dead letters that are to be replayed. They are the store's until then.
    pub(crate) replaying: usize,
}

impl Sizes {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What waits beside a message that was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Others {
    /// Whether something does.
    pub(crate) are_there: bool,
    /// Whether others came before what comes now, and have not been delivered.
    pub(crate) are_behind: bool,
}

/// The next message of a queue.
pub(crate) enum Next<P> {
    /// It may be delivered now, and it is the last or not.
    Now(Parked<P>, Others),
    /// A dead letter of that number may be delivered.
    Replay(u64, Others),
    /// It may be delivered then, and none before.
    At(Timestamp),
    /// Nothing waits.
    Nothing,
}

/// What a queue has given up, in order, to make room for a message.
pub(crate) struct GivenUp<P> {
    pub(crate) expired: Vec<Parked<P>>,
    pub(crate) dropped: Vec<Parked<P>>,
    /// Whether there is room now. If not, it is the newest message that is given up.
    pub(crate) has_room: bool,
}

impl<P: 'static> Queue<P> {
    pub(super) fn new(state: Arc<SubscriptionState>) -> Self {
        Self {
            state,
            head: None,
            deferred: BTreeMap::new(),
            failures: 0,
            was_retry: false,
            replays: VecDeque::new(),
            backlog: VecDeque::new(),
            bytes: 0,
            first_expiry: None,
        }
    }

    /// Makes room for a message of that size, as far as the backlog's bounds let it.
    pub(super) fn make_room(&mut self, size: usize, bounds: Backlog, now: Timestamp) -> GivenUp<P> {
        let mut given_up = GivenUp { expired: Vec::new(), dropped: Vec::new(), has_room: false };
        // One that never fits shall not cost the others.
        if bounds.messages == 0 || size > bounds.bytes {
            return given_up;
        }
        let has_room =
            |queue: &Self| queue.backlog.len() < bounds.messages && queue.bytes + size <= bounds.bytes;
        if !has_room(self) && self.first_expiry.is_some_and(|at| at <= now) {
            given_up.expired = self.sweep(now);
        }
        while !has_room(self) && bounds.asked_when_full() == Some(WhenFull::DropOldest) {
            given_up.dropped.extend(self.pop_backlog());
        }
        given_up.has_room = has_room(self);
        given_up
    }

    /// Takes out what has expired.
    fn sweep(&mut self, now: Timestamp) -> Vec<Parked<P>> {
        let (mut expired, mut kept) = (Vec::new(), VecDeque::with_capacity(self.backlog.len()));
        self.first_expiry = None;
        for parked in self.backlog.drain(..) {
            match parked.expires_at() {
                Some(at) if at <= now => {
                    self.bytes -= parked.size();
                    expired.push(parked);
                    continue;
                }
                Some(at) => self.first_expiry = Some(self.first_expiry.map_or(at, |first| first.min(at))),
                None => {}
            }
            kept.push_back(parked);
        }
        self.backlog = kept;
        expired
    }

    pub(super) fn push(&mut self, parked: Parked<P>) {
        self.bytes += parked.size();
        if let Some(at) = parked.expires_at() {
            self.first_expiry = Some(self.first_expiry.map_or(at, |first| first.min(at)));
        }
        self.backlog.push_back(parked);
    }

    /// Puts a message in that has failed and is to be tried again at that moment: as the head of all others, or on
    /// its own.
    pub(super) fn push_retry(&mut self, parked: Parked<P>, due: Timestamp, is_head: bool) {
        if is_head {
            debug_assert!(self.head.is_none(), "no other is delivered while there is one");
            self.head = Some((due, parked));
        } else {
            self.failures += 1;
            self.deferred.insert((due, self.failures), parked);
        }
    }

    /// Has dead letters replayed, behind those that are to be already.
    pub(super) fn replay(&mut self, letters: Vec<(Timestamp, u64)>) {
        self.replays.extend(letters);
        self.replays.make_contiguous().sort_unstable();
    }

    /// Takes the next message out that may be delivered.
    pub(super) fn pop(&mut self, now: impl FnOnce() -> Timestamp) -> Next<P> {
        let replay = self.replays.front().map(|&(due, _)| due);
        let retry = self.deferred.keys().next().map(|&(due, _)| due);
        let moment = match &self.head {
            Some((due, _)) => Some(*due),
            None => [retry, replay].into_iter().flatten().min(),
        };
        if let Some(due) = moment {
            // A due retry and what waits behind it take turns: neither starves the other.
            let is_its_turn = self.head.is_some() || self.backlog.is_empty() || !self.was_retry;
            if due <= now() && is_its_turn {
                self.was_retry = true;
                if self.head.is_none() && Some(due) != retry {
                    let replay = self.replays.pop_front();
                    return replay.map_or(Next::Nothing, |(_, number)| Next::Replay(number, self.others()));
                }
                let head = self.head.take().map(|(_, parked)| parked);
                let parked = head.or_else(|| self.deferred.pop_first().map(|(_, parked)| parked));
                return parked.map_or(Next::Nothing, |parked| Next::Now(parked, self.others()));
            }
            if self.head.is_some() || self.backlog.is_empty() {
                return Next::At(due);
            }
        }
        self.was_retry = false;
        self.pop_backlog().map_or(Next::Nothing, |parked| Next::Now(parked, self.others()))
    }

    fn others(&self) -> Others {
        Others { are_there: !self.sizes().is_nothing(), are_behind: !self.backlog.is_empty() }
    }

    fn pop_backlog(&mut self) -> Option<Parked<P>> {
        let parked = self.backlog.pop_front()?;
        self.bytes -= parked.size();
        Some(parked)
    }

    /// Takes the numbers of the dead letters out that are to be replayed.
    pub(super) fn take_replays(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.replays).into_iter().map(|(_, number)| number)
    }

    /// Takes all out: those first that have failed.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Parked<P>> {
        self.bytes = 0;
        let head = self.head.take().map(|(_, parked)| parked);
        let failed = head.into_iter().chain(std::mem::take(&mut self.deferred).into_values());
        failed.chain(std::mem::take(&mut self.backlog))
    }

    pub(super) fn sizes(&self) -> Sizes {
        let retrying = self.deferred.len() + usize::from(self.head.is_some());
        Sizes { backlogged: self.backlog.len(), retrying, replaying: self.replays.len() }
    }
}
