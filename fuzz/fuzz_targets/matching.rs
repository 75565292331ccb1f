//! A topic and some patterns, one a line: the trie, `Pattern::matches` and the definition find the same, before and
//! after patterns are removed; and what covers and overlaps what agrees with that.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain::routing::{Linter, Oddity, Trie};
use ringmain::topic::{Pattern, Topic};

/// The most patterns of one input: all are compared with all.
const MOST: usize = 12;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let Some(Ok(topic)) = lines.next().map(Topic::new) else { return };
    let mut patterns: Vec<Pattern> = lines.filter_map(|line| Pattern::new(line).ok()).take(MOST).collect();
    let is_matched: Vec<bool> = patterns.iter().map(|pattern| is_filled(pattern, &topic)).collect();

    let mut trie = Trie::new();
    for (number, pattern) in patterns.iter().enumerate() {
        assert_eq!(pattern.matches(&topic), is_matched[number], "{pattern} and {topic}");
        trie.insert(pattern, number);
    }
    let found = |trie: &Trie<usize>| {
        let mut found = Vec::new();
        trie.matches(topic.as_str(), &mut found);
        found
    };
    let wanted = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..patterns.len()).filter(|&number| is_matched[number] && wanted(number)).collect()
    };
    let before = trie.clone();
    assert_eq!(found(&trie), wanted(&|_| true));
    for (number, pattern) in patterns.iter().enumerate().step_by(2) {
        assert!(trie.remove(pattern, &number));
    }
    assert_eq!(found(&trie), wanted(&|number| number % 2 == 1));
    assert_eq!(found(&before), wanted(&|_| true), "a snapshot does not change");

    let literal = Pattern::from(topic.clone());
    for (one, one_matches) in patterns.iter().zip(&is_matched) {
        assert_eq!((one.covers(&literal), one.overlaps(&literal)), (*one_matches, *one_matches), "{one}");
        assert_eq!(one.normalized().matches(&topic), *one_matches, "{one}");
        for (other, other_matches) in patterns.iter().zip(&is_matched) {
            let overlaps = one.overlaps(other);
            assert_eq!(other.overlaps(one), overlaps, "{one} and {other}");
            assert!(overlaps || !(*one_matches && *other_matches), "{one} and {other} both match {topic}");
            if one.covers(other) {
                assert!(overlaps, "{one} covers {other}");
                assert!(*one_matches || !*other_matches, "{one} covers {other}, not {topic}");
            }
        }
    }
    patterns.push(literal);
    agrees(&patterns);
});

/// The definition: which of the pattern's beginnings can be filled with which of the topic's.
fn is_filled(pattern: &Pattern, topic: &Topic) -> bool {
    let words: Vec<&str> = topic.words().collect();
    let mut filled = vec![false; words.len() + 1];
    filled[0] = true;
    for segment in pattern.words() {
        let before = filled.clone();
        for end in 0..=words.len() {
            filled[end] = match segment {
                "#" => before[..=end].contains(&true),
                "*" => end > 0 && before[end - 1],
                word => end > 0 && before[end - 1] && words[end - 1] == word,
            };
        }
    }
    filled[words.len()]
}

/// Whether what the linter says is true.
fn agrees(patterns: &[Pattern]) {
    let mut linter = Linter::new(patterns);
    for (number, pattern) in patterns.iter().enumerate() {
        let is_true = match linter.oddity(number) {
            None => true,
            Some(Oddity::Duplicate { of }) => of < number && patterns[of] == *pattern,
            Some(Oddity::Equivalent { to }) => {
                to < number && patterns[to].covers(pattern) && pattern.covers(&patterns[to])
            }
            Some(Oddity::Shadowed { by }) => patterns[by].covers(pattern) && !pattern.covers(&patterns[by]),
        };
        assert!(is_true, "{:?} of {pattern}", linter.oddity(number));
    }
}
