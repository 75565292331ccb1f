//! The values of one pattern.
//!
//! A change of the table copies what it changes, and a pattern may have as many values as there are
//! subscriptions. So they stand in chunks, in a persistent map. A change copies one chunk and a
//! path of the map, and shares the rest with the version before.

use imbl::OrdMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::slice;
use std::sync::Arc;

/// The most values of a chunk. To copy one takes about as long as the rest of a change.
pub(crate) const MAX_CHUNK: usize = 128;

/// A chunk that comes down to this many values is put together with a small neighbour.
const MIN_CHUNK: usize = MAX_CHUNK / 4;

/// Some values in ascending order. Never changed: versions share it.
pub(crate) type Chunk<T> = Arc<[T]>;

/// A sorted set that costs no memory of its own while it has one element, which is the rule.
#[derive(Clone)]
pub(super) enum Values<T> {
    None,
    One(T),
    Few(Chunk<T>),
    Many(Arc<Chunked<T>>),
}

impl<T: Copy + Ord> Values<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Few(values) => values.len(),
            Self::Many(values) => values.count,
        }
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        match self {
            Self::None => false,
            Self::One(other) => other == value,
            Self::Few(values) => values.binary_search(value).is_ok(),
            Self::Many(values) => values.contains(value),
        }
    }

    pub(super) fn is_many(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    /// Returns the values and others, which ascend, in chunks that ascend.
    pub(super) fn chunks_with(&self, others: &[T]) -> Vec<Chunk<T>> {
        match self {
            Self::Many(values) => values.chunks_with(others),
            _ => unreachable!("asked of many alone"),
        }
    }

    /// Returns the values in ascending order, some at a time.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[T]> {
        let (some, many): (&[T], _) = match self {
            Self::None => (&[], None),
            Self::One(value) => (slice::from_ref(value), None),
            Self::Few(values) => (values, None),
            Self::Many(values) => (&[], Some(values.chunks())),
        };
        let some = (!some.is_empty()).then_some(some);
        some.into_iter().chain(many.into_iter().flatten().map(|chunk| &**chunk))
    }

    /// Adds all values to `found`.
    #[inline]
    pub(super) fn extend(&self, found: &mut Vec<T>) {
        match self {
            Self::None => {}
            Self::One(value) => found.push(*value),
            Self::Few(values) => found.extend_from_slice(values),
            Self::Many(values) => values.chunks().for_each(|chunk| found.extend_from_slice(chunk)),
        }
    }

    /// Adds a value that is not there.
    pub(super) fn insert(&mut self, value: T) {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(other) => {
                let (other, value) = (value.min(*other), value.max(*other));
                *self = Self::Few([other, value].into());
            }
            Self::Few(values) => {
                let values = with(values, value);
                *self = if values.len() <= MAX_CHUNK {
                    Self::Few(values.into())
                } else {
                    Self::Many(Arc::new(Chunked::of(&values)))
                };
            }
            Self::Many(values) => Arc::make_mut(values).insert(value),
        }
    }

    /// Takes out a value that is there.
    pub(super) fn remove(&mut self, value: &T) {
        match self {
            Self::None | Self::One(_) => *self = Self::None,
            Self::Few(values) => {
                *self = match *without(values, value) {
                    [last] => Self::One(last),
                    ref left => Self::Few(left.into()),
                };
            }
            Self::Many(values) => {
                let values = Arc::make_mut(values);
                values.remove(value);
                if values.count <= MAX_CHUNK / 2 {
                    let left: Vec<T> = values.chunks().flat_map(|chunk| chunk.iter().copied()).collect();
                    *self = Self::Few(left.into());
                }
            }
        }
    }
}

/// More values than one chunk holds.
#[derive(Clone)]
pub(super) struct Chunked<T> {
    /// By their first values.
    chunks: OrdMap<T, Chunk<T>>,
    count: usize,
}

impl<T: Copy + Ord> Chunked<T> {
    /// Creates two chunks of values that ascend.
    fn of(values: &[T]) -> Self {
        let mut chunked = Self { chunks: OrdMap::new(), count: values.len() };
        let (low, high) = values.split_at(values.len() / 2);
        chunked.put(low);
        chunked.put(high);
        chunked
    }

    /// Returns the chunks in ascending order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk<T>> {
        self.chunks.values()
    }

    fn chunks_with(&self, mut others: &[T]) -> Vec<Chunk<T>> {
        let mut all = Vec::with_capacity(self.count / (MAX_CHUNK / 2) + 1);
        let mut chunks = self.chunks().peekable();
        while let Some(chunk) = chunks.next() {
            // Those that belong before the next chunk.
            let end = match chunks.peek() {
                Some(next) => others.partition_point(|other| *other < next[0]),
                None => others.len(),
            };
            let (own, rest) = others.split_at(end);
            others = rest;
            if own.iter().all(|other| chunk.binary_search(other).is_ok()) {
                all.push(chunk.clone());
            } else {
                let mut merged = [chunk, own].concat();
                merged.sort();
                merged.dedup();
                all.extend(merged.chunks(MAX_CHUNK).map(Chunk::from));
            }
        }
        all
    }

    /// Returns the chunk where a value is, or would be: the last that begins at or before it, or
    /// else the first.
    fn chunk_of(&self, value: &T) -> Chunk<T> {
        let before = self.chunks.get_prev(value).map(|(_, chunk)| chunk);
        let chunk = before.or_else(|| self.chunks.get_min().map(|(_, chunk)| chunk));
        chunk.unwrap_or_else(|| unreachable!("there is more than one chunk holds")).clone()
    }

    fn next_chunk(&self, chunk: &[T]) -> Option<Chunk<T>> {
        let mut next = self.chunks.range((Excluded(chunk[0]), Unbounded));
        next.next().map(|(_, chunk)| chunk.clone())
    }

    fn chunk_before(&self, chunk: &[T]) -> Option<Chunk<T>> {
        self.chunks.range(..chunk[0]).next_back().map(|(_, chunk)| chunk.clone())
    }

    fn put(&mut self, chunk: &[T]) {
        self.chunks.insert(chunk[0], chunk.into());
    }

    fn replace(&mut self, old: &[T], new: &[T]) {
        if new.first() != Some(&old[0]) {
            self.chunks.remove(&old[0]);
        }
        if !new.is_empty() {
            self.put(new);
        }
    }

    fn contains(&self, value: &T) -> bool {
        self.chunk_of(value).binary_search(value).is_ok()
    }

    fn insert(&mut self, value: T) {
        self.count += 1;
        let chunk = self.chunk_of(&value);
        let longer = with(&chunk, value);
        if longer.len() <= MAX_CHUNK {
            return self.replace(&chunk, &longer);
        }
        // Values mostly ascend, and what they leave behind should be full chunks.
        if longer[MAX_CHUNK] == value {
            return match self.next_chunk(&chunk) {
                Some(next) if next.len() < MAX_CHUNK => self.replace(&next, &with(&next, value)),
                _ => self.put(&[value]),
            };
        }
        let (low, high) = longer.split_at(longer.len() / 2);
        self.replace(&chunk, low);
        self.put(high);
    }

    fn remove(&mut self, value: &T) {
        self.count -= 1;
        let chunk = self.chunk_of(value);
        let left = without(&chunk, value);
        self.replace(&chunk, &left);
        if left.is_empty() || left.len() > MIN_CHUNK {
            return;
        }
        let is_small = |other: &Chunk<T>| other.len() + left.len() <= MAX_CHUNK / 2;
        if let Some(next) = self.next_chunk(&left).filter(is_small) {
            self.chunks.remove(&next[0]);
            self.put(&[&left, &*next].concat());
        } else if let Some(before) = self.chunk_before(&left).filter(is_small) {
            self.chunks.remove(&left[0]);
            self.put(&[&*before, &left].concat());
        }
    }
}

/// Returns the values with one more, which is not there.
fn with<T: Copy + Ord>(values: &[T], value: T) -> Vec<T> {
    let at = values.partition_point(|other| *other < value);
    let mut longer = Vec::with_capacity(values.len() + 1);
    longer.extend_from_slice(&values[..at]);
    longer.push(value);
    longer.extend_from_slice(&values[at..]);
    longer
}

/// Returns the values without one that is there.
fn without<T: Copy + Ord>(values: &[T], value: &T) -> Vec<T> {
    values.iter().filter(|other| *other != value).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn in_order(values: &Values<u16>) -> Vec<u16> {
        values.slices().flatten().copied().collect()
    }

    fn chunks(values: &Values<u16>) -> Vec<Chunk<u16>> {
        match values {
            Values::None | Values::One(_) => Vec::new(),
            Values::Few(values) => vec![values.clone()],
            Values::Many(values) => values.chunks().cloned().collect(),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many values from one on, each so far from the one before.
        Insert(u16, u16, u16),
        Remove(u16, u16, u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let run = (0..1_000_u16, 1..400_u16, 1..7_u16);
        let step = prop_oneof![
            run.clone().prop_map(|(from, count, by)| Step::Insert(from, count, by)),
            run.prop_map(|(from, count, by)| Step::Remove(from, count, by)),
        ];
        prop::collection::vec(step, 1..20)
    }

    /// Returns the run's values, one way or the other.
    fn run(from: u16, count: u16, by: u16) -> Vec<u16> {
        let mut run: Vec<u16> = (0..count).map(|n| from + n * by).collect();
        if from.is_multiple_of(2) {
            run.reverse();
        }
        run
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn values_are_a_sorted_set_and_versions_never_change(steps in steps()) {
            let (mut values, mut model) = (Values::None, BTreeSet::new());
            for step in steps {
                let (version, then) = (values.clone(), model.clone());
                match step {
                    Step::Insert(from, count, by) => for value in run(from, count, by) {
                        prop_assert_eq!(values.contains(&value), model.contains(&value));
                        if model.insert(value) {
                            values.insert(value);
                        }
                    },
                    Step::Remove(from, count, by) => for value in run(from, count, by) {
                        if model.remove(&value) {
                            values.remove(&value);
                        }
                    },
                }
                prop_assert_eq!(in_order(&values), Vec::from_iter(model.iter().copied()));
                prop_assert_eq!(values.len(), model.len());
                let mut found = Vec::new();
                values.extend(&mut found);
                prop_assert_eq!(found, in_order(&values));
                prop_assert!(chunks(&values).iter().all(|chunk| (1..=MAX_CHUNK).contains(&chunk.len())));
                prop_assert_eq!(in_order(&version), Vec::from_iter(then));
            }
        }
    }

    fn filled(ascending: impl Iterator<Item = u16>) -> Values<u16> {
        let mut values = Values::None;
        ascending.for_each(|value| values.insert(value));
        values
    }

    #[test]
    fn a_change_shares_all_chunks_but_its_own() {
        let before = filled((0..20_000).map(|n| 2 * n));
        for value in [0, 1, 20_001, 39_998, 39_999] {
            let mut after = before.clone();
            if after.contains(&value) {
                after.remove(&value)
            } else {
                after.insert(value)
            }
            let old: BTreeSet<_> = chunks(&before).iter().map(|chunk| chunk.as_ptr().addr()).collect();
            let new = chunks(&after).iter().filter(|chunk| !old.contains(&chunk.as_ptr().addr())).count();
            assert!(new <= 2, "{value}: {new} of {} chunks are new", old.len());
        }
    }

    #[test]
    fn values_that_ascend_fill_their_chunks_and_few_that_stay_leave_few_chunks() {
        let mut values = filled(0..20_000);
        assert!(chunks(&values).len() <= 20_000 / MAX_CHUNK + 2, "{}", chunks(&values).len());
        for value in (0..20_000).filter(|value| value % 100 != 0) {
            values.remove(&value);
        }
        assert_eq!(values.len(), 200);
        assert!(chunks(&values).len() <= 2 * 200 / MIN_CHUNK, "{}", chunks(&values).len());
    }
}
