//! Idempotency: a message that has been handled once is not handled again when it comes once more.
//!
//! What is the same is told by a [key](super::key). The key of a message that was handled is *confirmed*: it is
//! remembered for a time, up to a number of keys, and what comes with it meanwhile is dropped as a duplicate. The key
//! of a message that waits, for a pause or for another attempt, is *reserved* by it: whether it will be handled is
//! not known yet.
//!
//! ```text
//!            waits                 handled
//!   unknown ───────► reserved ────────────────► confirmed ──► forgotten: too old, or too many
//!      ▲  │             │                          ▲
//!      │  └─────────────┼──────────────────────────┘ handled at once
//!      └────────────────┘ given up, a dead letter, expired
//! ```
//!
//! A retry is no duplicate of its own first attempt, since it is the one that has the reservation. A dead letter that
//! is replayed is delivered whatever is remembered, since somebody wants it handled; its key is confirmed then.

use super::key::{Key, KeyBy};
use super::recent::Recent;
use crate::clock::Timestamp;
use crate::message::{Message, MessageId};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// What a subscription remembers of the messages that it has handled.
/// See [`SubscriptionBuilder::idempotent`](crate::broker::SubscriptionBuilder::idempotent).
///
/// ```
/// use ringmain::broker::{Idempotency, key};
/// use std::time::Duration;
///
/// let once = Idempotency::<u64>::by(key::header("order")).keys(100_000).remember_for(Duration::from_secs(3_600));
/// # let _ = once;
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until a subscription has it"]
pub struct Idempotency<P> {
    by: KeyBy<P>,
    keys: usize,
    remembered_for: Duration,
    may_lose: bool,
}

impl<P> Idempotency<P> {
    /// Tells messages apart by that key, and remembers 10,000 keys for at most 2 minutes each.
    pub const fn by(key: KeyBy<P>) -> Self {
        Self { by: key, keys: 10_000, remembered_for: Duration::from_secs(120), may_lose: false }
    }

    /// Sets how many keys of messages that were handled are remembered: at least 1, at most 16,777,216. With one more,
    /// the oldest is forgotten. The memory is taken when the subscription begins: 48 to 96 bytes a key.
    pub const fn keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    /// Sets for how long a key is remembered after its message was handled, in the time of the broker's clock.
    pub const fn remember_for(mut self, time: Duration) -> Self {
        self.remembered_for = time;
        self
    }

    /// Drops what comes with the key of a message that still waits, although that message may be lost.
    ///
    /// Where the broker [keeps](crate::broker::BrokerBuilder::dead_letters) dead letters, such a duplicate is dropped
    /// in any case: the message that waits is handled, or kept. Where it does not, or where a message that waits gives
    /// way to newer ones ([`WhenFull::DropOldest`](crate::broker::WhenFull::DropOldest)), a duplicate is its second
    /// chance: it is delivered, and once one of both has been handled the other is dropped.
    pub const fn may_lose(mut self) -> Self {
        self.may_lose = true;
        self
    }

    /// Changes its key.
    pub(crate) fn with_key(self, change: impl FnOnce(KeyBy<P>) -> KeyBy<P>) -> Self {
        Self { by: change(self.by), ..self }
    }

    /// The most keys that can be remembered.
    pub(crate) const MOST_KEYS: usize = 1 << 24;

    /// Returns the number of keys, if that many cannot be remembered.
    pub(crate) fn check(&self) -> Result<(), usize> {
        if (1..=Self::MOST_KEYS).contains(&self.keys) { Ok(()) } else { Err(self.keys) }
    }
}

/// The keys that a consumer remembers for a subscription.
pub(crate) struct Keys<P> {
    by: KeyBy<P>,
    remembered_for: Duration,
    drops_reserved: bool,
    /// Which message waits that has a key.
    reserved: HashMap<Key, MessageId, Fold>,
    /// When the message of a key was handled.
    confirmed: Recent,
}

impl<P> Keys<P> {
    /// Remembers nothing yet. It is said whether a message that waits is certain to be handled, to be kept as a dead
    /// letter, or to expire.
    pub(crate) fn new(options: Idempotency<P>, keeps_what_waits: bool) -> Self {
        let Idempotency { by, keys, remembered_for, may_lose } = options;
        Self {
            by,
            remembered_for,
            drops_reserved: may_lose || keeps_what_waits,
            reserved: HashMap::default(),
            confirmed: Recent::new(keys),
        }
    }

    /// Returns the key of a message, if it has one. May run foreign code.
    #[inline(always)]
    pub(crate) fn key(&mut self, message: &Message<'_, P>) -> Option<Key> {
        self.by.key(message)
    }

    /// Returns whether a message that arrives with this key is a duplicate.
    #[inline(always)]
    pub(crate) fn is_duplicate(&self, key: Key, now: impl FnOnce() -> Timestamp) -> bool {
        match self.confirmed.get(key) {
            Some(at) => now().since(at) <= self.remembered_for,
            None => !self.reserved.is_empty() && self.drops_reserved && self.reserved.contains_key(&key),
        }
    }

    /// Returns whether a message that has waited with this key is a duplicate: another one with it has been handled
    /// meanwhile.
    pub(crate) fn was_handled(&self, key: Key) -> bool {
        self.confirmed.get(key).is_some()
    }

    /// Says that a message with this key waits. Another one that does, with the same key, keeps the reservation; and
    /// what was confirmed meanwhile stays so.
    pub(crate) fn reserve(&mut self, key: Key, id: MessageId, now: impl FnOnce() -> Timestamp) {
        if let Some(at) = self.confirmed.get(key) {
            if now().since(at) <= self.remembered_for {
                return;
            }
            self.confirmed.remove(key);
        }
        self.reserved.entry(key).or_insert(id);
    }

    /// Says that a message that has waited with this key does so no longer, and was not handled.
    pub(crate) fn release(&mut self, key: Key, id: MessageId) {
        if self.reserved.get(&key) == Some(&id) {
            self.reserved.remove(&key);
        }
    }

    /// Says that a message with this key has been handled.
    #[inline(always)]
    pub(crate) fn confirm(&mut self, key: Key, now: Timestamp) {
        if !self.reserved.is_empty() {
            self.reserved.remove(&key);
        }
        self.confirmed.confirm(key, now);
    }

    /// Drops it, with its closure, which is foreign.
    pub(crate) fn dismantle(self) {
        self.by.dismantle();
    }

    /// Returns how many keys are known.
    #[cfg(all(test, not(ringmain_loom)))]
    fn len(&self) -> usize {
        self.confirmed.len() + self.reserved.len()
    }
}

/// Hashes what is a hash already, or the number of a message, which nobody outside chooses: a key.
#[derive(Clone, Copy, Debug, Default)]
struct Fold;

impl BuildHasher for Fold {
    type Hasher = Folded;

    #[inline]
    fn build_hasher(&self) -> Folded {
        Folded(0)
    }
}

struct Folded(u64);

impl Hasher for Folded {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write_u128(&mut self, key: u128) {
        // Odd, and with as many ones as zeros in no order: 2^64 divided by the golden ratio.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        let folded = (key as u64 ^ ((key >> 64) as u64).rotate_left(32)).wrapping_mul(SPREAD);
        // A table looks at the lowest and the highest bits.
        self.0 = folded ^ folded >> 32;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u128(u128::from(self.0) << 8 | u128::from(*byte)));
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::key;
    use super::*;
    use crate::message::{Origin, PublisherId};

    const SECOND: Duration = Duration::from_secs(1);

    fn keys(most: usize, keeps_what_waits: bool) -> Keys<u64> {
        Keys::new(Idempotency::by(key::id()).keys(most).remember_for(SECOND * 10), keeps_what_waits)
    }

    fn at(seconds: u32) -> Timestamp {
        Timestamp::default().after(SECOND * seconds)
    }

    fn id(number: u64) -> MessageId {
        MessageId::new(Origin::random(), PublisherId::new(1), number)
    }

    #[test]
    fn what_was_handled_is_a_duplicate_until_its_time_is_over() {
        let mut keys = keys(10, true);
        assert!(!keys.is_duplicate(1, || at(0)));
        keys.confirm(1, at(0));
        assert!(keys.is_duplicate(1, || at(10)), "its last moment");
        assert!(!keys.is_duplicate(1, || at(11)));
        keys.confirm(1, at(11));
        assert!(keys.is_duplicate(1, || at(21)), "it counts from the last time it was handled");
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut keys = keys(3, true);
        for key in 0..5 {
            keys.confirm(key, at(0));
        }
        let known: Vec<_> = (0..5).filter(|&key| keys.is_duplicate(key, || at(0))).collect();
        assert_eq!((known, keys.len()), (vec![2, 3, 4], 3));
    }

    #[test]
    fn a_key_that_was_confirmed_anew_is_not_forgotten_with_its_first_time() {
        let mut keys = keys(2, true);
        keys.confirm(1, at(0));
        keys.confirm(1, at(11));
        keys.confirm(2, at(11));
        assert!(keys.is_duplicate(1, || at(12)));
    }

    #[test]
    fn a_reservation_is_its_own_messages_and_ends_with_it() {
        let mut keys = keys(10, true);
        let (first, second) = (id(1), id(2));
        keys.reserve(7, first, || at(0));
        assert!(keys.is_duplicate(7, || at(0)));
        assert!(!keys.was_handled(7), "a retry is not its own duplicate");
        keys.reserve(7, second, || at(0));
        keys.release(7, second);
        assert!(keys.is_duplicate(7, || at(0)), "it was not that one's to release");
        keys.release(7, first);
        assert!(!keys.is_duplicate(7, || at(0)));
    }

    #[test]
    fn without_dead_letters_a_duplicate_is_a_second_chance_while_the_first_waits() {
        let mut keys = keys(10, false);
        keys.reserve(7, id(1), || at(0));
        assert!(!keys.is_duplicate(7, || at(0)));
        keys.confirm(7, at(0));
        assert!(keys.was_handled(7), "the one that waits learns of it");
        assert!(keys.is_duplicate(7, || at(0)));
        keys.release(7, id(1));
        assert!(keys.is_duplicate(7, || at(0)), "and its end changes nothing");
    }

    #[test]
    fn what_was_handled_stays_so_while_another_with_its_key_waits() {
        let mut keys = keys(10, false);
        keys.confirm(7, at(0));
        keys.reserve(7, id(1), || at(1));
        assert!(keys.is_duplicate(7, || at(1)) && keys.was_handled(7));
        keys.reserve(7, id(1), || at(11));
        assert!(!keys.was_handled(7), "that was too long ago");
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_older() {
        let mut keys = keys(10, true);
        keys.confirm(1, at(20));
        keys.confirm(2, at(5));
        assert!(keys.is_duplicate(2, || at(25)), "it counts from the latest moment that was told");
        assert!(keys.is_duplicate(1, || at(5)));
    }
}
