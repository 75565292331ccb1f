//! The contract of the command line: exit codes, refusals that name what is wrong, and a standard
//! output that is either whole or empty.

mod support;

use serde_json::Value;
use support::{Scratch, run};

#[test]
fn help_and_version_are_answers() {
    for arguments in [&["--help"][..], &["--version"], &["latency", "--help"], &["route", "-h"]] {
        let answer = run(arguments);
        assert_eq!(answer.code, Some(0), "{arguments:?}");
        assert!(!answer.stdout.is_empty() && answer.stderr.is_empty(), "{answer:?}");
    }
    assert!(run(&["--version"]).stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_help_text_tells_the_exit_codes() {
    let commands = [
        "run",
        "floor",
        "latency",
        "throughput",
        "compare",
        "topology",
        "routing",
        "replay",
        "waiting",
        "degrade",
        "cost",
        "route",
        "simulate",
    ];
    let all = run(&["--help"]).stdout;
    for command in commands {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not in: {all}");
    }
    for arguments in [vec!["--help"]].into_iter().chain(commands.map(|command| vec![command, "--help"])) {
        let text = words(&run(&arguments).stdout);
        for code in
            ["0 done", "1 a check", "2 unusable", "3 the machine", "4 input or output", "130 interrupted"]
        {
            assert!(text.contains(code), "{arguments:?} does not tell of '{code}': {text}");
        }
    }
}

/// A text without its line ends and indents.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn help_names_the_way_to_wait_that_is_the_default() {
    let help = words(&run(&["latency", "--help"]).stdout);
    let (_, of_wait) = help.split_once("--wait <STRATEGY>").expect("the flag");
    let crowded = ["latency", "--publishers", "200", "--rate", "1000", "--duration", "0.01", "--json", "-"];
    let json: Value = serde_json::from_str(&run(&crowded).stdout).expect("JSON");
    let default = json["config"]["wait"].as_str().expect("a way to wait");
    assert!(of_wait.contains(&format!("a core of its own, else {default}]")), "{default}: {of_wait}");
}

#[test]
fn help_states_the_range_that_a_refusal_names() {
    let flags = [
        ("floor", "--duration"),
        ("latency", "--rate"),
        ("latency", "--duration"),
        ("latency", "--payload"),
        ("latency", "--publishers"),
        ("latency", "--subscribers"),
        ("latency", "--topics"),
        ("latency", "--capacity"),
        ("compare", "--rounds"),
        ("routing", "--patterns"),
        ("degrade", "--steps"),
        ("degrade", "--messages"),
        ("degrade", "--rounds"),
        ("degrade", "--rate"),
        ("cost", "--pairs"),
    ];
    for (command, flag) in flags {
        let refusal = run(&[command, flag, "-1"]).stderr;
        let (_, range) =
            refusal.split_once(" from ").unwrap_or_else(|| panic!("{command} {flag}: {refusal}"));
        let range: Vec<&str> = range.split([' ', ',', '\n']).take(3).collect();
        let range = format!("from {}", range.join(" "));
        let help = words(&run(&[command, "--help"]).stdout);
        let (_, of_flag) = help.split_once(&format!(" {flag} <")).expect(flag);
        let of_flag = of_flag.split(" --").next().expect("a first part");
        assert!(of_flag.contains(&range), "{command} {flag}: '{range}' is not in: {of_flag}");
    }
}

#[test]
fn words_that_make_no_command_line_are_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["no-such-command"], "'no-such-command'"),
        (&["--no-such-flag"], "'--no-such-flag'"),
        (&["latency", "--no-such-flag"], "'--no-such-flag'"),
        (&["route"], "--patterns <FILE>"),
        (&["route", "--patterns", "x"], "--topics <FILE>"),
        (&["replay"], "<FILE.csv>"),
        (&["simulate"], "<FILE.toml>"),
        (&["simulate", "x.toml", "--seed", "1"], "unexpected argument '--seed'"),
        (&["replay", "x.csv", "--topic", "t"], "--subscribe <PATTERN>..."),
        (&["latency", "--rate"], "--rate <N|max>"),
        (&["throughput", "--rate", "5"], "unexpected argument '--rate'"),
        (
            &["latency", "--wait", "patiently"],
            "[possible values: busy-spin, yielding, backoff, adaptive, blocking]",
        ),
        (&["latency", "--quick"], "'--quick'"),
        (&["--quick", "floor"], "--quick is an option of 'run'"),
        (&["latency", "--payload", "1", "--payload", "2"], "cannot be used multiple times"),
        (&["route", "--lint", "--lint", "--patterns", "x"], "cannot be used multiple times"),
        (&["route", "--patterns", "x", "--patterns", "y", "--lint"], "cannot be used multiple times"),
        (&["route", "--patterns", "x", "--topics", "y", "--topics", "y"], "cannot be used multiple times"),
        (&["route", "--patterns", "", "--lint"], "a value is required for '--patterns <FILE>'"),
        (&["route", "--patterns", "x", "--lint=yes"], "unexpected value 'yes'"),
    ];
    for (arguments, reason) in cases {
        run(arguments).refused(2, &[reason]);
    }
}

#[test]
fn a_number_out_of_range_is_refused_with_flag_value_and_range() {
    let rate = "messages per second from 0.001 to 1000000000, or 'max'";
    let seconds = "seconds from 0.001 to 604800";
    let cases: &[(&str, &[&str], &str)] = &[
        ("--rate", &["0", "-1", "NaN", "nan", "inf", "-inf", "1e10", "fast", ""], rate),
        ("--duration", &["0", "-1", "NaN", "inf", "1e9", "5s", ""], seconds),
        ("--payload", &["-1", "65537", "1.5", "NaN", ""], "bytes from 0 to 65536"),
        ("--publishers", &["0", "-1", "257", "99999999999999999999"], "publishers from 1 to 256"),
        ("--subscribers", &["0", "-1", "1025"], "subscribers from 1 to 1024"),
        ("--topics", &["0", "-1", "1000001"], "topics from 1 to 1000000"),
        ("--capacity", &["0", "-1", "33554432", "x"], "from 1 to 16777216"),
    ];
    for (flag, values, range) in cases {
        for value in *values {
            let answer = run(&["latency", flag, value]);
            answer.refused(2, &[flag, &format!("'{value}'"), range]);
            if *flag != "--rate" {
                run(&["throughput", flag, value]).refused(2, &[flag, range]);
            }
        }
    }
}

#[test]
fn a_capacity_that_is_no_power_of_two_is_told_the_next_one() {
    run(&["latency", "--capacity", "1000"]).refused(2, &["--capacity", "'1000'", "the next one is 1024"]);
}

#[test]
fn cores_that_cannot_be_used_are_refused() {
    for command in ["latency", "throughput", "floor"] {
        run(&[command, "--cores", "99999"])
            .refused(2, &["--cores", "core 99999 does not exist", "cores are"]);
        run(&[command, "--cores", "x"]).refused(2, &["--cores", "'x' is not a core"]);
        run(&[command, "--cores", ""]).refused(2, &["--cores"]);
        run(&[command, "--cores", "-1"]).refused(2, &["--cores", "'-1' is not a core"]);
    }
}

#[test]
fn more_bound_publishers_than_memory_allows_are_refused() {
    let arguments = ["latency", "--publishers", "256", "--topics", "1000000", "--duration", "0.01"];
    run(&arguments).refused(2, &["--publishers", "--topics", "--runtime-topics"]);
}

#[test]
fn a_core_that_is_named_twice_is_refused() {
    let online = run(&["floor", "--duration", "0.01", "--json", "-"]).stdout;
    let online: Value = serde_json::from_str(&online).expect("JSON");
    let cores = online["machine"]["cores_online"].as_str().expect("a list of cores");
    let first: String = cores.chars().take_while(char::is_ascii_digit).collect();
    run(&["floor", "--cores", &format!("{first},{first}")]).refused(2, &["--cores", "named twice"]);
}

#[test]
fn the_floor_is_measured_and_reported_in_both_forms() {
    let scratch = Scratch::new("floor");
    let file = scratch.path("floor.json");
    let answer = run(&["floor", "--duration", "0.2", "--json", &file]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.starts_with("ringmain-bench floor"), "{}", answer.stdout);
    assert!(answer.stdout.contains("noise of this machine"), "{}", answer.stdout);
    let json: Value = serde_json::from_slice(&std::fs::read(file).expect("the file")).expect("JSON");
    assert_eq!((&json["schema"], &json["scenario"]), (&Value::from(1), &Value::from("floor")));
    assert_eq!(json["config"]["duration"], 0.2);
    assert!(json["elapsed_s"].as_f64().expect("seconds") >= 0.2);
    let noise = &json["noise_ns"];
    for field in ["p50", "p90", "p95", "p99", "p99_9", "p99_99", "max", "count"] {
        assert!(noise[field].is_u64(), "{field}: {noise}");
    }
    assert!(noise["p50"].as_u64() <= noise["max"].as_u64() && noise["mean"].is_f64(), "{noise}");
    assert!(json["peak_rss_bytes"].is_u64() || cfg!(not(unix)), "{json}");
    assert_eq!(json["mode"].is_string(), json["floor_ns"]["round_trip"].is_f64());
    assert!(json.get("ledger").is_none() && json.get("latency_ns").is_none(), "no field that does not apply");
}

#[test]
fn json_on_standard_output_stands_alone() {
    let answer = run(&["--json", "-", "floor", "--duration", "0.05"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let json: Value = serde_json::from_str(&answer.stdout).expect("JSON and nothing else");
    assert_eq!(json["scenario"], "floor");
    assert_eq!(answer.stderr, "", "no progress without a terminal");
}

#[test]
fn a_json_file_that_cannot_be_written_is_found_before_the_work() {
    let scratch = Scratch::new("unwritable");
    let started = std::time::Instant::now();
    let file = scratch.path("no-such-directory/out.json");
    run(&["floor", "--duration", "3600", "--json", &file]).refused(4, &["no-such-directory"]);
    run(&["floor", "--duration", "3600", "--json", &scratch.path("")]).refused(4, &["cannot write"]);
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn a_refused_run_leaves_the_json_file_as_it_was() {
    let scratch = Scratch::new("untouched");
    let (old, new) = (scratch.file("old.json", "precious"), scratch.path("new.json"));
    let missing = scratch.path("missing");
    for json in [&old, &new] {
        let answer = run(&["route", "--patterns", &missing, "--topics", &missing, "--json", json]);
        answer.refused(4, &["missing"]);
    }
    assert_eq!(std::fs::read_to_string(old).expect("the old file"), "precious");
    assert!(!std::path::Path::new(&new).exists());
}

#[test]
fn a_replay_refuses_bad_input_with_file_line_and_column() {
    let scratch = Scratch::new("replay");
    let file = scratch.file("rows.csv", "origin,dest\r\nJFK,LHR\r\nEWR,\r\n");
    let replay = |file: &str, template: &str, pattern: &str| {
        run(&["replay", file, "--topic", template, "--subscribe", pattern])
    };
    replay(&file, "f.{origin}.{dest}", "f.#").refused(2, &["rows.csv", "line 3", "column 'dest'", "empty"]);
    replay(&file, "f.{from}", "f.#").refused(2, &["rows.csv", "line 1", "'from'", "origin, dest"]);
    replay(&file, "f.{origin", "f.#").refused(2, &["--topic", "'{' at byte 2 is not closed"]);
    replay(&file, "f.{origin}", "f#").refused(2, &["--subscribe", "'f#'", "must be a word of its own"]);
    replay(&scratch.path("none.csv"), "f", "#").refused(4, &["none.csv"]);
    let empty = scratch.file("empty.csv", "");
    replay(&empty, "f", "#").refused(2, &["empty.csv", "the file is empty"]);
    let ragged = scratch.file("ragged.csv", "a,b\n1,2\n3\n");
    replay(&ragged, "f.{a}", "#").refused(2, &["ragged.csv", "line 3", "column 'b'"]);
    let bare = scratch.file("bare.csv", "a,b\r1,2\r");
    replay(&bare, "f.{a}", "#").refused(2, &["bare.csv", "line 1", "cell 2", "carriage return"]);
    let blanks = scratch.file("blanks.csv", "flight no,dest\n1,2\n");
    replay(&blanks, "f.{no}", "#").refused(2, &["line 1", "the columns are 'flight no', dest"]);
    let bytes = scratch.file("bytes.csv", b"a,b\n1,\xFF\n");
    replay(&bytes, "f.{a}", "#").refused(2, &["bytes.csv", "line 2", "column 'b', byte 0", "not UTF-8"]);
}

/// What only a unix offers: full devices, pipes, signals.
#[cfg(unix)]
mod unix {
    #[cfg(target_os = "linux")]
    use std::fs::OpenOptions;
    use std::io::Read;
    use std::process::Stdio;
    #[cfg(target_os = "linux")]
    use std::time::Duration;

    use super::support::{Answer, Scratch, interrupt, program, within_seconds};
    #[cfg(target_os = "linux")]
    use super::support::{run, until};

    /// The runs that write to standard output.
    fn writers(scratch: &Scratch) -> Vec<Vec<String>> {
        let (patterns, topics) = (scratch.file("patterns", "#\n"), scratch.file("topics", "a.b\n"));
        let (rows, twice) = (scratch.file("rows.csv", "a\n1\n"), scratch.file("twice", "a\na\n"));
        let words = |line: &[&str]| line.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        vec![
            words(&["--help"]),
            words(&["floor", "--duration", "0.01"]),
            words(&["floor", "--duration", "0.01", "--json", "-"]),
            words(&["route", "--patterns", &patterns, "--topics", &topics]),
            words(&["route", "--patterns", &twice, "--lint"]),
            words(&["route", "--patterns", &twice, "--lint", "--json", "-"]),
            words(&["latency", "--duration", "0.01"]),
            words(&["replay", &rows, "--topic", "t.{a}", "--subscribe", "#"]),
            words(&["simulate", "scenarios/exponential.toml"]),
            words(&["simulate", "scenarios/exponential.toml", "--json", "-"]),
        ]
    }

    fn run_into(arguments: &[String], stdout: Stdio) -> Answer {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        program(&arguments).stdout(stdout).output().expect("the program starts").into()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_output_error() {
        let scratch = Scratch::new("full");
        for arguments in writers(&scratch) {
            let full = OpenOptions::new().write(true).open("/dev/full").expect("a full device");
            run_into(&arguments, full.into()).refused(4, &["standard output", "No space left"]);
        }
        run(&["floor", "--duration", "0.01", "--json", "/dev/full"])
            .refused(4, &["/dev/full", "No space left"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn json_and_text_never_overwrite_each_other() {
        let scratch = Scratch::new("json-over-text");
        let mut arguments = writers(&scratch).swap_remove(3);
        let file = scratch.path("out");
        let names = [&*file, "/dev/stdout"];
        for name in names {
            let stdout = std::fs::File::create(&file).expect("a scratch file");
            let arguments: Vec<_> = arguments.iter().map(String::as_str).chain(["--json", name]).collect();
            let answer: Answer =
                program(&arguments).stdout(stdout).output().expect("the program starts").into();
            answer.refused(2, &["--json", "standard output", "--json -"]);
            assert_eq!(std::fs::read_to_string(&file).expect("a scratch file"), "", "{name}");
        }
        // A device takes both.
        arguments.extend(["--json", "/dev/null"].map(str::to_owned));
        assert_eq!(run_into(&arguments, Stdio::null()).code, Some(0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_whose_name_is_not_utf8_is_read_like_any_other() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let scratch = Scratch::new("odd-name");
        let file = std::path::PathBuf::from(scratch.path("")).join(OsStr::from_bytes(b"\xFF.csv"));
        std::fs::write(&file, "a\n").expect("a scratch file");
        let commands: [(&[&str], &[&str]); 3] = [
            (&["route", "--lint", "--json", "-", "--patterns"], &[]),
            (&["route", "--json", "-", "--patterns", "/dev/null", "--topics"], &[]),
            (&["replay", "--json", "-"], &["--topic", "t.{a}", "--subscribe", "#"]),
        ];
        for (before, after) in commands {
            let output = program(before).arg(&file).args(after).output().expect("the program starts");
            let answer = Answer::from(output);
            assert_eq!(answer.code, Some(0), "{answer:?}");
            assert!(answer.stdout.contains("\u{FFFD}.csv\""), "{}", answer.stdout);
        }
    }

    #[test]
    fn a_broken_pipe_is_an_output_error_and_no_panic() {
        let scratch = Scratch::new("pipe");
        for arguments in writers(&scratch) {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let answer = run_into(&arguments, writer.into());
            answer.refused(4, &["standard output", "Broken pipe"]);
            assert!(!answer.stderr.contains("panicked"), "{answer:?}");
        }
    }

    #[test]
    fn complaints_that_nobody_can_hear_change_no_exit_code() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = program(&["--no-such-flag"]).stderr(writer).status().expect("the program starts");
        assert_eq!(status.code(), Some(2));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_interrupted_run_ends_in_order_within_two_seconds() {
        let scratch = Scratch::new("interrupted");
        for signal in ["INT", "TERM"] {
            let file = scratch.path("out.json");
            let mut child = program(&["floor", "--duration", "3600", "--json", &file])
                .stdout(Stdio::null())
                .spawn()
                .expect("the program starts");
            // It measures by spinning.
            until(&mut child, |seen| seen.worked > Duration::from_millis(300));
            let (code, took) = interrupt(&mut child, signal);
            assert_eq!(code, Some(130), "{signal}");
            assert!(took < within_seconds(2), "{signal}: {took:?}");
            let json: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("whole JSON");
            assert_eq!(json["interrupted"], true, "the part that was done says that it is one");
        }
    }

    #[test]
    fn an_interrupt_ends_even_a_write_that_nobody_reads() {
        let scratch = Scratch::new("unread");
        let words: String = (0..20_000).map(|number| format!("topic.{number}\n")).collect();
        let (patterns, topics) = (scratch.file("patterns", "#\n"), scratch.file("topics", words));
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut child = program(&["route", "--patterns", &patterns, "--topics", &topics])
            .stdout(writer)
            .spawn()
            .expect("the program starts");
        // It has begun to write, and the rest is more than a pipe holds.
        reader.read_exact(&mut [0]).expect("the first byte");
        let (code, took) = interrupt(&mut child, "INT");
        assert_eq!(code, Some(130));
        assert!(took < within_seconds(2), "{took:?}");
        drop(reader);
    }
}

#[test]
fn json_never_overwrites_what_the_command_reads() {
    let scratch = Scratch::new("json-over-input");
    let rows = scratch.file("rows.csv", "b\nx\n");
    let names = scratch.file("names", "a.b\n");
    let other = scratch.file("other", "a.b\n");
    run(&["replay", &rows, "--topic", "r.{b}", "--subscribe", "#", "--json", &rows])
        .refused(2, &["overwrite"]);
    if cfg!(unix) {
        let linked = scratch.path("linked.csv");
        std::fs::hard_link(&rows, &linked).expect("a link");
        run(&["replay", &rows, "--topic", "r.{b}", "--subscribe", "#", "--json", &linked])
            .refused(2, &["overwrite"]);
    }
    run(&["route", "--patterns", &other, "--topics", &names, "--json", &names]).refused(2, &["overwrite"]);
    run(&["simulate", &names, "--json", &names]).refused(2, &["overwrite"]);
    assert_eq!(std::fs::read_to_string(&names).expect("it is still there"), "a.b\n");
}

#[test]
fn a_header_of_very_many_columns_is_read_in_no_time_to_speak_of() {
    let scratch = Scratch::new("many-columns");
    let header: Vec<String> = (0..200_000).map(|number| format!("c{number}")).collect();
    let row = vec!["1"; header.len()];
    let file = scratch.file("wide.csv", format!("{}\n{}\n", header.join(","), row.join(",")));
    let started = std::time::Instant::now();
    run(&["replay", &file, "--topic", "r.{c7}", "--subscribe", "#"]).refused(2, &["bytes"]);
    assert!(started.elapsed() < support::within_seconds(20), "{:?}", started.elapsed());
}
