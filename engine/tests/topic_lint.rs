//! The linter, against a comparison of each pattern with each other.

use proptest::prelude::*;
use ringmain::routing::{ForeignKind, ForeignWildcard, Linter, Oddity};
use ringmain::topic::{Pattern, Topic};

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text).expect(text)).collect()
}

fn oddities(patterns: &[Pattern]) -> Vec<Option<Oddity>> {
    let mut linter = Linter::new(patterns);
    (0..patterns.len()).map(|number| linter.oddity(number)).collect()
}

/// The definition, by comparing all with all.
fn wanted(patterns: &[Pattern]) -> Vec<Option<Oddity>> {
    let is_same = |one: &Pattern, other: &Pattern| one.covers(other) && other.covers(one);
    let oddity = |number: usize| {
        let pattern = &patterns[number];
        let earlier = &patterns[..number];
        if let Some(of) = earlier.iter().position(|other| other == pattern) {
            return Some(Oddity::Duplicate { of });
        }
        if let Some(to) = earlier.iter().position(|other| is_same(other, pattern)) {
            return Some(Oddity::Equivalent { to });
        }
        let by = patterns.iter().position(|other| other.covers(pattern) && !pattern.covers(other))?;
        Some(Oddity::Shadowed { by })
    };
    (0..patterns.len()).map(oddity).collect()
}

#[test]
fn each_oddity_names_the_first_other_pattern() {
    let patterns = patterns(&["a.b", "a.*", "#.a.#.#", "#.a.#", "a.*", "a.b", "c", "#.*"]);
    let found = oddities(&patterns);
    assert_eq!(
        found,
        [
            Some(Oddity::Shadowed { by: 1 }),
            Some(Oddity::Shadowed { by: 2 }),
            Some(Oddity::Shadowed { by: 7 }),
            Some(Oddity::Equivalent { to: 2 }),
            Some(Oddity::Duplicate { of: 1 }),
            Some(Oddity::Duplicate { of: 0 }),
            Some(Oddity::Shadowed { by: 7 }),
            None,
        ]
    );
    assert_eq!(found, wanted(&patterns));
}

#[test]
fn all_odd_patterns_can_be_left_out_at_once() {
    let patterns = patterns(&["#.*", "*.#", "#", "a", "a.#", "#.#"]);
    let odd = oddities(&patterns);
    let kept: Vec<&Pattern> =
        patterns.iter().zip(odd).filter(|(_, odd)| odd.is_none()).map(|(p, _)| p).collect();
    assert_eq!(kept, [&patterns[0]]);
}

#[test]
fn a_pattern_that_no_observed_topic_matches_is_known() {
    let patterns = patterns(&["a.*", "b", "#.b", "b.#", "b"]);
    let mut linter = Linter::new(&patterns);
    for topic in ["a.b", "c"] {
        linter.observe(&Topic::new(topic).unwrap());
    }
    let matched: Vec<bool> = (0..patterns.len()).map(|number| linter.is_matched(number)).collect();
    assert_eq!(matched, [true, false, true, false, false]);
}

#[test]
fn wildcards_of_other_systems_are_known() {
    let kind = |text: &str| {
        let pattern = Pattern::new(text).expect(text);
        ForeignWildcard::find(&pattern).map(|found| (found.word().to_owned(), found.kind()))
    };
    let found = |word: &str, kind| Some((word.to_owned(), kind));
    assert_eq!(kind("orders.>"), found(">", ForeignKind::Rest));
    assert_eq!(kind("orders.+.x"), found("+", ForeignKind::Level));
    assert_eq!(kind("orders/+/x"), found("orders/+/x", ForeignKind::Levels));
    assert_eq!(kind("a.+/x"), found("+/x", ForeignKind::Levels));
    assert_eq!(kind("orders.{id}.x"), found("{id}", ForeignKind::Braces));
    assert_eq!(kind("orders.v{1,2}"), found("v{1,2}", ForeignKind::Braces));
    assert_eq!(kind("$SYS.#"), found("$SYS", ForeignKind::Server));
    assert_eq!(kind("$share/group/orders"), found("$share/group/orders", ForeignKind::Server));
    for own in ["orders.*.#", "a+b", "1>2", "orders/eu", "}{", "us$.$SYS", "$SYSTEM"] {
        assert_eq!(kind(own), None, "{own}");
    }
}

#[test]
fn many_patterns_are_not_compared_each_with_each() {
    let texts: Vec<String> = (0..20_000)
        .flat_map(|n| [format!("site{n}.*.created"), format!("site{n}.eu.created"), format!("#.made{n}.#")])
        .collect();
    let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::new(text).expect(text)).collect();
    let started = std::time::Instant::now();
    let found = oddities(&patterns);
    assert_eq!(found.iter().flatten().count(), 20_000);
    assert_eq!(found[1], Some(Oddity::Shadowed { by: 0 }));
    // Each with each would be 3,600 million comparisons.
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_linter_finds_what_comparing_all_finds(
        texts in proptest::collection::vec(
            proptest::collection::vec(proptest::sample::select(&["a", "b", "c", "*", "#"][..]), 1..=4),
            1..24,
        ),
    ) {
        let texts: Vec<String> = texts.iter().map(|words| words.join(".")).collect();
        let patterns = patterns(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(oddities(&patterns), wanted(&patterns));
    }
}
