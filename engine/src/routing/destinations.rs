//! The destinations of a route: the subscriptions that a topic reaches.
//!
//! Most topics reach a few. The destinations of a topic that reaches many stand in chunks, which
//! the routing table, the route that it led to before, and the routes of other topics and
//! publishers share. So a change of the table costs what the chunks cost that it touches, in time
//! and in memory, and for each other chunk a pointer and a count.

use super::address::ConsumerAddr;
use super::trie::{Chunk, MAX_CHUNK, Trie};
use smallvec::SmallVec;
use std::sync::Arc;

/// A subscription as the routing table knows it: who it is, and which consumer owns its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The consumer that owns its handler.
    pub consumer: ConsumerAddr,
    /// The subscription's number, never used again.
    pub subscription: u64,
}

/// Some destinations in ascending order, each once.
#[derive(Clone, Debug)]
pub(crate) enum Destinations {
    /// As many as one chunk holds.
    Few(SmallVec<[Destination; 4]>),
    Many(Vec<Chunk<Destination>>),
}

impl Destinations {
    /// Finds what a topic reaches. `found` is room to work in.
    pub(crate) fn find(trie: &Trie<Destination>, topic: &str, found: &mut Vec<Destination>) -> Self {
        match trie.find(topic, found) {
            Some(chunks) => Self::Many(chunks),
            None => Self::new(found),
        }
    }

    /// Takes destinations in ascending order, each once.
    pub(crate) fn new(destinations: &[Destination]) -> Self {
        if destinations.len() <= MAX_CHUNK {
            Self::Few(destinations.into())
        } else {
            Self::Many(destinations.chunks(MAX_CHUNK).map(Arc::from).collect())
        }
    }

    /// Takes chunks of other destinations instead of chunks of its own that are the same.
    pub(crate) fn share(&mut self, others: &Self) {
        let (Self::Many(chunks), Self::Many(others)) = (self, others) else { return };
        let mut others = others.iter().peekable();
        for chunk in chunks {
            while others.next_if(|other| other.first() < chunk.first()).is_some() {}
            if let Some(other) = others.peek()
                && **other == *chunk
            {
                *chunk = (*other).clone();
            }
        }
    }

    /// Returns whether they are the same. Chunks that are shared are not looked into.
    pub(crate) fn is_same(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::Few(few), Self::Few(others)) => few == others,
            // Compares pointers first.
            (Self::Many(chunks), Self::Many(others)) => chunks == others,
            _ => false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slices().map(<[_]>::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slices().next().is_none()
    }

    /// Returns the destinations in ascending order, some at a time and never none.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[Destination]> {
        let (few, many): (&[Destination], &[Chunk<Destination>]) = match self {
            Self::Few(few) => (few, &[]),
            Self::Many(chunks) => (&[], chunks),
        };
        let few = (!few.is_empty()).then_some(few);
        few.into_iter().chain(many.iter().map(|chunk| &**chunk))
    }

    /// Returns the subscriptions of one consumer, in ascending order.
    pub(crate) fn of(&self, consumer: ConsumerAddr) -> impl Iterator<Item = u64> {
        self.slices().flat_map(move |slice| {
            let from = slice.partition_point(|to| to.consumer < consumer);
            let to = slice.partition_point(|to| to.consumer <= consumer);
            slice[from..to].iter().map(|to| to.subscription)
        })
    }

    /// Returns the dispatchers of the destinations in ascending order, each once.
    pub(crate) fn dispatchers(&self) -> SmallVec<[u16; 1]> {
        let mut dispatchers = SmallVec::<[u16; 1]>::new();
        let mut add = |to: &Destination| {
            if dispatchers.last() != Some(&to.consumer.dispatcher) {
                dispatchers.push(to.consumer.dispatcher);
            }
        };
        for slice in self.slices() {
            let (first, last) = (&slice[0], &slice[slice.len() - 1]);
            if first.consumer.dispatcher == last.consumer.dispatcher {
                add(first);
            } else {
                slice.iter().for_each(&mut add);
            }
        }
        dispatchers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::Pattern;
    use std::collections::BTreeSet;

    fn destination(dispatcher: u16, subscription: u64) -> Destination {
        Destination { consumer: ConsumerAddr { dispatcher, number: 0 }, subscription }
    }

    /// A trie of patterns, each with its destinations.
    fn trie(patterns: &[(&str, &[Destination])]) -> Trie<Destination> {
        let mut trie = Trie::new();
        for (pattern, destinations) in patterns {
            let pattern = Pattern::new(pattern).unwrap();
            destinations.iter().for_each(|to| assert!(trie.insert(&pattern, *to)));
        }
        trie
    }

    fn find(trie: &Trie<Destination>) -> Destinations {
        Destinations::find(trie, "a.b", &mut Vec::new())
    }

    fn addresses(destinations: &Destinations) -> BTreeSet<usize> {
        destinations.slices().map(|slice| slice.as_ptr().addr()).collect()
    }

    #[test]
    fn destinations_are_those_that_match_however_many() {
        let all: Vec<_> = (0..3_000).map(|n| destination((n % 3) as u16, n)).collect();
        for [many, more, few] in
            [[0, 0, 3], [100, 100, 100], [1_000, 0, 3], [1_000, 2_500, 0], [2_000, 1_000, 90]]
        {
            // They overlap, and lie between each other.
            let (one, two, three) = (&all[..many], &all[all.len() - more..], &all[1_500..1_500 + few]);
            let trie = trie(&[("a.*", one), ("a.#", two), ("#.b", three), ("b", &all)]);
            let mut expected = Vec::new();
            trie.matches("a.b", &mut expected);
            let found = find(&trie);
            assert_eq!(found.slices().flatten().copied().collect::<Vec<_>>(), expected);
            assert_eq!(found.len(), expected.len());
            assert!(found.slices().all(|slice| (1..=MAX_CHUNK).contains(&slice.len())));
            for dispatcher in 0..4 {
                let of = |to: &&Destination| to.consumer.dispatcher == dispatcher;
                let expected = expected.iter().filter(of).map(|to| to.subscription);
                assert!(found.of(destination(dispatcher, 0).consumer).eq(expected));
            }
            let dispatchers: BTreeSet<u16> = expected.iter().map(|to| to.consumer.dispatcher).collect();
            assert!(found.dispatchers().into_iter().eq(dispatchers));
        }
    }

    #[test]
    fn destinations_share_the_chunks_of_the_table_and_of_those_before() {
        let all: Vec<_> = (0..20_000).map(|n| destination(0, n)).collect();
        let mut trie =
            trie(&[("a.*", &all[..19_000]), ("#", &[all[3_000], all[19_500]]), ("*.b", &all[..2_000])]);
        let before = find(&trie);
        let pattern = Pattern::new("a.*").unwrap();
        assert!(trie.insert(&pattern, all[19_900]) && trie.remove(&pattern, &all[5_000]));
        let mut after = find(&trie);
        assert!(!after.is_same(&before));
        after.share(&before);
        let (old, new) = (addresses(&before), addresses(&after));
        assert!(old.len() >= 19_000 / MAX_CHUNK);
        assert!(
            new.difference(&old).count() <= 4,
            "{} of {} are new",
            new.difference(&old).count(),
            new.len()
        );
        let mut again = find(&trie);
        assert!(again.is_same(&after));
        again.share(&after);
        assert_eq!(addresses(&again), new);
    }
}
