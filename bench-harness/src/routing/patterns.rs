//! The patterns and topics: a plant that reports its measurements, made from a fixed seed.
//!
//! A topic is `siteA.lineB.deviceC.measureD`. A site has 10 lines of 10 devices of 10 measures
//! each, and there is a site for every 4,000 patterns, so that a topic is matched by about ten
//! patterns however many there are:
//!
//! | of the patterns | form | each matches | a topic is matched by |
//! |---|---|---|---|
//! | 85 % | a topic, at random; most stand there more than once | 1 topic | 3.4 |
//! | 10 % | a topic with a `*` for its line, device or measure | 10 topics | 4 |
//! | 5 % | `siteA.lineB.deviceC.#`; 1 in 20 `siteA.lineB.#` or `siteA.#.measureD` | 10 or 100 topics | 3 |
//! | 1 in 5,000 | a topic with a `*` for its site | one of each site | up to 0.2 |
//! | 1 in 100,000 | `#.measureD` | a tenth of all | up to 1 |
//!
//! Beside them stand [`HALLS`] halls whose one topic each is `hallA.line0.device0.alarm`: a
//! thousand patterns match it, or a hundredth of all where there are fewer. They come from the same
//! lottery, and match nothing else that is published. Every pattern stands for a subscription of
//! its own, whose number is its place.

use ringmain::routing::{ConsumerAddr, Destination};
use ringmain::topic::{Pattern, Topic};

use crate::error::Error;
use crate::interrupt;

/// Everything that is drawn comes from it.
pub(super) const SEED: u64 = 0x5269_6E67_6D61_696E;

/// Patterns for each site.
const OF_A_SITE: usize = 4_000;
/// Lines of a site, devices of a line, measures of a device.
const BRANCHES: usize = 10;
const TOPICS_OF_A_SITE: usize = BRANCHES * BRANCHES * BRANCHES;
/// Halls, and the most patterns that match a hall's topic.
const HALLS: usize = 8;
const CROWD: usize = 1_000;
/// One hall's crowd is at most this part of all patterns.
const CROWDS_PART: usize = 100;
/// One pattern in so many has its wildcard in front.
const LEADING_STARS: usize = 5_000;
const LEADING_HASHES: usize = 100_000;
/// Patterns between two looks at the interrupt.
pub(super) const STRIDE: usize = 1_024;

/// Patterns, in no particular order, and the topics that they are about.
pub(super) struct Population {
    pub(super) patterns: Vec<Pattern>,
    sites: usize,
}

impl Population {
    /// So many patterns, at least one.
    pub(super) fn new(count: usize) -> Result<Self, Error> {
        let sites = (count / OF_A_SITE).max(1);
        let crowd = CROWD.min(count / CROWDS_PART);
        let mut numbers = Numbers(SEED);
        let halls = (0..HALLS * crowd).map(|number| Place::of_hall(number % HALLS));
        let mut texts: Vec<String> = halls.map(|place| place.pattern(&mut numbers)).collect();
        for number in texts.len()..count {
            if number % STRIDE == 0 {
                interrupt::check()?;
            }
            let place = Place::of_site(numbers.below(sites * TOPICS_OF_A_SITE));
            texts.push(match number {
                _ if number % LEADING_HASHES == LEADING_HASHES - 1 => format!("#.{}", place.measure),
                _ if number % LEADING_STARS == LEADING_STARS - 1 => place.starred(0),
                _ => place.pattern(&mut numbers),
            });
        }
        numbers.shuffle(&mut texts, count);
        let patterns = texts.iter().map(|text| Pattern::new(text).expect("valid by design")).collect();
        Ok(Self { patterns, sites })
    }

    /// Each pattern with the subscription that it stands for.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (&Pattern, Destination)> {
        self.patterns.iter().enumerate().map(|(number, pattern)| (pattern, destination(number)))
    }

    /// So many patterns more, of the same lottery; `turn` tells one draw from another.
    pub(super) fn more(&self, count: usize, turn: u64) -> Vec<Pattern> {
        let mut numbers = Numbers(SEED ^ (turn + 1));
        let mut one = || {
            let place = Place::of_site(numbers.below(self.sites * TOPICS_OF_A_SITE));
            Pattern::new(&place.pattern(&mut numbers)).expect("valid by design")
        };
        (0..count).map(|_| one()).collect()
    }

    /// So many topics in random order, each once; fewer where there are fewer.
    pub(super) fn topics(&self, count: usize) -> Vec<Topic> {
        let mut places: Vec<usize> = (0..self.sites * TOPICS_OF_A_SITE).collect();
        let count = count.min(places.len());
        Numbers(!SEED).shuffle(&mut places, count);
        places[..count].iter().map(|&place| Place::of_site(place).topic()).collect()
    }

    /// The topics that a crowd subscribes to.
    pub(super) fn crowded_topics() -> Vec<Topic> {
        (0..HALLS).map(|hall| Place::of_hall(hall).topic()).collect()
    }
}

/// The subscription of that number.
pub(super) fn destination(number: usize) -> Destination {
    Destination { consumer: ConsumerAddr::default(), subscription: number as u64 }
}

/// The words of a topic.
struct Place {
    site: String,
    line: String,
    device: String,
    measure: String,
}

impl Place {
    fn of_site(number: usize) -> Self {
        let [site, line, device] =
            [TOPICS_OF_A_SITE, BRANCHES * BRANCHES, BRANCHES].map(|size| number / size);
        Self {
            site: format!("site{site}"),
            line: format!("line{}", line % BRANCHES),
            device: format!("device{}", device % BRANCHES),
            measure: format!("measure{}", number % BRANCHES),
        }
    }

    fn of_hall(number: usize) -> Self {
        let [line, device, measure] = ["line0", "device0", "alarm"].map(str::to_owned);
        Self { site: format!("hall{number}"), line, device, measure }
    }

    fn text(&self) -> String {
        let Self { site, line, device, measure } = self;
        format!("{site}.{line}.{device}.{measure}")
    }

    fn topic(&self) -> Topic {
        Topic::new(&self.text()).expect("valid by design")
    }

    /// A pattern that matches it, by the lottery.
    fn pattern(&self, numbers: &mut Numbers) -> String {
        let Self { site, line, device, measure } = self;
        match (numbers.below(100), numbers.below(40)) {
            (0..10, draw) => self.starred(1 + draw % 3),
            (10..15, 0) => format!("{site}.{line}.#"),
            (10..15, 1) => format!("{site}.#.{measure}"),
            (10..15, _) => format!("{site}.{line}.{device}.#"),
            _ => self.text(),
        }
    }

    /// With a `*` instead of one word.
    fn starred(&self, word: usize) -> String {
        let mut words = [&*self.site, &*self.line, &*self.device, &*self.measure];
        words[word] = "*";
        words.join(".")
    }
}

/// A small generator of numbers: SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable
/// pseudorandom number generators", 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Brings random items to the first `count` places (R. Durstenfeld, "Random permutation",
    /// 1964).
    fn shuffle<T>(&mut self, items: &mut [T], count: usize) {
        for place in 0..count {
            let other = place + self.below(items.len() - place);
            items.swap(place, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use ringmain::routing::Trie;

    use super::*;

    const MANY: usize = 100_000;

    #[test]
    fn a_topic_is_matched_by_ten_patterns_and_a_crowded_one_by_a_thousand() {
        let population = Population::new(MANY).expect("not interrupted");
        let mut trie = Trie::new();
        for (pattern, subscription) in population.subscriptions() {
            trie.insert(pattern, subscription);
        }
        let mut found = Vec::new();
        let mut count = |topic: &Topic| {
            trie.matches(topic.as_str(), &mut found);
            found.len()
        };
        let mut counts: Vec<_> = population.topics(1_001).iter().map(&mut count).collect();
        counts.sort_unstable();
        assert!((9..=11).contains(&counts[500]), "{counts:?}");
        assert_eq!(Population::crowded_topics().iter().map(count).collect::<Vec<_>>(), [CROWD; HALLS]);
    }

    #[test]
    fn a_tenth_of_the_patterns_has_a_star_and_a_twentieth_a_hash() {
        let population = Population::new(MANY).expect("not interrupted");
        let with = |wildcard| {
            population.patterns.iter().filter(|pattern| pattern.as_str().contains(wildcard)).count()
        };
        assert_eq!(population.patterns.len(), MANY);
        assert!(with('*').abs_diff(MANY / 10) < MANY / 100, "{}", with('*'));
        assert!(with('#').abs_diff(MANY / 20) < MANY / 100, "{}", with('#'));
        let distinct: std::collections::BTreeSet<_> = population.patterns.iter().collect();
        assert!(distinct.len() < MANY * 3 / 4, "{} distinct ones", distinct.len());
    }

    #[test]
    fn any_number_of_patterns_can_be_had_and_the_same_ones_each_time() {
        for count in [1, 2, 99, 1_000] {
            let [one, other] = [count; 2].map(|count| Population::new(count).expect("not interrupted"));
            assert_eq!(one.patterns.len(), count);
            assert_eq!(one.patterns, other.patterns);
            assert_eq!(one.topics(10), other.topics(10));
            assert_eq!(one.topics(usize::MAX).len(), TOPICS_OF_A_SITE);
            assert_ne!(one.more(20, 0), one.more(20, 1));
        }
    }
}
