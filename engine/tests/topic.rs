//! The grammar of topics and patterns, its limits and its errors, and matching of one against one.

use proptest::prelude::*;
use ringmain::topic::{
    MAX_BYTES, MAX_WORDS, Pattern, Segment, Subject, Topic, TopicError, TopicErrorKind, validate,
};
use std::collections::{BTreeSet, HashSet};

fn topic_error(text: &str) -> TopicError {
    let error = Topic::new(text).expect_err("an invalid topic");
    assert_eq!(validate(text).as_ref(), Err(&error), "both ways to check must agree");
    assert_eq!(error.subject(), Subject::Topic);
    error
}

fn pattern_error(text: &str) -> TopicError {
    let error = Pattern::new(text).expect_err("an invalid pattern");
    assert_eq!(error.subject(), Subject::Pattern);
    error
}

fn place(error: &TopicError) -> (&str, usize, usize) {
    (error.word(), error.word_index(), error.byte_position())
}

fn matches(pattern: &str, topic: &str) -> bool {
    Pattern::new(pattern).expect(pattern).matches(&Topic::new(topic).expect(topic))
}

#[test]
fn a_topic_is_its_words() {
    let topic = Topic::new("orders.größe.日本").unwrap();
    assert!(topic.words().eq(["orders", "größe", "日本"]));
    assert_eq!(topic.word_count(), 3);
    assert_eq!(topic.as_str(), "orders.größe.日本");
    assert_eq!(format!("{topic:>18}|{topic:?}"), "   orders.größe.日本|Topic(\"orders.größe.日本\")");
}

#[test]
fn a_pattern_is_its_segments() {
    let pattern = Pattern::new("#.größe.*.#").unwrap();
    assert!(pattern.segments().eq([Segment::Hash, Segment::Word("größe"), Segment::Star, Segment::Hash]));
    assert_eq!(pattern.word_count(), 4);
    assert_eq!(format!("{pattern}|{pattern:?}"), "#.größe.*.#|Pattern(\"#.größe.*.#\")");
}

#[test]
fn only_patterns_without_wildcards_are_literal() {
    assert!(Pattern::new("a.b").unwrap().is_literal());
    for text in ["*", "#", "a.*", "#.a", "a.#.b"] {
        assert!(!Pattern::new(text).unwrap().is_literal(), "{text}");
    }
    let topic = Topic::new("a.b").unwrap();
    let pattern = Pattern::from(topic.clone());
    assert_eq!(pattern, Pattern::new("a.b").unwrap());
    assert!(pattern.matches(&topic));
}

#[test]
fn sets_of_topics_and_patterns_are_searched_by_text() {
    let topics: HashSet<Topic> = ["a.b".parse().unwrap(), Topic::try_from("c").unwrap()].into();
    assert!(topics.contains("a.b") && !topics.contains("a"));
    let patterns: BTreeSet<Pattern> = ["a.*".parse().unwrap(), Pattern::try_from("#").unwrap()].into();
    assert!(patterns.contains("a.*") && !patterns.contains("*"));
    assert!(patterns.iter().map(AsRef::<str>::as_ref).eq(["#", "a.*"]));
}

#[test]
fn case_and_spelling_are_significant() {
    assert_ne!(Topic::new("Orders").unwrap(), Topic::new("orders").unwrap());
    assert!(!matches("Orders", "orders"));
    // One letter, composed and decomposed: nothing is normalised.
    assert!(!matches("caf\u{e9}", "cafe\u{301}"));
}

#[test]
fn a_text_of_255_bytes_is_the_longest() {
    // Two-byte characters after one byte: 255 bytes exactly, and the limit falls on a boundary.
    let longest = format!("a{}", "é".repeat(127));
    assert_eq!(longest.len(), MAX_BYTES);
    assert!(Topic::new(&longest).is_ok() && Pattern::new(&longest).is_ok());

    let too_long = format!("{longest}b");
    for error in [topic_error(&too_long), pattern_error(&too_long)] {
        assert_eq!(error.kind(), TopicErrorKind::TooLong { bytes: 256 });
        assert_eq!((error.word_index(), error.byte_position()), (1, 255));
        let message = error.to_string();
        assert!(message.contains("256 bytes") && message.contains("limit is 255"), "{message}");
    }
}

#[test]
fn a_text_that_is_too_long_names_the_word_that_crosses_the_limit() {
    // "é" covers bytes 254 and 255, so the last boundary within the limit is 254.
    let error = topic_error(&format!("{}.éé.tail", "a".repeat(253)));
    assert_eq!(place(&error), ("éé", 2, 254));
    let error = topic_error(&format!("{}.bb", "a".repeat(254)));
    assert_eq!(place(&error), ("bb", 2, 255));
    let error = topic_error(&format!("{}.bb", "a".repeat(255)));
    assert_eq!((error.word_index(), error.byte_position()), (1, 255));
}

#[test]
fn thirty_two_words_are_the_most() {
    let most = vec!["w"; MAX_WORDS].join(".");
    assert_eq!(Topic::new(&most).unwrap().word_count(), 32);
    assert!(Pattern::new(&vec!["#"; MAX_WORDS].join(".")).is_ok());

    let error = topic_error(&format!("{most}.next.last"));
    assert_eq!(error.kind(), TopicErrorKind::TooManyWords { words: 34 });
    assert_eq!(place(&error), ("next", 33, 64));
    let message = error.to_string();
    assert!(message.contains("34 words") && message.contains("limit is 32"), "{message}");
    assert_eq!(place(&pattern_error(&format!("{most}.*"))), ("*", 33, 64));
}

#[test]
fn empty_texts_and_words_are_located() {
    for error in [topic_error(""), pattern_error("")] {
        assert_eq!((error.kind(), place(&error)), (TopicErrorKind::Empty, ("", 1, 0)));
    }
    for (text, index, position) in [(".", 1, 0), (".a", 1, 0), ("a.", 2, 2), ("a..b", 2, 2), ("é.b..", 3, 5)]
    {
        for error in [topic_error(text), pattern_error(text)] {
            assert_eq!(error.kind(), TopicErrorKind::EmptyWord, "{text}");
            assert_eq!(place(&error), ("", index, position), "{text}");
        }
    }
}

#[test]
fn wildcards_are_refused_anywhere_in_a_topic() {
    for (text, character, word, index, position) in [
        ("*", '*', "*", 1, 0),
        ("#", '#', "#", 1, 0),
        ("a.*.b", '*', "*", 2, 2),
        ("a.b.#", '#', "#", 3, 4),
        ("a.xé*y", '*', "xé*y", 2, 5),
        ("c#", '#', "c#", 1, 1),
    ] {
        let error = topic_error(text);
        assert_eq!(error.kind(), TopicErrorKind::WildcardInTopic { character }, "{text}");
        assert_eq!(place(&error), (word, index, position), "{text}");
    }
}

#[test]
fn wildcards_in_a_pattern_are_words_of_their_own() {
    for (text, character, word, index, position) in [
        ("a#b", '#', "a#b", 1, 1),
        ("a.b*", '*', "b*", 2, 3),
        ("##", '#', "##", 1, 0),
        ("#.**", '*', "**", 2, 2),
        ("*.*#", '*', "*#", 2, 2),
    ] {
        let error = pattern_error(text);
        assert_eq!(error.kind(), TopicErrorKind::WildcardInsideWord { character }, "{text}");
        assert_eq!(place(&error), (word, index, position), "{text}");
        // Other systems' wildcard for any number of words.
        assert_eq!(error.to_string().ends_with("for any number of words write '#'"), word == "**", "{text}");
    }
}

#[test]
fn every_character_but_space_control_and_wildcards_may_stand_in_a_word() {
    for character in '\0'..=char::MAX {
        let text = format!("a.b{character}c");
        let expected = match character {
            '*' | '#' => Some(TopicErrorKind::WildcardInTopic { character }),
            _ if character.is_whitespace() => Some(TopicErrorKind::WhiteSpace { character }),
            _ if character.is_control() => Some(TopicErrorKind::ControlCharacter { character }),
            _ => None,
        };
        let error = validate(&text).err();
        assert_eq!(error.as_ref().map(TopicError::kind), expected, "{character:?}");
        if let Some(error) = error {
            assert_eq!((error.word_index(), error.byte_position()), (2, 3), "{character:?}");
        }
    }
}

#[test]
fn messages_say_what_is_wrong_and_what_to_do() {
    for (error, message) in [
        (
            topic_error("a.e\u{a0}u"),
            "topic word 2 \"e\\u{a0}u\" (byte 3): white space (U+00A0) cannot stand in a word; \
             remove it, or write '_' or '-'",
        ),
        (
            topic_error("a\u{7}"),
            r#"topic word 1 "a\u{7}" (byte 1): the control character U+0007 cannot stand in a word; remove it"#,
        ),
        (
            topic_error("a..b"),
            r#"topic word 2 "" (byte 2): the word is empty; remove a '.', or put a word beside it"#,
        ),
        (pattern_error(""), r#"pattern word 1 "" (byte 0): the text is empty; give at least one word"#),
        (
            pattern_error("x.a#b"),
            r##"pattern word 2 "a#b" (byte 3): '#' must be a word of its own; separate it with '.', or remove it"##,
        ),
    ] {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_huge_or_hostile_text_is_not_echoed() {
    let huge = "\u{1b}[31m\u{202e}é\n".repeat(1_000_000);
    let long_word = format!("{}\r", "é".repeat(120));
    for error in [topic_error(&huge), pattern_error(&huge), topic_error(&long_word)] {
        let message = error.to_string();
        assert!(message.len() < 500, "{} bytes", message.len());
        assert!(message.contains("\"... ("), "must show that the word is cut: {message}");
        assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'), "{message:?}");
        assert!(error.word().len() <= 40);
    }
}

#[test]
fn wildcards_stand_for_whole_words() {
    for (pattern, wanted, unwanted) in [
        ("a", &["a"][..], &["b", "a.a", "aa"][..]),
        ("orders", &["orders"], &["order", "orders2", "orders.eu"]),
        ("*", &["a", "ab"], &["a.b"]),
        ("#", &["a", "a.b", "a.b.c"], &[]),
        ("a.*", &["a.b"], &["a", "a.b.c", "b.a"]),
        ("a.#", &["a", "a.b", "a.b.c"], &["b", "ab", "b.a"]),
        ("#.a", &["a", "b.a", "a.a"], &["a.b", "ba"]),
        ("a.#.b", &["a.b", "a.x.b", "a.b.b"], &["a", "b", "a.b.c", "ab"]),
        ("#.#", &["a", "a.b"], &[]),
        ("#.*.#", &["a", "a.b.c"], &[]),
        ("*.#.*", &["a.b", "a.b.c"], &["a"]),
        ("#.a.#.a.#", &["a.a", "x.a.y.a.z"], &["a", "x.a.y"]),
        ("größe.*", &["größe.ü"], &["grösse.ü", "größe"]),
    ] {
        for topic in wanted {
            assert!(matches(pattern, topic), "{pattern} must match {topic}");
        }
        for topic in unwanted {
            assert!(!matches(pattern, topic), "{pattern} must not match {topic}");
        }
    }
}

#[test]
fn patterns_of_32_words_use_every_state() {
    let topic = vec!["a"; 32].join(".");
    for (pattern, wanted) in [
        (vec!["a"; 32].join("."), true),
        (vec!["*"; 32].join("."), true),
        (vec!["#"; 32].join("."), true),
        (vec!["#.a"; 16].join("."), true),
        (format!("{}.b", vec!["#"; 31].join(".")), false),
        (format!("{}.b", vec!["#.a"; 15].join(".")), false),
        (vec!["*"; 31].join("."), false),
    ] {
        assert_eq!(matches(&pattern, &topic), wanted, "{pattern}");
    }
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

fn joined(
    words: &'static [&'static str],
    count: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(words), count).prop_map(|words| words.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn matching_agrees_with_its_definition(
        pattern in joined(&["a", "b", "é", "*", "#", "#"], 1..=8),
        topic in joined(&["a", "b", "é"], 1..=8),
    ) {
        let pattern_words: Vec<&str> = pattern.split('.').collect();
        let topic_words: Vec<&str> = topic.split('.').collect();
        prop_assert_eq!(matches(&pattern, &topic), oracle(&pattern_words, &topic_words));
    }

    #[test]
    fn a_fault_is_found_where_it_is(
        mut words in proptest::collection::vec("[a-cé日]{1,3}", 1..=10),
        at in any::<proptest::sample::Index>(),
        inside in any::<proptest::sample::Index>(),
        fault in proptest::sample::select(&['*', '#', ' ', '\t', '\u{3000}', '\0', '\u{9f}'][..]),
    ) {
        let index = at.index(words.len());
        let places: Vec<usize> = words[index].char_indices().map(|(place, _)| place).collect();
        let offset = places[inside.index(places.len())];
        words[index].insert(offset, fault);
        let position = words[..index].iter().map(|word| word.len() + 1).sum::<usize>() + offset;
        let text = words.join(".");
        for error in [topic_error(&text), pattern_error(&text)] {
            prop_assert_eq!(place(&error), (words[index].as_str(), index + 1, position));
        }
    }

    #[test]
    fn checking_never_panics_and_locates_within_the_text(text in "(?s).{0,300}") {
        for error in [validate(&text).err(), Pattern::new(&text).err()].into_iter().flatten() {
            prop_assert!(text.is_char_boundary(error.byte_position()));
            prop_assert!(text.split('.').nth(error.word_index() - 1).unwrap().starts_with(error.word()));
        }
    }
}
