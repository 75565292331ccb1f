//! A backlog: messages of one subscription in the order in which they came.

use super::backlog::{Backlog, WhenFull};
use super::parked::Parked;
use crate::broker::policy::key::Key;
use crate::clock::Timestamp;
use std::collections::{HashMap, VecDeque};

/// The backlog of one subscription. Where it conflates, a newer message takes the place of the older one that has the
/// same key: so what keeps changing still has its turn.
pub(super) struct Line<P> {
    messages: VecDeque<Parked<P>>,
    bytes: usize,
    /// No message expires before. The earliest that did may have left since.
    first_expiry: Option<Timestamp>,
    /// Where the message of each key stands, if it conflates: counted from the first message that ever stood here.
    places: Option<HashMap<Key, u64, ahash::RandomState>>,
    /// How many have left at the front.
    left: u64,
}

/// What has given way, in order, to make room for a message.
pub(crate) struct GivenUp<P> {
    pub(crate) expired: Vec<Parked<P>>,
    pub(crate) dropped: Vec<Parked<P>>,
    /// Whether there is room now. If not, it is the newest message that is given up.
    pub(crate) has_room: bool,
}

impl<P: 'static> Line<P> {
    pub(super) fn new(conflates: bool) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            first_expiry: None,
            places: conflates.then(HashMap::default),
            left: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
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
            let (messages, bytes) = match line.place_of(key) {
                Some(place) => (line.len() - 1, line.bytes - line.messages[place].size()),
                None => (line.len(), line.bytes),
            };
            messages < bounds.messages && bytes + size <= bounds.bytes
        };
        if !has_room(self) && self.first_expiry.is_some_and(|at| at <= now) {
            given_up.expired = self.sweep(now);
        }
        while !has_room(self) && bounds.asked_when_full() == Some(WhenFull::DropOldest) {
            given_up.dropped.extend(self.pop());
        }
        given_up.has_room = has_room(self);
        given_up
    }

    fn place_of(&self, key: Option<Key>) -> Option<usize> {
        let place = self.places.as_ref()?.get(&key?)?;
        Some((place - self.left) as usize)
    }

    /// Takes out what has expired.
    fn sweep(&mut self, now: Timestamp) -> Vec<Parked<P>> {
        let messages = std::mem::take(&mut self.messages);
        let (expired, kept): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|parked| parked.has_expired(now));
        *self = Self::new(self.places.is_some());
        for parked in kept {
            self.push(parked);
        }
        expired
    }

    /// Puts a message in, and returns the one whose place it has taken.
    pub(super) fn push(&mut self, parked: Parked<P>) -> Option<Parked<P>> {
        self.bytes += parked.size();
        if let Some(at) = parked.expires_at() {
            self.first_expiry = Some(self.first_expiry.map_or(at, |first| first.min(at)));
        }
        if let Some(place) = self.place_of(parked.key) {
            let older = std::mem::replace(&mut self.messages[place], parked);
            self.bytes -= older.size();
            return Some(older);
        }
        if let (Some(places), Some(key)) = (&mut self.places, parked.key) {
            places.insert(key, self.left + self.messages.len() as u64);
        }
        self.messages.push_back(parked);
        None
    }

    /// Returns whether a message waits that would take the place of one with this key.
    pub(super) fn has_newer(&self, key: Option<Key>) -> bool {
        self.place_of(key).is_some()
    }

    /// Takes the first message out.
    pub(super) fn pop(&mut self) -> Option<Parked<P>> {
        let parked = self.messages.pop_front()?;
        self.left += 1;
        self.bytes -= parked.size();
        // A key that is not here is forgotten: however many there are in time, they take no memory.
        if let (Some(places), Some(key)) = (&mut self.places, parked.key) {
            places.remove(&key);
        }
        Some(parked)
    }

    /// Takes all out, in order.
    pub(super) fn take_all(&mut self) -> VecDeque<Parked<P>> {
        let messages = std::mem::take(&mut self.messages);
        *self = Self::new(self.places.is_some());
        messages
    }
}
