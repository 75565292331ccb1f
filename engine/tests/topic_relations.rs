//! How patterns relate: what covers and what overlaps what, and their normal form, against all topics there are.

use proptest::prelude::*;
use ringmain::topic::{MAX_BYTES, MAX_WORDS, Pattern, Topic};
use std::collections::HashMap;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect(text)
}

fn covers(wide: &str, narrow: &str) -> bool {
    pattern(wide).covers(&pattern(narrow))
}

fn overlaps(one: &str, other: &str) -> bool {
    let (one, other) = (pattern(one), pattern(other));
    let answer = one.overlaps(&other);
    assert_eq!(other.overlaps(&one), answer, "{other} and {one}");
    answer
}

/// All texts of 1 to `most` of these words.
fn texts(words: &[&str], most: usize) -> Vec<String> {
    let mut texts = Vec::new();
    let mut longest = vec![String::new()];
    for _ in 0..most {
        longest = longest
            .iter()
            .flat_map(|text| words.iter().map(move |word| format!("{text}.{word}")))
            .map(|text| text.trim_start_matches('.').to_owned())
            .collect();
        texts.extend_from_slice(&longest);
    }
    texts
}

/// The definition, read aloud.
fn oracle(pattern: &[&str], topic: &[&str]) -> bool {
    match pattern.split_first() {
        None => topic.is_empty(),
        Some((&"#", rest)) => (0..=topic.len()).any(|taken| oracle(rest, &topic[taken..])),
        Some((&"*", rest)) => !topic.is_empty() && oracle(rest, &topic[1..]),
        Some((word, rest)) => topic.first() == Some(word) && oracle(rest, &topic[1..]),
    }
}

/// All patterns of up to four words among `a`, `b`, `*`, `#`, each with the topics that it matches, a bit a topic:
/// all topics of up to six words among `a`, `b` and a fresh one. Five words can tell any two of these patterns apart;
/// one more is for what that argument may have overlooked.
fn all_patterns() -> Vec<(Pattern, Vec<u64>)> {
    let topics: Vec<String> = texts(&["a", "b", "c"], 6);
    let topics: Vec<Vec<&str>> = topics.iter().map(|topic| topic.split('.').collect()).collect();
    let matched = |text: &String| {
        let words: Vec<&str> = text.split('.').collect();
        let is_matched = topics.iter().map(|topic| u64::from(oracle(&words, topic))).collect::<Vec<_>>();
        is_matched.chunks(64).map(|bits| bits.iter().fold(0, |all, bit| all << 1 | bit)).collect()
    };
    texts(&["a", "b", "*", "#"], 4).iter().map(|text| (pattern(text), matched(text))).collect()
}

#[test]
fn all_pairs_of_small_patterns_relate_as_their_topics_do() {
    let patterns = all_patterns();
    for (one, by_one) in &patterns {
        for (other, by_other) in &patterns {
            let mut pairs = by_one.iter().zip(by_other);
            let wanted = pairs.clone().all(|(one, other)| other & !one == 0);
            assert_eq!(one.covers(other), wanted, "{one} covers {other}");
            let wanted = pairs.any(|(one, other)| one & other != 0);
            assert_eq!(one.overlaps(other), wanted, "{one} overlaps {other}");
        }
    }
}

#[test]
fn small_patterns_of_the_same_topics_have_one_normal_form() {
    let mut forms: HashMap<Vec<u64>, Pattern> = HashMap::new();
    let mut words: HashMap<Pattern, usize> = HashMap::new();
    for (pattern, matched) in all_patterns() {
        let form = pattern.normalized();
        assert_eq!(form.normalized(), form, "of {pattern}");
        assert_eq!(*forms.entry(matched).or_insert_with(|| form.clone()), form, "of {pattern}");
        let fewest = words.entry(form).or_insert(usize::MAX);
        *fewest = pattern.word_count().min(*fewest);
    }
    let distinct: std::collections::HashSet<_> = forms.values().collect();
    assert_eq!(distinct.len(), forms.len(), "patterns of different topics have different forms");
    for (form, fewest) in words {
        assert_eq!(form.word_count(), fewest, "{form} has no more words than it needs");
    }
}

#[test]
fn normal_forms_read_as_people_write() {
    for (text, form) in [
        ("orders.#", "orders.#"),
        ("#.*", "#"),
        ("#.#.#", "#"),
        ("*.#.*", "*.*.#"),
        ("a.#.*.#.*.b", "a.*.*.#.b"),
        ("#.a.#.#.b", "#.a.#.b"),
        ("*.a.*", "*.a.*"),
    ] {
        assert_eq!(pattern(text).normalized().as_str(), form, "of {text}");
    }
}

#[test]
fn a_filling_between_the_extremes_is_found() {
    // With `a.b` at once the distance is kept by what follows, with `a…b` far apart by the last `#`; with neither,
    // not.
    assert!(!covers("#.a.b.#.*.c", "#.a.#.b.#.a.b.#.c"));
    assert!(covers("#.a.b.#.c", "#.a.#.b.#.a.b.#.c"));
    assert!(!covers("#.a.*.b.#", "#.a.#.b.#"));
}

#[test]
fn the_limit_of_words_makes_some_patterns_cover_others() {
    let wide = format!("#.a.{}.a.#", ["*"; 11].join("."));
    let narrow = |run: &str| format!("{run}.#.{run}");
    // Beside runs of 12 is room for 8 words more: some `a` always stands twelve words behind another.
    assert!(covers(&wide, &narrow(&["a"; 12].join("."))));
    // Beside runs of 10 is room for 12, which keep the runs too far apart.
    assert!(!covers(&wide, &narrow(&["a"; 10].join("."))));
}

#[test]
fn the_limit_of_bytes_makes_some_patterns_cover_others() {
    let narrow = |length| format!("a.a.a.#.a.a.a.{}", "x".repeat(length));
    // Room for two words of one byte, each with its dot: some `a` always stands three words behind another.
    assert!(covers("#.a.*.*.a.#", &narrow(239)));
    assert!(covers("#.a.*.*.a.#", &narrow(238)));
    assert!(!covers("#.a.*.*.a.#", &narrow(237)));
}

#[test]
fn the_limit_of_bytes_keeps_some_patterns_apart() {
    let x = |length| "x".repeat(length);
    // With a dot, as much as a topic holds, and one byte more.
    assert!(overlaps(&format!("#.{}", x(127)), &format!("{}.#", "y".repeat(127))));
    assert!(!overlaps(&format!("#.{}", x(128)), &format!("{}.#", "y".repeat(127))));
    // A word more, of one byte, fits in front of the one and not of the other.
    assert!(overlaps(&format!("*.{}", x(MAX_BYTES - 2)), &format!("#.{}", x(MAX_BYTES - 2))));
    assert!(!overlaps("*.*.#", &x(MAX_BYTES)));
    // What is shared counts once.
    assert!(overlaps(&format!("#.{}", x(200)), &format!("{}.#", x(200))));
}

#[test]
fn the_limit_of_words_keeps_some_patterns_apart() {
    let (ones, others) = (["a"; 16].join("."), ["b"; 16].join("."));
    assert!(overlaps(&format!("#.{ones}"), &format!("{others}.#")));
    assert!(!overlaps(&format!("#.{ones}"), &format!("{others}.b.#")));
    assert!(!overlaps(&["*"; 31].join("."), &["*"; 32].join(".")));
    assert!(overlaps(&["#"; 32].join("."), &["*"; 32].join(".")));
}

#[test]
fn hostile_patterns_take_no_time() {
    let hashes = |word: &str, count| vec![format!("#.{word}"); count].join(".");
    let window = |stars: usize| format!("#.a.{}.b.#", vec!["*"; stars].join("."));
    let mut patterns = vec![
        hashes("a", 16),
        format!("{}.#", hashes("a", 15)),
        format!("{}.b", hashes("a", 15)),
        hashes("*", 16),
        vec!["#"; 32].join("."),
        format!("{}.{}", hashes("a", 8), hashes("b", 8)),
        format!("{}.#.b.a", hashes("a.b", 9)),
        hashes("a.a.b", 8),
    ];
    patterns.extend((1..=28).map(window));
    let patterns: Vec<Pattern> = patterns.iter().map(|text| pattern(text)).collect();
    let started = std::time::Instant::now();
    let mut count = 0;
    for one in &patterns {
        for other in &patterns {
            assert!(!one.covers(other) || one.overlaps(other), "{one} and {other}");
            count += 1;
        }
    }
    // Hours, were each filling tried on its own.
    println!("{count} pairs in {:?}", started.elapsed());
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}

fn joined(words: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(words), 1..=most).prop_map(|words| words.join("."))
}

/// A topic of the pattern: a number for each segment, how many words of which kind fill it.
fn filled(pattern: &str, fillings: &[(usize, usize)]) -> Option<Topic> {
    let mut words = Vec::new();
    for (segment, (count, kind)) in pattern.split('.').zip(fillings) {
        let word = ["a", "b", "c"][kind % 3];
        match segment {
            "*" => words.push(word),
            "#" => words.extend(vec![word; *count]),
            word => words.push(word),
        }
    }
    Topic::new(&words.join(".")).ok()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2048,
        max_global_rejects: 65_536,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_covered_has_no_topic_of_its_own(
        wide in joined(&["a", "b", "*", "#", "#"], 9),
        narrow in joined(&["a", "b", "*", "#", "#"], 9),
        fillings in proptest::collection::vec((0..4_usize, 0..3_usize), 9),
    ) {
        let (wide, narrow) = (pattern(&wide), pattern(&narrow));
        if let Some(topic) = filled(narrow.as_str(), &fillings) {
            prop_assert!(narrow.matches(&topic));
            prop_assert!(wide.matches(&topic) || !wide.covers(&narrow), "{} {} {}", wide, narrow, topic);
            prop_assert!(!wide.matches(&topic) || wide.overlaps(&narrow), "{} {} {}", wide, narrow, topic);
            let literal = Pattern::from(topic.clone());
            prop_assert_eq!(wide.covers(&literal), wide.matches(&topic));
            prop_assert_eq!(wide.overlaps(&literal), wide.matches(&topic));
            prop_assert_eq!(wide.normalized().matches(&topic), wide.matches(&topic));
        }
    }

    #[test]
    fn covering_is_a_preorder(
        texts in proptest::collection::vec(joined(&["a", "b", "*", "#", "#"], 5), 3),
    ) {
        let [one, two, three] = [0, 1, 2].map(|at| pattern(&texts[at]));
        prop_assert!(one.covers(&one));
        prop_assert!(!one.covers(&two) || one.overlaps(&two));
        prop_assert!(!(one.covers(&two) && two.covers(&three)) || one.covers(&three), "{one} {two} {three}");
        prop_assert!(one.covers(&one.normalized()) && one.normalized().covers(&one));
        if one.covers(&two) && two.overlaps(&three) {
            prop_assert!(one.overlaps(&three), "{one} {two} {three}");
        }
    }

    #[test]
    fn near_the_limit_of_words_covering_is_exact(
        distance in 1..14_usize,
        runs in proptest::collection::vec(4..12_usize, 2..=3),
        ends in any::<bool>(),
    ) {
        let wide = ["a", "*", "a"].map(|word| vec![word; if word == "*" { distance } else { 1 }].join("."));
        let wide = pattern(&format!("#.{}{}", wide.join("."), if ends { "" } else { ".#" }));
        let run = |length: &usize| vec!["a"; *length].join(".");
        let words: usize = runs.iter().sum();
        // Up to 8 words beside the runs, so that all fillings can be tried.
        prop_assume!((24..=MAX_WORDS - 2).contains(&words));
        let narrow = pattern(&runs.iter().map(run).collect::<Vec<_>>().join(".#."));
        let mut wanted = true;
        let spare = MAX_WORDS - words;
        for first in 0..=spare {
            for second in 0..=(spare - first) * (runs.len() - 2) {
                let mut topic = vec!["a"; runs[0]];
                topic.extend(vec!["c"; first]);
                topic.extend(vec!["a"; runs[1]]);
                topic.extend(vec!["c"; second]);
                topic.extend(vec!["a"; runs.get(2).copied().unwrap_or(0)]);
                wanted &= wide.matches(&Topic::new(&topic.join(".")).unwrap());
            }
        }
        prop_assert_eq!(wide.covers(&narrow), wanted, "{} {}", wide, narrow);
    }
}
