//! Every mutant is killed by its model, in a process of its own: a deadlock that loom finds aborts it.
//!
//! Which mutants there are is read from the engine's sources, so that an edge which is used at a new end, or a piece of
//! logic which can be left out, is missed in the tables of the crate's documentation and not forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// The longest time for one model and one mutant. A model that is stopped has not failed.
const LIMIT: Duration = Duration::from_secs(150);

/// Mutants to try, separated by white space; all of them when it is not set.
const ONLY: &str = "RINGMAIN_MUTANTS";
/// Set: every model is run with every mutant, to see all that fail.
const AGAINST_ALL: &str = "RINGMAIN_MUTANTS_AGAINST_ALL";

/// What the crate's documentation says of each mutant.
#[derive(Debug, Default)]
struct Tables {
    /// Mutants, and models that fail with them.
    killed: Vec<(&'static str, &'static str)>,
    /// Mutants that no model fails with, and where it is argued that they are none the less needed, and right.
    argued: BTreeMap<&'static str, &'static str>,
}

impl Tables {
    fn read() -> Self {
        let mut tables = Self::default();
        let mut heading = "";
        for line in include_str!("../../src/lib.rs").lines() {
            let Some(row) = line.strip_prefix("//! | ") else {
                heading = if line.starts_with("//! |") { heading } else { "" };
                continue;
            };
            let columns: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
            match (heading, columns.as_slice()) {
                ("", [first, ..]) => heading = first,
                ("mutant", [mutant, _, model]) => {
                    tables.killed.push((mutant.trim_matches('`'), model.trim_matches('`')));
                }
                ("survivor", [mutant, _, argument]) => {
                    tables.argued.insert(mutant.trim_matches('`'), argument.trim_matches('`'));
                }
                _ => panic!("a row that is none: {line}"),
            }
        }
        assert!(tables.killed.len() >= 25, "the table was not found: {tables:?}");
        tables
    }

    /// The models that the table names for a mutant.
    fn models_of(&self, mutant: &str) -> Vec<&'static str> {
        self.killed.iter().filter(|(named, _)| *named == mutant).map(|(_, model)| *model).collect()
    }
}

fn engine() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src")
}

/// The code of a source file, without white space, lines that are comments, and what only tests use.
fn code(file: &Path) -> String {
    let source = std::fs::read_to_string(file).expect("a source file");
    let is_of_tests = |line: &&str| line.starts_with("#[cfg(test") || line.starts_with("#[cfg(all(test");
    let lines = source
        .lines()
        .take_while(|line| !is_of_tests(line))
        .map(str::trim)
        .filter(|line| !line.starts_with("//"));
    lines.flat_map(|line| line.chars().filter(|char| !char.is_whitespace())).collect()
}

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The edges: the name of each constant, and its label.
fn edges() -> BTreeMap<String, String> {
    let code = code(&engine().join("sync/edge.rs"));
    let parts = code.split("pubconst").skip(1).filter_map(|part| part.split_once(":Edge=Edge{label:\""));
    parts
        .map(|(name, rest)| (name.to_owned(), rest.split('"').next().expect("the end of a label").to_owned()))
        .collect()
}

/// The name in capitals at an end of the text.
fn is_of_a_name(char: char) -> bool {
    char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_'
}

/// The calls that wake, and whom.
const WAKE_UPS: [(&str, &[&str]); 6] = [
    ("wake_consumers", &["consumers"]),
    ("wake_for_event", &["consumers"]),
    ("wake_for_more", &["consumers"]),
    ("wake_producers", &["producers"]),
    ("wake_everybody", &["consumers", "producers"]),
    ("consumer_moved", &["consumers", "producers"]),
];

/// The word in quotes that is a call's first argument.
fn word(arguments: &str) -> Option<&str> {
    let (word, rest) = arguments.strip_prefix('"')?.split_once('"')?;
    rest.starts_with([',', ')']).then_some(word)
}

/// All mutants there are: each end of each edge that the engine uses, each wake-up, and each piece
/// of logic that can be left out.
fn mutants() -> BTreeSet<String> {
    let edges = edges();
    assert!(edges.len() >= 8, "the edges were not found: {edges:?}");
    let mut files = Vec::new();
    source_files(&engine(), &mut files);
    let mut mutants = BTreeSet::new();
    let mut used = BTreeSet::new();
    for file in files.iter().filter(|file| !file.ends_with("sync/edge.rs")) {
        let code = code(file);
        let mut end = |name: &str, side: &str| {
            if let Some(label) = edges.get(name) {
                used.insert(name.to_owned());
                mutants.insert(format!("{label}.{side}"));
            }
        };
        let methods =
            [(".release()", "release"), (".acquire()", "acquire"), (".acquire_and_release()", "release")];
        for (call, side) in methods {
            for (at, _) in code.match_indices(call) {
                let before = &code[..at];
                end(&before[before.trim_end_matches(is_of_a_name).len()..], side);
            }
        }
        for side in ["light", "heavy"] {
            for (at, call) in code.match_indices(&format!("{side}(&")) {
                let after = &code[at + call.len()..];
                end(&after[..after.len() - after.trim_start_matches(is_of_a_name).len()], side);
            }
        }
        let defines_them = file.ends_with("ring/signals.rs");
        for (call, sides) in WAKE_UPS.into_iter().filter(|_| !defines_them) {
            for (at, _) in code.match_indices(&format!(".{call}(")) {
                let what = word(&code[at + call.len() + 2..]);
                let Some(what) = what else { panic!("{}: {call} without a name", file.display()) };
                mutants.extend(sides.iter().map(|side| format!("{what}.{side}")));
            }
        }
        let is_of_waiting = file.parent().is_some_and(|folder| folder.ends_with("wait"));
        let calls_by_hand = [".wake_all(", ".wake(", ".call_more("].iter().any(|call| code.contains(call));
        assert!(
            defines_them || is_of_waiting || !calls_by_hand,
            "{}: a wake-up without a name",
            file.display()
        );
        for (at, call) in code.match_indices("left_out(") {
            let what = word(&code[at + call.len()..]);
            let what = what.unwrap_or_else(|| panic!("{}: left_out without a word", file.display()));
            mutants.insert(what.to_owned());
        }
    }
    let unused: Vec<_> = edges.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "edges at which nothing synchronises: {unused:?}");
    mutants
}

/// All models, by the names that the test binary gives them.
fn models() -> Vec<String> {
    let output = this_binary().arg("--list").output().expect("a process could not be started");
    let listed = String::from_utf8(output.stdout).expect("names of tests");
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    names.filter(|name| !name.starts_with("mutants::")).map(str::to_owned).collect()
}

fn this_binary() -> Command {
    Command::new(std::env::current_exe().expect("the path of this test"))
}

/// How a run of a model ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Run {
    Passed,
    /// The first complaint.
    Failed(String),
    Stopped,
}

fn run(model: &str, mutant: Option<&str>) -> Run {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = this_binary();
    command.args([model, "--exact", "--test-threads=1"]).env_remove("RINGMAIN_MUTANT");
    command.stdout(writer.try_clone().expect("a pipe's second end")).stderr(writer);
    if let Some(mutant) = mutant {
        command.env("RINGMAIN_MUTANT", mutant);
    }
    let mut child = command.spawn().expect("a process could not be started");
    // It holds the pipe's writing ends. Only the child's may stay open: the text ends when the child does.
    drop(command);
    let (said, has_said) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).expect("what the model prints");
        let _ = said.send(());
        String::from_utf8_lossy(&text).into_owned()
    });
    let is_stopped = has_said.recv_timeout(LIMIT).is_err();
    if is_stopped {
        child.kill().expect("our child");
    }
    let status = child.wait().expect("our child");
    let text = reading.join().expect("the reader panicked");
    assert!(text.contains("running 1 test"), "there is no model {model}: {text}");
    if is_stopped {
        return Run::Stopped;
    }
    if status.success() {
        return Run::Passed;
    }
    let mut lines = text.lines().skip_while(|line| !line.contains("panicked at"));
    Run::Failed(lines.nth(1).unwrap_or("aborted").to_owned())
}

#[test]
fn every_mutant_is_killed_by_its_model() {
    let tables = Tables::read();
    let mut wrong = Vec::new();
    for model in tables.killed.iter().map(|(_, model)| *model).collect::<BTreeSet<_>>() {
        match run(model, None) {
            Run::Passed => {}
            other => wrong.push(format!("{model} without a mutant: {other:?}")),
        }
    }
    for (mutant, model) in tables.killed {
        match run(model, Some(mutant)) {
            Run::Failed(reason) => println!("{mutant} is killed by {model}: {reason}"),
            other => wrong.push(format!("{mutant} survives {model}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An end that no line of a table knows of is one that nobody tests or argues for.
#[test]
fn every_end_of_every_edge_is_in_a_table() {
    let tables = Tables::read();
    let known: BTreeSet<String> = tables
        .killed
        .iter()
        .map(|(mutant, _)| mutant)
        .chain(tables.argued.keys())
        .map(|&name| name.to_owned())
        .collect();
    let mutants = mutants();
    let (missing, stale): (Vec<_>, Vec<_>) =
        (mutants.difference(&known).collect(), known.difference(&mutants).collect());
    assert!(missing.is_empty(), "nobody tests {missing:?}");
    assert!(stale.is_empty(), "the tables know of ends that are not there: {stale:?}");
}

/// The file that a survivor's line names is there, and speaks of its edge.
#[test]
fn every_survivor_has_its_argument() {
    let tables = Tables::read();
    for (mutant, file) in &tables.argued {
        let argument = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file))
            .unwrap_or_else(|error| panic!("the argument for {mutant}, {file}: {error}"));
        let label = mutant.split('.').next().expect("a label");
        assert!(argument.contains(&format!("`{label}`")), "{file} does not speak of {label}");
        assert_eq!(tables.models_of(mutant), [""; 0], "{mutant} is in both tables");
    }
}

/// The sweep: each mutant against the models that the table names for it or, where it names none, against all models.
#[test]
#[ignore = "takes minutes: scripts/mutants.sh runs it"]
fn no_mutant_survives_without_an_argument() {
    let tables = &Tables::read();
    let models = &models();
    let against_all = std::env::var_os(AGAINST_ALL).is_some();
    let mut queue: Vec<String> = mutants().into_iter().collect();
    if let Ok(only) = std::env::var(ONLY) {
        let only: Vec<String> = only.split_whitespace().map(str::to_owned).collect();
        let strange: Vec<_> = only.iter().filter(|mutant| !queue.contains(mutant)).collect();
        assert!(strange.is_empty(), "there are no such mutants: {strange:?}; there are {queue:?}");
        queue = only;
    }
    // The last are taken first.
    queue.reverse();
    let (queue, wrong, sound) = (&Mutex::new(queue), &Mutex::new(Vec::new()), &Mutex::new(BTreeMap::new()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(move || {
                loop {
                    let Some(mutant) = lock(queue).pop() else { break };
                    let verdict = judge(&mutant, tables, models, against_all, sound);
                    match verdict {
                        Ok(verdict) => println!("{mutant}: {verdict}"),
                        Err(fault) => {
                            println!("{mutant}: WRONG, {fault}");
                            lock(wrong).push(format!("{mutant}: {fault}"));
                        }
                    }
                }
            });
        }
    });
    let wrong = lock(wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What became of a mutant; as an error, what is wrong with that.
fn judge(
    mutant: &str,
    tables: &Tables,
    models: &[String],
    against_all: bool,
    sound: &Mutex<BTreeMap<String, Run>>,
) -> Result<String, String> {
    let named = tables.models_of(mutant);
    let tried: Vec<&str> = if named.is_empty() || against_all {
        models.iter().map(String::as_str).collect()
    } else {
        named.clone()
    };
    let (mut killers, mut stopped) = (Vec::new(), Vec::new());
    for model in tried.iter().copied() {
        match run(model, Some(mutant)) {
            Run::Passed => {}
            Run::Stopped => stopped.push(model),
            Run::Failed(_) => {
                // What fails anyway kills nobody.
                let known = lock(sound).get(model).cloned();
                let without = known.unwrap_or_else(|| run(model, None));
                lock(sound).insert(model.to_owned(), without.clone());
                if without != Run::Passed {
                    return Err(format!("{model} without a mutant: {without:?}"));
                }
                killers.push(model);
            }
        }
    }
    let missing: Vec<_> = named.iter().filter(|model| !killers.contains(model)).collect();
    if !missing.is_empty() {
        return Err(format!("survives {missing:?}, which the table names (out of time: {stopped:?})"));
    }
    match (killers.is_empty(), tables.argued.get(mutant)) {
        (false, None) if named.is_empty() => {
            Err(format!("killed by {}, and the table does not say so", killers.join(", ")))
        }
        (false, None) => Ok(format!("killed by {}", killers.join(", "))),
        (false, Some(_)) => Err(format!("said to survive, and killed by {}", killers.join(", "))),
        (true, Some(argument)) => Ok(format!("survives all {} models; see {argument}", tried.len())),
        (true, None) => {
            Err(format!("survives all {} models without an argument (out of time: {stopped:?})", tried.len()))
        }
    }
}
