//! What a publisher remembers of the topics that it makes up at run time.
//!
//! The cache is bounded and belongs to one publisher: whoever invents topics without end thrashes his own cache and
//! nobody else's. Eviction is CLOCK (F. Corbató, "A paging experiment with the Multics system", 1968): a hit sets one
//! bit, and the hand, when room is needed, clears bits until it finds an entry without. A new entry starts without its
//! bit, so a topic that is used once is the first to go and a stream of them does not push out those in use.

use crate::topic::Topic;
use ahash::RandomState;
use std::collections::HashMap;
use std::fmt;

/// A bounded map from topic to `V`, for one owner.
///
/// A hit costs one hash and one comparison and allocates nothing. Memory grows with what is inserted and stays below
/// `capacity * (2 * size_of::<V>() + 170)` bytes, besides the topics' own text; misses do not add to it.
/// The hash is keyed at random for each cache, so nobody outside can choose topics that collide.
///
/// ```
/// use ringmain::routing::TopicCache;
/// use ringmain::topic::Topic;
///
/// let mut cache = TopicCache::new(1);
/// assert_eq!(cache.get("orders.eu"), None);
/// cache.insert(Topic::new("orders.eu")?, 7);
/// assert_eq!(cache.get("orders.eu"), Some(&mut 7));
///
/// let evicted = cache.insert(Topic::new("orders.us")?, 8);
/// assert_eq!(evicted, Some((Topic::new("orders.eu")?, 7)));
/// assert_eq!((cache.hits(), cache.misses(), cache.evictions()), (1, 1, 1));
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
pub struct TopicCache<V> {
    entries: Vec<Entry<V>>,
    /// Where each topic's entry stands.
    index: HashMap<Topic, u32, RandomState>,
    capacity: u32,
    /// The entry that is asked first whether it may stay.
    hand: usize,
    hits: u64,
    misses: u64,
    evictions: u64,
}

struct Entry<V> {
    topic: Topic,
    value: V,
    /// Whether it was hit since the hand last passed.
    was_hit: bool,
}

impl<V> TopicCache<V> {
    /// An empty cache for at most `capacity` topics, `u32::MAX` at most; 0 caches nothing. Allocates nothing yet.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::new(),
            index: HashMap::default(),
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            hand: 0,
            hits: 0,
            misses: 0,
            evictions: 0,
        }
    }

    /// The value of a topic, if it is here. `topic` need not be valid: what is invalid is never here.
    #[inline]
    pub fn get(&mut self, topic: &str) -> Option<&mut V> {
        let Some(&at) = self.index.get(topic) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let entry = &mut self.entries[at as usize];
        entry.was_hit = true;
        Some(&mut entry.value)
    }

    /// Puts a value in, and hands back what had to leave: the topic's former value if it had one, else an evicted
    /// entry if the cache was full, else nothing. A cache of capacity 0 hands back what was to be put in.
    ///
    /// May allocate until the capacity has been reached. Looks at each entry twice at most to find one to evict.
    pub fn insert(&mut self, topic: Topic, value: V) -> Option<(Topic, V)> {
        if let Some(&at) = self.index.get(&topic) {
            let former = std::mem::replace(&mut self.entries[at as usize].value, value);
            return Some((topic, former));
        }
        if self.capacity == 0 {
            return Some((topic, value));
        }
        let entry = Entry { topic: topic.clone(), value, was_hit: false };
        if self.entries.len() < self.capacity() {
            // No more than the capacity, which is below 2^32.
            self.index.insert(topic, self.entries.len() as u32);
            self.entries.push(entry);
            return None;
        }
        let at = self.advance_hand();
        let evicted = std::mem::replace(&mut self.entries[at], entry);
        self.index.remove(&evicted.topic);
        self.index.insert(topic, at as u32);
        self.evictions += 1;
        Some((evicted.topic, evicted.value))
    }

    /// Finds the entry to evict and leaves the hand behind it. There is at least one entry.
    fn advance_hand(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = if at + 1 == self.entries.len() { 0 } else { at + 1 };
            if !std::mem::take(&mut self.entries[at].was_hit) {
                return at;
            }
        }
    }

    /// Empties the cache and hands out all its values, in no particular order. The counters stay.
    pub fn drain(&mut self) -> impl Iterator<Item = V> {
        self.index.clear();
        self.hand = 0;
        self.entries.drain(..).map(|entry| entry.value)
    }

    /// How many topics are here, at most [`capacity`](Self::capacity).
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no topic is here.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many topics there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// How many calls of [`get`](Self::get) found their topic.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// How many calls of [`get`](Self::get) did not.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// How many entries had to leave for another topic.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }
}

impl<V> fmt::Debug for TopicCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicCache")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .field("hits", &self.hits)
            .field("misses", &self.misses)
            .field("evictions", &self.evictions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_new_topics_do_not_grow_the_tables() {
        for capacity in [1, 7, 8, 57, 64] {
            let mut cache = TopicCache::new(capacity);
            for n in 0..100 * capacity {
                cache.insert(Topic::new(&format!("made.up.{n}")).unwrap(), n);
            }
            assert!(cache.entries.capacity() <= 2 * capacity.max(4), "{}", cache.entries.capacity());
            // Removals make the hash table double once beyond its need, and no more.
            assert!(cache.index.capacity() <= 4 * capacity, "{}", cache.index.capacity());
        }
    }
}
