//! Routing against models that are obviously right: the trie, the table that publishers share, and their cache.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngAlgorithm, TestRng};
use ringmain::routing::{RoutingTable, TopicCache, Trie};
use ringmain::topic::{Pattern, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Model = BTreeSet<(String, u16)>;

/// The definition of matching, read aloud.
fn oracle(pattern: &[&str], topic: &[&str]) -> bool {
    match pattern.split_first() {
        None => topic.is_empty(),
        Some((&"#", rest)) => (0..=topic.len()).any(|taken| oracle(rest, &topic[taken..])),
        Some((&"*", rest)) => !topic.is_empty() && oracle(rest, &topic[1..]),
        Some((word, rest)) => topic.first() == Some(word) && oracle(rest, &topic[1..]),
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split('.').collect()
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect(text)
}

fn found(trie: &Trie<u16>, topic: &str) -> Vec<u16> {
    // What was in the vector before must not show.
    let mut found = vec![u16::MAX; 3];
    trie.matches(topic, &mut found);
    found
}

fn wanted(model: &Model, topic: &str) -> Vec<u16> {
    let topic = words(topic);
    let ids: BTreeSet<u16> =
        model.iter().filter(|(pattern, _)| oracle(&words(pattern), &topic)).map(|(_, id)| *id).collect();
    ids.into_iter().collect()
}

/// Checks everything that can be seen of a trie, its nodes among it: one for each beginning of a pattern.
fn assert_same(trie: &Trie<u16>, model: &Model) {
    let mut by_pattern: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    let mut beginnings: BTreeSet<Vec<&str>> = BTreeSet::from([Vec::new()]);
    for (text, id) in model {
        by_pattern.entry(text).or_default().push(*id);
        let words = words(text);
        beginnings.extend((1..=words.len()).map(|end| words[..end].to_vec()));
    }
    for (text, ids) in &by_pattern {
        assert!(trie.values(&pattern(text)).eq(ids), "under {text}");
    }
    assert_eq!(trie.pattern_count(), by_pattern.len());
    assert_eq!(trie.value_count(), model.len());
    assert_eq!(trie.is_empty(), model.is_empty());
    assert_eq!(trie.node_count(), beginnings.len());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(String, u16),
    Remove(String, u16),
    /// Removes one of those that are there.
    RemoveHeld(Index),
    Match(String),
    Snapshot,
}

fn text(alphabet: &'static [&'static str], max_words: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(select(alphabet), 1..=max_words).prop_map(|words| words.join("."))
}

/// One of the words of a node with many children, every other one too long to stand in the node.
fn wide_word(n: u8) -> String {
    if n.is_multiple_of(2) { format!("wide.w{n}") } else { format!("wide.a-rather-long-word-{n}") }
}

/// Few words, so that patterns meet, or one of many, so that nodes become wide.
fn any_pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => text(&["a", "b", "é", "*", "#", "#"], 6),
        1 => (0..80_u8).prop_map(wide_word),
        1 => (0..80_u8, text(&["a", "*", "#"], 2)).prop_map(|(n, rest)| format!("{}.{rest}", wide_word(n))),
        1 => select(&["wide", "wide.*", "wide.#", "wide.*.#"][..]).prop_map(str::to_owned),
    ]
}

fn any_topic() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => text(&["a", "b", "é"], 7),
        1 => (0..80_u8).prop_map(|n| format!("{}.a", wide_word(n))),
    ]
}

/// Words that begin alike, of characters of every width, of lengths around that which stands in a node itself.
const ALIKE: [&str; 12] = [
    "a",
    "ab",
    "abcdefghijklmn",
    "abcdefghijklmno",
    "abcdefghijklmnop",
    "abcdefghijklmnoq",
    "abcdefghijklmnopqrstuvwxyz",
    "abcdefghijklmé",
    "abcdefghijklmné",
    "日本",
    "日本語日本",
    "𝄞𝄞𝄞𝄞",
];
const ALIKE_OR_WILD: [&str; 14] = {
    let mut all = ["*"; 14];
    let mut n = 0;
    while n < ALIKE.len() {
        all[n] = ALIKE[n];
        n += 1;
    }
    all[13] = "#";
    all
};

/// A topic up to the limits of 32 words and 255 bytes, and a pattern that is like it but for some wildcards.
fn topic_and_pattern() -> impl Strategy<Value = (String, String)> {
    let word =
        (select(&["a", "é", "日", "𝄞"][..]), 1..40_usize).prop_map(|(letter, count)| letter.repeat(count));
    let replacement = prop_oneof![6 => Just(None), 1 => Just(Some("*")), 1 => Just(Some("#"))];
    proptest::collection::vec((word, replacement), 1..=32).prop_map(|words| {
        let (mut topic, mut pattern) = (String::new(), String::new());
        for (word, replacement) in words {
            if topic.len() + 1 + word.len() > 255 {
                break;
            }
            let dot = if topic.is_empty() { "" } else { "." };
            topic = topic + dot + &word;
            pattern = pattern + dot + replacement.unwrap_or(&word);
        }
        (topic, pattern)
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any_pattern(), 0..6_u16).prop_map(|(text, id)| Step::Insert(text, id)),
        1 => (any_pattern(), 0..6_u16).prop_map(|(text, id)| Step::Remove(text, id)),
        4 => any::<Index>().prop_map(Step::RemoveHeld),
        4 => any_topic().prop_map(Step::Match),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_trie_finds_what_the_definition_finds(
        patterns in proptest::collection::vec(text(&["a", "b", "é", "*", "#", "#"], 7), 1..24),
        topics in proptest::collection::vec(text(&["a", "b", "é"], 8), 1..12),
    ) {
        let mut trie = Trie::new();
        let mut model = Model::new();
        for (id, text) in (0..).zip(patterns) {
            prop_assert!(trie.insert(&pattern(&text), id));
            model.insert((text, id));
        }
        for topic in topics {
            prop_assert_eq!(found(&trie, &topic), wanted(&model, &topic), "{}", topic);
        }
    }

    #[test]
    fn words_that_begin_alike_are_told_apart(
        patterns in proptest::collection::btree_set(text(&ALIKE_OR_WILD, 4), 1..64),
        topics in proptest::collection::vec(text(&ALIKE, 4), 1..12),
    ) {
        let model: Model = patterns.into_iter().zip(0..).collect();
        let mut trie = Trie::new();
        for (text, id) in &model {
            prop_assert!(trie.insert(&pattern(text), *id));
        }
        assert_same(&trie, &model);
        for topic in topics {
            prop_assert_eq!(found(&trie, &topic), wanted(&model, &topic), "{}", topic);
        }
    }

    #[test]
    fn words_of_every_length_and_width_are_routed(
        cases in proptest::collection::vec(topic_and_pattern(), 1..8),
    ) {
        let model: Model = (0..).zip(&cases).map(|(id, (_, pattern))| (pattern.clone(), id)).collect();
        let mut trie = Trie::new();
        for (text, id) in &model {
            prop_assert!(trie.insert(&pattern(text), *id));
        }
        for (topic, _) in &cases {
            let topic = Topic::new(topic).unwrap();
            let matching = model.iter().filter(|(text, _)| pattern(text).matches(&topic));
            let wanted: BTreeSet<u16> = matching.map(|(_, id)| *id).collect();
            prop_assert!(!wanted.is_empty());
            prop_assert_eq!(found(&trie, topic.as_str()), Vec::from_iter(wanted));
        }
        for (text, id) in &model {
            prop_assert!(trie.remove(&pattern(text), id));
        }
        prop_assert_eq!(trie.node_count(), 1);
    }

    #[test]
    fn the_trie_and_pattern_matches_agree(
        patterns in proptest::collection::btree_set(text(&["a", "b", "*", "#"], 32), 1..8),
        topic in text(&["a", "b"], 32),
    ) {
        let topic = Topic::new(&topic).unwrap();
        let patterns: Vec<Pattern> = patterns.iter().map(|text| pattern(text)).collect();
        let mut trie = Trie::new();
        for (id, pattern) in (0..).zip(&patterns) {
            trie.insert(pattern, id);
        }
        let one_by_one: Vec<u16> =
            (0..).zip(&patterns).filter(|(_, pattern)| pattern.matches(&topic)).map(|(id, _)| id).collect();
        prop_assert_eq!(found(&trie, topic.as_str()), one_by_one);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_trie_is_a_set_of_pairs_and_snapshots_never_change(
        children_at_first in 0..80_u8,
        steps in proptest::collection::vec(any_step(), 1..300),
    ) {
        let mut trie = Trie::new();
        let mut model = Model::new();
        for n in 0..children_at_first {
            let text = wide_word(n);
            prop_assert!(trie.insert(&pattern(&text), 0));
            model.insert((text, 0));
        }
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Insert(text, id) => {
                    prop_assert_eq!(trie.insert(&pattern(&text), id), model.insert((text, id)));
                }
                Step::Remove(text, id) => {
                    prop_assert_eq!(trie.remove(&pattern(&text), &id), model.remove(&(text, id)));
                }
                Step::RemoveHeld(_) if model.is_empty() => {}
                Step::RemoveHeld(which) => {
                    let (text, id) = model.iter().nth(which.index(model.len())).unwrap().clone();
                    prop_assert!(trie.contains(&pattern(&text), &id));
                    prop_assert!(trie.remove(&pattern(&text), &id));
                    prop_assert!(!trie.contains(&pattern(&text), &id));
                    model.remove(&(text, id));
                }
                Step::Match(topic) => prop_assert_eq!(found(&trie, &topic), wanted(&model, &topic)),
                Step::Snapshot => snapshots.push((trie.clone(), model.clone())),
            }
        }
        snapshots.push((trie.clone(), model.clone()));
        for (text, id) in model {
            prop_assert!(trie.remove(&pattern(&text), &id));
        }
        assert_same(&trie, &Model::new());
        prop_assert_eq!(trie.node_count(), 1);
        for (trie, model) in &snapshots {
            assert_same(trie, model);
            for topic in ["a", "a.b", "b.a.é", "wide.w2.a", "wide.a-rather-long-word-3"] {
                prop_assert_eq!(found(trie, topic), wanted(model, topic));
            }
        }
    }

    #[test]
    fn the_cache_is_a_bounded_map(
        capacity in 0..12_usize,
        steps in proptest::collection::vec((0..24_u8, any::<bool>()), 1..300),
    ) {
        let mut cache = TopicCache::new(capacity);
        let mut model: BTreeMap<Topic, usize> = BTreeMap::new();
        let (mut hits, mut misses, mut evictions) = (0, 0, 0);
        for (value, (name, inserts)) in steps.into_iter().enumerate() {
            let topic = Topic::new(&format!("made.up.{name}")).unwrap();
            if inserts {
                match cache.insert(topic.clone(), value) {
                    Some(returned) if capacity == 0 => prop_assert_eq!(returned, (topic, value)),
                    Some((left, former)) => {
                        evictions += u64::from(left != topic);
                        prop_assert!(left == topic || model.len() == capacity, "room was left");
                        prop_assert_eq!(model.remove(&left), Some(former));
                        model.insert(topic, value);
                    }
                    None => prop_assert_eq!(model.insert(topic, value), None),
                }
            } else {
                let expected = model.get_mut(&topic);
                *(if expected.is_some() { &mut hits } else { &mut misses }) += 1;
                prop_assert_eq!(cache.get(topic.as_str()), expected);
            }
            prop_assert!(cache.len() <= capacity);
            prop_assert_eq!(cache.len(), model.len());
        }
        prop_assert_eq!((cache.hits(), cache.misses(), cache.evictions()), (hits, misses, evictions));
        let drained: BTreeSet<usize> = cache.drain().collect();
        prop_assert_eq!(drained, model.values().copied().collect::<BTreeSet<_>>());
        prop_assert!(cache.is_empty());
        prop_assert!(model.keys().all(|topic| cache.get(topic.as_str()).is_none()));
    }
}

#[test]
fn a_value_under_several_matching_patterns_is_found_once() {
    let mut trie = Trie::new();
    for text in ["orders.#", "#.created", "orders.*.created", "#", "*.eu.*", "orders.eu.created"] {
        assert!(trie.insert(&pattern(text), 5));
    }
    assert_eq!(found(&trie, "orders.eu.created"), [5]);
}

#[test]
fn a_prefix_of_a_pattern_is_another_pattern() {
    let mut trie = Trie::new();
    for (id, text) in (0..).zip(["a", "a.b", "a.b.c", "ab", "a.*", "a.#"]) {
        trie.insert(&pattern(text), id);
    }
    assert_eq!(found(&trie, "a"), [0, 5]);
    assert_eq!(found(&trie, "a.b"), [1, 4, 5]);
    assert!(trie.remove(&pattern("a.b"), &1));
    assert_eq!(found(&trie, "a.b"), [4, 5]);
    assert_eq!(found(&trie, "a.b.c"), [2, 5]);
}

#[test]
fn patterns_of_32_words_and_255_bytes_are_routed() {
    let deepest = vec!["größe.x"; 16].join(".");
    let longest = format!("{}.{}", "é".repeat(100), "ü".repeat(27));
    assert_eq!((Topic::new(&deepest).unwrap().word_count(), longest.len()), (32, 255));
    let mut trie = Trie::new();
    let patterns = [&*deepest, &longest, &vec!["#"; 32].join("."), &vec!["*"; 32].join(".")].map(pattern);
    for (id, pattern) in (0..).zip(&patterns) {
        trie.insert(pattern, id);
    }
    assert_eq!(found(&trie, &deepest), [0, 2, 3]);
    assert_eq!(found(&trie, &longest), [1, 2]);
    for (id, pattern) in (0..).zip(&patterns) {
        assert!(trie.remove(pattern, &id));
    }
    assert_eq!(trie.node_count(), 1);
}

#[test]
fn an_entry_that_is_used_outlives_a_stream_of_new_topics() {
    let mut cache = TopicCache::new(4);
    cache.insert(Topic::new("used").unwrap(), 0);
    for n in 1..1000 {
        assert!(cache.get("used").is_some(), "evicted before insertion {n}");
        cache.insert(Topic::new(&format!("once.{n}")).unwrap(), n);
    }
    assert_eq!((cache.len(), cache.evictions()), (4, 996));
}

#[test]
fn hits_misses_and_evictions_are_counted_once() {
    let mut cache = TopicCache::new(2);
    let topic = |n: u8| Topic::new(&format!("t{n}")).unwrap();
    for n in 0..5 {
        assert_eq!(cache.get(topic(n).as_str()), None);
        cache.insert(topic(n), n);
        assert_eq!(cache.get(topic(n).as_str()), Some(&mut { n }));
        assert_eq!(cache.get(topic(n).as_str()), Some(&mut { n }));
    }
    assert_eq!((cache.hits(), cache.misses(), cache.evictions()), (10, 5, 3));
}

#[test]
fn a_drained_cache_starts_again() {
    let mut cache = TopicCache::new(3);
    let topic = |n: u8| Topic::new(&format!("t{n}")).unwrap();
    for n in 0..4 {
        cache.insert(topic(n), n);
    }
    assert_eq!(cache.drain().count(), 3);
    for n in 4..7 {
        assert_eq!(cache.insert(topic(n), n), None);
    }
    assert!(cache.insert(topic(7), 7).is_some_and(|(_, n)| (4..7).contains(&n)));
}

/// How many of a hundred rounds of `topics` are found in a cache of so many, and by one that evicts at random.
fn hits_of_a_circle(topics: usize, capacity: usize) -> (f64, f64) {
    const ROUNDS: usize = 100;
    let names: Vec<Topic> = (0..topics).map(|n| Topic::new(&format!("t{n}")).unwrap()).collect();
    let mut cache = TopicCache::new(capacity);
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut ideal = Vec::new();
    let mut is_held = vec![false; topics];
    let mut ideal_hits = 0;
    for n in (0..ROUNDS).flat_map(|_| 0..topics) {
        if cache.get(names[n].as_str()).is_none() {
            cache.insert(names[n].clone(), n);
        }
        if is_held[n] {
            ideal_hits += 1;
        } else if ideal.len() < capacity {
            ideal.push(n);
            is_held[n] = true;
        } else {
            let victim = random.next_u32() as usize % capacity;
            is_held[std::mem::replace(&mut ideal[victim], n)] = false;
            is_held[n] = true;
        }
    }
    let all = (ROUNDS * topics) as f64;
    (cache.hits() as f64 / all, ideal_hits as f64 / all)
}

#[test]
fn a_circle_of_more_topics_than_there_is_room_for_is_found_as_often_as_by_chance() {
    const CAPACITY: usize = 512;
    for topics in [CAPACITY + 1, CAPACITY * 5 / 4, CAPACITY * 3 / 2, CAPACITY * 2] {
        let (hits, ideal) = hits_of_a_circle(topics, CAPACITY);
        assert!(hits >= ideal - 0.001, "{topics} topics: {hits:.4} where chance gives {ideal:.4}");
    }
}

#[test]
fn topics_in_use_stay_beside_ever_new_ones() {
    const CAPACITY: usize = 512;
    const LOOKS: usize = 30_000;
    // Of the capacity, and how many new topics come for each that is in use.
    for (in_use, new) in [(CAPACITY / 10, 9), (CAPACITY / 4, 1), (CAPACITY / 2, 1), (CAPACITY / 2, 0)] {
        let mut cache = TopicCache::new(CAPACITY);
        let mut hits = 0;
        let mut news = 0;
        for look in 0..LOOKS {
            let topic = format!("used.{}", look * 7_919 % in_use);
            match cache.get(&topic) {
                Some(_) => hits += 1,
                None => drop(cache.insert(Topic::new(&topic).unwrap(), look)),
            }
            for _ in 0..new {
                news += 1;
                cache.insert(Topic::new(&format!("new.{news}")).unwrap(), look);
            }
        }
        let rate = f64::from(hits) / LOOKS as f64;
        assert!(rate >= 0.98, "{in_use} topics in use, {new} new ones for each look: {rate:.4}");
    }
}

#[test]
fn topics_that_are_not_used_any_more_make_room() {
    const CAPACITY: usize = 512;
    let mut cache = TopicCache::new(CAPACITY);
    let mut hits = [0; 2];
    for (phase, round) in [0, 1].into_iter().flat_map(|phase| (0..100).map(move |round| (phase, round))) {
        for n in 0..CAPACITY * 9 / 10 {
            let topic = format!("{phase}.{n}");
            if cache.get(&topic).is_none() {
                cache.insert(Topic::new(&topic).unwrap(), n);
            } else if round >= 20 {
                hits[phase] += 1;
            }
        }
    }
    assert_eq!(hits, [80 * (CAPACITY * 9 / 10); 2], "twenty rounds after a change all are found");
}

#[test]
fn an_update_is_seen_whole_and_counted() {
    let table = RoutingTable::new();
    let before = table.load();
    assert_eq!((table.generation(), before.generation), (0, 0));
    let inserted = table.update(|trie| (0..100_u16).filter(|id| trie.insert(&pattern("a.#"), *id)).count());
    assert_eq!(inserted, 100);
    assert_eq!((table.generation(), table.load().generation), (1, 1));
    assert_eq!(table.load().trie.value_count(), 100);
    assert!(before.trie.is_empty(), "a snapshot does not change");
}

#[test]
fn an_update_that_panics_changes_nothing() {
    let table = RoutingTable::<u16>::new();
    let update = || {
        table.update(|trie| {
            trie.insert(&pattern("a"), 1);
            panic!("on purpose");
        })
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(update)).is_err());
    assert_eq!(table.generation(), 0);
    assert!(table.load().trie.is_empty());
    table.update(|trie| trie.insert(&pattern("a"), 1));
    assert_eq!((table.generation(), found(&table.load().trie, "a")), (1, vec![1]));
}

#[test]
fn what_is_read_is_not_reclaimed_and_the_rest_is() {
    let table = RoutingTable::<u16>::new();
    table.update(|trie| trie.insert(&pattern("a"), 1));
    let guard = table.load();
    table.update(|trie| trie.remove(&pattern("a"), &1));
    assert_eq!((table.retired_count(), table.reclaim()), (2, 1));
    assert_eq!(found(&guard.trie, "a"), [1]);
    drop(guard);
    assert_eq!((table.retired_count(), table.reclaim(), table.retired_count()), (1, 1, 0));
}

#[test]
fn retired_snapshots_are_bounded_without_a_reclaimer() {
    let table = RoutingTable::<u16>::new();
    let held = table.load();
    for _ in 0..1000 {
        table.update(|_| ());
        assert!(table.retired_count() <= 64 + 1, "{}", table.retired_count());
    }
    assert_eq!(held.generation, 0);
}

#[test]
fn a_snapshot_is_never_older_than_the_generation_read_before_it() {
    const UPDATES: u64 = 5_000;
    let deadline = Instant::now() + Duration::from_secs(20);
    let table = RoutingTable::<u64>::new();
    let (left, right) = (pattern("left.#"), pattern("#.right"));
    let is_over = AtomicBool::new(false);

    let read = || {
        let (mut reads, mut newest, mut found) = (0_u64, 0, Vec::new());
        while !is_over.load(Ordering::Relaxed) || reads == 0 {
            let generation = table.generation();
            let snapshot = table.load();
            assert!(snapshot.generation >= generation, "{} < {generation}", snapshot.generation);
            assert!(snapshot.generation >= newest, "{} < {newest}", snapshot.generation);
            newest = snapshot.generation;
            // Each update replaces one value under two patterns: half of one would show here.
            assert!(snapshot.trie.values(&left).eq(snapshot.trie.values(&right)));
            snapshot.trie.matches("left.right", &mut found);
            let wanted: &[u64] = if newest == 0 { &[] } else { &[newest] };
            assert_eq!(found, wanted);
            reads += 1;
        }
        reads
    };
    let write = || {
        let mut updates = 0;
        while updates < UPDATES && Instant::now() < deadline {
            updates += 1;
            table.update(|trie| {
                for pattern in [&left, &right] {
                    trie.remove(pattern, &(updates - 1));
                    trie.insert(pattern, updates);
                }
            });
            if updates % 16 == 0 {
                table.reclaim();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        updates
    };
    let updates = thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read), scope.spawn(read)];
        let updates = scope.spawn(write).join().unwrap();
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
        updates
    });
    assert!(updates > 100, "only {updates} updates before the deadline");
    assert_eq!((table.generation(), table.load().generation), (updates, updates));
    table.reclaim();
    assert_eq!(table.retired_count(), 0);
}
