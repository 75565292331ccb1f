//! Every mutant is killed by its model, in a process of its own: a deadlock that loom finds aborts it.

use std::collections::BTreeSet;
use std::process::{Command, Output};

/// The mutants and the models that must fail, from the table in the crate's documentation.
fn table() -> Vec<(&'static str, &'static str)> {
    let rows = include_str!("../../src/lib.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.map(|row| {
        let mut columns = row.trim_end_matches(" |").split(" | ");
        let mutant = columns.next().expect("a mutant").trim_end_matches('`');
        (mutant, columns.nth(1).expect("a model").trim_matches('`'))
    })
    .collect()
}

fn run(model: &str, mutant: Option<&str>) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command.args([model, "--exact", "--test-threads=1"]).env_remove("RINGMAIN_MUTANT");
    if let Some(mutant) = mutant {
        command.env("RINGMAIN_MUTANT", mutant);
    }
    let output = command.output().expect("a process could not be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "there is no model {model}: {text}");
    output
}

#[test]
fn every_mutant_is_killed_by_its_model() {
    let table = table();
    assert!(table.len() >= 25, "the table was not found: {table:?}");
    let mut wrong = Vec::new();
    for model in table.iter().map(|(_, model)| *model).collect::<BTreeSet<_>>() {
        if !run(model, None).status.success() {
            wrong.push(format!("{model} fails without a mutant"));
        }
    }
    for (mutant, model) in table {
        let output = run(model, Some(mutant));
        if output.status.success() {
            wrong.push(format!("{mutant} survives {model}"));
        } else {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            let reason =
                text.lines().skip_while(|line| !line.contains("panicked at")).nth(1).unwrap_or("aborted");
            println!("{mutant} is killed by {model}: {reason}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A label that no line of the table knows of is an end that nobody tests.
#[test]
fn every_end_of_every_edge_of_the_ring_is_in_the_table() {
    let killed: BTreeSet<&str> = table().into_iter().map(|(mutant, _)| mutant).collect();
    let edges = include_str!("../../../engine/src/sync/edge.rs");
    let labels: Vec<&str> = edges
        .lines()
        .filter(|line| line.starts_with("pub const"))
        .filter_map(|line| Some(line.split_once("label: \"")?.1.split_once('"')?.0))
        .collect();
    assert!(labels.len() >= 8, "the edges were not found: {labels:?}");
    for label in labels {
        let ends = match label {
            "park" | "close" | "lease" => ["light", "heavy"].as_slice(),
            "lease-return" => &["light"],
            "finish-stage" => &["acquire"],
            // Routing's.
            "swap-table" => &[],
            _ => &["release", "acquire"],
        };
        for end in ends {
            let mutant = format!("{label}.{end}");
            assert!(killed.contains(&*mutant), "nobody tests {mutant}");
        }
    }
}
