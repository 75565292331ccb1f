//! What a subscription remembers of what it has handled, as the documentation of idempotency says it.

use std::collections::BTreeMap;

use crate::storm_support::scenario::{Idempotent, Nanos};

pub(super) struct Keys<'s> {
    pub(super) form: &'s Idempotent,
    /// Whether a duplicate of what waits is dropped: else it is a second chance.
    drops_reserved: bool,
    /// The keys of messages that wait, with the message that has each.
    reserved: BTreeMap<String, u64>,
    /// The keys that were handled last, from the oldest, with the moment of each. A key may be there twice.
    handled: Vec<(String, Nanos)>,
    /// The moments that count of those that are remembered.
    moments: BTreeMap<String, Nanos>,
}

impl<'s> Keys<'s> {
    pub(super) fn new(form: &'s Idempotent, has_store: bool) -> Self {
        let drops_reserved = has_store || form.may_lose;
        let (reserved, moments) = (BTreeMap::new(), BTreeMap::new());
        Self { form, drops_reserved, reserved, handled: Vec::new(), moments }
    }

    /// Whether a message that comes with this key is a duplicate.
    pub(super) fn is_duplicate(&self, key: &str, now: Nanos) -> bool {
        match self.moments.get(key) {
            Some(at) => now - at <= self.form.lasts,
            None => self.drops_reserved && self.reserved.contains_key(key),
        }
    }

    /// Whether another message with this key has been handled since one came that waits.
    pub(super) fn was_handled(&self, key: &str) -> bool {
        self.moments.contains_key(key)
    }

    /// A message waits. What was handled longer ago than is remembered matters no more.
    pub(super) fn reserve(&mut self, key: &str, n: u64, now: Nanos) {
        self.reserved.entry(key.to_owned()).or_insert(n);
        if self.moments.get(key).is_some_and(|at| now - at > self.form.lasts) {
            self.moments.remove(key);
        }
    }

    /// A message is at its end, and was not handled.
    pub(super) fn release(&mut self, key: &str, n: u64) {
        self.reserved.retain(|reserved, whose| reserved != key || *whose != n);
    }

    /// A message was handled.
    pub(super) fn confirm(&mut self, key: &str, now: Nanos) {
        self.reserved.remove(key);
        self.moments.insert(key.to_owned(), now);
        self.handled.push((key.to_owned(), now));
        if self.handled.len() > self.form.keys {
            let (oldest, at) = self.handled.remove(0);
            // Unless it was handled anew, which may have been at the same moment.
            let is_anew = self.handled.iter().any(|(key, _)| *key == oldest);
            if !is_anew && self.moments.get(&oldest) == Some(&at) {
                self.moments.remove(&oldest);
            }
        }
    }
}
