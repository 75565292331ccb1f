//! A pattern as an automaton: which topics it matches, and how two patterns relate.
//!
//! The states are the places between the words and `*` of a pattern, and a word of a topic takes a
//! set of live states to the next set (K. Thompson, "Regular expression search algorithm", 1968). A
//! `#` is a *loop*: a state that any word leaves as it is. So there are at most 33 states, the bits
//! of one `u64`: no recursion, no backtracking, however many `#` there are.
//!
//! # Normal form
//!
//! `#.*` and `*.#` are the same, at least one word: a loop on one side of a `*` may as well stand
//! on both. Here it does, and so patterns that differ only in where a `#` stands among `*` have the
//! same automaton. `#` alone is `*.#`, as there is no topic without words. Patterns of other
//! automata match other topics: their shortest topics tell the words apart, and those with one word
//! more, for which each pattern that has a `#` leaves room in a topic, tell the loops apart.
//!
//! # Covering
//!
//! Whether A covers B: whether A matches whatever B matches. A topic of B can be had by filling B:
//! a word of its own for each `*`, and any number of words for each `#`. A *fresh* word, one that A
//! does not contain, fills best: any other word leaves live whatever it leaves live. So only the
//! number of fresh words for each `#` is open.
//!
//! *Embedding*, one pass, finds A live at the end although each `#` of B could be of any length:
//! there, only loops of A stay live. By the normal form it does not matter where among `*` the `#`
//! of B stands. If B can be embedded in A, then A covers B: the same path through A serves all
//! fillings. If not, some filling, perhaps very long, is not matched: go from left to right and
//! always take the first place where the next words of A can stand within what lies between two `#`
//! of B. Give a `#` of B no words where those words of A, with the `*` beside them, come too close
//! to the last ones, and else more words than A has; then they can stand nowhere else and no
//! earlier. (In XPath this is the containment of paths of `/`, `//` and `*`: G. Miklau, D. Suciu,
//! "Containment and equivalence for a fragment of XPath", 2004.)
//!
//! That filling may be longer than a topic may be. So where B cannot be embedded, all fillings are
//! tried that fit in a topic. They are many, but only the states that they leave live count. A live
//! loop makes all states before it redundant: the loop matches whatever they match. Fresh words of
//! one byte fill best there too, and there always is one: there are 91 such words, and A has 32 at
//! most.

use super::limits::{MAX_BYTES, MAX_WORDS};
use super::segment::Segment;

/// The most states an automaton has: before each word, and the end.
const MAX_STATES: usize = MAX_WORDS + 1;

/// The most sets of live states that are followed at once to tell whether the limits of topics make
/// one pattern cover another. Patterns that people write need a few dozen.
const MAX_FILLINGS: usize = 512;

/// A pattern in normal form, ready to read words.
pub(super) struct Automaton<'a> {
    /// The word that leads from a state to the next one; none where any word does.
    words: [Option<&'a str>; MAX_WORDS],
    /// How many states are not the last.
    length: usize,
    /// The states from which any word leads to the next one.
    stars: u64,
    /// The states that any word leaves as they are.
    loops: u64,
}

/// What the fillings of a pattern up to some place leave live in another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Filling {
    live: u64,
    /// The fresh words that stand for `#`.
    words: usize,
}

impl<'a> Automaton<'a> {
    /// Builds the automaton of a pattern's segments, of which there are [`MAX_WORDS`] at most.
    pub(super) fn new(segments: impl Iterator<Item = Segment<'a>>) -> Self {
        let mut automaton = Self { words: [None; MAX_WORDS], length: 0, stars: 0, loops: 0 };
        for segment in segments {
            match segment {
                Segment::Word(word) => automaton.push(Some(word)),
                Segment::Star => automaton.push(None),
                Segment::Hash => automaton.loops |= 1 << automaton.length,
            }
        }
        if automaton.length == 0 {
            automaton.push(None);
        }
        automaton.spread_loops();
        automaton
    }

    fn push(&mut self, word: Option<&'a str>) {
        self.words[self.length] = word;
        self.stars |= u64::from(word.is_none()) << self.length;
        self.length += 1;
    }

    /// Brings the loops to both sides of each `*`.
    fn spread_loops(&mut self) {
        loop {
            let spread = self.loops | (self.loops & self.stars) << 1 | (self.loops >> 1) & self.stars;
            if spread == self.loops {
                return;
            }
            self.loops = spread;
        }
    }

    /// Returns whether these words, of which there is at least one, are a topic of the pattern.
    pub(super) fn matches<'w>(&self, words: impl Iterator<Item = &'w str>) -> bool {
        let mut live = 1;
        for word in words {
            live = self.step(live, Some(word));
            if live == 0 {
                return false;
            }
        }
        self.accepts(live)
    }

    /// Returns the states after a word; without one, after a fresh word.
    fn step(&self, live: u64, word: Option<&str>) -> u64 {
        let mut next = live & self.loops | (live & self.stars) << 1;
        if word.is_some() {
            let mut rest = live & !self.stars & !(1 << self.length);
            while rest != 0 {
                let at = rest.trailing_zeros();
                rest &= rest - 1;
                next |= u64::from(self.words[at as usize] == word) << (at + 1);
            }
        }
        next
    }

    fn accepts(&self, live: u64) -> bool {
        live & 1 << self.length != 0
    }

    fn has_loop(&self, state: usize) -> bool {
        self.loops & 1 << state != 0
    }

    fn has_star(&self, state: usize) -> bool {
        self.stars & 1 << state != 0
    }

    /// Returns whether all topics of `other` are topics of this one; see
    /// [`Pattern::covers`](super::Pattern::covers).
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.embeds(other) || self.matches_fillings(other, MAX_FILLINGS)
    }

    /// Returns whether this one matches all fillings of `other`, however long.
    fn embeds(&self, other: &Self) -> bool {
        let mut live = 1;
        for state in 0..=other.length {
            if other.has_loop(state) {
                live &= self.loops;
            }
            if state < other.length {
                live = self.step(live, other.words[state]);
            }
        }
        self.accepts(live)
    }

    /// Returns whether this one matches all fillings of `other` that are topics. False too where
    /// more than `most` would have to be told apart.
    fn matches_fillings(&self, other: &Self, most: usize) -> bool {
        let spare = other.spare_words();
        let mut fillings = vec![Filling { live: 1, words: 0 }];
        for state in 0..=other.length {
            // One `#` is enough where normal form has one on both sides of a `*`.
            let is_gap = other.has_loop(state)
                && !(state > 0 && other.has_star(state - 1) && other.has_loop(state - 1));
            if is_gap {
                for at in 0..fillings.len() {
                    let mut filling = fillings[at];
                    while filling.words < spare && filling.live != 0 {
                        filling = Filling { live: self.step(filling.live, None), words: filling.words + 1 };
                        fillings.push(filling);
                    }
                }
            }
            if state < other.length {
                for filling in &mut fillings {
                    filling.live = self.step(filling.live, other.words[state]);
                }
            }
            for filling in &mut fillings {
                filling.live = self.without_redundant(filling.live);
            }
            // A loop at the end matches whatever follows.
            fillings.retain(|filling| !(self.has_loop(self.length) && self.accepts(filling.live)));
            // Of those that leave the same live, the one with fewest words can go on in all the
            // ways of the others.
            fillings.sort_unstable();
            fillings.dedup_by_key(|filling| filling.live);
            if fillings.len() > most || fillings.first().is_some_and(|filling| filling.live == 0) {
                return false;
            }
        }
        fillings.iter().all(|filling| self.accepts(filling.live))
    }

    /// Leaves out the states before the last live loop.
    fn without_redundant(&self, live: u64) -> u64 {
        match (live & self.loops).checked_ilog2() {
            Some(last) => live & u64::MAX << last,
            None => live,
        }
    }

    /// Returns how many words of one byte a topic has room for, beside one for each word and `*` of
    /// the pattern.
    fn spare_words(&self) -> usize {
        let words = &self.words[..self.length];
        let bytes = words.iter().map(|word| word.map_or(1, str::len)).sum::<usize>() + self.length - 1;
        // Each has a dot.
        (MAX_WORDS - self.length).min((MAX_BYTES - bytes) / 2)
    }

    /// Returns whether some topic is one of both patterns: the shortest is looked for, by dynamic
    /// programming over the pairs of states.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        /// With one more byte, as each word is counted with a dot.
        const TOO_LONG: u16 = MAX_BYTES as u16 + 2;
        // The fewest bytes that lead to a pair of states, with as many words as there have been
        // rounds.
        let mut bytes = [[TOO_LONG; MAX_STATES]; MAX_STATES];
        bytes[0][0] = 0;
        for _ in 0..MAX_WORDS {
            let mut next = [[TOO_LONG; MAX_STATES]; MAX_STATES];
            for (mine, row) in bytes.iter().enumerate().take(self.length + 1) {
                for (theirs, &so_far) in row.iter().enumerate().take(other.length + 1) {
                    if so_far == TOO_LONG {
                        continue;
                    }
                    for (my_next, my_word) in self.moves(mine) {
                        for (their_next, their_word) in other.moves(theirs) {
                            let length = match (my_word, their_word) {
                                (Some(mine), Some(theirs)) if mine != theirs => continue,
                                (Some(word), _) | (None, Some(word)) => word.len(),
                                (None, None) => 1,
                            };
                            let best = &mut next[my_next][their_next];
                            // No more than twice 255.
                            *best = (*best).min(so_far + length as u16 + 1);
                        }
                    }
                }
            }
            if next[self.length][other.length] < TOO_LONG {
                return true;
            }
            bytes = next;
        }
        false
    }

    /// Returns where a word leads from a state, and which word; none where any does.
    fn moves(&self, state: usize) -> impl Iterator<Item = (usize, Option<&'a str>)> {
        let stay = self.has_loop(state).then_some((state, None));
        let advance = (state < self.length).then(|| (state + 1, self.words[state]));
        stay.into_iter().chain(advance)
    }

    /// Returns the pattern, its `#` behind the `*` beside it.
    pub(super) fn text(&self) -> String {
        if self.length == 1 && self.has_star(0) && self.has_loop(0) {
            return "#".to_owned();
        }
        let mut segments = Vec::with_capacity(MAX_WORDS);
        for state in 0..=self.length {
            if self.has_loop(state) && !self.has_star(state) {
                segments.push("#");
            }
            if state < self.length {
                segments.push(self.words[state].unwrap_or("*"));
            }
        }
        segments.join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_fillings_are_too_many_to_tell_apart_nothing_is_covered() {
        // Topics have room for eight words between the two runs, and 14 lies between the runs'
        // nearest words and farthest.
        let wide = format!("#.a.{}.a.#", ["*"; 13].join("."));
        let narrow = format!("{0}.#.{0}", ["a"; 12].join("."));
        let automaton = |text| Automaton::new(str::split(text, '.').map(Segment::of));
        let (wide, narrow) = (automaton(&wide), automaton(&narrow));
        assert!(!wide.embeds(&narrow));
        assert!(wide.matches_fillings(&narrow, MAX_FILLINGS));
        assert!(!wide.matches_fillings(&narrow, 1));
    }
}
