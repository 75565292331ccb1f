//! Groups: dead letters that failed alike.

use super::entry::DeadLetter;
use super::fingerprint::Fingerprint;
use crate::broker::account::term::FailureKind;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Dead letters of one [`Fingerprint`].
///
/// Its Debug output does not show what the error said.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// What they have in common.
    pub fingerprint: Fingerprint,
    /// How they failed.
    pub kind: FailureKind,
    /// How many they are.
    pub count: u64,
    /// What the last error of the newest of them said, if it said something and that was kept.
    pub sample: Option<Box<str>>,
    /// The names of the subscriptions that failed, sorted.
    pub subscriptions: Vec<Arc<str>>,
    /// When the first of them became a dead letter for the first time.
    pub first_seen: SystemTime,
    /// When the last of them became a dead letter.
    pub last_seen: SystemTime,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("fingerprint", &self.fingerprint)
            .field("kind", &self.kind)
            .field("count", &self.count)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}

/// A group that is being counted.
struct Growing<'a, P> {
    newest: &'a DeadLetter<P>,
    count: u64,
    subscriptions: BTreeSet<&'a Arc<str>>,
    first_seen: SystemTime,
    last_seen: SystemTime,
}

/// Puts letters, which come from the oldest, into groups. The largest group comes first.
pub(super) fn groups<'a, P: 'a>(letters: impl Iterator<Item = &'a DeadLetter<P>>) -> Vec<Group> {
    let mut growing = BTreeMap::<Fingerprint, Growing<'a, P>>::new();
    for letter in letters {
        let group = growing.entry(letter.fingerprint()).or_insert_with(|| Growing {
            newest: letter,
            count: 0,
            subscriptions: BTreeSet::new(),
            first_seen: letter.first_at_wall,
            last_seen: letter.dead_at_wall,
        });
        group.newest = letter;
        group.count += 1;
        group.subscriptions.insert(&letter.subscription);
        group.first_seen = group.first_seen.min(letter.first_at_wall);
        group.last_seen = group.last_seen.max(letter.dead_at_wall);
    }
    let grown = growing.into_iter().map(|(fingerprint, group)| Group {
        fingerprint,
        kind: group.newest.kind,
        count: group.count,
        sample: group.newest.last_error().map(Into::into),
        subscriptions: group.subscriptions.into_iter().cloned().collect(),
        first_seen: group.first_seen,
        last_seen: group.last_seen,
    });
    let mut groups: Vec<Group> = grown.collect();
    groups.sort_by_key(|group| Reverse(group.count));
    groups
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::samples::{history, letter, seconds, wall};
    use super::super::{DeadLetterOptions, MemoryStore, Selection};
    use super::*;

    #[test]
    fn letters_that_failed_alike_are_one_group() {
        let mut store = MemoryStore::new(DeadLetterOptions::new());
        let failures = [
            ("billing", "order 17 not found"),
            ("mail", "server is down"),
            ("audit", "order 18 not found"),
            ("billing", "order 19 not found"),
        ];
        for (number, (name, text)) in (0..).zip(failures) {
            let mut new = letter(number, name);
            new.history = history(&["something else", text]);
            store.put(new, seconds(number), wall(seconds(number))).discard();
        }
        let groups = store.groups(&Selection::all(), seconds(9));
        let [orders, server] = &groups[..] else { panic!("{groups:?}") };
        assert_eq!((orders.count, orders.sample.as_deref()), (3, Some("order 19 not found")));
        assert_eq!(orders.fingerprint, Fingerprint::of(FailureKind::Handler, Some("order # not found")));
        assert_eq!(orders.subscriptions, ["audit".into(), "billing".into()]);
        assert_eq!((orders.first_seen, orders.last_seen), (wall(seconds(0)), wall(seconds(3))));
        assert_eq!((server.count, server.sample.as_deref()), (1, Some("server is down")));
        let of_mail = store.groups(&Selection::all().subscription("mail"), seconds(9));
        assert_eq!(of_mail.iter().collect::<Vec<_>>(), [server]);
        assert!(!format!("{groups:?}").contains("server is down"));
    }
}
