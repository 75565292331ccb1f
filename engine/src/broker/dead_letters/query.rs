//! Selections: which dead letters are meant.

use super::entry::DeadLetter;
use super::fingerprint::Fingerprint;
use crate::broker::account::term::FailureKind;
use crate::clock::Timestamp;
use crate::message::MessageId;
use crate::topic::Pattern;
use std::ops::{Bound, Range, RangeBounds};
use std::time::Duration;

/// Which dead letters are meant: those that are all of what it was told, from the oldest.
///
/// Each method narrows it. One that is called twice counts as it was called last.
///
/// Each letter is looked at, unless a message or a range of numbers is named: then only those are.
///
/// ```
/// use ringmain::broker::FailureKind;
/// use ringmain::broker::dead_letters::Selection;
/// use ringmain::topic::Pattern;
/// use std::time::Duration;
///
/// let old_panics = Selection::all()
///     .subscription("billing")
///     .topic(Pattern::new("orders.#")?)
///     .kind(FailureKind::Panic)
///     .older_than(Duration::from_secs(3_600))
///     .at_most(100);
/// # let _ = old_panics;
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a selection alone does nothing"]
pub struct Selection {
    subscription: Option<Box<str>>,
    topic: Option<Pattern>,
    kind: Option<FailureKind>,
    fingerprint: Option<Fingerprint>,
    pub(super) message: Option<MessageId>,
    least_age: Option<Duration>,
    age_limit: Option<Duration>,
    numbers: Range<u64>,
    pub(super) at_most: usize,
}

impl Selection {
    /// Means all of them.
    pub const fn all() -> Self {
        Self {
            subscription: None,
            topic: None,
            kind: None,
            fingerprint: None,
            message: None,
            least_age: None,
            age_limit: None,
            numbers: 0..u64::MAX,
            at_most: usize::MAX,
        }
    }

    /// Means those of the subscription of that name, whether it is still there or not.
    pub fn subscription(mut self, name: &str) -> Self {
        self.subscription = Some(name.into());
        self
    }

    /// Means those whose topic the pattern matches. A [`Topic`](crate::topic::Topic) will do as well.
    pub fn topic(mut self, pattern: impl Into<Pattern>) -> Self {
        self.topic = Some(pattern.into());
        self
    }

    /// Means those that became dead letters in that way. How their earlier attempts failed does not
    /// matter.
    pub fn kind(mut self, kind: FailureKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Means those of that [fingerprint](DeadLetter::fingerprint).
    pub fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// Means those of that message: one for each subscription that failed on it.
    pub fn message(mut self, id: MessageId) -> Self {
        self.message = Some(id);
        self
    }

    /// Means those that became dead letters that long ago, or longer. It is the last time that counts.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.least_age = Some(age);
        self
    }

    /// Means those that became dead letters less long ago than that. It is the last time that counts.
    pub fn newer_than(mut self, age: Duration) -> Self {
        self.age_limit = Some(age);
        self
    }

    /// Means those whose [number](DeadLetter::number) is in the range. An empty range means none.
    ///
    /// With [`at_most`](Self::at_most) it goes through many letters page by page.
    pub fn numbers(mut self, range: impl RangeBounds<u64>) -> Self {
        // No letter has the number `u64::MAX`, so that a range without its end can mean all.
        self.numbers.start = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        self.numbers.end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self
    }

    /// Means only so many of them, the oldest ones.
    pub fn at_most(mut self, count: usize) -> Self {
        self.at_most = count;
        self
    }

    /// Returns the numbers that are meant. Never a range that runs backwards.
    pub(super) fn number_range(&self) -> Range<u64> {
        let Range { start, end } = self.numbers;
        start.min(end)..end
    }

    /// Returns whether a letter is meant, but for how many are.
    pub(super) fn means<P>(&self, letter: &DeadLetter<P>, now: Timestamp) -> bool {
        fn agrees<T>(wanted: &Option<T>, is: impl FnOnce(&T) -> bool) -> bool {
            wanted.as_ref().is_none_or(is)
        }
        // What is cheap to see comes first.
        let age = letter.age(now);
        self.numbers.contains(&letter.number)
            && agrees(&self.kind, |kind| letter.kind == *kind)
            && agrees(&self.fingerprint, |fingerprint| letter.fingerprint() == *fingerprint)
            && agrees(&self.message, |id| letter.message.id == *id)
            && agrees(&self.least_age, |least| age >= *least)
            && agrees(&self.age_limit, |limit| age < *limit)
            && agrees(&self.subscription, |name| *letter.subscription == **name)
            && agrees(&self.topic, |pattern| pattern.matches(&letter.message.topic))
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::all()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::samples::{id, letter, seconds, wall};
    use super::super::{DeadLetterOptions, Fingerprint, MemoryStore};
    use super::*;
    use crate::topic::Topic;

    /// Ten letters, of the seconds 0 to 9 after the start. Even ones are of `billing`, the last three
    /// of one message, 7.
    fn ten() -> MemoryStore<()> {
        let mut store = MemoryStore::new(DeadLetterOptions::new());
        for second in 0..10 {
            let names = ["billing", "audit", "mail"];
            let name = if second < 7 { names[second as usize % 2] } else { names[second as usize - 7] };
            let mut new = letter(second.min(7), name);
            if second % 3 == 0 {
                new.kind = FailureKind::Panic;
            }
            if second == 4 {
                new.message.topic = Topic::new("invoices").unwrap();
            }
            store.put(new, seconds(second), wall(seconds(second))).discard();
        }
        store
    }

    fn numbers(selection: Selection) -> Vec<u64> {
        let (store, now) = (ten(), seconds(9));
        let found = store.query(&selection, now);
        assert_eq!(store.count(&selection, now), found.len());
        found.iter().map(|letter| letter.number).collect()
    }

    #[test]
    fn all_are_meant_from_the_oldest() {
        assert_eq!(numbers(Selection::all()), Vec::from_iter(0..10));
        assert_eq!(numbers(Selection::default()), Vec::from_iter(0..10));
    }

    #[test]
    fn each_condition_alone() {
        let panics = Fingerprint::of(FailureKind::Panic, Some("no"));
        let orders = Pattern::new("orders.*").unwrap();
        for (selection, meant) in [
            (Selection::all().subscription("billing"), &[0, 2, 4, 6, 7][..]),
            (Selection::all().subscription("bill"), &[]),
            (Selection::all().topic(orders), &[0, 1, 2, 3, 5, 6, 7, 8, 9]),
            (Selection::all().topic(Topic::new("invoices").unwrap()), &[4]),
            (Selection::all().kind(FailureKind::Panic), &[0, 3, 6, 9]),
            (Selection::all().fingerprint(panics), &[0, 3, 6, 9]),
            (Selection::all().message(id(7)), &[7, 8, 9]),
            (Selection::all().message(id(6)), &[6]),
            (Selection::all().message(id(8)), &[]),
            (Selection::all().at_most(2), &[0, 1]),
            (Selection::all().at_most(0), &[]),
        ] {
            assert_eq!(numbers(selection.clone()), meant, "{selection:?}");
        }
    }

    #[test]
    fn older_and_newer_part_at_one_age() {
        let age = Duration::from_secs(3);
        assert_eq!(numbers(Selection::all().older_than(age)), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(numbers(Selection::all().newer_than(age)), [7, 8, 9]);
    }

    #[test]
    fn numbers_may_be_any_range() {
        let all = Selection::all;
        assert_eq!(numbers(all().numbers(3..5)), [3, 4]);
        assert_eq!(numbers(all().numbers(3..=5)), [3, 4, 5]);
        assert_eq!(numbers(all().numbers(8..)), [8, 9]);
        assert_eq!(numbers(all().numbers(..2)), [0, 1]);
        assert_eq!(numbers(all().numbers((Bound::Excluded(7), Bound::Included(u64::MAX)))), [8, 9]);
        #[allow(clippy::reversed_empty_ranges)]
        for none in [5..5, 5..3, u64::MAX..0] {
            assert_eq!(numbers(all().numbers(none.clone())), [0; 0]);
            assert_eq!(numbers(all().message(id(7)).numbers(none)), [0; 0]);
        }
        assert_eq!(numbers(all().message(id(7)).numbers(8..9)), [8]);
    }

    #[test]
    fn conditions_together_all_hold_and_the_last_of_a_sort_counts() {
        let panics = Selection::all().kind(FailureKind::Handler).kind(FailureKind::Panic);
        assert_eq!(numbers(panics.clone().subscription("billing")), [0, 6]);
        assert_eq!(
            numbers(panics.subscription("billing").older_than(Duration::from_secs(4)).at_most(1)),
            [0]
        );
    }
}
