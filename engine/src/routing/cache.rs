//! What a publisher remembers of the topics that it makes up at run time.
//!
//! The cache is bounded and belongs to one publisher: a publisher that invents topics without end
//! thrashes its own cache and nobody else's.
//!
//! # Eviction
//!
//! A hit gives an entry [`LIVES`]; a new entry has none. When room is needed, the search starts at
//! a random entry and goes from one to the next. Each look takes a life. The first entry without
//! one is the victim; after [`MAX_LOOKS`], the entry that had fewest. This is CLOCK with counts (A.
//! Smith, "Sequentiality and prefetching in database systems", 1978) without its hand. So
//!
//! * a topic that is used once is the first to go. A stream of such topics leaves those in use
//!   alone: 2,000 topics in use, in a cache of 4,096, are found 0.98 of the time although every
//!   other topic is new;
//! * a circle of somewhat more topics than there is room for keeps hitting: some of its topics
//!   survive by chance, are hit, and stay. By age, or by time since the last use, the victim would
//!   always be the topic that comes next;
//! * topics that are no longer in use leave after some looks.
//!
//! The price: when all topics in use change at once, the former ones keep their lives for a while.

use crate::topic::Topic;
use ahash::RandomState;
use std::collections::HashMap;
use std::fmt;

/// Looks that an entry outlives after a hit. More would keep what is out of use for longer; fewer
/// would evict topics that are in use but rarer than new ones.
const LIVES: u8 = 7;

/// The most entries that are looked at for a victim, so that an insertion takes bounded time.
const MAX_LOOKS: usize = 16;

/// A bounded map from topic to `V`, for one owner.
///
/// A hit takes one hash and one comparison and allocates nothing. Memory grows with what is
/// inserted and stays below `capacity * (2 * size_of::<V>() + 170)` bytes, besides the topics' own
/// text; misses do not add to it. Each cache keys its hash at random, so nobody outside can choose
/// topics that collide.
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
    /// The place of each topic's entry.
    index: HashMap<Topic, u32, RandomState>,
    capacity: u32,
    random: Random,
    hits: u64,
    misses: u64,
    evictions: u64,
}

struct Entry<V> {
    topic: Topic,
    value: V,
    /// Looks that it still outlives.
    lives: u8,
}

impl<V> TopicCache<V> {
    /// Creates an empty cache for at most `capacity` topics, `u32::MAX` at most; 0 caches nothing.
    /// Allocates nothing yet.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: Vec::new(),
            index: HashMap::default(),
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            random: Random(1),
            hits: 0,
            misses: 0,
            evictions: 0,
        }
    }

    /// Returns the value of a topic, if it is here. `topic` need not be valid: what is invalid is
    /// never here.
    #[inline]
    pub fn get(&mut self, topic: &str) -> Option<&mut V> {
        let Some(&at) = self.index.get(topic) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let entry = &mut self.entries[at as usize];
        entry.lives = LIVES;
        Some(&mut entry.value)
    }

    /// Puts a value in, and hands back what had to leave: the topic's former value if it had one,
    /// else an evicted entry if the cache was full, else nothing. A cache of capacity 0 hands back
    /// what was to be put in.
    ///
    /// May allocate until the capacity has been reached. Looks at 16 entries at most to find one to
    /// evict.
    pub fn insert(&mut self, topic: Topic, value: V) -> Option<(Topic, V)> {
        if let Some(&at) = self.index.get(&topic) {
            let former = std::mem::replace(&mut self.entries[at as usize].value, value);
            return Some((topic, former));
        }
        if self.capacity == 0 {
            return Some((topic, value));
        }
        let entry = Entry { topic: topic.clone(), value, lives: 0 };
        if self.entries.len() < self.capacity() {
            // No more than the capacity, which is below 2^32.
            self.index.insert(topic, self.entries.len() as u32);
            self.entries.push(entry);
            return None;
        }
        let at = self.victim();
        let evicted = std::mem::replace(&mut self.entries[at], entry);
        self.index.remove(&evicted.topic);
        self.index.insert(topic, at as u32);
        self.evictions += 1;
        Some((evicted.topic, evicted.value))
    }

    /// Finds the entry to evict. There is at least one entry.
    fn victim(&mut self) -> usize {
        let count = self.entries.len();
        let mut at = self.random.below(count);
        let mut victim = at;
        let mut fewest = u8::MAX;
        for _ in 0..MAX_LOOKS.min(count) {
            let entry = &mut self.entries[at];
            if entry.lives == 0 {
                return at;
            }
            if entry.lives < fewest {
                (victim, fewest) = (at, entry.lives);
            }
            entry.lives -= 1;
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        victim
    }

    /// Empties the cache and hands out all its values, in no particular order. The counters stay.
    pub fn drain(&mut self) -> impl Iterator<Item = V> {
        self.index.clear();
        self.entries.drain(..).map(|entry| entry.value)
    }

    /// Returns how many topics are here, at most [`capacity`](Self::capacity).
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no topic is here.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how many topics there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Returns how many calls of [`get`](Self::get) found their topic.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Returns how many calls of [`get`](Self::get) did not.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// Returns how many entries had to leave for another topic.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }
}

/// A source of numbers that look random, the same for each cache: to foresee a victim gives nobody
/// an advantage.
struct Random(u64);

impl Random {
    /// Returns a number below `bound`, which is below 2^32.
    fn below(&mut self, bound: usize) -> usize {
        // S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled",
        // 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((number * bound as u64) >> 32) as usize
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
