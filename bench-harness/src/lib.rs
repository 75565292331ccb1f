//! `ringmain-bench`: measures, probes and tries the Ringmain engine without a line of Rust.
//!
//! A command line becomes a job, a job becomes an [`Answer`], and only then is anything written:
//! the JSON to its file, the text to standard output, the verdict to the exit code. A run that
//! cannot give an answer therefore leaves standard output empty. Progress and complaints go to
//! standard error.
//!
//! This library is the whole program, so that tests and fuzzing reach the parts that need no process of their own.
//! It is no interface for others.

#![deny(unsafe_code)]
#![allow(rustdoc::private_intra_doc_links, reason = "it is a program: its pages are for those who change it")]

mod cli;
mod compare;
mod error;
mod exit;
mod input;
mod interrupt;
mod json;
mod load;
mod machine;
mod progress;
mod report;
mod routing;
mod scenario;
mod simulate;
mod stats;
mod units;

use std::process::ExitCode;

use cli::{Command, Job, Parsed};
use error::Error;
use exit::Exit;
use report::{Answer, Destination, complain};
#[doc(hidden)]
pub use simulate::text::{check as check_scenario, run as run_scenario};

/// The program: reads the command line, and returns the code to end with.
pub fn main() -> ExitCode {
    let exit = work().unwrap_or_else(|error| {
        complain(&error.to_string());
        error.exit()
    });
    ExitCode::from(exit)
}

/// Parses, works, writes; the code is the report's verdict.
fn work() -> Result<Exit, Error> {
    let Job { command, json } = match cli::parse(std::env::args_os())? {
        Parsed::Job(job) => job,
        Parsed::Answer(text) => {
            return report::print(|out| out.write_all(text.as_bytes())).map(|()| Exit::Done);
        }
    };
    interrupt::install()?;
    machine::fingerprint::remember();
    let destination = Destination::open(json, &command.inputs())?;
    let answer = dispatch(&command)?;
    destination.deliver(&*answer)?;
    let report = answer.report();
    if report.ledger.is_some_and(|ledger| !ledger.balanced) {
        complain("check failed: the ledger does not balance");
    }
    for check in &report.failed_checks {
        complain(&format!("check failed: {check}"));
    }
    if let Some(noise) = &report.too_noisy {
        complain(&format!("too noisy for a verdict: {noise}"));
    }
    Ok(report.exit())
}

/// Runs the job.
fn dispatch(command: &Command) -> Result<Box<dyn Answer>, Error> {
    let report = match command {
        Command::Run(options) => scenario::run(options),
        Command::Floor(options) => scenario::floor(options),
        Command::Latency(load) => scenario::latency(load),
        Command::Throughput(load) => scenario::throughput(load),
        Command::Compare(options) => compare::compare(options),
        Command::Topology(options) => compare::topology(options),
        Command::Replay(options) => scenario::replay(options),
        Command::Waiting(options) => scenario::waiting(options),
        Command::Routing(options) => routing::routing(options),
        Command::Cost(options) => return Ok(Box::new(scenario::cost(options)?)),
        Command::Degrade(options) => return Ok(Box::new(scenario::degrade(options)?)),
        Command::Simulate(file) => return Ok(Box::new(simulate::simulate(file)?)),
        Command::Route(files) => return Ok(Box::new(scenario::route(files)?)),
    };
    Ok(Box::new(report?))
}
