//! The keys that were confirmed last, each with its moment: a table of a fixed size that forgets the oldest by itself.
//!
//! A confirmation has a number, one more than the one before it, and its cell is where that number falls in a ring.
//! Confirmations whose keys share a bucket are a chain: the bucket knows the number of the newest, and each cell that
//! of the one before it. What is too old to be remembered needs not be taken out, since its number tells: as a chain
//! goes from the newest to the oldest, it ends with the first such number. Numbers are never used again, so that a link
//! that has outlived its cell is no danger.
//!
//! ```text
//!   buckets   cells, by number, each with the one before it      three are remembered: 5, 6, 7
//!     ┌───┐     ┌─────┬─────┬─────┬─────┐
//!     │ 7 │     │  4  │  5  │  6  │  7  │     7 ──► 5 ──► 2, too old: the end
//!     │ 6 │     │ ► 1 │ ► 2 │ ► 4 │ ► 5 │     6 ──► 4, too old: the end
//!     └───┘     └─────┴─────┴─────┴─────┘
//! ```
//!
//! A key is in its chain once: one that is confirmed anew is taken out where it was. So a chain is no longer than there
//! are different keys in a bucket, and there are at least as many buckets as keys, and up to four times as many. Which
//! bucket a key has is left to [`Recent::bucket`], where it is said why nobody can fill one.

use super::key::Key;
use crate::clock::Timestamp;

/// The factors of a key's lower and higher half. They are odd, and badly approximated by fractions: 2^64 divided by the
/// golden ratio, and by the plastic number.
const LOW: u64 = 0x9E37_79B9_7F4A_7C15;
const HIGH: u64 = 0xC13F_A9A9_02A6_328F;

/// The confirmations that are remembered.
#[derive(Debug)]
pub(super) struct Recent {
    /// The number of each bucket's newest confirmation: 0 if it never had one.
    newest: Box<[u64]>,
    cells: Box<[Cell]>,
    /// How many bits of a hash tell no bucket.
    unused_bits: u32,
    /// How many confirmations are remembered.
    most: u64,
    /// The number of the last confirmation.
    last: u64,
    latest: Timestamp,
}

/// A confirmation.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    key: Key,
    at: Timestamp,
    /// The number of the one before it in its bucket.
    before: u64,
}

impl Recent {
    /// Remembers nothing yet, and so many keys at most, of which there is at least one. Takes all of its memory: 48 to
    /// 96 bytes a key.
    pub(super) fn new(most: usize) -> Self {
        let cells = most.max(1).next_power_of_two();
        let buckets = 2 * cells;
        let most = most.max(1) as u64;
        Self {
            newest: vec![0; buckets].into(),
            cells: vec![Cell::default(); cells].into(),
            unused_bits: u64::BITS - buckets.trailing_zeros(),
            most,
            // So that 0 is too old from the start.
            last: most,
            latest: Timestamp::default(),
        }
    }

    /// Returns when a key was confirmed last, if that is remembered.
    #[inline(always)]
    pub(super) fn get(&self, key: Key) -> Option<Timestamp> {
        let newest = *self.newest.get(self.bucket(key))?;
        if self.remembers(newest) { self.find(key, newest) } else { None }
    }

    /// Looks through a chain. A call of its own, since most keys are new.
    #[inline(never)]
    fn find(&self, key: Key, newest: u64) -> Option<Timestamp> {
        let mut number = newest;
        while self.remembers(number) {
            let cell = self.cells.get(self.place(number))?;
            if cell.key == key {
                return Some(cell.at);
            }
            number = cell.before;
        }
        None
    }

    /// Says that a key is confirmed now, and forgets the oldest if there is one too many.
    #[inline(always)]
    pub(super) fn confirm(&mut self, key: Key, now: Timestamp) {
        let number = self.last + 1;
        let (bucket, place) = (self.bucket(key), self.place(number));
        if self.newest.get(bucket).is_some_and(|newest| self.remembers(*newest)) {
            self.remove(key);
        }
        // Stamps of two cores can differ by a little.
        self.latest = self.latest.max(now);
        let (Some(newest), Some(cell)) = (self.newest.get_mut(bucket), self.cells.get_mut(place)) else {
            return;
        };
        *cell = Cell { key, at: self.latest, before: std::mem::replace(newest, number) };
        self.last = number;
    }

    /// Forgets a key.
    #[inline(never)]
    pub(super) fn remove(&mut self, key: Key) {
        let bucket = self.bucket(key);
        let Some(&newest) = self.newest.get(bucket) else { return };
        let (mut number, mut newer) = (newest, None);
        while self.remembers(number) {
            let place = self.place(number);
            let Some(cell) = self.cells.get(place) else { return };
            let before = cell.before;
            if cell.key == key {
                let link = match newer {
                    None => self.newest.get_mut(bucket),
                    Some(newer) => self.cells.get_mut(newer).map(|cell: &mut Cell| &mut cell.before),
                };
                if let Some(link) = link {
                    *link = before;
                }
                return;
            }
            (number, newer) = (before, Some(place));
        }
    }

    /// Whether a confirmation is one of those that are remembered: then its cell is its own.
    #[inline(always)]
    fn remembers(&self, number: u64) -> bool {
        self.last - number < self.most
    }

    #[inline(always)]
    fn place(&self, number: u64) -> usize {
        number as usize & (self.cells.len() - 1)
    }

    /// Where a key's chain begins: the highest bits of a sum of products.
    ///
    /// A key that is made of what somebody sends is two hashes with secret keys, which need no more. An id is two
    /// numbers that the broker counts, and the factors have them spread: a publisher's messages, every n-th of them, or
    /// the same ones of many publishers. Who wants one bucket's ids alone has to publish, for each, about as many
    /// messages that are not delivered here as there are buckets: more than it costs to look through the chain.
    #[inline(always)]
    fn bucket(&self, key: Key) -> usize {
        let (low, high) = (key as u64, (key >> 64) as u64);
        (low.wrapping_mul(LOW).wrapping_add(high.wrapping_mul(HIGH)) >> self.unused_bits) as usize
    }

    /// Returns how many keys are remembered.
    #[cfg(all(test, not(ringmain_loom)))]
    pub(super) fn len(&self) -> usize {
        self.newest.iter().map(|newest| self.chain(*newest)).sum()
    }

    /// Returns how long a chain is.
    #[cfg(all(test, not(ringmain_loom)))]
    fn chain(&self, newest: u64) -> usize {
        let mut numbers =
            std::iter::successors(Some(newest), |number| Some(self.cells[self.place(*number)].before));
        std::iter::from_fn(|| numbers.next().filter(|number| self.remembers(*number))).count()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use std::collections::{HashMap, VecDeque};
    use std::time::Duration;

    /// What is remembered, told in the simplest way.
    struct Model {
        most: usize,
        last: VecDeque<(Key, u64)>,
        known: HashMap<Key, (Timestamp, u64)>,
        number: u64,
        latest: Timestamp,
    }

    impl Model {
        fn confirm(&mut self, key: Key, now: Timestamp) {
            self.number += 1;
            self.latest = self.latest.max(now);
            self.last.push_back((key, self.number));
            self.known.insert(key, (self.latest, self.number));
            if self.last.len() > self.most {
                let (oldest, number) = self.last.pop_front().expect("there are some");
                if self.known.get(&oldest).is_some_and(|known| known.1 == number) {
                    self.known.remove(&oldest);
                }
            }
        }
    }

    fn at(nanos: u64) -> Timestamp {
        Timestamp::default().after(Duration::from_nanos(nanos))
    }

    /// Different keys that have the same bucket in a table of any size.
    fn of_one_bucket(random: &mut fastrand::Rng, count: u64) -> Vec<Key> {
        // What the lower factor has to be multiplied by to be 1: each step has twice as many bits right.
        let inverse = (0..6)
            .fold(1u64, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(LOW.wrapping_mul(inverse))));
        let sum = random.u64(..);
        let low = |high: u64| sum.wrapping_sub(high.wrapping_mul(HIGH)).wrapping_mul(inverse);
        (0..count).map(|high| Key::from(high) << 64 | Key::from(low(high))).collect()
    }

    #[test]
    fn it_says_what_a_map_and_a_queue_say() {
        let seed = std::env::var("RINGMAIN_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        println!("RINGMAIN_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..400 {
            let most = random.usize(1..40);
            let count = random.usize(1..3 * most + 2);
            let keys = if round % 3 == 0 {
                of_one_bucket(&mut random, count as u64)
            } else {
                std::iter::repeat_with(|| random.u128(..)).take(count).collect()
            };
            let mut table = Recent::new(most);
            assert!(round % 3 != 0 || keys.iter().all(|key| table.bucket(*key) == table.bucket(keys[0])));
            let mut model = Model {
                most,
                last: VecDeque::new(),
                known: HashMap::new(),
                number: 0,
                latest: Timestamp::default(),
            };
            for step in 0..random.usize(0..12 * most) {
                let key = keys[random.usize(..keys.len())];
                if random.u32(..8) == 0 {
                    table.remove(key);
                    model.known.remove(&key);
                } else {
                    let now = at(random.u64(..1_000) + step as u64);
                    table.confirm(key, now);
                    model.confirm(key, now);
                }
                assert_eq!(table.len(), model.known.len(), "seed {seed}, round {round}, step {step}");
                for key in &keys {
                    let known = model.known.get(key).map(|known| known.0);
                    assert_eq!(
                        table.get(*key),
                        known,
                        "seed {seed}, round {round}, step {step}, key {key:x}"
                    );
                }
            }
        }
    }

    #[test]
    fn ids_of_one_and_of_many_publishers_are_spread() {
        const MOST: usize = 1_000;
        let chains = |keys: &mut dyn Iterator<Item = (u64, u64)>| {
            let mut table = Recent::new(MOST);
            for (publisher, sequence) in keys {
                table.confirm(Key::from(publisher) << 64 | Key::from(sequence), at(0));
            }
            table.newest.iter().map(|newest| table.chain(*newest)).max()
        };
        for stride in [1, 2, 3, 10, 64, 1_000, 1_024, 4_096] {
            let longest = chains(&mut (0..5_000).map(|number| (1, number * stride)));
            assert!(longest <= Some(8), "every {stride}th: {longest:?}");
        }
        for publishers in [2, 16, 100, 1_000, 5_000] {
            let longest = chains(&mut (0..5_000).map(|number| (number % publishers, number / publishers)));
            assert!(longest <= Some(8), "{publishers} publishers: {longest:?}");
        }
    }

    #[test]
    fn a_key_that_comes_again_and_again_makes_no_chain() {
        let mut table = Recent::new(1_000);
        for _ in 0..5_000 {
            table.confirm(7, at(0));
        }
        assert_eq!(table.len(), 1, "who has to look for another key of its bucket passes it once");
    }
}
