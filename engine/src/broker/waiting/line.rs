//! A backlog: messages of one subscription in the order in which they came.

use super::backlog::{Backlog, WhenFull};
use super::parked::Parked;
use crate::broker::policy::key::Key;
use crate::clock::Timestamp;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// The backlog of one subscription. Where it conflates, a newer message takes the place of the older one that has the
/// same key: so what keeps changing still has its turn.
///
/// A message's place is counted from the first message that ever stood here. One that expires leaves its place empty,
/// so that those of the others stay as they are.
pub(super) struct Line<P> {
    places: VecDeque<Option<Parked<P>>>,
    /// How many places have been left at the front.
    left: u64,
    messages: usize,
    bytes: usize,
    /// The places of messages that expire, by their moments.
    expiring: BTreeSet<(Timestamp, u64)>,
    /// Where the message of each key stands, if it conflates.
    by_key: Option<HashMap<Key, u64, ahash::RandomState>>,
}

/// Empty places that are always allowed; beyond them there are no more than messages, twice.
const MOST_EMPTY: usize = 64;

/// What has given way, in order, to make room for a message.
pub(crate) struct GivenUp<P> {
    pub(crate) expired: Vec<Parked<P>>,
    pub(crate) dropped: Vec<Parked<P>>,
    /// Whether there is room now. If not, it is the newest message that is given up.
    pub(crate) has_room: bool,
}

impl<P> GivenUp<P> {
    /// Returns whether nothing has given way.
    pub(crate) fn is_nothing(&self) -> bool {
        self.expired.is_empty() && self.dropped.is_empty()
    }
}

impl<P: 'static> Line<P> {
    pub(super) fn new(conflates: bool) -> Self {
        Self {
            places: VecDeque::new(),
            left: 0,
            messages: 0,
            bytes: 0,
            expiring: BTreeSet::new(),
            by_key: conflates.then(HashMap::default),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Makes room for a message of that size and key, as far as the bounds let it.
    pub(super) fn make_room(
        &mut self,
        size: usize,
        key: Option<Key>,
        bounds: Backlog,
        now: Timestamp,
    ) -> GivenUp<P> {
        let mut given_up = GivenUp { expired: Vec::new(), dropped: Vec::new(), has_room: false };
        // One that never fits shall not cost the others.
        if bounds.messages == 0 || size > bounds.bytes {
            return given_up;
        }
        let has_room = |line: &Self| {
            let older = line.place_of(key).and_then(|place| line.places.get(place)?.as_ref());
            let (messages, bytes) = match older {
                Some(older) => (line.messages - 1, line.bytes - older.size()),
                None => (line.messages, line.bytes),
            };
            messages < bounds.messages && bytes + size <= bounds.bytes
        };
        while !has_room(self)
            && let Some(expired) = self.take_expired(now)
        {
            given_up.expired.push(expired);
        }
        while !has_room(self) && bounds.asked_when_full() == Some(WhenFull::DropOldest) {
            given_up.dropped.extend(self.pop());
        }
        given_up.has_room = has_room(self);
        given_up
    }

    /// Returns where the message of a key stands, from the front.
    fn place_of(&self, key: Option<Key>) -> Option<usize> {
        let place = self.by_key.as_ref()?.get(&key?)?;
        Some((place - self.left) as usize)
    }

    /// Returns when the first message expires.
    pub(super) fn first_expiry(&self) -> Option<Timestamp> {
        self.expiring.first().map(|&(moment, _)| moment)
    }

    /// Takes a message out that has expired: the one that did first.
    pub(super) fn take_expired(&mut self, now: Timestamp) -> Option<Parked<P>> {
        let &(moment, place) = self.expiring.first()?;
        if moment > now {
            return None;
        }
        let parked = self.places.get_mut((place - self.left) as usize)?.take()?;
        self.note_out(&parked, place);
        if self.places.len() > MOST_EMPTY + 2 * self.messages {
            self.close_up();
        }
        Some(parked)
    }

    /// Does away with empty places.
    fn close_up(&mut self) {
        for parked in self.take_all() {
            self.push(parked);
        }
    }

    /// Puts a message in, and returns the one whose place it has taken.
    pub(super) fn push(&mut self, parked: Parked<P>) -> Option<Parked<P>> {
        let at = self.place_of(parked.key).unwrap_or(self.places.len());
        let place = self.left + at as u64;
        let older = self.places.get_mut(at).and_then(Option::take);
        if let Some(older) = &older {
            self.note_out(older, place);
        }
        self.messages += 1;
        self.bytes += parked.size();
        if let Some(moment) = parked.expires_at() {
            self.expiring.insert((moment, place));
        }
        if let (Some(by_key), Some(key)) = (&mut self.by_key, parked.key) {
            by_key.insert(key, place);
        }
        match self.places.get_mut(at) {
            Some(empty) => *empty = Some(parked),
            None => self.places.push_back(Some(parked)),
        }
        older
    }

    /// Takes note that a message has left its place.
    fn note_out(&mut self, parked: &Parked<P>, place: u64) {
        self.messages -= 1;
        self.bytes -= parked.size();
        if let Some(moment) = parked.expires_at() {
            self.expiring.remove(&(moment, place));
        }
        // A key that is not here is forgotten: however many there are in time, they take no memory.
        if let (Some(by_key), Some(key)) = (&mut self.by_key, parked.key) {
            by_key.remove(&key);
        }
    }

    /// Returns whether a message waits that would take the place of one with this key.
    pub(super) fn has_newer(&self, key: Option<Key>) -> bool {
        self.place_of(key).is_some()
    }

    /// Takes the first message out.
    pub(super) fn pop(&mut self) -> Option<Parked<P>> {
        loop {
            let place = self.left;
            let front = self.places.pop_front()?;
            self.left += 1;
            if let Some(parked) = front {
                self.note_out(&parked, place);
                return Some(parked);
            }
        }
    }

    /// Takes all out, in order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Parked<P>> + use<P> {
        let places = std::mem::take(&mut self.places);
        *self = Self::new(self.by_key.is_some());
        places.into_iter().flatten()
    }
}
