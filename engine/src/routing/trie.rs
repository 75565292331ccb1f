//! All patterns in one persistent tree.
//!
//! A path from the root spells a pattern, one edge a word; the node at its end holds the values of
//! that pattern. Nodes are shared between versions of the tree: a change copies the nodes on one
//! path, and only those that another version holds too (path copying: J. Driscoll, N. Sarnak, D.
//! Sleator, R. Tarjan, "Making data structures persistent", 1989).
//!
//! Matching simulates the automaton that the tree is. After each word of the topic a set of nodes
//! is live, and a word takes each of them to at most two others: its child of that word and its `*`
//! child. A `#` child is live as soon as its parent is, and stays live to the end, because it takes
//! whatever comes. Hence the two sets that are kept: the *resident* `#` nodes, which only grow, and
//! the *moving* others. A moving node has one parent, which is live once, so it cannot be found
//! twice; a resident node can (`#.#`, or `#.a.#` at each `a`), and is then dropped by its address.
//! So each node is visited at most once a word, whatever the patterns are: no backtracking, no
//! recursion.
//!
//! Only the drop of a tree recurses, once for each word of a pattern, of which there are at most
//! [`MAX_WORDS`](crate::topic::MAX_WORDS).

mod key;
mod node;
mod values;

use crate::topic::Pattern;
use key::KeyRef;
use node::Node;
use smallvec::SmallVec;
use std::fmt;
use std::ptr;
use values::Values;

pub(crate) use values::{Chunk, MAX_CHUNK};

/// A set of (pattern, value) pairs that finds all values whose pattern matches a topic.
///
/// `T` is a small id. A clone costs one reference count and is unaffected by what is done to the
/// original after: this is how a snapshot is taken.
///
/// | operation | cost |
/// |---|---|
/// | `clone` | one reference count |
/// | `insert`, `remove` | the nodes on the pattern's path, copied if a clone shares them, with up to 32 children each; of N values of that pattern up to 128, and log N steps to them |
/// | `matches` | each live node once a word, at most `node_count` nodes; then the sorting of what was found |
///
/// # The worst case
///
/// For a topic of n words `matches` looks at n + 1 times `node_count` nodes at most, at 10 to 50 ns
/// each. Patterns come near it that are made of wildcards and of a word which the topic repeats.
/// Take as many as there are, 3,000 at most, of 16 words `a`, `*` and `#`, and a topic of 32 words
/// `a`:
///
/// | wildcards a pattern | patterns | nodes looked at |
/// |---|---|---|
/// | any number | 3,000 | 700,000: 15 ms in a measurement |
/// | 3 at most | 3,000 | 200,000 |
/// | 2 at most | 513 | 40,000 |
/// | 1 at most | 33 | 3,000 |
///
/// Where patterns have k wildcards at most, fewer than 2 (n + 1)²ᵏ nodes are live after n words,
/// whatever the number of patterns: each wildcard is told apart by the words of the topic where its
/// share begins and ends. So a cap of 1 or 2 keeps a match short, and one of 3 or more does little.
/// A broker has it as [`max_wildcards`](crate::broker::BrokerBuilder::max_wildcards).
///
/// ```
/// use ringmain::routing::Trie;
/// use ringmain::topic::Pattern;
///
/// let mut trie = Trie::new();
/// trie.insert(&Pattern::new("orders.*.created")?, 7);
/// trie.insert(&Pattern::new("orders.#")?, 3);
/// trie.insert(&Pattern::new("#.created")?, 3);
///
/// let mut found = Vec::new();
/// trie.matches("orders.eu.created", &mut found);
/// assert_eq!(found, [3, 7]);
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
#[derive(Clone)]
pub struct Trie<T> {
    root: Node<T>,
    pattern_count: usize,
    value_count: usize,
}

impl<T: Copy + Ord> Trie<T> {
    /// Creates a trie without patterns.
    pub fn new() -> Self {
        Self { root: Node::new(), pattern_count: 0, value_count: 0 }
    }

    /// Adds `value` under `pattern`, and returns whether it was not there. Copies nothing if it
    /// was.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> bool {
        if self.contains(pattern, &value) {
            return false;
        }
        let mut node = &mut self.root;
        for segment in pattern.segments() {
            node = node.child_or_new(segment.into());
        }
        node.insert_value(value);
        self.value_count += 1;
        self.pattern_count += usize::from(node.values().len() == 1);
        true
    }

    /// Takes `value` from under `pattern`, and returns whether it was there. Copies nothing if it
    /// was not; leaves no node behind that serves no pattern.
    pub fn remove(&mut self, pattern: &Pattern, value: &T) -> bool {
        // The branch point: the last node on the way that has another purpose than to lead to this
        // pattern.
        let mut branch_point = 0;
        let mut end = &self.root;
        for (depth, segment) in pattern.segments().enumerate() {
            if end.child_count() > 1 || end.values().len() > 0 {
                branch_point = depth;
            }
            let Some(child) = end.child(segment.into()) else { return false };
            end = child;
        }
        let values = end.values();
        if !values.contains(value) {
            return false;
        }
        let is_last_value = values.len() == 1;
        let ends_branch = is_last_value && end.child_count() == 0;

        self.value_count -= 1;
        self.pattern_count -= usize::from(is_last_value);
        let mut node = &mut self.root;
        for (depth, segment) in pattern.segments().enumerate() {
            if ends_branch && depth == branch_point {
                node.remove_child(segment.into());
                return true;
            }
            node = node.child_or_new(segment.into());
        }
        node.remove_value(value);
        true
    }

    /// Returns whether `value` stands under `pattern` itself. Does not match.
    pub fn contains(&self, pattern: &Pattern, value: &T) -> bool {
        self.end_of(pattern).is_some_and(|end| end.values().contains(value))
    }

    /// Returns the values under `pattern` itself, in ascending order. Does not match.
    pub fn values(&self, pattern: &Pattern) -> impl Iterator<Item = &T> {
        self.end_of(pattern).into_iter().flat_map(|end| end.values().slices()).flatten()
    }

    /// Returns the node at the end of a pattern's path.
    fn end_of(&self, pattern: &Pattern) -> Option<&Node<T>> {
        let mut segments = pattern.segments();
        segments.try_fold(&self.root, |node, segment| node.child(segment.into()))
    }

    /// Puts into `found` the values of all patterns that match `topic`: sorted, each once, and
    /// nothing else.
    ///
    /// `topic` is trusted to be valid; [`Topic`](crate::topic::Topic) and
    /// [`validate`](crate::topic::validate) see to that. For any other text the answer means
    /// nothing. Allocates only where `found` has no room, where more than 16 nodes are live at
    /// once, or to sort some hundreds of values.
    pub fn matches(&self, topic: &str, found: &mut Vec<T>) {
        self.count_visits(topic, found);
    }

    /// Does the work of [`matches`](Self::matches), and returns how many nodes it has looked at.
    fn count_visits(&self, topic: &str, found: &mut Vec<T>) -> usize {
        let (live, visits) = self.follow(topic);
        collect(live.values(), found);
        visits
    }

    /// Does what [`matches`](Self::matches) does, unless a pattern has very many values. Those stay
    /// in their chunks: then returns chunks, in ascending order, of all values that match, and what
    /// is put into `found` means nothing.
    pub(crate) fn find(&self, topic: &str, found: &mut Vec<T>) -> Option<Vec<Chunk<T>>> {
        let (live, _) = self.follow(topic);
        let largest = live.values().filter(|values| values.is_many()).max_by_key(|values| values.len());
        let is_other = |values: &&Values<T>| !largest.is_some_and(|largest| ptr::eq(largest, *values));
        collect(live.values().filter(is_other), found);
        largest.map(|largest| largest.chunks_with(found))
    }

    /// Returns the nodes that are live after a topic's last word, and how many have been looked at.
    fn follow(&self, topic: &str) -> (Live<'_, T>, usize) {
        let mut live = Live::at_root(&self.root);
        let mut visits = 0;
        let mut words = topic.split('.').peekable();
        while let Some(word) = words.next() {
            visits += live.resident.len() + live.moving.len();
            live.step(KeyRef::word(word), words.peek().is_none());
        }
        visits += live.resident.len() + live.moving.len();
        (live, visits)
    }

    /// Returns how many patterns have a value.
    pub fn pattern_count(&self) -> usize {
        self.pattern_count
    }

    /// Returns how many (pattern, value) pairs there are.
    pub fn value_count(&self) -> usize {
        self.value_count
    }

    /// Returns whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.value_count == 0
    }

    /// Returns how many nodes there are, the root among them: 1 for an empty trie. Walks them all.
    pub fn node_count(&self) -> usize {
        let mut count = 0;
        let mut to_visit = vec![&self.root];
        while let Some(node) = to_visit.pop() {
            count += 1;
            node.children(&mut to_visit);
        }
        count
    }
}

impl<T: Copy + Ord> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Trie<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie")
            .field("pattern_count", &self.pattern_count)
            .field("value_count", &self.value_count)
            .finish_non_exhaustive()
    }
}

/// The live nodes; see the module's header.
struct Live<'a, T> {
    resident: SmallVec<[&'a Node<T>; 16]>,
    moving: SmallVec<[&'a Node<T>; 16]>,
    /// Room for the next `moving`.
    spare: SmallVec<[&'a Node<T>; 16]>,
}

impl<'a, T: Copy + Ord> Live<'a, T> {
    fn at_root(root: &'a Node<T>) -> Self {
        let mut live = Self { resident: SmallVec::new(), moving: SmallVec::new(), spare: SmallVec::new() };
        live.moving.push(root);
        live.settle_hashes();
        live
    }

    /// Returns the values of the live nodes.
    fn values(&self) -> impl Iterator<Item = &'a Values<T>> {
        self.resident.iter().chain(&self.moving).map(|node| node.values())
    }

    fn step(&mut self, word: KeyRef<'_>, is_last: bool) {
        self.spare.clear();
        for node in self.resident.iter().chain(&self.moving) {
            // A leaf has nothing to say before the topic's end, and is not touched.
            let is_live = |child: &&Node<T>| is_last || !child.is_leaf();
            if let Some(child) = node.child(KeyRef::Star).filter(is_live) {
                self.spare.push(child);
            }
            if let Some(child) = node.child(word).filter(is_live) {
                self.spare.push(child);
            }
        }
        std::mem::swap(&mut self.moving, &mut self.spare);
        self.settle_hashes();
    }

    /// Makes resident the `#` children of what is moving now, and theirs.
    fn settle_hashes(&mut self) {
        let settled = self.resident.len();
        for node in &self.moving {
            let mut node = *node;
            while let Some(hash) = node.child(KeyRef::Hash) {
                self.resident.push(hash);
                node = hash;
            }
        }
        if self.resident.len() > settled {
            self.resident.sort_unstable_by_key(|node| ptr::from_ref(*node).addr());
            self.resident.dedup_by(|a, b| ptr::eq(*a, *b));
        }
    }
}

/// Puts all values into `found`: sorted, each once, and nothing else.
fn collect<'a, T: Copy + Ord + 'a>(values: impl Iterator<Item = &'a Values<T>>, found: &mut Vec<T>) {
    found.clear();
    values.for_each(|values| values.extend(found));
    // The stable one merges what is sorted in parts, as each pattern's values are: a third less for
    // a thousand.
    found.sort();
    found.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection, prelude::*};
    use std::collections::BTreeSet;

    fn trie_of(patterns: &[String]) -> Trie<usize> {
        let mut trie = Trie::new();
        for (id, pattern) in patterns.iter().enumerate() {
            assert!(trie.insert(&Pattern::new(pattern).unwrap(), id), "{pattern} is given twice");
        }
        trie
    }

    /// Returns 31 words that are all alike, the worst that can meet many `#`.
    fn monotonous_topic() -> String {
        vec!["a"; 31].join(".")
    }

    #[test]
    fn each_node_is_visited_at_most_once_a_word() {
        // A backtracking matcher tries some 10^8 ways to split the topic among 15 `#`.
        let interleaved = vec!["#.a"; 15].join(".");
        let patterns = [
            format!("{interleaved}.b"),
            interleaved,
            vec!["#.*"; 15].join("."),
            vec!["#"; 15].join("."),
            format!("{}.b", vec!["#"; 15].join(".")),
            "*.#.a.#.*.#.b".to_owned(),
        ];
        let trie = trie_of(&patterns);
        let mut found = Vec::new();
        let visits = trie.count_visits(&monotonous_topic(), &mut found);
        assert_eq!(found, [1, 2, 3]);
        assert!(visits <= 32 * trie.node_count(), "{visits} visits of {} nodes", trie.node_count());
    }

    /// Returns patterns of 16 words, each once: a word is `a`, `*` or `#` at random, and so many at
    /// most are wildcards. Up to 3,000, as far as there are so many.
    fn hostile_patterns(max_wildcards: usize) -> Vec<String> {
        // G. Marsaglia, "Xorshift RNGs", 2003.
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut patterns = BTreeSet::new();
        for _ in 0..30_000 {
            let mut words = ["a"; 16];
            for _ in 0..max_wildcards {
                words[random(16)] = ["a", "*", "#"][random(3)];
            }
            patterns.insert(words.join("."));
            if patterns.len() == 3_000 {
                break;
            }
        }
        patterns.into_iter().collect()
    }

    #[test]
    fn the_worst_case_is_what_the_documentation_says() {
        let topic = vec!["a"; 32].join(".");
        let visits = |max_wildcards| {
            let trie = trie_of(&hostile_patterns(max_wildcards));
            let visits = trie.count_visits(&topic, &mut Vec::new());
            println!("{max_wildcards}: {} patterns, {visits} nodes looked at", trie.pattern_count());
            assert!(visits <= 33 * trie.node_count());
            visits
        };
        // As many draws as words leave a third of these what they were.
        let by_cap = [64, 3, 2, 1].map(visits);
        let at_most = [750_000, 250_000, 50_000, 5_000];
        for (visits, at_most) in by_cap.into_iter().zip(at_most) {
            assert!((at_most / 2..at_most).contains(&visits), "{visits} of {at_most} nodes looked at");
        }
    }

    /// A pattern of `a` and `b` with one wildcard at most.
    fn tame_pattern() -> impl Strategy<Value = String> {
        let words = collection::vec(prop_oneof![Just("a"), Just("b")], 1..=32);
        (words, 0..64_usize, prop_oneof![Just("*"), Just("#")]).prop_map(|(mut words, at, wildcard)| {
            if let Some(word) = words.get_mut(at) {
                *word = wildcard;
            }
            words.join(".")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_cap_on_wildcards_bounds_a_match_whatever_the_number_of_patterns(
            patterns in collection::btree_set(tame_pattern(), 1..400),
            topic in collection::vec(prop_oneof![9 => Just("a"), 1 => Just("b")], 1..=32),
        ) {
            let trie = trie_of(&patterns.into_iter().collect::<Vec<_>>());
            let visits = trie.count_visits(&topic.join("."), &mut Vec::new());
            let bound: usize = (0..=topic.len()).map(|words| 2 * (words + 1).pow(2)).sum();
            prop_assert!(visits <= bound, "{visits} nodes looked at, more than {bound}");
        }
    }

    #[test]
    fn a_topic_that_nothing_matches_costs_what_it_shares_with_patterns() {
        let patterns: Vec<String> = (0..1000).map(|n| format!("site{n}.*.created")).collect();
        let mut found = Vec::new();
        assert_eq!(trie_of(&patterns).count_visits("elsewhere.eu.created.late", &mut found), 1);
        assert!(found.is_empty());
    }

    /// Returns whether what is at the end of a path of words is one and the same in two tries.
    fn is_shared(one: &Trie<usize>, other: &Trie<usize>, path: &[&str]) -> bool {
        let end = |trie: &Trie<usize>| {
            let node = path.iter().fold(&trie.root, |node, word| node.child(KeyRef::word(word)).unwrap());
            let Node::Narrow(edges) = node else { panic!("a leaf, or wide") };
            edges.as_ptr()
        };
        end(one) == end(other)
    }

    #[test]
    fn a_change_shares_all_nodes_off_its_path() {
        let patterns = ["left.x", "left.y", "right.x"].map(str::to_owned);
        let before = trie_of(&patterns);
        let mut after = before.clone();
        after.insert(&Pattern::new("left.z").unwrap(), 9);
        assert!(is_shared(&before, &after, &["right"]));
        assert!(!is_shared(&before, &after, &["left"]));
    }

    #[test]
    fn a_change_that_changes_nothing_copies_nothing() {
        let before = trie_of(&["a.b".to_owned()]);
        let mut after = before.clone();
        assert!(!after.insert(&Pattern::new("a.b").unwrap(), 0));
        assert!(!after.remove(&Pattern::new("a.b").unwrap(), &1));
        assert!(!after.remove(&Pattern::new("a.c").unwrap(), &0));
        assert!(is_shared(&before, &after, &[]));
    }
}
