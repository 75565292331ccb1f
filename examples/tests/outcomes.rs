//! The examples assert their own outcome; here they are run.

use std::process::Command;

fn run(program: &str) -> String {
    let output = Command::new(program).output().expect("the example starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} ended with {}:\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn basic_delivers_and_accounts() {
    assert!(
        run(env!("CARGO_BIN_EXE_basic")).contains("3 published, 1 of them wanted by nobody, 3 delivered")
    );
}

#[test]
fn flights_are_counted_as_without_the_engine() {
    assert!(run(env!("CARGO_BIN_EXE_flights")).contains("flight.#              27004 departures"));
}

#[test]
fn spin_delivers_every_tick_in_order() {
    assert!(run(env!("CARGO_BIN_EXE_spin")).contains("1000000 ticks"));
}

#[test]
fn retries_charge_each_order_once() {
    assert!(run(env!("CARGO_BIN_EXE_retries")).contains("400 orders, each charged once"));
}

#[test]
fn backlog_accounts_for_every_price_and_job() {
    assert!(run(env!("CARGO_BIN_EXE_backlog")).contains("39 jobs are done, each once"));
}
