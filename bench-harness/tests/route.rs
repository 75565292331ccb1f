//! `route` against a matcher of its own: the two share no code and no idea. And what its linter
//! says.

mod support;

use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::io::Write;

use serde_json::Value;
use support::{Answer, Scratch, run};

fn route(scratch: &Scratch, patterns: impl AsRef<[u8]>, topics: impl AsRef<[u8]>) -> Answer {
    let (patterns, topics) = (scratch.file("patterns.txt", patterns), scratch.file("topics.txt", topics));
    run(&["route", "--patterns", &patterns, "--topics", &topics])
}

/// The definition, word by word: `*` takes one word, `#` any number.
fn matches(pattern: &[&str], topic: &[&str]) -> bool {
    match pattern {
        [] => topic.is_empty(),
        ["#", rest @ ..] => (0..=topic.len()).any(|taken| matches(rest, &topic[taken..])),
        ["*", rest @ ..] => !topic.is_empty() && matches(rest, &topic[1..]),
        [word, rest @ ..] => topic.first() == Some(word) && matches(rest, &topic[1..]),
    }
}

fn expected(patterns: &[String], topics: &[String]) -> String {
    let mut lines = BTreeSet::new();
    for topic in topics {
        for pattern in patterns {
            let pattern_words: Vec<_> = pattern.split('.').collect();
            if matches(&pattern_words, &topic.split('.').collect::<Vec<_>>()) {
                lines.insert(format!("{topic}\t{pattern}\n").into_bytes());
            }
        }
    }
    String::from_utf8(lines.into_iter().flatten().collect()).expect("UTF-8")
}

/// A small generator of numbers (Steele and Vigna's SplitMix64), so that a failure can be had again
/// from its seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn name(&mut self, words: &[&str]) -> String {
        let length = 1 + self.below(6);
        (0..length).map(|_| words[self.below(words.len())]).collect::<Vec<_>>().join(".")
    }
}

#[test]
fn every_match_of_random_names_is_printed_once_and_sorted() {
    let scratch = Scratch::new("route-random");
    // Few words, so that much matches; one a prefix of another, and some that sort beside the dot
    // and the tab.
    let words = ["a", "aa", "b", "!", "-", "é", "日本"];
    let wild = ["a", "aa", "b", "!", "é", "*", "*", "#", "#"];
    for seed in 0..20 {
        println!("seed {seed}");
        let mut numbers = Numbers(seed);
        let patterns: Vec<_> = (0..80).map(|_| numbers.name(&wild)).collect();
        let topics: Vec<_> = (0..80).map(|_| numbers.name(&words)).collect();
        let line_end = ["\n", "\r\n"][numbers.below(2)];
        let last = ["", line_end][numbers.below(2)];
        let answer = route(&scratch, patterns.join(line_end) + last, topics.join(line_end) + last);
        assert_eq!(answer.code, Some(0), "seed {seed}: {answer:?}");
        assert_eq!(answer.stdout, expected(&patterns, &topics), "seed {seed}");
    }
}

#[test]
fn duplicates_count_once_and_spellings_count_each() {
    let scratch = Scratch::new("route-duplicates");
    let answer = route(&scratch, "#\na\n#\n#.#\na\n", "b\na\nb\na\n");
    assert_eq!(answer.stdout, "a\t#\na\t#.#\na\ta\nb\t#\nb\t#.#\n");
}

#[test]
fn a_pattern_of_many_hashes_takes_no_time() {
    let scratch = Scratch::new("route-hostile");
    let pattern = ["#"; 32].join(".") + "\n" + &["#.a"; 16].join(".") + "\n" + &["*.#"; 15].join(".") + ".b";
    let topic = ["a"; 32].join(".");
    let started = std::time::Instant::now();
    let answer = route(&scratch, &pattern, &topic);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.stdout.lines().count(), 2, "{}", answer.stdout);
    assert!(started.elapsed() < support::within_seconds(10), "{:?}", started.elapsed());
}

#[test]
fn the_largest_names_match_and_larger_ones_are_refused() {
    let scratch = Scratch::new("route-limits");
    let longest = "x".repeat(255);
    let answer = route(&scratch, &longest, &longest);
    assert_eq!(answer.stdout, format!("{longest}\t{longest}\n"));
    route(&scratch, "#", longest + "x").refused(2, &["topics.txt", "line 1", "256 bytes"]);
    let deepest = ["x"; 32].join(".");
    assert_eq!(route(&scratch, "#", &deepest).stdout, format!("{deepest}\t#\n"));
    route(&scratch, "#", deepest + ".x").refused(2, &["topics.txt", "line 1", "33 words"]);
}

#[test]
fn nothing_in_is_nothing_out() {
    let scratch = Scratch::new("route-empty");
    for (patterns, topics) in [("", ""), ("#", ""), ("", "a"), ("b\n", "a\n")] {
        let answer = route(&scratch, patterns, topics);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), ""), "{patterns:?} {topics:?}");
    }
}

#[test]
fn a_line_that_is_no_name_is_refused_with_file_line_and_place() {
    let scratch = Scratch::new("route-grammar");
    let hostile: &[(&[u8], &[&str])] = &[
        (b"\n", &["line 1", "empty"]),
        (b"ok\n\nok\n", &["line 2", "empty"]),
        (b"ok\nok\n\n", &["line 3", "empty"]),
        (b"ok\n.a\n", &["line 2", "word 1", "byte 0", "empty"]),
        (b"ok\na..b\n", &["line 2", "word 2", "byte 2", "empty"]),
        (b"a.\n", &["line 1", "word 2", "empty"]),
        (b"a\tb\n", &["line 1", "byte 1", "white space"]),
        (b" a\n", &["line 1", "white space"]),
        (b"a \r\n", &["line 1", "white space"]),
        (b"a\rb\n", &["line 1", "byte 1"]),
        (b"a\r\r\n", &["line 1", "byte 1"]),
        (b"a\0b\n", &["line 1", "control character"]),
        (b"ok\r\nok\r\na.\xC3\x28\r\n", &["line 3", "byte 2", "not UTF-8"]),
        (b"\xFF\xFEa\0", &["line 1", "byte 0", "not UTF-8"]),
        (b"a.b#\n", &["line 1", "word 2", "'#'"]),
        (b"a*\n", &["line 1", "word 1", "'*'"]),
    ];
    for (bytes, reasons) in hostile {
        let mut topics_reasons = vec!["topics.txt"];
        topics_reasons.extend(*reasons);
        route(&scratch, "#", bytes).refused(2, &topics_reasons);
        let mut patterns_reasons = vec!["patterns.txt"];
        patterns_reasons.extend(*reasons);
        route(&scratch, bytes, "ok").refused(2, &patterns_reasons);
    }
    route(&scratch, "#", "ok\na.*\n").refused(2, &["topics.txt", "line 2", "word 2", "'*' is a wildcard"]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    let scratch = Scratch::new("route-mark");
    assert_eq!(route(&scratch, "\u{FEFF}a\n", "\u{FEFF}a\n").stdout, "a\ta\n");
}

#[test]
fn files_that_cannot_be_read_are_an_input_error() {
    let scratch = Scratch::new("route-missing");
    let there = scratch.file("there", "a\n");
    let missing = scratch.path("missing");
    run(&["route", "--patterns", &missing, "--topics", &there]).refused(4, &["missing"]);
    run(&["route", "--patterns", &there, "--topics", &missing]).refused(4, &["missing"]);
    run(&["route", "--patterns", &scratch.path(""), "--topics", &there]).refused(4, &["cannot read"]);
    run(&["route", "--patterns", &there, "--topics", &scratch.path("")]).refused(4, &["cannot read"]);
    run(&["route", "--patterns", &scratch.path(""), "--lint"]).refused(4, &["cannot read"]);
    if cfg!(target_os = "linux") {
        // It opens, and then cannot be read.
        run(&["route", "--patterns", "/proc/self/mem", "--lint"]).refused(4, &["cannot read /proc/self/mem"]);
    }
}

#[test]
fn a_file_that_is_no_text_is_refused_in_no_time_to_speak_of() {
    let scratch = Scratch::new("route-garbage");
    let there = scratch.file("there", "a\n");
    // One line of 10 MB, zeros, and noise.
    let mut numbers = Numbers(7);
    let noise: Vec<u8> = (0..100_000).map(|_| numbers.below(256) as u8).collect();
    let cases: [(Vec<u8>, &str); 3] = [
        (vec![b'a'; 10_000_000], "longer than 65536 bytes"),
        (vec![0; 10_000_000], "longer than 65536 bytes"),
        (noise, "line 1"),
    ];
    for (bytes, reason) in cases {
        let file = scratch.file("garbage", bytes);
        run(&["route", "--patterns", &file, "--topics", &there]).refused(2, &["garbage", reason]);
        run(&["route", "--patterns", &there, "--topics", &file]).refused(2, &["garbage", reason]);
        run(&["route", "--patterns", &file, "--lint"]).refused(2, &["garbage", reason]);
        run(&["route", "--patterns", &there, "--topics", &file, "--lint"]).refused(2, &["garbage", reason]);
    }
}

#[test]
fn json_has_the_same_matches_as_the_text() {
    let scratch = Scratch::new("route-json");
    let patterns = scratch.file("patterns.txt", "a.*\n#\n");
    let topics = scratch.file("topics.txt", "a.b\nc\n");
    let arguments = ["route", "--patterns", &patterns, "--topics", &topics];
    let text = run(&arguments).stdout;
    assert_eq!(text, "a.b\t#\na.b\ta.*\nc\t#\n");

    let alone = run(&[&arguments[..], &["--json", "-"]].concat());
    let json: Value = serde_json::from_str(&alone.stdout).expect("JSON and nothing else");
    let from_json: String = json["matches"]
        .as_array()
        .expect("matches")
        .iter()
        .map(|found| {
            format!("{}\t{}\n", found["topic"].as_str().unwrap(), found["pattern"].as_str().unwrap())
        })
        .collect();
    assert_eq!(from_json, text);

    let file = scratch.path("out.json");
    let both = run(&[&arguments[..], &["--json", &file]].concat());
    assert_eq!(both.stdout, text);
    assert_eq!(std::fs::read_to_string(file).expect("the file"), alone.stdout);
}

fn lint(scratch: &Scratch, patterns: &str, topics: Option<&str>) -> Answer {
    let patterns = scratch.file("patterns.txt", patterns);
    let topics = topics.map(|topics| scratch.file("topics.txt", topics));
    let mut arguments = vec!["route", "--lint", "--patterns", &patterns];
    arguments.extend(topics.iter().flat_map(|topics| ["--topics", topics]));
    run(&arguments)
}

#[test]
fn lint_tells_what_is_odd_about_patterns_and_is_content_with_the_rest() {
    let scratch = Scratch::new("route-lint");
    let patterns = "a.*\na.#\na.*\n#.a.#.#\n#.a.#\nb\n";
    let answer = lint(&scratch, patterns, None);
    let shadowed = "1\ta.*\tshadowed\ta.#\t2\t\n2\ta.#\tshadowed\t#.a.#.#\t4\t\n";
    let same = "3\ta.*\tduplicate\ta.*\t1\t\n5\t#.a.#\tequivalent\t#.a.#.#\t4\t\n";
    assert_eq!((answer.code, answer.stdout), (Some(0), format!("{shadowed}{same}")));

    let answer = lint(&scratch, patterns, Some("a\nb.c\n"));
    let lines: Vec<&str> = answer.stdout.lines().filter(|line| line.contains("unmatched")).collect();
    assert_eq!(lines, ["1\ta.*\tunmatched\t\t\t", "6\tb\tunmatched\t\t\t"]);
    assert_eq!(lint(&scratch, "a\nb.#\n", Some("a\nb\n")).stdout, "");
    assert_eq!(lint(&scratch, "", None).stdout, "");
}

#[test]
fn lint_offers_the_simplest_pattern() {
    let scratch = Scratch::new("route-lint-form");
    let answer = lint(&scratch, "a.*.#\na.#.#.*\n", None);
    assert_eq!(answer.stdout, "2\ta.#.#.*\tequivalent\ta.*.#\t1\ta.*.#\n");
}

#[test]
fn lint_knows_the_wildcards_of_other_systems() {
    let scratch = Scratch::new("route-lint-foreign");
    let patterns = "orders.>\norders.*\norders/+/x\na.{id}\n$SYS.#\n";
    let answer = lint(&scratch, patterns, None);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "1\torders.>\tforeign\t\t\t\t\">\" stands for itself here; write \"#\" for any number of words",
            "1\torders.>\tshadowed\torders.*\t2\t",
            "3\torders/+/x\tforeign\t\t\t\t\"orders/+/x\" stands for itself here; separate words by '.', and \
             write \"*\" for one of them",
            "4\ta.{id}\tforeign\t\t\t\t\"{id}\" stands for itself here; write \"*\" for one word, or subscribe to \
             several patterns",
            "5\t$SYS.#\tforeign\t\t\t\t\"$SYS\" stands for itself here; nothing is published to such topics \
             unless you do",
        ]
    );
    let file = scratch.file("patterns.txt", "orders.>\n");
    let json: Value =
        serde_json::from_str(&run(&["route", "--lint", "--patterns", &file, "--json", "-"]).stdout)
            .expect("JSON");
    let hint = "\">\" stands for itself here; write \"#\" for any number of words";
    let expected = serde_json::json!([
        { "line": 1, "pattern": "orders.>", "kind": "foreign", "word": ">", "hint": hint },
    ]);
    assert_eq!(json["findings"], expected);
}

#[test]
fn help_names_every_kind_of_finding() {
    let help = run(&["route", "--help"]).stdout;
    for kind in ["duplicate", "equivalent", "shadowed", "foreign", "unmatched"] {
        assert!(help.contains(&format!("'{kind}'")), "{kind} is not in: {help}");
    }
}

#[test]
fn lint_refuses_what_is_no_name_and_says_nothing_else() {
    let scratch = Scratch::new("route-lint-grammar");
    lint(&scratch, "a\na\nb#\n", None).refused(2, &["patterns.txt", "line 3", "'#'"]);
    lint(&scratch, "a\na\n", Some("a\n*\n")).refused(2, &["topics.txt", "line 2", "'*'"]);
    let file = scratch.file("patterns.txt", "a\n");
    run(&["route", "--lint", "--patterns", &file, "--topics", &scratch.path("none")]).refused(4, &["none"]);
}

#[test]
fn lint_has_the_same_findings_as_json() {
    let scratch = Scratch::new("route-lint-json");
    let patterns = scratch.file("patterns.txt", "#.*\n#\nb\n");
    let arguments = ["route", "--lint", "--patterns", &patterns, "--json", "-"];
    let json: Value = serde_json::from_str(&run(&arguments).stdout).expect("JSON and nothing else");
    assert_eq!(json["config"], serde_json::json!({ "patterns": patterns, "lint": true }));
    assert_eq!(
        json["findings"],
        serde_json::json!([
            { "line": 2, "pattern": "#", "kind": "equivalent", "other": "#.*", "other_line": 1 },
            { "line": 3, "pattern": "b", "kind": "shadowed", "other": "#.*", "other_line": 1 },
        ])
    );
}

#[test]
fn lint_knows_both_line_ends_and_a_byte_order_mark() {
    let scratch = Scratch::new("route-lint-ends");
    let duplicate = "2\ta.b\tduplicate\ta.b\t1\t\n";
    for patterns in ["a.b\na.b", "a.b\r\na.b\r\n", "\u{FEFF}a.b\r\na.b\n"] {
        assert_eq!(lint(&scratch, patterns, None).stdout, duplicate, "{patterns:?}");
    }
    lint(&scratch, "a\r\n\r\nb\r\n", None).refused(2, &["patterns.txt", "line 2", "empty"]);
    lint(&scratch, "\u{FEFF}", None).refused(2, &["patterns.txt", "line 1", "empty"]);
}

/// Patterns of which each takes very long to match: alike, and full of wildcards.
#[cfg(target_os = "linux")]
fn hostile_patterns() -> String {
    let mut numbers = Numbers(11);
    let words = ["#", "*", "a", "#", "b"];
    let mut pattern = || (0..32).map(|_| words[numbers.below(words.len())]).collect::<Vec<_>>().join(".");
    // What is done between two looks at the interrupt is to take no longer under a sanitizer.
    let slowdown = support::slowdown() as usize;
    (0..10_000 / slowdown).map(|_| pattern() + "\n").collect()
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupt_ends_hostile_work_in_order() {
    let scratch = Scratch::new("route-interrupt");
    let patterns = scratch.file("patterns.txt", hostile_patterns());
    let mut numbers = Numbers(13);
    let mut topic = || (0..32).map(|_| ["a", "b"][numbers.below(2)]).collect::<Vec<_>>().join(".");
    let topics = scratch.file("topics.txt", (0..10_000).map(|_| topic() + "\n").collect::<String>());
    let json = scratch.path("out.json");
    let commands: [&[&str]; 3] = [
        &["route", "--lint", "--patterns", &patterns, "--json", &json],
        &["route", "--lint", "--patterns", &patterns, "--topics", &topics, "--json", &json],
        &["route", "--patterns", &patterns, "--topics", &topics, "--json", &json],
    ];
    for arguments in commands {
        let mut child = support::program(arguments).spawn().expect("the program starts");
        support::until(&mut child, |seen| seen.worked > std::time::Duration::from_secs(2));
        let (code, took) = support::interrupt(&mut child, "INT");
        assert_eq!(code, Some(130), "{arguments:?}");
        assert!(took < support::within_seconds(2), "{arguments:?}: {took:?}");
        assert!(!std::path::Path::new(&json).exists(), "{arguments:?} left half an answer");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_topics_or_the_matches() {
    let scratch = Scratch::new("route-memory");
    // The topics alone take 48 MB, and their matches twice as much again. Written backwards, so
    // that they need sorting.
    let topics = scratch.path("topics.txt");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&topics).expect("a scratch file"));
    for number in (0..400_000).rev() {
        writeln!(out, "{number:06}.{}", "x".repeat(113)).expect("room for a scratch file");
    }
    out.flush().expect("room for a scratch file");
    let patterns = scratch.file("patterns.txt", "#\n*.*\n");
    // In KiB, of all address space. A sanitizer takes terabytes of it.
    let is_sanitized = support::within_seconds(1).as_secs() > 1;
    let limit = if is_sanitized { "unlimited" } else { "150000" };
    let command = format!("ulimit -v {limit}; exec \"$0\" route --patterns \"$1\" --topics \"$2\" | wc -lc");
    let program = env!("CARGO_BIN_EXE_ringmain-bench");
    let answer = std::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", &command, program, &patterns, &topics])
        .output()
        .expect("a shell");
    let counted = String::from_utf8(answer.stdout).expect("UTF-8");
    assert!(answer.status.success(), "{} {}", answer.status, String::from_utf8_lossy(&answer.stderr));
    assert!(counted.split_whitespace().eq(["800000", "99200000"]), "{counted}");
}
