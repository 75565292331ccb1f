//! The store of dead letters in memory: bounded in number and in bytes.
//!
//! Letters are held by number, which is their age. Two indexes go with them: by what tells a letter
//! from others, to find the one that a replay was about, and by who has to go next. So whatever
//! concerns one letter takes O(log n) steps, and nothing but a [`Selection`] looks at all of them.
//!
//! # Leases
//!
//! A letter that is to be replayed is leased, so that a second replay does not hand it over again.
//!
//! ```text
//! free ── lease_for_replay ──► planned ── take ──► handed over ──┬─ settle_replayed: gone
//!  ▲                              │                              ├─ put, it failed again: replaced
//!  └────────── cancel ────────────┘◄─────────── release ─────────┘
//! ```
//!
//! # Who has to go
//!
//! The oldest letter that is free. Where none is, the oldest that is handed over: its subscription has
//! the message, which comes back if it fails. Where all are planned, the oldest of them: one message
//! is lost then whoever goes, and the newest stay. So a newcomer is refused only if it alone is larger
//! than the store may be.
//!
//! # No foreign code
//!
//! Callers hold a lock. Letters are shared and never copied, and each that leaves is returned.

#[cfg(feature = "durable-dead-letters")]
use super::attempt::Attempt;
use super::counts::DeadLetterCounts;
#[cfg(feature = "durable-dead-letters")]
use super::durable::changes::Changes;
use super::entry::{DeadLetter, Key, NewLetter, episodes_after};
use super::group::{Group, groups};
use super::options::DeadLetterOptions;
use super::query::Selection;
use crate::clock::Timestamp;
use crate::message::OwnedMessage;
use crate::sync::panics::guard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

/// Where a letter stands with its replay. Who comes first has to go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lease {
    /// It is not being replayed.
    Free,
    /// Its subscription has the message.
    HandedOver,
    /// A replay will come to it.
    Planned,
}

struct Held<P> {
    letter: Arc<DeadLetter<P>>,
    bytes: usize,
    lease: Lease,
}

/// The dead letters of a broker. No method calls foreign code, but dropping the store does.
pub(crate) struct MemoryStore<P> {
    options: DeadLetterOptions,
    held: BTreeMap<u64, Held<P>>,
    by_key: BTreeMap<Key, u64>,
    /// Each letter, in the order in which they have to go.
    leaving: BTreeSet<(Lease, u64)>,
    bytes: usize,
    next_number: u64,
    /// All but `held`, which is read.
    counts: DeadLetterCounts,
    /// What is not durable yet, where letters are to outlive the process.
    #[cfg(feature = "durable-dead-letters")]
    changes: Option<Box<Changes>>,
}

/// What came of a new letter. It holds what the store let go of.
#[must_use = "what was let go of is dropped outside of the lock"]
pub(crate) struct Put<P> {
    /// The number under which it is kept.
    #[cfg_attr(not(all(test, not(ringmain_loom))), expect(dead_code, reason = "tests look at it"))]
    pub(crate) number: Option<u64>,
    /// It, where it is not kept.
    pub(crate) lost: Option<Box<NewLetter<P>>>,
    /// The letter that it replaces: its replay has failed.
    pub(crate) replaced: Option<Arc<DeadLetter<P>>>,
    /// Those that had to make room, in the order in which they went.
    pub(crate) evicted: Vec<Arc<DeadLetter<P>>>,
}

impl<P> Put<P> {
    /// Drops what the store let go of. Call it when the lock is free.
    pub(crate) fn discard(self) {
        guard(|| drop(self.lost));
        discard(self.replaced.into_iter().chain(self.evicted));
    }
}

/// Drops letters one by one: payloads may panic when they are dropped.
pub(crate) fn discard<P>(letters: impl IntoIterator<Item = Arc<DeadLetter<P>>>) {
    letters.into_iter().for_each(|letter| _ = guard(|| drop(letter)));
}

/// Which letters a replay will hand over: those that were there when it was asked for, from the
/// oldest. They are leased until they are taken and settled, or the plan is
/// [cancelled](MemoryStore::cancel).
#[derive(Debug)]
#[must_use = "its letters stay leased until it is followed or cancelled"]
pub(crate) struct ReplayPlan {
    left: std::vec::IntoIter<u64>,
    /// The numbers of those that another replay has leased, which this one leaves to it.
    pub(crate) already_replaying: Vec<u64>,
}

impl Iterator for ReplayPlan {
    type Item = u64;

    /// Returns the number to be [taken](MemoryStore::take) next.
    fn next(&mut self) -> Option<u64> {
        self.left.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl ExactSizeIterator for ReplayPlan {}

impl<P> MemoryStore<P> {
    pub(crate) fn new(options: DeadLetterOptions) -> Self {
        Self {
            options,
            held: BTreeMap::new(),
            by_key: BTreeMap::new(),
            leaving: BTreeSet::new(),
            bytes: 0,
            next_number: 0,
            counts: DeadLetterCounts::default(),
            #[cfg(feature = "durable-dead-letters")]
            changes: None,
        }
    }

    #[cfg(all(test, not(ringmain_loom)))]
    pub(crate) fn options(&self) -> &DeadLetterOptions {
        &self.options
    }

    /// Returns how many letters are held.
    #[cfg(all(test, not(ringmain_loom)))]
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns how many bytes they take, by estimate.
    #[cfg(all(test, not(ringmain_loom)))]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn counts(&self) -> DeadLetterCounts {
        DeadLetterCounts { held: self.held.len() as u64, ..self.counts }
    }

    /// Takes a new letter, which is dead from now on.
    ///
    /// One that is there already under the same key comes from a replay that failed: it is replaced by
    /// the new one, which goes on with its history. Where only the history is too long for the store,
    /// its oldest attempts are forgotten. Where the letter is too large without any, it is lost, and one
    /// that it would have replaced stays, free to be replayed again.
    pub(crate) fn put(&mut self, mut new: NewLetter<P>, now: Timestamp, wall: SystemTime) -> Put<P> {
        self.counts.taken += 1;
        let key = new.key();
        let bare = Self::bytes_without_history(new.bytes, &new.subscription);
        if self.options.entries == 0 || bare > self.options.bytes {
            self.counts.lost += 1;
            self.release(&key);
            return Put { number: None, lost: Some(Box::new(new)), replaced: None, evicted: Vec::new() };
        }

        let replaced = self.by_key.get(&key).copied().and_then(|number| self.take_out(number));
        if let Some(before) = replaced.as_deref() {
            self.counts.replayed += 1;
            new.history.go_on_from(&before.attempts, before.forgotten_attempts, episodes_after(Some(before)));
        }
        if !self.options.error_texts {
            new.history.forget_texts();
        }
        new.history.shrink_to(self.options.bytes - bare);
        let bytes = bare + new.history.bytes();
        let evicted = self.make_room(bytes);

        let number = self.next_number;
        self.next_number += 1;
        let letter = Arc::new(new.into_letter(number, replaced.as_deref(), now, wall));
        // Where it replaces one, it does so in one step on disk as well: it has the same record.
        #[cfg(feature = "durable-dead-letters")]
        if let Some(changes) = &mut self.changes {
            changes.note_put(letter.record, number);
        }
        self.insert(key, letter, bytes);
        Put { number: Some(number), lost: None, replaced, evicted }
    }

    /// Takes a new letter, if no other has to make room for it. Else it is handed back, and counted nowhere.
    #[cfg(feature = "durable-dead-letters")]
    pub(crate) fn put_beside(
        &mut self,
        new: NewLetter<P>,
        now: Timestamp,
        wall: SystemTime,
    ) -> Result<Put<P>, Box<NewLetter<P>>> {
        let bytes = Self::bytes_without_history(new.bytes, &new.subscription) + new.history.bytes();
        let has_room = self.held.len() < self.options.entries
            && self.bytes.checked_add(bytes).is_some_and(|sum| sum <= self.options.bytes);
        if has_room { Ok(self.put(new, now, wall)) } else { Err(Box::new(new)) }
    }

    fn insert(&mut self, key: Key, letter: Arc<DeadLetter<P>>, bytes: usize) {
        let number = letter.number;
        self.bytes += bytes;
        self.by_key.insert(key, number);
        self.leaving.insert((Lease::Free, number));
        self.held.insert(number, Held { letter, bytes, lease: Lease::Free });
    }

    /// Estimates what a letter takes without its attempts, of whose message it is known what that takes.
    fn bytes_without_history(message: usize, subscription: &str) -> usize {
        let letter = size_of::<DeadLetter<P>>() - size_of::<OwnedMessage<P>>() + 2 * size_of::<usize>();
        let indexed = size_of::<(u64, Held<P>)>() + size_of::<(Key, u64)>() + size_of::<(Lease, u64)>();
        // The nodes of the trees are some half full.
        let own = letter + subscription.len() + 2 * indexed;
        message.saturating_add(own)
    }

    fn make_room(&mut self, bytes: usize) -> Vec<Arc<DeadLetter<P>>> {
        let mut evicted = Vec::new();
        while self.held.len() >= self.options.entries
            || self.bytes.checked_add(bytes).is_none_or(|sum| sum > self.options.bytes)
        {
            let Some((_, number)) = self.leaving.pop_first() else { break };
            evicted.extend(self.remove(number));
        }
        self.counts.evicted += evicted.len() as u64;
        evicted
    }

    fn remove(&mut self, number: u64) -> Option<Arc<DeadLetter<P>>> {
        let letter = self.take_out(number)?;
        #[cfg(feature = "durable-dead-letters")]
        if let Some(changes) = &mut self.changes {
            changes.note_removed(letter.record, number);
        }
        Some(letter)
    }

    /// Removes a letter, and leaves what is durable of it.
    fn take_out(&mut self, number: u64) -> Option<Arc<DeadLetter<P>>> {
        let Held { letter, bytes, lease } = self.held.remove(&number)?;
        self.by_key.remove(&letter.key());
        self.leaving.remove(&(lease, number));
        self.bytes -= bytes;
        Some(letter)
    }

    /// Returns the letters that are meant, from the oldest.
    fn select<'a>(&'a self, selection: &'a Selection, now: Timestamp) -> impl Iterator<Item = &'a Held<P>> {
        let of_message = selection.message.map(|id| {
            let first = Key { message: id, subscription: "".into() };
            let keys = self.by_key.range(first..).take_while(move |(key, _)| key.message == id);
            let mut numbers: Vec<u64> = keys.map(|(_, number)| *number).collect();
            numbers.sort_unstable();
            numbers.into_iter().filter_map(|number| self.held.get(&number))
        });
        let of_all = selection.message.is_none().then(|| self.held.range(selection.number_range()));
        let of_all = of_all.into_iter().flatten().map(|(_, held)| held);
        let looked_at = of_message.into_iter().flatten().chain(of_all);
        looked_at.filter(move |held| selection.means(&held.letter, now)).take(selection.at_most)
    }

    /// Returns the letters that are meant, from the oldest. They are shared: it costs no copy.
    pub(crate) fn query(&self, selection: &Selection, now: Timestamp) -> Vec<Arc<DeadLetter<P>>> {
        self.select(selection, now).map(|held| held.letter.clone()).collect()
    }

    /// Returns how many a query would return.
    pub(crate) fn count(&self, selection: &Selection, now: Timestamp) -> usize {
        self.select(selection, now).count()
    }

    /// Returns the letters that are meant in groups of those that failed alike, the largest first.
    pub(crate) fn groups(&self, selection: &Selection, now: Timestamp) -> Vec<Group> {
        groups(self.select(selection, now).map(|held| &*held.letter))
    }

    /// Removes the letters that are meant and returns them. Those that are being replayed stay.
    #[must_use = "what was purged is dropped outside of the lock"]
    pub(crate) fn purge(&mut self, selection: &Selection, now: Timestamp) -> Vec<Arc<DeadLetter<P>>> {
        let meant = self.select(selection, now).filter(|held| held.lease == Lease::Free);
        let numbers: Vec<u64> = meant.map(|held| held.letter.number).collect();
        let purged: Vec<_> = numbers.into_iter().filter_map(|number| self.remove(number)).collect();
        self.counts.purged += purged.len() as u64;
        purged
    }

    /// Leases the letters that are meant and are there now. What fails later, also in this replay, is not
    /// of the plan.
    pub(crate) fn lease_for_replay(&mut self, selection: &Selection, now: Timestamp) -> ReplayPlan {
        let (mut planned, mut already_replaying) = (Vec::new(), Vec::new());
        for held in self.select(selection, now) {
            let list = if held.lease == Lease::Free { &mut planned } else { &mut already_replaying };
            list.push(held.letter.number);
        }
        planned.iter().for_each(|number| self.lease(*number, Lease::Free, Lease::Planned));
        ReplayPlan { left: planned.into_iter(), already_replaying }
    }

    /// Returns whether letters are being replayed.
    pub(crate) fn is_replaying(&self) -> bool {
        self.leaving.last().is_some_and(|(lease, _)| *lease != Lease::Free)
    }

    /// Returns the name of the subscription that failed on a letter.
    pub(crate) fn name_of(&self, number: u64) -> Option<Arc<str>> {
        Some(self.held.get(&number)?.letter.subscription.clone())
    }

    /// Returns a letter of a plan, to be handed over. Nothing where it is gone, or was taken before.
    pub(crate) fn take(&mut self, number: u64) -> Option<Arc<DeadLetter<P>>> {
        let held = self.held.get(&number).filter(|held| held.lease == Lease::Planned)?;
        let letter = held.letter.clone();
        self.lease(number, Lease::Planned, Lease::HandedOver);
        Some(letter)
    }

    /// Removes a letter that has been handled, and returns it. Nothing where it had to make room
    /// meanwhile.
    #[must_use = "what was replayed is dropped outside of the lock"]
    pub(crate) fn settle_replayed(&mut self, key: &Key) -> Option<Arc<DeadLetter<P>>> {
        let number = *self.by_key.get(key)?;
        let letter = self.remove(number)?;
        self.counts.replayed += 1;
        Some(letter)
    }

    /// Ends the lease of a letter that was taken and could not be handed over, or that came back without
    /// an attempt. It stays.
    pub(crate) fn release(&mut self, key: &Key) {
        if let Some(number) = self.by_key.get(key) {
            self.lease(*number, Lease::HandedOver, Lease::Free);
        }
    }

    /// Ends the leases of what a plan has not come to.
    #[cfg(all(test, not(ringmain_loom)))]
    pub(crate) fn cancel(&mut self, plan: ReplayPlan) {
        plan.for_each(|number| self.lease(number, Lease::Planned, Lease::Free));
    }

    /// Ends the lease of a letter of a plan that is not followed.
    pub(crate) fn cancel_one(&mut self, number: u64) {
        self.lease(number, Lease::Planned, Lease::Free);
    }

    fn lease(&mut self, number: u64, from: Lease, to: Lease) {
        if let Some(held) = self.held.get_mut(&number).filter(|held| held.lease == from) {
            held.lease = to;
            self.leaving.remove(&(from, number));
            self.leaving.insert((to, number));
        }
    }
}

/// What came of a letter that was read back.
#[cfg(feature = "durable-dead-letters")]
pub(super) struct Restored<P> {
    /// An earlier record of the same letter.
    pub(super) superseded: Option<Arc<DeadLetter<P>>>,
    /// Those that had to make room.
    pub(super) evicted: Vec<Arc<DeadLetter<P>>>,
}

#[cfg(feature = "durable-dead-letters")]
impl<P> MemoryStore<P> {
    /// Has it noted what changes from now on.
    pub(super) fn note_changes(&mut self, changes: Changes) {
        self.changes = Some(Box::new(changes));
    }

    /// Returns what is not durable yet, where letters are to outlive the process.
    pub(super) fn changes(&mut self) -> Option<&mut Changes> {
        self.changes.as_deref_mut()
    }

    /// Returns a letter.
    pub(super) fn get(&self, number: u64) -> Option<&Arc<DeadLetter<P>>> {
        self.held.get(&number).map(|held| &held.letter)
    }

    /// Returns the highest number that a letter has, or has had.
    pub(super) fn last_number(&self) -> Option<u64> {
        self.next_number.checked_sub(1)
    }

    /// Gives new letters numbers above that one.
    pub(super) fn go_on_behind(&mut self, highest: u64) {
        self.next_number = self.next_number.max(highest.saturating_add(1));
    }

    /// Takes back a letter of an earlier process, with its number. Letters come in the order of these.
    ///
    /// # Errors
    /// It alone is larger than the store may be.
    pub(super) fn restore(
        &mut self,
        mut letter: DeadLetter<P>,
        message: usize,
    ) -> Result<Restored<P>, Box<DeadLetter<P>>> {
        let bare = Self::bytes_without_history(message, &letter.subscription);
        if self.options.entries == 0 || bare > self.options.bytes {
            return Err(Box::new(letter));
        }
        if !self.options.error_texts {
            letter.forget_texts();
        }
        letter.shrink_to(self.options.bytes - bare);
        let bytes = bare + letter.attempts.iter().map(Attempt::bytes).sum::<usize>();
        let key = letter.key();
        let superseded = self.by_key.get(&key).copied().and_then(|number| self.remove(number));
        let evicted = self.make_room(bytes);
        // What was restored and has had to go is in no sum.
        self.counts.restored -= evicted.len() as u64 + u64::from(superseded.is_some());
        self.counts.evicted -= evicted.len() as u64;
        self.counts.restored += 1;
        self.go_on_behind(letter.number);
        if let Some(changes) = &mut self.changes {
            changes.was_restored(letter.record, letter.number);
        }
        self.insert(key, Arc::new(letter), bytes);
        Ok(Restored { superseded, evicted })
    }
}

impl<P> Drop for MemoryStore<P> {
    fn drop(&mut self) {
        discard(std::mem::take(&mut self.held).into_values().map(|held| held.letter));
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests;
