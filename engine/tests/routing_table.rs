//! The routing table under many threads against a sequential model, and large tables that go while they are in use.

#![cfg(not(ringmain_loom))]

mod broker_support;

use broker_support::Random;
use ringmain::routing::{RoutingTable, Trie};
use ringmain::topic::{Pattern, Topic};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long the readers and writers of one run are given.
const RUN: Duration = Duration::from_secs(2);
/// The most updates of one run: the model replays them all.
const MOST_UPDATES: u64 = 20_000;
/// The most answers that one reader keeps for the model.
const MOST_ANSWERS: usize = 5_000;

/// One change, as a writer made it and as the model repeats it.
#[derive(Clone)]
struct Change {
    pattern: Pattern,
    id: u32,
    is_insertion: bool,
    /// What the trie said.
    changed: bool,
}

/// What a reader was told, and by which snapshot.
struct Answer {
    generation: u64,
    topic: Topic,
    found: Vec<u32>,
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect(text)
}

fn found(trie: &Trie<u32>, topic: &str) -> Vec<u32> {
    let mut found = Vec::new();
    trie.matches(topic, &mut found);
    found
}

/// Words joined by dots: few words, so that patterns meet, or one of many, so that a node is wide.
fn text(random: &mut Random, alphabet: &[&str]) -> String {
    let words = (0..=random.below(4)).map(|_| match random.below(6) {
        0 => format!("a-word-of-many-{}", random.below(48)),
        _ => alphabet[random.below(alphabet.len() as u64) as usize].to_owned(),
    });
    words.collect::<Vec<_>>().join(".")
}

/// Updates until the time is over. The log is pushed to under the table's lock, so that its order is that of the
/// generations.
fn write(table: &RoutingTable<u32>, log: &Mutex<Vec<Vec<Change>>>, mut random: Random, is_over: &AtomicBool) {
    let mut held: Vec<(Pattern, u32)> = Vec::new();
    while !is_over.load(Ordering::Relaxed) && table.generation() < MOST_UPDATES {
        let changes: Vec<Change> = (0..1 + random.below(8))
            .map(|_| {
                if !held.is_empty() && random.below(2) == 0 {
                    let (pattern, id) = held.swap_remove(random.below(held.len() as u64) as usize);
                    Change { pattern, id, is_insertion: false, changed: false }
                } else {
                    let pattern = pattern(&text(&mut random, &["a", "b", "é", "*", "#"]));
                    let id = random.below(50) as u32;
                    held.push((pattern.clone(), id));
                    Change { pattern, id, is_insertion: true, changed: false }
                }
            })
            .collect();
        table.update(|trie| {
            let mut changes = changes;
            for change in &mut changes {
                change.changed = if change.is_insertion {
                    trie.insert(&change.pattern, change.id)
                } else {
                    trie.remove(&change.pattern, &change.id)
                };
            }
            log.lock().unwrap().push(changes);
        });
    }
}

/// Matches until the time is over, and keeps some of the answers.
fn read(table: &RoutingTable<u32>, mut random: Random, is_over: &AtomicBool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !is_over.load(Ordering::Relaxed) && answers.len() < MOST_ANSWERS {
        let topic = Topic::new(&text(&mut random, &["a", "b", "é"])).expect("a topic");
        let generation = table.generation();
        let snapshot = table.load();
        assert!(snapshot.generation >= generation, "{} < {generation}", snapshot.generation);
        // Now and then a snapshot is held while the table goes on.
        if random.below(8) == 0 {
            let newer = snapshot.generation + random.below(20);
            while table.generation() < newer && !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        }
        let found = found(&snapshot.trie, topic.as_str());
        answers.push(Answer { generation: snapshot.generation, topic, found });
    }
    answers
}

/// Repeats the log and checks each answer against the pairs of its generation, one by one.
fn check(log: &[Vec<Change>], mut answers: Vec<Answer>) -> BTreeSet<(Pattern, u32)> {
    answers.sort_by_key(|answer| answer.generation);
    let mut answers = answers.into_iter().peekable();
    let mut model = BTreeSet::new();
    for generation in 0..=log.len() {
        for change in generation.checked_sub(1).map_or(&[][..], |at| &log[at]) {
            let pair = (change.pattern.clone(), change.id);
            let changed = if change.is_insertion { model.insert(pair) } else { model.remove(&pair) };
            assert_eq!(changed, change.changed, "{} {}", change.pattern, change.id);
        }
        while let Some(answer) = answers.next_if(|answer| answer.generation == generation as u64) {
            let matching = model.iter().filter(|(pattern, _)| pattern.matches(&answer.topic));
            let wanted: BTreeSet<u32> = matching.map(|(_, id)| *id).collect();
            assert!(answer.found.iter().eq(&wanted), "generation {generation}, {}", answer.topic);
        }
    }
    assert!(answers.next().is_none(), "a snapshot has a generation that no update made");
    model
}

#[test]
fn every_match_is_that_of_its_snapshots_generation() {
    let table = RoutingTable::<u32>::new();
    let log = Mutex::new(Vec::new());
    let is_over = AtomicBool::new(false);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let writers = [(); 2].map(|()| scope.spawn(|| write(&table, &log, Random::new(), &is_over)));
        let readers = [(); 3].map(|()| scope.spawn(|| read(&table, Random::new(), &is_over)));
        let reclaimer = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                table.reclaim();
                thread::yield_now();
            }
        });
        let started = Instant::now();
        while started.elapsed() < RUN && !(writers.iter().all(|writer| writer.is_finished())) {
            thread::park_timeout(Duration::from_millis(1));
        }
        is_over.store(true, Ordering::Relaxed);
        for thread in writers {
            thread.join().expect("a writer");
        }
        reclaimer.join().expect("the reclaimer");
        readers.into_iter().flat_map(|reader| reader.join().expect("a reader")).collect()
    });
    let log = log.into_inner().unwrap();
    println!("{} updates, {} answers", log.len(), answers.len());
    assert!(log.len() > 50 && answers.len() > 50, "too few to mean much; is the machine overloaded?");
    assert_eq!(table.generation(), log.len() as u64);

    let left = check(&log, answers);
    assert_eq!(table.load().trie.value_count(), left.len());
    table.update(|trie| {
        for (pattern, id) in &left {
            assert!(trie.remove(pattern, id));
        }
        assert_eq!(trie.node_count(), 1, "nodes are left behind");
    });
    table.reclaim();
    assert_eq!(table.retired_count(), 0);
}

/// Enough patterns that freeing them takes a while, with nodes of all shapes.
fn many_patterns() -> Vec<Pattern> {
    let of_site = |site: u32| {
        let devices = (0..100).map(move |device| format!("site{site}.line.device{device}.temperature"));
        devices.chain([
            format!("site{site}.*.device0.*"),
            format!("site{site}.#"),
            format!("site{site}.line"),
        ])
    };
    let own = (0..10_000).map(|n| format!("u{n}.v{n}.w{n}.x{n}"));
    (0..300).flat_map(of_site).chain(own).map(|text| pattern(&text)).collect()
}

#[test]
fn one_update_subscribes_and_one_unsubscribes_everybody() {
    let patterns = many_patterns();
    let table = RoutingTable::<u32>::new();
    table.update(|trie| {
        for (id, pattern) in (0..).zip(&patterns) {
            assert!(trie.insert(pattern, id));
        }
    });
    assert_eq!((table.generation(), table.load().trie.pattern_count()), (1, patterns.len()));
    assert_eq!(found(&table.load().trie, "site7.line.device0.temperature").len(), 3);
    table.update(|trie| {
        for (id, pattern) in (0..).zip(&patterns) {
            assert!(trie.remove(pattern, &id));
        }
    });
    assert_eq!((table.generation(), table.load().trie.node_count()), (2, 1));
}

#[test]
fn a_whole_table_dropped_while_in_use_stays_whole_for_those_who_use_it() {
    let patterns = many_patterns();
    let table = RoutingTable::<u32>::new();
    table.update(|trie| {
        for (id, pattern) in (0..).zip(&patterns) {
            trie.insert(pattern, id);
        }
    });
    let topics = ["site7.line.device0.temperature", "site7.line", "u9.v9.w9.x9"];
    let wanted = topics.map(|topic| found(&table.load().trie, topic));
    assert_eq!(wanted.each_ref().map(Vec::len), [3, 2, 1]);
    let (has_snapshots, is_over, reads) = (Barrier::new(3), AtomicBool::new(false), AtomicU64::new(0));

    let read = |trie: &Trie<u32>| {
        has_snapshots.wait();
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(topics.map(|topic| found(trie, topic)), wanted);
            reads.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let by_guard = scope.spawn(|| read(&table.load().trie));
        let by_clone = scope.spawn(|| {
            let trie = table.load().trie.clone();
            read(&trie);
        });
        has_snapshots.wait();
        table.update(|trie| {
            for (id, pattern) in (0..).zip(&patterns) {
                trie.remove(pattern, &id);
            }
        });
        table.update(|trie| trie.insert(&pattern("#"), 0));
        // The empty tables before and after the large one, but not the large one, which is being read.
        assert_eq!((table.reclaim(), table.retired_count()), (2, 1));
        let seen = reads.load(Ordering::Relaxed);
        let deadline = Instant::now() + broker_support::LIMIT;
        while reads.load(Ordering::Relaxed) < seen + 100 {
            assert!(Instant::now() < deadline, "the readers do not go on");
            thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
        by_guard.join().expect("the reader with a guard");
        by_clone.join().expect("the reader with a clone");
    });
    assert_eq!((table.reclaim(), table.retired_count()), (1, 0));
    assert_eq!(found(&table.load().trie, topics[0]), [0]);
}

#[test]
fn a_trie_outlives_the_table_that_it_comes_from() {
    let table = RoutingTable::<u32>::new();
    table.update(|trie| {
        for (id, pattern) in (0..).zip(&many_patterns()) {
            trie.insert(pattern, id);
        }
    });
    let trie = table.load().trie.clone();
    drop(table);
    assert_eq!(found(&trie, "u9.v9.w9.x9").len(), 1);
    assert_eq!(trie.pattern_count(), many_patterns().len());
}
