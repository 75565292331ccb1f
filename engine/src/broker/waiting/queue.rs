//! What waits of one subscription.

use super::backlog::Backlog;
use super::held::InFlights;
use super::line::{GivenUp, Line};
use super::parked::Parked;
use crate::broker::policy::key::Key;
use crate::broker::subscribe::registry::{Reason, SubscriptionState};
use crate::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::iter::Sum;
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
    /// Which of them has which key, where newer messages take the places of older ones.
    deferred_by_key: HashMap<Key, (Timestamp, u64), ahash::RandomState>,
    /// Those of them that expire, by their moments.
    deferred_expiring: BTreeSet<(Timestamp, (Timestamp, u64))>,
    failures: u64,
    /// How many messages have come to wait.
    arrivals: u64,
    /// Whether the message that was taken out last was one that had failed, or a dead letter.
    was_retry: bool,
    /// Dead letters that are to be replayed, by their numbers, and from which moment on.
    replays: VecDeque<(Timestamp, u64)>,
    backlog: Line<P>,
    /// Those that the handler keeps.
    pub(super) in_flight: InFlights<P>,
}

/// How much of a subscription's messages waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) backlogged: usize,
    pub(crate) retrying: usize,
    /// Dead letters that are to be replayed. They are the store's until then.
    pub(crate) replaying: usize,
    /// Messages that the handler keeps.
    pub(crate) in_flight: usize,
}

impl Sum for Sizes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, sizes| Self {
            backlogged: sum.backlogged + sizes.backlogged,
            retrying: sum.retrying + sizes.retrying,
            replaying: sum.replaying + sizes.replaying,
            in_flight: sum.in_flight + sizes.in_flight,
        })
    }
}

impl Sizes {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Returns how many wait to be delivered.
    pub(crate) fn waiting(&self) -> usize {
        self.backlogged + self.retrying + self.replaying
    }
}

/// What waits beside a message that was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Others {
    /// Whether something does.
    pub(crate) are_there: bool,
    /// Whether others came before what comes now, and have not been delivered.
    pub(crate) are_behind: bool,
    /// Whether one that has failed is the head of all.
    pub(crate) have_a_head: bool,
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

/// What has become of a message that was put back to be tried again.
pub(crate) struct PutBack<P> {
    /// Whether it waits.
    pub(crate) waits: bool,
    /// The one that is out of date: it, or an older one that has waited.
    pub(crate) outdated: Option<Parked<P>>,
}

impl<P: 'static> Queue<P> {
    pub(super) fn new(state: Arc<SubscriptionState>) -> Self {
        Self {
            head: None,
            deferred: BTreeMap::new(),
            deferred_by_key: HashMap::default(),
            deferred_expiring: BTreeSet::new(),
            failures: 0,
            arrivals: 0,
            was_retry: false,
            replays: VecDeque::new(),
            backlog: Line::new(state.waits_for(Reason::Conflating)),
            in_flight: InFlights::default(),
            state,
        }
    }

    fn conflates(&self) -> bool {
        self.state.waits_for(Reason::Conflating)
    }

    /// Makes room for a message of that size and key, as far as the backlog's bounds let it.
    pub(super) fn make_room(
        &mut self,
        size: usize,
        key: Option<Key>,
        bounds: Backlog,
        now: Timestamp,
    ) -> GivenUp<P> {
        let takes_the_heads_place =
            self.conflates() && key.is_some() && self.head.as_ref().is_some_and(|(_, head)| head.key == key);
        if takes_the_heads_place && size <= bounds.bytes {
            return GivenUp { expired: Vec::new(), dropped: Vec::new(), has_room: true };
        }
        self.backlog.make_room(size, key, bounds, now)
    }

    /// Puts a message into the backlog. Returns the one whose place it has taken: also that of one which waits to be
    /// tried again. If that is the head of all others, the newer message is the head now.
    pub(super) fn push(&mut self, mut parked: Parked<P>) -> Option<Parked<P>> {
        self.arrivals += 1;
        parked.order = self.arrivals;
        if let (true, Some(key)) = (self.conflates(), parked.key) {
            if let Some((_, head)) = &mut self.head
                && head.key == Some(key)
            {
                return Some(std::mem::replace(head, parked));
            }
            if let Some(&place) = self.deferred_by_key.get(&key) {
                let older = self.take_deferred(place);
                self.backlog.push(parked);
                return older;
            }
        }
        self.backlog.push(parked)
    }

    /// Puts a message in that has failed and is to be tried again at that moment: as the head of all others, or on
    /// its own. Returns the one that is out of date then: it, where there is a newer one, or an older one.
    pub(super) fn push_retry(&mut self, parked: Parked<P>, due: Timestamp, is_head: bool) -> PutBack<P> {
        if self.conflates() && self.has_newer(&parked) {
            return PutBack { waits: false, outdated: Some(parked) };
        }
        // One that came before it is out of date.
        let older = match parked.key {
            Some(key) if self.conflates() => self.deferred_by_key.get(&key).copied(),
            _ => None,
        };
        let older = older.and_then(|place| self.take_deferred(place));
        if is_head {
            debug_assert!(self.head.is_none(), "no other is delivered while there is one");
            self.head = Some((due, parked));
        } else {
            self.failures += 1;
            let place = (due, self.failures);
            if let (true, Some(key)) = (self.conflates(), parked.key) {
                self.deferred_by_key.insert(key, place);
            }
            if let Some(moment) = parked.expires_at() {
                self.deferred_expiring.insert((moment, place));
            }
            self.deferred.insert(place, parked);
        }
        PutBack { waits: true, outdated: older }
    }

    /// Returns whether a newer message with its key waits, waits to be tried again, or is in its handler's hands.
    fn has_newer(&self, parked: &Parked<P>) -> bool {
        let Some(key) = parked.key else { return false };
        let deferred = self.deferred_by_key.get(&key).and_then(|place| self.deferred.get(place));
        let kept = self.in_flight.messages().filter(|other| other.key == Some(key));
        let mut others = deferred.into_iter().chain(kept);
        self.backlog.has_newer(parked.key) || others.any(|other| other.order > parked.order)
    }

    /// Has dead letters replayed, behind those that are to be already.
    pub(super) fn replay(&mut self, letters: Vec<(Timestamp, u64)>) {
        self.replays.extend(letters);
        self.replays.make_contiguous().sort_unstable();
    }

    /// Returns when the first message expires.
    pub(super) fn first_expiry(&self) -> Option<Timestamp> {
        let head = self.head.as_ref().and_then(|(_, head)| head.expires_at());
        let deferred = self.deferred_expiring.first().map(|&(moment, _)| moment);
        [head, deferred, self.backlog.first_expiry()].into_iter().flatten().min()
    }

    /// Takes a message out that has expired, whatever it waits for.
    pub(super) fn take_expired(&mut self, now: Timestamp) -> Option<Parked<P>> {
        if let Some(parked) = self.backlog.take_expired(now) {
            return Some(parked);
        }
        match self.deferred_expiring.first() {
            Some(&(moment, place)) if moment <= now => self.take_deferred(place),
            _ => self.head.take_if(|(_, head)| head.has_expired(now)).map(|(_, head)| head),
        }
    }

    /// Returns whether nothing of it is being handled, or could be at this moment: what waits waits for something that
    /// may be long in coming.
    pub(super) fn is_quiet(&self, now: Timestamp) -> bool {
        let reasons = [Reason::Paused, Reason::Breaker, Reason::Away];
        let is_held = reasons.into_iter().any(|reason| self.state.waits_for(reason));
        let is_due = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= now);
        let retry = self.deferred.keys().next().map(|&(due, _)| due);
        let replay = self.replays.front().map(|&(due, _)| due);
        let has_next = match &self.head {
            Some((due, _)) => *due <= now,
            None => !self.backlog.is_empty() || is_due(retry) || is_due(replay),
        };
        self.in_flight.len() == 0 && (is_held || !has_next)
    }

    /// Takes the next message out that may be delivered, or that has expired.
    pub(super) fn pop(&mut self, now: impl Fn() -> Timestamp) -> Next<P> {
        if self.first_expiry().is_some_and(|moment| moment <= now())
            && let Some(expired) = self.take_expired(now())
        {
            return Next::Now(expired, self.others());
        }
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
                let parked = head.or_else(|| self.pop_deferred());
                return parked.map_or(Next::Nothing, |parked| Next::Now(parked, self.others()));
            }
            if self.head.is_some() || self.backlog.is_empty() {
                return Next::At(self.first_expiry().map_or(due, |moment| moment.min(due)));
            }
        }
        self.was_retry = false;
        self.backlog.pop().map_or(Next::Nothing, |parked| Next::Now(parked, self.others()))
    }

    fn pop_deferred(&mut self) -> Option<Parked<P>> {
        let place = *self.deferred.keys().next()?;
        self.take_deferred(place)
    }

    fn take_deferred(&mut self, place: (Timestamp, u64)) -> Option<Parked<P>> {
        let parked = self.deferred.remove(&place)?;
        if let Some(key) = parked.key {
            self.deferred_by_key.remove(&key);
        }
        if let Some(moment) = parked.expires_at() {
            self.deferred_expiring.remove(&(moment, place));
        }
        Some(parked)
    }

    pub(super) fn others(&self) -> Others {
        Others {
            are_there: self.sizes().waiting() > 0,
            are_behind: !self.backlog.is_empty(),
            have_a_head: self.head.is_some(),
        }
    }

    /// Takes the numbers of the dead letters out that are to be replayed.
    pub(super) fn take_replays(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.replays).into_iter().map(|(_, number)| number)
    }

    /// Takes all out: those first that have failed.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Parked<P>> {
        let head = self.head.take().map(|(_, parked)| parked);
        self.deferred_by_key.clear();
        self.deferred_expiring.clear();
        let failed = head.into_iter().chain(std::mem::take(&mut self.deferred).into_values());
        failed.chain(self.backlog.take_all())
    }

    pub(super) fn sizes(&self) -> Sizes {
        let retrying = self.deferred.len() + usize::from(self.head.is_some());
        Sizes {
            backlogged: self.backlog.len(),
            retrying,
            replaying: self.replays.len(),
            in_flight: self.in_flight.len(),
        }
    }
}
