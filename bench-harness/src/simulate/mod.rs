//! `simulate`: what a contract would do to the messages of a scenario, on a virtual clock.
//!
//! A scenario is a TOML file: subscriptions with their retries, breakers and backlogs, handlers that fail as they
//! are told, and steps. It is read ([`scenario`]), what contradicts itself is refused ([`check`]), and then the
//! engine's own broker goes through it without a thread ([`run`]). So the answer is the engine's, and not that of a
//! model of it. Nothing in it depends on the machine: the same file has the same answer, byte for byte.

mod account;
mod check;
mod file;
mod handler;
mod options;
mod report;
mod run;
mod scenario;
mod source;
pub(crate) mod text;
mod values;

use crate::error::Error;
pub(crate) use file::SimulateFile;
use report::SimulateAnswer;

/// The form of a scenario, for who asks for help.
pub(crate) const HELP: &str = include_str!("help.txt").trim_ascii_end();

/// Runs a scenario.
pub(crate) fn simulate(file: &SimulateFile) -> Result<SimulateAnswer, Error> {
    let (source, scenario) = check::read(&file.file)?;
    let outcome = run::run(&source, &scenario)?;
    Ok(SimulateAnswer::new(file, &scenario, outcome))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::source::Source;
    use super::{HELP, check, run};

    /// The scenarios that come with the program.
    fn examples() -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).expect("a scenario")).collect()
    }

    #[test]
    fn the_example_in_the_help_is_a_scenario() {
        let lines = HELP.lines().filter_map(|line| line.strip_prefix("    "));
        let source = Source::of("test.toml", lines.collect::<Vec<_>>().join("\n"));
        let outcome = check::parse(&source).and_then(|scenario| run::run(&source, &scenario));
        assert_eq!(
            outcome.map(|outcome| outcome.ledger.published).map_err(|error| error.to_string()),
            Ok(100)
        );
    }

    /// Goes through a text, be it a scenario or not. Large ones take too long here.
    fn try_out(text: String) {
        let source = Source::of("test.toml", text);
        if let Ok(scenario) = check::parse(&source) {
            let publishes = scenario.steps.iter().filter_map(|step| step.get_ref().publish.as_ref());
            if publishes.map(|publish| publish.get_ref().count()).sum::<u64>() <= 2_000
                && let Ok(outcome) = run::run(&source, &scenario)
            {
                assert!(outcome.ledger.is_balanced(), "{}\nfor {}", outcome.ledger, source.text);
            }
        }
    }

    /// Pieces that scenarios are made of.
    const PIECES: [&str; 32] = [
        "\n[[step]]\n",
        "\n[[subscription]]\n",
        "[",
        "]",
        "{",
        "}",
        "=",
        ",",
        "\"",
        "\n",
        ".",
        "0",
        "9",
        "-1",
        "2.0",
        "nan",
        "name = \"b\"",
        "patterns = [\"#\"]",
        "advance = \"1s\"",
        "pause = \"billing\"",
        "unsubscribe = \"billing\"",
        "shutdown = \"0s\"",
        "replay = { of = \"billing\" }",
        "publish = { topic = \"orders\" }",
        "publish = { topic = \"orders\", every = \"1ns\", ttl = \"0s\", count = 9 }",
        "\"0s\"",
        "\"87600h\"",
        "0.1",
        "handler = { of = \"billing\", fails = { rate = 0.5 }, as = \"panic\" }",
        "\"always\"",
        "\"dead-letter\"",
        "breaker = { of = \"billing\", to = \"closed\" }",
    ];

    #[test]
    fn a_scenario_of_too_many_calls_is_refused() {
        let subscription =
            "[[subscription]]\nname = \"a\"\npatterns = [\"x\"]\nhandler = { fails = \"always\" }\n";
        let retry = "retry = { attempts = 65535, delay = \"0s\" }\n";
        let step = "[[step]]\npublish = { topic = \"x\", count = 9 }\n";
        let source = Source::of("test.toml", [subscription, retry, step].concat());
        let scenario = check::parse(&source).expect("a scenario");
        let refusal = run::run(&source, &scenario).err().expect("too many").to_string();
        assert_eq!(refusal, "test.toml: the scenario makes more than 2,000 calls");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            pieces in prop::collection::vec(
                prop_oneof![select(&PIECES[..]).prop_map(str::to_owned), ".{0,8}"],
                0..24,
            ),
        ) {
            try_out(pieces.concat());
        }

        #[test]
        fn no_bytes_make_it_panic(
            example in select(examples()),
            changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let is_a_line = |refusal: &String| refusal.starts_with("scenario.toml") && !refusal.contains('\n');
            prop_assert!(super::text::check(&bytes).err().iter().all(is_a_line));
            let mut changed = example.into_bytes();
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            prop_assert!(super::text::check(&changed).err().iter().all(is_a_line));
        }

        #[test]
        fn no_change_of_a_scenario_makes_it_panic(
            example in select(examples()),
            changes in prop::collection::vec((any::<Index>(), 0_usize..12, select(&PIECES[..])), 1..5),
        ) {
            let mut text = example;
            for (place, cut, piece) in changes {
                let mut at = place.index(text.len() + 1);
                at = text.floor_char_boundary(at);
                let end = text.floor_char_boundary((at + cut).min(text.len())).max(at);
                text.replace_range(at..end, if cut % 3 == 0 { "" } else { piece });
            }
            try_out(text);
        }

        #[test]
        fn no_other_line_in_a_scenario_makes_it_panic(
            example in select(examples()),
            other in select(examples()),
            lines in prop::collection::vec((any::<Index>(), any::<Index>(), any::<bool>()), 1..6),
        ) {
            let mut text: Vec<&str> = example.lines().collect();
            let others: Vec<&str> = other.lines().collect();
            for (at, from, is_added) in lines {
                let at = at.index(text.len());
                if is_added {
                    text.insert(at, others[from.index(others.len())]);
                } else {
                    text[at] = others[from.index(others.len())];
                }
            }
            try_out(text.join("\n"));
        }
    }
}
